//! From histograms to activation ranges.
//!
//! | method | the largest magnitude represented | file |
//! | --- | --- | --- |
//! | `minmax` | the largest seen | `minmax.rs` |
//! | `percentile:P` | the first bin edge with P % of all values below it | `percentile.rs` |
//! | `mse` | the edge of the least squared error | `mse.rs` |
//! | `kl` | the published entropy calibration | `kl.rs` |
//! | `kl-reparam` | the improved metric for re-parameterized networks | `kl_reparam.rs` |
//!
//! A method sees one histogram and answers with the number of bins it keeps; `choose.rs` does what
//! they share. All of them are exact integer arithmetic or f64 sums in one fixed order, so a result
//! never depends on threads or device.

mod choose;
mod groups;
mod kl;
mod kl_reparam;
mod method;
mod minmax;
mod mse;
mod percentile;

pub use choose::choose;
pub use method::{ActivationMode, Method, RangeOptions};

use crate::model::QParams;

/// The range of one activation.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationRange {
    /// Name of the node.
    pub name: String,
    /// The largest magnitude represented above zero.
    pub threshold: f64,
    /// The lowest value represented (affine; −threshold when symmetric).
    pub low: f64,
    /// What follows from it.
    pub qparams: QParams,
}

/// One range for each entry of
/// [`Calibration::activations`](crate::calibrate::Calibration::activations), same order.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationRanges {
    /// The options they were chosen with.
    pub options: RangeOptions,
    /// The ranges.
    pub ranges: Vec<ActivationRange>,
}
