//! The kernels: for each a WGSL shader, its host side, its native function and its plain twin.
//!
//! | folder | what its kernels do |
//! | --- | --- |
//! | `convert` | pixels, levels, accumulators and f32, from one to the other |
//! | `conv` | convolutions: dense, tiled, depthwise; in f32 and in integers |
//! | `pool`, `binary`, `function`, `lines`, `concat`, `rearrange` | the operations between them |
//! | `recurrent` | cells that go through sequences |
//! | `statistics` | ranges, histograms, magnitudes, error sums |
//! | `patches` | what layers read as a matrix, and exact sums of products of its rows |
//! | `peaks` | loads that measure what a device can do |
//! | `core`, `cpu` | what they share: levels and requantization, vectors of the Cpu device |
//!
//! Every file reads in the same order: module doc (formula, layout, units, source), `SHADER`,
//! `Params`, what is laid out for a device beforehand, the kernel with its arguments (`check`,
//! `buffers`, `dispatches`, `native`), the twin `reference` (the simplest correct code: f64 sums,
//! integers exact), `verify` (cases with deliberately uneven inputs), tests.
//!
//! Layout on a device: f32 activations are NHWC with channels padded to a multiple of 4, padded
//! channels 0; int8 activations are NHWC, four channels in one u32, lowest byte first, padded
//! channels at the zero point. Each kernel's doc states how its weights lie; their padding is 0.

pub(crate) mod binary;
pub(crate) mod concat;
pub(crate) mod conv;
pub(crate) mod convert;
pub(crate) mod core;
mod cpu;
pub(crate) mod function;
pub(crate) mod lines;
pub(crate) mod patches;
pub(crate) mod peaks;
pub(crate) mod pool;
pub(crate) mod rearrange;
pub(crate) mod recurrent;
pub(crate) mod statistics;
#[cfg(test)]
mod tests;

pub(crate) use self::core::Check;
pub use self::core::OutputLevels;
pub(crate) use crate::random::Random;

use self::binary::{binary_f32, binary_i8, matmul_f32};
use self::concat::{concat_f32, concat_i8};
use self::conv::{Tile, fits, float, int8};
use self::convert::{dequantize, dequantize_acc, normalize, quantize_activation, quantize_input};
use self::function::{activation_f32, function_f32, lookup_i8};
use self::lines::{reduce_f32, softmax_f32, standardize_f32};
use self::patches::{gather_patches, second_moments};
use self::peaks::{copy, dot, multiply_add};
use self::pool::{global_pool_f32, global_pool_i8, pool_f32, pool_i8};
use self::rearrange::{gather_f32, gather_i8, resize_f32};
use self::recurrent::kernel as recurrent_f32;
use self::statistics::{coarsen, error_sums, histogram, magnitudes, range};
use crate::Result;
use crate::device::{Device, Shader};

/// A shader, and the function that compares it with its twin on a device.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The shader.
    pub shader: &'static Shader,
    /// Size of its parameters on the host, bytes.
    #[cfg_attr(not(test), allow(dead_code, reason = "a test compares it with the shader"))]
    pub params_bytes: usize,
    /// Workgroup memory that is counted on when a variant is chosen, bytes; none where the shader
    /// is no tile.
    pub workgroup_bytes: Option<u32>,
    /// Runs every case on the device and compares; no case where the device cannot run it.
    pub verify: fn(&Device) -> Result<Vec<Check>>,
}

impl Entry {
    const fn of<P>(shader: &'static Shader, verify: fn(&Device) -> Result<Vec<Check>>) -> Self {
        Self { shader, params_bytes: size_of::<P>(), workgroup_bytes: None, verify }
    }

    const fn tile<P>(tile: &'static Tile, verify: fn(&Device) -> Result<Vec<Check>>) -> Self {
        Self { workgroup_bytes: Some(tile.workgroup_bytes), ..Self::of::<P>(tile.shader, verify) }
    }

    /// Whether the device can run it: the Cpu device has one way for each kernel, and tiles ask for
    /// workgroup memory.
    pub(crate) fn runs_on(&self, device: &Device) -> bool {
        self.workgroup_bytes.is_none_or(|bytes| fits(device, self.shader, bytes))
    }
}

