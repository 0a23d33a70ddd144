//! Matrix products of two activations in f32, channel by channel:
//! `y[n, i, j, c] = Σ_k a[n, i, k, c] · b[n, k, j, c]`; an operand of one channel serves all.
//!
//! NHWC with channels in fours, padded channels 0. The sum is taken in the order of k.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome, random_activation};
use crate::model::{Shape, matrix_product};
use crate::{Error, Result};

/// `matmul_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("matmul_f32");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    images: u32,
    /// Rows of the result.
    rows: u32,
    /// Columns of the result.
    columns: u32,
    /// Products of a sum.
    depth: u32,
    /// Channels of the result in fours.
    quads: u32,
    a_quads: u32,
    b_quads: u32,
    /// Bit 0: the first operand has one channel for all; bit 1: the second.
    single: u32,
    /// Channels of the result.
    channels: u32,
    unused: [u32; 3],
}

/// A matrix product for each image and channel.
pub(crate) struct MatMulF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// Channels × rows × depth, f32.
    pub(crate) a: (Shape, &'a Buffer),
    /// Channels × depth × columns, f32.
    pub(crate) b: (Shape, &'a Buffer),
    /// Channels × rows × columns, f32.
    pub(crate) y: &'a Buffer,
}

impl MatMulF32<'_> {
    fn y_shape(&self) -> Result<Shape> {
        matrix_product(self.a.0, self.b.0).ok_or_else(|| {
            let (a, b) = (self.a.0, self.b.0);
            Error::device(format!("matrices of {a} and {b} do not go together"))
        })
    }

    fn params(&self, y: Shape) -> Params {
        let ((a, _), (b, _)) = (self.a, self.b);
        let single = |shape: Shape| u32::from(shape.channels == 1 && y.channels != 1);
        let quads = |shape: Shape| (shape.padded_channels() / 4) as u32;
        Params {
            images: self.images as u32,
            rows: y.height as u32,
            columns: y.width as u32,
            depth: a.width as u32,
            quads: quads(y),
            a_quads: quads(a),
            b_quads: quads(b),
            single: single(a) | single(b) << 1,
            channels: y.channels as u32,
            unused: [0; 3],
        }
    }
}

impl Kernel for MatMulF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        self.y_shape().map(|_| ())
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        let words = |shape: Shape| self.images * shape.padded_len();
        let y = self.y_shape().map_or(0, words);
        vec![
            Bound::read("a", self.a.1, words(self.a.0)),
            Bound::read("b", self.b.1, words(self.b.0)),
            Bound::write("y", self.y, y),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let y = self.y_shape().ok();
        y.and_then(|y| Dispatch::of(&SHADER, self.images * y.padded_len() / 4, self.params(y))).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let y_shape = self.y_shape()?;
        let (a, b, mut y) = (self.a.1.host(), self.b.1.host(), self.y.host_mut());
        let (a, b, y): (&[f32], &[f32], &mut [f32]) = (cast_slice(&a), cast_slice(&b), cast_slice_mut(&mut y));
        let words = self.images * y_shape.padded_len();
        native(self.a.0, self.b.0, y_shape, [a, b], &mut y[..words]);
        Ok(())
    }
}

/// A row of the result at a time, in parallel.
fn native(a_shape: Shape, b_shape: Shape, shape: Shape, [a, b]: [&[f32]; 2], y: &mut [f32]) {
    let padded = shape.padded_channels();
    let (a_padded, b_padded) = (a_shape.padded_channels(), b_shape.padded_channels());
    let depth = a_shape.width;
    y.par_chunks_exact_mut(shape.width * padded).enumerate().for_each(|(line, y)| {
        let (image, row) = (line / shape.height, line % shape.height);
        y.fill(0.0);
        for k in 0..depth {
            let p = &a[((image * shape.height + row) * depth + k) * a_padded..][..a_padded];
            for (column, y) in y.chunks_exact_mut(padded).enumerate() {
                let q = &b[((image * depth + k) * shape.width + column) * b_padded..][..b_padded];
                for (c, y) in y[..shape.channels].iter_mut().enumerate() {
                    let at = |values: &[f32], of: Shape| values[if of.channels == 1 { 0 } else { c }];
                    *y += at(p, a_shape) * at(q, b_shape);
                }
            }
        }
    });
}

/// The twin in f64, and for each place the sum of magnitudes.
pub(crate) fn reference(images: usize, a: (Shape, &[f32]), b: (Shape, &[f32]), y: Shape) -> (Vec<f64>, Vec<f64>) {
    let value = |(shape, values): (Shape, &[f32]), image: usize, [c, h, w]: [usize; 3]| {
        let c = if shape.channels == 1 { 0 } else { c };
        f64::from(values[((image * shape.height + h) * shape.width + w) * shape.padded_channels() + c])
    };
    let mut found = (vec![0.0; images * y.padded_len()], vec![0.0; images * y.padded_len()]);
    for image in 0..images {
        for h in 0..y.height {
            for w in 0..y.width {
                for c in 0..y.channels {
                    let at = ((image * y.height + h) * y.width + w) * y.padded_channels() + c;
                    for k in 0..a.0.width {
                        let product = value(a, image, [c, h, k]) * value(b, image, [c, k, w]);
                        found.0[at] += product;
                        found.1[at] += product.abs();
                    }
                }
            }
        }
    }
    found
}

/// Compares with the twin: n products, each rounded, and n − 1 additions are off by at most
/// `(n + 1)·2^−24` of the sum of magnitudes.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(43);
    let mut checks = Vec::new();
    for (images, a, b) in [
        (1, Shape::new(1, 3, 5), Shape::new(1, 5, 2)),
        (2, Shape::new(6, 7, 3), Shape::new(6, 3, 9)),
        (1, Shape::new(5, 4, 8), Shape::new(1, 8, 3)),
        (3, Shape::new(1, 2, 6), Shape::new(7, 6, 6)),
        (1, Shape::new(8, 1, 1), Shape::new(8, 1, 5)),
    ] {
        let y = matrix_product(a, b).ok_or_else(|| Error::device("matrices of a case"))?;
        let values = [a, b].map(|shape| random_activation(&mut random, images, shape));
        let words = [device.upload(cast_slice(&values[0]), "a")?, device.upload(cast_slice(&values[1]), "b")?];
        let got = outcome(device, images * y.padded_len(), |rec, y| {
            rec.run(&MatMulF32 { images, a: (a, &words[0]), b: (b, &words[1]), y })
        })?;
        let (expected, magnitudes) = reference(images, (a, &values[0]), (b, &values[1]), y);
        let share = (a.width as f64 + 1.0) * 0.5 * f64::from(f32::EPSILON);
        let bounds: Vec<f64> = magnitudes.iter().map(|m| share * m).collect();
        checks.push(Check::close(format!("{images}×{a} by {b}"), &expected, &bounds, cast_slice(&got)));
    }
    Ok(checks)
}
