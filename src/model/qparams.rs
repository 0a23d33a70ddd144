//! Quantization parameters of activations, and integer multipliers.

use serde::{Deserialize, Serialize};

use crate::error::{Term, text};
use crate::{Error, Result};

/// How an activation is stored in int8: `q = clamp(round(x / scale) + zero_point, qmin, qmax)`,
/// half to even.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QParams {
    /// Real value of one step.
    pub scale: f32,
    /// The level of real 0.
    pub zero_point: i32,
    /// Lowest level: `−qmax` when symmetric, `−2^(b−1)` when affine.
    pub qmin: i32,
    /// Highest level: `2^(b−1) − 1`.
    pub qmax: i32,
}

impl QParams {
    /// Symmetric over ±`threshold` in `bits` (2 to 8): z = 0, scale = threshold / qmax. A threshold
    /// of 0 gives scale 1.
    pub fn symmetric(threshold: f64, bits: u8) -> Self {
        let qmax = (1 << (bits - 1)) - 1;
        Self { scale: positive_scale(threshold / f64::from(qmax)), zero_point: 0, qmin: -qmax, qmax }
    }

    /// Affine over `[lo, hi]`, widened to hold 0, in `bits` (2 to 8): all `2^bits` levels. An empty
    /// range gives scale 1.
    pub fn affine(lo: f64, hi: f64, bits: u8) -> Self {
        let (qmin, qmax) = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1);
        let (lo, hi) = (lo.min(0.0), hi.max(0.0));
        let scale = positive_scale((hi - lo) / f64::from(qmax - qmin));
        let zero_point =
            (f64::from(qmin) - lo / f64::from(scale)).round_ties_even().clamp(f64::from(qmin), f64::from(qmax));
        Self { scale, zero_point: zero_point as i32, qmin, qmax }
    }

    /// The level of a real value.
    pub fn quantize(&self, x: f64) -> i32 {
        let q = (x / f64::from(self.scale)).round_ties_even() + f64::from(self.zero_point);
        q.clamp(f64::from(self.qmin), f64::from(self.qmax)) as i32
    }

    /// The real value of a level.
    pub fn dequantize(&self, q: i32) -> f64 {
        f64::from(q - self.zero_point) * f64::from(self.scale)
    }

    /// The largest `|q − zero_point|` that can occur; after a `ReLU` only levels from `zero_point`
    /// up do.
    pub fn reach(&self, relu: bool) -> i64 {
        let up = i64::from(self.qmax - self.zero_point);
        if relu { up } else { up.max(i64::from(self.zero_point - self.qmin)) }
    }
}

/// Rounds a scale to f32; 1 where it would be 0 or not finite.
fn positive_scale(scale: f64) -> f32 {
    let scale = scale as f32;
    if scale > 0.0 && scale.is_finite() { scale } else { 1.0 }
}

/// The integer form of a positive real factor: `factor ≈ multiplier · 2^(−right_shift)`.
///
/// Requantization is integer only, so that every device gives the same bits: floating-point
/// rounding is left to the implementation in too many places (docs/quantization.md, "Requantization
/// is integer only").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Multiplier {
    /// In `[2^30, 2^31)`, smaller only for factors below 2^−32 (and for the lesser of a pair).
    pub multiplier: i32,
    /// 1 to 62.
    pub right_shift: u8,
}

impl Multiplier {
    /// The largest right shift.
    pub const MAX_SHIFT: u8 = 62;

    /// `M = round(factor·2^n)` (half to even) with the n that brings it into `[2^30, 2^31)`; n = 62
    /// and a smaller M for factors below 2^−32.
    ///
    /// # Errors
    /// Where `factor` is not positive, or 2^30 and more: then a single step of the input spans 2^30
    /// steps of the output.
    pub fn new(factor: f64) -> Result<Self> {
        let limit = f64::from(1 << 30);
        if factor.is_nan() || factor <= 0.0 || factor >= limit {
            return Err(Self::out_of_range(factor));
        }
        // The exponent of a subnormal reads −1023, which is as far below 2^−32 as it needs to be.
        let exponent = ((factor.to_bits() >> 52) & 0x7ff) as i32 - 1023;
        let right_shift = (30 - exponent).min(i32::from(Self::MAX_SHIFT)) as u8;
        let multiplier = Self::round(factor, right_shift);
        if multiplier < 1 << 31 {
            return Ok(Self { multiplier: multiplier as i32, right_shift });
        }
        if right_shift == 1 {
            return Err(Self::out_of_range(factor));
        }
        Ok(Self { multiplier: 1 << 30, right_shift: right_shift - 1 })
    }

    /// Two factors that share the n of the larger, for the sum of two products
    /// ([`Multiplier::requantize_sum`]).
    ///
    /// # Errors
    /// As [`Multiplier::new`], for either.
    pub fn pair(first: f64, second: f64) -> Result<(Self, Self)> {
        let larger = Self::new(first.max(second))?;
        let share = |factor: f64| {
            if factor.is_nan() || factor <= 0.0 {
                return Err(Self::out_of_range(factor));
            }
            // At most the larger one's M, which has been brought below 2^31.
            let multiplier = Self::round(factor, larger.right_shift).min(i64::from(larger.multiplier));
            Ok(Self { multiplier: multiplier as i32, right_shift: larger.right_shift })
        };
        Ok((share(first)?, share(second)?))
    }

