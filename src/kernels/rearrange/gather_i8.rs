//! The levels of an activation in another order or shape, some of them, or some of them several
//! times: what a [`Rearrange`] does, by a list of where each comes from.
//!
//! Packed int8, NHWC. The list is that of one image: the byte for each byte of the output or, where
//! every word of the output is one of the input, the word for each word. Padded channels are at the
//! zero point.

use rayon::prelude::*;

use super::order::order;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Places, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, check_zero_point, compare, outcome, packed_pixels};
use crate::model::{Rearrange, RearrangeKind, Shape};
use crate::{Error, Result};

/// `gather_i8.wgsl`.
pub(crate) static SHADER: Shader = shader!("gather_i8");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Images in the batch.
    images: u32,
    /// Words of one image's input.
    x_words: u32,
    /// Words of one image's output.
    y_words: u32,
    /// Channels of the output, without padding.
    channels: u32,
    /// The zero point in all four bytes.
    zero_word: u32,
    /// 1: the list is of words.
    whole_words: u32,
    /// Fills the struct to 32 bytes.
    unused: [u32; 2],
}

/// Where each level comes from, on a device.
#[derive(Debug)]
pub struct Order {
    /// Words of one image's input.
    x_words: usize,
    y_shape: Shape,
    /// Whether the list is of words; else of bytes.
    whole_words: bool,
    /// 0 for padded channels.
    places: Places,
    identity: bool,
}

impl Order {
    /// Lists where `rearrange` takes the levels of an activation of shape `x_shape` from, which it
    /// must fit.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn new(device: &Device, rearrange: &Rearrange, x_shape: Shape) -> Result<Self> {
        let y_shape = rearrange.shape;
        let bytes = order(rearrange, x_shape);
        let words: Option<Vec<u32>> = bytes
            .chunks_exact(4)
            .map(|lanes| {
                let first = lanes[0]?;
                let in_order = (first..).zip(lanes).all(|(place, lane)| lane.is_none_or(|lane| lane == place));
                (first % 4 == 0 && in_order).then_some(first / 4)
            })
            .collect();
        let whole_words = words.is_some();
        let identity = x_shape.channels == y_shape.channels
            && words
                .as_ref()
                .is_some_and(|words| words.iter().copied().eq(0..words.len() as u32) && x_shape.len() == y_shape.len());
        let list = words.unwrap_or_else(|| bytes.into_iter().map(|place| place.unwrap_or(0)).collect());
        let places = Places::upload(device, &list, "order of the levels")?;
        let x_words = x_shape.padded_len() / 4;
        Ok(Self { x_words, y_shape, whole_words, places, identity })
    }

    /// Whether nothing changes: the output is the input, word by word.
    pub(crate) fn is_identity(&self) -> bool {
        self.identity
    }
}

/// Levels in another order.
pub struct GatherI8<'a> {
    /// Images in the batch.
    pub images: usize,
    /// Where each level comes from.
    pub order: &'a Order,
    /// The level of real 0, of input and output.
    pub zero_point: i32,
    /// Packed int8.
    pub x: &'a Buffer,
    /// Packed int8.
    pub y: &'a Buffer,
}

impl GatherI8<'_> {
    fn y_words(&self) -> usize {
        self.images * self.order.y_shape.padded_len() / 4
    }

    fn params(&self) -> Params {
        let Order { x_words, y_shape, whole_words, .. } = self.order;
        Params {
            images: self.images as u32,
            x_words: *x_words as u32,
            y_words: (y_shape.padded_len() / 4) as u32,
            channels: y_shape.channels as u32,
            zero_word: u32::from(self.zero_point as i8 as u8) * 0x0101_0101,
            whole_words: u32::from(*whole_words),
            unused: [0; 2],
        }
    }
}

