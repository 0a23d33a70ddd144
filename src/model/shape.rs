//! Shapes of activations.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Shape of one image's activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// Channels × height × width.
    pub fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Number of values, for sides that nobody has checked; none where there are more than can be
    /// counted.
    pub fn checked_len(&self) -> Option<usize> {
        self.channels.checked_mul(self.height)?.checked_mul(self.width)
    }

    /// Whether it holds no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows times columns.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Number of values as they are stored on a device, padded channels included: words of f32
    /// activations, bytes of int8 ones.
    pub fn padded_len(&self) -> usize {
        self.pixels() * self.padded_channels()
    }

    /// Channels rounded up to a multiple of 4, as they are stored on a device.
    pub fn padded_channels(&self) -> usize {
        self.channels.next_multiple_of(4)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}×{}", self.channels, self.height, self.width)
    }
}

/// Output shape of a convolution: `floor((n + 2·padding − kernel) / stride) + 1` in each direction,
/// 0 where the kernel does not fit.
pub fn conv_output(
    x: Shape,
    out_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> Shape {
    let side = |n: usize, i: usize| (n + 2 * padding[i]).checked_sub(kernel[i]).map_or(0, |room| room / stride[i] + 1);
    Shape::new(out_channels, side(x.height, 0), side(x.width, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_output_is_rounded_down() {
        let y = conv_output(Shape::new(3, 224, 225), 48, [3, 3], [2, 2], [1, 1]);
        assert_eq!(y, Shape::new(48, 112, 113));
        assert_eq!(conv_output(Shape::new(3, 1, 1), 8, [3, 3], [1, 1], [0, 0]).len(), 0);
    }
}
