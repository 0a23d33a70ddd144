//! The Cpu device's int8 convolution on x86-64 processors with AVX-512 VNNI: see `kernels/rows.rs` for what is read.
//!
//! `vpdpbusd` multiplies four unsigned by four signed bytes and adds them to an int32, modulo 2^32 and without saturating on
//! the way. Activations are taken as `u8 = i8 + 128`, so each output's sum begins at −128·Σw. Weights lie as tiles of 32
//! (or 16) output channels, each `kh, kw, I/4, 32, 4`. The coarse part is a second sum over the same copy: of the centre
//! tap alone (support center), of one value of it (diagonal), or of all taps (full).

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused, reason = "the token exists nowhere else"))]

use archmage::prelude::*;
use ndarray::Array4;
use rayon::prelude::*;

use super::{CoarseMode, Constants, Geometry, Output};
use crate::kernels::levels::{LANES, Vector};
use crate::kernels::rows::{Rows, Run, block_rows};

/// Output pixels that are computed together, each with registers of its own.
const PIXELS: usize = 8;

/// Output channels by tiles of 32, the last of 16 where that is enough: the first channel, and how many vectors of 16.
fn tiles(outputs: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..outputs).step_by(32).map(move |first| (first, if outputs - first > 16 { 2 } else { 1 }))
}

/// Weights of four input channels for a vector of output channels.
type Words = [u8; 4 * LANES];

/// Sums of a tile.
type Sums = [[[i32; LANES]; 2]; PIXELS];

/// The weights of a layer.
pub(super) struct Avx512 {
    token: X64V4xToken,
    groups: Vec<Vec<Tile>>,
}

/// Up to 32 output channels of a group.
struct Tile {
    /// The first of them, within the group.
    first: usize,
    fine: Part,
    coarse: Option<Part>,
    /// In vectors of 16.
    constants: [Vector; 2],
}

/// Weights `K/4` × 1 or 2 vectors, and −128·Σw of each output channel.
enum Part {
    One(Vec<[Words; 1]>, [[i32; LANES]; 1]),
    Two(Vec<[Words; 2]>, [[i32; LANES]; 2]),
}

impl Part {
    /// `value(k, o)` is the weight of K and output channel, within the group.
    fn new(first: usize, vectors: usize, depth: usize, value: impl Fn(usize, usize) -> i8) -> Self {
        let words = |quad: usize, v: usize| {
            std::array::from_fn(|i| value(4 * quad + i % 4, first + v * LANES + i / 4).cast_unsigned())
        };
        let start = |v: usize| {
            std::array::from_fn(|l| {
                let sum = (0..depth).map(|k| i32::from(value(k, first + v * LANES + l)));
                sum.fold(0, i32::wrapping_add).wrapping_mul(-128)
            })
        };
        if vectors == 1 {
            Self::One((0..depth / 4).map(|q| [words(q, 0)]).collect(), [start(0)])
        } else {
            Self::Two((0..depth / 4).map(|q| [words(q, 0), words(q, 1)]).collect(), [start(0), start(1)])
        }
    }
}

impl Avx512 {
    /// Lays out a layer's weights; none where the processor lacks the instructions.
    pub(super) fn new(
        fine: &Array4<i8>,
        coarse: Option<&Array4<i8>>,
        groups: usize,
        constants: &Constants,
    ) -> Option<Self> {
        let token = X64V4xToken::summon()?;
        let (o, i, kh, kw) = fine.dim();
        let (outputs, channels) = (o / groups, i.next_multiple_of(4));
        let weight = |of: &Array4<i8>, group: usize, k: usize, o: usize| {
            let (_, _, kh, kw) = of.dim();
            debug_assert!(k < kh * kw * channels);
            let at = [group * outputs + o, k % channels, k / channels / kw, k / channels % kw];
            if o < outputs { of.get(at).copied().unwrap_or(0) } else { 0 }
        };
        let group = |group: usize| {
            let constants = &constants.channels[group * outputs..];
            let of = |first: usize, v: usize| {
                let own = constants.get(first + v * LANES..).unwrap_or(&[]);
                Vector::new(own)
            };
            tiles(outputs.next_multiple_of(4))
                .map(|(first, vectors)| Tile {
                    first,
                    fine: Part::new(first, vectors, kh * kw * channels, |k, o| weight(fine, group, k, o)),
                    coarse: coarse.map(|coarse| {
                        let (_, _, kh, kw) = coarse.dim();
                        Part::new(first, vectors, kh * kw * channels, |k, o| weight(coarse, group, k, o))
                    }),
                    constants: [of(first, 0), of(first, 1)],
                })
                .collect()
        };
        Some(Self { token, groups: (0..groups).map(group).collect() })
    }

