//! Sums that compare a float activation y with another ŷ of the same shape: Σy², Σ(y−ŷ)², Σy·ŷ,
//! Σŷ².
//!
//! From these follow SQNR = 10·log10(Σy² / Σ(y−ŷ)²) and the cosine Σy·ŷ / √(Σy²·Σŷ²). y is f32,
//! NHWC; ŷ is either f32 too or int8, `ŷ = (q − zero_point)·scale`. Padded channels are left out.
//! [`SLOTS`] partial sums of four f32 each are overwritten; the host adds them in f64 ([`total`]),
//! so chains of f32 additions stay short.

use rayon::prelude::*;

use super::state::Extent;
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, compiled_for_tiers, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, check_zero_point, words_of};
use crate::model::Shape;

/// `error_sums.wgsl`.
pub(crate) static SHADER: Shader = shader!("error_sums");

/// Partial sums: one for each workgroup.
const SLOTS: usize = 64;

/// Words of the `sums` buffer.
pub const SUM_WORDS: usize = 4 * SLOTS;

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
    /// Whether ŷ is int8 (1) or f32 (0).
    packed: u32,
    /// Scale of ŷ.
    scale: f32,
    /// Zero point of ŷ.
    zero_point: i32,
    /// Fills the struct to 32 bytes.
    unused: [u32; 2],
}

/// Compares y with another activation.
pub struct ErrorSums<'a> {
    /// How y lies, and ŷ.
    pub extent: Extent,
    /// Scale and zero point of ŷ where it is int8; none where it is f32.
    pub qparams: Option<(f32, i32)>,
    /// f32, NHWC.
    pub y: &'a Buffer,
    /// ŷ: f32, NHWC, or int8, NHWC.
    pub other: &'a Buffer,
    /// [`SUM_WORDS`] words, overwritten.
    pub sums: &'a Buffer,
}

impl ErrorSums<'_> {
    /// Words of ŷ.
    fn other_words(&self) -> usize {
        if self.qparams.is_some() { self.extent.quads() } else { self.extent.words() }
    }
}

impl Kernel for ErrorSums<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        self.qparams.map_or(Ok(()), |(_, zero_point)| check_zero_point(zero_point))
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![
            Bound::read("y", self.y, self.extent.words()),
            Bound::read("the other activation", self.other, self.other_words()),
            Bound::write("sums", self.sums, SUM_WORDS),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let (scale, zero_point) = self.qparams.unwrap_or((1.0, 0));
        let params = Params {
            quads: self.extent.quads() as u32,
            quads_per_pixel: self.extent.quads_per_pixel() as u32,
            last_real: self.extent.last_real() as u32,
            packed: self.qparams.is_some().into(),
            scale,
            zero_point,
            unused: [0; 2],
        };
        // One workgroup for each slot, also where there is nothing to add: then the sums are 0.
        std::iter::once(Dispatch { shader: &SHADER, params, groups: [SLOTS as u32, 1, 1] })
    }

    fn native(&self, tier: Tier) -> Result<()> {
        let (y, other, mut sums) = (self.y.host(), self.other.host(), self.sums.host_mut());
        let (y, other) = (&y[..self.extent.words()], &other[..self.other_words()]);
        let (y, sums) = (bytemuck::cast_slice(y), bytemuck::cast_slice_mut(&mut sums[..SUM_WORDS]));
        native(tier, &self.extent, self.qparams, y, other, sums);
        Ok(())
    }
}

/// Adds the partial sums of one batch: Σy², Σ(y−ŷ)², Σy·ŷ, Σŷ².
pub(crate) fn total(words: &[u32]) -> [f64; 4] {
    let mut sums = [0.0; 4];
    for slot in words.chunks_exact(4) {
        for (sum, word) in sums.iter_mut().zip(slot) {
            *sum += f64::from(f32::from_bits(*word));
        }
    }
    sums
}

