//! Pooling over windows in f32: the largest value or the mean of each ([`Pool`]).
//!
//! NHWC with channels in fours, padded channels 0. A mean is the sum in the order of rows and
//! columns divided by the [divisor](Pool::window).

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Recorder, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome, random_activation};
use crate::model::{Pool, PoolKind, Shape};

/// `pool_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("pool_f32");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Images in the batch.
    images: u32,
    /// Input rows and columns.
    x_sides: [u32; 2],
    /// Channels in fours.
    quads: u32,
    /// Output rows and columns.
    y_sides: [u32; 2],
    /// Rows and columns of a window.
    kernel: [u32; 2],
    /// Vertical and horizontal stride.
    stride: [u32; 2],
    /// Padding above and left.
    padding: [u32; 2],
    /// Rows and columns of the image with all its padding.
    padded: [u32; 2],
    /// 0 the largest, 1 the mean of the image's values, 2 the mean with padding.
    kind: u32,
    /// Fills the struct to 64 bytes.
    unused: u32,
}

/// The largest value or the mean of each window.
pub(crate) struct PoolF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// Shape of one image's activation.
    pub(crate) x_shape: Shape,
    /// The windows.
    pub(crate) pool: &'a Pool,
    /// f32.
    pub(crate) x: &'a Buffer,
    /// f32.
    pub(crate) y: &'a Buffer,
}

impl PoolF32<'_> {
    fn words(&self, shape: Shape) -> usize {
        self.images * shape.padded_len()
    }

    fn y_words(&self) -> usize {
        self.words(self.pool.output(self.x_shape))
    }
}

impl Kernel for PoolF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        let x_words = self.words(self.x_shape);
        vec![Bound::read("x", self.x, x_words), Bound::write("y", self.y, self.y_words())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let (pool, x, y) = (self.pool, self.x_shape, self.pool.output(self.x_shape));
        let both = |sides: [usize; 2]| sides.map(|side| side as u32);
        let [top, left, bottom, right] = pool.padding;
        let params = Params {
            images: self.images as u32,
            x_sides: both([x.height, x.width]),
            quads: x.padded_channels() as u32 / 4,
            y_sides: both([y.height, y.width]),
            kernel: both(pool.kernel),
            stride: both(pool.stride),
            padding: both([top, left]),
            padded: both([x.height + top + bottom, x.width + left + right]),
            kind: match pool.kind {
                PoolKind::Max => 0,
                PoolKind::Average => 1,
                PoolKind::AverageWithPadding => 2,
            },
            unused: 0,
        };
        Dispatch::of(&SHADER, self.y_words() / 4, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y) = (self.x.host(), self.y.host_mut());
        native(self.x_shape, self.pool, cast_slice(&x), cast_slice_mut(&mut y[..self.y_words()]));
        Ok(())
    }
}

/// Row by row of the output, in parallel.
fn native(x_shape: Shape, pool: &Pool, x: &[f32], y: &mut [f32]) {
    let (y_shape, channels) = (pool.output(x_shape), x_shape.padded_channels());
    y.par_chunks_exact_mut(y_shape.width * channels).enumerate().for_each(|(row, y)| {
        let (image, row) = (row / y_shape.height, row % y_shape.height);
        let (rows, of_rows) = pool.window(x_shape.height, 0, row);
        for (column, y) in y.chunks_exact_mut(channels).enumerate() {
            let (columns, of_columns) = pool.window(x_shape.width, 1, column);
            let largest = pool.kind == PoolKind::Max;
            y.fill(if largest { f32::MIN } else { 0.0 });
            for r in rows.clone() {
                let from = (image * x_shape.height + r) * x_shape.width;
                for x in x[(from + columns.start) * channels..(from + columns.end) * channels].chunks_exact(channels) {
                    for (y, x) in y.iter_mut().zip(x) {
                        if !largest {
                            *y += x;
                        } else if *x > *y || x.is_nan() {
                            *y = *x;
                        }
                    }
                }
            }
            if !largest {
                let divisor = (of_rows * of_columns) as f32;
                for y in y {
                    *y /= divisor;
                }
            }
        }
    });
}

/// The twin, in f64: each value, and the mean of the magnitudes.
pub(crate) fn reference(images: usize, x_shape: Shape, pool: &Pool, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let (y_shape, channels) = (pool.output(x_shape), x_shape.padded_channels());
    let (mut values, mut magnitudes) = (Vec::new(), Vec::new());
    for at in 0..images * y_shape.pixels() {
        let (image, row, column) = (at / y_shape.pixels(), at / y_shape.width % y_shape.height, at % y_shape.width);
        let (rows, of_rows) = pool.window(x_shape.height, 0, row);
        let (columns, of_columns) = pool.window(x_shape.width, 1, column);
        for c in 0..channels {
            let place = |(r, q): (usize, usize)| ((image * x_shape.height + r) * x_shape.width + q) * channels + c;
            let window: Vec<f64> = rows
                .clone()
                .flat_map(|r| columns.clone().map(move |q| (r, q)))
                .map(|at| f64::from(x[place(at)]))
                .collect();
            let share = 1.0 / (of_rows * of_columns) as f64;
            values.push(match pool.kind {
                PoolKind::Max => window.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                _ => window.iter().sum::<f64>() * share,
            });
            magnitudes.push(window.iter().map(|v| v.abs()).sum::<f64>() * share);
        }
    }
    (values, magnitudes)
}

/// Compares with the twin: maxima are exact (but what may be flushed to 0); a mean of n values is
/// rounded in n additions and in a division that WGSL allows 2.5 units in the last place.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(25);
    let mut checks = Vec::new();
    let cases = [
        ([7, 9, 8], [3, 3], [2, 2], [1; 4], false),
        ([4, 12, 12], [5, 5], [1, 1], [2; 4], false),
        ([1, 6, 7], [2, 3], [2, 1], [0; 4], true),
        ([13, 5, 4], [3, 2], [2, 2], [0, 1, 2, 0], true),
        ([130, 8, 8], [2, 2], [2, 2], [0; 4], false),
    ];
    for (i, ([channels, height, width], kernel, stride, padding, ceil)) in cases.into_iter().enumerate() {
        for kind in [PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding] {
            let (images, x_shape) = ([1, 3][i % 2], Shape::new(channels, height, width));
            let pool = Pool { kind, kernel, stride, padding, ceil };
            let x = random_activation(&mut random, images, x_shape);
            let (expected, magnitudes) = reference(images, x_shape, &pool, &x);
            let x = device.upload(cast_slice(&x), "x")?;
            let run = |rec: &mut Recorder<'_>, y: &Buffer| rec.run(&PoolF32 { images, x_shape, pool: &pool, x: &x, y });
            let got = outcome(device, expected.len(), run)?;
            let terms = (kernel[0] * kernel[1]) as f64;
            let unit = f64::from(f32::EPSILON) / 2.0;
            let bound = |m: &f64| match kind {
                _ if *m == 0.0 => 0.0,
                PoolKind::Max => f64::from(f32::MIN_POSITIVE),
                _ => (terms + 6.0) * unit * m + terms * f64::from(f32::MIN_POSITIVE),
            };
            let bounds: Vec<f64> = magnitudes.iter().map(bound).collect();
            let name =
                format!("{images}×{x_shape}, {kind:?} over {kernel:?} by {stride:?}, padding {padding:?}, ceil {ceil}");
            checks.push(Check::close(name, &expected, &bounds, cast_slice(&got)));
        }
    }
    Ok(checks)
}
