//! The Cpu device's f32 convolution on x86-64 processors with AVX-512: see `kernels/rows.rs` for what is read.
//!
//! Weights lie as tiles of 16 to 64 output channels, each `kh, kw, I, 64`: a step of the innermost loop multiplies one
//! input channel of 6 or 8 pixels by the tile's vectors. Every output is one chain of fused multiply-adds in the order of K,
//! from the bias on, so it depends neither on the batch nor on the block.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused, reason = "the token exists nowhere else"))]

use archmage::prelude::*;
use rayon::prelude::*;

use crate::kernels::Geometry;
use crate::kernels::rows::{Rows, Run, block_rows};

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

/// Weights `K` × 1 to 4 vectors, and their biases.
enum Tile {
    One(Matrix<1>),
    Two(Matrix<2>),
    Three(Matrix<3>),
    Four(Matrix<4>),
}

struct Matrix<const V: usize> {
    weights: Vec<[[f32; LANES]; V]>,
    bias: [[f32; LANES]; V],
}

/// Output channels by tiles: the first channel, and how many vectors. Up to 4 where the weights go through in slices; else
/// up to 2, which take 8 pixels at a time instead of 6: fewer passes over the weights, and no remainder in small images.
fn tiles(depth: usize, outputs: usize) -> impl Iterator<Item = (usize, usize)> {
    let vectors = outputs.div_ceil(LANES);
    let most = if 4 * depth * size_of::<[f32; LANES]>() > LARGE_BYTES { 4 } else { 2 };
    let mut first = 0;
    std::iter::from_fn(move || {
        // No single vector where it can be avoided: it has too few sums in flight.
        let left = vectors - first;
        let width = if left == most + 1 { 3 } else { left.min(most) };
        first += width;
        (width > 0).then_some(((first - width) * LANES, width))
    })
}

