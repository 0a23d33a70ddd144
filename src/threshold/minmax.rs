//! `minmax`: nothing is clipped.

use crate::calibrate::ActivationStats;

/// The largest magnitude seen.
pub(super) fn limit(stats: &ActivationStats) -> f64 {
    f64::from(stats.max_abs())
}

/// The largest magnitudes seen below and above zero, 0 where there are none.
pub(super) fn limits(stats: &ActivationStats) -> (f64, f64) {
    (f64::from((-stats.min).max(0.0)), f64::from(stats.max.max(0.0)))
}
