//! The levels of an activation in another order or shape, some of them, or some of them several times: what a
//! [`Rearrange`] does, by a list of where each comes from.
//!
//! Packed int8, NHWC. The list is that of one image: the byte for each byte of the output or, where every word of the
//! output is one of the input, the word for each word. Padded channels are at the zero point.

use rayon::prelude::*;

use super::cases::{compare, packed_pixels};
use super::places::places;
use super::{Check, Random};
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::model::{Rearrange, RearrangeKind, Shape};
use crate::{Error, Result};

/// What the host knows of `gather_i8.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "gather_i8",
    source: include_str!("../../shaders/gather_i8.wgsl"),
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
    /// Words of one image's input.
    pub x_words: u32,
    /// Words of one image's output.
    pub y_words: u32,
    /// Channels of the output, without padding.
    pub channels: u32,
    /// The zero point in all four bytes.
    pub zero_word: u32,
    /// 1: the list is of words.
    pub whole_words: u32,
    /// Fills the struct to 32 bytes.
    pub unused: [u32; 2],
}

/// Where each level comes from, on a device.
#[derive(Debug)]
pub struct Places {
    x_words: usize,
    y_shape: Shape,
    whole_words: bool,
    /// 0 for padded channels.
    list: Buffer,
    identity: bool,
}

impl Places {
    /// Lists where `rearrange` takes the levels of an activation of shape `x_shape` from, which it must fit.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn new(device: &Device, rearrange: &Rearrange, x_shape: Shape) -> Result<Self> {
        let y_shape = rearrange.shape;
        let bytes = places(rearrange, x_shape);
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
        let list = device.upload(&list, "order of the levels")?;
        let x_words = x_shape.pixels() * x_shape.padded_channels() / 4;
        Ok(Self { x_words, y_shape, whole_words, list, identity })
    }

    /// Whether nothing changes: the output is the input, word by word.
    pub fn is_identity(&self) -> bool {
        self.identity
    }
}

/// Records the moving of `images` activations whose zero point is `zero_point`.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If a buffer is too short: an error of the caller.
pub fn dispatch(
    rec: &mut Recorder<'_>,
    images: usize,
    places: &Places,
    zero_point: i32,
    x: &Buffer,
    y: &Buffer,
) -> Result<()> {
    let y_words = places.y_shape.pixels() * places.y_shape.padded_channels() / 4;
    assert!(x.len() >= images * places.x_words && y.len() >= images * y_words, "gather_i8: buffer sizes");
    assert!((-128..=127).contains(&zero_point), "gather_i8: zero point {zero_point}");
    if images * y_words == 0 {
        return Ok(());
    }
    let params = Params {
        images: images as u32,
        x_words: places.x_words as u32,
        y_words: y_words as u32,
        channels: places.y_shape.channels as u32,
        zero_word: u32::from(zero_point as i8 as u8) * 0x0101_0101,
        whole_words: u32::from(places.whole_words),
        unused: [0; 2],
    };
    if rec.is_native() {
        native(&params, &places.list.host(), &x.host(), &mut y.host_mut()[..images * y_words]);
        return Ok(());
    }
    rec.run(&SPEC, &params, &[x, &places.list, y], groups_for(images * y_words, SPEC.workgroup_size[0]))
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
pub fn reference(images: usize, rearrange: &Rearrange, x_shape: Shape, zero_point: i32, x: &[i8]) -> Vec<i8> {
    let y_shape = rearrange.shape;
    let mut y = vec![zero_point as i8; images * y_shape.pixels() * y_shape.padded_channels()];
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
pub fn verify(device: &Device) -> Result<Vec<Check>> {
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
            let places = Places::new(device, &rearrange, x_shape)?;
            let y = device.upload(&vec![0x5a5a_5a5a; expected.len() / 4], "y")?;
            let x = device.upload(&bytemuck::pod_collect_to_vec::<i8, u32>(&x), "x")?;
            let mut rec = device.recorder();
            dispatch(&mut rec, images, &places, zero_point, &x, &y)?;
            rec.submit()?;
            let unit = if places.whole_words { "words" } else { "bytes" };
            let name = format!("{images}×{x_shape}, {rearrange:?}, by {unit}, zero point {zero_point}");
            checks.push(compare(name, &expected, &device.read(&y, y.len())?));
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
        let places = |kind, [c, h, w]: [usize; 3], shape| {
            Places::new(&device, &Rearrange { kind, shape }, Shape::new(c, h, w)).unwrap()
        };
        let upsample = || RearrangeKind::Upsample { factor: [2, 2] };
        assert!(places(upsample(), [5, 3, 3], Shape::new(5, 6, 6)).whole_words);
        let halves = |start| RearrangeKind::Slice { sides: vec![12, 4], axis: 0, start, step: 1, count: 6 };
        assert!(places(halves(4), [12, 2, 2], Shape::new(6, 2, 2)).whole_words);
        assert!(!places(halves(6), [12, 2, 2], Shape::new(6, 2, 2)).whole_words);
        let flat = |c| places(RearrangeKind::Reshape, [c, 1, 1], Shape::new(c, 1, 1));
        assert!(flat(6).is_identity());
        assert!(!places(RearrangeKind::Reshape, [6, 1, 2], Shape::new(12, 1, 1)).is_identity());
        // The words are the same, but 2 of 8 channels are padding now.
        let fewer = RearrangeKind::Slice { sides: vec![8], axis: 0, start: 0, step: 1, count: 6 };
        let fewer = places(fewer, [8, 1, 1], Shape::new(6, 1, 1));
        assert!(fewer.whole_words && !fewer.is_identity());
    }
}
