//! What the Cpu device's kernels are made of: vectors of 16 outputs, and e^x as plain arithmetic.

pub(super) mod exp;
pub(super) mod lanes;
