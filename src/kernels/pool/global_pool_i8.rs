//! Global pooling in integers: the mean, `acc = Σ(q − z_x)` over an image's pixels,
//! `q_y = clamp(z_y + ((acc·M + 2^(n−1)) >> n))` with `M·2^(−n) ≈ s_x / (s_y·H·W)`; or the largest
//! level, which is that of the largest value and is passed on as it is.
//!
//! Packed int8, NHWC; the output is one word for each image and four channels.

use rayon::prelude::*;

use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{
    Check, OutputLevels, check_right_shift, check_zero_point, compare, outcome, packed_pixels, requantize,
};
use crate::model::{Multiplier, Shape};
use crate::{Error, Result};

/// `global_pool_i8.wgsl`.
pub(crate) static SHADER: Shader = shader!("global_pool_i8");

/// Pixels whose sum of `q − z`, at most 255 each, is below 2^31.
const MOST_PIXELS: usize = 1 << 23;

/// What is taken of the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Their mean, with `s_x / (s_y·H·W)`.
    Mean(Multiplier),
    /// The largest level; the output's levels are the input's.
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
    /// The input's zero point times the pixels.
    zero_sum: i32,
    /// `M`.
    multiplier: i32,
    /// `n`.
    right_shift: u32,
    /// The output's zero point.
    zero_point: i32,
    /// Its lowest level.
    low: i32,
    /// Its highest level.
    high: i32,
    /// 0 the mean, 1 the largest.
    kind: u32,
    /// Fills the struct to 48 bytes.
    unused: [u32; 2],
}

/// The mean or the largest of each image's pixels, in levels.
pub struct GlobalPoolI8<'a> {
    /// Images in the batch.
    pub images: usize,
    /// Shape of one image's activation.
    pub x_shape: Shape,
    /// The input's level of real 0.
    pub x_zero_point: i32,
    /// What becomes of its pixels.
    pub of: Of,
    /// The output's levels.
    pub levels: OutputLevels,
    /// Packed int8.
    pub x: &'a Buffer,
    /// Packed int8, one pixel for each image.
    pub y: &'a Buffer,
}

impl GlobalPoolI8<'_> {
    fn y_words(&self) -> usize {
        self.images * self.x_shape.padded_channels() / 4
    }

    fn params(&self) -> Params {
        let multiplier = match self.of {
            Of::Mean(multiplier) => multiplier,
            Of::Largest => Multiplier { multiplier: 0, right_shift: 1 },
        };
        Params {
            images: self.images as u32,
            pixels: self.x_shape.pixels() as u32,
            quads: (self.x_shape.padded_channels() / 4) as u32,
            zero_sum: self.x_zero_point * self.x_shape.pixels() as i32,
            multiplier: multiplier.multiplier,
            right_shift: u32::from(multiplier.right_shift),
            zero_point: self.levels.zero_point,
            low: self.levels.low,
            high: self.levels.high,
            kind: u32::from(self.of == Of::Largest),
            unused: [0; 2],
        }
    }
}

impl Kernel for GlobalPoolI8<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        let pixels = self.x_shape.pixels();
        if pixels > MOST_PIXELS {
            return Err(Error::bad(format!("pooling over {pixels} pixels; at most {MOST_PIXELS} fit the 32-bit sum")));
        }
        self.levels.check()?;
        check_zero_point(self.x_zero_point)?;
        match self.of {
            Of::Mean(multiplier) => check_right_shift(multiplier.right_shift),
            Of::Largest if pixels == 0 => Err(Error::bad("the largest of nothing")),
            Of::Largest => Ok(()),
        }
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        let x_words = self.x_shape.pixels() * self.y_words();
        vec![Bound::read("x", self.x, x_words), Bound::write("y", self.y, self.y_words())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        Dispatch::of(&SHADER, self.y_words(), self.params()).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y) = (self.x.host(), self.y.host_mut());
        let x: &[i8] = bytemuck::cast_slice(&x[..self.x_shape.pixels() * self.y_words()]);
        let y = bytemuck::cast_slice_mut(&mut y[..self.y_words()]);
        match self.of {
            Of::Mean(_) => mean(&self.params(), &self.levels, x, y),
            Of::Largest => largest(&self.params(), x, y),
        }
        Ok(())
    }
}

/// Row by row, in parallel over images.
fn mean(p: &Params, output: &OutputLevels, x: &[i8], y: &mut [i8]) {
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

/// As [`mean`].
fn largest(p: &Params, x: &[i8], y: &mut [i8]) {
    let channels = 4 * p.quads as usize;
    y.par_chunks_mut(channels).zip(x.par_chunks(p.pixels as usize * channels)).for_each(|(y, x)| {
        y.fill(i8::MIN);
        for pixel in x.chunks_exact(channels) {
            for (y, q) in y.iter_mut().zip(pixel) {
                *y = (*y).max(*q);
            }
        }
    });
}

/// The twin of the largest: levels of every image and padded channel.
pub(crate) fn reference_largest(images: usize, x_shape: Shape, x: &[i8]) -> Vec<i8> {
    let (pixels, channels) = (x_shape.pixels(), x_shape.padded_channels());
    let levels = |at: usize| (0..pixels).map(move |p| x[(at / channels * pixels + p) * channels + at % channels]);
    (0..images * channels).filter_map(|at| levels(at).max()).collect()
}

/// The twin of the mean: levels of every image and padded channel.
pub(crate) fn reference(
    images: usize,
    x_shape: Shape,
    x_zero_point: i32,
    multiplier: Multiplier,
    output: &OutputLevels,
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

/// Compares with the twins, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
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
            let levels = [
                OutputLevels { zero_point: 0, low: -127, high: 127 },
                OutputLevels { zero_point: -128, low: -128, high: 127 },
                OutputLevels { zero_point: 5, low: 5, high: 127 },
            ][random.integer(0, 2) as usize];
            let expected = reference(images, shape, x_zero_point, multiplier, &levels, &x);
            let largest = reference_largest(images, shape, &x);
            let x = device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(&x), "x")?;
            let run = |of: Of| {
                outcome(device, expected.len() / 4, |rec, y| {
                    rec.run(&GlobalPoolI8 { images, x_shape: shape, x_zero_point, of, levels, x: &x, y })
                })
            };
            let name = format!("{images}×{shape}, zero point {x_zero_point}, shift {n}");
            checks.push(compare(name, &expected, &run(Of::Mean(multiplier))?));
            checks.push(compare(format!("largest of {images}×{shape}"), &largest, &run(Of::Largest)?));
        }
    }
    Ok(checks)
}
