//! The Cpu device's f32 convolution where the processor has AVX-512 or AVX2: see `conv/rows.rs` for
//! what is read and `cpu/lanes` for the products.
//!
//! Weights lie as tiles of output channels, each `kh, kw, I, O of the tile`: a step of the
//! innermost loop multiplies one input channel of 5 to 8 pixels by the tile's vectors. Every output
//! is one chain of fused multiply-adds in the order of K, from the bias on, so it depends neither
//! on the batch nor on the block, nor on which of the two it is.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused, reason = "there are vectors nowhere else yet"))]

use archmage::{X64V3Token, X64V4xToken, arcane};

use super::matrices::Matrices;
use crate::device::Tier;
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::conv::rows::{Block, Rows, for_each_block};
use crate::kernels::cpu::lanes::{LANES, Lanes, Run, Tile, accumulate, load, store, tiles};
#[cfg(target_arch = "x86_64")]
use crate::kernels::cpu::lanes::{avx2, avx512};

/// Weights of a tile that go through in slices, by measurement: below, taking the sums up again
/// costs more.
const LARGE_BYTES: usize = 160 * 1024;

/// A slice of them, which all pixels of a block meet before the next: it stays in the first cache.
const SLICE_BYTES: usize = 24 * 1024;

/// The copy that is read: the four channels of a quad one by one.
type Copied = Rows<f32, 4>;

/// The weights of a layer.
pub(super) struct Vectors {
    tier: Tier,
    /// Of each group, each with its first output channel.
    groups: Vec<Vec<(usize, Tile<f32>)>>,
}

/// Vectors of a tile. AVX-512: up to 4 where the weights go through in slices; else up to 2, which
/// take 8 pixels at a time instead of 6: fewer passes over the weights, and no remainder in small
/// images. AVX2 has registers for one.
fn most_vectors(tier: Tier, depth: usize) -> Option<usize> {
    match tier {
        Tier::Avx512(_) if 4 * depth * LANES * size_of::<f32>() > LARGE_BYTES => Some(4),
        Tier::Avx512(_) => Some(2),
        Tier::Avx2(_) => Some(1),
        Tier::Plain => None,
    }
}

impl Vectors {
    /// Lays out the matrices of all groups; none where the tier has no vectors.
    pub(super) fn new(tier: Tier, of: &Matrices<'_>) -> Option<Self> {
        let (depth, outputs) = (of.depth(), of.outputs());
        let most = most_vectors(tier, depth)?;
        let tile = |group: usize, (first, vectors): (usize, usize)| {
            let weight = |k: usize, o: usize| of.weight(group, k, first + o);
            (first, Tile::new(vectors, depth, weight, |o| of.bias(group, first + o)))
        };
        let groups = (0..of.groups).map(|group| tiles(outputs, most).map(|at| tile(group, at)).collect());
        Some(Self { tier, groups: groups.collect() })
    }

    /// `y = act(conv(x))`, parallel over images and blocks of rows.
    pub(super) fn run(&self, g: &Geometry, relu: bool, x: &[f32], y: &mut [f32]) {
        for_each_block(g, x.as_chunks().0, y, |block, copy, y| match self.tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512(token) => on_avx512(token, &self.groups, relu, block, copy, y),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2(token) => on_avx2(token, &self.groups, relu, block, copy, y),
            _ => unreachable!("weights are laid out for a tier that has vectors"),
        });
    }
}

#[arcane]
fn on_avx512(
    token: X64V4xToken,
    groups: &[Vec<(usize, Tile<f32>)>],
    relu: bool,
    block: &Block<'_, [f32; 4]>,
    copy: &mut Copied,
    y: &mut [f32],
) {
    each_tile(groups, block, copy, |copy, tile, place| match tile.vectors {
        1 => tile_of::<avx512::Float, 1, 8>(token, copy, block.g, tile, relu, y, place),
        2 => tile_of::<avx512::Float, 2, 8>(token, copy, block.g, tile, relu, y, place),
        3 => tile_of::<avx512::Float, 3, 8>(token, copy, block.g, tile, relu, y, place),
        _ => tile_of::<avx512::Float, 4, 6>(token, copy, block.g, tile, relu, y, place),
    });
}

#[arcane]
fn on_avx2(
    token: X64V3Token,
    groups: &[Vec<(usize, Tile<f32>)>],
    relu: bool,
    block: &Block<'_, [f32; 4]>,
    copy: &mut Copied,
    y: &mut [f32],
) {
    each_tile(groups, block, copy, |copy, tile, place| {
        // 5: 12 vectors of sums and the operands would leave no register for the bias, and a sum
        // would move to memory.
        tile_of::<avx2::Float, 1, 5>(token, copy, block.g, tile, relu, y, place);
    });
}

