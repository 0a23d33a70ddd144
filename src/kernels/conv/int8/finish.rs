//! Requantization of 16 output channels at once, for the Cpu device: the constants of a vector lie
//! together, kind by kind.

use std::ops::Range;

use super::constants::{Channel, Constants};
use crate::kernels::core::OutputLevels;
use crate::kernels::cpu::lanes::LANES;

/// The constants of 16 output channels, each kind together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector {
    bias: [i32; LANES],
    shift: [u32; LANES],
    multiplier: [i32; LANES],
    /// Totals below and above give the levels that these give: see [`Vector::levels`].
    least: [i32; LANES],
    greatest: [i32; LANES],
    /// `2^63 + 2^(n−1)`.
    half: [u64; LANES],
    right_shift: [u32; LANES],
    /// `2^(63−n)`, its low half.
    origin: [u32; LANES],
}

impl Vector {
    /// Of up to 16 channels; the rest are at the zero point.
    pub(super) fn new(channels: &[Channel]) -> Self {
        let mut vector = Self {
            bias: [0; LANES],
            shift: [0; LANES],
            multiplier: [0; LANES],
            least: [0; LANES],
            greatest: [0; LANES],
            half: [0; LANES],
            right_shift: [0; LANES],
            origin: [0; LANES],
        };
        for i in 0..LANES {
            let channel = channels.get(i).unwrap_or(&Channel::PADDING);
            let n = channel.right_shift;
            vector.bias[i] = channel.bias;
            vector.shift[i] = channel.shift;
            vector.multiplier[i] = channel.multiplier;
            (vector.least[i], vector.greatest[i]) = reach(channel.multiplier, n);
            vector.half[i] = (1 << 63) + (1 << (n - 1));
            vector.right_shift[i] = n;
            vector.origin[i] = (1u64 << (63 - n)) as u32;
        }
        vector
    }

    /// [`Channel::total`] of each.
    #[inline(always)]
    pub(super) fn totals(&self, fine: &[i32; LANES], coarse: &[i32; LANES]) -> [i32; LANES] {
        let mut totals = [0; LANES];
        for i in 0..LANES {
            totals[i] = self.total(i, fine[i], coarse[i]);
        }
        totals
    }

    #[inline(always)]
    fn total(&self, i: usize, fine: i32, coarse: i32) -> i32 {
        fine.wrapping_add(self.bias[i]).wrapping_add(coarse.wrapping_shl(self.shift[i]))
    }

    /// [`Channel::level`] of each.
    ///
    /// One plain loop over arrays: the caller's instruction set decides how it is vectorized. AVX2
    /// has neither an arithmetic shift nor a minimum of 64 bits, so the shift is of unsigned
    /// numbers, `(2^63 + a) >> n = 2^(63−n) + (a >> n)`, and totals are kept where the quotient
    /// fits in 32 bits, of which more than 9 only say that the level is at an end.
    #[inline(always)]
    pub(super) fn levels(&self, fine: &[i32; LANES], coarse: &[i32; LANES], output: &OutputLevels) -> [i8; LANES] {
        let mut levels = [0; LANES];
        for i in 0..LANES {
            let total = self.total(i, fine[i], coarse[i]).max(self.least[i]).min(self.greatest[i]);
            let scaled = (i64::from(total) * i64::from(self.multiplier[i])).cast_unsigned().wrapping_add(self.half[i]);
            let steps = ((scaled >> self.right_shift[i]) as u32).wrapping_sub(self.origin[i]).cast_signed();
            // Not clamp(): that its ends are in order is checked before, and a check here would
            // keep the loop from vectors.
            levels[i] = (output.zero_point + steps).max(output.low).min(output.high) as i8;
        }
        levels
    }
}