    /// `q = clamp(zero_point + ((acc·M + 2^(n−1)) >> n), qmin, qmax)`, the shift arithmetic: ties
    /// go toward +∞.
    ///
    /// A `ReLU` is `qmin = zero_point`. The plain reference; the limits must lie within −128 … 127.
    pub fn requantize(self, acc: i32, zero_point: i32, qmin: i32, qmax: i32) -> i8 {
        // |acc·M| ≤ 2^62, and the rounding term is at most 2^61: i64 is wide enough.
        let product = i64::from(acc) * i64::from(self.multiplier);
        let scaled = (product + (1 << (self.right_shift - 1))) >> self.right_shift;
        (i64::from(zero_point) + scaled).clamp(i64::from(qmin), i64::from(qmax)) as i8
    }

    /// `q = clamp(zero_point + ((acc·M + other_acc·other_M + 2^(n−1)) >> n), qmin, qmax)`: the
    /// published split, with `self` and `other_multiplier` from [`Multiplier::pair`].
    ///
    /// The plain reference; quantization makes sure that the sum fits an i64, which devices use.
    pub fn requantize_sum(
        self,
        acc: i32,
        other_acc: i32,
        other_multiplier: i32,
        zero_point: i32,
        qmin: i32,
        qmax: i32,
    ) -> i8 {
        let product = |acc: i32, m: i32| i128::from(acc) * i128::from(m);
        let sum = product(acc, self.multiplier) + product(other_acc, other_multiplier);
        let scaled = (sum + (1 << (self.right_shift - 1))) >> self.right_shift;
        (i128::from(zero_point) + scaled).clamp(i128::from(qmin), i128::from(qmax)) as i8
    }

    /// `round(factor·2^right_shift)`; scaling by a power of two is exact.
    fn round(factor: f64, right_shift: u8) -> i64 {
        (factor * (1u64 << right_shift) as f64).round_ties_even() as i64
    }

    fn out_of_range(factor: f64) -> Error {
        Error::bad(format!("the requantization factor s_x·s_w/s_y is {factor:e}, outside of 0 … 2^30")).hint(text![
            "the scale of this layer's output is far too small for its input; keep it float with ",
            Term::KeepFloat
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symmetric_and_affine_levels() {
        let s = QParams::symmetric(12.7, 8);
        assert_eq!((s.zero_point, s.qmin, s.qmax), (0, -127, 127));
        assert_eq!(s.quantize(100.0), 127);
        assert_eq!(s.quantize(-100.0), -127);
        let a = QParams::affine(0.0, 25.5, 8);
        assert_eq!((a.zero_point, a.qmin, a.qmax), (-128, -128, 127));
        assert_eq!(a.quantize(25.5), 127);
        assert_eq!(a.reach(true), 255);
        assert_eq!(QParams::symmetric(0.0, 8).scale, 1.0);
        assert_eq!(QParams::affine(0.0, 0.0, 4).scale, 1.0);
    }

    #[test]
    fn multipliers_are_normalized() {
        let m = |factor: f64| Multiplier::new(factor).map(|m| (m.multiplier, m.right_shift)).map_err(|e| e.to_string());
        assert_eq!(m(1.0), Ok((1 << 30, 30)));
        assert_eq!(m(0.75), Ok((3 << 29, 31)));
        // Rounds up to 2^31: halved.
        assert_eq!(m(1.0 - 2f64.powi(-40)), Ok((1 << 30, 30)));
        // The largest and the smallest.
        assert_eq!(m(2f64.powi(29) * 1.5), Ok((3 << 29, 1)));
        assert!(m(2f64.powi(30)).is_err());
        assert!(m(2f64.powi(30) * (1.0 - 2f64.powi(-40))).is_err());
        assert_eq!(m(2f64.powi(-32)), Ok((1 << 30, 62)));
        assert_eq!(m(2f64.powi(-33)), Ok((1 << 29, 62)));
        assert_eq!(m(2f64.powi(-70)), Ok((0, 62)));
        assert_eq!(m(f64::from_bits(1)), Ok((0, 62)));
        assert!(m(0.0).is_err() && m(-1.0).is_err() && m(f64::NAN).is_err() && m(f64::INFINITY).is_err());
    }

    #[test]
    fn a_pair_shares_the_shift_of_the_larger() {
        let (a, b) = Multiplier::pair(0.75, 0.75 / 1024.0).unwrap();
        assert_eq!((a.multiplier, a.right_shift), (3 << 29, 31));
        assert_eq!((b.multiplier, b.right_shift), (3 << 19, 31));
        let (c, d) = Multiplier::pair(0.75 / 1024.0, 0.75).unwrap();
        assert_eq!((c, d), (b, a));
        assert!(Multiplier::pair(1.0, 0.0).is_err() && Multiplier::pair(1.0, f64::NAN).is_err());
        // Both just below a power of two: neither may reach 2^31.
        let (e, f) = Multiplier::pair(1.0 - 2f64.powi(-40), 1.0 - 2f64.powi(-41)).unwrap();
        assert_eq!((e.multiplier, f.multiplier, e.right_shift), (1 << 30, 1 << 30, 30));
    }

    #[test]
    fn ties_go_up_and_limits_clamp() {
        let half = Multiplier::new(0.5).unwrap();
        let q = |acc| half.requantize(acc, 0, -127, 127);
        assert_eq!([q(-3), q(-2), q(-1), q(0), q(1), q(2), q(3)], [-1, -1, 0, 0, 1, 1, 2]);
        assert_eq!((q(i32::MAX), q(i32::MIN)), (127, -127));
        assert_eq!(half.requantize(-50, -128, -128, 127), -128);
        assert_eq!(half.requantize(-50, 5, 5, 127), 5);
        assert_eq!(half.requantize_sum(7, -4, half.multiplier, 0, -127, 127), 2);
        assert_eq!(half.requantize_sum(i32::MAX, i32::MAX, i32::MAX, 0, -127, 127), 127);
    }
}
