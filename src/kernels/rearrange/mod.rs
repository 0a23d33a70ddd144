//! Values in another order or shape, and resized images.

pub(crate) mod gather_f32;
pub(crate) mod gather_i8;
mod order;
pub(crate) mod resize_f32;
