//! Power-of-two histograms: `BINS` bins of width 2^e over |x|, exact zeros apart.
//!
//! Bin edges are powers of two times integers and counts are integers, so nothing here rounds: the
//! same values give the same statistics in any order, in any batches and merged from any parts.

use ndarray::Array2;

use crate::{Error, Result};

/// Number of bins of a histogram.
pub const BINS: usize = 4096;

/// The least exponent e of a bin width 2^e.
pub(crate) const MIN_EXPONENT: i32 = -100;

/// Number of magnitude classes kept for each channel: half octaves from 2^−32 to 2^32.
///
/// A non-zero |x| with bits `u` belongs to class `clamp((u >> 22) − 190, 0, 127)`: 8 exponent bits
/// and the first mantissa bit. Counting classes is exact and order-free, where a floating-point Σx²
/// is not; `E[x²]` of a channel is then known to about 7 % ([`ActivationStats::mean_square`]),
/// which is ample for weighing layers against each other.
pub const POWER_BINS: usize = 128;

/// Statistics of one activation over all images seen.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationStats {
    /// Name of the node.
    pub name: String,
    /// e: bins are 2^e wide; the least integer ≥ −100 with max|x| < BINS·2^e.
    pub exponent: i32,
    /// How many values are exactly zero (either sign).
    pub zeros: u64,
    /// The smallest value seen, +inf before the first; a zero is +0.
    pub min: f32,
    /// The largest value seen, −inf before the first; a zero is +0.
    pub max: f32,
    /// Counts of values > 0: bin `floor(x·2^−e)`.
    pub positive: Vec<u64>,
    /// Counts of values < 0: bin `floor(|x|·2^−e)`. All zero after a `ReLU`.
    pub negative: Vec<u64>,
    /// `channels × POWER_BINS` counts of non-zero magnitudes, see [`POWER_BINS`].
    pub power: Array2<u64>,
}

impl ActivationStats {
    /// Statistics of an activation of which nothing was seen yet.
    pub fn new(name: impl Into<String>, channels: usize) -> Self {
        Self {
            name: name.into(),
            exponent: MIN_EXPONENT,
            zeros: 0,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            positive: vec![0; BINS],
            negative: vec![0; BINS],
            power: Array2::zeros((channels, POWER_BINS)),
        }
    }

    /// The least integer e ≥ −100 with `max_abs < BINS·2^e`, for a finite `max_abs`.
    ///
    /// Read from the bits: a normal `max_abs` lies in `[2^E, 2^(E+1))`, so `e + 12 = E + 1`. Zero
    /// and subnormal values give −100.
    pub fn exponent_for(max_abs: f32) -> i32 {
        let field = (max_abs.to_bits() >> 23) & 0xff;
        (field as i32 - 127 - 11).max(MIN_EXPONENT)
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.power.nrows()
    }

    /// The largest magnitude seen, 0 before the first.
    pub fn max_abs(&self) -> f32 {
        (-self.min).max(self.max).max(0.0)
    }

    /// Number of values seen, zeros included.
    pub fn count(&self) -> u64 {
        self.zeros + self.positive.iter().sum::<u64>() + self.negative.iter().sum::<u64>()
    }

    /// The histogram of |x| without the zeros: both signs added.
    pub fn magnitudes(&self) -> Vec<u64> {
        self.positive.iter().zip(&self.negative).map(|(p, n)| p + n).collect()
    }

    /// Makes the bins 2^`exponent` wide by adding neighbours; nothing where they are that wide
    /// already.
    ///
    /// Exact: the result is what counting with the larger width from the start would have given,
    /// since `floor(floor(x·2^−e)/2^d) = floor(x·2^−(e+d))`.
    pub fn coarsen_to(&mut self, exponent: i32) {
        if exponent <= self.exponent {
            return;
        }
        let shift = (exponent - self.exponent) as u32;
        self.exponent = exponent;
        for counts in [&mut self.positive, &mut self.negative] {
            let mut coarse = vec![0; BINS];
            for (bin, count) in counts.iter().enumerate() {
                coarse[bin.checked_shr(shift).unwrap_or(0)] += count;
            }
            *counts = coarse;
        }
    }

