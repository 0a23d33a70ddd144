//! The Cpu device's f32 convolution of 3×3 kernels with stride 1 and 32 channels or more, on
//! AVX-512: Winograd's minimal filtering F(2×2, 3×3), after Lavin and Gray, *Fast Algorithms for
//! Convolutional Neural Networks*, arXiv 1509.09308. Four outputs take 16 products for each input
//! channel in place of 36.
//!
//! For the window d, 4 × 4 inputs, and the kernel g the 2 × 2 outputs are
//! `Aᵀ [Σ (G g Gᵀ) ⊙ (Bᵀ d B)] A`, the sum over input channels, with
//!
//! ```text
//!      1  0 −1  0         1    0    0         1  1  1  0
//! Bᵀ = 0  1  1  0    G =  1/2  1/2  1/2  Aᵀ = 0  1 −1 −1
//!      0 −1  1  0         1/2 −1/2  1/2
//!      0  1  0 −1         0    0    1
//! ```
//!
//! `G g Gᵀ` is computed in f64 and rounded once. For each of the 16 points the sums over input
//! channels are products of matrices, windows × I and I × O (`cpu/lanes`). A window's outputs
//! depend on nothing but the window, so a result does not depend on the batch.
//!
//! Error: an input goes through 2 additions, its product through a chain of I multiply-adds, that
//! sum through 4 additions and that of the bias, and the weight was rounded: at most I + 9
//! roundings, as in a sum of I + 8 products and a bias, if its terms had the magnitudes that
//! [`magnitudes`] adds up.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused, reason = "the token exists nowhere else"))]

use archmage::prelude::*;
use ndarray::{ArrayView2, s};
use rayon::prelude::*;

use crate::device::Tier;
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::conv::rows::{Block, Rows};
#[cfg(target_arch = "x86_64")]
use crate::kernels::cpu::lanes::avx512::Float;
use crate::kernels::cpu::lanes::{self, LANES, Run, Tile, accumulate, load, store};
use crate::model::{Conv, Shape, Weights, conv_output};

/// Values of a transformed window.
const POINTS: usize = 16;

/// Bytes of the transformed windows of a block: they stay in a core's second cache beside the
/// products.
const WINDOW_BYTES: usize = 640 * 1024;

/// Vectors of a tile; one that would be left alone joins them. With 12 windows, of three vectors 8,
/// the sums leave registers for the operands.
const VECTORS: usize = 2;

/// Fewest input channels of a group, by measurement: with 16 the transforms cost more than the
/// products that they spare.
const LEAST_INPUTS: usize = 32;

/// What the roundings of a sum are counted as, beside the input channels of a group.
pub(super) const FURTHER_TERMS: usize = 8;

/// The weights of a layer.
pub(super) struct Winograd {
    token: X64V4xToken,
    /// Of each group, each with its first output channel; K is points × input channels.
    groups: Vec<Vec<(usize, Tile<f32>)>>,
}

/// What a thread keeps from block to block.
struct Scratch {
    copy: Rows<f32, 4>,
    /// Points × ([`plane`]: windows × input channels, and a vector between).
    inputs: Vec<f32>,
    /// Points × windows × vectors of a tile.
    products: Vec<[f32; LANES]>,
}

/// Values from a point to the next. Windows times channels are often a multiple of 4 KiB, and
/// values so far apart share a place in the first cache, which has no room for 16 of them.
fn plane(windows: usize, channels: usize) -> usize {
    windows * channels + LANES
}

/// A layer and a block of it.
struct Task<'a> {
    g: &'a Geometry,
    relu: bool,
    /// The block with whole windows.
    block: Block<'a, [f32; 4]>,
    /// Its rows and columns of windows.
    rows: usize,
    columns: usize,
}

/// Whether a convolution is done this way: `groups` are those on the device.
pub(super) fn suits(tier: Tier, conv: &Conv, groups: usize) -> Option<X64V4xToken> {
    let Tier::Avx512(token) = tier else { return None };
    let (out, inputs, ..) = conv.weight.dim();
    let shape = conv.kernel() == [3, 3] && conv.stride == [1, 1] && groups == conv.groups;
    let sixteens = inputs.is_multiple_of(LANES) && (out / groups).is_multiple_of(LANES);
    (shape && sixteens && inputs >= LEAST_INPUTS).then_some(token)
}

