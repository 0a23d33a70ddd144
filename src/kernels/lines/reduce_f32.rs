//! Reductions of lines in f32: a sum, a norm, an extreme or its place for each line.
//!
//! NHWC with channels in fours, padded channels 0; the result of a line along the channels is one
//! channel. Sums and products are taken in the order of the line. Places are f32, exact up to 2^24.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, Lines, additions, lines_of, outcome, random_activation, sum_in_runs};
use crate::kernels::cpu::exp::exp;
use crate::model::{Along, Reduce, ReduceKind, Shape};
use crate::{Error, Result};

/// `reduce_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("reduce_f32", "lines");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    lines: Lines,
    /// The place in [`ReduceKind::ALL`].
    kind: u32,
    /// 1 / count, rounded once.
    share: f32,
    unused: [u32; 2],
}

/// One value for each line.
pub(crate) struct ReduceF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// Shape of one image's activation.
    pub(crate) x_shape: Shape,
    /// Which lines, and what becomes of them.
    pub(crate) reduce: Reduce,
    /// f32.
    pub(crate) x: &'a Buffer,
    /// f32.
    pub(crate) y: &'a Buffer,
}

impl ReduceF32<'_> {
    fn x_words(&self) -> usize {
        self.images * self.x_shape.padded_len()
    }

    fn y_words(&self) -> usize {
        self.images * self.reduce.along.reduced(self.x_shape).padded_len()
    }

    fn params(&self) -> Params {
        let lines = Lines::new(self.images, self.x_shape, self.reduce.along);
        let kind = ReduceKind::ALL.iter().position(|kind| *kind == self.reduce.kind).unwrap_or_default();
        Params { lines, kind: kind as u32, share: (1.0 / f64::from(lines.count)) as f32, unused: [0; 2] }
    }
}

impl Kernel for ReduceF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        if self.x_shape.is_empty() { Err(Error::device("a reduction of nothing")) } else { Ok(()) }
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![Bound::read("x", self.x, self.x_words()), Bound::write("y", self.y, self.y_words())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let params = self.params();
        Dispatch::of(&SHADER, params.lines.total as usize, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y) = (self.x.host(), self.y.host_mut());
        let (x, y) = (cast_slice(&x[..self.x_words()]), cast_slice_mut(&mut y[..self.y_words()]));
        native(&self.params(), self.reduce.kind, x, y);
        Ok(())
    }
}

/// Group by group of lines, in parallel.
fn native(p: &Params, kind: ReduceKind, x: &[f32], y: &mut [f32]) {
    let (from, to) = (p.lines.group(), p.lines.reduced_group());
    x.par_chunks_exact(from).zip(y.par_chunks_exact_mut(to)).for_each(|(x, y)| {
        y.fill(0.0);
        for first in p.lines.begins() {
            y[first] = reduced(kind, p.share, p.lines.places(first).map(|at| x[at]));
        }
    });
}

/// What becomes of a line.
fn reduced(kind: ReduceKind, share: f32, line: impl Iterator<Item = f32> + Clone) -> f32 {
    let sum = || sum_in_runs(line.clone());
    let squares = || sum_in_runs(line.clone().map(|v| v * v));
    match kind {
        ReduceKind::Sum => sum(),
        ReduceKind::Mean => sum() * share,
        ReduceKind::SumOfMagnitudes => sum_in_runs(line.map(f32::abs)),
        ReduceKind::SumOfSquares => squares(),
        ReduceKind::Norm => squares().sqrt(),
        ReduceKind::LogOfSum => sum().ln(),
        ReduceKind::LogOfSumOfExponentials => {
            let largest = extreme(ReduceKind::Max, line.clone()).0;
            largest + sum_in_runs(line.map(|v| exp(v - largest))).ln()
        }
        ReduceKind::Product => line.product(),
        ReduceKind::Min | ReduceKind::Max => extreme(kind, line).0,
        ReduceKind::ArgMax | ReduceKind::ArgMaxLast | ReduceKind::ArgMin | ReduceKind::ArgMinLast => {
            extreme(kind, line).1
        }
    }
}

