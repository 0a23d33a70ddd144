//! From a float graph and activation ranges to an int8 graph.

use crate::model::Support;

/// How kernels are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitMode {
    /// Not at all.
    None,
    /// As published: the coarse part on a grid of its own.
    Paper,
    /// The coarse scale is the fine scale shifted (default).
    Aligned,
    /// Layers and supports chosen under a budget of multiplications.
    Auto,
}

/// How many weight scales a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// One for each output channel (default).
    Channel,
    /// One for the layer.
    Tensor,
}

/// Options of [`quantize`].
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizeOptions {
    /// Bit width of weights, 2 to 8; default 8.
    pub weight_bits: u8,
    /// Bit width of the first convolution's and the classifier's weights; default: that of the others.
    pub first_last_bits: Option<u8>,
    /// How many scales; default one for each channel.
    pub granularity: Granularity,
    /// How kernels are split; default aligned.
    pub split: SplitMode,
    /// Which weights the coarse part may touch. None: `center`, and pointwise kernels as the design has it
    /// (`paper` splits all of them, `aligned` none).
    pub support: Option<Support>,
    /// `auto`: how many multiplications may be added, as a fraction; default 0.12.
    pub max_overhead: f64,
    /// Layers that stay float.
    pub keep_float: Vec<String>,
}
