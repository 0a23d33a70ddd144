//! What all families of kernels share: the levels of an integer output, requantization, and
//! comparison with a twin.

mod check;
mod inputs;
mod levels;
mod lines;
mod operand;
mod requantize;

pub(crate) use check::Check;
pub(crate) use check::{outcome, words_of};
pub(crate) use inputs::{compare, packed_pixels, random_activation};
pub use levels::OutputLevels;
pub(crate) use levels::{check_right_shift, check_zero_point};
pub(crate) use lines::{Lines, additions, lines_of, sum_in_runs};
pub(crate) use operand::Operand;
pub(crate) use requantize::{requantize, requantize_two};