/// `G g Gᵀ`, by rows.
fn transformed(g: &ArrayView2<'_, f32>) -> [f64; POINTS] {
    // G v.
    let side = |v: [f64; 3]| [v[0], 0.5 * (v[0] + v[1] + v[2]), 0.5 * (v[0] - v[1] + v[2]), v[2]];
    let columns: [[f64; 4]; 3] = std::array::from_fn(|x| side(std::array::from_fn(|y| f64::from(g[[y, x]]))));
    let rows: [[f64; 4]; 4] = std::array::from_fn(|y| side(columns.map(|column| column[y])));
    std::array::from_fn(|p| rows[p / 4][p % 4])
}

impl Winograd {
    /// Lays out the weights of a convolution that [`suits`].
    pub(super) fn new(token: X64V4xToken, conv: &Conv) -> Self {
        let (out, inputs, ..) = conv.weight.dim();
        let outputs = out / conv.groups;
        let kernels: Vec<[f32; POINTS]> = (0..out * inputs)
            .into_par_iter()
            .map(|n| transformed(&conv.weight.slice(s![n / inputs, n % inputs, .., ..])).map(|w| w as f32))
            .collect();
        let tile = |group: usize, (first, vectors): (usize, usize)| {
            let channel = |o: usize| group * outputs + first + o;
            let weight = |k: usize, o: usize| kernels[channel(o) * inputs + k % inputs][k / inputs];
            (first, Tile::new(vectors, POINTS * inputs, weight, |o| conv.bias[channel(o)]))
        };
        let groups = (0..conv.groups).map(|group| lanes::tiles(outputs, VECTORS).map(|at| tile(group, at)).collect());
        Self { token, groups: groups.collect() }
    }

    /// `y = act(conv(x))`, parallel over images and blocks of rows.
    pub(super) fn run(&self, g: &Geometry, relu: bool, x: &[f32], y: &mut [f32]) {
        // Outputs by twos: there may be one too many.
        let even =
            Geometry { out_height: g.out_height.next_multiple_of(2), out_width: g.out_width.next_multiple_of(2), ..*g };
        let columns = even.out_width as usize / 2;
        let row_bytes = POINTS * columns * 4 * g.group_in_quads as usize * size_of::<f32>();
        let rows = (WINDOW_BYTES / row_bytes).clamp(1, even.out_height as usize / 2);
        let images = g.images as usize;
        let (x_image, y_image) = (g.in_words(1) / images, g.out_words(4) / images);
        let row = y_image / g.out_height as usize;
        let empty = || Scratch { copy: Rows::empty(), inputs: Vec::new(), products: Vec::new() };
        let x: &[[f32; 4]] = x.as_chunks().0;
        x.par_chunks_exact(x_image).zip(y.par_chunks_exact_mut(y_image)).take(images).for_each(|(x, y)| {
            y.par_chunks_mut(2 * rows * row).enumerate().for_each_init(empty, |scratch, (i, y)| {
                let count = (y.len() / row).div_ceil(2);
                let block = Block::new(&even, x, 2 * i * rows, 2 * count);
                let task = Task { g, relu, block, rows: count, columns };
                #[cfg(target_arch = "x86_64")]
                block_of(self.token, &self.groups, &task, scratch, y);
            });
        });
    }
}

#[arcane]
fn block_of(
    token: X64V4xToken,
    groups: &[Vec<(usize, Tile<f32>)>],
    task: &Task<'_>,
    scratch: &mut Scratch,
    y: &mut [f32],
) {
    let Scratch { copy, inputs, products } = scratch;
    let outputs = 4 * task.g.group_out_quads as usize;
    for (index, tiles) in groups.iter().enumerate() {
        copy.fill(&task.block, index, [0.0; 4], Vec::extend_from_slice);
        transform(token, task, copy.words(), inputs);
        for (first, tile) in tiles {
            let at = index * outputs + first;
            match tile.vectors {
                1 => tile_of::<1, 12>(token, task, inputs, tile, products, at, y),
                2 => tile_of::<2, 12>(token, task, inputs, tile, products, at, y),
                _ => tile_of::<3, 8>(token, task, inputs, tile, products, at, y),
            }
        }
    }
}