/// The sums of as many slices as there are slots, each rounded once.
fn native(tier: Tier, extent: &Extent, qparams: Option<(f32, i32)>, y: &[f32], other: &[u32], sums: &mut [f32]) {
    let pixel = 4 * extent.quads_per_pixel();
    let slice = pixel * extent.pixels().div_ceil(SLOTS).max(1);
    let other_slice = if qparams.is_some() { slice / 4 } else { slice };
    sums.par_chunks_exact_mut(4).enumerate().for_each(|(slot, sums)| {
        let part = |len: usize, step: usize| (slot * step).min(len)..((slot + 1) * step).min(len);
        let (y, other) = (&y[part(y.len(), slice)], &other[part(other.len(), other_slice)]);
        let found = if extent.last_real() == 4 {
            compiled_sums(tier, qparams, y, other)
        } else {
            reference(extent, qparams, y, other)
        };
        for (sum, found) in sums.iter_mut().zip(found) {
            *sum = found as f32;
        }
    });
}

/// Values whose sums run side by side.
const LANES: usize = 8;

compiled_for_tiers! {
    /// The twin where no channel is padding, its sums in another order.
    fn compiled_sums(qparams: Option<(f32, i32)>, y: &[f32], other: &[u32]) -> [f64; 4] = sums_of;
}

#[inline(always)]
fn sums_of(qparams: Option<(f32, i32)>, y: &[f32], other: &[u32]) -> [f64; 4] {
    let mut sums = [[0.0; LANES]; 4];
    match qparams {
        Some((scale, zero_point)) => {
            let of = |q: u8| f64::from(i32::from(q as i8) - zero_point) * f64::from(scale);
            let levels: &[u8] = bytemuck::cast_slice(other);
            let (whole, rest) = levels.as_chunks::<LANES>();
            let (y, y_rest) = y.as_chunks::<LANES>();
            y.iter().zip(whole).for_each(|(y, levels)| add(&mut sums, y, levels.map(of)));
            let mut last = [0.0; LANES];
            last.iter_mut().zip(rest).for_each(|(z, q)| *z = of(*q));
            add(&mut sums, y_rest, last);
        }
        None => {
            for (y, other) in y.chunks(LANES).zip(other.chunks(LANES)) {
                let mut z = [0.0; LANES];
                z.iter_mut().zip(other).for_each(|(z, bits)| *z = f64::from(f32::from_bits(*bits)));
                add(&mut sums, y, z);
            }
        }
    }
    sums.map(|lanes| lanes.iter().sum())
}

#[inline(always)]
fn add(sums: &mut [[f64; LANES]; 4], y: &[f32], z: [f64; LANES]) {
    for (lane, (y, z)) in y.iter().map(|y| f64::from(*y)).zip(z).enumerate() {
        for (sum, term) in sums.iter_mut().zip([y * y, (y - z) * (y - z), y * z, z * z]) {
            sum[lane] += term;
        }
    }
}

/// The twin: Σy², Σ(y−ŷ)², Σy·ŷ, Σŷ² in f64.
fn reference(extent: &Extent, qparams: Option<(f32, i32)>, y: &[f32], other: &[u32]) -> [f64; 4] {
    let mut sums = [0.0; 4];
    each(extent, qparams, y, other, |y, z| {
        for (sum, term) in sums.iter_mut().zip([y * y, (y - z) * (y - z), y * z, z * z]) {
            *sum += term;
        }
    });
    sums
}

/// Calls `f` with y and ŷ of every real channel of whole pixels.
fn each(extent: &Extent, qparams: Option<(f32, i32)>, y: &[f32], other: &[u32], mut f: impl FnMut(f64, f64)) {
    let channels = extent.shape.channels;
    for (pixel, y) in y.chunks_exact(4 * extent.quads_per_pixel().max(1)).enumerate() {
        for (c, &v) in y[..channels].iter().enumerate() {
            let i = pixel * y.len() + c;
            let z = match qparams {
                Some((scale, zero_point)) => {
                    let q = i32::from((other[i / 4] >> (8 * (i % 4))) as u8 as i8);
                    f64::from(q - zero_point) * f64::from(scale)
                }
                None => f64::from(f32::from_bits(other[i])),
            };
            f(f64::from(v), z);
        }
    }
}

