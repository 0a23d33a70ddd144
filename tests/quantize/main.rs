//! Quantization: the split, the search, integer requantization, whole graphs and their files.

#[path = "../common/mod.rs"]
mod common;

mod auto;
mod branched;
mod decisions;
mod file;
mod file_ops;
mod fixtures;
mod golden;
mod graph;
mod plain;
mod requantize;
mod search;
