//! The patches that a layer reads of both networks as a [`Matrix`] of bytes.
//!
//! A patch is what one output pixel reads, all channels of it, in the order of the kernel's weights
//! (channel, row, column). q are its levels in the quantized network, int8, NHWC; u is the float
//! network's value in steps of 1/64 of the scale,
//!
//! `u = round(64·x/scale)`, half to even, limited to −32768 … 32639,
//!
//! x being f32, NHWC. Outside the image q is the zero point and u is 0; past the last patch, up to a
//! whole step of the matrix, both are 0 and add nothing to any sum. NaN gives 0, infinities a limit:
//! whoever sums looks for them first ([`Range`](crate::kernels::statistics::range::Range)).

use std::ops::Range;

use bytemuck::cast_slice;
use rayon::prelude::*;

use super::layout::{Matrix, Patches};
use super::steps::{divided, significand, steps_of};
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, compiled_for_tiers, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, check_zero_point, outcome, packed_pixels};
use crate::model::Shape;
use crate::{Error, Result};

/// `gather_patches.wgsl`.
pub(crate) static SHADER: Shader = shader!("gather_patches");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Input rows.
    height: u32,
    /// Input columns.
    width: u32,
    /// Input channels.
    channels: u32,
    /// Input channels in fours.
    quads: u32,
    /// Kernel columns.
    kernel_width: u32,
    /// Taps of the kernel.
    taps: u32,
    /// Patches of an image.
    places: u32,
    /// The first patch of the batch.
    first: u32,
    /// The end of the patches.
    end: u32,
    /// Words of a row that are written.
    words: u32,
    /// Words from row to row.
    stride: u32,
    /// Words from plane to plane.
    plane: u32,
    /// The zero point in all four bytes.
    zero_word: u32,
    /// The significand of the scale, 24 bits.
    divisor: u32,
    /// The biased exponent of the scale less 6.
    exponent: i32,
    /// Fills the struct to 64 bytes.
    unused: u32,
}

/// Gathers patches of a batch.
#[derive(Debug)]
pub struct GatherPatches<'a> {
    /// Which ones of an image.
    pub patches: &'a Patches,
    /// Images of the batch.
    pub images: usize,
    /// Which ones of the batch's, image by image.
    pub range: Range<usize>,
    /// Zero point of the levels.
    pub zero_point: i32,
    /// Scale of the levels.
    pub scale: f32,
    /// The quantized network's input of the layer, packed int8.
    pub q: &'a Buffer,
    /// The float network's, f32.
    pub x: &'a Buffer,
    /// Where the patches lie from the first column on, and zeros behind them.
    pub y: Matrix<'a>,
}

impl GatherPatches<'_> {
    /// Fours of channels of the batch's input.
    fn quads(&self) -> usize {
        self.images.saturating_mul(self.patches.x.pixels()).saturating_mul(self.patches.x.channels.div_ceil(4))
    }

    /// Words of a row that are written.
    fn words(&self) -> usize {
        Matrix::stride(self.range.len())
    }
}

