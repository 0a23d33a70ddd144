//! Pooling over windows.

use serde::{Deserialize, Serialize};

use super::{MAX_SIDE, Shape};

/// Pooling over windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// What becomes of a window.
    pub kind: PoolKind,
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Padding above, left, below and right; each smaller than the window.
    pub padding: [usize; 4],
    /// Whether a last window that reaches beyond the padding counts (it must begin within the image
    /// or the padding before it), or is left out.
    pub ceil: bool,
}

/// What becomes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolKind {
    /// The largest value within the image.
    Max,
    /// The mean of the values within the image.
    Average,
    /// As [`Self::Average`], with padding (but not what `ceil` adds beyond it) counted as zeros.
    AverageWithPadding,
}

impl Pool {
    /// Whether sides are from 1 to [`MAX_SIDE`], and no window lies in the padding alone: it would
    /// have no value.
    pub fn is_in_range(&self) -> bool {
        let mut sides = self.kernel.iter().chain(&self.stride);
        sides.all(|side| (1..=MAX_SIDE).contains(side)) && (0..4).all(|at| self.padding[at] < self.kernel[at % 2])
    }

    /// Output rows or columns along `axis` (0 rows, 1 columns) for a side of `input`.
    ///
    /// `floor or ceil((input + before + after − kernel) / stride) + 1`; with `ceil` the last window
    /// is dropped where it would begin behind the image (ONNX since opset 19, `PyTorch` always).
    pub fn side(&self, input: usize, axis: usize) -> usize {
        let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
        let (before, after) = (self.padding[axis], self.padding[axis + 2]);
        let Some(room) = (input + before + after).checked_sub(kernel) else { return 0 };
        if !self.ceil {
            return room / stride + 1;
        }
        let windows = room.div_ceil(stride) + 1;
        if (windows - 1) * stride >= input + before { windows - 1 } else { windows }
    }

    /// Shape of the output.
    pub fn output(&self, x: Shape) -> Shape {
        Shape::new(x.channels, self.side(x.height, 0), self.side(x.width, 1))
    }

    /// A bound of what a mean over a window divides by, for an input of shape `x`: the values of a
    /// window, those outside the image only where they count.
    pub fn largest_divisor(&self, x: Shape) -> usize {
        match self.kind {
            PoolKind::AverageWithPadding => self.kernel[0] * self.kernel[1],
            PoolKind::Max | PoolKind::Average => self.kernel[0].min(x.height) * self.kernel[1].min(x.width),
        }
    }

    /// The rows or columns of the image that the window at output position `at` along `axis` covers
    /// (empty where it lies in the padding), and how many a mean over them divides by.
    pub fn window(&self, input: usize, axis: usize, at: usize) -> (std::ops::Range<usize>, usize) {
        let (before, after) = (self.padding[axis], self.padding[axis + 2]);
        let begin = at * self.stride[axis];
        let end = begin + self.kernel[axis];
        let inside = begin.saturating_sub(before).min(input)..end.saturating_sub(before).min(input);
        let divisor = match self.kind {
            PoolKind::AverageWithPadding => end.min(before + input + after) - begin,
            PoolKind::Max | PoolKind::Average => inside.len(),
        };
        (inside, divisor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(kind: PoolKind, kernel: usize, stride: usize, padding: [usize; 4], ceil: bool) -> Pool {
        Pool { kind, kernel: [kernel; 2], stride: [stride; 2], padding, ceil }
    }

    #[test]
    fn windows_at_the_borders() {
        let p = pool(PoolKind::Average, 3, 2, [1; 4], false);
        assert_eq!(p.side(5, 0), 3);
        assert_eq!(p.window(5, 0, 0), (0..2, 2));
        assert_eq!(p.window(5, 0, 2), (3..5, 2));
        let counted = pool(PoolKind::AverageWithPadding, 3, 2, [1; 4], false);
        assert_eq!(counted.window(5, 0, 2), (3..5, 3));
        // 6 → ceil((6 − 3)/2) + 1 = 3; the last window reaches one beyond.
        let ceil = pool(PoolKind::AverageWithPadding, 3, 2, [0; 4], true);
        assert_eq!((ceil.side(6, 0), ceil.window(6, 0, 2)), (3, (4..6, 2)));
        // A window that would begin behind the image is dropped: ceil((2 + 1 − 1)/2) + 1 = 2, but 2
        // ≥ 2.
        let dropped = pool(PoolKind::Max, 1, 2, [0, 0, 1, 1], true);
        assert_eq!(dropped.side(2, 0), 1);
    }

    #[test]
    fn no_divisor_is_above_the_bound() {
        for kind in [PoolKind::Average, PoolKind::AverageWithPadding] {
            for (kernel, stride, padding, ceil, input) in [
                (3, 2, [1; 4], false, 5),
                (3, 2, [0; 4], true, 6),
                (5, 1, [4; 4], true, 3),
                (4, 3, [3, 0, 0, 3], true, 2),
            ] {
                let p = pool(kind, kernel, stride, padding, ceil);
                let x = Shape::new(1, input, input);
                let divisors = |axis| (0..p.side(input, axis)).map(move |at| p.window(input, axis, at).1);
                let largest = divisors(0).max().unwrap() * divisors(1).max().unwrap();
                assert!(divisors(0).chain(divisors(1)).all(|d| d > 0) && largest <= p.largest_divisor(x), "{p:?}");
            }
        }
    }
}
