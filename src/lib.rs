//! Post-training quantization for re-parameterized CNNs (RepVGG, MobileOne and their kin) on any GPU.

#[cfg(not(target_endian = "little"))]
compile_error!("int8 data is packed lowest byte first; a big-endian host is not supported");

pub mod error;
pub mod output;
pub mod progress;

pub mod model;

pub mod load;

pub mod fuse;

pub mod images;

pub mod gpu;
pub mod kernels;

pub mod exec;

pub mod calibrate;

pub mod threshold;

pub mod quantize;

pub mod evaluate;

pub mod export;
pub mod report;

pub mod pipeline;

pub mod demo;

#[cfg(feature = "binary")]
pub mod cli;

pub use error::{Error, ErrorKind, Result};