/// The smallest or largest value, and where it is.
fn extreme(kind: ReduceKind, mut line: impl Iterator<Item = f32>) -> (f32, f32) {
    let least = matches!(kind, ReduceKind::Min | ReduceKind::ArgMin | ReduceKind::ArgMinLast);
    let last = matches!(kind, ReduceKind::ArgMaxLast | ReduceKind::ArgMinLast);
    let mut best = (line.next().unwrap_or(f32::NAN), 0.0);
    for (place, v) in (1u32..).zip(line) {
        // NaN stays.
        if (least && v < best.0) || (!least && v > best.0) || (last && v == best.0) || v.is_nan() {
            best = (v, place as f32);
        }
    }
    best
}

/// The twin, in f64.
pub(crate) fn reference(images: usize, x_shape: Shape, reduce: Reduce, x: &[f32]) -> Vec<f64> {
    let reduced = reduce.along.reduced(x_shape);
    let (padded, mut lines) = (reduced.padded_channels(), lines_of(images, x_shape, reduce.along, x).into_iter());
    let mut y = vec![0.0; images * reduced.padded_len()];
    for pixel in y.chunks_exact_mut(padded) {
        for value in &mut pixel[..reduced.channels] {
            *value = lines.next().map_or(f64::NAN, |(_, line)| reduce.kind.apply(&line));
        }
    }
    y
}

/// Compares with the twin. With u = 2^−24, a sum of n additions is off by at most `(n + 1)·u` of the
/// sum of magnitudes (squares round once more), a product of n values by that share of itself. A root halves
/// the share and may be wrong by 3 units itself. A logarithm turns a share into an error, and WGSL
/// allows it 2^−21 or 3 units; e^(−d) an error of 3 + 2·d units, the rounded difference adds d/2.
/// Extremes and places are exact.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(42);
    let mut checks = Vec::new();
    let shapes = [Shape::new(7, 3, 5), Shape::new(16, 4, 6), Shape::new(1, 1, 1), Shape::new(5, 9, 1)];
    for (i, kind) in ReduceKind::ALL.into_iter().enumerate() {
        // The last line is long; a product of so many would be nothing.
        let lines = [Along::Channels, Along::Height, Along::Width, Along::Pixels, Along::Pixels];
        let lines = &lines[..if kind == ReduceKind::Product { 4 } else { 5 }];
        for (j, &along) in lines.iter().enumerate() {
            let shape = if j == 4 { Shape::new(5, 33, 31) } else { shapes[(i + j) % 4] };
            let images = [1, 3][j % 2];
            let reduce = Reduce { kind, along };
            let positive = kind == ReduceKind::LogOfSum;
            let suited = |v: &f32| if positive { v.abs() } else { 1.5 * v };
            let mut x: Vec<f32> = random_activation(&mut random, images, shape).iter().map(suited).collect();
            if kind != ReduceKind::LogOfSum {
                // Equal ones, for the places.
                x.iter_mut().step_by(3).for_each(|v| *v = (4.0 * *v).round() / 4.0);
            }
            let words = device.upload(cast_slice(&x), "x")?;
            let expected = reference(images, shape, reduce, &x);
            let got = outcome(device, expected.len(), |rec, y| {
                rec.run(&ReduceF32 { images, x_shape: shape, reduce, x: &words, y })
            })?;
            let magnitudes = reference(images, shape, Reduce { kind: ReduceKind::SumOfMagnitudes, along }, &x);
            let n = along.count(shape) as f64;
            let unit = 0.5 * f64::from(f32::EPSILON);
            let span = 2.0 * x.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
            let bound = |(y, sum): (&f64, &f64)| {
                let terms = if kind == ReduceKind::Product { n } else { additions(along.count(shape)) };
                let share = (terms + 2.0) * unit;
                let logarithm = 2f64.powi(-21) + 6.0 * unit * y.abs();
                match kind {
                    ReduceKind::Sum | ReduceKind::SumOfMagnitudes => share * sum,
                    ReduceKind::Mean => share * sum / n + 2.0 * unit * y.abs(),
                    ReduceKind::SumOfSquares | ReduceKind::Product => (share + unit) * y.abs(),
                    ReduceKind::Norm => (share + 6.0 * unit) * y.abs(),
                    ReduceKind::LogOfSum => share + logarithm,
                    ReduceKind::LogOfSumOfExponentials => share + (6.0 + 5.0 * span) * unit + logarithm + span * unit,
                    _ => 0.0,
                }
            };
            let bounds: Vec<f64> = expected.iter().zip(&magnitudes).map(bound).collect();
            let name = format!("{} of {images}×{shape} along {along}", kind.name());
            checks.push(Check::close(name, &expected, &bounds, cast_slice(&got)));
        }
    }
    Ok(checks)
}
