//! The aligned split of one channel: coarse and fine part share a scale,
//! `W' = s_f·(Q_f + 2^k·Q_c)`.
//!
//! Over r in 1.00, 0.96 … 0.56 and k in 0 … b+1 the pair with the least Σ(W − W')² is kept (on a
//! tie the smaller k, then the larger r), c being the weights on the support and outer the rest:
//! - k = 0: `s_f = r·max|W|/qmax`, no coarse part;
//! - k ≥ 1: `s_f = max(r·max|outer|, max|c|/(2^k + 1))/qmax`, `Q_c = clamp(round(c/(2^k·s_f)))`,
//!   `Q_f = clamp(round((W − 2^k·s_f·Q_c)/s_f))`.
//!
//! `s_f` is rounded to f32 before it is used, all else is f64; rounding is half to even. Source:
//! docs/quantization.md, "Search".
//!
//! The work is a pass over the outer weights for each *distinct* `s_f` (at most 12 + 12 + b+1 of
//! the 12·(b+2) pairs), and one over the support for each distinct pair. Sums of squares run in
//! [`LANES`] partial sums (weight i of the outer weights, or of the support, goes to sum i mod
//! `LANES`; they are then added in order), which compilers vectorize.

/// Partial sums of the error, see the module's documentation.
pub const LANES: usize = 8;

/// How many values r takes.
pub const RATIOS: u32 = 12;

/// The values of r that a search tries: 1, `1 − step`, … in steps of so many hundredths.
#[derive(Clone, Copy)]
struct Ratios {
    count: u32,
    hundredths: u32,
}

impl Ratios {
    /// Those of [`ratio`].
    const COARSE: Self = Self { count: RATIOS, hundredths: 4 };
    /// 1.00, 0.98 … 0.36: where rounding is not to nearest, more may be clipped.
    const FINE: Self = Self { count: 33, hundredths: 2 };

    fn at(self, step: u32) -> f64 {
        f64::from(100 - self.hundredths * step) / 100.0
    }
}

/// The aligned split of one channel, or of a whole layer where it has one scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Aligned {
    /// `s_f`; 1 where all weights are zero.
    pub scale: f32,
    /// k, 0 to bits + 1; 0: no coarse part.
    pub shift: u8,
    /// `Q_f` of every weight.
    pub fine: Vec<i8>,
    /// `Q_c` of the weights on the support, in their order; all 0 where k = 0.
    pub coarse: Vec<i8>,
    /// Σ(W − W')².
    pub error: f64,
}

/// `r`, from the largest: 1.00, 0.96 … 0.56.
pub fn ratio(step: u32) -> f64 {
    Ratios::COARSE.at(step)
}

/// Searches the best aligned split of `weights` in `bits` (2 to 8); `support[i]` tells whether the
/// coarse part may touch weight i. Both slices have the same length; all weights are finite.
pub fn search(weights: &[f32], support: &[bool], bits: u8) -> Aligned {
    search_among(Ratios::COARSE, weights, &[], support, bits)
}

/// As [`search`], over r in 1.00, 0.98 … 0.36 and for the least Σ h·(W − W')², `importance` having
/// the h of each weight. Where nothing is on the support it is the search of a whole kernel's scale.
pub(super) fn search_weighted(weights: &[f32], importance: &[f64], support: &[bool], bits: u8) -> Aligned {
    search_among(Ratios::FINE, weights, importance, support, bits)
}

