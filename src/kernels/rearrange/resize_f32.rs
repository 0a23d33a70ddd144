//! Bilinear resizing in f32: each pixel from the four that it lies between ([`Resize`]).
//!
//! NHWC with channels in fours. Which pixels, and with what shares, is computed on the host in f64
//! and rounded once.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome, random_activation};
use crate::model::{Coordinates, Resize, Shape};
use crate::{Error, Result};

/// `resize_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("resize_f32");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Images in the batch.
    images: u32,
    /// Input rows and columns.
    x_sides: [u32; 2],
    /// Channels in fours.
    quads: u32,
    /// Output rows and columns.
    y_sides: [u32; 2],
    /// Fills the struct to 32 bytes.
    unused: [u32; 2],
}

/// Between which pixels each row and column lies, on a device.
#[derive(Debug)]
pub(crate) struct Taps {
    x_shape: Shape,
    size: [usize; 2],
    /// For each output row, then column: the two, and the share of the second as f32 bits.
    list: Buffer,
}

impl Taps {
    /// Computes them for inputs of shape `x_shape`.
    ///
    /// # Errors
    /// If a pixel would lie between others than the input's, or the device has no memory left.
    pub(crate) fn new(device: &Device, resize: &Resize, x_shape: Shape) -> Result<Self> {
        let mut list = Vec::with_capacity(3 * (resize.size[0] + resize.size[1]));
        for (axis, from) in [x_shape.height, x_shape.width].into_iter().enumerate() {
            for i in 0..resize.size[axis] {
                let (low, high, share) = resize.neighbours(axis, i, from);
                // What the shader relies on: it does not look again.
                if low.max(high) >= from {
                    return Err(Error::device(format!("a resize reads place {} of {from}", low.max(high))));
                }
                list.extend([low as u32, high as u32, (share as f32).to_bits()]);
            }
        }
        Ok(Self { x_shape, size: resize.size, list: device.upload(&list, "shares of a resize")? })
    }
}

/// Images resized bilinearly.
pub(crate) struct ResizeF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// Between which pixels each lies.
    pub(crate) taps: &'a Taps,
    /// f32.
    pub(crate) x: &'a Buffer,
    /// f32.
    pub(crate) y: &'a Buffer,
}

impl ResizeF32<'_> {
    fn y_words(&self) -> usize {
        self.images * self.taps.size[0] * self.taps.size[1] * self.taps.x_shape.padded_channels()
    }
}

impl Kernel for ResizeF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        let Taps { x_shape, list, .. } = self.taps;
        vec![
            Bound::read("x", self.x, self.images * x_shape.padded_len()),
            Bound::read("taps", list, list.len()),
            Bound::write("y", self.y, self.y_words()),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let Taps { x_shape, size, .. } = self.taps;
        let both = |sides: [usize; 2]| sides.map(|side| side as u32);
        let params = Params {
            images: self.images as u32,
            x_sides: both([x_shape.height, x_shape.width]),
            quads: x_shape.padded_channels() as u32 / 4,
            y_sides: both(*size),
            unused: [0; 2],
        };
        Dispatch::of(&SHADER, self.y_words() / 4, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, list, mut y) = (self.x.host(), self.taps.list.host(), self.y.host_mut());
        native(self.taps, &list, cast_slice(&x), cast_slice_mut(&mut y[..self.y_words()]));
        Ok(())
    }
}

/// Row by row of the output, in parallel.
fn native(taps: &Taps, list: &[u32], x: &[f32], y: &mut [f32]) {
    let (x_shape, [height, width]) = (taps.x_shape, taps.size);
    let channels = x_shape.padded_channels();
    let tap = |at: usize| (list[3 * at] as usize, list[3 * at + 1] as usize, f32::from_bits(list[3 * at + 2]));
    y.par_chunks_exact_mut(width * channels).enumerate().for_each(|(row, y)| {
        let (image, row) = (row / height, row % height);
        let (upper, lower, down) = tap(row);
        let line = |row: usize| &x[(image * x_shape.height + row) * x_shape.width * channels..];
        let (upper, lower) = (line(upper), line(lower));
        for (column, y) in y.chunks_exact_mut(channels).enumerate() {
            let (left, right, across) = tap(height + column);
            for (c, y) in y.iter_mut().enumerate() {
                let mixed =
                    |line: &[f32]| (1.0 - across) * line[left * channels + c] + across * line[right * channels + c];
                *y = (1.0 - down) * mixed(upper) + down * mixed(lower);
            }
        }
    });
}

