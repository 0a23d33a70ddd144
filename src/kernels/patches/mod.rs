//! The patches that a layer reads as a matrix, and exact sums of products of its rows: what
//! second-order rounding knows of a layer's input.

pub(crate) mod gather_patches;
mod layout;
mod native;
pub(crate) mod second_moments;
mod steps;

pub use layout::{Matrix, Patches};
#[cfg(test)]
pub(crate) use steps::divided;
