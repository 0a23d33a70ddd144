//! Sums, differences and products of two f32 activations, value by value, optionally with a `ReLU`:
//! `y = act(a ∘ b)`.
//!
//! NHWC with channels in fours, padded channels 0. A side of an operand may be 1 where the other's
//! is not: that one value serves all. One rounding.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, Operand, outcome, random_activation};
use crate::model::{Binary, Shape, broadcast};
use crate::{Error, Result};

/// `binary_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("binary_f32", "operand");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// The first operand.
    a: Operand,
    /// The second.
    b: Operand,
    /// Images in the batch.
    images: u32,
    /// Rows of the result.
    height: u32,
    /// Its columns.
    width: u32,
    /// Its channels, without padding.
    channels: u32,
    /// 0 add, 1 subtract, 2 multiply.
    kind: u32,
    /// Whether a `ReLU` follows.
    relu: u32,
    /// Fills the struct to 64 bytes.
    unused: [u32; 2],
}

/// `y = act(a ∘ b)`.
pub(crate) struct BinaryF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// The function.
    pub(crate) kind: Binary,
    /// Whether a `ReLU` follows.
    pub(crate) relu: bool,
    /// The operands, f32, with the shape of one image's activation.
    pub(crate) operands: [(Shape, &'a Buffer); 2],
    /// f32.
    pub(crate) y: &'a Buffer,
}

impl BinaryF32<'_> {
    fn words(&self, shape: Shape) -> usize {
        self.images * shape.padded_len()
    }

    /// Of the result; empty where the operands do not go together, which `check` refuses.
    fn y_shape(&self) -> Shape {
        let [(a, _), (b, _)] = self.operands;
        broadcast(a, b).unwrap_or(Shape::new(0, 0, 0))
    }

    fn params(&self) -> Params {
        let ([(a, _), (b, _)], y) = (self.operands, self.y_shape());
        Params {
            a: Operand::new(a, y),
            b: Operand::new(b, y),
            images: self.images as u32,
            height: y.height as u32,
            width: y.width as u32,
            channels: y.channels as u32,
            kind: self.kind as u32,
            relu: self.relu.into(),
            unused: [0; 2],
        }
    }
}

impl Kernel for BinaryF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        let [(a, _), (b, _)] = self.operands;
        let Some(_) = broadcast(a, b) else {
            return Err(Error::device(format!("operands of {a} and {b} do not go together")));
        };
        Ok(())
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        let [(a_shape, a), (b_shape, b)] = self.operands;
        vec![
            Bound::read("a", a, self.words(a_shape)),
            Bound::read("b", b, self.words(b_shape)),
            Bound::write("y", self.y, self.words(self.y_shape())),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        Dispatch::of(&SHADER, self.words(self.y_shape()) / 4, self.params()).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let [(_, a), (_, b)] = self.operands;
        let (a, b, mut y, params) = (a.host(), b.host(), self.y.host_mut(), self.params());
        let (a, b): (&[f32], &[f32]) = (cast_slice(&a), cast_slice(&b));
        let y = cast_slice_mut(&mut y[..self.words(self.y_shape())]);
        match self.kind {
            Binary::Add => native(&params, a, b, y, |a, b| a + b),
            Binary::Sub => native(&params, a, b, y, |a, b| a - b),
            Binary::Mul => native(&params, a, b, y, |a, b| a * b),
        }
        Ok(())
    }
}

