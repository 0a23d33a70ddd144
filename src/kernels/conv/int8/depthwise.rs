//! The depthwise variant of the integer convolution, one filter for each channel.
//!
//! Weights are `kh, kw, C/4` words of four channels. The coarse supports center and diagonal are
//! the same here. What the shader reads lies inside as in `direct.rs`, at the output's own quad.

use ndarray::Array4;
use rayon::prelude::*;

use super::constants::{CoarseMode, Constants};
use super::direct::Operands;
use super::finish::{Vector, finish};
use crate::Result;
use crate::device::{Device, Shader, Tier, compiled_for_tiers, shader};
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::core::OutputLevels;
use crate::kernels::cpu::lanes::LANES;
use crate::model::QConv;

/// `depthwise_i8.wgsl`.
pub(crate) static SHADER: Shader = shader!("depthwise_i8", "geometry", "conv_i8", "conv_i8_direct");

/// Words of a tap's weights.
pub(super) fn tap_words(g: &Geometry) -> usize {
    g.out_quads as usize
}

/// The weights of a depthwise layer, laid out for an adapter.
///
/// # Errors
/// If the device has no memory left.
pub(super) fn operands(device: &Device, conv: &QConv, constants: &Constants) -> Result<Operands> {
    let words = |weights: &Array4<i8>| bytemuck::pod_collect_to_vec(&by_tap(weights, constants));
    let coarse = conv.coarse.as_ref().map(|part| words(&part.weights));
    Operands::upload(device, &words(&conv.fine), coarse, constants)
}

/// Weights as taps × channels, padded channels 0.
fn by_tap(weights: &Array4<i8>, constants: &Constants) -> Vec<i8> {
    let channels = constants.channels.len();
    let (_, _, kh, kw) = weights.dim();
    let mut flat = vec![0i8; kh * kw * channels];
    for ((c, _, dy, dx), &w) in weights.indexed_iter() {
        flat[(dy * kw + dx) * channels + c] = w;
    }
    flat
}

/// The weights on the Cpu device, as taps × vectors of channels. A product of two int8 fits in i16,
/// which processors multiply faster than i32.
pub(super) struct Taps {
    fine: Vec<[i16; LANES]>,
    coarse: Vec<[i16; LANES]>,
    vectors: Vec<Vector>,
}

impl Taps {
    /// Lays out the weights of a depthwise layer.
    pub(super) fn new(conv: &QConv, constants: &Constants) -> Self {
        let widen = |weights: &Array4<i8>| {
            let flat = by_tap(weights, constants);
            let vectors = flat.chunks(constants.channels.len()).flat_map(|tap| tap.chunks(LANES));
            vectors.map(|w| std::array::from_fn(|l| w.get(l).map_or(0, |w| i16::from(*w)))).collect()
        };
        Self {
            fine: widen(&conv.fine),
            coarse: conv.coarse.as_ref().map_or_else(Vec::new, |part| widen(&part.weights)),
            vectors: constants.channels.chunks(LANES).map(Vector::new).collect(),
        }
    }
}

/// A layer on the Cpu device: output rows in parallel, a vector of channels of a pixel at once.
pub(super) struct Layer<'a> {
    pub(super) g: &'a Geometry,
    pub(super) x_zero_point: i32,
    /// None: totals are written.
    pub(super) output: Option<&'a OutputLevels>,
    pub(super) constants: &'a Constants,
    pub(super) taps: &'a Taps,
}

