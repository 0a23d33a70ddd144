//! Exact sums over the patches that a layer reads: what second-order rounding knows of its input.
//!
//! A patch is what one output pixel reads of one group of channels, K values in the order of the
//! kernel's weights (channel, row, column). With q its levels as the network quantized so far stores
//! them and u the float network's values there, `u = round(64·x/s_x)`, the sums are
//!
//! n, Σq, Σu, `Σ q·qᵀ` and `Σ u·qᵀ`.
//!
//! q is not made `q − z`: what is done with the sums centres them, and z cancels. Padding is q = z,
//! u = 0.
//!
//! **Exact.** All are integers, so they depend neither on the batches nor on the order of the images
//! nor on threads, and sums over parts of a set add up to those over all of it. Products are taken as
//! f32 matrices of at most [`TILE`] patches: u is split in two bytes, `u = 256·h + l`, so every factor
//! is at most 2^7 in magnitude and every partial sum an integer of at most 1024·2^14 = 2^24, which
//! f32 holds exactly in whatever order a matrix product adds. Tiles are added up in i64.
//!
//! **No overflow.** |q| ≤ 2^7 and |u| ≤ 2^15, so n patches sum to at most n·2^22; [`Moments::add`]
//! refuses more than 2^40 patches, whose sums stay below 2^62. Centred, n·Σ and products of two sums
//! stay below 2^103 in i128.
//!
//! This is the host's form of it, from activations that were read back, and the only place that looks
//! at patches: a kernel that sums on the device needs the same arguments and may stand in for
//! [`Moments::add`].

use std::ops::Range;

use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;

use super::places::places;
use crate::model::Shape;
use crate::quantize::weights::Layer;
use crate::{Error, Result};

/// Patches of a matrix product.
pub(super) const TILE: usize = 1024;

/// Steps of u in one of `s_x`.
pub(super) const STEPS: i64 = 64;

/// At most so many of a patch's values are held together: of longer patches the products of values
/// from different blocks are left out.
const LARGEST: usize = 2304;

/// At most so many bytes of sums for a layer, as far as blocks can keep it.
const BUDGET: usize = 256 << 20;

/// More patches are not summed.
const MOST: u64 = 1 << 40;

/// Rows of a product that one thread computes at a time.
const STRIP: usize = 96;

/// How a layer reads its input.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Geometry {
    x: Shape,
    per_group: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    groups: usize,
    places: Vec<[usize; 2]>,
    /// The values of a patch that are held together, the same for each group.
    blocks: Vec<Range<usize>>,
}

impl Geometry {
    /// Of a layer that reads `x` and gives `y`.
    pub(super) fn new(layer: &Layer<'_>, x: Shape, y: Shape) -> Self {
        Self::with(layer, x, y, LARGEST)
    }

    /// As [`Geometry::new`], with at most `largest` values in a block.
    pub(super) fn with(layer: &Layer<'_>, x: Shape, y: Shape, largest: usize) -> Self {
        let (_, per_group, kh, kw) = layer.weight.dim();
        let length = per_group * kh * kw;
        // Two sums of 8 bytes for each pair.
        let affordable = BUDGET / (16 * length * layer.groups).max(1);
        let most = largest.min(affordable).max(1);
        // Whole channels where one fits.
        let channels = most / (kh * kw).max(1);
        let most = if channels > 0 { channels * kh * kw } else { most };
        let count = length.div_ceil(most).max(1);
        let even = length.div_ceil(count);
        let even = if channels > 0 { even.next_multiple_of(kh * kw).min(most) } else { even };
        let blocks = (0..length).step_by(even.max(1)).map(|start| start..length.min(start + even));
        Self {
            x,
            per_group,
            kernel: [kh, kw],
            stride: layer.stride,
            padding: layer.padding,
            groups: layer.groups,
            places: places(y.height, y.width),
            blocks: blocks.collect(),
        }
    }

    /// Blocks of each group.
    pub(super) fn blocks(&self) -> &[Range<usize>] {
        &self.blocks
    }
}

/// A batch of a layer's input, NHWC with the channels padded to a multiple of 4.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub images: usize,
    pub levels: &'a [i8],
    /// The level of real 0.
    pub zero_point: i8,
    /// u of the float network, from [`fixed`].
    pub fixed: &'a [i16],
}

