//! Counts the magnitudes of each channel of an activation in half octaves.
//!
//! A non-zero finite |x| with bits `u` belongs to class `clamp((u >> 22) − 190, 0, 127)`, from
//! 2^−32 to 2^32. Integers, so the same on every device and in any order; `E[x²]` of each channel
//! follows from them. x is f32, NHWC; padded channels are left out. `counts` (channels ×
//! [`CLASSES`]) is added to.

use rayon::prelude::*;

use super::state::{Extent, INFINITY_BITS, magnitude, uneven};
use super::tally::tally;
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, words_of};
use crate::model::Shape;

/// `magnitudes.wgsl`.
pub(crate) static SHADER: Shader = shader!("magnitudes");

/// Classes of magnitudes.
pub const CLASSES: usize = 128;

/// Pixels that one invocation counts, as long as that leaves enough workgroups.
const PIXELS_PER_LANE: usize = 32;

/// Workgroups that keep any adapter busy.
const GROUPS: usize = 2048;

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Pixels in the batch.
    pixels: u32,
    /// Channels without padding.
    channels: u32,
    /// Fours of channels in a pixel.
    quads_per_pixel: u32,
    /// Fours of channels of a workgroup: 1, 2 or 4.
    tile: u32,
}

/// Counts the magnitudes of x.
pub struct Magnitudes<'a> {
    /// How x lies.
    pub extent: Extent,
    /// f32, NHWC.
    pub x: &'a Buffer,
    /// [`CLASSES`] words for each channel.
    pub counts: &'a Buffer,
}

impl Magnitudes<'_> {
    /// Words of the counts; saturated, as those of an [`Extent`].
    fn count_words(&self) -> usize {
        self.extent.shape.channels.saturating_mul(CLASSES)
    }
}

impl Kernel for Magnitudes<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![Bound::read("x", self.x, self.extent.words()), Bound::write("counts", self.counts, self.count_words())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let (pixels, quads) = (self.extent.pixels(), self.extent.quads_per_pixel());
        let tile = match quads {
            0 | 1 => 1,
            2 => 2,
            _ => 4,
        };
        let params = Params {
            pixels: pixels as u32,
            channels: self.extent.shape.channels as u32,
            quads_per_pixel: quads as u32,
            tile: tile as u32,
        };
        let tiles = quads.div_ceil(tile);
        let pixels_per_group = SHADER.workgroup_size() as usize / tile * PIXELS_PER_LANE;
        let slices = pixels.div_ceil(pixels_per_group).min((GROUPS / tiles.max(1)).max(1));
        let dispatch = Dispatch { shader: &SHADER, params, groups: [tiles as u32, slices as u32, 1] };
        (self.extent.quads() > 0).then_some(dispatch).into_iter()
    }

    fn native(&self, tier: Tier) -> Result<()> {
        let (x, mut counts) = (self.x.host(), self.counts.host_mut());
        native(tier, &self.extent, &x[..self.extent.words()], &mut counts[..self.count_words()]);
        Ok(())
    }
}

/// The class of a non-zero magnitude.
fn class(magnitude: u32) -> u32 {
    (magnitude >> 22).saturating_sub(190).min(CLASSES as u32 - 1)
}

/// In parallel, with counters of their own for each task: classes × channels, for most values lie
/// in few classes, and what is counted lies close together then.
fn native(tier: Tier, extent: &Extent, x: &[u32], counts: &mut [u32]) {
    let channels = extent.shape.channels;
    let slot = |bits| channels as u32 * class(magnitude(bits));
    // Counters are set up and added once for a task: worth it only for many more values.
    let chunk = extent.chunk((1 << 16).max(8 * counts.len()));
    let found = x
        .par_chunks(chunk)
        .fold(
            || vec![0u32; counts.len()],
            |mut found, words| {
                extent.runs(words, |run| {
                    tally(tier, run, channels, slot, &mut found);
                });
                found
            },
        )
        .reduce_with(|mut sum, more| {
            sum.iter_mut().zip(&more).for_each(|(s, m)| *s += m);
            sum
        });
    let Some(found) = found else { return };
    for (class, found) in found.chunks_exact(channels).enumerate() {
        for (to, count) in counts.iter_mut().skip(class).step_by(CLASSES).zip(found) {
            *to += count;
        }
    }
}

/// The twin.
fn reference(extent: &Extent, x: &[u32], counts: &mut [u32]) {
    for pixel in extent.real(x) {
        for (&bits, classes) in pixel.iter().zip(counts.chunks_exact_mut(CLASSES)) {
            if (1..INFINITY_BITS).contains(&magnitude(bits)) {
                classes[class(magnitude(bits)) as usize] += 1;
            }
        }
    }
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(5);
    let mut checks = Vec::new();
    for (images, shape, octaves) in [
        (1, Shape::new(1, 1, 1), 3),
        (3, Shape::new(3, 95, 37), 40),
        (2, Shape::new(8, 90, 64), 30),
        (1, Shape::new(18, 53, 61), 60),
        (7, Shape::new(515, 1, 2), 126),
    ] {
        let extent = Extent { images, shape };
        let mut x = uneven(&mut random, &extent, octaves);
        x[0] = INFINITY_BITS;
        let mut counts: Vec<u32> = (0..CLASSES * shape.channels).map(|_| random.integer(0, 9) as u32).collect();
        let buffer = device.upload(&counts, "counts")?;
        reference(&extent, &x, &mut counts);
        let x = device.upload(&x, "x")?;
        let mut rec = device.recorder();
        rec.run(&Magnitudes { extent, x: &x, counts: &buffer })?;
        rec.submit()?;
        let got = words_of(device, &buffer)?;
        checks.push(Check::exact(format!("{images} of {shape}, ±{octaves} octaves"), &counts, &got));
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_half_octaves_around_one() {
        let of = |v: f32| class(v.to_bits());
        assert_eq!((of(1.0), of(1.5), of(1.4999), of(2.0), of(0.75)), (64, 65, 64, 66, 63));
        assert_eq!((of(f32::from_bits(1)), of(2f32.powi(-32)), of(2f32.powi(32)), of(f32::MAX)), (0, 0, 127, 127));
    }
}