/// [`search`] over these `ratios`; no `importance`: that of every weight is 1.
fn search_among(ratios: Ratios, weights: &[f32], importance: &[f64], support: &[bool], bits: u8) -> Aligned {
    let qmax = f64::from(super::scale::qmax(bits));
    let select = |on: bool| Part {
        weights: weights.iter().zip(support).filter(|&(_, &s)| s == on).map(|(&w, _)| w).collect(),
        importance: importance.iter().zip(support).filter(|&(_, &s)| s == on).map(|(&h, _)| h).collect(),
    };
    let (outer, center) = (select(false), select(true));
    let (max_outer, max_center) = (largest(&outer.weights), largest(&center.weights));
    let mut outer_errors: Vec<(f32, f64)> = Vec::with_capacity(ratios.count as usize * 3);
    let mut best: Option<(f64, u8, f32)> = None;
    for shift in 0..=bits + 1 {
        if shift > 0 && max_center == 0.0 {
            break; // Q_c would be 0 for every k: the same as k = 0, which wins the tie.
        }
        let mut last = None;
        for step in 0..ratios.count {
            let reach = match shift {
                0 => ratios.at(step) * max_outer.max(max_center),
                k => (ratios.at(step) * max_outer).max(max_center / f64::from((1u32 << k) + 1)),
            };
            let scale = (reach / qmax) as f32;
            // The same scale again is a tie, which the larger r has won.
            if scale <= 0.0 || last.replace(scale) == Some(scale) {
                continue;
            }
            let known = outer_errors.iter().find(|known| known.0 == scale).map(|known| known.1);
            let outer_error = known.unwrap_or_else(|| {
                let error = outer.plain_error(scale, qmax);
                outer_errors.push((scale, error));
                error
            });
            // Adding the support's share cannot lower it.
            if best.is_some_and(|b| outer_error >= b.0) {
                continue;
            }
            let center_error = match shift {
                0 => center.plain_error(scale, qmax),
                k => center.split_error(scale, k, qmax),
            };
            let error = outer_error + center_error;
            if best.is_none_or(|b| error < b.0) {
                best = Some((error, shift, scale));
            }
        }
    }
    // No scale above zero: all weights are zero (or too small for any f32 scale).
    let (error, shift, scale) =
        best.unwrap_or_else(|| (outer.plain_error(1.0, qmax) + center.plain_error(1.0, qmax), 0, 1.0));
    let (fine, coarse) = split_at(weights, support, bits, scale, shift);
    Aligned { scale, shift, fine, coarse, error }
}

/// `(Q_f, Q_c)` of `weights` for a scale and a shift; `Q_c` of the weights on the support alone, in
/// their order.
pub(crate) fn split_at(weights: &[f32], support: &[bool], bits: u8, scale: f32, shift: u8) -> (Vec<i8>, Vec<i8>) {
    let qmax = f64::from(super::scale::qmax(bits));
    let s = f64::from(scale);
    let mut coarse = Vec::with_capacity(support.iter().filter(|&&s| s).count());
    let fine = weights.iter().zip(support).map(|(&w, &on)| {
        let (q_f, q_c) = nearest(f64::from(w), on, s, shift, qmax);
        if on {
            coarse.push(q_c as i8);
        }
        q_f as i8
    });
    let fine = fine.collect();
    (fine, coarse)
}

/// `(Q_f, Q_c)` of one weight; `on` the support or not. It is the nearest that there is: what 2^k
/// steps of `Q_c` leave, `Q_f` reaches up to its own end.
#[inline]
pub(super) fn nearest(w: f64, on: bool, scale: f64, shift: u8, qmax: f64) -> (f64, f64) {
    if on && shift > 0 { levels(w, scale, shift, qmax) } else { (clamp_round(w / scale, qmax), 0.0) }
}

/// Largest magnitude, 0 of an empty set.
pub(super) fn largest(weights: &[f32]) -> f64 {
    f64::from(weights.iter().fold(0f32, |max, w| max.max(w.abs())))
}

/// `clamp(round(x), −qmax, qmax)`, half to even.
///
/// Clamping first changes nothing, qmax being an integer, and brings x where adding and taking away
/// 1.5·2^52 rounds to an integer exactly: unlike `round_ties_even` this needs no library call on a
/// baseline x86-64, and vectorizes.
#[inline]
pub(super) fn clamp_round(x: f64, qmax: f64) -> f64 {
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let x = if x > qmax { qmax } else { x };
    let x = if x < -qmax { -qmax } else { x };
    (x + MAGIC) - MAGIC
}

/// `(Q_f, Q_c)` of one weight on the support, k ≥ 1.
#[inline]
fn levels(w: f64, scale: f64, shift: u8, qmax: f64) -> (f64, f64) {
    let step = scale * f64::from(1u32 << shift);
    let q_c = clamp_round(w / step, qmax);
    (clamp_round((w - step * q_c) / scale, qmax), q_c)
}

/// Weights on the support, or off it.
struct Part {
    weights: Vec<f32>,
    /// The factor of each weight's square; empty: 1.
    importance: Vec<f64>,
}

impl Part {
    /// Σh·(W − s·clamp(round(W/s)))².
    fn plain_error(&self, scale: f32, qmax: f64) -> f64 {
        sum(&self.weights, &self.importance, whole(scale, qmax))
    }