/// `u = round(64·x/s_x)` of f32 words, half to even, limited to what two signed bytes hold; none
/// where a value is no finite number.
pub(super) fn fixed(words: &[u32], scale: f32) -> Option<Vec<i16>> {
    let scale = f64::from(scale);
    let value = |&word: &u32| {
        let x = f64::from(f32::from_bits(word));
        let steps = (x * STEPS as f64 / scale).round_ties_even();
        x.is_finite().then(|| steps.clamp(f64::from(i16::MIN), 127.0 * 256.0 + 127.0) as i16)
    };
    words.par_iter().map(value).collect()
}

/// Sums over the patches of a layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    geometry: Geometry,
    /// Patches of each group.
    pub(super) patches: u64,
    /// The sums of each block, group by group.
    pub(super) parts: Vec<Sums>,
}

/// Sums over K values of the patches of a group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sums {
    /// Σq.
    pub(super) q: Vec<i64>,
    /// Σu.
    pub(super) u: Vec<i64>,
    /// `Σ q_i·q_j` at `i·K + j` for j ≥ i, and 0 for j < i.
    qq: Vec<i64>,
    /// `Σ u_i·q_j` at `i·K + j`.
    uq: Vec<i64>,
}

impl Moments {
    /// Of no patch yet.
    pub(super) fn new(geometry: Geometry) -> Self {
        let parts = (0..geometry.groups).flat_map(|_| geometry.blocks.iter().map(|block| Sums::new(block.len())));
        Self { patches: 0, parts: parts.collect(), geometry }
    }

    /// How the layer reads its input.
    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Adds the patches of a batch.
    ///
    /// # Errors
    /// If there would be more patches than the sums are sure to hold.
    pub(super) fn add(&mut self, input: Input<'_>) -> Result<()> {
        let Self { geometry, patches, parts } = self;
        let total = input.images * geometry.places.len();
        if *patches + total as u64 > MOST {
            return Err(Error::bad(format!("more than {MOST} patches cannot be summed")));
        }
        *patches += total as u64;
        let blocks = geometry.blocks.len().max(1);
        for first in (0..total).step_by(TILE) {
            let tile = first..total.min(first + TILE);
            let each = parts.par_iter_mut().enumerate();
            each.for_each(|(index, part)| part.add(&geometry.gather(input, index / blocks, index % blocks, &tile)));
        }
        Ok(())
    }

    /// Adds the sums over other images: the result is that over all of them.
    #[cfg(test)]
    pub(super) fn merge(&mut self, other: &Self) {
        assert_eq!(self.geometry, other.geometry);
        self.patches += other.patches;
        for (mine, theirs) in self.parts.iter_mut().zip(&other.parts) {
            let add = |to: &mut [i64], from: &[i64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            add(&mut mine.q, &theirs.q);
            add(&mut mine.u, &theirs.u);
            add(&mut mine.qq, &theirs.qq);
            add(&mut mine.uq, &theirs.uq);
        }
    }
}

/// The patches of a tile as matrices, patches × K: q, and the two bytes of u.
struct Tile {
    q: Array2<f32>,
    high: Array2<f32>,
    low: Array2<f32>,
}

impl Geometry {
    /// Patches `tile` (image by image, place by place) of a block of a group.
    fn gather(&self, input: Input<'_>, group: usize, block: usize, tile: &Range<usize>) -> Tile {
        let block = &self.blocks[block];
        let (length, taps) = (block.len(), self.kernel[0] * self.kernel[1]);
        let channels = block.start / taps..block.end.div_ceil(taps);
        let padded = self.x.padded_channels();
        let mut q = vec![f32::from(input.zero_point); tile.len() * length];
        let (mut high, mut low) = (vec![0f32; q.len()], vec![0f32; q.len()]);
        let rows = q.par_chunks_mut(length).zip(high.par_chunks_mut(length)).zip(low.par_chunks_mut(length));
        rows.enumerate().for_each(|(row, ((q, high), low))| {
            let patch = tile.start + row;
            let (image, [y, x]) = (patch / self.places.len(), self.places[patch % self.places.len()]);
            for tap in 0..taps {
                let row = (y * self.stride[0] + tap / self.kernel[1]).wrapping_sub(self.padding[0]);
                let column = (x * self.stride[1] + tap % self.kernel[1]).wrapping_sub(self.padding[1]);
                // Before the first one wraps to far beyond the last.
                if row >= self.x.height || column >= self.x.width {
                    continue;
                }
                let pixel = (image * self.x.height + row) * self.x.width + column;
                let from = pixel * padded + group * self.per_group;
                for channel in channels.clone() {
                    let position = channel * taps + tap;
                    if !block.contains(&position) {
                        continue;
                    }
                    let u = i32::from(input.fixed[from + channel]);
                    let byte = u.cast_unsigned().to_le_bytes()[0].cast_signed();
                    q[position - block.start] = f32::from(input.levels[from + channel]);
                    high[position - block.start] = ((u - i32::from(byte)) / 256) as f32;
                    low[position - block.start] = f32::from(byte);
                }
            }
        });
        let matrix = |values: Vec<f32>| {
            let shape = (tile.len(), length);
            Array2::from_shape_vec(shape, values).unwrap_or_else(|_| unreachable!("as many values as were asked for"))
        };
        Tile { q: matrix(q), high: matrix(high), low: matrix(low) }
    }
}

impl Sums {
    fn new(length: usize) -> Self {
        let pairs = length * length;
        Self { q: vec![0; length], u: vec![0; length], qq: vec![0; pairs], uq: vec![0; pairs] }
    }

