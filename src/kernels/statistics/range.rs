//! Least and greatest value of an activation, and the first image of the batch with NaN or infinity
//! in it.
//!
//! Values are compared by integer keys ([`State::key`]), so the result is the same bits on every
//! device, subnormal numbers included, and does not depend on the order. x is f32, NHWC; padded
//! channels are left out. A row of the `states` buffer is updated: what was seen before stays.

use rayon::prelude::*;

use super::state::{Extent, INFINITY_BITS, Row, State, magnitude, uneven};
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, compiled_for_tiers, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, words_of};
use crate::model::Shape;

/// `range.wgsl`.
pub(crate) static SHADER: Shader = shader!("range", "state", "extremes");

/// Workgroups at most; each adds three atomics to one row.
const MOST_GROUPS: usize = 1024;

/// Fours of channels that one invocation looks at, as long as that leaves enough workgroups.
const QUADS_PER_LANE: usize = 16;

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Fours of channels in the batch.
    quads: u32,
    /// Fours of channels in a pixel.
    quads_per_pixel: u32,
    /// Real channels in the last four of a pixel.
    last_real: u32,
    /// Fours of channels in an image.
    quads_per_image: u32,
    /// Row of `states`.
    row: u32,
    /// Fills the struct to 32 bytes.
    unused: [u32; 3],
}

/// Updates a row with the values of x.
pub struct Range<'a> {
    /// How x lies.
    pub extent: Extent,
    /// f32, NHWC.
    pub x: &'a Buffer,
    /// Where the range is kept.
    pub row: Row<'a>,
}

impl Kernel for Range<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![Bound::read("x", self.x, self.extent.words()), self.row.bound()]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let quads = self.extent.quads();
        let quads_per_lane = SHADER.workgroup_size() as usize * QUADS_PER_LANE;
        let dispatch = || Dispatch {
            shader: &SHADER,
            params: Params {
                quads: quads as u32,
                quads_per_pixel: self.extent.quads_per_pixel() as u32,
                last_real: self.extent.last_real() as u32,
                quads_per_image: (quads / self.extent.images) as u32,
                row: self.row.index as u32,
                unused: [0; 3],
            },
            groups: [quads.div_ceil(quads_per_lane).min(MOST_GROUPS) as u32, 1, 1],
        };
        (quads > 0).then(dispatch).into_iter()
    }

    fn native(&self, tier: Tier) -> Result<()> {
        native(tier, &self.extent, &self.x.host()[..self.extent.words()], &mut self.row.host_mut());
        Ok(())
    }
}

/// In parallel, and looking for what is not finite only where the largest magnitude of a chunk is
/// not.
fn native(tier: Tier, extent: &Extent, x: &[u32], state: &mut State) {
    let chunk = extent.chunk(1 << 15);
    let pixels_per_chunk = chunk / extent.shape.padded_channels().max(1);
    let found = x
        .par_chunks(chunk)
        .enumerate()
        .map(|(i, words)| {
            let mut found = State::EMPTY;
            let (mut min, mut max) = (i32::MAX, i32::MIN);
            extent.runs(words, |run| {
                let (least, greatest) = compiled_extremes(tier, run);
                (min, max) = (min.min(least), max.max(greatest));
            });
            if ordered(INFINITY_BITS | 1 << 31) < min && max < ordered(INFINITY_BITS) {
                (found.min_key, found.max_key) = (key(min), key(max));
            } else {
                scan(extent, i * pixels_per_chunk, words, &mut found);
            }
            found
        })
        .reduce(
            || State::EMPTY,
            |a, b| State {
                min_key: a.min_key.min(b.min_key),
                max_key: a.max_key.max(b.max_key),
                bad_image: a.bad_image.min(b.bad_image),
                ..a
            },
        );
    state.min_key = state.min_key.min(found.min_key);
    state.max_key = state.max_key.max(found.max_key);
    state.bad_image = state.bad_image.min(found.bad_image);
}

/// The least and the greatest of [`ordered`].
#[inline(always)]
fn extremes(run: &[u32]) -> (i32, i32) {
    run.iter().fold((i32::MAX, i32::MIN), |(min, max), &bits| (min.min(ordered(bits)), max.max(ordered(bits))))
}

