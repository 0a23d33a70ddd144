//! Between pixels, levels, accumulators and f32: what networks begin with, and what stands between
//! float and integers.

pub(crate) mod dequantize;
pub(crate) mod dequantize_acc;
pub(crate) mod normalize;
pub(crate) mod quantize_activation;
pub(crate) mod quantize_input;