/// Compares with the twin within the rounding of f32.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(6);
    let mut checks = Vec::new();
    for (images, shape) in
        [(1, Shape::new(1, 1, 1)), (3, Shape::new(3, 5, 7)), (2, Shape::new(64, 9, 4)), (5, Shape::new(7, 83, 61))]
    {
        for qparams in [None, Some((0.0078125, 0)), Some((0.011, -17))] {
            let extent = Extent { images, shape };
            let mut y = random.floats(extent.words());
            let other = match qparams {
                // Close to y, as an activation and its quantized form are.
                None => y.iter().map(|v| (v + random.float() * 0.01).to_bits()).collect(),
                Some(_) => (0..extent.quads()).map(|_| random.next_u64() as u32).collect::<Vec<_>>(),
            };
            let stored = shape.padded_channels();
            y.iter_mut().enumerate().filter(|(i, _)| i % stored >= shape.channels).for_each(|(_, v)| *v = f32::NAN);
            let words: Vec<u32> = y.iter().map(|v| v.to_bits()).collect();
            // What a batch before left there must not count.
            let sums = device.upload(&[1f32.to_bits(); SUM_WORDS], "sums")?;
            let (y_buffer, other_buffer) = (device.upload(&words, "y")?, device.upload(&other, "other")?);
            let mut rec = device.recorder();
            rec.run(&ErrorSums { extent, qparams, y: &y_buffer, other: &other_buffer, sums: &sums })?;
            rec.submit()?;
            let got = total(&words_of(device, &sums)?).map(|v| v as f32);
            let expected = reference(&extent, qparams, &y, &other);
            let case = format!("{images} of {shape}, {}", if qparams.is_some() { "int8" } else { "f32" });
            checks.push(Check::close(case, &expected, &bounds(&extent, qparams, &y, &other), &got));
        }
    }
    Ok(checks)
}

/// Bounds of the error of the shader's f32 sums, with u = 2^−24.
///
/// A term passes through two roundings of its own and the additions of the longest chain: those of
/// one invocation, 4 channels, 8 levels of the tree, and the rounding of the total:
/// `|error| ≤ k·u/(1 − k·u) · Σ|term|`. Where ŷ is a product it may be rounded (or be fused into
/// the difference): it and the difference d are off by at most `u·|ŷ|` and `δ = u·(|ŷ| + |d|)`, d²
/// by `2|d|·δ + δ²`.
fn bounds(extent: &Extent, qparams: Option<(f32, i32)>, y: &[f32], other: &[u32]) -> [f64; 4] {
    let unit = 2f64.powi(-24);
    let chain = extent.quads().div_ceil(SLOTS * SHADER.workgroup_size() as usize) + 4 + 8 + 4;
    let relative = chain as f64 * unit / (1.0 - chain as f64 * unit);
    let mut bounds = [0.0; 4];
    each(extent, qparams, y, other, |y, z| {
        let d = (y - z).abs();
        let delta = unit * (z.abs() + d);
        bounds[0] += relative * y * y;
        bounds[1] += (relative * d * d + 2.0 * d * delta + delta * delta) * (1.0 + relative);
        bounds[2] += relative * (y * z).abs();
        bounds[3] += relative * z * z;
        // A product that falls below the normal numbers may be flushed to zero.
        for bound in &mut bounds {
            *bound += f64::from(f32::MIN_POSITIVE);
        }
    });
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twin_sums_real_channels_only() {
        let extent = Extent { images: 1, shape: Shape::new(2, 1, 1) };
        let y = [3.0, -1.0, f32::NAN, f32::NAN];
        let packed = u32::from_le_bytes([4, 0xFE, 99, 99]);
        assert_eq!(reference(&extent, Some((0.5, 2)), &y, &[packed]), [10.0, 5.0, 5.0, 5.0]);
        let other = [2.0f32, -1.0, 7.0, 7.0].map(f32::to_bits);
        assert_eq!(reference(&extent, None, &y, &other), [10.0, 1.0, 7.0, 5.0]);
    }
}
