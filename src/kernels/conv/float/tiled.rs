//! The tiled variants of the f32 convolution, for GPUs: a product of `pixels × K` and `K × O`
//! (implicit GEMM; the first matrix exists in tiles alone), with the weights of the direct variant.
//!
//! A workgroup of 128 invocations computes 128 pixels × 64 output channels, each invocation 8 × 8
//! of them in registers; the narrow variant 64 × 64 and 8 × 4. Tiles of 8 along K go through
//! workgroup memory, twice: one is filled while the other is multiplied, so a tile costs one
//! barrier, and its loads are under way during 512 multiply-adds (256). For four steps along K an
//! invocation reads 16 vectors for 256 multiply-adds (12 for 128); its pixels and channel quads lie
//! so that neighbours read neighbouring vectors.
//!
//! Borders, strides and the ends of K are dealt with where a tile is loaded: the address changes
//! only from tap to tap. A pointwise layer has one tap, always inside, and its address is the
//! pixel's. K runs in the order of the direct variant.
//!
//! What is read lies inside: x at a pixel inside the image (or 0, and then at quad 0) and a quad
//! below the group's; weights at one of the group's eights and, within it, a quad of K that was
//! compared with their number (or 0); the bias at a quad that was limited to the group's. y is
//! written at a pixel below the end and a quad that the group has.

use super::direct::depth;
use super::epilogue::{Epilogue, Params};
use crate::device::{Dispatch, Shader, folded, shader};
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::conv::variants::{TILE_QUADS, Tile};

/// `conv_f32_tiled.wgsl`.
static SHADER: Shader =
    shader!("conv_f32_tiled", "geometry", "state", "extremes", "conv_f32", "tiles", "conv_f32_tiles");

/// `conv_f32_tiled_narrow.wgsl`.
static NARROW: Shader =
    shader!("conv_f32_tiled_narrow", "geometry", "state", "extremes", "conv_f32", "tiles", "conv_f32_tiles");

/// The tiled variants, the one that is tried first in front.
pub(crate) static TILES: [Tile; 2] = [
    Tile {
        shader: &SHADER,
        workgroup_bytes: 12_812,
        pixels: 128,
        least_subgroup: 32,
        least_inputs: 1,
        least_outputs: 32,
        least_depth: 16,
    },
    Tile {
        shader: &NARROW,
        workgroup_bytes: 8_716,
        pixels: 64,
        least_subgroup: 0,
        least_inputs: 1,
        least_outputs: 32,
        least_depth: 16,
    },
];

/// The convolution in steps of at most `most_macs` multiplications, or of one workgroup's pixels.
pub(super) fn dispatches(
    tile: &'static Tile,
    g: &Geometry,
    epilogue: &Epilogue<'_>,
    most_macs: usize,
) -> impl Iterator<Item = Dispatch<Params>> {
    let columns = (g.out_quads / g.group_out_quads) as usize * (g.group_out_quads as usize).div_ceil(TILE_QUADS);
    g.steps(4 * TILE_QUADS * depth(g) * columns, most_macs, tile.pixels).map(move |pixels| {
        let groups = folded(pixels.len().div_ceil(tile.pixels) * columns);
        Dispatch { shader: tile.shader, params: epilogue.params(g, pixels), groups }
    })
}
