//! Post-training quantization for re-parameterized CNNs (RepVGG, MobileOne and their kin) on any GPU.
//!
//! A network trained with parallel 3×3, 1×1 and identity branches is deployed as one 3×3 convolution, whose centre
//! weights are many times wider than their neighbours; in int8 it collapses. repquant splits each kernel into a coarse
//! and a fine part, picks activation ranges with a metric that suits these networks, and runs the result in true
//! integer arithmetic, the same bits on every device.
//!
//! Data flows one way, each stage with a type of its own:
//!
//! | stage | module | gives |
//! | --- | --- | --- |
//! | load | [`load`] | [`load::TrainedNet`]: multi-branch blocks with batch norm |
//! | fuse | [`fuse`] | [`model::Graph`]: plain convolutions with bias |
//! | calibrate | [`mod@calibrate`] | [`calibrate::Calibration`]: a histogram for each activation |
//! | threshold | [`threshold`] | [`threshold::ActivationRanges`]: scale and zero point of each activation |
//! | quantize | [`mod@quantize`] | [`model::QuantizedGraph`]: int8 weights and integer multipliers |
//! | evaluate | [`mod@evaluate`] | [`evaluate::Evaluation`]: accuracy, agreement, SQNR of each layer |
//! | export, report | [`export`], [`report`] | files, tables, JSON |
//!
//! [`pipeline`] has them in order. [`device`] is a device (a wgpu adapter, or native code), [`kernels`] what runs there,
//! [`exec`] a whole network.

#[cfg(not(target_endian = "little"))]
compile_error!("int8 data is packed lowest byte first; a big-endian host is not supported");

pub mod error;
mod onnx_proto;
pub mod output;
pub mod profile;
pub mod progress;
pub mod random;
mod tensor_file;
#[cfg(test)]
mod testing;

pub mod model;

pub mod load;

pub mod fuse;

pub mod images;

pub mod device;
pub mod kernels;

pub mod exec;

pub mod calibrate;

pub mod threshold;

pub mod quantize;

pub mod evaluate;

pub mod export;
pub mod report;

pub mod pipeline;

mod api;
pub mod files;
pub mod options;

#[doc(hidden)]
pub mod internals;

pub use api::{Calibration, Evaluation, Images, Model, Quantized, Quantizer};
pub use device::Device;
pub use progress::Progress;
pub use report::Report;

pub use error::{Error, ErrorKind, Result};
