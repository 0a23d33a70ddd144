//! Sums, differences and products of two activations, and their matrix products.

pub(crate) mod binary_f32;
pub(crate) mod binary_i8;
pub(crate) mod matmul_f32;