/// `Bᵀ d B` of each window and channel of a group.
#[rite(import_intrinsics)]
fn transform(token: X64V4xToken, task: &Task<'_>, copy: &[f32], inputs: &mut Vec<f32>) {
    let channels = 4 * task.g.group_in_quads as usize;
    let pitch = (2 * task.columns + 2) * channels;
    let windows = task.rows * task.columns;
    let plane = plane(windows, channels);
    inputs.resize(POINTS * plane, 0.0);
    for window in 0..windows {
        let corner = 2 * (window / task.columns * pitch + window % task.columns * channels);
        for c in (0..channels).step_by(LANES) {
            let mut rows = [[_mm512_setzero_ps(); 4]; 4];
            for (i, row) in rows.iter_mut().enumerate() {
                for (j, d) in row.iter_mut().enumerate() {
                    if let Some(from) = copy[corner + i * pitch + j * channels + c..].first_chunk::<LANES>() {
                        *d = _mm512_loadu_ps(from);
                    }
                }
                *row = input_side(token, *row);
            }
            #[allow(clippy::needless_range_loop, reason = "a column of the rows")]
            for j in 0..4 {
                let column = input_side(token, [rows[0][j], rows[1][j], rows[2][j], rows[3][j]]);
                for (i, v) in column.into_iter().enumerate() {
                    let to = (4 * i + j) * plane + window * channels + c;
                    if let Some(to) = inputs[to..].first_chunk_mut::<LANES>() {
                        _mm512_storeu_ps(to, v);
                    }
                }
            }
        }
    }
}

/// `Bᵀ v`.
#[rite(import_intrinsics)]
fn input_side(_: X64V4xToken, v: [__m512; 4]) -> [__m512; 4] {
    [_mm512_sub_ps(v[0], v[2]), _mm512_add_ps(v[1], v[2]), _mm512_sub_ps(v[2], v[1]), _mm512_sub_ps(v[1], v[3])]
}

/// `Aᵀ v`.
#[rite(import_intrinsics)]
fn output_side(_: X64V4xToken, v: [__m512; 4]) -> [__m512; 2] {
    [_mm512_add_ps(_mm512_add_ps(v[0], v[1]), v[2]), _mm512_sub_ps(_mm512_sub_ps(v[1], v[2]), v[3])]
}

/// One tile's channels of a block, up to MOST windows at a time; the first is `at` among all.
#[rite]
fn tile_of<const V: usize, const MOST: usize>(
    token: X64V4xToken,
    task: &Task<'_>,
    inputs: &[f32],
    tile: &Tile<f32>,
    products: &mut Vec<[f32; LANES]>,
    at: usize,
    y: &mut [f32],
) {
    let windows = task.rows * task.columns;
    // As many at a time as leave the fewest over.
    let together = windows.div_ceil(windows.div_ceil(MOST));
    let stride = match together {
        0..=4 => multiply::<V, 4>(token, windows, inputs, tile, products),
        5..=8 => multiply::<V, 8>(token, windows, inputs, tile, products),
        9 | 10 => multiply::<V, 10>(token, windows, inputs, tile, products),
        _ => multiply::<V, MOST>(token, windows, inputs, tile, products),
    };
    finish::<V>(token, task, products, stride, tile.start(), at, y);
}

/// The sums over input channels at each point, P windows at a time. Returns how many windows there
/// are at each point in `products`: the last is repeated until they fill P.
#[rite]
fn multiply<const V: usize, const P: usize>(
    token: X64V4xToken,
    windows: usize,
    inputs: &[f32],
    tile: &Tile<f32>,
    products: &mut Vec<[f32; LANES]>,
) -> usize {
    let plane = inputs.len() / POINTS;
    let channels = tile.weights::<V>().len() / POINTS;
    let stride = windows.next_multiple_of(P);
    products.resize(POINTS * stride * V, [0.0; LANES]);
    let run = Run { pitch: 0, length: channels, count: 1 };
    let points = inputs.chunks_exact(plane).zip(tile.weights::<V>().chunks_exact(channels));
    for ((x, weights), products) in points.zip(products.chunks_exact_mut(stride * V)) {
        for (i, products) in products.chunks_exact_mut(P * V).enumerate() {
            let bases = std::array::from_fn(|p| (i * P + p).min(windows - 1) * channels);
            let nothing = [load::<Float, V>(token, &[[0.0; LANES]; V]); P];
            let sums = accumulate::<Float, V, P>(token, x, &bases, run, weights, nothing);
            for (to, sums) in products.as_chunks_mut().0.iter_mut().zip(&sums) {
                store::<Float, V>(token, sums, to);
            }
        }
    }
    stride
}

