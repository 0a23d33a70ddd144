//! The tiled variants of the integer convolution, for GPUs: a product of `pixels × K` and `K × O`
//! (implicit GEMM; the first matrix exists in tiles alone), with the weights of the direct variant
//! and its epilogue.
//!
//! A workgroup of 128 invocations computes 64 pixels × 64 output channels, each invocation 8 × 4 of
//! them in registers, with a second set of totals for the coarse part; the narrow variant has 256
//! invocations of 4 × 4. Tiles of 32 along K go through workgroup memory, twice: one is filled
//! while the other is multiplied, so a tile costs one barrier, and its loads are under way during
//! 256 four-way products (128). Where a tile has coarse weights they are loaded beside the fine
//! ones and meet the same activations, which are loaded once; elsewhere the coarse part costs a
//! comparison a tile.
//!
//! K runs over the taps and, within each, over spans of 16 channels (one vector); the last span of
//! a tap may be cut. Borders, strides and the ends of K are dealt with where a tile is loaded: the
//! address changes only from tap to tap. A pointwise layer has one tap, always inside, and its
//! address is the pixel's. Where channels are no multiple of 16 spans are put together from words.
//!
//! What is read lies inside: x at a span of the group within a pixel inside the image (or pixel 0),
//! whole where spans are aligned, since then a pixel is so many whole vectors, else word by word,
//! each compared with the group's quads; weights at a tap and an input quad that were compared with
//! their numbers (or vector 0) and an output quad that was limited to the group's; channels at that
//! quad. y is written at a pixel below the end and a quad that the group has.

use super::constants::Params;
use crate::device::{Dispatch, Shader, folded, shader};
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::conv::variants::{TILE_QUADS, Tile};

/// `conv_i8_tiled.wgsl`.
static SHADER: Shader = shader!("conv_i8_tiled", "geometry", "conv_i8", "tiles", "conv_i8_tiles");

/// `conv_i8_tiled_narrow.wgsl`.
static NARROW: Shader = shader!("conv_i8_tiled_narrow", "geometry", "conv_i8", "tiles", "conv_i8_tiles");

/// The tiled variants, the one that is tried first in front.
pub(crate) static TILES: [Tile; 2] = [
    Tile {
        shader: &SHADER,
        workgroup_bytes: 12_288,
        pixels: 64,
        least_subgroup: 32,
        // 16 channels of a tap at a time: with fewer, most products are with zeros.
        least_inputs: 16,
        least_outputs: 32,
        least_depth: 64,
    },
    Tile {
        shader: &NARROW,
        workgroup_bytes: 12_288,
        pixels: 64,
        least_subgroup: 0,
        least_inputs: 16,
        least_outputs: 32,
        least_depth: 64,
    },
];

/// Whether the input is read by spans. Where not, it may be shorter than one, and another buffer is
/// bound in its place.
pub(super) fn is_aligned(g: &Geometry) -> bool {
    g.in_quads.is_multiple_of(4) && g.group_in_quads.is_multiple_of(4)
}

/// The dispatch of a tile for so many output pixels.
pub(super) fn dispatch(tile: &'static Tile, g: &Geometry, pixels: usize, params: Params) -> Dispatch<Params> {
    let columns = (g.out_quads / g.group_out_quads) as usize * (g.group_out_quads as usize).div_ceil(TILE_QUADS);
    Dispatch { shader: tile.shader, params, groups: folded(pixels.div_ceil(tile.pixels) * columns) }
}