/// Row by row, in parallel.
fn native(p: &Params, a: &[f32], b: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    let (height, width, channels) = (p.height as usize, p.width as usize, p.channels as usize);
    let padded = channels.next_multiple_of(4);
    let whole = |o: &Operand| o.quad == 1 && o.column as usize == padded / 4;
    y.par_chunks_exact_mut(width * padded).enumerate().for_each(|(row, y)| {
        let (image, row) = (row / height, row % height);
        let low = if p.relu == 0 { f32::NEG_INFINITY } else { 0.0 };
        // Not `max`: NaN stays.
        let act = |v: f32| if v < low { low } else { v };
        if whole(&p.a) && whole(&p.b) {
            let (a, b) = (&a[p.a.place(image, row, 0)..], &b[p.b.place(image, row, 0)..]);
            for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                *y = act(f(*a, *b));
            }
            return;
        }
        for (column, y) in y.chunks_exact_mut(padded).enumerate() {
            let (a, b) = (&a[p.a.place(image, row, column)..], &b[p.b.place(image, row, column)..]);
            let of = |values: &[f32], o: &Operand, c: usize| if o.quad == 0 { values[0] } else { values[c] };
            for (c, y) in y.iter_mut().enumerate() {
                *y = if c < channels { act(f(of(a, &p.a, c), of(b, &p.b, c))) } else { 0.0 };
            }
        }
    });
}

/// The twin, in f64.
pub(crate) fn reference(
    images: usize,
    kind: Binary,
    relu: bool,
    (a_shape, a): (Shape, &[f32]),
    (b_shape, b): (Shape, &[f32]),
    shape: Shape,
) -> Vec<f64> {
    let value = |of: Shape, values: &[f32], image: usize, [c, h, w]: [usize; 3]| {
        let (c, h, w) = (c.min(of.channels - 1), h.min(of.height - 1), w.min(of.width - 1));
        f64::from(values[((image * of.height + h) * of.width + w) * of.padded_channels() + c])
    };
    let padded = shape.padded_channels();
    let place = |at: usize| {
        let pixel = at / padded;
        (pixel / shape.pixels(), [at % padded, pixel / shape.width % shape.height, pixel % shape.width])
    };
    let result = |at: usize| {
        let (image, place) = place(at);
        if place[0] >= shape.channels {
            return 0.0;
        }
        let y = kind.apply(value(a_shape, a, image, place), value(b_shape, b, image, place));
        if relu { y.max(0.0) } else { y }
    };
    (0..images * shape.pixels() * padded).map(result).collect()
}

/// Compares with the twin: one rounding, `|error| ≤ 2^−24·|y|`, and what may be flushed to 0.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(23);
    let mut checks = Vec::new();
    let shape = Shape::new;
    let pairs = [
        (shape(7, 3, 5), shape(7, 3, 5)),
        (shape(16, 4, 4), shape(16, 1, 1)),
        (shape(5, 1, 1), shape(5, 6, 2)),
        (shape(6, 3, 4), shape(1, 3, 4)),
        (shape(1, 1, 1), shape(3, 2, 2)),
        (shape(9, 1, 4), shape(1, 5, 1)),
    ];
    for (i, (a_shape, b_shape)) in pairs.into_iter().enumerate() {
        for (kind, relu) in [(Binary::Add, true), (Binary::Sub, false), (Binary::Mul, i % 2 == 0)] {
            let images = [1, 3][i % 2];
            let Some(y_shape) = broadcast(a_shape, b_shape) else { continue };
            let (a, b) =
                (random_activation(&mut random, images, a_shape), random_activation(&mut random, images, b_shape));
            let words = images * y_shape.padded_len();
            let (left, right) = (device.upload(cast_slice(&a), "a")?, device.upload(cast_slice(&b), "b")?);
            let operands = [(a_shape, &left), (b_shape, &right)];
            let got = outcome(device, words, |rec, y| rec.run(&BinaryF32 { images, kind, relu, operands, y }))?;
            let expected = reference(images, kind, relu, (a_shape, &a), (b_shape, &b), y_shape);
            let bound = |y: &f64| f64::from(f32::EPSILON) / 2.0 * y.abs() + f64::from(f32::MIN_POSITIVE);
            let bounds: Vec<f64> = expected.iter().map(|y| if *y == 0.0 { 0.0 } else { bound(y) }).collect();
            let name = format!("{images}×{a_shape} {kind:?} {b_shape}{}", if relu { ", relu" } else { "" });
            checks.push(Check::close(name, &expected, &bounds, cast_slice(&got)));
        }
    }
    Ok(checks)
}
