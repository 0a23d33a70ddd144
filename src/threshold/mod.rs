//! From histograms to activation ranges.

use crate::model::QParams;

/// How a range is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// The largest value seen.
    MinMax,
    /// The smallest edge with this per cent of the mass below it.
    Percentile(f64),
    /// Least squared error over bin centres.
    Mse,
    /// The published entropy calibration.
    Kl,
    /// The improved metric for re-parameterized networks.
    KlReparam,
}

/// Where the levels lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationMode {
    /// z = 0, ±threshold.
    Symmetric,
    /// `[lo, hi]` from the data.
    Affine,
}

/// Options of [`choose`].
#[derive(Debug, Clone, PartialEq)]
pub struct RangeOptions {
    /// How a range is chosen; default kl-reparam.
    pub method: Method,
    /// Bit width of activations, 2 to 8; default 8. The network input is always 8-bit and symmetric.
    pub bits: u8,
    /// Where the levels lie; default symmetric.
    pub mode: ActivationMode,
}

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

/// One range for each entry of [`Calibration::activations`](crate::calibrate::Calibration::activations), same order.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationRanges {
    /// The options they were chosen with.
    pub options: RangeOptions,
    /// The ranges.
    pub ranges: Vec<ActivationRange>,
}
