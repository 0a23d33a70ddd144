//! The values of an f32 activation in another order or shape, some of them, or some of them several times: what a
//! [`Rearrange`] does, by a list of where each comes from. Also the same values for every image of a batch.
//!
//! NHWC with channels in fours. The list is that of one image. Padded channels are 0.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::conv_cases::activation;
use super::places::places;
use super::{Check, Random};
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::model::{Rearrange, RearrangeKind, Shape};

/// What the host knows of `gather_f32.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "gather_f32",
    source: include_str!("../../shaders/gather_f32.wgsl"),
    bindings: &[Binding::Params, Binding::Read, Binding::Read, Binding::ReadWrite],
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Images in the batch.
    pub images: u32,
    /// Words from one image of the input to the next; 0 where all take the same.
    pub x_words: u32,
    /// Fours of channels in one image of the output.
    pub y_quads: u32,
    /// Fills the struct to 16 bytes.
    pub unused: u32,
}

/// Stands for a padded channel in the list.
const NOTHING: u32 = u32::MAX;

/// Where each value comes from, on a device.
#[derive(Debug)]
pub struct Places {
    x_words: usize,
    list: Buffer,
}

impl Places {
    /// Lists where `rearrange` takes the values of an activation of shape `x` from, which it must fit.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn new(device: &Device, rearrange: &Rearrange, x: Shape) -> Result<Self> {
        let list: Vec<u32> = places(rearrange, x).into_iter().map(|place| place.unwrap_or(NOTHING)).collect();
        Ok(Self { x_words: x.pixels() * x.padded_channels(), list: device.upload(&list, "order of the values")? })
    }

    /// All values of one image of shape `x`, for every image of a batch.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn repeat(device: &Device, x: Shape) -> Result<Self> {
        let all = Rearrange { kind: RearrangeKind::Reshape, shape: x };
        Ok(Self { x_words: 0, ..Self::new(device, &all, x)? })
    }
}

/// Records the moving of `images` activations.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If a buffer is too short: an error of the caller.
pub fn dispatch(rec: &mut Recorder<'_>, images: usize, places: &Places, x: &Buffer, y: &Buffer) -> Result<()> {
    let y_words = places.list.len();
    assert!(x.len() >= images * places.x_words && y.len() >= images * y_words, "gather_f32: buffer sizes");
    if rec.is_native() {
        let (x, list, mut y) = (x.host(), places.list.host(), y.host_mut());
        native(places.x_words, &list, cast_slice(&x), cast_slice_mut(&mut y[..images * y_words]));
        return Ok(());
    }
    let quads = y_words / 4;
    let params = Params { images: images as u32, x_words: places.x_words as u32, y_quads: quads as u32, unused: 0 };
    rec.run(&SPEC, &params, &[x, &places.list, y], groups_for(images * quads, SPEC.workgroup_size[0]))
}

/// Parallel over images and parts of the list.
fn native(x_words: usize, list: &[u32], x: &[f32], y: &mut [f32]) {
    const PART: usize = 1 << 14;
    y.par_chunks_exact_mut(list.len()).enumerate().for_each(|(image, y)| {
        let x = &x[image * x_words..];
        y.par_chunks_mut(PART).zip(list.par_chunks(PART)).for_each(|(y, list)| {
            for (y, place) in y.iter_mut().zip(list) {
                *y = if *place == NOTHING { 0.0 } else { x[*place as usize] };
            }
        });
    });
}

/// The twin, value by value in the order channels, rows, columns.
pub fn reference(images: usize, rearrange: &Rearrange, x_shape: Shape, x: &[f32]) -> Vec<f32> {
    let (y_shape, view) = (rearrange.shape, rearrange.view(x_shape));
    let (x_padded, y_padded) = (x_shape.padded_channels(), y_shape.padded_channels());
    let mut y = vec![0.0; images * y_shape.pixels() * y_padded];
    for image in 0..images {
        for (to, from) in view.positions().enumerate() {
            let place = |at: usize, shape: Shape, padded: usize| {
                (image * shape.pixels() + at % shape.pixels()) * padded + at / shape.pixels()
            };
            y[place(to, y_shape, y_padded)] = x[place(from, x_shape, x_padded)];
        }
    }
    y
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(21);
    let shape = Shape::new;
    let transpose =
        |sides: &[usize], order: &[usize]| RearrangeKind::Transpose { sides: sides.to_vec(), order: order.to_vec() };
    let slice = |sides: &[usize], axis, start, step, count| RearrangeKind::Slice {
        sides: sides.to_vec(),
        axis,
        start,
        step,
        count,
    };
    let pick = |sides: &[usize], axis, entries: &[usize]| RearrangeKind::Pick {
        sides: sides.to_vec(),
        axis,
        entries: entries.to_vec(),
    };
    let cases = [
        (shape(7, 3, 2), RearrangeKind::Reshape, shape(42, 1, 1)),
        (shape(5, 1, 1), RearrangeKind::Reshape, shape(1, 1, 5)),
        (shape(8, 4, 6), transpose(&[2, 4, 24], &[1, 0, 2]), shape(8, 4, 6)),
        (shape(6, 5, 1), transpose(&[6, 5], &[1, 0]), shape(5, 6, 1)),
        (shape(12, 2, 3), transpose(&[3, 2, 2, 2, 3], &[0, 3, 1, 4, 2]), shape(3, 4, 6)),
        (shape(10, 3, 3), slice(&[10, 9], 0, 3, 1, 5), shape(5, 3, 3)),
        (shape(3, 7, 5), slice(&[3, 7, 5], 1, 1, 2, 3), shape(3, 3, 5)),
        (shape(6, 3, 4), RearrangeKind::Upsample { factor: [2, 3] }, shape(6, 6, 12)),
        (shape(5, 3, 4), pick(&[5, 3, 4], 2, &[3, 0, 0, 2, 1]), shape(5, 3, 5)),
    ];
    let mut checks = Vec::new();
    for (i, (x_shape, kind, y_shape)) in cases.into_iter().enumerate() {
        let (images, rearrange) = ([1, 3][i % 2], Rearrange { kind, shape: y_shape });
        let x = activation(&mut random, images, x_shape);
        let places = Places::new(device, &rearrange, x_shape)?;
        let y = device.upload(&vec![f32::NAN.to_bits(); images * y_shape.pixels() * y_shape.padded_channels()], "y")?;
        let mut rec = device.recorder();
        dispatch(&mut rec, images, &places, &device.upload(cast_slice(&x), "x")?, &y)?;
        rec.submit()?;
        let expected: Vec<u32> = reference(images, &rearrange, x_shape, &x).into_iter().map(f32::to_bits).collect();
        let name = format!("{} of {images}×{x_shape} to {y_shape}", rearrange.name());
        checks.push(Check::exact(name, &expected, &device.read(&y, y.len())?));
    }
    let one = shape(5, 2, 2);
    let x = activation(&mut random, 1, one);
    let y = device.alloc(3 * x.len(), "y")?;
    let mut rec = device.recorder();
    dispatch(&mut rec, 3, &Places::repeat(device, one)?, &device.upload(cast_slice(&x), "x")?, &y)?;
    rec.submit()?;
    let expected: Vec<u32> = x.repeat(3).into_iter().map(f32::to_bits).collect();
    checks.push(Check::exact(format!("{one} for 3 images"), &expected, &device.read(&y, y.len())?));
    Ok(checks)
}