    /// Writes levels where there is an `output`, else totals.
    pub(super) fn run(&self, layer: &Layer<'_>, output: Option<&Output>, x: &[u32], y: &mut [u32]) {
        let g = layer.g;
        let images = g.images as usize;
        let x: &[u8] = bytemuck::cast_slice(x);
        let (x_image, y_image) = (g.in_words(4) / images, y.len() / images);
        let rows = block_rows(g, 1);
        let row_words = y_image / g.out_height as usize;
        let outside = (layer.x_zero_point + 128) as u8;
        x.par_chunks_exact(x_image).zip(y.par_chunks_exact_mut(y_image)).for_each(|(x, y)| {
            y.par_chunks_mut(rows * row_words).enumerate().for_each_init(Rows::empty, |copy, (i, y)| {
                for (group, tiles) in self.groups.iter().enumerate() {
                    let count = y.len() / row_words;
                    copy.fill(g, group, (i * rows, count), x, outside, |q| q ^ 0x80);
                    for tile in tiles {
                        #[cfg(target_arch = "x86_64")]
                        block(self.token, layer, group, tile, output, copy, y);
                    }
                }
            });
        });
    }
}

/// A layer to be run.
pub(super) struct Layer<'a> {
    pub(super) g: &'a Geometry,
    pub(super) x_zero_point: i32,
    pub(super) constants: &'a Constants,
}

