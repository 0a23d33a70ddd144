//! Running a kernel for its result alone, and comparing that with its twin's.

use crate::Result;
use crate::device::{Buffer, Device, Recorder};

/// What results hold before a kernel writes them, a NaN: what is not written shows.
const UNWRITTEN: u32 = 0x7FC5_A5A5;

/// Runs what `record` records and gives the `words` words of the buffer that it is handed to write.
///
/// # Errors
/// Those of `record`, or if the device failed.
pub(crate) fn outcome(
    device: &Device,
    words: usize,
    record: impl FnOnce(&mut Recorder<'_>, &Buffer) -> Result<()>,
) -> Result<Vec<u32>> {
    let y = device.upload(&vec![UNWRITTEN; words], "y")?;
    let mut rec = device.recorder();
    record(&mut rec, &y)?;
    rec.submit()?;
    words_of(device, &y)
}

/// All words of a buffer, after all work submitted so far.
///
/// # Errors
/// If the device failed.
pub(crate) fn words_of(device: &Device, buffer: &Buffer) -> Result<Vec<u32>> {
    pollster::block_on(device.read(buffer, buffer.len()))
}

/// The outcome of one case.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Check {
    /// What was computed, with its shapes.
    pub case: String,
    /// Integers: how many words differ. Floats: the largest error as a fraction of its bound.
    pub error: f64,
    /// Whether the result is right: no word differs, or no error is above its bound.
    pub passed: bool,
    /// The first difference, for the message.
    pub detail: Option<String>,
}

impl Check {
    /// Compares integers to the bit.
    pub(crate) fn exact<T: PartialEq + std::fmt::Debug>(case: impl Into<String>, expected: &[T], got: &[T]) -> Self {
        let wrong = |i: &usize| expected.get(*i) != got.get(*i);
        let range = 0..expected.len().max(got.len());
        let count = range.clone().filter(wrong).count();
        let detail = range
            .clone()
            .find(wrong)
            .map(|i| format!("at {i} of {}: expected {:?}, got {:?}", range.end, expected.get(i), got.get(i)));
        Self { case: case.into(), error: count as f64, passed: count == 0, detail }
    }

    /// Compares floats: `|got − expected| ≤ bound` at every place. The bound is the caller's,
    /// derived from the length of the sum and the size of its terms.
    pub(crate) fn close(case: impl Into<String>, expected: &[f64], bounds: &[f64], got: &[f32]) -> Self {
        let case = case.into();
        if expected.len() != got.len() || bounds.len() != got.len() {
            let detail = format!("{} values expected, {} bounds, {} got", expected.len(), bounds.len(), got.len());
            return Self { case, error: f64::INFINITY, passed: false, detail: Some(detail) };
        }
        let mut worst = (0.0, None);
        for (i, ((e, b), g)) in expected.iter().zip(bounds).zip(got).enumerate() {
            let difference = (f64::from(*g) - e).abs();
            // A NaN, or any difference where none is allowed, is infinitely wrong.
            let ratio = if difference == 0.0 {
                0.0
            } else if *b > 0.0 && difference.is_finite() {
                difference / b
            } else {
                f64::INFINITY
            };
            if ratio > worst.0 {
                worst = (ratio, Some(format!("at {i} of {}: expected {e}, got {g}, bound {b:e}", got.len())));
            }
        }
        let passed = worst.0 <= 1.0;
        Self { case, error: worst.0, passed, detail: if passed { None } else { worst.1 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_differs() {
        assert!(Check::exact("same", &[1, 2], &[1, 2]).passed);
        let one = Check::exact("one", &[1, 2], &[1, 3]);
        assert!(!one.passed && one.error == 1.0);
        assert!(!Check::exact("short", &[1, 2], &[1]).passed);
        assert!(Check::close("within", &[1.0], &[0.1], &[1.05]).passed);
        assert!(!Check::close("beyond", &[1.0], &[0.1], &[1.2]).passed);
        assert!(!Check::close("nan", &[1.0], &[0.1], &[f32::NAN]).passed);
        assert!(!Check::close("no slack", &[1.0], &[0.0], &[1.1]).passed);
    }
}