    /// `Σh·(W − s·(Q_f + 2^k·Q_c))²`, k ≥ 1.
    fn split_error(&self, scale: f32, shift: u8, qmax: f64) -> f64 {
        let s = f64::from(scale);
        let power = f64::from(1u32 << shift);
        sum(&self.weights, &self.importance, |w| {
            let w = f64::from(w);
            let (q_f, q_c) = levels(w, s, shift, qmax);
            w - s * (q_f + power * q_c)
        })
    }
}

/// Σ(W − s·clamp(round(W/s)))².
pub(super) fn plain_error(weights: &[f32], scale: f32, qmax: f64) -> f64 {
    sum(weights, &[], whole(scale, qmax))
}

/// `W − s·clamp(round(W/s))` of a weight.
///
/// W is multiplied by 1/s here. Where W/s is not a tie it is at least 2^−25 away from one (W and s
/// are f32), far more than the product's error; and on a tie both neighbours give the same square.
/// The sum is that of the division, to the bit.
fn whole(scale: f32, qmax: f64) -> impl Fn(f32) -> f64 {
    let s = f64::from(scale);
    let inverse = 1.0 / s;
    move |w| {
        let w = f64::from(w);
        w - s * clamp_round(w * inverse, qmax)
    }
}

/// Sum of the squares of `residual`, each times its importance where there is one, in lanes.
#[inline]
fn sum(weights: &[f32], importance: &[f64], residual: impl Fn(f32) -> f64) -> f64 {
    let mut sums = [0f64; LANES];
    if !importance.is_empty() {
        for (weights, importance) in weights.chunks(LANES).zip(importance.chunks(LANES)) {
            for ((sum, &w), &h) in sums.iter_mut().zip(weights).zip(importance) {
                let e = residual(w);
                *sum += h * (e * e);
            }
        }
        return sums.iter().sum();
    }
    let (chunks, rest) = weights.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, &w) in sums.iter_mut().zip(chunk) {
            let e = residual(w);
            *sum += e * e;
        }
    }
    for (sum, &w) in sums.iter_mut().zip(rest) {
        let e = residual(w);
        *sum += e * e;
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_by_addition_is_half_to_even() {
        for half in -300..=300 {
            let x = f64::from(half) / 2.0;
            for x in [x, x.next_up(), x.next_down(), x * 1.01] {
                assert_eq!(clamp_round(x, 127.0), x.round_ties_even().clamp(-127.0, 127.0), "{x}");
            }
        }
    }

    #[test]
    fn a_wide_centre_is_split_and_an_even_kernel_is_not() {
        let mut kernel = [0.01, -0.02, 0.03, -0.04, 1.0, 0.04, -0.03, 0.02, 0.01];
        let support: Vec<bool> = (0..9).map(|i| i == 4).collect();
        let wide = search(&kernel, &support, 4);
        assert!(wide.shift > 0);
        kernel[4] = 0.0;
        let even = search(&kernel, &support, 4);
        assert_eq!((even.shift, &even.coarse[..]), (0, &[0i8][..]));
        assert!(even.error < 9.0 * (0.04f64 / 7.0).powi(2));
    }

    #[test]
    fn what_matters_little_may_be_clipped() {
        let weights = [1.0, 0.11, -0.12, 0.09, 0.1, -0.08];
        let even = search_weighted(&weights, &[1.0; 6], &[false; 6], 3);
        let uneven = search_weighted(&weights, &[0.0, 1.0, 1.0, 1.0, 1.0, 1.0], &[false; 6], 3);
        assert_eq!((even.shift, uneven.shift), (0, 0));
        assert!(uneven.scale < even.scale && (uneven.scale - 0.36 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn zero_weights_have_scale_one() {
        let zero = search(&[0.0; 9], &[false; 9], 8);
        assert_eq!((zero.scale, zero.shift, zero.error), (1.0, 0, 0.0));
        assert_eq!(zero.fine, [0; 9]);
        let none = search(&[], &[], 8);
        assert_eq!((none.scale, none.fine.len()), (1.0, 0));
    }

    #[test]
    fn the_least_f32_is_not_divided_by_zero() {
        let tiny = f32::from_bits(1);
        let found = search(&[tiny, -tiny, 0.0], &[true, false, false], 8);
        assert!(found.scale > 0.0 && found.error.is_finite());
    }
}