impl Kernel for GatherPatches<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        check_zero_point(self.zero_point)?;
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return Err(Error::device(format!("scale {}", self.scale)));
        }
        if self.range.end > self.patches.count(self.images) || self.y.rows != self.patches.rows() {
            return Err(Error::device(format!(
                "patches {:?} of {} images as {} rows",
                self.range, self.images, self.y.rows
            )));
        }
        self.y.check(self.range.len())
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![
            self.patches.bound(),
            Bound::read("levels", self.q, self.quads()),
            Bound::read("x", self.x, self.quads().saturating_mul(4)),
            Bound::write("y", self.y.words, Matrix::len(self.y.rows, self.y.stride)),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let Patches { x, kernel, places, .. } = *self.patches;
        let (divisor, exponent) = significand(self.scale);
        let quads = x.channels.div_ceil(4);
        let params = Params {
            height: x.height as u32,
            width: x.width as u32,
            channels: x.channels as u32,
            quads: quads as u32,
            kernel_width: kernel[1] as u32,
            taps: self.patches.taps() as u32,
            places: places as u32,
            first: self.range.start as u32,
            end: self.range.end as u32,
            words: self.words() as u32,
            stride: self.y.stride as u32,
            plane: self.y.plane() as u32,
            zero_word: u32::from_le_bytes([self.zero_point as u8; 4]),
            divisor,
            exponent: exponent - 6,
            unused: 0,
        };
        Dispatch::of(&SHADER, quads * self.patches.taps() * self.words(), params).into_iter()
    }

    fn native(&self, tier: Tier) -> Result<()> {
        let (corners, q, x) = (self.patches.host(), self.q.host(), self.x.host());
        let Patches { x: shape, kernel, places, .. } = *self.patches;
        let input = Input {
            shape,
            kernel,
            places,
            corners: &corners,
            range: self.range.clone(),
            zero_point: self.zero_point as i8,
            scale: self.scale,
            q: cast_slice(&q[..self.quads()]),
            x: cast_slice(&x[..4 * self.quads()]),
        };
        let mut y = self.y.words.host_mut();
        native(tier, &input, self.y.stride, self.words(), &mut y[..Matrix::len(self.y.rows, self.y.stride)]);
        Ok(())
    }
}

/// What is gathered on the Cpu device.
struct Input<'a> {
    shape: Shape,
    kernel: [usize; 2],
    /// Patches of an image.
    places: usize,
    corners: &'a [u32],
    range: Range<usize>,
    zero_point: i8,
    scale: f32,
    q: &'a [i8],
    x: &'a [f32],
}

/// Channels of a task.
const CHANNELS: usize = 16;

/// Patches that are gathered before their bytes go to the matrix: a cache line of each row.
const LINE: usize = 64;

/// In parallel over channels, a line of patches at a time.
fn native(tier: Tier, input: &Input<'_>, stride: usize, words: usize, y: &mut [u32]) {
    let taps = input.kernel[0] * input.kernel[1];
    let (q, bytes) = y.split_at_mut(y.len() / 3);
    let (high, low) = bytes.split_at_mut(bytes.len() / 2);
    let rows = CHANNELS * taps * stride;
    let tasks = q.par_chunks_mut(rows).zip(high.par_chunks_mut(rows)).zip(low.par_chunks_mut(rows));
    tasks.enumerate().for_each(|(task, ((q, high), low))| {
        let mut planes = [q, high, low].map(bytemuck::cast_slice_mut::<u32, u8>);
        let mut line = [[[0u8; LINE]; CHANNELS]; 3];
        for column in (0..4 * words).step_by(LINE) {
            for tap in 0..taps {
                compiled_line(tier, input, task * CHANNELS, column, tap, &mut line);
                for (plane, line) in planes.iter_mut().zip(&line) {
                    let channels = plane.len() / (4 * stride * taps);
                    for (channel, line) in line.iter().enumerate().take(channels) {
                        plane[4 * stride * (channel * taps + tap) + column..][..LINE].copy_from_slice(line);
                    }
                }
            }
        }
    });
}

compiled_for_tiers! {
    /// The bytes of up to [`CHANNELS`] channels at a tap of the patches from `column` on.
    fn compiled_line(
        input: &Input<'_>,
        first_channel: usize,
        column: usize,
        tap: usize,
        to: &mut [[[u8; LINE]; CHANNELS]; 3],
    ) = line;
}

