//! Lines of an activation, NHWC with channels in fours: where each begins, and where its values
//! are.

use bytemuck::{Pod, Zeroable};

use crate::model::{Along, Shape};

/// Line i begins at word `i / inner · outer_step + i % inner` (along channels `inner` is 1):
/// `Lines` of `shared/lines.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(crate) struct Lines {
    /// Lines of the batch, those of padded channels included.
    pub(crate) total: u32,
    /// Lines that begin side by side.
    pub(crate) inner: u32,
    /// Values of a line.
    pub(crate) count: u32,
    /// Words between them.
    pub(crate) step: u32,
    /// Words from one group of lines to the next.
    pub(crate) outer_step: u32,
    /// Channels without padding.
    pub(crate) channels: u32,
    /// Channels with padding.
    pub(crate) padded: u32,
    /// Whether a line is a pixel's channels.
    pub(crate) along_channels: u32,
}

impl Lines {
    /// The lines of a batch of activations.
    pub(crate) fn new(images: usize, shape: Shape, along: impl Into<Along>) -> Self {
        let along = along.into();
        let padded = shape.padded_channels();
        let row = shape.width * padded;
        let (groups, inner, step, outer_step) = match along {
            Along::Channels => (images * shape.pixels(), 1, 1, padded),
            Along::Height => (images, row, row, shape.height * row),
            Along::Width => (images * shape.height, padded, padded, row),
            Along::Pixels => (images, padded, padded, shape.height * row),
        };
        Self {
            total: (groups * inner) as u32,
            inner: inner as u32,
            count: along.count(shape) as u32,
            step: step as u32,
            outer_step: outer_step as u32,
            channels: shape.channels as u32,
            padded: padded as u32,
            along_channels: (along == Along::Channels).into(),
        }
    }

    /// Words of a group of lines, one behind the other.
    pub(crate) fn group(&self) -> usize {
        self.outer_step as usize
    }

    /// Words of a group where each line is one value: one channel, padded, or as many as begin side
    /// by side.
    pub(crate) fn reduced_group(&self) -> usize {
        if self.along_channels == 1 { 4 } else { self.inner as usize }
    }

    /// The lines of a group that are not those of padded channels, each with where it begins.
    pub(crate) fn begins(&self) -> impl Iterator<Item = usize> + use<> {
        let Self { inner, channels, padded, along_channels, .. } = *self;
        (0..inner).filter(move |first| along_channels == 1 || first % padded < channels).map(|first| first as usize)
    }

    /// Where the values of a line are that begins there.
    pub(crate) fn places(&self, first: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let step = self.step as usize;
        (0..self.count as usize).map(move |k| first + k * step)
    }
}

/// `RUN` of `shared/lines.wgsl`.
const RUN: usize = 64;

/// The sum of a line's values: of runs of [`RUN`], added up. A value beside many small ones would
/// swallow them one by one.
pub(crate) fn sum_in_runs(values: impl Iterator<Item = f32>) -> f32 {
    let (mut sum, mut run, mut count) = (0.0, 0.0, 0);
    for value in values {
        run += value;
        count += 1;
        if count == RUN {
            sum += run;
            (run, count) = (0.0, 0);
        }
    }
    sum + run
}

/// Through how many additions a value goes at most in a sum of `n`.
pub(crate) fn additions(n: usize) -> f64 {
    if n <= RUN { n as f64 } else { (RUN + n.div_ceil(RUN)) as f64 }
}

/// Every line of a batch as f64, with the places of its values: the plain twin of [`Lines`].
pub(crate) fn lines_of(images: usize, shape: Shape, along: Along, x: &[f32]) -> Vec<(Vec<usize>, Vec<f64>)> {
    let padded = shape.padded_channels();
    let mut lines = Vec::new();
    let reduced = along.reduced(shape);
    for image in 0..images {
        for h in 0..reduced.height {
            for w in 0..reduced.width {
                for c in 0..reduced.channels {
                    let mut places = Vec::new();
                    for y in (0..shape.height).filter(|&y| y == h || reduced.height != shape.height) {
                        for z in (0..shape.width).filter(|&z| z == w || reduced.width != shape.width) {
                            for k in (0..shape.channels).filter(|&k| k == c || reduced.channels != shape.channels) {
                                places.push(((image * shape.height + y) * shape.width + z) * padded + k);
                            }
                        }
                    }
                    let values = places.iter().map(|&at| f64::from(x[at])).collect();
                    lines.push((places, values));
                }
            }
        }
    }
    lines
}