/// The twin, in f64: each value, and the same of the magnitudes.
pub(crate) fn reference(images: usize, x_shape: Shape, resize: &Resize, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let ([height, width], channels) = (resize.size, x_shape.padded_channels());
    let (mut values, mut magnitudes) = (Vec::new(), Vec::new());
    for at in 0..images * height * width {
        let (image, row, column) = (at / (height * width), at / width % height, at % width);
        let (upper, lower, down) = resize.neighbours(0, row, x_shape.height);
        let (left, right, across) = resize.neighbours(1, column, x_shape.width);
        for c in 0..channels {
            let pixel =
                |r: usize, q: usize| f64::from(x[((image * x_shape.height + r) * x_shape.width + q) * channels + c]);
            let mix = |of: fn(f64) -> f64| {
                let line = |r: usize| (1.0 - across) * of(pixel(r, left)) + across * of(pixel(r, right));
                (1.0 - down) * line(upper) + down * line(lower)
            };
            values.push(mix(|v| v));
            magnitudes.push(mix(f64::abs));
        }
    }
    (values, magnitudes)
}

/// Compares with the twin: shares are rounded, and each of the four products three times more, so
/// the error is at most 8 roundings of the magnitudes, half a unit each (of the largest, where a
/// share is rounded).
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(26);
    let mut checks = Vec::new();
    let sizes = [([3, 4], [6, 8]), ([5, 5], [7, 3]), ([1, 6], [4, 1]), ([8, 8], [4, 4])];
    let coordinates =
        [Coordinates::HalfPixel, Coordinates::PytorchHalfPixel, Coordinates::AlignCorners, Coordinates::Asymmetric];
    for (i, ([height, width], size)) in sizes.into_iter().enumerate() {
        for coordinates in coordinates {
            let (images, x_shape) = ([1, 3][i % 2], Shape::new(3 + 4 * i, height, width));
            // Half a pixel more than the ratio of the sides, for some of them.
            let scaled = |axis: usize| (size[axis] as f32 + 0.5) / [height, width][axis] as f32;
            let scale = (i == 1).then(|| [scaled(0), scaled(1)]);
            let resize = Resize { size, coordinates, scale };
            let x = random_activation(&mut random, images, x_shape);
            let (expected, magnitudes) = reference(images, x_shape, &resize, &x);
            let (taps, words) = (Taps::new(device, &resize, x_shape)?, device.upload(cast_slice(&x), "x")?);
            let got =
                outcome(device, expected.len(), |rec, y| rec.run(&ResizeF32 { images, taps: &taps, x: &words, y }))?;
            let largest = magnitudes
                .iter()
                .copied()
                .fold(0.0, f64::max)
                .max(x.iter().fold(0.0, |m, v| m.max(f64::from(v.abs()))));
            let padded = x_shape.padded_channels();
            let bound = |(at, m): (usize, &f64)| {
                let real = at % padded < x_shape.channels;
                if real { (8.0 * m + 4.0 * largest) * f64::from(f32::EPSILON) / 2.0 } else { 0.0 }
            };
            let bounds: Vec<f64> = magnitudes.iter().enumerate().map(bound).collect();
            let name = format!("{images}×{x_shape} to {}×{}, {coordinates:?}", size[0], size[1]);
            checks.push(Check::close(name, &expected, &bounds, cast_slice(&got)));
        }
    }
    Ok(checks)
}
