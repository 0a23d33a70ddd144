//! What all methods share: which histogram they see, when they are not asked, and what follows from
//! their answer.

use rayon::prelude::*;

use super::{
    ActivationMode, ActivationRange, ActivationRanges, Method, RangeOptions, kl, kl_reparam, minmax, mse, percentile,
};
use crate::calibrate::{ActivationStats, Calibration};
use crate::model::QParams;
use crate::{Error, Result};

/// Bit width of the network input, whatever the options say of the rest.
const INPUT_BITS: u8 = 8;

/// Chooses a range for each activation, in parallel.
///
/// - The network input (the first activation; `quantize` takes no network where it is not stored)
///   is 8-bit, symmetric, minmax.
/// - Symmetric: the method is applied to the histogram of |x|. Affine: to each sign's histogram on
///   its own, which gives the two ends; a sign that does not occur ends at 0.
/// - A histogram with fewer occupied bins than the 2^(b−1) levels of one sign takes minmax.
/// - No end lies beyond the largest value seen of that sign. An activation that is always zero gets
///   scale 1.
///
/// # Errors
/// Wrong options; an activation of which no value was seen.
pub fn choose(calibration: &Calibration, options: &RangeOptions) -> Result<ActivationRanges> {
    options.check()?;
    if let Some(unseen) = calibration.activations.iter().find(|stats| stats.count() == 0) {
        return Err(Error::bad("no value was seen").at(format!("activation {}", unseen.name)));
    }
    let ranges = calibration.activations.par_iter().enumerate().map(|(index, stats)| {
        if index == 0 {
            let threshold = minmax::limit(stats);
            return symmetric(stats, threshold, INPUT_BITS);
        }
        match options.mode {
            ActivationMode::Symmetric => {
                let side = Side {
                    counts: &stats.magnitudes(),
                    limit: minmax::limit(stats),
                    steps: (1 << (options.bits - 1)) - 1,
                };
                symmetric(stats, end(stats, &side, options), options.bits)
            }
            ActivationMode::Affine => affine(stats, options),
        }
    });
    Ok(ActivationRanges { options: options.clone(), ranges: ranges.collect() })
}

/// One histogram of magnitudes, and what bounds its threshold.
struct Side<'a> {
    /// Without the zeros.
    counts: &'a [u64],
    /// The largest magnitude seen.
    limit: f64,
    /// Steps from 0 to the threshold, for the squared error.
    steps: u32,
}

fn symmetric(stats: &ActivationStats, threshold: f64, bits: u8) -> ActivationRange {
    let qparams = QParams::symmetric(threshold, bits);
    ActivationRange { name: stats.name.clone(), threshold, low: -threshold, qparams }
}

fn affine(stats: &ActivationStats, options: &RangeOptions) -> ActivationRange {
    // All steps serve one sign where the other does not occur; otherwise the error of a sign is
    // taken with half of them.
    let one_sign = stats.min >= 0.0 || stats.max <= 0.0;
    let steps = if one_sign { (1 << options.bits) - 1 } else { (1 << (options.bits - 1)) - 1 };
    let (low, high) = minmax::limits(stats);
    let threshold = end(stats, &Side { counts: &stats.positive, limit: high, steps }, options);
    let low = -end(stats, &Side { counts: &stats.negative, limit: low, steps }, options) + 0.0; // not −0
    let qparams = QParams::affine(low, threshold, options.bits);
    ActivationRange { name: stats.name.clone(), threshold, low, qparams }
}

/// The threshold of one histogram.
fn end(stats: &ActivationStats, side: &Side<'_>, options: &RangeOptions) -> f64 {
    let levels = 1 << (options.bits - 1);
    if side.counts.iter().filter(|&&n| n > 0).count() < levels {
        return side.limit;
    }
    let bins = match options.method {
        Method::MinMax => None,
        Method::Percentile(p) => Some(percentile::bins(side.counts, stats.zeros, p)),
        Method::Mse => Some(mse::bins(side.counts, side.steps)),
        Method::Kl => kl::bins(side.counts, levels),
        Method::KlReparam => kl_reparam::bins(side.counts, levels),
    };
    // An edge is an integer of 13 bits times a power of two: exact.
    bins.map_or(side.limit, |bins| (bins as f64 * f64::exp2(f64::from(stats.exponent))).min(side.limit))
}
