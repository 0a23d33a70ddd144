//! Counts the values of an activation: bin `floor(|x|·2^−e)` of [`BINS`] for each sign, exact zeros
//! apart.
//!
//! e is the exponent in the row of `states`, which `range` and `coarsen` have made large enough
//! before. The bin is found by shifting the mantissa, so it is exact everywhere, where a GPU's
//! product might flush subnormal numbers. x is f32, NHWC; padded channels and values that are not
//! finite are left out. `counts` and the row's zeros are added to; the caller reads them before any
//! can reach 2^32.

use rayon::prelude::*;

use super::state::{BINS, COUNT_WORDS, Extent, Row, State, magnitude, uneven};
use super::tally::tally;
use super::{coarsen, range};
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, folded, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, words_of};
use crate::model::Shape;

/// `histogram.wgsl`.
pub(crate) static SHADER: Shader = shader!("histogram", "state");

/// Invocations of a workgroup.
const LANES: usize = SHADER.workgroup_size() as usize;

/// Fours of channels for one invocation, at most: a workgroup's counters have 16 bits.
const MOST_QUADS_PER_LANE: usize = 63;

const _: () = assert!(4 * LANES * MOST_QUADS_PER_LANE < 1 << 16);

/// And at least, or writing out the bins would cost more than counting.
const LEAST_QUADS_PER_LANE: usize = 8;

/// Workgroups that keep any adapter busy.
const GROUPS: usize = 1024;

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
    /// Fours of channels that a workgroup counts.
    quads_per_group: u32,
    /// Row of `states`.
    row: u32,
    /// Fills the struct to 32 bytes.
    unused: [u32; 3],
}

/// Counts x into the bins, and its zeros into a row.
pub struct Histogram<'a> {
    /// How x lies.
    pub extent: Extent,
    /// f32, NHWC.
    pub x: &'a Buffer,
    /// What `range` and `coarsen` have updated.
    pub row: Row<'a>,
    /// The bins, [`COUNT_WORDS`] words: positive values, then negative ones.
    pub counts: &'a Buffer,
}

impl Histogram<'_> {
    /// The dispatch where an invocation counts so many fours of channels, at most
    /// [`MOST_QUADS_PER_LANE`].
    fn dispatch(&self, quads_per_lane: usize) -> Option<Dispatch<Params>> {
        let quads = self.extent.quads();
        let params = Params {
            quads: quads as u32,
            quads_per_pixel: self.extent.quads_per_pixel() as u32,
            last_real: self.extent.last_real() as u32,
            quads_per_group: (LANES * quads_per_lane) as u32,
            row: self.row.index as u32,
            unused: [0; 3],
        };
        let groups = folded(quads.div_ceil(LANES * quads_per_lane));
        (quads > 0).then_some(Dispatch { shader: &SHADER, params, groups })
    }
}

impl Kernel for Histogram<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![
            Bound::read("x", self.x, self.extent.words()),
            self.row.bound(),
            Bound::write("counts", self.counts, COUNT_WORDS),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let quads_per_lane = self.extent.quads().div_ceil(LANES * GROUPS);
        self.dispatch(quads_per_lane.clamp(LEAST_QUADS_PER_LANE, MOST_QUADS_PER_LANE)).into_iter()
    }

    fn native(&self, tier: Tier) -> Result<()> {
        let (x, mut state, mut counts) = (self.x.host(), self.row.host_mut(), self.counts.host_mut());
        native(tier, &self.extent, &x[..self.extent.words()], &mut state, &mut counts[..COUNT_WORDS]);
        Ok(())
    }
}

/// The bin of a finite magnitude: its mantissa shifted. A subnormal number is taken for a larger
/// one, and still is below 2^−100.
fn bin(magnitude: u32, exponent: i32) -> u32 {
    let mantissa = magnitude & 0x7F_FFFF | 0x80_0000;
    // Whatever exponent a row holds, the bin is below 2^24 >> 12.
    let shift = exponent.wrapping_add(150 - (magnitude >> 23) as i32);
    mantissa >> shift.clamp(12, 31)
}

/// In parallel, with counters of their own.
fn native(tier: Tier, extent: &Extent, x: &[u32], state: &mut State, counts: &mut [u32]) {
    let exponent = state.exponent;
    let slot = |bits| BINS as u32 * (bits >> 31) + bin(magnitude(bits), exponent);
    let found = x
        .par_chunks(extent.chunk(1 << 16))
        .fold(
            || (vec![0u32; COUNT_WORDS], 0),
            |(mut counts, mut zeros), words| {
                extent.runs(words, |run| zeros += tally(tier, run, 1, slot, &mut counts));
                (counts, zeros)
            },
        )
        .reduce_with(|(mut sum, zeros), (more, more_zeros)| {
            sum.iter_mut().zip(&more).for_each(|(s, m)| *s += m);
            (sum, zeros + more_zeros)
        });
    let Some((found, zeros)) = found else { return };
    state.zeros += zeros;
    counts.iter_mut().zip(&found).for_each(|(s, m)| *s += m);
}

