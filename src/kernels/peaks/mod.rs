//! Loads that measure what a device can do at most: the yardstick of the other kernels.

pub(crate) mod copy;
pub(crate) mod dot;
pub(crate) mod multiply_add;

/// Chains of operations of an invocation, none of which waits for another.
const CHAINS: usize = 16;
