//! Quantization: the split, the search, integer requantization, whole graphs and their files.

mod analyze;
mod auto;
mod branched;
mod decisions;
mod equalize;
mod file;
mod file_ops;
mod golden;
mod graph;
mod plain;
mod random;
mod requantize;
mod search;
mod second_order;