#[inline(always)]
fn line(input: &Input<'_>, first_channel: usize, column: usize, tap: usize, to: &mut [[[u8; LINE]; CHANNELS]; 3]) {
    let &Input { shape, kernel, places, corners, ref range, zero_point, scale, q, x } = input;
    let padded = shape.padded_channels();
    let count = CHANNELS.min(padded - first_channel);
    let (dy, dx) = (tap / kernel[1], tap % kernel[1]);
    // Patch by patch, then channel by channel.
    let mut bytes = [[[0u8; CHANNELS]; LINE]; 3];
    for patch in 0..LINE {
        let index = range.start + column + patch;
        if index >= range.end {
            break;
        }
        let corner = &corners[2 * (index % places)..];
        let row = corner[0].wrapping_add(dy as u32) as usize;
        let column = corner[1].wrapping_add(dx as u32) as usize;
        let [levels, high, low] = &mut bytes;
        if row >= shape.height || column >= shape.width {
            levels[patch].fill(zero_point.cast_unsigned());
            continue;
        }
        let pixel = (index / places * shape.height + row) * shape.width + column;
        let at = pixel * padded + first_channel;
        levels[patch][..count].copy_from_slice(cast_slice(&q[at..at + count]));
        let mut values = [0f32; CHANNELS];
        values[..count].copy_from_slice(&x[at..at + count]);
        let steps = values.map(|x| steps_of(x, scale));
        low[patch] = steps.map(|u| u as u8);
        high[patch] = steps.map(|u| ((u - i16::from(u as i8)) >> 8) as u8);
    }
    for (to, bytes) in to.iter_mut().zip(&bytes) {
        for (block, patches) in bytes.as_chunks::<8>().0.iter().enumerate() {
            for half in 0..CHANNELS / 8 {
                let rows = patches.map(|row| row.as_chunks().0[half]);
                for (channel, row) in transposed(rows).into_iter().enumerate() {
                    to[8 * half + channel][8 * block..][..8].copy_from_slice(&row);
                }
            }
        }
    }
}

/// Eight rows of bytes as columns: halves, quarters and eighths of pairs of rows change places.
#[inline(always)]
fn transposed(rows: [[u8; 8]; 8]) -> [[u8; 8]; 8] {
    let mut words = rows.map(u64::from_le_bytes);
    for (step, mask) in [(4, 0xFFFF_FFFF), (2, 0x0000_FFFF_0000_FFFF), (1, 0x00FF_00FF_00FF_00FF)] {
        for first in (0..8).filter(|row| row & step == 0) {
            let change = ((words[first] >> (8 * step)) ^ words[first + step]) & mask;
            words[first] ^= change << (8 * step);
            words[first + step] ^= change;
        }
    }
    words.map(u64::to_le_bytes)
}

/// What a layer reads, and of which images.
struct Case {
    images: usize,
    shape: Shape,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    zero_point: i32,
    scale: f32,
}

impl Case {
    /// The output pixels whose patches are gathered: not all, and not in order.
    fn places(&self) -> Vec<[usize; 2]> {
        let side =
            |side: usize, axis: usize| (side + 2 * self.padding[axis] - self.kernel[axis]) / self.stride[axis] + 1;
        let (height, width) = (side(self.shape.height, 0), side(self.shape.width, 1));
        (0..height * width).rev().filter(|i| i % 5 != 3).map(|i| [i / width, i % width]).collect()
    }

    /// The twin: q and u at a row of the matrix and a place of an image.
    fn reference(&self, row: usize, image: usize, place: [usize; 2], q: &[i8], x: &[f32]) -> (i8, i16) {
        let taps = self.kernel[0] * self.kernel[1];
        let (channel, tap) = (row / taps, row % taps);
        let at = |axis: usize, step: usize, side: usize| {
            let at = (place[axis] * self.stride[axis] + step).checked_sub(self.padding[axis]);
            at.filter(|at| *at < side)
        };
        let pixel = at(0, tap / self.kernel[1], self.shape.height).zip(at(1, tap % self.kernel[1], self.shape.width));
        let Some((row, column)) = pixel else { return (self.zero_point as i8, 0) };
        let pixel = (image * self.shape.height + row) * self.shape.width + column;
        let at = pixel * self.shape.padded_channels() + channel;
        (q[at], divided(x[at], self.scale))
    }

