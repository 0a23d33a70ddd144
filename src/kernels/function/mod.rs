//! Functions of one value or several, place by place.

pub(crate) mod activation_f32;
pub(crate) mod function_f32;
pub(crate) mod lookup_i8;
