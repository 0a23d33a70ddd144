//! Integer requantization in doubles, with the same result to the bit.
//!
//! ONNX has no arithmetic shift of signed integers, and its integer `Div` rounds toward zero;
//! runtimes have few kernels for int64, and slow ones. Doubles are IEEE 754 everywhere and hold 53
//! bits, which is enough if the 62-bit product is taken with care. What is wanted is
//! `floor(v + 1/2)`, `v = acc·M / 2^n`, then a clamp to levels within ±255 of 0.
//!
//! **n ≤ 43, one accumulator:** `acc·(M·2^−n)` in one multiplication. The factor is exact (M has 31
//! bits), so the product is v rounded once, and adding a constant rounds once more. Where |v| and
//! the sum are below 512 (beyond, both forms are clamped to the same end, because rounding keeps
//! order) each rounding is off by at most 2^−45, both together by 2^−44. v is a multiple of 2^−n:
//! it either lies on a boundary `k + 1/2`, which has few bits and comes out exact, or at least
//! `2^−n ≥ 2^−43` away from one, so that no rounding carries it across.
//!
//! **Else** in two halves, `M = M_h·2^16 + M_l`: with integers below 2^53 all of
//! `floor((acc·M_h + floor(acc·M_l·2^−16) + 2^(n−17)) · 2^(16−n))` is exact, and since
//! floor(floor(a)/b) = floor(a/b) for whole b it is what is wanted. The published split adds the
//! products of its two accumulators in each half.

use super::builder::Builder;
use crate::error::{Term, text};
use crate::model::Multiplier;
use crate::{Error, Result};

/// The largest n that one multiplication serves.
const DIRECT_SHIFT: u8 = 43;

/// Bits of the lower half of M.
const LOW_BITS: u8 = 16;

/// How the accumulators of a layer become steps of its output, one entry for each channel in every
/// list.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Requantization {
    /// `floor(acc·factor + 1/2)`.
    Direct { factor: Vec<f64> },
    /// `floor((Σ acc·high + floor(Σ acc·low) + rounding) · scale)`, Σ over one or two accumulators.
    Halves { parts: Vec<Half>, rounding: Vec<f64>, scale: Vec<f64> },
}

/// What an accumulator is multiplied by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Half {
    pub high: Vec<f64>,
    pub low: Vec<f64>,
}

/// The levels of an output, as unsigned bytes: 128 above those of int8.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    pub zero_point: f64,
    pub low: f64,
    pub high: f64,
}

impl Requantization {
    /// Of one accumulator for each channel.
    pub(super) fn new(multipliers: &[Multiplier]) -> Self {
        if multipliers.iter().all(|m| m.right_shift <= DIRECT_SHIFT) {
            return Self::Direct { factor: multipliers.iter().map(|m| real(*m)).collect() };
        }
        let halves: Vec<[f64; 4]> = multipliers
            .iter()
            .map(|m| match halves(m.multiplier, m.right_shift) {
                Some(halves) => halves,
                // A channel of a small shift: the direct form, its low half 0.
                None => [f64::from(m.multiplier), 0.0, power(m.right_shift - 1), 1.0 / power(m.right_shift)],
            })
            .collect();
        let column = |i: usize| halves.iter().map(|h| h[i]).collect();
        Self::Halves { parts: vec![Half { high: column(0), low: column(1) }], rounding: column(2), scale: column(3) }
    }

    /// Of two accumulators, fine and coarse, that share their shift (the published split).
    ///
    /// # Errors
    /// A shift below 17: a factor of 2^13 and more.
    pub(super) fn pair(fine: &[Multiplier], coarse: &[i32]) -> Result<Self> {
        let part = |multiplier: i32, shift: u8| {
            halves(multiplier, shift).ok_or_else(|| {
                Error::bad(format!("a published split with a right shift of {shift} cannot be written in doubles"))
                    .hint(text![
                        "one step of its input spans thousands of its output; keep the layer float with ",
                        Term::KeepFloat,
                    ])
            })
        };
        let f: Vec<[f64; 4]> = fine.iter().map(|m| part(m.multiplier, m.right_shift)).collect::<Result<_>>()?;
        let c: Vec<[f64; 4]> = fine.iter().zip(coarse).map(|(m, &c)| part(c, m.right_shift)).collect::<Result<_>>()?;
        let column = |of: &[[f64; 4]], i: usize| of.iter().map(|h| h[i]).collect();
        Ok(Self::Halves {
            parts: [&f, &c].map(|of| Half { high: column(of, 0), low: column(of, 1) }).into(),
            rounding: column(&f, 2),
            scale: column(&f, 3),
        })
    }