compiled_for_tiers! {
    fn compiled_extremes(run: &[u32]) -> (i32, i32) = extremes;
}

/// Maps the bits of a float to an i32 of the same order, with −0 just below 0: cheaper than
/// [`State::key`] for many values.
fn ordered(bits: u32) -> i32 {
    let signed = bits.cast_signed();
    signed ^ ((signed >> 31).cast_unsigned() >> 1).cast_signed()
}

/// [`State::key`] of what [`ordered`] gave.
fn key(ordered: i32) -> u32 {
    // −0 is 0.
    let ordered = if ordered == -1 { 0 } else { ordered };
    ordered.cast_unsigned() ^ 1 << 31
}

/// The twin.
pub(crate) fn reference(extent: &Extent, x: &[u32], state: &mut State) {
    scan(extent, 0, x, state);
}

/// The twin on the pixels from `first` on.
fn scan(extent: &Extent, first: usize, x: &[u32], state: &mut State) {
    for (i, pixel) in extent.real(x).enumerate() {
        for &bits in pixel {
            if magnitude(bits) < INFINITY_BITS {
                state.min_key = state.min_key.min(State::key(bits));
                state.max_key = state.max_key.max(State::key(bits));
            } else {
                let image = (first + i) / extent.shape.pixels();
                state.bad_image = state.bad_image.min(image as u32);
            }
        }
    }
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(2);
    let mut checks = Vec::new();
    let shapes =
        [(1, Shape::new(1, 1, 1)), (3, Shape::new(3, 5, 7)), (2, Shape::new(64, 9, 4)), (5, Shape::new(7, 83, 61))];
    for (images, shape) in shapes {
        for kind in ["uneven", "negative", "zero", "with NaN", "with infinity"] {
            let extent = Extent { images, shape };
            let mut x = uneven(&mut random, &extent, 100);
            let stored = shape.padded_channels();
            // The first pixel of the last image, and the last of one before: where a wrong division
            // shows.
            let (last_image, before) = ((images - 1) * shape.pixels(), (images / 2 + 1) * shape.pixels() - 1);
            match kind {
                "negative" => x.iter_mut().for_each(|bits| *bits |= 1 << 31),
                "zero" => x.iter_mut().for_each(|bits| *bits &= 1 << 31),
                "with NaN" => x[last_image * stored + shape.channels - 1] = 0xFFC0_0001,
                "with infinity" => {
                    x[last_image * stored] = INFINITY_BITS;
                    x[before.min(last_image) * stored] = INFINITY_BITS | 1 << 31;
                }
                _ => {}
            }
            // The middle row has seen ±2^-90 before; the others must not be touched.
            let mut states = [State::EMPTY; 3];
            states[1].min_key = State::key((-(2f32.powi(-90))).to_bits());
            states[1].max_key = State::key(2f32.powi(-90).to_bits());
            let buffer = device.upload(bytemuck::cast_slice(&states), "states")?;
            reference(&extent, &x, &mut states[1]);
            let x = device.upload(&x, "x")?;
            let mut rec = device.recorder();
            rec.run(&Range { extent, x: &x, row: Row { states: &buffer, index: 1 } })?;
            rec.submit()?;
            let got = words_of(device, &buffer)?;
            checks.push(Check::exact(format!("{images} of {shape}, {kind}"), bytemuck::cast_slice(&states), &got));
        }
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twin_finds_extremes_and_the_first_bad_image() {
        let extent = Extent { images: 3, shape: Shape::new(1, 1, 2) };
        let mut x = [[0.0, f32::NAN, f32::NAN, f32::NAN]; 6];
        for (pixel, v) in x.iter_mut().zip([-0.0, 2.5, -7.0, 1.0, f32::INFINITY, f32::NAN]) {
            pixel[0] = v;
        }
        let mut state = State::EMPTY;
        reference(&extent, bytemuck::cast_slice(x.as_flattened()), &mut state);
        assert_eq!((state.min(), state.max(), state.bad_image), (-7.0, 2.5, 2));
    }
}
