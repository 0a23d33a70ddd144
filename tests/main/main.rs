//! The library: each stage by itself, and what the stages do together.

#[path = "../common/mod.rs"]
mod common;

mod accuracy;
mod api;
mod channels;
mod devices;
mod formats;
mod images;
mod integers;
mod load;
mod merge;
mod operations;
mod quantize;
mod report;
mod scaled;
mod statistics;
mod structure;
mod threshold;
mod timm;
