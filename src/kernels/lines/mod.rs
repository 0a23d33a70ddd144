//! Operations over lines of an activation: softmax, standardization, reductions.

pub(crate) mod reduce_f32;
pub(crate) mod softmax_f32;
pub(crate) mod standardize_f32;