    /// Adds the statistics of other values of the same activation, exactly.
    ///
    /// # Errors
    /// Where it is another activation (name, channels), or a count would not fit 64 bits; nothing
    /// is changed then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_merge(other)?;
        self.coarsen_to(other.exponent);
        let shift = (self.exponent - other.exponent) as u32;
        for (mine, theirs) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            for (bin, count) in theirs.iter().enumerate() {
                mine[bin.checked_shr(shift).unwrap_or(0)] += count;
            }
        }
        self.power += &other.power;
        self.zeros += other.zeros;
        self.min = self.min.min(other.min) + 0.0; // −0 + 0 = 0: the sign of a zero must not depend on the order
        self.max = self.max.max(other.max) + 0.0;
        Ok(())
    }

    /// Whether [`ActivationStats::merge`] can be done.
    pub(super) fn check_merge(&self, other: &Self) -> Result<()> {
        if self.name != other.name {
            return Err(Error::bad(format!(
                "statistics of activation {} cannot be added to those of {}",
                other.name, self.name
            )));
        }
        if self.power.dim() != other.power.dim() {
            return Err(Error::bad(format!(
                "activation {} has {} channels here and {} there",
                self.name,
                self.channels(),
                other.channels()
            )));
        }
        // Every count is part of the total, so where the totals fit, all sums do.
        let total = self.checked_count().zip(other.checked_count()).and_then(|(a, b)| a.checked_add(b));
        total.map(drop).ok_or_else(|| Error::bad(format!("activation {}: the counts do not fit 64 bits", self.name)))
    }

    /// [`ActivationStats::count`], or nothing where it, or the sum of `power`, does not fit.
    pub(super) fn checked_count(&self) -> Option<u64> {
        let mut power = self.power.iter();
        power.try_fold(0u64, |sum, &n| sum.checked_add(n))?;
        let counts = self.positive.iter().chain(&self.negative);
        counts.copied().try_fold(self.zeros, u64::checked_add)
    }

    /// Counts `values`, NHWC with `stored_channels` values for each pixel, of which the first
    /// [`channels`](Self::channels) are real and the rest is padding. The plain twin of the
    /// kernels.
    ///
    /// # Errors
    /// Where a real value is NaN or infinite, or the slice is not whole pixels; nothing is counted
    /// then.
    pub fn add(&mut self, values: &[f32], stored_channels: usize) -> Result<()> {
        let channels = self.channels();
        if stored_channels < channels || stored_channels == 0 || !values.len().is_multiple_of(stored_channels) {
            return Err(Error::bad(format!(
                "{} values in pixels of {stored_channels} are not whole pixels of {channels} channels",
                values.len()
            ))
            .at(&self.name));
        }
        let real = || values.chunks_exact(stored_channels).flat_map(|pixel| pixel[..channels].iter().enumerate());
        if let Some((channel, x)) = real().find(|(_, x)| !x.is_finite()) {
            return Err(Error::bad(format!("channel {channel} holds {x}"))
                .at(format!("activation {}", self.name))
                .hint("the network overflows on this image: check the checkpoint and the normalization of the input"));
        }
        for (_, &x) in real() {
            self.min = self.min.min(x) + 0.0;
            self.max = self.max.max(x) + 0.0;
        }
        self.coarsen_to(Self::exponent_for(self.max_abs()));
        // A power of two from 2^−116 to 2^100 is a normal f32, and the product is exact wherever it
        // is 1 or more.
        let per_bin = f32::from_bits(((127 - self.exponent) as u32) << 23);
        for (channel, &x) in real() {
            let bits = x.to_bits() & 0x7fff_ffff;
            if bits == 0 {
                self.zeros += 1;
                continue;
            }
            let bin = (x.abs() * per_bin) as usize;
            let side = if x > 0.0 { &mut self.positive } else { &mut self.negative };
            side[bin] += 1;
            self.power[[channel, power_class(bits)]] += 1;
        }
        Ok(())
    }
}

