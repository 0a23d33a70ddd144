//! The tiled variants of the f32 convolution, for GPUs: a product of `pixels × K` and `K × O` (implicit GEMM; the first matrix
//! exists in tiles alone), with the weights of the direct variant.
//!
//! A workgroup of 128 invocations computes 128 pixels × 64 output channels, each invocation 8 × 8 of them in registers; the
//! narrow variant 64 × 64 and 8 × 4. Tiles of 8 along K go through workgroup memory, twice: one is filled while the other is
//! multiplied, so a tile costs one barrier, and its loads are under way during 512 multiply-adds (256). For four steps
//! along K an invocation reads 16 vectors for 256 multiply-adds (12 for 128); its pixels and channel quads lie so
//! that neighbours read neighbouring vectors.
//!
//! Borders, strides and the ends of K are dealt with where a tile is loaded: the address changes only from tap to tap. A
//! pointwise layer has one tap, always inside, and its address is the pixel's. K runs in the order of the direct
//! variant.

use super::{CASES, verify_variant};
use crate::Result;
use crate::device::{Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::kernels::conv_cases::{Case, case};
use crate::kernels::epilogue::{self, Epilogue, Params};
use crate::kernels::variants::{self, Variant};
use crate::kernels::{Check, Geometry};

/// What the host knows of `conv_f32_tiled.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "conv_f32_tiled",
    source: concat!(
        include_str!("../../../shaders/extremes.wgsl"),
        include_str!("../../../shaders/epilogue.wgsl"),
        include_str!("../../../shaders/conv_f32_tiled.wgsl")
    ),
    bindings: epilogue::BINDINGS,
    workgroup_size: [128, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// What the host knows of `conv_f32_tiled_narrow.wgsl`.
pub static NARROW: KernelSpec = KernelSpec {
    name: "conv_f32_tiled_narrow",
    source: concat!(
        include_str!("../../../shaders/extremes.wgsl"),
        include_str!("../../../shaders/epilogue.wgsl"),
        include_str!("../../../shaders/conv_f32_tiled_narrow.wgsl")
    ),
    ..SPEC
};

/// Output quads of a workgroup.
const QUADS: usize = 16;

/// Records the convolution in steps of at most `most_macs` multiplications, or of one workgroup's pixels. `buffers` are x,
/// weights, bias, y and states, checked by the caller.
pub(super) fn record(
    rec: &mut Recorder<'_>,
    variant: Variant,
    g: &Geometry,
    epilogue: Epilogue<'_>,
    buffers: &[&Buffer],
    most_macs: usize,
) -> Result<()> {
    let (spec, tile) = if variant == Variant::Narrow { (&NARROW, 64) } else { (&SPEC, 128) };
    let columns = (g.out_quads / g.group_out_quads) as usize * (g.group_out_quads as usize).div_ceil(QUADS);
    let depth = 4 * g.group_in_quads as usize * g.kernel_height as usize * g.kernel_width as usize;
    let step = (most_macs / (depth * 4 * QUADS * columns) / tile).max(1) * tile;
    let pixels = g.out_pixels();
    for first in (0..pixels).step_by(step) {
        let end = pixels.min(first + step);
        rec.run(spec, &epilogue.params(g, first, end), buffers, groups_for((end - first).div_ceil(tile) * columns, 1))?;
    }
    Ok(())
}

/// Compares with the twin as [`super::verify`] does: its cases, and those at the edges of a tile.
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
    if !variants::runs_on(device, spec) {
        return Ok(Vec::new());
    }
    let mut checks = verify_variant(device, variant, CASES)?;
    checks.extend(verify_variant(device, variant, EDGES)?);
    Ok(checks)
}

/// Images, input, output channels, kernel, stride, padding, groups, `ReLU`.
const EDGES: &[Case] = &[
    // Whole tiles of 128 and 64 pixels; one pixel and one channel more; one pixel less, the second half of the channels cut.
    case(1, [8, 16, 8], 64, [1, 1], [1, 1], [0, 0], 1, false),
    case(1, [8, 8, 8], 64, [1, 1], [1, 1], [0, 0], 1, false),
    case(1, [3, 43, 5], 65, [1, 1], [1, 1], [0, 0], 1, true),
    case(1, [5, 13, 6], 66, [3, 1], [1, 1], [1, 0], 1, true),
    case(1, [1, 127, 7], 33, [3, 3], [1, 1], [1, 1], 1, false),
    case(1, [7, 9, 1], 34, [1, 3], [1, 1], [0, 1], 1, false),
    // Almost pointwise.
    case(1, [3, 9, 8], 32, [1, 1], [1, 2], [0, 0], 1, false),
    case(1, [9, 3, 8], 32, [1, 1], [2, 1], [0, 0], 1, true),
    case(1, [3, 4, 8], 32, [1, 1], [1, 1], [0, 1], 1, false),
    case(1, [4, 3, 8], 32, [1, 1], [1, 1], [1, 0], 1, true),
    // Several workgroups in both directions, an odd number of input quads; a pixel tile over two images.
    case(3, [11, 9, 12], 132, [3, 3], [1, 1], [1, 1], 1, true),
    case(3, [15, 13, 20], 72, [3, 3], [2, 2], [1, 1], 1, false),
    // One input quad: taps change twice a tile.
    case(3, [12, 13, 3], 48, [3, 3], [2, 2], [1, 1], 1, true),
    case(1, [6, 9, 2], 36, [7, 5], [3, 2], [3, 2], 1, false),
    // Groups: two channel tiles each with a rest, and narrow ones.
    case(3, [5, 6, 24], 136, [3, 3], [1, 1], [1, 1], 2, true),
    case(1, [6, 6, 12], 204, [1, 1], [1, 1], [0, 0], 3, false),
    // Long sums; a linear layer.
    case(1, [3, 3, 300], 40, [3, 3], [1, 1], [1, 1], 1, true),
    case(3, [1, 1, 1280], 100, [1, 1], [1, 1], [0, 0], 1, false),
    // One column of an image, so that every pixel has taps on both sides outside.
    case(1, [140, 1, 4], 32, [1, 3], [1, 1], [0, 1], 1, true),
];
