//! The weights of convolutions and fully connected layers: what is true of them whatever their
//! numbers are, and the float ones.

use ndarray::{Array1, Array2, Array4, Axis};

use super::{Shape, conv_output};

/// The weights of a convolution or a fully connected layer, in whatever numbers they are held. A
/// fully connected layer is a convolution of a C × 1 × 1 image with a 1×1 kernel.
pub trait Weights {
    /// Sides of the kernel, `O × I/groups × kh × kw`.
    fn dim(&self) -> (usize, usize, usize, usize);

    /// Vertical and horizontal stride.
    fn stride(&self) -> [usize; 2];

    /// Padding: rows above and below, columns left and right.
    fn padding(&self) -> [usize; 2];

    /// Groups; input and output channels are multiples of it.
    fn groups(&self) -> usize;

    /// Number of output channels.
    fn out_channels(&self) -> usize {
        self.dim().0
    }

    /// Number of input channels.
    fn in_channels(&self) -> usize {
        self.dim().1 * self.groups()
    }

    /// Kernel height and width.
    fn kernel(&self) -> [usize; 2] {
        let (_, _, kh, kw) = self.dim();
        [kh, kw]
    }

    /// One filter for each channel: `groups` equals input and output channels, and there is more
    /// than one.
    fn is_depthwise(&self) -> bool {
        self.groups() > 1 && self.groups() == self.in_channels() && self.groups() == self.out_channels()
    }

    /// Whether it is a matrix, as that of a fully connected layer: a 1×1 kernel, stride 1, no
    /// padding, one group.
    fn is_matrix(&self) -> bool {
        (self.kernel(), self.stride(), self.padding(), self.groups()) == ([1; 2], [1; 2], [0; 2], 1)
    }

    /// Shape of the result for an input of shape `x`; the channels of `x` are not looked at.
    fn output(&self, x: Shape) -> Shape {
        conv_output(x, self.out_channels(), self.kernel(), self.stride(), self.padding())
    }

    /// Number of weights, without biases.
    fn weight_count(&self) -> usize {
        let (out, per_group, kh, kw) = self.dim();
        out * per_group * kh * kw
    }

    /// Multiplications for one image whose result has shape `y`.
    fn macs(&self, y: Shape) -> u64 {
        self.weight_count() as u64 * y.pixels() as u64
    }
}

/// A 2-D convolution, zero padding.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// `O × I/groups × kh × kw`.
    pub weight: Array4<f32>,
    /// `O`.
    pub bias: Array1<f32>,
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Zero padding: rows above and below, columns left and right.
    pub padding: [usize; 2],
    /// Groups; input and output channels are multiples of it.
    pub groups: usize,
}

impl Conv {
    /// The fully connected layer `y = weight·x + bias`: `weight` is `O × I`, `bias` is `O`.
    pub fn linear(weight: Array2<f32>, bias: Array1<f32>) -> Self {
        let weight = weight.insert_axis(Axis(2)).insert_axis(Axis(3));
        Self { weight, bias, stride: [1, 1], padding: [0, 0], groups: 1 }
    }
}

impl Weights for Conv {
    fn dim(&self) -> (usize, usize, usize, usize) {
        self.weight.dim()
    }

    fn stride(&self) -> [usize; 2] {
        self.stride
    }

    fn padding(&self) -> [usize; 2] {
        self.padding
    }

    fn groups(&self) -> usize {
        self.groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fully_connected_layer_is_a_matrix() {
        let linear = Conv::linear(Array2::zeros((10, 64)), Array1::zeros(10));
        assert!(linear.is_matrix() && !linear.is_depthwise());
        assert_eq!((linear.in_channels(), linear.out_channels()), (64, 10));
        let y = linear.output(Shape::new(64, 1, 1));
        assert_eq!((y, linear.macs(y)), (Shape::new(10, 1, 1), 640));
        assert!(!Conv { stride: [2, 1], ..linear }.is_matrix());
    }

    #[test]
    fn one_filter_for_each_channel() {
        let conv = Conv {
            weight: Array4::zeros((6, 1, 3, 3)),
            bias: Array1::zeros(6),
            stride: [2, 2],
            padding: [1, 1],
            groups: 6,
        };
        let y = conv.output(Shape::new(6, 8, 7));
        assert!(conv.is_depthwise());
        assert_eq!((y, conv.macs(y)), (Shape::new(6, 4, 4), 6 * 9 * 16));
    }
}
