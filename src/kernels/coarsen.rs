//! Widens the bins of a histogram until they hold the largest magnitude that `range` has seen.
//!
//! The exponent becomes the least `e ≥ −100` with `max|x| < 4096·2^e`, never less than it was; where it grows by d, each
//! new bin is the sum of 2^d old ones. Exact: `floor(floor(|x|·2^−e)·2^−d) = floor(|x|·2^−(e+d))`. Positive and negative
//! values share one exponent.

use super::state::{BINS, COUNT_WORDS, MIN_EXPONENT, State};
use super::{Check, Random};
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder};

/// What the host knows of `coarsen.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "coarsen",
    source: include_str!("../../shaders/coarsen.wgsl"),
    bindings: &[Binding::Params, Binding::ReadWrite, Binding::ReadWrite],
    workgroup_size: [256, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Row of `states`.
    pub row: u32,
    /// Fills the struct to 16 bytes.
    pub unused: [u32; 3],
}

/// Records the update of the exponent in row `row` of `states`, and of `counts` with it.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If `counts` has another size, or `states` has no such row: errors of the caller.
pub fn dispatch(rec: &mut Recorder<'_>, states: &Buffer, row: usize, counts: &Buffer) -> Result<()> {
    assert!(counts.len() == COUNT_WORDS && states.len() >= State::WORDS * (row + 1), "coarsen: buffer sizes");
    if rec.is_native() {
        let mut states = states.host_mut();
        let rows: &mut [State] = bytemuck::cast_slice_mut(&mut states);
        reference(&mut rows[row], &mut counts.host_mut());
        return Ok(());
    }
    rec.run(&SPEC, &Params { row: row as u32, unused: [0; 3] }, &[states, counts], [1, 1, 1])
}

/// The least exponent ≥ −100 of bins that hold a magnitude with these bits: a normal number lies in
/// `[2^E, 2^(E+1))` with `E = (bits >> 23) − 127`, and must be below `2^(12+e)`.
fn exponent_for(magnitude: u32) -> i32 {
    ((magnitude >> 23) as i32 - 127 - 11).max(MIN_EXPONENT)
}

/// The twin. Fast enough as it is: it does something only when the data has grown.
pub fn reference(state: &mut State, counts: &mut [u32]) {
    let growth = exponent_for(state.max_magnitude()) - state.exponent;
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
pub fn verify(device: &Device) -> Result<Vec<Check>> {
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
        let (state_buffer, count_buffer) =
            (device.upload(bytemuck::cast_slice(&states), "states")?, device.upload(&counts, "counts")?);
        reference(&mut states[1], &mut counts);
        let mut rec = device.recorder();
        dispatch(&mut rec, &state_buffer, 1, &count_buffer)?;
        rec.submit()?;
        let case = format!("2^{exponent} to hold {largest:e}");
        let got = device.read(&state_buffer, state_buffer.len())?;
        checks.push(Check::exact(format!("{case}: state"), bytemuck::cast_slice(&states), &got));
        checks.push(Check::exact(format!("{case}: counts"), &counts, &device.read(&count_buffer, COUNT_WORDS)?));
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