impl Kernel for GatherI8<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        check_zero_point(self.zero_point)
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        let Order { x_words, whole_words, places, .. } = self.order;
        // The last image begins there, and no place of it is beyond the list's reach.
        let reach = if *whole_words { places.reach() } else { places.reach().div_ceil(4) };
        let x_end = self.images.saturating_sub(1) * x_words + reach;
        vec![Bound::read("x", self.x, x_end), places.bound(), Bound::write("y", self.y, self.y_words())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        Dispatch::of(&SHADER, self.y_words(), self.params()).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, list, mut y) = (self.x.host(), self.order.places.host(), self.y.host_mut());
        native(&self.params(), &list, &x, &mut y[..self.y_words()]);
        Ok(())
    }
}

/// Parallel over pixels, a good many at a time.
fn native(p: &Params, list: &[u32], x: &[u32], y: &mut [u32]) {
    let (x_words, y_words, quads) = (p.x_words as usize, p.y_words as usize, p.channels.div_ceil(4) as usize);
    let pixels = y_words / quads;
    y.par_chunks_exact_mut(quads).enumerate().with_min_len(256).for_each(|(pixel, y)| {
        let (image, pixel) = (pixel / pixels, pixel % pixels);
        let x = &x[image * x_words..][..x_words];
        if p.whole_words == 0 {
            let levels: &[i8] = bytemuck::cast_slice(x);
            let y: &mut [i8] = bytemuck::cast_slice_mut(y);
            for (y, place) in y.iter_mut().zip(&list[4 * pixel * quads..]) {
                *y = levels[*place as usize];
            }
        } else {
            for (y, place) in y.iter_mut().zip(&list[pixel * quads..]) {
                *y = x[*place as usize];
            }
        }
        let y: &mut [u8] = bytemuck::cast_slice_mut(y);
        y[p.channels as usize..].fill(p.zero_word as u8);
    });
}

