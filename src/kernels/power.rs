//! Counts the magnitudes of each channel of an activation in half octaves.
//!
//! A non-zero finite |x| with bits `u` belongs to class `clamp((u >> 22) − 190, 0, 127)`, from 2^−32 to 2^32. Integers, so
//! the same on every device and in any order; `E[x²]` of each channel follows from them. x is f32, NHWC; padded channels are
//! left out. `power` (channels × [`CLASSES`]) is added to.

use rayon::prelude::*;

use super::state::{Extent, INFINITY_BITS, magnitude, uneven};
use super::tally::tally;
use super::{Check, Random};
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, Tier};
use crate::model::Shape;

/// What the host knows of `power.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "power",
    source: include_str!("../../shaders/power.wgsl"),
    bindings: &[Binding::Params, Binding::Read, Binding::ReadWrite],
    workgroup_size: [256, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Classes of magnitudes.
pub const CLASSES: usize = 128;

/// Pixels that one invocation counts, as long as that leaves enough workgroups.
const PIXELS_PER_LANE: usize = 32;

/// Workgroups that keep any adapter busy.
const GROUPS: usize = 2048;

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Pixels in the batch.
    pub pixels: u32,
    /// Channels without padding.
    pub channels: u32,
    /// Fours of channels in a pixel.
    pub quads_per_pixel: u32,
    /// Fours of channels of a workgroup: 1, 2 or 4.
    pub tile: u32,
}

/// Records the counting of x into `power`.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If x is smaller than the extent, or `power` has another size: errors of the caller.
pub fn dispatch(rec: &mut Recorder<'_>, extent: &Extent, x: &Buffer, power: &Buffer) -> Result<()> {
    assert!(x.len() >= extent.words() && power.len() == CLASSES * extent.shape.channels, "power: buffer sizes");
    if rec.is_native() {
        native(rec.tier(), extent, &x.host()[..extent.words()], &mut power.host_mut());
        return Ok(());
    }
    let tile = match extent.quads_per_pixel() {
        0 | 1 => 1,
        2 => 2,
        _ => 4,
    };
    let params = Params {
        pixels: extent.pixels() as u32,
        channels: extent.shape.channels as u32,
        quads_per_pixel: extent.quads_per_pixel() as u32,
        tile: tile as u32,
    };
    let tiles = extent.quads_per_pixel().div_ceil(tile).max(1);
    let pixels_per_group = SPEC.workgroup_size[0] as usize / tile * PIXELS_PER_LANE;
    let slices = extent.pixels().div_ceil(pixels_per_group).clamp(1, (GROUPS / tiles).max(1));
    rec.run(&SPEC, &params, &[x, power], [tiles as u32, slices as u32, 1])
}

/// The class of a non-zero magnitude.
fn class(magnitude: u32) -> u32 {
    (magnitude >> 22).saturating_sub(190).min(CLASSES as u32 - 1)
}

/// In parallel, with counters of their own for each task: classes × channels, for most values lie in few classes, and what
/// is counted lies close together then.
fn native(tier: Tier, extent: &Extent, x: &[u32], power: &mut [u32]) {
    let channels = extent.shape.channels;
    let slot = |bits| channels as u32 * class(magnitude(bits));
    // Counters are set up and added once for a task: worth it only for many more values.
    let chunk = extent.chunk((1 << 16).max(8 * power.len()));
    let found = x
        .par_chunks(chunk)
        .fold(
            || vec![0u32; power.len()],
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
        for (to, count) in power.iter_mut().skip(class).step_by(CLASSES).zip(found) {
            *to += count;
        }
    }
}

/// The twin.
pub fn reference(extent: &Extent, x: &[u32], power: &mut [u32]) {
    for pixel in extent.real(x) {
        for (&bits, classes) in pixel.iter().zip(power.chunks_exact_mut(CLASSES)) {
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
pub fn verify(device: &Device) -> Result<Vec<Check>> {
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
        let mut power: Vec<u32> = (0..CLASSES * shape.channels).map(|_| random.integer(0, 9) as u32).collect();
        let buffer = device.upload(&power, "power")?;
        reference(&extent, &x, &mut power);
        let mut rec = device.recorder();
        dispatch(&mut rec, &extent, &device.upload(&x, "x")?, &buffer)?;
        rec.submit()?;
        let got = device.read(&buffer, buffer.len())?;
        checks.push(Check::exact(format!("{images} of {shape}, ±{octaves} octaves"), &power, &got));
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
