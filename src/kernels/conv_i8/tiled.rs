//! The tiled variants of the integer convolution, for GPUs: a product of `pixels × K` and `K × O` (implicit GEMM; the first
//! matrix exists in tiles alone), with the weights of the direct variant and its epilogue.
//!
//! A workgroup of 128 invocations computes 64 pixels × 64 output channels, each invocation 8 × 4 of them in registers,
//! with a second set of totals for the coarse part; the narrow variant has 256 invocations of 4 × 4. Tiles of 32 along K go through workgroup memory, twice: one is filled while the
//! other is multiplied, so a tile costs one barrier, and its loads are under way during 256 four-way products (128). Where a tile has
//! coarse weights they are loaded beside the fine ones and meet the same activations, which are loaded once; elsewhere the
//! coarse part costs a comparison a tile.
//!
//! K runs over the taps and, within each, over spans of 16 channels (one vector); the last span of a tap may be cut.
//! Borders, strides and the ends of K are dealt with where a tile is loaded: the address changes only from tap to tap. A
//! pointwise layer has one tap, always inside, and its address is the pixel's. Where channels are no multiple of 16 spans are
//! put together from words.

use super::Params;
use super::verify::verify_tiled;
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::kernels::Check;
use crate::kernels::variants::{self, Variant};

/// What the host knows of `conv_i8_tiled.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "conv_i8_tiled",
    source: include_str!("../../../shaders/conv_i8_tiled.wgsl"),
    bindings: &[
        Binding::Params,
        Binding::Read,
        Binding::Read,
        Binding::Read,
        Binding::Read,
        Binding::Read,
        Binding::ReadWrite,
    ],
    workgroup_size: [128, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// What the host knows of `conv_i8_tiled_narrow.wgsl`.
pub static NARROW: KernelSpec = KernelSpec {
    name: "conv_i8_tiled_narrow",
    source: include_str!("../../../shaders/conv_i8_tiled_narrow.wgsl"),
    workgroup_size: [256, 1, 1],
    ..SPEC
};

/// Output pixels of a workgroup.
pub(super) const PIXELS: usize = 64;

/// Output quads of a workgroup.
const QUADS: usize = 16;

/// Records the convolution in these steps. `weights` are fine, coarse and the channels' constants; all buffers were
/// checked by the caller.
pub(super) fn record(
    rec: &mut Recorder<'_>,
    variant: Variant,
    steps: impl Iterator<Item = Params>,
    x: &Buffer,
    weights: [&Buffer; 3],
    y: &Buffer,
) -> Result<()> {
    let [fine, coarse, channels] = weights;
    let spec = if variant == Variant::Narrow { &NARROW } else { &SPEC };
    for params in steps {
        let g = &params.geometry;
        // Spans are not read where they are not aligned, and x may then be shorter than one: the weights take its place.
        let aligned = g.in_quads.is_multiple_of(4) && g.group_in_quads.is_multiple_of(4);
        let columns = (g.out_quads / g.group_out_quads) as usize * (g.group_out_quads as usize).div_ceil(QUADS);
        let tiles = ((params.end_pixel - params.first_pixel) as usize).div_ceil(PIXELS);
        let buffers = [x, if aligned { x } else { fine }, fine, coarse, channels, y];
        rec.run(spec, &params, &buffers, groups_for(tiles * columns, 1))?;
    }
    Ok(())
}

/// Compares with the twin, to the bit: the cases of [`super::verify`], and those at the edges of a tile.
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    verify_tile(device, &SPEC, Variant::Tiled)
}

/// [`verify`] for the narrow variant.
///
/// # Errors
/// If the device failed.
pub fn verify_narrow(device: &Device) -> Result<Vec<Check>> {
    verify_tile(device, &NARROW, Variant::Narrow)
}

fn verify_tile(device: &Device, spec: &KernelSpec, variant: Variant) -> Result<Vec<Check>> {
    if variants::runs_on(device, spec) { verify_tiled(device, variant) } else { Ok(Vec::new()) }
}