/// Every shader. `verify` and the tests walk this list.
pub(crate) static ALL: &[Entry] = &[
    Entry::of::<normalize::Params>(&normalize::SHADER, normalize::verify),
    Entry::of::<quantize_input::Params>(&quantize_input::SHADER, quantize_input::verify),
    Entry::of::<quantize_activation::Params>(&quantize_activation::SHADER, quantize_activation::verify),
    Entry::of::<dequantize::Params>(&dequantize::SHADER, dequantize::verify),
    Entry::of::<dequantize_acc::Params>(&dequantize_acc::SHADER, dequantize_acc::verify),
    Entry::of::<global_pool_f32::Params>(&global_pool_f32::SHADER, global_pool_f32::verify),
    Entry::of::<global_pool_i8::Params>(&global_pool_i8::SHADER, global_pool_i8::verify),
    Entry::of::<pool_f32::Params>(&pool_f32::SHADER, pool_f32::verify),
    Entry::of::<pool_i8::Params>(&pool_i8::SHADER, pool_i8::verify),
    Entry::of::<binary_f32::Params>(&binary_f32::SHADER, binary_f32::verify),
    Entry::of::<binary_i8::Params>(&binary_i8::SHADER, binary_i8::verify),
    Entry::of::<activation_f32::Params>(&activation_f32::SHADER, activation_f32::verify),
    Entry::of::<function_f32::Params>(&function_f32::SHADER, function_f32::verify),
    Entry::of::<lookup_i8::Params>(&lookup_i8::SHADER, lookup_i8::verify),
    Entry::of::<softmax_f32::Params>(&softmax_f32::SHADER, softmax_f32::verify),
    Entry::of::<reduce_f32::Params>(&reduce_f32::SHADER, reduce_f32::verify),
    Entry::of::<standardize_f32::Params>(&standardize_f32::SHADER, standardize_f32::verify),
    Entry::of::<matmul_f32::Params>(&matmul_f32::SHADER, matmul_f32::verify),
    Entry::of::<recurrent_f32::Params>(&recurrent_f32::SHADER, recurrent::verify::verify),
    Entry::of::<concat_f32::Params>(&concat_f32::SHADER, concat_f32::verify),
    Entry::of::<concat_i8::Params>(&concat_i8::SHADER, concat_i8::verify),
    Entry::of::<gather_f32::Params>(&gather_f32::SHADER, gather_f32::verify),
    Entry::of::<gather_i8::Params>(&gather_i8::SHADER, gather_i8::verify),
    Entry::of::<resize_f32::Params>(&resize_f32::SHADER, resize_f32::verify),
    Entry::of::<float::Params>(&float::DIRECT, float::verify::direct),
    Entry::tile::<float::Params>(&float::TILES[0], float::verify::tiled),
    Entry::tile::<float::Params>(&float::TILES[1], float::verify::narrow),
    Entry::of::<float::Params>(&float::DEPTHWISE, float::verify::depthwise),
    Entry::of::<int8::Params>(&int8::DIRECT, int8::verify::direct),
    Entry::tile::<int8::Params>(&int8::TILES[0], int8::verify::tiled),
    Entry::tile::<int8::Params>(&int8::TILES[1], int8::verify::narrow),
    Entry::of::<int8::Params>(&int8::DEPTHWISE, int8::verify::depthwise),
    Entry::of::<range::Params>(&range::SHADER, range::verify),
    Entry::of::<coarsen::Params>(&coarsen::SHADER, coarsen::verify),
    Entry::of::<histogram::Params>(&histogram::SHADER, histogram::verify),
    Entry::of::<magnitudes::Params>(&magnitudes::SHADER, magnitudes::verify),
    Entry::of::<error_sums::Params>(&error_sums::SHADER, error_sums::verify),
    Entry::of::<gather_patches::Params>(&gather_patches::SHADER, gather_patches::verify),
    Entry::of::<second_moments::Params>(&second_moments::SHADER, second_moments::verify),
    Entry::of::<multiply_add::Params>(&multiply_add::SHADER, multiply_add::verify),
    Entry::of::<dot::Params>(&dot::SHADER, dot::verify),
    Entry::of::<copy::Params>(&copy::SHADER, copy::verify),
];
