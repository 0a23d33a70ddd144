//! Least and greatest value of an activation, and the first image of the batch with NaN or infinity in it.
//!
//! Values are compared by integer keys ([`State::key`]), so the result is the same bits on every device, subnormal
//! numbers included, and does not depend on the order. x is f32, NHWC; padded channels are left out. A row of the
//! `states` buffer is updated: what was seen before stays.

use rayon::prelude::*;

use super::state::{Extent, INFINITY_BITS, State, magnitude, uneven};
use super::{Check, Random};
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, Tier, compiled_for_tiers};
use crate::model::Shape;

/// What the host knows of `range.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "range",
    source: concat!(include_str!("../../shaders/extremes.wgsl"), include_str!("../../shaders/range.wgsl")),
    bindings: &[Binding::Params, Binding::Read, Binding::ReadWrite],
    workgroup_size: [256, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Workgroups at most; each adds three atomics to one row.
const MOST_GROUPS: usize = 1024;

/// Fours of channels that one invocation looks at, as long as that leaves enough workgroups.
const QUADS_PER_LANE: usize = 16;

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Fours of channels in the batch.
    pub quads: u32,
    /// Fours of channels in a pixel.
    pub quads_per_pixel: u32,
    /// Real channels in the last four of a pixel.
    pub last_real: u32,
    /// Fours of channels in an image.
    pub quads_per_image: u32,
    /// Row of `states`.
    pub row: u32,
    /// Fills the struct to 32 bytes.
    pub unused: [u32; 3],
}

/// Records the update of row `row` of `states` with the values of x.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If x is smaller than the extent, or `states` has no such row: errors of the caller.
pub fn dispatch(rec: &mut Recorder<'_>, extent: &Extent, x: &Buffer, states: &Buffer, row: usize) -> Result<()> {
    assert!(x.len() >= extent.words() && states.len() >= State::WORDS * (row + 1), "range: buffer sizes");
    if rec.is_native() {
        let mut states = states.host_mut();
        let rows: &mut [State] = bytemuck::cast_slice_mut(&mut states);
        native(rec.tier(), extent, &x.host()[..extent.words()], &mut rows[row]);
        return Ok(());
    }
    let params = Params {
        quads: extent.quads() as u32,
        quads_per_pixel: extent.quads_per_pixel() as u32,
        last_real: extent.last_real() as u32,
        quads_per_image: (extent.shape.pixels() * extent.quads_per_pixel()) as u32,
        row: row as u32,
        unused: [0; 3],
    };
    let groups = extent.quads().div_ceil(SPEC.workgroup_size[0] as usize * QUADS_PER_LANE).clamp(1, MOST_GROUPS);
    rec.run(&SPEC, &params, &[x, states], [groups as u32, 1, 1])
}

/// In parallel, and looking for what is not finite only where the largest magnitude of a chunk is not.
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

/// Maps the bits of a float to an i32 of the same order, with −0 just below 0: cheaper than [`State::key`] for many values.
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
pub fn reference(extent: &Extent, x: &[u32], state: &mut State) {
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
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(2);
    let mut checks = Vec::new();
    let shapes =
        [(1, Shape::new(1, 1, 1)), (3, Shape::new(3, 5, 7)), (2, Shape::new(64, 9, 4)), (5, Shape::new(7, 83, 61))];
    for (images, shape) in shapes {
        for kind in ["uneven", "negative", "zero", "with NaN", "with infinity"] {
            let extent = Extent { images, shape };
            let mut x = uneven(&mut random, &extent, 100);
            let stored = shape.padded_channels();
            // The first pixel of the last image, and the last of one before: where a wrong division shows.
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
            let mut rec = device.recorder();
            dispatch(&mut rec, &extent, &device.upload(&x, "x")?, &buffer, 1)?;
            rec.submit()?;
            let got = device.read(&buffer, buffer.len())?;
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
