//! Widens the bins of a histogram until they hold the largest magnitude that `range` has seen.
//!
//! The exponent becomes the least `e ≥ −100` with `max|x| < 4096·2^e`, never less than it was;
//! where it grows by d, each new bin is the sum of 2^d old ones. Exact:
//! `floor(floor(|x|·2^−e)·2^−d) = floor(|x|·2^−(e+d))`. Positive and negative values share one
//! exponent.

use super::state::{BINS, COUNT_WORDS, MIN_EXPONENT, Row, State};
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, words_of};

/// `coarsen.wgsl`.
pub(crate) static SHADER: Shader = shader!("coarsen", "state");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Row of `states`.
    row: u32,
    /// Fills the struct to 16 bytes.
    unused: [u32; 3],
}

/// Updates the exponent of a row, and the counts with it.
pub struct Coarsen<'a> {
    /// What `range` has updated.
    pub row: Row<'a>,
    /// The histogram, [`COUNT_WORDS`] words: positive values, then negative ones.
    pub counts: &'a Buffer,
}

impl Kernel for Coarsen<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![self.row.bound(), Bound::write("counts", self.counts, COUNT_WORDS)]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        // One workgroup, for the bins are added in place.
        let params = Params { row: self.row.index as u32, unused: [0; 3] };
        std::iter::once(Dispatch { shader: &SHADER, params, groups: [1, 1, 1] })
    }

    fn native(&self, _: Tier) -> Result<()> {
        reference(&mut self.row.host_mut(), &mut self.counts.host_mut()[..COUNT_WORDS]);
        Ok(())
    }
}

/// The least exponent ≥ −100 of bins that hold a magnitude with these bits: a normal number lies in
/// `[2^E, 2^(E+1))` with `E = (bits >> 23) − 127`, and must be below `2^(12+e)`.
fn exponent_for(magnitude: u32) -> i32 {
    ((magnitude >> 23) as i32 - 127 - 11).max(MIN_EXPONENT)
}

/// The twin. Fast enough as it is: it does something only when the data has grown.
pub(crate) fn reference(state: &mut State, counts: &mut [u32]) {
    // Wraps as the shader does, for whatever a row may hold.
    let growth = exponent_for(state.max_magnitude()).wrapping_sub(state.exponent);
    if growth <= 0 {
        return;
    }
    state.exponent += growth;
    for side in counts.chunks_exact_mut(BINS) {
        for bin in 0..BINS {
            // In place: the new bin is never above the old one.
            let count = std::mem::take(&mut side[bin]);
            side[bin.checked_shr(growth as u32).unwrap_or(0)] += count;
        }
    }
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(3);
    let mut checks = Vec::new();
    for (exponent, largest) in [
        (-100, f32::NAN), // nothing seen yet
        (-100, 0.0),
        (-100, f32::from_bits(5)),
        (-100, f32::MAX),
        (-3, 511.99),
        (-3, 512.0),
        (0, -f32::from_bits(16384f32.to_bits() - 1)),
        (2, -(2f32.powi(23))),
        (-9, 2f32.powi(14)),
        (-9, -(2f32.powi(15))),
        (5, 1.0),
    ] {
        let mut states = [State::EMPTY; 2];
        states[1].exponent = exponent;
        if !largest.is_nan() {
            states[1].min_key = State::key(largest.min(0.0).to_bits());
            states[1].max_key = State::key(largest.max(0.0).to_bits());
        }
        let mut counts: Vec<u32> = (0..COUNT_WORDS).map(|_| random.integer(0, 1000) as u32).collect();
        let state_buffer = device.upload(bytemuck::cast_slice(&states), "states")?;
        let count_buffer = device.upload(&counts, "counts")?;
        reference(&mut states[1], &mut counts);
        let mut rec = device.recorder();
        rec.run(&Coarsen { row: Row { states: &state_buffer, index: 1 }, counts: &count_buffer })?;
        rec.submit()?;
        let case = format!("2^{exponent} to hold {largest:e}");
        let got = words_of(device, &state_buffer)?;
        checks.push(Check::exact(format!("{case}: state"), bytemuck::cast_slice(&states), &got));
        checks.push(Check::exact(format!("{case}: counts"), &counts, &words_of(device, &count_buffer)?));
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponent_is_the_least_that_holds_the_value() {
        let of = |v: f32| exponent_for(v.to_bits());
        assert_eq!((of(0.0), of(f32::MIN_POSITIVE), of(2f32.powi(-88)), of(2f32.powi(-89))), (-100, -100, -99, -100));
        assert_eq!((of(4095.9), of(4096.0), of(f32::MAX)), (0, 1, 116));
    }

    #[test]
    fn twin_adds_neighbours() {
        let mut counts: Vec<u32> = (0..COUNT_WORDS as u32).collect();
        let mut state = State { exponent: 0, max_key: State::key(8192f32.to_bits()), min_key: 1 << 31, ..State::EMPTY };
        reference(&mut state, &mut counts);
        assert_eq!((state.exponent, counts[0], counts[1023], counts[1024]), (2, 6, 16374, 0));
        assert_eq!(counts[BINS], 4 * 4096 + 6);
        state.max_key = State::key(f32::MAX.to_bits());
        reference(&mut state, &mut counts);
        assert_eq!((state.exponent, counts[0], counts[1]), (116, 4095 * 2048, 0));
    }
}
