//! Global average pooling in integers: `acc = Σ(q − z_x)` over an image's pixels,
//! `q_y = clamp(z_y + ((acc·M + 2^(n−1)) >> n))` with `M·2^(−n) ≈ s_x / (s_y·H·W)`.
//!
//! Packed int8, NHWC; the output is one word for each image and four channels.

use rayon::prelude::*;

use super::cases::{compare, packed_pixels};
use super::int8::Output;
use super::requantize::requantize;
use super::{Check, Random};
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::model::{Multiplier, Shape};
use crate::{Error, Result};

/// What the host knows of `global_pool_i8.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "global_pool_i8",
    source: include_str!("../../shaders/global_pool_i8.wgsl"),
    bindings: &[Binding::Params, Binding::Read, Binding::ReadWrite],
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Pixels whose sum of `q − z`, at most 255 each, is below 2^31.
const MOST_PIXELS: usize = 1 << 23;

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Images in the batch.
    pub images: u32,
    /// Pixels of an image.
    pub pixels: u32,
    /// Channels in fours.
    pub quads: u32,
    /// The input's zero point times the pixels.
    pub zero_sum: i32,
    /// `M`.
    pub multiplier: i32,
    /// `n`.
    pub right_shift: u32,
    /// The output's zero point.
    pub zero_point: i32,
    /// Its lowest level.
    pub low: i32,
    /// Its highest level.
    pub high: i32,
    /// Fills the struct to 48 bytes.
    pub unused: [u32; 3],
}

/// Records the pooling of `images` activations of shape `x_shape`.
///
/// # Errors
/// If an image has so many pixels that their sum may not fit in 32 bits, or the device failed.
///
/// # Panics
/// If a buffer is too short or a level or shift out of range: errors of the caller.
#[allow(clippy::too_many_arguments)] // each is one quantity of the formula
pub fn dispatch(
    rec: &mut Recorder<'_>,
    images: usize,
    x_shape: Shape,
    x_zero_point: i32,
    multiplier: Multiplier,
    output: &Output,
    x: &Buffer,
    y: &Buffer,
) -> Result<()> {
    let (pixels, quads) = (x_shape.pixels(), x_shape.padded_channels() / 4);
    if pixels > MOST_PIXELS {
        return Err(Error::bad(format!("pooling over {pixels} pixels; at most {MOST_PIXELS} fit the 32-bit sum")));
    }
    output.check("global_pool_i8");
    assert!((1..=62).contains(&multiplier.right_shift), "global_pool_i8: shift {}", multiplier.right_shift);
    assert!(x.len() >= images * pixels * quads && y.len() >= images * quads, "global_pool_i8: buffer sizes");
    let params = Params {
        images: images as u32,
        pixels: pixels as u32,
        quads: quads as u32,
        zero_sum: x_zero_point * pixels as i32,
        multiplier: multiplier.multiplier,
        right_shift: u32::from(multiplier.right_shift),
        zero_point: output.zero_point,
        low: output.low,
        high: output.high,
        unused: [0; 3],
    };
    if images * quads == 0 {
        return Ok(());
    }
    if rec.is_native() {
        let x = x.host();
        let x: &[i8] = bytemuck::cast_slice(&x[..images * pixels * quads]);
        native(&params, output, x, bytemuck::cast_slice_mut(&mut y.host_mut()[..images * quads]));
        return Ok(());
    }
    rec.run(&SPEC, &params, &[x, y], groups_for(images * quads, SPEC.workgroup_size[0]))
}

/// Row by row, in parallel over images.
fn native(p: &Params, output: &Output, x: &[i8], y: &mut [i8]) {
    let channels = 4 * p.quads as usize;
    y.par_chunks_mut(channels).enumerate().for_each(|(image, y)| {
        let image_len = p.pixels as usize * channels;
        let mut sums = vec![-p.zero_sum; channels];
        for pixel in x[image * image_len..][..image_len].chunks_exact(channels) {
            for (sum, q) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(*q);
            }
        }
        for (level, sum) in y.iter_mut().zip(&sums) {
            *level = output.level(requantize(*sum, p.multiplier, p.right_shift));
        }
    });
}

/// The twin: levels of every image and padded channel.
pub fn reference(
    images: usize,
    x_shape: Shape,
    x_zero_point: i32,
    multiplier: Multiplier,
    output: &Output,
    x: &[i8],
) -> Vec<i8> {
    let (pixels, channels) = (x_shape.pixels(), x_shape.padded_channels());
    let mut y = Vec::new();
    for image in 0..images {
        for c in 0..channels {
            let values = (0..pixels).map(|p| i128::from(x[(image * pixels + p) * channels + c]));
            let acc: i128 = values.map(|q| q - i128::from(x_zero_point)).sum();
            // To the nearest, ties upwards: floor(acc·M / 2^n + 1/2).
            let n = multiplier.right_shift;
            let steps = (2 * acc * i128::from(multiplier.multiplier) + (1 << n)).div_euclid(2 << n);
            let level = i128::from(output.zero_point) + steps;
            y.push(level.clamp(i128::from(output.low), i128::from(output.high)) as i8);
        }
    }
    y
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(5);
    let mut checks = Vec::new();
    let shapes = [[1, 1, 1], [3, 2, 2], [4, 1, 9], [6, 5, 3], [20, 7, 7], [33, 3, 8], [513, 1, 1], [5, 60, 70]];
    for (i, [channels, height, width]) in shapes.into_iter().enumerate() {
        for x_zero_point in [0, -128, 19] {
            let (images, shape) = ([1, 3][i % 2], Shape::new(channels, height, width));
            let x = packed_pixels(images, shape, x_zero_point, || random.integer(-128, 127) as i8);
            // One step of the input is 0.2 to 5 of the output's; a power of two makes ties.
            let factor = if i % 2 == 0 { 0.5 } else { 0.2 * 25f64.powf(random.integer(0, 99) as f64 / 100.0) };
            let factor = factor / (shape.pixels() as f64);
            let n = 30 - factor.log2().floor() as i32;
            let m = (factor * 2f64.powi(n)).round().min(f64::from(i32::MAX)) as i32;
            let multiplier = Multiplier { multiplier: m, right_shift: n as u8 };
            let output = [
                Output { zero_point: 0, low: -127, high: 127 },
                Output { zero_point: -128, low: -128, high: 127 },
                Output { zero_point: 5, low: 5, high: 127 },
            ][random.integer(0, 2) as usize];
            let y = device.alloc(images * shape.padded_channels() / 4, "y")?;
            let x_buffer = device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(&x), "x")?;
            let mut rec = device.recorder();
            dispatch(&mut rec, images, shape, x_zero_point, multiplier, &output, &x_buffer, &y)?;
            rec.submit()?;
            let expected = reference(images, shape, x_zero_point, multiplier, &output, &x);
            let name = format!("{images}×{shape}, zero point {x_zero_point}, shift {n}");
            checks.push(compare(name, &expected, &device.read(&y, y.len())?));
        }
    }
    Ok(checks)
}