/// The twin. The product is exact: f64 holds every f32 times a power of two from 2^−116 to 2^100.
pub(crate) fn reference(extent: &Extent, x: &[u32], state: &mut State, counts: &mut [u32]) {
    for &bits in extent.real(x).flatten() {
        let value = f64::from(f32::from_bits(bits));
        if value == 0.0 {
            state.zeros += 1;
        } else if value.is_finite() {
            let side = if value > 0.0 { 0 } else { BINS };
            counts[side + (value.abs() * 2f64.powi(-state.exponent)).floor() as usize] += 1;
        }
    }
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(4);
    let mut checks = Vec::new();
    for (images, shape, octaves) in [
        (1, Shape::new(1, 1, 1), 3),
        (3, Shape::new(3, 5, 7), 12),
        (2, Shape::new(64, 9, 4), 126),
        (5, Shape::new(7, 83, 61), 6),
        (5, Shape::new(6, 83, 61), 110),
    ] {
        let extent = Extent { images, shape };
        for only_zeros in [false, true] {
            let mut x = uneven(&mut random, &extent, octaves);
            if only_zeros {
                for bits in &mut x {
                    *bits &= 1 << 31;
                }
            }
            let mut states = [State { zeros: 7, ..State::EMPTY }; 2];
            let mut counts: Vec<u32> = (0..COUNT_WORDS).map(|_| random.integer(0, 9) as u32).collect();
            range::reference(&extent, &x, &mut states[1]);
            coarsen::reference(&mut states[1], &mut counts);
            // A value that is not finite is an error elsewhere; here it must do no harm.
            x[0] = if only_zeros { x[0] } else { 0xFF80_0000 };
            let state_buffer = device.upload(bytemuck::cast_slice(&states), "states")?;
            let count_buffer = device.upload(&counts, "counts")?;
            reference(&extent, &x, &mut states[1], &mut counts);
            let x = device.upload(&x, "x")?;
            let row = Row { states: &state_buffer, index: 1 };
            let mut rec = device.recorder();
            rec.run(&Histogram { extent, x: &x, row, counts: &count_buffer })?;
            rec.submit()?;
            let case = format!("{images} of {shape}, {}", if only_zeros { "zeros" } else { "uneven" });
            let got = words_of(device, &state_buffer)?;
            checks.push(Check::exact(format!("{case}: state"), bytemuck::cast_slice(&states), &got));
            checks.push(Check::exact(format!("{case}: counts"), &counts, &words_of(device, &count_buffer)?));
        }
    }
    checks.push(crowded(device)?);
    Ok(checks)
}

/// [`Histogram`] with workgroups that count as much as they can.
struct Crowded<'a>(Histogram<'a>);

impl Kernel for Crowded<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        self.0.buffers()
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        self.0.dispatch(MOST_QUADS_PER_LANE).into_iter()
    }

    fn native(&self, tier: Tier) -> Result<()> {
        self.0.native(tier)
    }
}

/// As many values in one bin as the 16-bit counters of a workgroup must hold.
fn crowded(device: &Device) -> Result<Check> {
    let extent = Extent { images: 1, shape: Shape::new(4, 3, LANES * MOST_QUADS_PER_LANE) };
    let x = device.upload(&vec![1f32.to_bits(); extent.words()], "x")?;
    let states = device.upload(bytemuck::cast_slice(&[State { exponent: 0, ..State::EMPTY }]), "states")?;
    let counts = device.alloc(COUNT_WORDS, "counts")?;
    let mut expected = vec![0; COUNT_WORDS];
    expected[1] = extent.values() as u32;
    let row = Row { states: &states, index: 0 };
    let mut rec = device.recorder();
    rec.run(&Crowded(Histogram { extent, x: &x, row, counts: &counts }))?;
    rec.submit()?;
    Ok(Check::exact("one crowded bin", &expected, &words_of(device, &counts)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifted_mantissa_is_the_floor_of_the_product() {
        let of = |value: f32, exponent| bin(value.to_bits(), exponent);
        assert_eq!((of(4095.999, 0), of(1.0, 0), of(0.99999994, 0), of(3.5, -1)), (4095, 1, 0, 7));
        assert_eq!((of(f32::MAX, 116), of(f32::MIN_POSITIVE, -100), of(f32::from_bits(1), 116)), (4095, 0, 0));
        assert_eq!((of(2f32.powi(-89), -100), of(2f32.powi(-100), -100), of(2f32.powi(-101), -100)), (2048, 1, 0));
    }
}
