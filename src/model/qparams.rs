//! Quantization parameters of activations, and integer multipliers.

use serde::{Deserialize, Serialize};

/// How an activation is stored in int8: `q = clamp(round(x / scale) + zero_point, qmin, qmax)`, half to even.
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
    /// Symmetric over ±`threshold` in `bits` (2 to 8): z = 0, scale = threshold / qmax. A threshold of 0 gives scale 1.
    pub fn symmetric(threshold: f64, bits: u8) -> Self {
        let qmax = (1 << (bits - 1)) - 1;
        Self { scale: positive_scale(threshold / f64::from(qmax)), zero_point: 0, qmin: -qmax, qmax }
    }

    /// Affine over `[lo, hi]`, widened to hold 0, in `bits` (2 to 8): all `2^bits` levels. An empty range gives scale 1.
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

    /// The largest `|q − zero_point|` that can occur; after a `ReLU` only levels from `zero_point` up do.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiplier {
    /// In `[2^30, 2^31)`, smaller only for factors below 2^−32.
    pub multiplier: i32,
    /// 1 to 62.
    pub right_shift: u8,
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
}
