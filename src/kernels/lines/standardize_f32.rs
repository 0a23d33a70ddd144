//! Standardization of lines in f32: `y = (x − μ) / sqrt(σ² + ε)`, μ and σ² the mean and the
//! variance of the line.
//!
//! NHWC with channels in fours, padded channels 0. The mean first, then the squares of what differs
//! from it, both summed in runs ([`sum_in_runs`]) and multiplied by 1/n: `Σx² − n·μ²` would cancel.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, Lines, additions, lines_of, outcome, random_activation, sum_in_runs};
use crate::model::{Along, Shape, Standardize};

/// `standardize_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("standardize_f32", "lines");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    lines: Lines,
    /// 1 / count, rounded once.
    share: f32,
    epsilon: f32,
    unused: [u32; 2],
}

/// Each line with mean 0 and variance 1.
pub(crate) struct StandardizeF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// Shape of one image's activation.
    pub(crate) shape: Shape,
    /// Which lines, and ε.
    pub(crate) standardize: Standardize,
    /// f32.
    pub(crate) x: &'a Buffer,
    /// f32.
    pub(crate) y: &'a Buffer,
}

impl StandardizeF32<'_> {
    fn words(&self) -> usize {
        self.images * self.shape.padded_len()
    }

    fn params(&self) -> Params {
        let Standardize { along, epsilon } = self.standardize;
        let lines = Lines::new(self.images, self.shape, along);
        Params { lines, share: (1.0 / f64::from(lines.count)) as f32, epsilon, unused: [0; 2] }
    }
}

impl Kernel for StandardizeF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![Bound::read("x", self.x, self.words()), Bound::write("y", self.y, self.words())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let params = self.params();
        Dispatch::of(&SHADER, params.lines.total as usize, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y, words) = (self.x.host(), self.y.host_mut(), self.words());
        native(&self.params(), cast_slice(&x[..words]), cast_slice_mut(&mut y[..words]));
        Ok(())
    }
}

/// Group by group of lines, in parallel.
fn native(p: &Params, x: &[f32], y: &mut [f32]) {
    let group = p.lines.group();
    x.par_chunks_exact(group).zip(y.par_chunks_exact_mut(group)).for_each(|(x, y)| {
        y.fill(0.0);
        for first in p.lines.begins() {
            let line = p.lines.places(first);
            let mean = sum_in_runs(line.clone().map(|at| x[at])) * p.share;
            let squares = sum_in_runs(line.clone().map(|at| (x[at] - mean) * (x[at] - mean)));
            let deviation = (squares * p.share + p.epsilon).sqrt();
            line.for_each(|at| y[at] = (x[at] - mean) / deviation);
        }
    });
}

/// The twin, in f64.
pub(crate) fn reference(images: usize, shape: Shape, standardize: Standardize, x: &[f32]) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for (places, line) in lines_of(images, shape, standardize.along, x) {
        places.into_iter().zip(standardize.apply(&line)).for_each(|(at, v)| y[at] = v);
    }
    y
}

/// Compares with the twin. With u = 2^−24, sums of n additions, values of at most A, and σ the root that is divided
/// by: the mean is off by at most `(n + 2)·u·A`, a difference by `e = (n + 4)·u·A`; the variance by
/// a share of `(n + 6)·u` and, as the differences add up to 0, by e², so the root by the share
/// `r = (n + 6)·u/2 + (e/σ)²` and what WGSL allows a root and a division, 5 units more. The result
/// is off by `e/σ + |y|·(r + 10·u)`.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(41);
    let mut checks = Vec::new();
    let shapes = [[7, 3, 5], [16, 4, 6], [1, 1, 2], [5, 9, 1], [1001, 1, 2]];
    for (i, [channels, height, width]) in shapes.into_iter().enumerate() {
        let shape = Shape::new(channels, height, width);
        for along in [Along::Channels, Along::Height, Along::Width, Along::Pixels] {
            let images = [1, 3][i % 2];
            let standardize = Standardize { along, epsilon: [1e-5, 1e-2][i % 4 / 2] };
            // Far from 0, where a difference of squares would be lost.
            let shifted = |v: &f32| if *v == 0.0 { 0.0 } else { 3.0 * v + 40.0 };
            let x: Vec<f32> = random_activation(&mut random, images, shape).iter().map(shifted).collect();
            let words = device.upload(cast_slice(&x), "x")?;
            let got = outcome(device, x.len(), |rec, y| {
                rec.run(&StandardizeF32 { images, shape, standardize, x: &words, y })
            })?;
            let expected = reference(images, shape, standardize, &x);
            let unit = 0.5 * f64::from(f32::EPSILON);
            let mut bounds = vec![0.0; x.len()];
            for (places, line) in lines_of(images, shape, along, &x) {
                let n = line.len() as f64;
                let mean = line.iter().sum::<f64>() / n;
                let variance = line.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
                let deviation = (variance + f64::from(standardize.epsilon)).sqrt();
                let largest = line.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                let additions = additions(line.len());
                let e = (additions + 4.0) * unit * largest;
                let r = 0.5 * (additions + 6.0) * unit + (e / deviation).powi(2) + 20.0 * unit;
                for at in places {
                    bounds[at] = e / deviation + expected[at].abs() * r + f64::from(f32::MIN_POSITIVE);
                }
            }
            let name = format!("{images}×{shape} along {along}");
            checks.push(Check::close(name, &expected, &bounds, cast_slice(&got)));
        }
    }
    Ok(checks)
}
