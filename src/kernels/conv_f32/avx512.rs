//! The Cpu device's f32 convolution on x86-64 processors with AVX-512: see `kernels/rows.rs` for what is read.
//!
//! Weights lie as tiles of 32 (or 16) output channels, each `kh, kw, I, 32`: a step of the innermost loop multiplies one
//! input channel of 8 pixels by the tile's two vectors. Every output is one chain of fused multiply-adds in the order of K,
//! from the bias on, so it depends neither on the batch nor on the block.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused, reason = "the token exists nowhere else"))]

use archmage::prelude::*;
use rayon::prelude::*;

use crate::kernels::Geometry;
use crate::kernels::rows::{PIXELS, Rows, block_rows, tiles};

/// A vector's values.
const LANES: usize = 16;

/// The weights of a layer.
pub(super) struct Avx512 {
    token: X64V4xToken,
    groups: Vec<Group>,
}

struct Group {
    /// Each with its first output channel.
    tiles: Vec<(usize, Tile)>,
}

/// Weights `K` × 1 or 2 vectors, and their biases.
enum Tile {
    One(Vec<[[f32; LANES]; 1]>, [[f32; LANES]; 1]),
    Two(Vec<[[f32; LANES]; 2]>, [[f32; LANES]; 2]),
}

/// Sums of a tile.
type Sums = [[[f32; LANES]; 2]; PIXELS];

impl Avx512 {
    /// Lays out `groups` matrices of `depth` × `outputs`, `at(group, k, o)` being their values; none where the processor
    /// lacks the instructions.
    pub(super) fn new(
        groups: usize,
        depth: usize,
        outputs: usize,
        at: impl Fn(usize, usize, usize) -> f32,
        bias: impl Fn(usize, usize) -> f32,
    ) -> Option<Self> {
        let token = X64V4xToken::summon()?;
        let tile = |group: usize, first: usize, vectors: usize| {
            let value = |o: usize, value: &dyn Fn(usize) -> f32| if o < outputs { value(o) } else { 0.0 };
            let vector =
                |k: usize, v: usize| std::array::from_fn(|l| value(first + v * LANES + l, &|o| at(group, k, o)));
            let biases = |v: usize| std::array::from_fn(|l| value(first + v * LANES + l, &|o| bias(group, o)));
            if vectors == 1 {
                Tile::One((0..depth).map(|k| [vector(k, 0)]).collect(), [biases(0)])
            } else {
                Tile::Two((0..depth).map(|k| [vector(k, 0), vector(k, 1)]).collect(), [biases(0), biases(1)])
            }
        };
        let groups = (0..groups).map(|group| Group {
            tiles: tiles(outputs).map(|(first, vectors)| (first, tile(group, first, vectors))).collect(),
        });
        Some(Self { token, groups: groups.collect() })
    }

    /// `y = act(conv(x))`, parallel over images and blocks of rows.
    pub(super) fn run(&self, g: &Geometry, relu: bool, x: &[f32], y: &mut [f32]) {
        let images = g.images as usize;
        let (x_image, y_image) = (g.in_words(4) / images, g.out_words(4) / images);
        let rows = block_rows(g, size_of::<f32>());
        let row_values = g.out_width as usize * 4 * g.out_quads as usize;
        x.par_chunks_exact(x_image).zip(y.par_chunks_exact_mut(y_image)).take(images).for_each(|(x, y)| {
            y.par_chunks_mut(rows * row_values).enumerate().for_each_init(Rows::empty, |copy, (i, y)| {
                for (index, group) in self.groups.iter().enumerate() {
                    copy.fill(g, index, (i * rows, y.len() / row_values), x, 0.0, |v| v);
                    #[cfg(target_arch = "x86_64")]
                    block(self.token, g, index, group, relu, copy, y);
                }
            });
        });
    }
}

/// One group's channels of a block.
#[arcane(import_intrinsics)]
fn block(token: X64V4xToken, g: &Geometry, index: usize, group: &Group, relu: bool, copy: &Rows<f32>, y: &mut [f32]) {
    let (all, outputs) = (4 * g.out_quads as usize, 4 * g.group_out_quads as usize);
    let run = Run {
        pitch: copy.pitch(),
        length: (g.kernel_width * 4 * g.group_in_quads) as usize,
        count: g.kernel_height as usize,
    };
    let pixels = y.len() / all;
    let mut sums: Sums = [[[0.0; LANES]; 2]; PIXELS];
    for (first, tile) in &group.tiles {
        for pixel in (0..pixels).step_by(PIXELS) {
            let bases = copy.bases(pixel, pixels);
            match tile {
                Tile::One(weights, bias) => multiply(token, copy.values(), &bases, run, weights, bias, relu, &mut sums),
                Tile::Two(weights, bias) => multiply(token, copy.values(), &bases, run, weights, bias, relu, &mut sums),
            }
            let kept = (outputs - first).min(2 * LANES);
            for (row, sums) in y[pixel * all..].chunks_exact_mut(all).zip(&sums) {
                let to = &mut row[index * outputs + first..][..kept];
                // Whole vectors are stored as such, without a call for each.
                let (whole, rest) = to.as_chunks_mut::<LANES>();
                for (to, sums) in whole.iter_mut().zip(sums) {
                    *to = *sums;
                }
                if !rest.is_empty() {
                    rest.copy_from_slice(&sums[whole.len()][..rest.len()]);
                }
            }
        }
    }
}

/// The runs of values that a window reads, one for each kernel row.
#[derive(Clone, Copy)]
struct Run {
    pitch: usize,
    length: usize,
    count: usize,
}

/// `sums = act(bias + window · weights)` for 8 windows.
#[rite(import_intrinsics)]
#[allow(clippy::too_many_arguments)] // each is one quantity of the formula
fn multiply<const V: usize>(
    _: X64V4xToken,
    x: &[f32],
    bases: &[usize; PIXELS],
    run: Run,
    weights: &[[[f32; LANES]; V]],
    bias: &[[f32; LANES]; V],
    relu: bool,
    sums: &mut Sums,
) {
    let mut acc = [[_mm512_setzero_ps(); V]; PIXELS];
    for acc in &mut acc {
        for (acc, bias) in acc.iter_mut().zip(bias) {
            *acc = _mm512_loadu_ps(bias);
        }
    }
    for (r, weights) in weights.chunks_exact(run.length).take(run.count).enumerate() {
        let mut rows = [&x[..run.length]; PIXELS];
        for (row, base) in rows.iter_mut().zip(bases) {
            *row = &x[base + r * run.pitch..][..run.length];
        }
        for (k, weights) in weights.iter().enumerate() {
            let mut w = [_mm512_setzero_ps(); V];
            for (w, weights) in w.iter_mut().zip(weights) {
                *w = _mm512_loadu_ps(weights);
            }
            for (acc, row) in acc.iter_mut().zip(&rows) {
                let a = _mm512_set1_ps(row[k]);
                for (acc, w) in acc.iter_mut().zip(&w) {
                    *acc = _mm512_fmadd_ps(a, *w, *acc);
                }
            }
        }
    }
    let zero = _mm512_setzero_ps();
    for (acc, sums) in acc.iter().zip(sums) {
        for (acc, sums) in acc.iter().zip(sums) {
            // Not max(): it would turn a NaN into 0 and hide it.
            let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(*acc, zero);
            let kept = if relu { _mm512_mask_mov_ps(*acc, negative, zero) } else { *acc };
            _mm512_storeu_ps(sums, kept);
        }
    }
}
