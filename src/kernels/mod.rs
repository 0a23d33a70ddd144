//! The kernels: a WGSL shader, its host side, its native function and its plain twin in one file each.
//!
//! Every file reads in the same order: module doc (formula, layout, units, source), `SPEC`, `Params`, `dispatch`,
//! `native` (where the Cpu device runs something else than the twin), `reference` (the twin: the simplest correct code,
//! f64 sums, integers exact), `verify` (cases with deliberately uneven inputs), tests.
//!
//! Layout on a device: f32 activations are NHWC with channels padded to a multiple of 4, padded channels 0; int8
//! activations are NHWC, four channels in one u32, lowest byte first, padded channels at the zero point. Weights are
//! `O, kh, kw, I` with I padded likewise, padding 0.

mod check;
mod geometry;
pub mod normalize;

pub use check::{Check, Random};
pub use geometry::{Geometry, ungrouped};

use crate::Result;
use crate::gpu::{Device, KernelSpec};

/// A kernel and the function that compares it with its twin on a device.
#[derive(Debug)]
pub struct Kernel {
    /// What the host knows of the shader.
    pub spec: &'static KernelSpec,
    /// Runs every case on the device and compares.
    pub verify: fn(&Device) -> Result<Vec<Check>>,
}

/// Every kernel. `verify` and the tests walk this list.
pub static ALL: &[Kernel] = &[Kernel { spec: &normalize::SPEC, verify: normalize::verify }];
