//! The integers beside the weights: bias, multipliers, and the bounds that keep 32- and 64-bit sums
//! from overflowing.
//!
//! With x the input and y the output, `acc = bias' + ΣQ·q_x`,
//! `bias' = round(bias/(s_x·s_f)) − z_x·ΣQ` and `m = s_x·s_f/s_y`; Q stands for `Q_f + 2^k·Q_c`.
//! `Σ|Q|·max|q_x − z_x| + |bias| < 2^31` must hold in every channel. Source: docs/quantization.md,
//! "Overflow" and "Activations".

use super::stored::Stored;
use crate::model::{Coarse, CoarseScale, Multiplier, QConv, QParams, Weights};
use crate::{Error, Result};

/// Σ and Σ|·| of the levels of one channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    total: i64,
    magnitude: i64,
}

impl Sums {
    fn of(levels: &[i8]) -> Self {
        let total = levels.iter().map(|&q| i64::from(q)).sum();
        let magnitude = levels.iter().map(|&q| i64::from(q).abs()).sum();
        Self { total, magnitude }
    }

    /// Of `Q_f + 2^k·Q_c`.
    fn aligned(fine: &[i8], coarse: &[i8], positions: impl Iterator<Item = usize>, shift: u8) -> Self {
        let mut sums = Self::of(fine);
        for (position, &q_c) in positions.zip(coarse) {
            let (q_f, q_c) = (i64::from(fine[position]), i64::from(q_c) << shift);
            sums.total += q_c;
            sums.magnitude += (q_f + q_c).abs() - q_f.abs();
        }
        sums
    }

    /// The largest magnitude of the accumulator, its bias being `bias` before the zero point is
    /// folded in.
    fn bound(self, input: Stored, bias: f64) -> f64 {
        // Exact below 2^53, and far above the limit beyond.
        self.magnitude as f64 * input.reach() as f64 + bias.abs()
    }
}

/// The largest accumulator.
const LIMIT: f64 = i32::MAX as f64;

/// How much a channel's scales must grow before its sums fit; 1: they do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Growth {
    pub fine: f64,
    pub coarse: f64,
}

/// The integers of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Channel {
    pub bias: i32,
    /// None where the output stays accumulators.
    pub multiplier: Option<Multiplier>,
    /// `−z_x·ΣQ_c` and `M_c` of the published split, 0 otherwise.
    pub coarse_bias: i32,
    pub coarse_multiplier: i32,
}

/// One channel's levels and what they are multiplied by.
pub(super) struct Levels<'a, P: Iterator<Item = usize>> {
    pub fine: &'a [i8],
    pub coarse: &'a [i8],
    /// Positions of `coarse` in `fine`.
    pub positions: P,
    pub scale: f32,
    /// The aligned split's shift.
    pub shift: u8,
    /// The published split's coarse scale.
    pub coarse_scale: Option<f32>,
}

/// Bias and multipliers of one channel, or how much its scales must be raised first.
///
/// # Errors
/// Where a multiplier is out of range.
pub(super) fn channel<P: Iterator<Item = usize>>(
    levels: Levels<'_, P>,
    bias: f64,
    input: Stored,
    output_scale: Option<f32>,
) -> Result<std::result::Result<Channel, Growth>> {
    let s_x = f64::from(input.params.scale);
    let zero_point = i64::from(input.params.zero_point);
    let s_f = f64::from(levels.scale);
    let bias = (bias / (s_x * s_f)).round_ties_even();
    let (main, coarse) = match levels.coarse_scale {
        Some(_) => (Sums::of(levels.fine), Sums::of(levels.coarse)),
        None => (Sums::aligned(levels.fine, levels.coarse, levels.positions, levels.shift), Sums::default()),
    };
    let growth = Growth { fine: main.bound(input, bias) / LIMIT, coarse: coarse.bound(input, 0.0) / LIMIT };
    if growth.fine > 1.0 || growth.coarse > 1.0 {
        return Ok(Err(growth));
    }
    let fold = |bias: f64, sums: Sums| (bias as i64 - zero_point * sums.total) as i32;
    let mut channel =
        Channel { bias: fold(bias, main), multiplier: None, coarse_bias: fold(0.0, coarse), coarse_multiplier: 0 };
    let Some(s_y) = output_scale.map(f64::from) else { return Ok(Ok(channel)) };
    let Some(s_c) = levels.coarse_scale.map(f64::from) else {
        channel.multiplier = Some(Multiplier::new(s_x * s_f / s_y)?);
        return Ok(Ok(channel));
    };
    let (m_f, m_c) = Multiplier::pair(s_x * s_f / s_y, s_x * s_c / s_y)?;
    let bounds = (main.bound(input, bias), coarse.bound(input, 0.0));
    if !sum_fits(m_f, bounds.0, m_c.multiplier, bounds.1) {
        // Doubling the scale of the larger factor halves the product of the other, or its own
        // accumulator.
        let raise_coarse = s_c >= s_f;
        let growth = |raise: bool| if raise { 2.0 } else { 1.0 };
        return Ok(Err(Growth { fine: growth(!raise_coarse), coarse: growth(raise_coarse) }));
    }
    channel.multiplier = Some(m_f);
    channel.coarse_multiplier = m_c.multiplier;
    Ok(Ok(channel))
}

