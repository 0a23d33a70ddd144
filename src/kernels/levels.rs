//! Requantization of 16 output channels at once, for the Cpu device: the constants of a vector lie together, kind by kind.

use super::int8::{Channel, Output};

/// Output channels of a vector.
pub(super) const LANES: usize = 16;

/// The constants of 16 output channels, each kind together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector {
    bias: [i32; LANES],
    shift: [u32; LANES],
    multiplier: [i64; LANES],
    /// `2^(n−1)`.
    half: [i64; LANES],
    right_shift: [u32; LANES],
}

impl Vector {
    /// Of up to 16 channels; the rest are at the zero point.
    pub(super) fn new(channels: &[Channel]) -> Self {
        let mut vector = Self {
            bias: [0; LANES],
            shift: [0; LANES],
            multiplier: [0; LANES],
            half: [1; LANES],
            right_shift: [1; LANES],
        };
        for (i, channel) in channels.iter().take(LANES).enumerate() {
            vector.bias[i] = channel.bias;
            vector.shift[i] = channel.shift;
            vector.multiplier[i] = i64::from(channel.multiplier);
            vector.half[i] = 1 << (channel.right_shift - 1);
            vector.right_shift[i] = channel.right_shift;
        }
        vector
    }

    /// [`Channel::level`] of each.
    ///
    /// Plain loops over arrays: the caller's instruction set decides how they are vectorized.
    #[inline(always)]
    pub(super) fn levels(&self, fine: &[i32; LANES], coarse: &[i32; LANES], output: &Output) -> [i8; LANES] {
        let (zero, low, high) = (i64::from(output.zero_point), i64::from(output.low), i64::from(output.high));
        let mut levels = [0; LANES];
        for i in 0..LANES {
            let total = fine[i].wrapping_add(self.bias[i]).wrapping_add(coarse[i].wrapping_shl(self.shift[i]));
            let scaled = i64::from(total).wrapping_mul(self.multiplier[i]).wrapping_add(self.half[i]);
            levels[i] = (zero + scaled.wrapping_shr(self.right_shift[i])).clamp(low, high) as i8;
        }
        levels
    }
}

#[cfg(test)]
mod tests {
    use super::super::Random;
    use super::*;

    #[test]
    fn vectors_give_the_levels_of_their_channels() {
        let mut random = Random::new(4);
        for case in 0..2000 {
            let channels: Vec<Channel> = (0..=case % LANES)
                .map(|_| Channel {
                    bias: random.integer(-(1 << 20), 1 << 20) as i32,
                    multiplier: random.integer(1 << 30, i64::from(i32::MAX)) as i32,
                    right_shift: random.integer(1, 62) as u32,
                    shift: random.integer(0, 9) as u32,
                    ..Channel::PADDING
                })
                .collect();
            let reach = 1i64 << random.integer(2, 20);
            let mut sums = || std::array::from_fn(|_| random.integer(-reach, reach) as i32);
            let (fine, coarse): ([i32; LANES], [i32; LANES]) = (sums(), sums());
            let output = Output { zero_point: -3, low: -128, high: 100 };
            let found = Vector::new(&channels).levels(&fine, &coarse, &output);
            for (i, channel) in channels.iter().enumerate() {
                assert_eq!(found[i], channel.level(fine[i], coarse[i], &output), "{channel:?}");
            }
        }
    }
}
