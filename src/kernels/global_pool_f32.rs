//! Global average pooling in f32: `y[n, c] = f · Σ x[n, p, c]` over the pixels p, `f = 1 / pixels` rounded once.
//!
//! NHWC with channels in fours, padded channels 0. Every device adds the pixels in their order, so a result does not
//! depend on the batch. A multiplication, because WGSL's division may be wrong by 2.5 units in the last place.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::conv_cases::activation;
use super::{Check, Random};
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::model::Shape;

/// What the host knows of `global_pool_f32.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "global_pool_f32",
    source: include_str!("../../shaders/global_pool_f32.wgsl"),
    bindings: &[Binding::Params, Binding::Read, Binding::ReadWrite],
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

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
    /// 1 / pixels.
    pub factor: f32,
}

/// Records `y = mean(x)` for `images` activations of shape `x_shape`; y has `padded_channels` words an image.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If a buffer is too small for these sizes: an error of the caller, not of the input.
pub fn dispatch(rec: &mut Recorder<'_>, images: usize, x_shape: Shape, x: &Buffer, y: &Buffer) -> Result<()> {
    let (pixels, channels) = (x_shape.pixels(), x_shape.padded_channels());
    assert!(x.len() >= images * pixels * channels && y.len() >= images * channels, "global_pool_f32: buffer sizes");
    assert!(pixels > 0, "global_pool_f32: the mean of nothing");
    let factor = (1.0 / pixels as f64) as f32;
    if rec.is_native() {
        let (x, mut y) = (x.host(), y.host_mut());
        native(pixels, channels, factor, cast_slice(&x), cast_slice_mut(&mut y[..images * channels]));
        return Ok(());
    }
    let quads = channels / 4;
    let params = Params { images: images as u32, pixels: pixels as u32, quads: quads as u32, factor };
    rec.run(&SPEC, &params, &[x, y], groups_for(images * quads, SPEC.workgroup_size[0]))
}

/// All channels of an image at once; parallel over images.
fn native(pixels: usize, channels: usize, factor: f32, x: &[f32], y: &mut [f32]) {
    x.par_chunks_exact(pixels * channels).zip(y.par_chunks_exact_mut(channels)).for_each(|(x, y)| {
        y.fill(0.0);
        for x in x.chunks_exact(channels) {
            for (y, x) in y.iter_mut().zip(x) {
                *y += x;
            }
        }
        for y in y {
            *y *= factor;
        }
    });
}

/// The twin: for each output its value in f64 and the mean of `|x|`.
pub fn reference(images: usize, x_shape: Shape, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let (pixels, channels) = (x_shape.pixels(), x_shape.padded_channels());
    let mean = |at: usize, of: fn(f64) -> f64| {
        let (image, c) = (at / channels, at % channels);
        (0..pixels).map(|p| of(f64::from(x[(image * pixels + p) * channels + c]))).sum::<f64>() / pixels as f64
    };
    (0..images * channels).map(|at| (mean(at, |v| v), mean(at, f64::abs))).unzip()
}

/// Compares with the twin. Each value is rounded in at most `pixels − 1` additions (the first is to 0), once by the
/// factor's own rounding and once in the product: `|error| ≤ γ · mean|x|`, γ for `pixels + 1` roundings, at most
/// `(pixels + 2) · 2^−24` (as in `conv_cases`), and what may be flushed to 0. Each image of a batch is also compared with
/// the same image alone, to the bit.
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(4);
    let mut checks = Vec::new();
    for (images, shape) in [
        (1, Shape::new(1, 1, 1)),
        (3, Shape::new(3, 2, 1)),
        (3, Shape::new(7, 5, 3)),
        (1, Shape::new(64, 7, 7)),
        (3, Shape::new(130, 9, 8)),
    ] {
        let (n, x_image) = (shape.padded_channels(), shape.pixels() * shape.padded_channels());
        let x = activation(&mut random, images, shape);
        let run = |images: usize, x: &[f32]| -> Result<Vec<u32>> {
            let y = device.upload(&vec![f32::NAN.to_bits(); images * n], "y")?;
            let mut rec = device.recorder();
            dispatch(&mut rec, images, shape, &device.upload(cast_slice(x), "x")?, &y)?;
            rec.submit()?;
            device.read(&y, images * n)
        };
        let (expected, magnitudes) = reference(images, shape, &x);
        let terms = shape.pixels() as f64;
        let bound = |m: f64| (terms + 2.0) * f64::from(f32::EPSILON) / 2.0 * m + terms * f64::from(f32::MIN_POSITIVE);
        // Padded channels are exactly 0.
        let bounds: Vec<f64> = magnitudes.iter().map(|m| if *m == 0.0 { 0.0 } else { bound(*m) }).collect();
        let got = run(images, &x)?;
        checks.push(Check::close(format!("{images}×{shape}"), &expected, &bounds, cast_slice(&got)));
        let alone: Vec<u32> =
            x.chunks_exact(x_image).map(|x| run(1, x)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        checks.push(Check::exact(format!("{images}×{shape}: each image alone"), &alone, &got));
    }
    Ok(checks)
}
