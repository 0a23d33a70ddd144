//! The coarse part of a split kernel as a convolution of its own.

use super::builder::Window;
use crate::model::{Coarse, QConv, Support};

/// A convolution that gives the coarse products at the same output pixels as the fine one.
pub(super) struct CoarseConv {
    /// Shape of the weights.
    pub shape: [usize; 4],
    /// The weights, row by row.
    pub weights: Vec<i8>,
    /// Its settings.
    pub window: Window,
}

impl CoarseConv {
    /// Center: a 1×1 convolution; diagonal: a depthwise 1×1 one; full: the same as the fine one.
    ///
    /// Output pixel i of the fine convolution has its centre tap at row `i·stride − padding + kh/2`
    /// of the input, which a 1×1 convolution reaches with a padding of `padding − kh/2`. Where that
    /// is negative, the centre taps stay in a kernel of full size, zeros around them.
    pub(super) fn new(conv: &QConv, coarse: &Coarse) -> Self {
        let (out, per_group, kh, kw) = conv.fine.dim();
        let fine = Window::of(conv);
        let weights: Vec<i8> = coarse.weights.iter().copied().collect();
        let (inputs, groups) = match coarse.support {
            Support::Full => return Self { shape: [out, per_group, kh, kw], weights, window: fine },
            Support::Center => (per_group, conv.groups),
            Support::Diagonal => (1, out),
        };
        let pad = |i: usize, k: usize| {
            let before = conv.padding[i].checked_sub(k / 2)?;
            let after = conv.padding[i].checked_sub(k - 1 - k / 2)?;
            Some((before, after))
        };
        if let (Some((top, bottom)), Some((left, right))) = (pad(0, kh), pad(1, kw)) {
            let window = Window { kernel: [1, 1], strides: conv.stride, pads: [top, left, bottom, right], groups };
            return Self { shape: [out, inputs, 1, 1], weights, window };
        }
        let taps = kh * kw;
        let mut embedded = vec![0; weights.len() * taps];
        for (i, &w) in weights.iter().enumerate() {
            embedded[i * taps + kh / 2 * kw + kw / 2] = w;
        }
        Self { shape: [out, inputs, kh, kw], weights: embedded, window: Window { groups, ..fine } }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array4};

    use super::*;
    use crate::model::CoarseScale;

    fn conv(
        out: usize,
        per_group: usize,
        kernel: usize,
        padding: usize,
        groups: usize,
        support: Support,
    ) -> CoarseConv {
        let coarse = Coarse {
            support,
            weights: Array4::from_elem(support.shape(out, per_group, [kernel; 2]), 3),
            scale: CoarseScale::Shift(Array1::zeros(out)),
        };
        let conv = QConv {
            bits: 8,
            fine: Array4::zeros((out, per_group, kernel, kernel)),
            coarse: None,
            scale: Array1::ones(out),
            bias: Array1::zeros(out),
            multiplier: Array1::zeros(out),
            right_shift: Array1::ones(out),
            stride: [2, 1],
            padding: [padding; 2],
            groups,
        };
        CoarseConv::new(&conv, &coarse)
    }

    #[test]
    fn the_window_reaches_the_centre() {
        let center = conv(4, 2, 3, 1, 2, Support::Center);
        assert_eq!((center.shape, center.window.pads, center.window.groups), ([4, 2, 1, 1], [0; 4], 2));
        assert_eq!(conv(4, 2, 3, 2, 2, Support::Center).window.pads, [1; 4]);
        assert_eq!(conv(4, 2, 2, 1, 2, Support::Center).window.pads, [0, 0, 1, 1]);
        let diagonal = conv(4, 2, 3, 1, 2, Support::Diagonal);
        assert_eq!((diagonal.shape, diagonal.window.groups), ([4, 1, 1, 1], 4));
        assert_eq!(conv(4, 2, 5, 2, 2, Support::Full).shape, [4, 2, 5, 5]);
    }

    #[test]
    fn without_padding_the_kernel_keeps_its_size() {
        let center = conv(2, 1, 3, 0, 1, Support::Center);
        assert_eq!((center.shape, center.window.pads), ([2, 1, 3, 3], [0; 4]));
        assert_eq!(center.weights[..9], [0, 0, 0, 0, 3, 0, 0, 0, 0]);
    }
}