/// The class of a non-zero magnitude with these bits, see [`POWER_BINS`].
fn power_class(bits: u32) -> usize {
    (bits >> 22).saturating_sub(190).min(POWER_BINS as u32 - 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponent_is_the_least_that_holds_the_value() {
        let e = ActivationStats::exponent_for;
        assert_eq!((e(0.0), e(-0.0), e(f32::from_bits(1)), e(f32::MIN_POSITIVE)), (-100, -100, -100, -100));
        assert_eq!(e(4096.0), 1);
        assert_eq!(e(f32::from_bits(4096f32.to_bits() - 1)), 0);
        assert_eq!(e(-4096.0), 1);
        assert_eq!(e(f32::MAX), 116);
        let edge = 2f32.powi(12 - 100);
        assert_eq!((e(f32::from_bits(edge.to_bits() - 1)), e(edge)), (-100, -99));
    }

    #[test]
    fn counts_by_sign_and_leaves_zeros_and_padding_apart() {
        let mut stats = ActivationStats::new("a", 3);
        let pixels = [0.0, -0.0, 4095.5, f32::NAN, -1.0, 1.0, f32::from_bits(1), 9.0];
        stats.add(&pixels, 4).unwrap();
        assert_eq!((stats.exponent, stats.zeros, stats.count()), (0, 2, 6));
        assert_eq!((stats.min, stats.max), (-1.0, 4095.5));
        assert_eq!((stats.positive[4095], stats.positive[1], stats.positive[0], stats.negative[1]), (1, 1, 1, 1));
        assert_eq!(stats.magnitudes()[1], 2);
        assert_eq!((stats.power[[2, 0]], stats.power[[0, 64]], stats.power[[1, 64]]), (1, 1, 1));
        assert_eq!(stats.power.sum(), 4);
    }

    #[test]
    fn a_zero_extreme_is_plus_zero() {
        let mut a = ActivationStats::new("a", 1);
        a.add(&[-0.0], 1).unwrap();
        assert_eq!((a.min.to_bits(), a.max.to_bits(), a.exponent), (0, 0, -100));
    }

    #[test]
    fn refuses_what_is_not_finite_and_counts_nothing() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut stats = ActivationStats::new("stage1.0", 2);
            let error = stats.add(&[1.0, 2.0, 3.0, bad], 2).unwrap_err().to_string();
            assert!(error.contains("stage1.0") && error.contains("channel 1"), "{error}");
            assert_eq!(stats, ActivationStats::new("stage1.0", 2));
        }
        assert!(ActivationStats::new("a", 2).add(&[1.0, 2.0, 3.0], 2).is_err());
        assert!(ActivationStats::new("a", 4).add(&[1.0, 2.0, 3.0], 3).is_err());
    }

    #[test]
    fn refuses_another_activation_and_counts_that_overflow() {
        let mut a = ActivationStats::new("a", 1);
        a.zeros = u64::MAX - 1;
        let before = a.clone();
        let mut more = ActivationStats::new("a", 1);
        more.add(&[1.0, 2.0], 1).unwrap();
        assert!(a.merge(&more).unwrap_err().to_string().contains("64 bits"));
        assert!(a.merge(&ActivationStats::new("b", 1)).unwrap_err().to_string().contains('b'));
        assert!(a.merge(&ActivationStats::new("a", 2)).unwrap_err().to_string().contains("2 there"));
        assert_eq!(a, before);
    }

    #[test]
    fn the_largest_and_smallest_exponents_are_counted() {
        let mut stats = ActivationStats::new("a", 1);
        stats.add(&[f32::MIN_POSITIVE, f32::MAX, -f32::MAX], 1).unwrap();
        assert_eq!((stats.exponent, stats.positive[0], stats.positive[4095], stats.negative[4095]), (116, 1, 1, 1));
        assert_eq!((stats.power[[0, 0]], stats.power[[0, 127]]), (1, 2));
    }
}