/// Whether `acc_f·M_f + acc_c·M_c + 2^(n−1)` fits an i64 for accumulators within their bounds
/// (integers below 2^31).
fn sum_fits(fine: Multiplier, fine_bound: f64, coarse_multiplier: i32, coarse_bound: f64) -> bool {
    let product = |bound: f64, m: i32| bound as i128 * i128::from(m);
    let sum = product(fine_bound, fine.multiplier) + product(coarse_bound, coarse_multiplier);
    sum + (1i128 << (fine.right_shift - 1)) <= i128::from(i64::MAX)
}

/// Checks the bounds of a layer that was not made here, e.g. read from a file. Shapes and ranges of
/// its fields are already known to be right.
///
/// # Errors
/// Naming the first channel whose sums could overflow.
pub(crate) fn check_overflow(conv: &QConv, input: Stored) -> Result<()> {
    let (_, per_group, kh, kw) = conv.fine.dim();
    let fine = conv.fine.as_standard_layout();
    let coarse = conv.coarse.as_ref().map(|c: &Coarse| c.weights.as_standard_layout());
    let (fine, coarse) = (fine.as_slice(), coarse.as_ref().and_then(|c| c.as_slice()));
    let zero_point = i64::from(input.params.zero_point);
    for o in 0..conv.out_channels() {
        let row = |levels: Option<&[i8]>, length: usize| -> Vec<i8> {
            levels.map_or(Vec::new(), |levels| levels[o * length..(o + 1) * length].to_vec())
        };
        let fine = row(fine, per_group * kh * kw);
        // The bias as it was before the zero point was folded in.
        let real = |bias: i32, sums: Sums| (i64::from(bias) + zero_point * sums.total) as f64;
        let fits = match &conv.coarse {
            None => {
                let sums = Sums::of(&fine);
                sums.bound(input, real(conv.bias[o], sums)) <= LIMIT
            }
            Some(part) => {
                let coarse = row(coarse, part.support.len(per_group, [kh, kw]));
                match &part.scale {
                    CoarseScale::Shift(shift) => {
                        let positions = part.support.positions(o, per_group, [kh, kw]);
                        let sums = Sums::aligned(&fine, &coarse, positions, shift[o]);
                        sums.bound(input, real(conv.bias[o], sums)) <= LIMIT
                    }
                    CoarseScale::Own { multiplier, bias, .. } => {
                        let (f, c) = (Sums::of(&fine), Sums::of(&coarse));
                        let bounds = (f.bound(input, real(conv.bias[o], f)), c.bound(input, real(bias[o], c)));
                        let m_f = Multiplier { multiplier: conv.multiplier[o], right_shift: conv.right_shift[o] };
                        bounds.0 <= LIMIT && bounds.1 <= LIMIT && sum_fits(m_f, bounds.0, multiplier[o], bounds.1)
                    }
                }
            }
        };
        if !fits {
            return Err(Error::bad(format!("the accumulator of output channel {o} could overflow")));
        }
    }
    Ok(())
}

