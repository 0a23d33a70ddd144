//! f32 to int8, behind a layer kept in float: `q = clamp(round(x · r) + zero_point, qmin, qmax)`,
//! half to even.
//!
//! x is NHWC f32, y NHWC packed int8, both with channels in fours; padded channels of y are at the
//! zero point. `r` is `1 / scale`, rounded to f32 on the host: a product is rounded correctly
//! everywhere, where WGSL's division may be wrong by 2.5 units in the last place and so differ
//! between devices. Two roundings (r and the product) move `x / scale` by at most `2^−23` of
//! itself, so the level can be the neighbour of that of [`QParams::quantize`] only so close to a
//! tie. The clamp comes before the zero point is added, on floats, so that nothing overflows.
//! Scales beyond 2^±126, which devices may take for 0, and NaN give some level; 0 gives the zero
//! point whatever the scale.

use bytemuck::cast_slice;
use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, compiled_for_tiers, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome};
use crate::model::QParams;

/// `quantize_activation.wgsl`.
pub(crate) static SHADER: Shader = shader!("quantize_activation");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Pixels of the whole batch.
    pixels: u32,
    /// Channels, without padding.
    channels: u32,
    /// 1 / scale.
    inverse_scale: f32,
    /// The level of real 0.
    zero_point: i32,
    /// `qmin − zero_point`.
    low: f32,
    /// `qmax − zero_point`.
    high: f32,
    /// Fills the struct to 32 bytes.
    unused: [u32; 2],
}

impl Params {
    fn new(pixels: usize, channels: usize, q: &QParams) -> Self {
        Self {
            pixels: pixels as u32,
            channels: channels as u32,
            // Infinite for the smallest scales, and 0 times infinity is no number.
            inverse_scale: ((1.0 / f64::from(q.scale)) as f32).min(f32::MAX),
            zero_point: q.zero_point,
            low: (q.qmin - q.zero_point) as f32,
            high: (q.qmax - q.zero_point) as f32,
            unused: [0; 2],
        }
    }
}

/// The levels of f32 values.
pub struct QuantizeActivation<'a> {
    /// Pixels of all images.
    pub pixels: usize,
    /// Channels, without padding.
    pub channels: usize,
    /// How the levels are stored.
    pub q: &'a QParams,
    /// f32.
    pub x: &'a Buffer,
    /// Packed int8.
    pub y: &'a Buffer,
}

impl QuantizeActivation<'_> {
    /// Fours of channels of the batch.
    fn quads(&self) -> usize {
        self.pixels * self.channels.div_ceil(4)
    }
}

impl Kernel for QuantizeActivation<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![Bound::read("x", self.x, 4 * self.quads()), Bound::write("y", self.y, self.quads())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        Dispatch::of(&SHADER, self.quads(), Params::new(self.pixels, self.channels, self.q)).into_iter()
    }

    fn native(&self, tier: Tier) -> Result<()> {
        let (params, quads) = (Params::new(self.pixels, self.channels, self.q), self.quads());
        native(tier, &params, cast_slice(&self.x.host()[..4 * quads]), &mut self.y.host_mut()[..quads]);
        Ok(())
    }
}

/// What the shader does, parallel over pixels, a good many at a time.
fn native(tier: Tier, params: &Params, x: &[f32], y: &mut [u32]) {
    const PIXELS: usize = 64;
    let padded = params.channels.next_multiple_of(4) as usize;
    let y: &mut [i8] = bytemuck::cast_slice_mut(y);
    let chunks = x.par_chunks(PIXELS * padded).zip(y.par_chunks_mut(PIXELS * padded));
    chunks.for_each(|(x, y)| compiled_levels(tier, params, x, y));
}

/// Levels of whole pixels; a plain loop over all, for the instruction set decides how it is
/// vectorized, then padding.
#[inline(always)]
fn levels(params: &Params, x: &[f32], y: &mut [i8]) {
    let padded = params.channels.next_multiple_of(4) as usize;
    for (y, x) in y.iter_mut().zip(x) {
        let steps = (x * params.inverse_scale).round_ties_even().max(params.low).min(params.high);
        *y = (steps as i32 + params.zero_point) as i8;
    }
    if padded > params.channels as usize {
        for pixel in y.chunks_exact_mut(padded) {
            pixel[params.channels as usize..].fill(params.zero_point as i8);
        }
    }
}

