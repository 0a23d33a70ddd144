//! The values of an f32 activation in another order or shape, some of them, or some of them several
//! times: what a [`Rearrange`] does, by a list of where each comes from. Also the same values for
//! every image of a batch.
//!
//! NHWC with channels in fours. The list is that of one image. Padded channels are 0.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::order::order;
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Places, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome, random_activation};
use crate::model::{Rearrange, RearrangeKind, Shape};

/// `gather_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("gather_f32");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Images in the batch.
    images: u32,
    /// Words from one image of the input to the next; 0 where all take the same.
    x_words: u32,
    /// Fours of channels in one image of the output.
    y_quads: u32,
    /// Fills the struct to 16 bytes.
    unused: u32,
}

/// Where each value comes from, on a device.
#[derive(Debug)]
pub(crate) struct Order {
    /// Words from one image of the input to the next; 0 where all take the same.
    x_words: usize,
    /// [`Places::NOTHING`] for padded channels.
    places: Places,
}

impl Order {
    /// Lists where `rearrange` takes the values of an activation of shape `x` from, which it must
    /// fit.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub(crate) fn new(device: &Device, rearrange: &Rearrange, x: Shape) -> Result<Self> {
        let list: Vec<u32> = order(rearrange, x).into_iter().map(|place| place.unwrap_or(Places::NOTHING)).collect();
        let places = Places::upload(device, &list, "order of the values")?;
        Ok(Self { x_words: x.padded_len(), places })
    }

    /// All values of one image of shape `x`, for every image of a batch.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub(crate) fn repeat(device: &Device, x: Shape) -> Result<Self> {
        let all = Rearrange { kind: RearrangeKind::Reshape, shape: x };
        Ok(Self { x_words: 0, ..Self::new(device, &all, x)? })
    }
}

/// Values in another order.
pub(crate) struct GatherF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// Where each value comes from.
    pub(crate) order: &'a Order,
    /// f32.
    pub(crate) x: &'a Buffer,
    /// f32.
    pub(crate) y: &'a Buffer,
}

impl GatherF32<'_> {
    fn y_words(&self) -> usize {
        self.images * self.order.places.len()
    }
}

impl Kernel for GatherF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        let Order { x_words, places } = self.order;
        // The last image begins there, and no place of it is beyond the list's reach.
        let x_end = self.images.saturating_sub(1) * x_words + places.reach();
        vec![Bound::read("x", self.x, x_end), places.bound(), Bound::write("y", self.y, self.y_words())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let Order { x_words, places } = self.order;
        let (images, x_words, y_quads) = (self.images as u32, *x_words as u32, (places.len() / 4) as u32);
        Dispatch::of(&SHADER, self.y_words() / 4, Params { images, x_words, y_quads, unused: 0 }).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, list, mut y) = (self.x.host(), self.order.places.host(), self.y.host_mut());
        native(self.order.x_words, &list, cast_slice(&x), cast_slice_mut(&mut y[..self.y_words()]));
        Ok(())
    }
}

/// Parallel over images and parts of the list.
fn native(x_words: usize, list: &[u32], x: &[f32], y: &mut [f32]) {
    const PART: usize = 1 << 14;
    y.par_chunks_exact_mut(list.len()).enumerate().for_each(|(image, y)| {
        let x = &x[image * x_words..];
        y.par_chunks_mut(PART).zip(list.par_chunks(PART)).for_each(|(y, list)| {
            for (y, place) in y.iter_mut().zip(list) {
                *y = if *place == Places::NOTHING { 0.0 } else { x[*place as usize] };
            }
        });
    });
}

/// The twin, value by value in the order channels, rows, columns.
pub(crate) fn reference(images: usize, rearrange: &Rearrange, x_shape: Shape, x: &[f32]) -> Vec<f32> {
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
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
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
        let x = random_activation(&mut random, images, x_shape);
        let (order, words) = (Order::new(device, &rearrange, x_shape)?, device.upload(cast_slice(&x), "x")?);
        let y_words = images * y_shape.padded_len();
        let got = outcome(device, y_words, |rec, y| rec.run(&GatherF32 { images, order: &order, x: &words, y }))?;
        let expected: Vec<u32> = reference(images, &rearrange, x_shape, &x).into_iter().map(f32::to_bits).collect();
        let name = format!("{} of {images}×{x_shape} to {y_shape}", rearrange.name());
        checks.push(Check::exact(name, &expected, &got));
    }
    let one = shape(5, 2, 2);
    let x = random_activation(&mut random, 1, one);
    let (order, words) = (Order::repeat(device, one)?, device.upload(cast_slice(&x), "x")?);
    let got = outcome(device, 3 * x.len(), |rec, y| rec.run(&GatherF32 { images: 3, order: &order, x: &words, y }))?;
    let expected: Vec<u32> = x.repeat(3).into_iter().map(f32::to_bits).collect();
    checks.push(Check::exact(format!("{one} for 3 images"), &expected, &got));
    Ok(checks)
}