    /// Adds the operations that turn accumulators (doubles) into levels; the constants have shape
    /// `shape`.
    pub(super) fn record(
        &self,
        builder: &mut Builder,
        layer: &str,
        shape: &[usize],
        accumulators: &[&str],
        levels: Levels,
    ) -> String {
        let constant = |builder: &mut Builder, name: &str, values: &[f64]| {
            builder.constant(format!("{layer}.{name}"), shape, values.iter().copied())
        };
        let steps = match self {
            Self::Direct { factor } => {
                let factor = constant(builder, "factor", factor);
                let scaled = builder.node("Mul", format!("{layer}/scaled"), &[accumulators[0], &factor], vec![]);
                // The half goes in with the zero point; the levels are not negative, so that the
                // cast rounds down.
                let zero = builder.scalar(format!("{layer}.zero_point_and_half"), levels.zero_point + 0.5);
                builder.node("Add", format!("{layer}/shifted"), &[&scaled, &zero], vec![])
            }
            Self::Halves { parts, rounding, scale } => {
                let suffix = ["", "_coarse"];
                let (mut highs, mut lows) = (Vec::new(), Vec::new());
                for ((part, acc), suffix) in parts.iter().zip(accumulators).zip(suffix) {
                    let high = constant(builder, &format!("high{suffix}"), &part.high);
                    let low = constant(builder, &format!("low{suffix}"), &part.low);
                    highs.push(builder.node("Mul", format!("{layer}/high{suffix}"), &[acc, &high], vec![]));
                    lows.push(builder.node("Mul", format!("{layer}/low{suffix}"), &[acc, &low], vec![]));
                }
                let sum = |builder: &mut Builder, name: &str, terms: &[String]| match terms {
                    [a, b] => builder.node("Add", format!("{layer}/{name}_sum"), &[a, b], vec![]),
                    _ => terms[0].clone(),
                };
                let (high, low) = (sum(builder, "high", &highs), sum(builder, "low", &lows));
                let carry = builder.node("Floor", format!("{layer}/carry"), &[&low], vec![]);
                let product = builder.node("Add", format!("{layer}/product"), &[&high, &carry], vec![]);
                let rounding = constant(builder, "rounding", rounding);
                let rounded = builder.node("Add", format!("{layer}/rounded"), &[&product, &rounding], vec![]);
                let scale = constant(builder, "power", scale);
                let scaled = builder.node("Mul", format!("{layer}/scaled"), &[&rounded, &scale], vec![]);
                let steps = builder.node("Floor", format!("{layer}/steps"), &[&scaled], vec![]);
                let zero = builder.scalar(format!("{layer}.zero_point"), levels.zero_point);
                builder.node("Add", format!("{layer}/shifted"), &[&steps, &zero], vec![])
            }
        };
        let low = builder.scalar(format!("{layer}.lowest"), levels.low);
        let high = builder.scalar(format!("{layer}.highest"), levels.high);
        let clipped = builder.node("Clip", format!("{layer}/clipped"), &[&steps, &low, &high], vec![]);
        builder.cast::<u8>(format!("{layer}/quantized"), &clipped)
    }
}

/// High half, low half, rounding term, power of two; none where the shift is too small to take a
/// half out of it.
fn halves(multiplier: i32, shift: u8) -> Option<[f64; 4]> {
    let rest = shift.checked_sub(LOW_BITS + 1)?;
    let base = 1 << LOW_BITS;
    Some([
        f64::from(multiplier / base),
        f64::from(multiplier % base) / f64::from(base),
        power(rest),
        1.0 / power(shift - LOW_BITS),
    ])
}

/// `M·2^−n`, exact.
fn real(m: Multiplier) -> f64 {
    f64::from(m.multiplier) / power(m.right_shift)
}