/// `y = act(Aᵀ m A + bias)` for each window, m being its products.
#[rite(import_intrinsics)]
fn finish<const V: usize>(
    token: X64V4xToken,
    task: &Task<'_>,
    products: &[[f32; LANES]],
    stride: usize,
    bias: &[[f32; LANES]; V],
    at: usize,
    y: &mut [f32],
) {
    let (all, width) = (4 * task.g.out_quads as usize, task.g.out_width as usize);
    let height = y.len() / (width * all);
    let zero = _mm512_setzero_ps();
    for window in 0..task.rows * task.columns {
        let (row, column) = (2 * (window / task.columns), 2 * (window % task.columns));
        for (v, bias) in bias.iter().enumerate() {
            let bias = _mm512_loadu_ps(bias);
            let mut rows = [[zero; 4]; 2];
            for j in 0..4 {
                let mut m = [zero; 4];
                for (i, m) in m.iter_mut().enumerate() {
                    *m = _mm512_loadu_ps(&products[((4 * i + j) * stride + window) * V + v]);
                }
                [rows[0][j], rows[1][j]] = output_side(token, m);
            }
            for (r, m) in rows.into_iter().enumerate().take(height - row) {
                for (c, sum) in output_side(token, m).into_iter().enumerate().take(width - column) {
                    let sum = _mm512_add_ps(sum, bias);
                    // Not max(): it would turn a NaN into 0 and hide it.
                    let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(sum, zero);
                    let value = if task.relu { _mm512_mask_mov_ps(sum, negative, zero) } else { sum };
                    let to = ((row + r) * width + column + c) * all + at + v * LANES;
                    if let Some(to) = y[to..].first_chunk_mut::<LANES>() {
                        _mm512_storeu_ps(to, value);
                    }
                }
            }
        }
    }
}

/// For each output, NHWC, `|bias| + |Aᵀ| [Σ |G g Gᵀ| ⊙ (|Bᵀ| |d| |B|)] |A|`, for the bound on the
/// error.
pub(super) fn magnitudes(conv: &Conv, images: usize, x_shape: Shape, x: &[f32]) -> Vec<f64> {
    const B: [[f64; 4]; 4] = [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]];
    const A: [[f64; 4]; 2] = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]];
    let (out, inputs, ..) = conv.weight.dim();
    let y_shape = conv_output(x_shape, out, [3, 3], [1, 1], conv.padding);
    let stored = x_shape.padded_channels();
    let mut magnitudes = Vec::with_capacity(images * y_shape.padded_len());
    for n in 0..images * y_shape.padded_len() {
        let (pixel, o) = (n / y_shape.padded_channels(), n % y_shape.padded_channels());
        let (row, column) = (pixel / y_shape.width, pixel % y_shape.width);
        let (image, row) = (row / y_shape.height, row % y_shape.height);
        let mut sum = f64::from(conv.bias[o].abs());
        for i in 0..inputs {
            let channel = o / (out / conv.groups) * inputs + i;
            let d = |y: usize, x_at: usize| {
                let y = (row / 2 * 2 + y).checked_sub(conv.padding[0]).filter(|y| *y < x_shape.height)?;
                let x_at = (column / 2 * 2 + x_at).checked_sub(conv.padding[1]).filter(|x| *x < x_shape.width)?;
                Some(f64::from(x[((image * x_shape.height + y) * x_shape.width + x_at) * stored + channel].abs()))
            };
            let weights = transformed(&conv.weight.slice(s![o, i, .., ..]));
            for (p, w) in weights.iter().enumerate() {
                let input: f64 =
                    (0..16).map(|q| B[p / 4][q / 4] * B[p % 4][q % 4] * d(q / 4, q % 4).unwrap_or(0.0)).sum();
                sum += A[row % 2][p / 4] * A[column % 2][p % 4] * w.abs() * input;
            }
        }
        magnitudes.push(sum);
    }
    magnitudes
}
