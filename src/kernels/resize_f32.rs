//! Bilinear resizing in f32: each pixel from the four that it lies between ([`Resize`]).
//!
//! NHWC with channels in fours. Which pixels, and with what shares, is computed on the host in f64 and rounded once.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::conv_cases::activation;
use super::{Check, Random};
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::model::{Coordinates, Resize, Shape};

/// What the host knows of `resize_f32.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "resize_f32",
    source: include_str!("../../shaders/resize_f32.wgsl"),
    bindings: &[Binding::Params, Binding::Read, Binding::Read, Binding::ReadWrite],
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Images in the batch.
    pub images: u32,
    /// Input rows and columns.
    pub x_sides: [u32; 2],
    /// Channels in fours.
    pub quads: u32,
    /// Output rows and columns.
    pub y_sides: [u32; 2],
    /// Fills the struct to 32 bytes.
    pub unused: [u32; 2],
}

/// Between which pixels each row and column lies, on a device.
#[derive(Debug)]
pub struct Taps {
    x_shape: Shape,
    size: [usize; 2],
    /// For each output row, then column: the two, and the share of the second as f32 bits.
    list: Buffer,
}

impl Taps {
    /// Computes them for inputs of shape `x_shape`.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn new(device: &Device, resize: &Resize, x_shape: Shape) -> Result<Self> {
        let along = |axis: usize, from: usize| {
            (0..resize.size[axis]).flat_map(move |i| {
                let (low, high, share) = resize.neighbours(axis, i, from);
                [low as u32, high as u32, (share as f32).to_bits()]
            })
        };
        let list: Vec<u32> = along(0, x_shape.height).chain(along(1, x_shape.width)).collect();
        Ok(Self { x_shape, size: resize.size, list: device.upload(&list, "shares of a resize")? })
    }
}

/// Records the resizing of `images` activations.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If a buffer is too short: an error of the caller.
pub fn dispatch(rec: &mut Recorder<'_>, images: usize, taps: &Taps, x: &Buffer, y: &Buffer) -> Result<()> {
    let (x_shape, [height, width]) = (taps.x_shape, taps.size);
    let channels = x_shape.padded_channels();
    let words = images * height * width * channels;
    assert!(x.len() >= images * x_shape.pixels() * channels && y.len() >= words, "resize_f32: buffer sizes");
    if rec.is_native() {
        let (x, list, mut y) = (x.host(), taps.list.host(), y.host_mut());
        native(taps, &list, cast_slice(&x), cast_slice_mut(&mut y[..words]));
        return Ok(());
    }
    let both = |sides: [usize; 2]| sides.map(|side| side as u32);
    let params = Params {
        images: images as u32,
        x_sides: both([x_shape.height, x_shape.width]),
        quads: channels as u32 / 4,
        y_sides: both(taps.size),
        unused: [0; 2],
    };
    rec.run(&SPEC, &params, &[x, &taps.list, y], groups_for(words / 4, SPEC.workgroup_size[0]))
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
pub fn reference(images: usize, x_shape: Shape, resize: &Resize, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
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

/// Compares with the twin: shares are rounded, and each of the four products three times more, so the error is at most 8
/// roundings of the magnitudes, half a unit each (of the largest, where a share is rounded).
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
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
            let x = activation(&mut random, images, x_shape);
            let (expected, magnitudes) = reference(images, x_shape, &resize, &x);
            let y = device.upload(&vec![f32::NAN.to_bits(); expected.len()], "y")?;
            let mut rec = device.recorder();
            let taps = Taps::new(device, &resize, x_shape)?;
            dispatch(&mut rec, images, &taps, &device.upload(cast_slice(&x), "x")?, &y)?;
            rec.submit()?;
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
            checks.push(Check::close(name, &expected, &bounds, cast_slice(&device.read(&y, y.len())?)));
        }
    }
    Ok(checks)
}
