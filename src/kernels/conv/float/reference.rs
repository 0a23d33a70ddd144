//! The twin of the f32 convolutions: sums in f64, from the definition.

use crate::model::{Conv, Shape, Weights, conv_output};

/// The twin: for each output (NHWC, padded channels 0) its value in f64 and `|bias| + Σ|w·x|`, from
/// the model's own weights and groups.
pub(super) fn reference(conv: &Conv, images: usize, x_shape: Shape, relu: bool, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let y_shape = conv_output(x_shape, conv.out_channels(), conv.kernel(), conv.stride, conv.padding);
    let (o, group_in, kh, kw) = conv.weight.dim();
    let (in_channels, out_channels) = (x_shape.padded_channels(), y_shape.padded_channels());
    let mut values = vec![0.0; images * y_shape.pixels() * out_channels];
    let mut magnitudes = values.clone();
    for at in 0..values.len() {
        let (pixel, oc) = (at / out_channels, at % out_channels);
        let (row, column) = (pixel / y_shape.width, pixel % y_shape.width);
        let (image, row) = (row / y_shape.height, row % y_shape.height);
        if oc >= o {
            continue;
        }
        let (mut sum, mut magnitude) = (f64::from(conv.bias[oc]), f64::from(conv.bias[oc].abs()));
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let iy = (row * conv.stride[0] + ky).wrapping_sub(conv.padding[0]);
            let ix = (column * conv.stride[1] + kx).wrapping_sub(conv.padding[1]);
            if iy >= x_shape.height || ix >= x_shape.width {
                continue;
            }
            let first = ((image * x_shape.height + iy) * x_shape.width + ix) * in_channels;
            for i in 0..group_in {
                let input = x[first + oc / (o / conv.groups) * group_in + i];
                let product = f64::from(conv.weight[[oc, i, ky, kx]]) * f64::from(input);
                sum += product;
                magnitude += product.abs();
            }
        }
        values[at] = if relu && sum < 0.0 { 0.0 } else { sum };
        magnitudes[at] = magnitude;
    }
    (values, magnitudes)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array4, array};

    use super::*;

    #[test]
    fn the_twin_does_a_convolution_by_hand() {
        // 1 channel, 2×3 image, 1×2 kernel, padding 1 in the width: rows of [0 a b c 0].
        let conv = Conv {
            weight: Array4::from_shape_vec((1, 1, 1, 2), vec![2.0, -1.0]).unwrap(),
            bias: array![0.5],
            stride: [1, 2],
            padding: [0, 1],
            groups: 1,
        };
        let x: Vec<f32> = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|&v| [v, 0.0, 0.0, 0.0]).collect();
        let (values, magnitudes) = reference(&conv, 1, Shape::new(1, 2, 3), true, &x);
        let first = |v: &[f64]| v.chunks(4).map(|c| c[0]).collect::<Vec<_>>();
        assert_eq!(first(&values), [0.0, 1.5, 0.0, 4.5]);
        assert_eq!(first(&magnitudes), [1.5, 7.5, 4.5, 16.5]);
    }
}