/// Writes what the fine and the coarse sums of a pixel's channels give, in vectors whose constants
/// are `vectors`: levels where there is an `output`, else totals. The channels from `first` on are
/// values `at` of `y`.
#[inline(always)]
pub(super) fn finish(
    constants: &Constants,
    vectors: &[Vector],
    output: Option<&OutputLevels>,
    [fine, coarse]: [&[[i32; LANES]]; 2],
    first: usize,
    y: &mut [u32],
    at: Range<usize>,
) {
    // Whole vectors are stored as such; the rest is another call, or every vector would go by way
    // of memory.
    let sums = || vectors.iter().zip(fine.iter().zip(coarse));
    let Some(output) = output else {
        let (whole, rest) = bytemuck::cast_slice_mut(y)[at].as_chunks_mut();
        for (to, (vector, (fine, coarse))) in whole.iter_mut().zip(sums()) {
            *to = vector.totals(fine, coarse);
        }
        if !rest.is_empty() {
            let v = whole.len();
            rest.copy_from_slice(&vectors[v].totals(&fine[v], &coarse[v])[..rest.len()]);
        }
        return;
    };
    let y: &mut [i8] = &mut bytemuck::cast_slice_mut(y)[at];
    if constants.own_grid {
        let sums = fine.as_flattened().iter().zip(coarse.as_flattened());
        for ((level, (f, c)), channel) in y.iter_mut().zip(sums).zip(&constants.channels[first..]) {
            *level = channel.level_of_two(*f, *c, output);
        }
    } else {
        let (whole, rest) = y.as_chunks_mut();
        for (to, (vector, (fine, coarse))) in whole.iter_mut().zip(sums()) {
            *to = vector.levels(fine, coarse, output);
        }
        if !rest.is_empty() {
            let v = whole.len();
            rest.copy_from_slice(&vectors[v].levels(&fine[v], &coarse[v], output)[..rest.len()]);
        }
    }
}

/// The totals t that are enough for all levels, from the last one to where `(t·M + 2^(n−1)) >> n`
/// is at most −255 or at least 255, which is an end of the levels wherever the zero point is, to
/// the first one at the other end. There the quotient is beyond ±255 by a step `|M|/2^n ≤ 2^30` at
/// most. Without a multiplier every total gives 0.
fn reach(multiplier: i32, right_shift: u32) -> (i32, i32) {
    let (m, n) = (i128::from(multiplier), right_shift);
    if m == 0 {
        return (0, 0);
    }
    let half = 1i128 << (n - 1);
    // t·|M| ≥ 255·2^n − half, and t·|M| < −254·2^n − half; a negative M mirrors them.
    let high = ((255i128 << n) - half + m.abs() - 1).div_euclid(m.abs());
    let low = (-(254i128 << n) - half - 1).div_euclid(m.abs());
    let (least, greatest) = if m > 0 { (low, high) } else { (-high, -low) };
    let fits = |t: i128| t.clamp(i128::from(i32::MIN), i128::from(i32::MAX)) as i32;
    (fits(least), fits(greatest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Random;

    #[test]
    fn vectors_give_the_levels_of_their_channels() {
        let mut random = Random::new(4);
        for case in 0..2000 {
            let multipliers =
                [0, 1, i32::MIN, i32::MAX, random.next_u64() as i32, random.integer(1 << 30, 1 << 31) as i32];
            let channels: Vec<Channel> = (0..=case % LANES)
                .map(|_| Channel {
                    bias: random.integer(-(1 << 20), 1 << 20) as i32,
                    multiplier: multipliers[random.integer(0, 5) as usize],
                    right_shift: random.integer(1, 62) as u32,
                    shift: random.integer(0, 9) as u32,
                    ..Channel::PADDING
                })
                .collect();
            let reach = 1i64 << random.integer(2, 31);
            let mut sums = || std::array::from_fn(|_| random.integer(-reach, reach) as i32);
            let (fine, coarse): ([i32; LANES], [i32; LANES]) = (sums(), sums());
            let output = OutputLevels { zero_point: -3, low: -128, high: 100 };
            let found = Vector::new(&channels).levels(&fine, &coarse, &output);
            for (i, channel) in channels.iter().enumerate() {
                assert_eq!(found[i], channel.level(fine[i], coarse[i], &output), "{channel:?}");
            }
        }
    }
}
