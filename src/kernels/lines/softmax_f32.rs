//! Softmax along an axis in f32: `y = e^(x − m) / Σ e^(x − m)`, m the largest value of the line.
//!
//! NHWC with channels in fours, padded channels 0. The sum is taken in runs, see [`sum_in_runs`]: of
//! thousands of classes one is 1 and the others next to nothing.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, Lines, additions, lines_of, outcome, random_activation, sum_in_runs};
use crate::kernels::cpu::exp::exp;
use crate::model::{Axis, Shape};

/// `softmax_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("softmax_f32", "lines");

/// Parameters of the shader.
pub(crate) type Params = Lines;

/// Softmax along an axis.
pub(crate) struct SoftmaxF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// Shape of one image's activation.
    pub(crate) shape: Shape,
    /// The axis.
    pub(crate) axis: Axis,
    /// f32.
    pub(crate) x: &'a Buffer,
    /// f32.
    pub(crate) y: &'a Buffer,
}

impl SoftmaxF32<'_> {
    fn words(&self) -> usize {
        self.images * self.shape.padded_len()
    }

    fn params(&self) -> Params {
        Lines::new(self.images, self.shape, self.axis)
    }
}

impl Kernel for SoftmaxF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![Bound::read("x", self.x, self.words()), Bound::write("y", self.y, self.words())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let params = self.params();
        Dispatch::of(&SHADER, params.total as usize, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y, words) = (self.x.host(), self.y.host_mut(), self.words());
        native(&self.params(), cast_slice(&x[..words]), cast_slice_mut(&mut y[..words]));
        Ok(())
    }
}

/// Group by group of lines, in parallel.
fn native(p: &Lines, x: &[f32], y: &mut [f32]) {
    x.par_chunks_exact(p.group()).zip(y.par_chunks_exact_mut(p.group())).for_each(|(x, y)| {
        y.fill(0.0);
        for first in p.begins() {
            let line = p.places(first);
            // Comparisons and not `max`: NaN stays, through the sum.
            let largest = line.clone().fold(f32::NEG_INFINITY, |m, at| if x[at] > m { x[at] } else { m });
            line.clone().for_each(|at| y[at] = exp(x[at] - largest));
            let sum = sum_in_runs(line.clone().map(|at| y[at]));
            line.for_each(|at| y[at] /= sum);
        }
    });
}

/// The twin, in f64.
pub(crate) fn reference(images: usize, shape: Shape, axis: Axis, x: &[f32]) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for (places, line) in lines_of(images, shape, axis.into(), x) {
        let largest = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = line.iter().map(|v| (v - largest).exp()).sum();
        for (at, v) in places.into_iter().zip(line) {
            y[at] = (v - largest).exp() / sum;
        }
    }
    y
}

/// Compares with the twin. With `d = m − x`, WGSL allows e^(−d) an error of 3 + 2·d units in the
/// last place, the rounded difference adds d/2, a sum of n additions n/2 and the error of its largest
/// (small d: the others count little), the division 2.5: at most `2.5·d + n + 16`.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(27);
    let mut checks = Vec::new();
    let shapes = [[7, 3, 5], [16, 4, 6], [1, 1, 1], [5, 9, 1], [1001, 1, 2]];
    for (i, [channels, height, width]) in shapes.into_iter().enumerate() {
        let shape = Shape::new(channels, height, width);
        for axis in [Axis::Channels, Axis::Height, Axis::Width] {
            let images = [1, 3][i % 2];
            let x: Vec<f32> = random_activation(&mut random, images, shape).iter().map(|v| 20.0 * v).collect();
            let words = device.upload(cast_slice(&x), "x")?;
            let got = outcome(device, x.len(), |rec, y| rec.run(&SoftmaxF32 { images, shape, axis, x: &words, y }))?;
            let expected = reference(images, shape, axis, &x);
            // d is at most the span of all values.
            let span = 2.0 * x.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
            let units = 2.5 * span + additions(axis.of(shape)) + 16.0;
            let bound = |y: &f64| {
                if *y == 0.0 { 0.0 } else { units * f64::from(f32::EPSILON) * y + f64::from(f32::MIN_POSITIVE) }
            };
            let bounds: Vec<f64> = expected.iter().map(bound).collect();
            let name = format!("{images}×{shape} along {axis}");
            checks.push(Check::close(name, &expected, &bounds, cast_slice(&got)));
        }
    }
    Ok(checks)
}
