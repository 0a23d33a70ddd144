//! Integer requantization against exact arithmetic on i128.

use proptest::prelude::*;
use repquant::internals::model::Multiplier;

/// `floor(sum/2^n + 1/2)` by division, clamped.
fn exact(sum: i128, n: u8, zero_point: i32, qmin: i32, qmax: i32) -> i128 {
    let scale = 1i128 << n;
    let rounded = (2 * sum + scale).div_euclid(2 * scale);
    (i128::from(zero_point) + rounded).clamp(i128::from(qmin), i128::from(qmax))
}

/// Whether `|M·2^−n − factor| ≤ 2^−(n+1)`, exactly: factor is `mantissa·2^exponent`.
fn is_nearest(factor: f64, m: i128, n: u8) -> bool {
    let bits = factor.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1075;
    let mantissa = i128::from((bits & ((1 << 52) - 1)) | (1 << 52));
    // 2·|M − factor·2^n| ≤ 1, everything times 2^−(exponent + n) where that is positive.
    let shift = -(exponent + i32::from(n));
    if shift < 0 {
        return m == mantissa << -shift;
    }
    shift > 100 || 2 * ((m << shift) - mantissa).abs() <= 1i128 << shift
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_multiplier_is_the_nearest(mantissa in 1.0..2.0f64, exponent in -80i32..30) {
        let factor = mantissa * 2f64.powi(exponent);
        let Ok(m) = Multiplier::new(factor) else {
            prop_assert!(factor.round() >= 2f64.powi(30) || 2.0 * factor > 2f64.powi(31) - 1.0);
            return Ok(());
        };
        prop_assert!((1..=62).contains(&m.right_shift) && m.multiplier >= 0);
        prop_assert!(m.multiplier >= 1 << 30 || (m.right_shift == 62 && factor < 2f64.powi(-32)));
        prop_assert!(is_nearest(factor, i128::from(m.multiplier), m.right_shift), "{factor:e} {m:?}");
    }

    #[test]
    fn pairs_share_a_shift(a in -60i32..30, b in -60i32..30, x in 1.0..1.99f64, y in 1.0..1.99f64) {
        let (a, b) = (x * 2f64.powi(a), y * 2f64.powi(b));
        let (m, n) = Multiplier::pair(a, b).unwrap();
        prop_assert_eq!(m.right_shift, n.right_shift);
        prop_assert_eq!(if a >= b { m } else { n }, Multiplier::new(a.max(b)).unwrap());
        prop_assert!(is_nearest(a, i128::from(m.multiplier), m.right_shift));
        prop_assert!(is_nearest(b, i128::from(n.multiplier), n.right_shift));
    }

    #[test]
    fn requantization_is_exact(
        acc in any::<i32>(), other in any::<i32>(), factor in -70i32..30, x in 1.0..1.99f64,
        zero_point in -128i32..=127, bits in 2u32..=8, affine in any::<bool>(), small in any::<bool>(),
    ) {
        let qmax = (1 << (bits - 1)) - 1;
        let qmin = if affine { -qmax - 1 } else { -qmax };
        // Small accumulators so that results within the limits are common, too.
        let acc = if small { acc >> 20 } else { acc };
        let m = Multiplier::new(x * 2f64.powi(factor)).unwrap();
        let product = i128::from(acc) * i128::from(m.multiplier);
        let want = exact(product, m.right_shift, zero_point, qmin, qmax);
        prop_assert_eq!(i128::from(m.requantize(acc, zero_point, qmin, qmax)), want);
        let want = exact(product + i128::from(other) * 12345, m.right_shift, zero_point, qmin, qmax);
        prop_assert_eq!(i128::from(m.requantize_sum(acc, other, 12345, zero_point, qmin, qmax)), want);
    }
}