impl<const V: usize> Matrix<V> {
    fn new(depth: usize, vector: impl Fn(usize, usize) -> [f32; LANES], bias: impl Fn(usize) -> [f32; LANES]) -> Self {
        let weights = (0..depth).map(|k| std::array::from_fn(|v| vector(k, v)));
        Self { weights: weights.collect(), bias: std::array::from_fn(bias) }
    }
}

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
            match vectors {
                1 => Tile::One(Matrix::new(depth, vector, biases)),
                2 => Tile::Two(Matrix::new(depth, vector, biases)),
                3 => Tile::Three(Matrix::new(depth, vector, biases)),
                _ => Tile::Four(Matrix::new(depth, vector, biases)),
            }
        };
        let groups = (0..groups).map(|group| Group {
            tiles: tiles(depth, outputs).map(|(first, vectors)| (first, tile(group, first, vectors))).collect(),
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
    let run = copy.run(g);
    for (first, tile) in &group.tiles {
        let kept = outputs - first;
        let at = index * outputs + first;
        match tile {
            Tile::One(m) => tile_of::<1, 8>(token, copy, run, m, relu, y, (all, at, kept)),
            Tile::Two(m) => tile_of::<2, 8>(token, copy, run, m, relu, y, (all, at, kept)),
            Tile::Three(m) => tile_of::<3, 8>(token, copy, run, m, relu, y, (all, at, kept)),
            Tile::Four(m) => tile_of::<4, 6>(token, copy, run, m, relu, y, (all, at, kept)),
        }
    }
}

/// One tile's channels of a block, P pixels at a time: V·P vectors of sums, which leave registers for the operands. `y` has
/// pixels of `all` channels; the tile's are those from `at` on, at most `kept`.
#[rite(import_intrinsics)]
fn tile_of<const V: usize, const P: usize>(
    token: X64V4xToken,
    copy: &Rows<f32>,
    run: Run,
    matrix: &Matrix<V>,
    relu: bool,
    y: &mut [f32],
    (all, at, kept): (usize, usize, usize),
) {
    let pixels = y.len() / all;
    let kept = kept.min(V * LANES);
    let vector_bytes = V * LANES * size_of::<f32>();
    if matrix.weights.len() * vector_bytes <= LARGE_BYTES {
        for (i, y) in y.chunks_mut(P * all).enumerate() {
            let bases: [usize; P] = copy.bases(i * P, pixels);
            let sums = accumulate(token, copy.values(), &bases, run, &matrix.weights, [load(token, &matrix.bias); P]);
            write(token, relu, sums, y, (all, at, kept));
        }
        return;
    }
    let groups: Vec<[usize; P]> = (0..pixels).step_by(P).map(|pixel| copy.bases(pixel, pixels)).collect();
    let mut sums = vec![[matrix.bias; P]; groups.len()];
    let slice = (SLICE_BYTES / vector_bytes).max(1);
    for row in 0..run.count {
        for first in (0..run.length).step_by(slice) {
            let part = Run { length: slice.min(run.length - first), count: 1, ..run };
            let weights = &matrix.weights[row * run.length + first..][..part.length];
            let offset = row * run.pitch + first;
            for (bases, sums) in groups.iter().zip(&mut sums) {
                multiply(token, copy.values(), &bases.map(|base| base + offset), part, weights, sums);
            }
        }
    }
    for (y, sums) in y.chunks_mut(P * all).zip(&mut sums) {
        let sums = sums.each_ref().map(|sums| load(token, sums));
        write(token, relu, sums, y, (all, at, kept));
    }
}

/// Vectors in registers.
#[rite(import_intrinsics)]
fn load<const V: usize>(_: X64V4xToken, values: &[[f32; LANES]; V]) -> [__m512; V] {
    let mut vectors = [_mm512_setzero_ps(); V];
    for (vector, values) in vectors.iter_mut().zip(values) {
        *vector = _mm512_loadu_ps(values);
    }
    vectors
}

/// `y = act(sums)`.
#[rite(import_intrinsics)]
fn write<const V: usize, const P: usize>(
    _: X64V4xToken,
    relu: bool,
    sums: [[__m512; V]; P],
    y: &mut [f32],
    (all, at, kept): (usize, usize, usize),
) {
    let zero = _mm512_setzero_ps();
    for (row, sums) in y.chunks_exact_mut(all).zip(sums) {
        let row = &mut row[at..][..kept];
        for (v, to) in sums.into_iter().zip(row.chunks_mut(LANES)) {
            // Not max(): it would turn a NaN into 0 and hide it.
            let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(v, zero);
            let v = if relu { _mm512_mask_mov_ps(v, negative, zero) } else { v };
            if let Some(to) = to.first_chunk_mut() {
                _mm512_storeu_ps(to, v);
            } else {
                let mut values = [0.0; LANES];
                _mm512_storeu_ps(&mut values, v);
                to.copy_from_slice(&values[..to.len()]);
            }
        }
    }
}

/// Weights of a tile that go through in slices, by measurement: below, taking the sums up again costs more.
const LARGE_BYTES: usize = 160 * 1024;

/// A slice of them, which all pixels of a block meet before the next: it stays in the first cache.
const SLICE_BYTES: usize = 24 * 1024;

/// `sums += windows · weights` for P windows, the sums in memory.
#[rite(import_intrinsics)]
fn multiply<const V: usize, const P: usize>(
    token: X64V4xToken,
    x: &[f32],
    bases: &[usize; P],
    run: Run,
    weights: &[[[f32; LANES]; V]],
    sums: &mut [[[f32; LANES]; V]; P],
) {
    let mut acc = [[_mm512_setzero_ps(); V]; P];
    for (acc, sums) in acc.iter_mut().zip(&*sums) {
        *acc = load(token, sums);
    }
    let acc = accumulate(token, x, bases, run, weights, acc);
    for (acc, sums) in acc.iter().zip(sums) {
        for (acc, sums) in acc.iter().zip(sums) {
            _mm512_storeu_ps(sums, *acc);
        }
    }
}

/// `sums + windows · weights` for P windows.
#[rite(import_intrinsics)]
fn accumulate<const V: usize, const P: usize>(
    _: X64V4xToken,
    x: &[f32],
    bases: &[usize; P],
    run: Run,
    weights: &[[[f32; LANES]; V]],
    mut acc: [[__m512; V]; P],
) -> [[__m512; V]; P] {
    for (r, weights) in weights.chunks_exact(run.length).take(run.count).enumerate() {
        let mut rows = [&x[..run.length]; P];
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
    acc
}
