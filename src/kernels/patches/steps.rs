//! A float in steps of 1/64 of a scale: `u = round(64·x/scale)`, half to even, limited to two signed
//! bytes, −32768 … 32639. NaN gives 0, infinities a limit.
//!
//! **The same on every device.** Shaders divide the 24-bit significands a and b as integers and see
//! what is left over, so the quotient `a·2^k/b` is rounded once. The Cpu device divides in f64, which
//! gives the same: where the quotient is not halfway between two steps it differs from that by
//! `|a·2^(k+1) − (2m+1)·b| / (2b)`, an integer but 0 over 2b. For k from −1 to 16 (beyond, it is a
//! limit or 0) that is 2^−41 of the quotient at least, more than a rounding to 53 bits moves it.

/// A positive float as 24 bits and a biased exponent e: it is the first times 2^(e − 150).
pub(super) fn significand(value: f32) -> (u32, i32) {
    let (field, low) = ((value.to_bits() >> 23).cast_signed(), value.to_bits() & 0x7F_FFFF);
    if field > 0 {
        return (low | 1 << 23, field);
    }
    let up = low.leading_zeros().saturating_sub(8);
    (low << up, 1 - up.cast_signed())
}

/// u, in f64; the casts give 0 for NaN.
#[inline(always)]
pub(super) fn steps_of(x: f32, scale: f32) -> i16 {
    let steps = (f64::from(x) * 64.0 / f64::from(scale)).round_ties_even();
    steps.clamp(f64::from(i16::MIN), 32639.0) as i32 as i16
}

/// The twin of u: twice the quotient in whole numbers, and what is left over.
pub(crate) fn divided(x: f32, scale: f32) -> i16 {
    let limit = if x > 0.0 { 32639 } else { 32768 };
    let signed = |steps: i64| if x < 0.0 { -steps } else { steps } as i16;
    let ((a, e), (b, f)) = (significand(x.abs()), significand(scale));
    let power = e - f + 6;
    if x == 0.0 || x.is_nan() || (x.is_finite() && power < -1) {
        return 0;
    }
    if x.is_infinite() || power > 40 {
        return signed(limit);
    }
    let (numerator, divisor) = (u128::from(a) << (power + 1), u128::from(b));
    let (halves, rest) = (numerator / divisor, numerator % divisor);
    let up = halves % 2 == 1 && (rest > 0 || halves % 4 == 3);
    signed(i64::try_from(halves / 2 + u128::from(up)).map_or(limit, |steps| steps.min(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn steps_are_rounded_half_to_even_and_limited() {
        for steps in [divided, steps_of] {
            let of = |x: f32| steps(x, 0.5);
            assert_eq!([1.0, -1.0, 1e9, -1e9].map(of), [128, -128, 32639, -32768]);
            assert_eq!([0.25 / 64.0, 0.75 / 64.0, -0.25 / 64.0, -0.75 / 64.0].map(of), [0, 2, 0, -2]);
            assert_eq!([0.0, -0.0, f32::NAN, f32::INFINITY, f32::MIN].map(of), [0, 0, 0, 32639, -32768]);
            assert_eq!([f32::from_bits(1), 254.99, 255.0, -255.99, -256.0].map(of), [0, 32639, 32639, -32767, -32768]);
            // The smallest scales, and the largest.
            assert_eq!(steps(f32::from_bits(3), f32::from_bits(2)), 96);
            assert_eq!(steps(f32::MAX, f32::MAX), 64);
        }
        assert_eq!(significand(f32::from_bits(3)), (3 << 22, -21));
    }

    #[test]
    fn both_ways_to_divide_agree() {
        let mut random = Random::new(8);
        for _ in 0..200_000 {
            let scale = f32::from_bits(random.integer(1, 0x7F7F_FFFF) as u32);
            let near = (f64::from(scale) / 64.0 * (random.integer(-40_000, 40_000) as f64 + 0.5)) as f32;
            let x = f32::from_bits(near.to_bits().wrapping_add_signed(random.integer(-2, 2) as i32));
            if x.is_finite() {
                assert_eq!(divided(x, scale), steps_of(x, scale), "{x:e} / {scale:e}");
            }
        }
    }
}
