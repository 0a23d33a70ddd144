//! Softmax along an axis in f32: `y = e^(x − m) / Σ e^(x − m)`, m the largest value of the line.
//!
//! NHWC with channels in fours, padded channels 0. The sum is taken in the order of the line.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome, random_activation};
use crate::kernels::cpu::exp::exp;
use crate::model::{Axis, Shape};

/// `softmax_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("softmax_f32");

/// Parameters of the shader: line i begins at word `i / inner · outer_step + i % inner` (along
/// channels `inner` is 1).
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Lines of the batch, those of padded channels included.
    lines: u32,
    /// Lines that begin side by side.
    inner: u32,
    /// Values of a line.
    count: u32,
    /// Words between them.
    step: u32,
    /// Words from one group of lines to the next.
    outer_step: u32,
    /// Channels without padding.
    channels: u32,
    /// Channels with padding.
    padded: u32,
    /// Whether a line is a pixel's channels.
    along_channels: u32,
}

impl Params {
    fn new(images: usize, shape: Shape, axis: Axis) -> Self {
        let padded = shape.padded_channels();
        let row = shape.width * padded;
        let (groups, inner, step, outer_step) = match axis {
            Axis::Channels => (images * shape.pixels(), 1, 1, padded),
            Axis::Height => (images, row, row, shape.height * row),
            Axis::Width => (images * shape.height, padded, padded, row),
        };
        Self {
            lines: (groups * inner) as u32,
            inner: inner as u32,
            count: axis.of(shape) as u32,
            step: step as u32,
            outer_step: outer_step as u32,
            channels: shape.channels as u32,
            padded: padded as u32,
            along_channels: (axis == Axis::Channels).into(),
        }
    }
}

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
        Params::new(self.images, self.shape, self.axis)
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
        Dispatch::of(&SHADER, params.lines as usize, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y, words) = (self.x.host(), self.y.host_mut(), self.words());
        native(&self.params(), cast_slice(&x[..words]), cast_slice_mut(&mut y[..words]));
        Ok(())
    }
}

/// Group by group of lines, in parallel.
fn native(p: &Params, x: &[f32], y: &mut [f32]) {
    let (inner, count, step) = (p.inner as usize, p.count as usize, p.step as usize);
    let group = p.outer_step as usize;
    x.par_chunks_exact(group).zip(y.par_chunks_exact_mut(group)).for_each(|(x, y)| {
        y.fill(0.0);
        for first in 0..inner {
            if p.along_channels == 0 && first % p.padded as usize >= p.channels as usize {
                continue;
            }
            let line = || (0..count).map(|k| first + k * step);
            // Comparisons and not `max`: NaN stays, through the sum.
            let largest = line().fold(f32::NEG_INFINITY, |m, at| if x[at] > m { x[at] } else { m });
            let mut sum = 0.0;
            for at in line() {
                y[at] = exp(x[at] - largest);
                sum += y[at];
            }
            line().for_each(|at| y[at] /= sum);
        }
    });
}

/// The twin, in f64.
pub(crate) fn reference(images: usize, shape: Shape, axis: Axis, x: &[f32]) -> Vec<f64> {
    let padded = shape.padded_channels();
    let place = |image: usize, [c, h, w]: [usize; 3]| ((image * shape.height + h) * shape.width + w) * padded + c;
    let mut y = vec![0.0; x.len()];
    let across = axis.with(shape, 1);
    for image in 0..images {
        for c in 0..across.channels {
            for h in 0..across.height {
                for w in 0..across.width {
                    let at = |k: usize| {
                        let mut to = [c, h, w];
                        to[axis.index() - 1] = k;
                        place(image, to)
                    };
                    let line: Vec<usize> = (0..axis.of(shape)).map(at).collect();
                    let largest = line.iter().map(|&at| f64::from(x[at])).fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = line.iter().map(|&at| (f64::from(x[at]) - largest).exp()).sum();
                    for at in line {
                        y[at] = (f64::from(x[at]) - largest).exp() / sum;
                    }
                }
            }
        }
    }
    y
}

/// Compares with the twin. With `d = m − x`, WGSL allows e^(−d) an error of 3 + 2·d units in the
/// last place, the rounded difference adds d/2, a sum of n terms n/2 and the error of its largest
/// (small d: the others count little), the division 2.5: at most `2.5·d + n + 16`.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(27);
    let mut checks = Vec::new();
    for (i, shape) in
        [Shape::new(7, 3, 5), Shape::new(16, 4, 6), Shape::new(1, 1, 1), Shape::new(5, 9, 1)].into_iter().enumerate()
    {
        for axis in [Axis::Channels, Axis::Height, Axis::Width] {
            let images = [1, 3][i % 2];
            let x: Vec<f32> = random_activation(&mut random, images, shape).iter().map(|v| 20.0 * v).collect();
            let words = device.upload(cast_slice(&x), "x")?;
            let got = outcome(device, x.len(), |rec, y| rec.run(&SoftmaxF32 { images, shape, axis, x: &words, y }))?;
            let expected = reference(images, shape, axis, &x);
            // d is at most the span of all values.
            let span = 2.0 * x.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
            let units = 2.5 * span + axis.of(shape) as f64 + 16.0;
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
