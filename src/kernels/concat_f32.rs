//! f32 activations one behind the other along an axis: each input goes into its box of the output, in their order.
//!
//! NHWC with channels in fours. Four channels of the output may be those of two inputs: an invocation keeps what the inputs
//! before have written, and the next input's dispatch comes after. Padded channels are 0.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::conv_cases::activation;
use super::{Check, Random};
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::model::{Axis, Shape, joined};

/// What the host knows of `concat_f32.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "concat_f32",
    source: include_str!("../../shaders/concat_f32.wgsl"),
    bindings: &[Binding::Params, Binding::Read, Binding::ReadWrite],
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Images in the batch.
    pub images: u32,
    /// Rows of the input and of the box.
    pub x_height: u32,
    /// Columns of the input and of the box.
    pub x_width: u32,
    /// Channels of the input and of the box, without padding.
    pub x_channels: u32,
    /// Rows of the output.
    pub y_height: u32,
    /// Its columns.
    pub y_width: u32,
    /// Its channels, without padding.
    pub y_channels: u32,
    /// Where the box begins.
    pub first_channel: u32,
    /// Its first row.
    pub first_row: u32,
    /// Its first column.
    pub first_column: u32,
    /// Fills the struct to 48 bytes.
    pub unused: [u32; 2],
}

/// Records that `images` activations of shape `x_shape` go to the box that begins at `first` along `axis` of activations of
/// shape `y_shape`. Inputs are recorded in their order.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If the box is not within the output or a buffer is too short: errors of the caller.
#[allow(clippy::too_many_arguments)] // each is one side of the copy
pub fn dispatch(
    rec: &mut Recorder<'_>,
    images: usize,
    x_shape: Shape,
    (axis, first): (Axis, usize),
    y_shape: Shape,
    x: &Buffer,
    y: &Buffer,
) -> Result<()> {
    let fits = axis.with(x_shape, 0) == axis.with(y_shape, 0) && first + axis.of(x_shape) <= axis.of(y_shape);
    assert!(fits, "concat_f32: {x_shape} at {first} of {axis} of {y_shape}");
    let words = |shape: Shape| images * shape.pixels() * shape.padded_channels();
    assert!(x.len() >= words(x_shape) && y.len() >= words(y_shape), "concat_f32: buffer sizes");
    let origin = axis.with(Shape::new(0, 0, 0), first);
    let params = Params {
        images: images as u32,
        x_height: x_shape.height as u32,
        x_width: x_shape.width as u32,
        x_channels: x_shape.channels as u32,
        y_height: y_shape.height as u32,
        y_width: y_shape.width as u32,
        y_channels: y_shape.channels as u32,
        first_channel: origin.channels as u32,
        first_row: origin.height as u32,
        first_column: origin.width as u32,
        unused: [0; 2],
    };
    if rec.is_native() {
        let (x, mut y) = (x.host(), y.host_mut());
        native(x_shape, origin, y_shape, cast_slice(&x), cast_slice_mut(&mut y[..words(y_shape)]));
        return Ok(());
    }
    let quads = (origin.channels + x_shape.channels).div_ceil(4) - origin.channels / 4;
    let items = images * x_shape.pixels() * quads;
    rec.run(&SPEC, &params, &[x, y], groups_for(items, SPEC.workgroup_size[0]))
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
pub fn reference(images: usize, shapes: &[Shape], axis: Axis, y_shape: Shape, inputs: &[Vec<f32>]) -> Vec<f32> {
    let at = |shape: Shape, image: usize, [c, h, w]: [usize; 3]| {
        ((image * shape.height + h) * shape.width + w) * shape.padded_channels() + c
    };
    let mut y = vec![0.0; images * y_shape.pixels() * y_shape.padded_channels()];
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
pub fn verify(device: &Device) -> Result<Vec<Check>> {
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
        let inputs: Vec<Vec<f32>> = shapes.iter().map(|&shape| activation(&mut random, images, shape)).collect();
        let y = device.upload(&vec![f32::NAN.to_bits(); images * y_shape.pixels() * y_shape.padded_channels()], "y")?;
        let mut rec = device.recorder();
        let mut first = 0;
        for (shape, x) in shapes.iter().zip(&inputs) {
            dispatch(&mut rec, images, *shape, (axis, first), y_shape, &device.upload(cast_slice(x), "x")?, &y)?;
            first += axis.of(*shape);
        }
        rec.submit()?;
        let expected: Vec<u32> =
            reference(images, &shapes, axis, y_shape, &inputs).into_iter().map(f32::to_bits).collect();
        let name = format!("{} inputs along {axis} to {images}×{y_shape}", shapes.len());
        checks.push(Check::exact(name, &expected, &device.read(&y, y.len())?));
    }
    Ok(checks)
}
