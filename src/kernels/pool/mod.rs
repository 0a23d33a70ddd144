//! Pooling: over windows, and over a whole image.

pub(crate) mod global_pool_f32;
pub(crate) mod global_pool_i8;
pub(crate) mod pool_f32;
pub(crate) mod pool_i8;