compiled_for_tiers! {
    fn compiled_levels(params: &Params, x: &[f32], y: &mut [i8]) = levels;
}

/// The twin: the levels of [`QParams::quantize`], one for each channel, padded ones included.
pub(crate) fn reference(channels: usize, q: &QParams, x: &[f32]) -> Vec<i32> {
    let padded = channels.next_multiple_of(4);
    let level = |(at, x): (usize, &f32)| if at % padded < channels { q.quantize(f64::from(*x)) } else { q.zero_point };
    x.iter().enumerate().map(level).collect()
}

/// Compares with the twin: to the bit, but for neighbouring levels where `x / scale` is within its
/// rounding error of a tie. Where the scale is a power of two there is no such error, and ties
/// themselves must be right.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(6);
    let mut checks = Vec::new();
    let own = QParams { scale: 0.125, zero_point: 3, qmin: -8, qmax: 7 };
    for (pixels, channels, q) in [
        (1, 1, QParams::symmetric(1.0, 8)),
        (400, 3, QParams { scale: 0.5, ..QParams::symmetric(1.0, 8) }),
        (400, 5, own),
        (700, 4, QParams::affine(0.0, 0.9, 8)),
        (333, 7, QParams::affine(-0.3, 0.77, 8)),
        (257, 6, QParams::symmetric(0.5, 4)),
        (64, 8, QParams { scale: 1e-37, ..own }),
    ] {
        let padded = usize::next_multiple_of(channels, 4);
        let x: Vec<f32> = (0..pixels * padded)
            .map(|at| match at % 8 {
                // On, or as near as floats come to, every tie in turn, and beyond the ends.
                0..4 => (random.integer(-300, 300) as f32 * 0.5) * q.scale,
                4 => [f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0][at / 8 % 6],
                _ => random.float(),
            })
            .collect();
        let buffer = device.upload(cast_slice(&x), "x")?;
        let words = outcome(device, x.len() / 4, |rec, y| {
            rec.run(&QuantizeActivation { pixels, channels, q: &q, x: &buffer, y })
        })?;
        let mut got: Vec<i32> = words.iter().flat_map(|w| w.to_le_bytes()).map(|b| i32::from(b as i8)).collect();
        let expected = reference(channels, &q, &x);
        let exact_scale = q.scale.is_normal() && q.scale.to_bits() << 9 == 0;
        for ((got, expected), x) in got.iter_mut().zip(&expected).zip(&x) {
            if !exact_scale && got.abs_diff(*expected) == 1 && near_tie(f64::from(*x) / f64::from(q.scale)) {
                *got = *expected;
            }
        }
        let case = format!("{pixels} pixels of {channels} channels, {q:?}");
        checks.push(Check::exact(case, &expected, &got));
    }
    Ok(checks)
}

/// Whether two roundings, `2u + u²` of the value with `u = 2^−24`, can carry it across a tie.
fn near_tie(steps: f64) -> bool {
    let u = f64::from(f32::EPSILON) / 2.0;
    ((steps - steps.floor()) - 0.5).abs() <= (2.0 * u + u * u) * steps.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_even_and_the_ends_hold() {
        let q = QParams { scale: 2.0, zero_point: 1, qmin: -4, qmax: 3 };
        let x = [1.0, 3.0, -1.0, -3.0, 5.0, 1e30, f32::NEG_INFINITY, 9.0];
        let mut y = [0; 2];
        native(Tier::Plain, &Params::new(1, 7, &q), &x, &mut y);
        let levels: Vec<i8> = y.iter().flat_map(|w| w.to_le_bytes()).map(|b| b as i8).collect();
        assert_eq!(levels, [1, 3, 1, -1, 3, 3, -4, 1]);
        let tiny = QParams { scale: f32::from_bits(1), ..q };
        native(Tier::Plain, &Params::new(1, 4, &tiny), &[0.0, -0.0, 1.0, -1.0], &mut y[..1]);
        assert_eq!(y[0].to_le_bytes().map(|b| b as i8), [1, 1, 3, -4]);
    }
}
