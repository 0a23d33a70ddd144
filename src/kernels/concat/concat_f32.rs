//! f32 activations one behind the other along an axis: each input goes into its box of the output,
//! in their order.
//!
//! NHWC with channels in fours. Four channels of the output may be those of two inputs: an
//! invocation keeps what the inputs before have written, and the next input's dispatch comes after.
//! Padded channels are 0.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::place::{self, Place};
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, random_activation, words_of};
use crate::model::{Axis, Shape, joined};

/// `concat_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("concat_f32");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    place: Place,
    /// Fills the struct to 48 bytes.
    unused: [u32; 2],
}

/// One input into its box of the output. Inputs are run in their order.
pub(crate) struct ConcatF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// Shape of one image's input.
    pub(crate) x_shape: Shape,
    /// The axis along which inputs are joined.
    pub(crate) axis: Axis,
    /// Where along it the box begins.
    pub(crate) first: usize,
    /// Shape of one image's output.
    pub(crate) y_shape: Shape,
    /// f32.
    pub(crate) x: &'a Buffer,
    /// f32.
    pub(crate) y: &'a Buffer,
}

impl ConcatF32<'_> {
    fn words(&self, shape: Shape) -> usize {
        self.images * shape.padded_len()
    }

    /// Where the box begins along each axis.
    fn origin(&self) -> Shape {
        self.axis.with(Shape::new(0, 0, 0), self.first)
    }
}

impl Kernel for ConcatF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        place::check(self.x_shape, self.axis, self.first, self.y_shape)
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![Bound::read("x", self.x, self.words(self.x_shape)), Bound::write("y", self.y, self.words(self.y_shape))]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let place = Place::new(self.images, self.x_shape, self.axis, self.first, self.y_shape);
        Dispatch::of(&SHADER, place.items(), Params { place, unused: [0; 2] }).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y) = (self.x.host(), self.y.host_mut());
        let y = cast_slice_mut(&mut y[..self.words(self.y_shape)]);
        native(self.x_shape, self.origin(), self.y_shape, cast_slice(&x), y);
        Ok(())
    }
}

/// Row by row of the output, in parallel.
fn native(x_shape: Shape, origin: Shape, y_shape: Shape, x: &[f32], y: &mut [f32]) {
    let (x_padded, y_padded) = (x_shape.padded_channels(), y_shape.padded_channels());
    let end = origin.channels + x_shape.channels;
    y.par_chunks_exact_mut(y_shape.width * y_padded).enumerate().for_each(|(row, y)| {
        let (image, row) = (row / y_shape.height, row % y_shape.height);
        let Some(row) = row.checked_sub(origin.height).filter(|&row| row < x_shape.height) else { return };
        let x = &x[(image * x_shape.height + row) * x_shape.width * x_padded..][..x_shape.width * x_padded];
        let y = &mut y[origin.width * y_padded..];
        for (x, y) in x.chunks_exact(x_padded).zip(y.chunks_exact_mut(y_padded)) {
            y[origin.channels..end].copy_from_slice(&x[..x_shape.channels]);
            if end == y_shape.channels {
                y[end..].fill(0.0);
            }
        }
    });
}

/// The twin: all inputs, value by value.
pub(crate) fn reference(images: usize, shapes: &[Shape], axis: Axis, y_shape: Shape, inputs: &[Vec<f32>]) -> Vec<f32> {
    let at = |shape: Shape, image: usize, [c, h, w]: [usize; 3]| {
        ((image * shape.height + h) * shape.width + w) * shape.padded_channels() + c
    };
    let mut y = vec![0.0; images * y_shape.padded_len()];
    let mut first = 0;
    for (shape, x) in shapes.iter().zip(inputs) {
        for image in 0..images {
            for c in 0..shape.channels {
                for h in 0..shape.height {
                    for w in 0..shape.width {
                        let mut to = [c, h, w];
                        to[axis.index() - 1] += first;
                        y[at(y_shape, image, to)] = x[at(*shape, image, [c, h, w])];
                    }
                }
            }
        }
        first += axis.of(*shape);
    }
    y
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(22);
    let mut checks = Vec::new();
    let channels = |list: &[usize]| list.iter().map(|&c| Shape::new(c, 3, 5)).collect::<Vec<_>>();
    let cases = [
        (Axis::Channels, channels(&[4, 8])),
        (Axis::Channels, channels(&[1, 2, 3, 1])),
        (Axis::Channels, channels(&[5, 3, 7])),
        (Axis::Channels, channels(&[1, 1])),
        (Axis::Height, vec![Shape::new(5, 2, 3), Shape::new(5, 4, 3), Shape::new(5, 1, 3)]),
        (Axis::Width, vec![Shape::new(6, 2, 1), Shape::new(6, 2, 7)]),
    ];
    for (i, (axis, shapes)) in cases.into_iter().enumerate() {
        let images = [1, 3][i % 2];
        let Some(y_shape) = joined(&shapes, axis) else { continue };
        let inputs: Vec<Vec<f32>> = shapes.iter().map(|&shape| random_activation(&mut random, images, shape)).collect();
        let y = device.upload(&vec![f32::NAN.to_bits(); images * y_shape.padded_len()], "y")?;
        let mut rec = device.recorder();
        let mut first = 0;
        for (shape, x) in shapes.iter().zip(&inputs) {
            let x = device.upload(cast_slice(x), "x")?;
            rec.run(&ConcatF32 { images, x_shape: *shape, axis, first, y_shape, x: &x, y: &y })?;
            first += axis.of(*shape);
        }
        rec.submit()?;
        let expected: Vec<u32> =
            reference(images, &shapes, axis, y_shape, &inputs).into_iter().map(f32::to_bits).collect();
        let name = format!("{} inputs along {axis} to {images}×{y_shape}", shapes.len());
        checks.push(Check::exact(name, &expected, &words_of(device, &y)?));
    }
    Ok(checks)
}