/// `2^n`.
fn power(n: u8) -> f64 {
    (1u64 << n) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the recorded operations compute, in their order.
    fn level(form: &Requantization, accumulators: &[i32], levels: Levels) -> u8 {
        let shifted = match form {
            Requantization::Direct { factor } => f64::from(accumulators[0]) * factor[0] + (levels.zero_point + 0.5),
            Requantization::Halves { parts, rounding, scale } => {
                let (mut high, mut low) = (0.0, 0.0);
                for (part, &acc) in parts.iter().zip(accumulators) {
                    high += f64::from(acc) * part.high[0];
                    low += f64::from(acc) * part.low[0];
                }
                ((high + low.floor() + rounding[0]) * scale[0]).floor() + levels.zero_point
            }
        };
        shifted.max(levels.low).min(levels.high) as u8
    }

    fn levels(zero_point: i32, low: i32) -> Levels {
        let [zero_point, low, high] = [zero_point, low, 127].map(|q| f64::from(q + 128));
        Levels { zero_point, low, high }
    }

    /// Accumulators whose `acc·M` lies at or just beside a tie of a level near `target`.
    fn beside_ties(m: Multiplier, target: i64) -> impl Iterator<Item = i32> {
        let tie = (2 * i128::from(target) + 1) << (m.right_shift - 1);
        let near = tie / i128::from(m.multiplier.max(1));
        (-1..=1).filter_map(move |d| i32::try_from(near + d).ok())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn one_accumulator(
            multiplier in 1i32 << 30..=i32::MAX, shift in 1u8..=62, acc: i32, target in -300i64..300, zero in -128..=127i32,
        ) {
            let m = Multiplier { multiplier, right_shift: shift };
            // Beside a channel of the largest shift the small ones take their other form.
            let other = Multiplier { multiplier: 1 << 30, right_shift: 62 };
            for form in [Requantization::new(&[m]), Requantization::new(&[m, other])] {
                for acc in beside_ties(m, target).chain([acc, acc >> 12, 0, i32::MAX, -i32::MAX]) {
                    let expected = m.requantize(acc, zero, -128, 127);
                    let found = level(&form, &[acc], levels(zero, -128));
                    prop_assert_eq!(i32::from(found) - 128, i32::from(expected), "{:?} {}", m, acc);
                }
            }
        }

        #[test]
        fn two_accumulators(
            multiplier in 1i32 << 30..=i32::MAX, lesser in 0..=i32::MAX, shift in 17u8..=62, swap: bool,
            fine in -(1i32 << 29)..1 << 29, coarse in -(1i32 << 29)..1 << 29, target in -300i64..300, zero in -128..=127i32,
        ) {
            let lesser = lesser.min(multiplier);
            let (m_f, m_c) = if swap { (lesser, multiplier) } else { (multiplier, lesser) };
            let m = Multiplier { multiplier: m_f, right_shift: shift };
            let form = Requantization::pair(&[m], &[m_c]).unwrap();
            // A coarse sum that brings the total beside a tie.
            let tie = (2 * i128::from(target) + 1) << (shift - 1);
            let near = (tie - i128::from(fine) * i128::from(m_f)) / i128::from(m_c.max(1));
            for coarse in [coarse, coarse >> 10].into_iter().chain((-1..=1).filter_map(|d| i32::try_from(near + d).ok())) {
                let expected = m.requantize_sum(fine, coarse, m_c, zero, -128, 127);
                let found = level(&form, &[fine, coarse], levels(zero, -128));
                prop_assert_eq!(i32::from(found) - 128, i32::from(expected), "{:?} {} {} {}", m, m_c, fine, coarse);
            }
        }
    }

    #[test]
    fn the_form_follows_the_largest_shift() {
        let m = |right_shift| Multiplier { multiplier: 3 << 29, right_shift };
        assert!(matches!(Requantization::new(&[m(1), m(43)]), Requantization::Direct { .. }));
        assert!(matches!(Requantization::new(&[m(44), m(20)]), Requantization::Halves { .. }));
        assert!(Requantization::pair(&[m(17)], &[5]).is_ok());
        assert!(Requantization::pair(&[m(16)], &[5]).is_err());
    }

    #[test]
    fn ties_and_their_neighbours_at_every_shift() {
        for shift in 1..=62 {
            // M = 2^30: acc·M hits ties exactly, and its neighbours are as near as they get.
            for multiplier in [1 << 30, (1 << 30) + 1, i32::MAX, 3 << 29] {
                let m = Multiplier { multiplier, right_shift: shift };
                let form = Requantization::new(&[m]);
                for target in -260..260 {
                    for acc in beside_ties(m, target) {
                        let found = level(&form, &[acc], levels(-128, -128));
                        assert_eq!(
                            i32::from(found) - 128,
                            i32::from(m.requantize(acc, -128, -128, 127)),
                            "{m:?} {acc}"
                        );
                    }
                }
            }
        }
    }
}
