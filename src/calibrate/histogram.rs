//! Power-of-two histograms: `BINS` bins of width 2^e over |x|, exact zeros apart.

use ndarray::Array2;

use crate::model::Preprocessing;

/// Number of bins of a histogram.
pub const BINS: usize = 4096;

/// Number of magnitude classes kept for each channel: half octaves from 2^−32 to 2^32.
///
/// A non-zero |x| with bits `u` belongs to class `clamp((u >> 22) − 190, 0, 127)`: 8 exponent bits and the first
/// mantissa bit. Counting classes is exact and order-free, where a floating-point Σx² is not; E[x²] of a channel is
/// then known to a few per cent, which is ample for weighing layers against each other.
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
    /// The smallest value seen, +inf before the first.
    pub min: f32,
    /// The largest value seen, −inf before the first.
    pub max: f32,
    /// Counts of values > 0: bin `floor(x·2^−e)`.
    pub positive: Vec<u64>,
    /// Counts of values < 0: bin `floor(|x|·2^−e)`. All zero after a `ReLU`.
    pub negative: Vec<u64>,
    /// `channels × POWER_BINS` counts of non-zero magnitudes, see [`POWER_BINS`].
    pub power: Array2<u64>,
}

/// What a calibration run found.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// [`Graph::digest`](crate::model::Graph::digest) of the network it was run on.
    pub model_digest: String,
    /// How images were made into inputs.
    pub preprocessing: Preprocessing,
    /// Number of images.
    pub images: u64,
    /// One entry for each node of the graph but the classifier, in the graph's order.
    pub activations: Vec<ActivationStats>,
}
