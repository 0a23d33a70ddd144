//! Statistics of activations: exact, mergeable, independent of batch size, order and device.

mod histogram;

pub use histogram::{ActivationStats, BINS, Calibration, POWER_BINS};
