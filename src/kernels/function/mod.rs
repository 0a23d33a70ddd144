//! Functions of one value, and softmax.

pub(crate) mod activation_f32;
pub(crate) mod function_f32;
pub(crate) mod lookup_i8;
pub(crate) mod softmax_f32;