/// The multiplier of a mean over `pixels`, `s_x/(s_y·pixels)`.
///
/// # Errors
/// Where the multiplier is out of range, or the sum of so many pixels could overflow.
pub(super) fn pool(input: Stored, output: &QParams, pixels: usize) -> Result<Multiplier> {
    check_pool(input, pixels)?;
    Multiplier::new(f64::from(input.params.scale) / (f64::from(output.scale) * pixels as f64))
}

/// Checks that a sum over `pixels` fits an i32.
///
/// # Errors
/// Where it does not.
pub(crate) fn check_pool(input: Stored, pixels: usize) -> Result<()> {
    if pixels > 0 && input.reach() as f64 * pixels as f64 <= LIMIT {
        return Ok(());
    }
    Err(Error::bad(format!("the sum over {pixels} pixels does not fit 32 bits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(zero_point: i32) -> Stored {
        Stored::new(QParams { scale: 0.5, zero_point, qmin: -128, qmax: 127 }, true)
    }

    #[test]
    fn sums_of_the_combined_levels() {
        let (fine, coarse) = ([3i8, -4, 5], [1i8, -2]);
        let sums = Sums::aligned(&fine, &coarse, [0usize, 2].into_iter(), 3);
        // 3 + 8, −4, 5 − 16.
        assert_eq!(sums, Sums { total: -4, magnitude: 26 });
    }

    #[test]
    fn the_zero_point_is_folded_into_the_bias() {
        let levels = |shift| Levels {
            fine: &[3, -4, 5],
            coarse: &[1],
            positions: [2usize].into_iter(),
            scale: 0.25,
            shift,
            coarse_scale: None,
        };
        let found = channel(levels(4), 10.0, input(-128), Some(1.0)).unwrap().unwrap();
        // 10/(0.5·0.25) + 128·(3 − 4 + 5 + 16)
        assert_eq!(found.bias, 80 + 128 * 20);
        assert_eq!(found.multiplier, Some(Multiplier::new(0.125).unwrap()));
        assert_eq!(channel(levels(4), 10.0, input(0), None).unwrap().unwrap().multiplier, None);
    }

    #[test]
    fn the_published_form_has_a_bias_for_each_part() {
        let levels = Levels {
            fine: &[3, -4, 5],
            coarse: &[7],
            positions: [2usize].into_iter(),
            scale: 0.25,
            shift: 0,
            coarse_scale: Some(2.0),
        };
        let found = channel(levels, 10.0, input(-128), Some(1.0)).unwrap().unwrap();
        assert_eq!((found.bias, found.coarse_bias), (80 + 128 * 4, 128 * 7));
        let (m_f, m_c) = Multiplier::pair(0.125, 1.0).unwrap();
        assert_eq!((found.multiplier, found.coarse_multiplier), (Some(m_f), m_c.multiplier));
    }

    #[test]
    fn a_bias_that_does_not_fit_asks_for_a_larger_scale() {
        let levels = Levels {
            fine: &[1],
            coarse: &[],
            positions: std::iter::empty(),
            scale: 1e-12,
            shift: 0,
            coarse_scale: None,
        };
        let growth = channel(levels, 1.0, input(0), Some(1.0)).unwrap().unwrap_err();
        assert!((growth.fine / (2e12 / LIMIT) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn two_products_can_exceed_64_bits_where_each_fits() {
        let m = Multiplier { multiplier: i32::MAX, right_shift: 62 };
        assert!(!sum_fits(m, LIMIT, i32::MAX, LIMIT));
        assert!(sum_fits(m, LIMIT, i32::MAX, LIMIT / 4.0));
    }

    #[test]
    fn pooling_divides_by_the_pixels() {
        let y = QParams::symmetric(127.0, 8);
        assert_eq!(pool(input(0), &y, 64).unwrap(), Multiplier::new(0.5 / 64.0).unwrap());
        assert!(pool(input(0), &y, 0).is_err());
        assert!(pool(input(0), &y, 17_000_000).is_err());
    }
}
