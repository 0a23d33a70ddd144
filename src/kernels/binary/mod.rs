//! Functions of two activations.

pub(crate) mod binary_f32;
pub(crate) mod binary_i8;
