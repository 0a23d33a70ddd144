//! The levels that an integer kernel may give.

use crate::{Error, Result};

/// The levels of an integer kernel's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLevels {
    /// The level of real 0, −128 to 127.
    pub zero_point: i32,
    /// Lowest level; with a `ReLU` the zero point.
    pub low: i32,
    /// Highest level.
    pub high: i32,
}

impl OutputLevels {
    /// The level for `steps` above real 0.
    #[inline]
    pub(crate) fn level(&self, steps: i64) -> i8 {
        (i64::from(self.zero_point) + steps).clamp(i64::from(self.low), i64::from(self.high)) as i8
    }

    /// Checks that the zero point and both ends are levels of int8, in order.
    ///
    /// # Errors
    /// If they are not: an error of the caller.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { zero_point, low, high } = *self;
        if -128 <= low && low <= zero_point && zero_point <= high && high <= 127 {
            return Ok(());
        }
        Err(Error::device(format!("levels {low} to {high} around {zero_point} are not those of int8")))
    }
}

/// Checks that a zero point is a level of int8.
///
/// # Errors
/// If it is not: an error of the caller.
pub(crate) fn check_zero_point(zero_point: i32) -> Result<()> {
    if (-128..=127).contains(&zero_point) {
        return Ok(());
    }
    Err(Error::device(format!("zero point {zero_point} is no level of int8")))
}

/// Checks the right shift of a requantization.
///
/// # Errors
/// If it is not 1 to 62: an error of the caller.
pub(crate) fn check_right_shift(n: u8) -> Result<()> {
    if (1..=62).contains(&n) { Ok(()) } else { Err(Error::bad(format!("right_shift is {n}; 1 to 62 are possible"))) }
}
