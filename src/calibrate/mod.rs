//! Statistics of activations: exact, mergeable, independent of batch size, order and device.

mod calibration;
mod collect;
mod histogram;
mod moments;
mod run;
pub(crate) mod stats_file;
#[cfg(test)]
mod tests;

pub use calibration::Calibration;
pub(crate) use collect::Collector;
pub(crate) use histogram::MIN_EXPONENT;
pub use histogram::{ActivationStats, BINS, POWER_BINS};
pub(crate) use moments::class_edges;
pub use run::calibrate;