    /// Values up to four times the limit, most of them near a half step, and what is no number.
    fn values(&self, random: &mut Random) -> Vec<f32> {
        let value = |random: &mut Random| match random.integer(0, 19) {
            0 => 0.0,
            1 => f32::INFINITY,
            2 => f32::NEG_INFINITY,
            3 => f32::NAN,
            4 => f32::from_bits(random.integer(1, 1 << 24) as u32),
            5 => -f32::MAX,
            6..=9 => random.float() * 2048.0 * self.scale,
            _ => {
                let most = 1 << random.integer(1, 17);
                let steps = random.integer(-most, most) as f64 + 0.5;
                let near = (steps * f64::from(self.scale) / 64.0) as f32;
                f32::from_bits(near.to_bits().wrapping_add_signed(random.integer(-1, 1) as i32))
            }
        };
        (0..self.images * self.shape.padded_len()).map(|_| value(random)).collect()
    }
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(31);
    let mut checks = Vec::new();
    for (images, shape, kernel, stride, padding, zero_point, scale) in [
        (1, Shape::new(1, 1, 1), [1, 1], [1, 1], [0, 0], 0, 1.0),
        (3, Shape::new(3, 9, 7), [3, 3], [1, 1], [1, 1], -128, 0.0117),
        (2, Shape::new(22, 6, 11), [5, 2], [2, 3], [2, 0], 17, 3.0e-5),
        (5, Shape::new(37, 1, 4), [1, 3], [1, 1], [0, 2], 127, 0.25),
        (70, Shape::new(18, 1, 1), [1, 1], [1, 1], [0, 0], -1, f32::from_bits(3)),
        (1, Shape::new(5, 20, 20), [1, 1], [2, 2], [0, 0], 3, 2.0e38),
    ] {
        let case = Case { images, shape, kernel, stride, padding, zero_point, scale };
        let places = case.places();
        let patches = Patches::new(device, shape, kernel, stride, padding, &places)?;
        let q = packed_pixels(images, shape, zero_point, || random.integer(-128, 127) as i8);
        let x = case.values(&mut random);
        let range = patches.count(images) / 7..patches.count(images) - patches.count(images) / 9;
        // More than one step, of which the last is left as it is.
        let (rows, words) = (patches.rows(), Matrix::stride(range.len()));
        let stride = words + Matrix::stride(1);
        let bits: Vec<u32> = x.iter().map(|x| x.to_bits()).collect();
        let (levels, floats) = (device.upload(cast_slice(&q), "levels")?, device.upload(&bits, "x")?);
        let got = outcome(device, Matrix::len(rows, stride), |rec, y| {
            let y = Matrix { words: y, rows, stride };
            let (patches, range) = (&patches, range.clone());
            rec.run(&GatherPatches { patches, images, range, zero_point, scale, q: &levels, x: &floats, y })
        })?;
        let mut expected = vec![[0u8; 3]; 4 * rows * words];
        for (i, bytes) in expected.iter_mut().enumerate() {
            let (row, patch) = (i / (4 * words), range.start + i % (4 * words));
            if patch < range.end {
                let (image, place) = (patch / places.len(), places[patch % places.len()]);
                let (q, u) = case.reference(row, image, place, &q, &x);
                let low = u as i8;
                *bytes = [q, ((i32::from(u) - i32::from(low)) / 256) as i8, low].map(i8::cast_unsigned);
            }
        }
        let bytes: &[u8] = cast_slice(&got);
        let got = bytes.chunks_exact(4 * stride).map(|row| &row[..4 * words]).collect::<Vec<_>>().concat();
        let expected = (0..3).flat_map(|plane| expected.iter().map(move |bytes| bytes[plane]));
        let case = format!("{images} of {shape}, {kernel:?}, scale {scale:e}");
        checks.push(Check::exact(case, &expected.collect::<Vec<_>>(), &got));
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let rows: [[u8; 8]; 8] = std::array::from_fn(|row| std::array::from_fn(|column| (8 * row + column) as u8));
        let columns = transposed(rows);
        assert!((0..64).all(|i| columns[i % 8][i / 8] == rows[i / 8][i % 8]));
    }
}