/// One tile's channels of a block.
#[arcane(import_intrinsics)]
fn block(
    token: X64V4xToken,
    layer: &Layer<'_>,
    group: usize,
    tile: &Tile,
    output: Option<&Output>,
    copy: &Rows<u8>,
    y: &mut [u32],
) {
    let g = layer.g;
    let (all, outputs) = (4 * g.out_quads as usize, 4 * g.group_out_quads as usize);
    let channels = 4 * g.group_in_quads as usize;
    let (kh, kw) = (g.kernel_height as usize, g.kernel_width as usize);
    let whole = copy.run(g);
    let centre = kh / 2 * whole.pitch + kw / 2 * channels;
    let pixels = y.len() / (if output.is_some() { all / 4 } else { all });
    let first = group * outputs + tile.first;
    let kept = (outputs - tile.first).min(2 * LANES);
    let (mut fine, mut coarse): (Sums, Sums) = ([[[0; LANES]; 2]; PIXELS], [[[0; LANES]; 2]; PIXELS]);
    for pixel in (0..pixels).step_by(PIXELS) {
        let bases = copy.bases(pixel, pixels);
        multiply_part(token, copy.values(), &bases, whole, &tile.fine, &mut fine);
        match (layer.constants.coarse, &tile.coarse) {
            (CoarseMode::None, _) => {}
            (CoarseMode::Center, Some(part)) => {
                let run = Run { length: channels, count: 1, ..whole };
                multiply_part(token, copy.values(), &bases.map(|base| base + centre), run, part, &mut coarse);
            }
            (_, Some(part)) => multiply_part(token, copy.values(), &bases, whole, part, &mut coarse),
            (_, None) => {
                let weights = &layer.constants.channels[first..first + kept];
                for (sums, base) in coarse.iter_mut().zip(bases) {
                    let own = &copy.values()[base + centre + tile.first..][..kept];
                    for ((sum, q), channel) in sums.as_flattened_mut().iter_mut().zip(own).zip(weights) {
                        *sum = channel.diagonal * (i32::from(*q) - 128);
                    }
                }
            }
        }
        let valid = PIXELS.min(pixels - pixel);
        for (p, (fine, coarse)) in fine.iter().zip(&coarse).take(valid).enumerate() {
            let at = (pixel + p) * all + first;
            let sums = (fine.as_flattened(), coarse.as_flattened());
            match output {
                None => {
                    let y: &mut [i32] = bytemuck::cast_slice_mut(y);
                    let channels = &layer.constants.channels[first..first + kept];
                    for (i, (value, channel)) in y[at..at + kept].iter_mut().zip(channels).enumerate() {
                        *value = channel.total(sums.0[i], sums.1[i]);
                    }
                }
                Some(output) => {
                    let y: &mut [i8] = bytemuck::cast_slice_mut(y);
                    let y = &mut y[at..at + kept];
                    if layer.constants.own_grid {
                        let channels = &layer.constants.channels[first..first + kept];
                        for (i, (value, channel)) in y.iter_mut().zip(channels).enumerate() {
                            *value = channel.level_of_two(sums.0[i], sums.1[i], output);
                        }
                    } else {
                        let of = |v: usize| tile.constants[v].levels(&fine[v], &coarse[v], output);
                        // Whole vectors are stored as such, without a call for each.
                        let (whole, rest) = y.as_chunks_mut::<LANES>();
                        for (v, to) in whole.iter_mut().enumerate() {
                            *to = of(v);
                        }
                        if !rest.is_empty() {
                            rest.copy_from_slice(&of(whole.len())[..rest.len()]);
                        }
                    }
                }
            }
        }
    }
}

#[rite(import_intrinsics)]
fn multiply_part(token: X64V4xToken, x: &[u8], bases: &[usize; PIXELS], run: Run, part: &Part, sums: &mut Sums) {
    match part {
        Part::One(weights, start) => multiply(token, x, bases, run, weights, start, sums),
        Part::Two(weights, start) => multiply(token, x, bases, run, weights, start, sums),
    }
}

/// `sums = start + window · weights` for 8 windows.
#[rite(import_intrinsics)]
fn multiply<const V: usize>(
    _: X64V4xToken,
    x: &[u8],
    bases: &[usize; PIXELS],
    run: Run,
    weights: &[[Words; V]],
    start: &[[i32; LANES]; V],
    sums: &mut Sums,
) {
    let mut acc = [[_mm512_setzero_si512(); V]; PIXELS];
    for acc in &mut acc {
        for (acc, start) in acc.iter_mut().zip(start) {
            *acc = _mm512_loadu_epi32(start);
        }
    }
    for (r, weights) in weights.chunks_exact(run.length / 4).take(run.count).enumerate() {
        let mut rows = [&x.as_chunks::<4>().0[..run.length / 4]; PIXELS];
        for (row, base) in rows.iter_mut().zip(bases) {
            *row = &x[base + r * run.pitch..][..run.length].as_chunks::<4>().0[..run.length / 4];
        }
        for (k, weights) in weights.iter().enumerate() {
            let mut w = [_mm512_setzero_si512(); V];
            for (w, weights) in w.iter_mut().zip(weights) {
                *w = _mm512_loadu_si512(weights);
            }
            for (acc, row) in acc.iter_mut().zip(&rows) {
                let a = _mm512_set1_epi32(i32::from_le_bytes(row[k]));
                for (acc, w) in acc.iter_mut().zip(&w) {
                    *acc = _mm512_dpbusd_epi32(*acc, a, *w);
                }
            }
        }
    }
    for (acc, sums) in acc.iter().zip(sums) {
        for (acc, sums) in acc.iter().zip(sums) {
            _mm512_storeu_epi32(sums, *acc);
        }
    }
}
