//! What every processor has: vectors as arrays, which a compiler may make vectors of.

use super::{LANES, Lanes};

/// Two i16 values a word.
pub(crate) enum Pairs {}

impl Lanes for Pairs {
    type Token = ();
    type Word = i32;
    type Registers = [i32; LANES];

    #[inline(always)]
    fn load((): (), from: &[i32; LANES]) -> [i32; LANES] {
        *from
    }

    #[inline(always)]
    fn store((): (), registers: [i32; LANES], to: &mut [i32; LANES]) {
        *to = registers;
    }

    #[inline(always)]
    fn multiply_add((): (), mut sums: [i32; LANES], x: i32, weights: [i32; LANES]) -> [i32; LANES] {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            let (low, high) = (i32::from(x as i16) * i32::from(weight as i16), (x >> 16) * (weight >> 16));
            *sum = sum.wrapping_add(low).wrapping_add(high);
        }
        sums
    }
}