impl Layer<'_> {
    pub(super) fn run(&self, tier: Tier, x: &[u32], y: &mut [u32]) {
        let x: &[i8] = bytemuck::cast_slice(x);
        let g = self.g;
        let outside = vec![self.x_zero_point as i8; self.constants.channels.len()];
        let row_words = g.out_width as usize * g.out_quads as usize * if self.output.is_some() { 1 } else { 4 };
        y.par_chunks_mut(row_words).enumerate().for_each(|(row, y)| compiled_row(tier, self, row, x, &outside, y));
    }

    /// What the taps of the pixel in `column` of `row`, counted over all images, read.
    #[inline(always)]
    fn windows<'x>(&self, row: usize, column: usize, x: &'x [i8], outside: &'x [i8], taps: &mut Vec<&'x [i8]>) {
        let g = self.g;
        let channels = outside.len();
        let (image, row) = (row / g.out_height as usize, row % g.out_height as usize);
        let (height, width) = (g.in_height as usize, g.in_width as usize);
        taps.clear();
        for dy in 0..g.kernel_height as usize {
            let iy = (row * g.stride_y as usize + dy).checked_sub(g.pad_y as usize).filter(|iy| *iy < height);
            for dx in 0..g.kernel_width as usize {
                let ix = (column * g.stride_x as usize + dx).checked_sub(g.pad_x as usize).filter(|ix| *ix < width);
                taps.push(match iy.zip(ix) {
                    Some((iy, ix)) => &x[((image * height + iy) * width + ix) * channels..][..channels],
                    None => outside,
                });
            }
        }
    }
}

/// One output row.
#[inline(always)]
fn row(layer: &Layer<'_>, row: usize, x: &[i8], outside: &[i8], y: &mut [u32]) {
    let channels = outside.len();
    let words = if layer.output.is_some() { channels / 4 } else { channels };
    let kernel = [layer.g.kernel_height as usize, layer.g.kernel_width as usize];
    let centre = kernel[0] / 2 * kernel[1] + kernel[1] / 2;
    let mut taps = Vec::with_capacity(kernel[0] * kernel[1]);
    let mut sums = [vec![[0; LANES]; layer.taps.vectors.len()], vec![[0; LANES]; layer.taps.vectors.len()]];
    for (column, y) in y.chunks_exact_mut(words).enumerate() {
        layer.windows(row, column, x, outside, &mut taps);
        let [fine, coarse] = &mut sums;
        sum(&taps, &layer.taps.fine, fine);
        match layer.constants.coarse {
            CoarseMode::None => {}
            CoarseMode::Center | CoarseMode::Diagonal => sum(&taps[centre..=centre], &layer.taps.coarse, coarse),
            CoarseMode::Full => sum(&taps, &layer.taps.coarse, coarse),
        }
        finish(layer.constants, &layer.taps.vectors, layer.output, [fine, coarse], 0, y, 0..channels);
    }
}

/// The sums over `taps`: those of a few vectors of channels at a time stay in registers.
#[inline(always)]
fn sum(taps: &[&[i8]], weights: &[[i16; LANES]], sums: &mut [[i32; LANES]]) {
    let vectors = sums.len();
    let (whole, left) = (taps[0].len() / LANES, taps[0].len() % LANES);
    let mut v = 0;
    while v + 4 <= whole {
        sums[v..v + 4].copy_from_slice(&sum_block::<4>(taps, weights, vectors, v));
        v += 4;
    }
    while v < whole {
        sums[v..=v].copy_from_slice(&sum_block::<1>(taps, weights, vectors, v));
        v += 1;
    }
    if left > 0 {
        sums[whole] = [0; LANES];
        for (q, w) in taps.iter().zip(weights.chunks_exact(vectors)) {
            let mut last = [0; LANES];
            last[..left].copy_from_slice(&q[whole * LANES..]);
            add_products(&mut sums[whole], &last, &w[whole]);
        }
    }
}

/// Of B whole vectors from v on.
#[inline(always)]
fn sum_block<const B: usize>(taps: &[&[i8]], weights: &[[i16; LANES]], vectors: usize, v: usize) -> [[i32; LANES]; B] {
    let mut sums = [[0; LANES]; B];
    for (q, w) in taps.iter().zip(weights.chunks_exact(vectors)) {
        let (q, w) = (&q.as_chunks().0[v..v + B], &w[v..v + B]);
        for b in 0..B {
            add_products(&mut sums[b], &q[b], &w[b]);
        }
    }
    sums
}

#[inline(always)]
fn add_products(sums: &mut [i32; LANES], q: &[i8; LANES], weights: &[i16; LANES]) {
    for l in 0..LANES {
        sums[l] = sums[l].wrapping_add(i32::from(i16::from(q[l]).wrapping_mul(weights[l])));
    }
}

compiled_for_tiers! {
    fn compiled_row(layer: &Layer<'_>, pixel_row: usize, x: &[i8], outside: &[i8], y: &mut [u32]) = row;
}
