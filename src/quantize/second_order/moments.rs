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
//! They are summed where the activations lie, by two kernels: [`GatherPatches`] lays patches out as a
//! matrix of bytes, [`SecondMoments`] multiplies it by its transpose and adds that to 64-bit sums on
//! the device, which are read when all batches are through.
//!
//! **Exact.** All are integers, so they depend neither on the batches nor on the order of the images
//! nor on threads, and sums over parts of a set add up to those over all of it; given the same levels
//! and floats they are the same on every device.
//!
//! **No overflow.** |q| ≤ 2^7 and |u| ≤ 2^15, so n patches sum to at most n·2^22; [`Summing::add`]
//! refuses more than 2^40 patches, whose sums stay below 2^62. Centred, n·Σ and products of two sums
//! stay below 2^103 in i128.

use std::ops::Range;

use rayon::prelude::*;

use super::places::places;
use crate::device::{Buffer, Device};
use crate::kernels::patches::gather_patches::GatherPatches;
use crate::kernels::patches::second_moments::{self, MOST_PATCHES, SecondMoments};
use crate::kernels::patches::{Matrix, Patches};
use crate::kernels::statistics::range;
use crate::kernels::statistics::{Extent, Row, State};
use crate::model::{QParams, Shape};
use crate::quantize::weights::Layer;
use crate::{Error, Result};

/// Steps of u in one of `s_x`.
pub(super) const STEPS: i64 = 64;

/// At most so many of a patch's values are held together: of longer patches the products of values
/// from different blocks are left out.
const LARGEST: usize = 2304;

/// At most so many bytes of sums for a layer, as far as blocks can keep it.
const BUDGET: usize = 256 << 20;

/// At most so many bytes of patches at once, if one step of a matrix does not take more.
const MATRIX: usize = 64 << 20;

/// More patches are not summed.
const MOST: u64 = 1 << 40;

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

/// A batch of a layer's input on the device, NHWC with the channels padded to a multiple of 4.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub images: usize,
    /// The quantized network's, packed int8.
    pub levels: &'a Buffer,
    /// The float network's, f32.
    pub float: &'a Buffer,
}

/// Sums over the patches of a layer that are being added up on a device.
pub(super) struct Summing<'d> {
    device: &'d Device,
    geometry: Geometry,
    /// How the levels are stored.
    params: QParams,
    /// Patches of each group so far.
    count: u64,
    patches: Patches,
    /// Room for some of a batch's patches, and words from row to row of it.
    matrix: Buffer,
    stride: usize,
    qq: Buffer,
    uq: Buffer,
    /// Σq and Σu of each value of a patch.
    rows: Buffer,
    /// What tells of values that are not finite.
    state: Buffer,
}

impl<'d> Summing<'d> {
    /// Of no patch yet, for batches of up to `max_images`.
    ///
    /// # Errors
    /// If the layer is too large to count, or the device has no memory left.
    pub(super) fn new(device: &'d Device, geometry: Geometry, params: QParams, max_images: usize) -> Result<Self> {
        let Geometry { x, kernel, groups, ref places, ref blocks, .. } = geometry;
        let patches = Patches::new(device, x, kernel, geometry.stride, geometry.padding, places)?;
        let rows = patches.rows();
        let step = Matrix::stride(1);
        let affordable = (MATRIX / 4 / Matrix::len(rows, step)).max(1) * step;
        let stride = Matrix::stride(patches.count(max_images).clamp(1, MOST_PATCHES)).min(affordable);
        let pairs = 2 * groups * second_moments::pairs(blocks);
        Ok(Self {
            device,
            params,
            count: 0,
            matrix: device.alloc(Matrix::len(rows, stride), "patches")?,
            stride,
            qq: device.alloc(pairs, "sums of products of levels")?,
            uq: device.alloc(pairs, "sums of products")?,
            rows: device.alloc(4 * rows, "sums")?,
            state: device.upload(bytemuck::cast_slice(&[State::EMPTY]), "states")?,
            patches,
            geometry,
        })
    }

    /// Adds the patches of a batch; it does not wait for the device.
    ///
    /// # Errors
    /// If there would be more patches than the sums are sure to hold, or the device failed.
    pub(super) fn add(&mut self, input: Input<'_>) -> Result<()> {
        let Input { images, levels, float } = input;
        let total = self.patches.count(images);
        if self.count + total as u64 > MOST {
            return Err(Error::bad(format!("more than {MOST} patches cannot be summed")));
        }
        self.count += total as u64;
        let Geometry { x, groups, ref blocks, .. } = self.geometry;
        let QParams { scale, zero_point, .. } = self.params;
        let mut rec = self.device.recorder();
        let row = Row { states: &self.state, index: 0 };
        rec.run(&range::Range { extent: Extent { images, shape: x }, x: float, row })?;
        let step = 4 * self.stride;
        for first in (0..total).step_by(step) {
            let range = first..total.min(first + step);
            let y = Matrix { words: &self.matrix, rows: self.patches.rows(), stride: self.stride };
            let (patches, count) = (&self.patches, range.len());
            rec.run(&GatherPatches { patches, images, range, zero_point, scale, q: levels, x: float, y })?;
            let (qq, uq, sums) = (&self.qq, &self.uq, &self.rows);
            rec.run(&SecondMoments { x: y, patches: count, groups, blocks, qq, uq, sums })?;
        }
        rec.submit()
    }

    /// The sums, read from the device.
    ///
    /// # Errors
    /// If a value of the float network was no finite number, or the device failed.
    pub(super) fn finish(self) -> Result<Moments> {
        let Self { device, geometry, count, matrix, qq, uq, rows, state, .. } = self;
        drop(matrix);
        let state = read(device, &state)?;
        if bytemuck::pod_read_unaligned::<State>(bytemuck::cast_slice(&state)).bad_image != State::EMPTY.bad_image {
            return Err(Error::bad("an activation that it reads is NaN or infinite"));
        }
        let lengths = || (0..geometry.groups).flat_map(|_| &geometry.blocks).map(Range::len);
        let mut parts: Vec<Sums> = Vec::new();
        let rows = sums(&read(device, &rows)?);
        let mut rest = rows.as_slice();
        for length in lengths() {
            let (own, after) = rest.split_at(2 * length);
            rest = after;
            let every = |first: usize| own.iter().skip(first).step_by(2).copied().collect();
            parts.push(Sums { q: every(0), u: every(1), qq: Vec::new(), uq: Vec::new() });
        }
        let of: [fn(&mut Sums) -> &mut Vec<i64>; 2] = [|part| &mut part.qq, |part| &mut part.uq];
        for (products, of) in [qq, uq].into_iter().zip(of) {
            let words = read(device, &products)?;
            drop(products);
            let mut rest = words.as_slice();
            for (part, length) in parts.iter_mut().zip(lengths()) {
                let (own, after) = rest.split_at(2 * length * length);
                rest = after;
                *of(part) = sums(own);
            }
        }
        Ok(Moments { patches: count, parts, geometry })
    }
}

/// All words of a buffer.
fn read(device: &Device, buffer: &Buffer) -> Result<Vec<u32>> {
    pollster::block_on(device.read(buffer, buffer.len()))
}

/// Sums from their two words.
fn sums(words: &[u32]) -> Vec<i64> {
    words.par_chunks_exact(2).map(|half| (u64::from(half[0]) | u64::from(half[1]) << 32).cast_signed()).collect()
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
    /// How the layer reads its input.
    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
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

impl Sums {
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
