//! A plain f64 forward pass of a float graph: nothing shared with the library's kernels.

use ndarray::{Array1, Array3};
use rayon::prelude::*;
use repquant::model::{Conv, Graph, Op};

/// The logits of one image of 8-bit values, colour by row by column.
pub(crate) fn logits(graph: &Graph, image: &[u8]) -> Vec<f64> {
    let levels = graph.input.levels();
    let mut activations: Vec<Array3<f64>> = Vec::new();
    for (node, shape) in graph.nodes.iter().zip(graph.shapes()) {
        let dims = (shape.channels, shape.height, shape.width);
        let x = node.inputs.first().map(|&i| &activations[i]);
        let mut y = match (&node.op, x) {
            (Op::Conv(conv), Some(x)) => convolve(conv, x, dims),
            (Op::GlobalAveragePool, Some(x)) => {
                let means = x.outer_iter().map(|plane| plane.sum() / plane.len() as f64);
                Array1::from_iter(means).into_shape_with_order(dims).unwrap()
            }
            (Op::Linear(linear), Some(x)) => {
                let y = linear.weight.mapv(f64::from).dot(&x.flatten()) + linear.bias.mapv(f64::from);
                y.into_shape_with_order(dims).unwrap()
            }
            _ => {
                let pixels = shape.pixels();
                let values = image.iter().enumerate().map(|(i, &v)| levels[i / pixels][usize::from(v)]);
                Array3::from_shape_vec(dims, values.collect()).unwrap()
            }
        };
        if node.relu {
            y.mapv_inplace(|v| v.max(0.0));
        }
        activations.push(y);
    }
    activations.pop().unwrap().into_raw_vec_and_offset().0
}

/// One output channel at a time, one kernel tap at a time over whole rows.
fn convolve(conv: &Conv, x: &Array3<f64>, dims: (usize, usize, usize)) -> Array3<f64> {
    let (_, height, width) = x.dim();
    let (outputs, inputs, kh, kw) = conv.weight.dim();
    let ([sy, sx], [py, px]) = (conv.stride, conv.padding);
    let x = x.as_slice().unwrap();
    let mut y = Array3::zeros(dims);
    y.as_slice_mut().unwrap().par_chunks_mut(dims.1 * dims.2).enumerate().for_each(|(o, plane)| {
        plane.fill(f64::from(conv.bias[o]));
        let first = o / (outputs / conv.groups) * inputs;
        for (i, dy, dx) in taps(inputs, kh, kw) {
            let w = f64::from(conv.weight[[o, i, dy, dx]]);
            for (row, out) in plane.chunks_mut(dims.2).enumerate() {
                let Some(from) = (row * sy + dy).checked_sub(py).filter(|&r| r < height) else { continue };
                let from = &x[((first + i) * height + from) * width..][..width];
                // The first output column whose tap lies inside the image, and that tap.
                let skip = px.saturating_sub(dx).div_ceil(sx);
                let reads = from.iter().skip(skip * sx + dx - px).step_by(sx);
                out.iter_mut().skip(skip).zip(reads).for_each(|(sum, v)| *sum += w * v);
            }
        }
    });
    y
}

/// All `(i, dy, dx)` of a kernel.
fn taps(inputs: usize, kh: usize, kw: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..inputs * kh * kw).map(move |n| (n / (kh * kw), n / kw % kh, n % kw))
}