    /// Adds a tile.
    fn add(&mut self, tile: &Tile) {
        let length = self.q.len();
        for ((q, high), low) in tile.q.rows().into_iter().zip(tile.high.rows()).zip(tile.low.rows()) {
            for (i, ((q, high), low)) in q.iter().zip(high).zip(low).enumerate() {
                self.q[i] += *q as i64;
                self.u[i] += 256 * *high as i64 + *low as i64;
            }
        }
        let strips = self.qq.par_chunks_mut(STRIP * length).zip(self.uq.par_chunks_mut(STRIP * length));
        strips.enumerate().for_each(|(strip, (qq, uq))| {
            let first = strip * STRIP;
            let columns = s![.., first..first + qq.len() / length];
            let product = |a: &Array2<f32>, b: ArrayView2<'_, f32>| a.slice(columns).t().dot(&b);
            let own = product(&tile.q, tile.q.slice(s![.., first..]));
            for (to, from) in qq.chunks_exact_mut(length).zip(own.rows()) {
                to[first..].iter_mut().zip(from).for_each(|(to, &from)| *to += from as i64);
            }
            let (high, low) = (product(&tile.high, tile.q.view()), product(&tile.low, tile.q.view()));
            for ((to, high), low) in uq.chunks_exact_mut(length).zip(high.rows()).zip(low.rows()) {
                to.iter_mut().zip(high).zip(low).for_each(|((to, &high), &low)| *to += 256 * high as i64 + low as i64);
            }
        });
        // The strips compute a little below their diagonal.
        for (i, row) in self.qq.chunks_exact_mut(length).enumerate() {
            row[..i].fill(0);
        }
    }

    /// Values of a patch.
    pub(super) fn len(&self) -> usize {
        self.q.len()
    }

    /// H, the covariance of q: `(n·Σ q_i·q_j − Σq_i·Σq_j)/n²`, in i128 and then f64.
    pub(super) fn covariance(&self, patches: u64, i: usize, j: usize) -> f64 {
        let square = patches as f64 * patches as f64;
        self.centred(patches, i, j) as f64 / square
    }

    /// `C/64 − H`, C being the covariance of u and q: how much further the float network's value i
    /// moves with level j than level i does.
    pub(super) fn difference(&self, patches: u64, i: usize, j: usize) -> f64 {
        let product = i128::from(patches) * i128::from(self.uq[i * self.len() + j]);
        let float = product - i128::from(self.u[i]) * i128::from(self.q[j]);
        let square = patches as f64 * patches as f64;
        (float - i128::from(STEPS) * self.centred(patches, i, j)) as f64 / (STEPS as f64 * square)
    }

    fn centred(&self, patches: u64, i: usize, j: usize) -> i128 {
        let pair = self.qq[i.min(j) * self.len() + i.max(j)];
        i128::from(patches) * i128::from(pair) - i128::from(self.q[i]) * i128::from(self.q[j])
    }
}
