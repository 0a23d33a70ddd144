//! e^x in f32 for the Cpu device, as arithmetic that the compiler turns into vectors: a call of the
//! C library for each value would take longer than the convolution before it.

/// `2^23 + 2^22`: a float of this size has no fraction, so adding it rounds to the nearest integer.
const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts; the first has 9 bits, so that its product with an integer of up to 15 is
/// exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// e^x: NaN of NaN, 0 and infinity where f32 ends, else within 2 units in the last place above the
/// smallest normal number.
///
/// `x = n·ln 2 + r` with an integer n and |r| ≤ ln 2 / 2; e^r by its Taylor polynomial of degree 7,
/// whose remainder is below `r^8/8! < 2^−27`; then times 2^n, in two steps, since 2^128 and 2^−140
/// are no normal floats.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Comparisons and not `clamp`: NaN stays.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    let mut sum = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * r + coefficient;
    }
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    let power = |n: i32| f32::from_bits(n.wrapping_add(127).cast_unsigned() << 23);
    sum * power(n >> 1) * power(n - (n >> 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for i in -870_000..=887_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let unit = 2f64.powi(exact.log2().floor() as i32 - 23);
            worst = worst.max((f64::from(exp(x)) - exact).abs() / unit);
        }
        assert!(worst < 2.0, "{worst}");
        assert_eq!((exp(0.0), exp(-0.0)), (1.0, 1.0));
    }

    #[test]
    fn the_ends_of_f32() {
        assert!(exp(f32::NAN).is_nan());
        assert_eq!((exp(f32::INFINITY), exp(100.0), exp(88.8)), (f32::INFINITY, f32::INFINITY, f32::INFINITY));
        assert_eq!((exp(f32::NEG_INFINITY), exp(-200.0), exp(-104.0)), (0.0, 0.0, 0.0));
        let small = exp(-100.0);
        assert!((f64::from(small) / (-100f64).exp() - 1.0).abs() < 0.02, "{small:e}");
    }
}
