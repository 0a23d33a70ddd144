//! Convolutions: in f32 ([`float`]) and in integers ([`int8`]), dense, tiled and depthwise.
//!
//! Both families have the same parts: `Weights`, which know everything of a layer and choose the
//! variant when they are laid out for a device, and the kernel, which is these weights with the
//! buffers of a batch. A linear layer is a 1×1 convolution of 1×1 images.

pub(crate) mod float;
mod geometry;
pub(crate) mod int8;
mod rows;
#[cfg(test)]
mod tests;
mod variants;

pub(crate) use variants::{Tile, fits};
