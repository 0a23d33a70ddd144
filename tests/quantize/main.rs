//! Quantization: the split, the search, integer requantization, whole graphs and their files.

#[path = "../common/mod.rs"]
mod common;

mod auto;
mod file;
mod fixtures;
mod golden;
mod graph;
mod requantize;
mod search;
