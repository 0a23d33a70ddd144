//! The plain twin of the integer convolutions, from the definition alone: real zero outside the
//! image, differences to the zero point inside, i64.

use ndarray::Array4;

use crate::kernels::core::OutputLevels;
use crate::model::{CoarseScale, QConv, Shape, Support, conv_output};

/// The two totals of an output, the bias of each added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Totals {
    fine: i64,
    coarse: i64,
}

/// Levels of the output, NHWC with padded channels at the zero point, for `x` in NHWC with channels
/// padded to a multiple of 4.
pub(super) fn reference(
    conv: &QConv,
    images: usize,
    x_shape: Shape,
    x_zero_point: i32,
    output: &OutputLevels,
    x: &[i8],
) -> Vec<i8> {
    let mut y = Vec::new();
    walk(conv, images, x_shape, x_zero_point, x, |channel| {
        let steps = channel.map_or(0, |(o, totals)| {
            let n = u32::from(conv.right_shift[o]);
            let scaled = match conv.coarse.as_ref().map(|c| &c.scale) {
                None => i128::from(totals.fine) * i128::from(conv.multiplier[o]),
                Some(CoarseScale::Shift(k)) => {
                    i128::from(totals.fine + (totals.coarse << k[o])) * i128::from(conv.multiplier[o])
                }
                Some(CoarseScale::Own { multiplier, .. }) => {
                    i128::from(totals.fine) * i128::from(conv.multiplier[o])
                        + i128::from(totals.coarse) * i128::from(multiplier[o])
                }
            };
            // To the nearest, ties upwards: floor(scaled / 2^n + 1/2).
            (2 * scaled + (1 << n)).div_euclid(2 << n)
        });
        let level = i128::from(output.zero_point) + steps;
        y.push(level.clamp(i128::from(output.low), i128::from(output.high)) as i8);
    });
    y
}

/// Totals of an unsplit or aligned layer, in the order of [`reference()`]; padded channels are 0.
pub(super) fn reference_totals(conv: &QConv, images: usize, x_shape: Shape, x_zero_point: i32, x: &[i8]) -> Vec<i64> {
    let mut y = Vec::new();
    walk(conv, images, x_shape, x_zero_point, x, |channel| {
        y.push(channel.map_or(0, |(o, totals)| match conv.coarse.as_ref().map(|c| &c.scale) {
            Some(CoarseScale::Shift(k)) => totals.fine + (totals.coarse << k[o]),
            _ => totals.fine,
        }));
    });
    y
}

/// Visits every output in the order of the buffer: its channel and totals, or none where it is
/// padding.
fn walk(
    conv: &QConv,
    images: usize,
    x_shape: Shape,
    x_zero_point: i32,
    x: &[i8],
    mut visit: impl FnMut(Option<(usize, Totals)>),
) {
    let (o, i, kh, kw) = conv.fine.dim();
    let y_shape = conv_output(x_shape, o, [kh, kw], conv.stride, conv.padding);
    let coarse = conv.coarse.as_ref().map(|part| spread(conv, part.support, &part.weights));
    let zero = i64::from(x_zero_point);
    for image in 0..images {
        for (oy, ox) in (0..y_shape.height).flat_map(|oy| (0..y_shape.width).map(move |ox| (oy, ox))) {
            for oc in 0..y_shape.padded_channels() {
                if oc >= o {
                    visit(None);
                    continue;
                }
                // The stored biases hold −z·ΣQ; in real numbers they do not.
                let (fine_bias, coarse_bias) = real_biases(conv, oc, zero, coarse.as_ref());
                let mut totals = Totals { fine: fine_bias, coarse: coarse_bias };
                for (ic, dy, dx) in
                    (0..i).flat_map(|ic| (0..kh).flat_map(move |dy| (0..kw).map(move |dx| (ic, dy, dx))))
                {
                    let iy = (oy * conv.stride[0] + dy).wrapping_sub(conv.padding[0]);
                    let ix = (ox * conv.stride[1] + dx).wrapping_sub(conv.padding[1]);
                    if iy >= x_shape.height || ix >= x_shape.width {
                        continue;
                    }
                    let channel = oc / (o / conv.groups) * i + ic;
                    let at = ((image * x_shape.height + iy) * x_shape.width + ix) * x_shape.padded_channels() + channel;
                    let steps = i64::from(x[at]) - zero;
                    totals.fine += i64::from(conv.fine[[oc, ic, dy, dx]]) * steps;
                    totals.coarse += coarse.as_ref().map_or(0, |w| i64::from(w[[oc, ic, dy, dx]])) * steps;
                }
                visit(Some((oc, totals)));
            }
        }
    }
}

/// The biases with the zero point's part taken out.
fn real_biases(conv: &QConv, oc: usize, zero: i64, coarse: Option<&Array4<i8>>) -> (i64, i64) {
    let sum = |w: &Array4<i8>| w.index_axis(ndarray::Axis(0), oc).iter().map(|q| i64::from(*q)).sum::<i64>();
    let fine = i64::from(conv.bias[oc]) + zero * sum(&conv.fine);
    match (coarse, conv.coarse.as_ref().map(|c| &c.scale)) {
        (Some(w), Some(CoarseScale::Shift(k))) => (fine + zero * (sum(w) << k[oc]), 0),
        (Some(w), Some(CoarseScale::Own { bias, .. })) => (fine, i64::from(bias[oc]) + zero * sum(w)),
        _ => (fine, 0),
    }
}

/// Coarse weights as a whole kernel, zero off the support.
fn spread(conv: &QConv, support: Support, weights: &Array4<i8>) -> Array4<i8> {
    let (o, i, kh, kw) = conv.fine.dim();
    let mut whole = Array4::zeros((o, i, kh, kw));
    for ((oc, ic, dy, dx), &q) in weights.indexed_iter() {
        let at = match support {
            Support::Full => [oc, ic, dy, dx],
            Support::Center => [oc, ic, kh / 2, kw / 2],
            Support::Diagonal => [oc, oc % (o / conv.groups), kh / 2, kw / 2],
        };
        whole[at] = q;
    }
    whole
}
