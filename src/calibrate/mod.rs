//! Statistics of activations: exact, mergeable, independent of batch size, order and device.

mod calibration;
mod collect;
mod histogram;
mod moments;
mod run;
pub mod stats_file;
#[cfg(test)]
mod tests;

pub use calibration::Calibration;
pub use collect::Collector;
pub use histogram::{ActivationStats, BINS, MAX_EXPONENT, MIN_EXPONENT, POWER_BINS};
pub use run::calibrate;