/// The twin: levels of every image and padded channel.
pub(crate) fn reference(images: usize, rearrange: &Rearrange, x_shape: Shape, zero_point: i32, x: &[i8]) -> Vec<i8> {
    let y_shape = rearrange.shape;
    let mut y = vec![zero_point as i8; images * y_shape.padded_len()];
    for image in 0..images {
        // Values of an image in the order channels, rows, columns.
        let address = |shape: Shape, index: usize| {
            let (c, pixel) = (index / shape.pixels(), index % shape.pixels());
            (image * shape.pixels() + pixel) * shape.padded_channels() + c
        };
        for (to, from) in rearrange.view(x_shape).positions().enumerate() {
            y[address(y_shape, to)] = x[address(x_shape, from)];
        }
    }
    y
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(24);
    let mut checks = Vec::new();
    let transpose =
        |sides: &[usize], order: &[usize]| RearrangeKind::Transpose { sides: sides.to_vec(), order: order.to_vec() };
    let slice = |sides: &[usize], axis: usize, start: usize, step: usize, count: usize| RearrangeKind::Slice {
        sides: sides.to_vec(),
        axis,
        start,
        step,
        count,
    };
    let pick = |sides: &[usize], axis: usize, entries: &[usize]| RearrangeKind::Pick {
        sides: sides.to_vec(),
        axis,
        entries: entries.to_vec(),
    };
    // Channels, rows, columns of the input and of the output.
    let cases: [([usize; 3], [usize; 3], RearrangeKind); 18] = [
        ([5, 1, 1], [5, 1, 1], RearrangeKind::Reshape),
        ([6, 4, 5], [120, 1, 1], RearrangeKind::Reshape),
        ([30, 1, 1], [2, 3, 5], RearrangeKind::Reshape),
        ([3, 5, 7], [7, 3, 5], RearrangeKind::Reshape),
        ([3, 2, 4], [3, 4, 2], transpose(&[3, 2, 4], &[0, 2, 1])),
        ([8, 3, 5], [8, 5, 3], transpose(&[8, 3, 5], &[0, 2, 1])),
        ([6, 3, 3], [6, 3, 3], transpose(&[2, 3, 9], &[1, 0, 2])),
        ([16, 3, 2], [16, 3, 2], transpose(&[2, 2, 4, 6], &[1, 0, 2, 3])),
        ([12, 2, 3], [3, 4, 6], transpose(&[3, 2, 2, 2, 3], &[0, 3, 1, 4, 2])),
        ([7, 5, 4], [7, 2, 4], slice(&[7, 5, 4], 1, 1, 2, 2)),
        ([12, 3, 4], [6, 3, 4], slice(&[12, 12], 0, 4, 1, 6)),
        ([8, 3, 4], [8, 3, 1], slice(&[8, 3, 4], 2, 3, 1, 1)),
        ([9, 2, 2], [3, 2, 2], slice(&[9, 4], 0, 1, 3, 3)),
        ([5, 3, 2], [5, 6, 6], RearrangeKind::Upsample { factor: [2, 3] }),
        ([4, 2, 3], [4, 4, 3], RearrangeKind::Upsample { factor: [2, 1] }),
        ([17, 4, 4], [17, 8, 8], RearrangeKind::Upsample { factor: [2, 2] }),
        ([7, 3, 4], [7, 3, 5], pick(&[7, 3, 4], 2, &[3, 0, 0, 2, 1])),
        ([3, 2, 2], [5, 2, 2], pick(&[3, 4], 0, &[2, 1, 1, 0, 2])),
    ];
    for (i, ([c, h, w], [out_c, out_h, out_w], kind)) in cases.into_iter().enumerate() {
        let (x_shape, shape) = (Shape::new(c, h, w), Shape::new(out_c, out_h, out_w));
        let rearrange = Rearrange { kind, shape };
        if !rearrange.fits(x_shape) {
            return Err(Error::bad(format!("{rearrange:?} does not fit {x_shape}")));
        }
        for zero_point in [0, -128, 19] {
            let images = [1, 3][i % 2];
            let x = packed_pixels(images, x_shape, zero_point, || random.integer(-128, 127) as i8);
            let expected = reference(images, &rearrange, x_shape, zero_point, &x);
            let order = Order::new(device, &rearrange, x_shape)?;
            let x = device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(&x), "x")?;
            let got = outcome(device, expected.len() / 4, |rec, y| {
                rec.run(&GatherI8 { images, order: &order, zero_point, x: &x, y })
            })?;
            let unit = if order.whole_words { "words" } else { "bytes" };
            let name = format!("{images}×{x_shape}, {rearrange:?}, by {unit}, zero point {zero_point}");
            checks.push(compare(name, &expected, &got));
        }
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_move_whole_where_their_channels_stay_together() {
        let device = Device::cpu();
        let order = |kind, [c, h, w]: [usize; 3], shape| {
            Order::new(&device, &Rearrange { kind, shape }, Shape::new(c, h, w)).unwrap()
        };
        let upsample = || RearrangeKind::Upsample { factor: [2, 2] };
        assert!(order(upsample(), [5, 3, 3], Shape::new(5, 6, 6)).whole_words);
        let halves = |start| RearrangeKind::Slice { sides: vec![12, 4], axis: 0, start, step: 1, count: 6 };
        assert!(order(halves(4), [12, 2, 2], Shape::new(6, 2, 2)).whole_words);
        assert!(!order(halves(6), [12, 2, 2], Shape::new(6, 2, 2)).whole_words);
        let flat = |c| order(RearrangeKind::Reshape, [c, 1, 1], Shape::new(c, 1, 1));
        assert!(flat(6).is_identity());
        assert!(!order(RearrangeKind::Reshape, [6, 1, 2], Shape::new(12, 1, 1)).is_identity());
        // The words are the same, but 2 of 8 channels are padding now.
        let fewer = RearrangeKind::Slice { sides: vec![8], axis: 0, start: 0, step: 1, count: 6 };
        let fewer = order(fewer, [8, 1, 1], Shape::new(6, 1, 1));
        assert!(fewer.whole_words && !fewer.is_identity());
    }
}
