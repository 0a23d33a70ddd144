//! Counting values into slots, for the Cpu device: vectors find the slots of a block of values and
//! leave out those that are not counted, then the slots that remain are counted one by one.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused, reason = "the token exists nowhere else"))]

use archmage::prelude::*;

use super::state::{INFINITY_BITS, magnitude};
use crate::device::{Tier, compiled_for_tiers};

/// Values of a block, at least, if there are so many: their slots stay in the first cache.
const BLOCK: usize = 1024;

/// Values of a vector.
const LANES: usize = 16;

/// Adds 1 to `counts[slot(bits) + c]` for each of `values` that is finite and not zero; c, the
/// channel, goes through `0..channels` over and over. Returns how many values are zero.
pub(super) fn tally(tier: Tier, values: &[u32], channels: usize, slot: impl Fn(u32) -> u32, counts: &mut [u32]) -> u32 {
    let offsets = (0..channels as u32).collect::<Vec<_>>().repeat(BLOCK.div_ceil(channels));
    let mut slots = vec![0; offsets.len() + LANES];
    let mut zeros = 0;
    for block in values.chunks(offsets.len()) {
        let (counted, zero) = match tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512(token) => find_avx512(token, block, &offsets, &slot, &mut slots),
            _ => compiled_find(tier, block, &offsets, &slot, &mut slots),
        };
        zeros += zero;
        for &slot in &slots[..counted] {
            counts[slot as usize] += 1;
        }
    }
    zeros
}

/// Finds the slots of the values that are counted; returns their number and the number of zeros.
/// Without branches: whether a value is zero cannot be foreseen.
#[inline(always)]
fn find(values: &[u32], offsets: &[u32], slot: impl Fn(u32) -> u32, slots: &mut [u32]) -> (usize, u32) {
    let (mut counted, mut zeros) = (0, 0);
    for (&bits, offset) in values.iter().zip(offsets) {
        slots[counted] = offset + slot(bits);
        counted += usize::from((1..INFINITY_BITS).contains(&magnitude(bits)));
        zeros += u32::from(magnitude(bits) == 0);
    }
    (counted, zeros)
}

compiled_for_tiers! {
    fn compiled_find(values: &[u32], offsets: &[u32], slot: impl Fn(u32) -> u32, slots: &mut [u32]) -> (usize, u32) = find;
}

/// [`find`] with vectors: all slots first, then those that are counted move up. `slots` has room
/// for one vector more.
#[arcane(import_intrinsics)]
fn find_avx512(
    _: X64V4xToken,
    values: &[u32],
    offsets: &[u32],
    slot: impl Fn(u32) -> u32,
    slots: &mut [u32],
) -> (usize, u32) {
    let finite = _mm512_set1_epi32(INFINITY_BITS as i32);
    let (zero, all) = (_mm512_setzero_si512(), _mm512_set1_epi32(i32::MAX));
    for ((to, &bits), offset) in slots.iter_mut().zip(values).zip(offsets) {
        *to = offset + slot(bits);
    }
    let (whole, rest) = values.as_chunks::<LANES>();
    let (mut counted, mut zeros) = (0, 0);
    for (i, values) in whole.iter().enumerate() {
        let Some(found) = slots[i * LANES..].first_chunk::<LANES>() else { break };
        let found = _mm512_loadu_si512(found);
        let m = _mm512_and_si512(_mm512_loadu_si512(values), all);
        let nonzero = _mm512_cmpgt_epi32_mask(m, zero);
        let kept = _mm512_mask_cmplt_epi32_mask(nonzero, m, finite);
        if let Some(to) = slots[counted..].first_chunk_mut::<LANES>() {
            _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(kept, found));
        }
        counted += kept.count_ones() as usize;
        zeros += nonzero.count_zeros();
    }
    let done = values.len() - rest.len();
    let (more, more_zeros) = find(rest, &offsets[done..], slot, &mut slots[counted..]);
    (counted + more, zeros + more_zeros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Random;

    #[test]
    fn vectors_find_the_slots_that_are_found_one_by_one() {
        let mut random = Random::new(6);
        let slot = |bits: u32| 8 * (bits >> 31);
        for length in 0..70 {
            let values: Vec<u32> = (0..length)
                .map(|_| match random.integer(0, 4) {
                    0 => 0,
                    1 => 1 << 31,
                    2 => [1, INFINITY_BITS - 1, INFINITY_BITS, u32::MAX, 0xFF80_0000][random.integer(0, 4) as usize],
                    _ => random.next_u64() as u32,
                })
                .collect();
            let offsets = [0, 1, 2, 3, 4, 5, 6].repeat(10);
            let (mut one_by_one, mut slots) = ([0; 70 + LANES], [0; 70 + LANES]);
            let expected = find(&values, &offsets, slot, &mut one_by_one);
            #[cfg(target_arch = "x86_64")]
            if let Some(token) = X64V4xToken::summon() {
                assert_eq!(find_avx512(token, &values, &offsets, slot, &mut slots), expected);
                assert_eq!(slots[..expected.0], one_by_one[..expected.0], "{values:x?}");
            }
            let mut counts = [0; 16];
            assert_eq!(tally(Tier::Plain, &values, 7, slot, &mut counts), expected.1);
            assert_eq!(counts.iter().sum::<u32>() as usize, expected.0);
        }
    }
}