/// Where a tile's channels lie in the output: pixels of `all` channels, `kept` from `at` on are the
/// tile's.
#[derive(Clone, Copy)]
struct Place {
    all: usize,
    at: usize,
    kept: usize,
}

/// Copies what each group reads, and hands its tiles to `run`.
#[inline(always)]
fn each_tile(
    groups: &[Vec<(usize, Tile<f32>)>],
    block: &Block<'_, [f32; 4]>,
    copy: &mut Copied,
    mut run: impl FnMut(&Copied, &Tile<f32>, Place),
) {
    let (all, outputs) = (4 * block.g.out_quads as usize, 4 * block.g.group_out_quads as usize);
    for (index, tiles) in groups.iter().enumerate() {
        copy.fill(block, index, [0.0; 4], Vec::extend_from_slice);
        for (first, tile) in tiles {
            run(copy, tile, Place { all, at: index * outputs + first, kept: outputs - first });
        }
    }
}

/// One tile's channels of a block, P pixels at a time.
#[inline(always)]
fn tile_of<L: Lanes<Word = f32>, const V: usize, const P: usize>(
    token: L::Token,
    copy: &Copied,
    g: &Geometry,
    tile: &Tile<f32>,
    relu: bool,
    y: &mut [f32],
    place: Place,
) {
    let pixels = y.len() / place.all;
    let run = copy.run(g);
    let (weights, start) = (tile.weights::<V>(), tile.start::<V>());
    let vector_bytes = V * LANES * size_of::<f32>();
    if weights.len() * vector_bytes <= LARGE_BYTES {
        for (i, y) in y.chunks_mut(P * place.all).enumerate() {
            let bases: [usize; P] = copy.bases(i * P, pixels);
            let start = [load::<L, V>(token, start); P];
            let sums = accumulate::<L, V, P>(token, copy.words(), &bases, run, weights, start);
            // All of them first: an array of registers that a loop of unknown length walks would
            // lie in memory from the start.
            let mut values = [[[0.0; LANES]; V]; P];
            for (values, sums) in values.iter_mut().zip(&sums) {
                store::<L, V>(token, sums, values);
            }
            for (y, values) in y.chunks_exact_mut(place.all).zip(&values) {
                finish(relu, values, y, place);
            }
        }
        return;
    }
    let windows: Vec<[usize; P]> = (0..pixels).step_by(P).map(|pixel| copy.bases(pixel, pixels)).collect();
    let mut sums = vec![[*start; P]; windows.len()];
    let slice = (SLICE_BYTES / vector_bytes).max(1);
    for row in 0..run.count {
        for first in (0..run.length).step_by(slice) {
            let part = Run { length: slice.min(run.length - first), count: 1, ..run };
            let weights = &weights[row * run.length + first..][..part.length];
            let offset = row * run.pitch + first;
            for (bases, sums) in windows.iter().zip(&mut sums) {
                let mut before = [load::<L, V>(token, &sums[0]); P];
                for (before, sums) in before.iter_mut().zip(&*sums) {
                    *before = load::<L, V>(token, sums);
                }
                let bases = bases.map(|base| base + offset);
                let after = accumulate::<L, V, P>(token, copy.words(), &bases, part, weights, before);
                for (sums, after) in sums.iter_mut().zip(&after) {
                    store::<L, V>(token, after, sums);
                }
            }
        }
    }
    for (y, sums) in y.chunks_mut(P * place.all).zip(&sums) {
        for (y, sums) in y.chunks_exact_mut(place.all).zip(sums) {
            finish(relu, sums, y, place);
        }
    }
}

/// `y = act(sums)` for a pixel.
#[inline(always)]
fn finish<const V: usize>(relu: bool, sums: &[[f32; LANES]; V], y: &mut [f32], Place { at, kept, .. }: Place) {
    let (whole, rest) = y[at..][..kept.min(V * LANES)].as_chunks_mut::<LANES>();
    let last = &sums.as_flattened()[LANES * whole.len()..];
    for (to, sums) in whole.iter_mut().zip(sums) {
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = act(relu, *sum);
        }
    }
    for (to, sum) in rest.iter_mut().zip(last) {
        *to = act(relu, *sum);
    }
}

/// Not `max`: it would turn a NaN into 0 and hide it.
#[inline(always)]
fn act(relu: bool, v: f32) -> f32 {
    if relu && v < 0.0 { 0.0 } else { v }
}
