//! The kernels: a WGSL shader, its host side, its native function and its plain twin in one file each.
//!
//! Every file reads in the same order: module doc (formula, layout, units, source), `SPEC`, `Params`, `dispatch`,
//! `native` (where the Cpu device runs something else than the twin), `reference` (the twin: the simplest correct code,
//! f64 sums, integers exact), `verify` (cases with deliberately uneven inputs), tests.
//!
//! Layout on a device: f32 activations are NHWC with channels padded to a multiple of 4, padded channels 0; int8
//! activations are NHWC, four channels in one u32, lowest byte first, padded channels at the zero point. Each
//! kernel's doc states how its weights lie; their padding is 0.

pub mod activation_f32;
pub mod binary_f32;
pub mod binary_i8;
mod cases;
mod check;
pub mod coarsen;
pub mod concat_f32;
mod conv_cases;
pub mod conv_f32;
pub mod conv_i8;
pub mod depthwise_f32;
pub mod depthwise_i8;
pub mod dequantize;
pub mod dequantize_acc;
mod epilogue;
pub mod error_sums;
mod exp;
pub mod gather_f32;
pub mod gather_i8;
mod geometry;
pub mod global_pool_f32;
pub mod global_pool_i8;
pub mod histogram;
mod int8;
mod lanes;
mod levels;
pub mod move_i8;
pub mod normalize;
mod places;
pub mod pool_f32;
pub mod pool_i8;
pub mod power;
pub mod quantize_activation;
pub mod quantize_input;
pub mod range;
mod requantize;
pub mod resize_f32;
mod rows;
pub mod softmax_f32;
mod state;
mod tally;
mod variants;

pub use check::{Check, Random};
pub use epilogue::{Epilogue, Params as FloatParams, Row};
pub use geometry::{Geometry, ungrouped};
pub use state::{BINS, COUNT_WORDS, Extent, MIN_EXPONENT, State};
pub use variants::{TILED, Tile, Variant};

use crate::Result;
use crate::device::{Device, KernelSpec};

/// A kernel, or a further variant of one, and the function that compares it with its twin on a device.
#[derive(Debug)]
pub struct Kernel {
    /// What the host knows of the shader.
    pub spec: &'static KernelSpec,
    /// Runs every case on the device and compares; no case where the device cannot run it.
    pub verify: fn(&Device) -> Result<Vec<Check>>,
}

impl Kernel {
    /// Whether the device can run it: the Cpu device has one way for each kernel, and a tile asks for workgroup memory.
    pub fn runs_on(&self, device: &Device) -> bool {
        variants::runs_on(device, self.spec)
    }
}

/// Every kernel. `verify` and the tests walk this list.
pub static ALL: &[Kernel] = &[
    Kernel { spec: &normalize::SPEC, verify: normalize::verify },
    Kernel { spec: &conv_f32::SPEC, verify: conv_f32::verify },
    Kernel { spec: &conv_f32::tiled::SPEC, verify: conv_f32::tiled::verify },
    Kernel { spec: &conv_f32::tiled::NARROW, verify: conv_f32::tiled::verify_narrow },
    Kernel { spec: &depthwise_f32::SPEC, verify: depthwise_f32::verify },
    Kernel { spec: &global_pool_f32::SPEC, verify: global_pool_f32::verify },
    Kernel { spec: &pool_f32::SPEC, verify: pool_f32::verify },
    Kernel { spec: &activation_f32::SPEC, verify: activation_f32::verify },
    Kernel { spec: &binary_f32::SPEC, verify: binary_f32::verify },
    Kernel { spec: &gather_f32::SPEC, verify: gather_f32::verify },
    Kernel { spec: &concat_f32::SPEC, verify: concat_f32::verify },
    Kernel { spec: &resize_f32::SPEC, verify: resize_f32::verify },
    Kernel { spec: &softmax_f32::SPEC, verify: softmax_f32::verify },
    Kernel { spec: &quantize_input::SPEC, verify: quantize_input::verify },
    Kernel { spec: &conv_i8::SPEC, verify: conv_i8::verify },
    Kernel { spec: &conv_i8::tiled::SPEC, verify: conv_i8::tiled::verify },
    Kernel { spec: &conv_i8::tiled::NARROW, verify: conv_i8::tiled::verify_narrow },
    Kernel { spec: &depthwise_i8::SPEC, verify: depthwise_i8::verify },
    Kernel { spec: &global_pool_i8::SPEC, verify: global_pool_i8::verify },
    Kernel { spec: &pool_i8::SPEC, verify: pool_i8::verify },
    Kernel { spec: &binary_i8::SPEC, verify: binary_i8::verify },
    Kernel { spec: &move_i8::SPEC, verify: move_i8::verify },
    Kernel { spec: &gather_i8::SPEC, verify: gather_i8::verify },
    Kernel { spec: &dequantize::SPEC, verify: dequantize::verify },
    Kernel { spec: &dequantize_acc::SPEC, verify: dequantize_acc::verify },
    Kernel { spec: &quantize_activation::SPEC, verify: quantize_activation::verify },
    Kernel { spec: &range::SPEC, verify: range::verify },
    Kernel { spec: &coarsen::SPEC, verify: coarsen::verify },
    Kernel { spec: &histogram::SPEC, verify: histogram::verify },
    Kernel { spec: &power::SPEC, verify: power::verify },
    Kernel { spec: &error_sums::SPEC, verify: error_sums::verify },
];
