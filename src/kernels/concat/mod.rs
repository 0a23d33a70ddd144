//! Activations one behind the other along an axis.

pub(crate) mod concat_f32;
pub(crate) mod concat_i8;
mod place;
