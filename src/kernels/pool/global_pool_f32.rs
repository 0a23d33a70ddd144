//! Global pooling in f32: the mean of an image's pixels p, `y[n, c] = f · Σ x[n, p, c]` with
//! `f = 1 / pixels` rounded once, or the largest of them.
//!
//! NHWC with channels in fours, padded channels 0. Every device adds the pixels in their order, so
//! a result does not depend on the batch. A multiplication, because WGSL's division may be wrong by
//! 2.5 units in the last place.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome, random_activation};
use crate::model::Shape;
use crate::{Error, Result};

/// `global_pool_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("global_pool_f32");

/// What is taken of the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Their mean.
    Mean,
    /// The largest; NaN where there is one and the device keeps it.
    Largest,
}

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Images in the batch.
    images: u32,
    /// Pixels of an image.
    pixels: u32,
    /// Channels in fours.
    quads: u32,
    /// 1 / pixels; 0 for the largest.
    factor: f32,
}

/// `y = mean(x)` or `max(x)` over the pixels of each image.
pub struct GlobalPoolF32<'a> {
    /// Images in the batch.
    pub images: usize,
    /// Shape of one image's activation.
    pub x_shape: Shape,
    /// What becomes of its pixels.
    pub of: Of,
    /// f32.
    pub x: &'a Buffer,
    /// f32, the padded channels of one pixel for each image.
    pub y: &'a Buffer,
}

impl GlobalPoolF32<'_> {
    fn y_words(&self) -> usize {
        self.images * self.x_shape.padded_channels()
    }

    /// `1 / pixels`, or 0 where the largest is asked for.
    fn factor(&self) -> f32 {
        match self.of {
            Of::Mean => (1.0 / self.x_shape.pixels() as f64) as f32,
            Of::Largest => 0.0,
        }
    }
}

impl Kernel for GlobalPoolF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        if self.x_shape.pixels() == 0 { Err(Error::device("pooling of nothing")) } else { Ok(()) }
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        let x_words = self.x_shape.pixels() * self.y_words();
        vec![Bound::read("x", self.x, x_words), Bound::write("y", self.y, self.y_words())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let params = Params {
            images: self.images as u32,
            pixels: self.x_shape.pixels() as u32,
            quads: (self.x_shape.padded_channels() / 4) as u32,
            factor: self.factor(),
        };
        Dispatch::of(&SHADER, self.y_words() / 4, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y) = (self.x.host(), self.y.host_mut());
        let (pixels, channels) = (self.x_shape.pixels(), self.x_shape.padded_channels());
        let (x, y) = (cast_slice(&x), cast_slice_mut(&mut y[..self.y_words()]));
        match self.of {
            Of::Mean => mean(pixels, channels, self.factor(), x, y),
            Of::Largest => largest(pixels, channels, x, y),
        }
        Ok(())
    }
}

/// All channels of an image at once; parallel over images.
fn mean(pixels: usize, channels: usize, factor: f32, x: &[f32], y: &mut [f32]) {
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

/// As [`mean`].
fn largest(pixels: usize, channels: usize, x: &[f32], y: &mut [f32]) {
    x.par_chunks_exact(pixels * channels).zip(y.par_chunks_exact_mut(channels)).for_each(|(x, y)| {
        y.copy_from_slice(&x[..channels]);
        for x in x.chunks_exact(channels) {
            for (y, x) in y.iter_mut().zip(x) {
                if *x > *y || x.is_nan() {
                    *y = *x;
                }
            }
        }
    });
}

/// The twin of a mean: for each output its value in f64 and the mean of `|x|`.
pub(crate) fn reference(images: usize, x_shape: Shape, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let (pixels, channels) = (x_shape.pixels(), x_shape.padded_channels());
    let mean = |at: usize, of: fn(f64) -> f64| {
        let (image, c) = (at / channels, at % channels);
        (0..pixels).map(|p| of(f64::from(x[(image * pixels + p) * channels + c]))).sum::<f64>() / pixels as f64
    };
    (0..images * channels).map(|at| (mean(at, |v| v), mean(at, f64::abs))).unzip()
}

/// The twin of the largest.
pub(crate) fn reference_largest(images: usize, x_shape: Shape, x: &[f32]) -> Vec<f32> {
    let (pixels, channels) = (x_shape.pixels(), x_shape.padded_channels());
    let values = |at: usize| (0..pixels).map(move |p| x[(at / channels * pixels + p) * channels + at % channels]);
    (0..images * channels).map(|at| values(at).fold(f32::NEG_INFINITY, f32::max)).collect()
}

/// Compares with the twins. Each mean is rounded in at most `pixels − 1` additions (the first is to
/// 0), once by the factor's own rounding and once in the product: `|error| ≤ γ · mean|x|`, γ for
/// `pixels + 1` roundings, at most `(pixels + 2) · 2^−24` (as in `conv/float/cases.rs`), and what
/// may be flushed to 0. Each image of a batch is also compared with the same image alone, to the
/// bit; and so are the largest with theirs.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(4);
    let mut checks = Vec::new();
    for (images, shape) in [
        (1, Shape::new(1, 1, 1)),
        (3, Shape::new(3, 2, 1)),
        (3, Shape::new(7, 5, 3)),
        (1, Shape::new(64, 7, 7)),
        (3, Shape::new(130, 9, 8)),
    ] {
        let (n, x_image) = (shape.padded_channels(), shape.padded_len());
        let x = random_activation(&mut random, images, shape);
        let run = |images: usize, x: &[f32], of: Of| -> Result<Vec<u32>> {
            let x = device.upload(cast_slice(x), "x")?;
            outcome(device, images * n, |rec, y| rec.run(&GlobalPoolF32 { images, x_shape: shape, of, x: &x, y }))
        };
        let (expected, magnitudes) = reference(images, shape, &x);
        let terms = shape.pixels() as f64;
        let bound = |m: f64| (terms + 2.0) * f64::from(f32::EPSILON) / 2.0 * m + terms * f64::from(f32::MIN_POSITIVE);
        // Padded channels are exactly 0.
        let bounds: Vec<f64> = magnitudes.iter().map(|m| if *m == 0.0 { 0.0 } else { bound(*m) }).collect();
        let got = run(images, &x, Of::Mean)?;
        checks.push(Check::close(format!("{images}×{shape}"), &expected, &bounds, cast_slice(&got)));
        let alone: Vec<u32> = x
            .chunks_exact(x_image)
            .map(|x| run(1, x, Of::Mean))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        checks.push(Check::exact(format!("{images}×{shape}: each image alone"), &alone, &got));
        // Below zero too: the largest of a channel may be negative.
        let x: Vec<f32> = x.iter().map(|x| if *x == 0.0 { 0.0 } else { x - 1.5 }).collect();
        let expected = reference_largest(images, shape, &x);
        let got = run(images, &x, Of::Largest)?;
        checks.push(Check::exact(format!("largest of {images}×{shape}"), cast_slice::<f32, u32>(&expected), &got));
    }
    Ok(checks)
}
