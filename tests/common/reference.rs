//! A plain f64 forward pass of a float graph: nothing shared with the library's kernels.

#![allow(dead_code, reason = "each test program uses a part of it")]

use ndarray::{Array1, Array3, ArrayView1, Axis, concatenate};
use rayon::prelude::*;
use repquant::model::{Conv, Graph, Node, Op, Pool, PoolKind, Resize, Shape};

/// The logits of one image of 8-bit values, colour by row by column.
pub(crate) fn logits(graph: &Graph, image: &[u8]) -> Vec<f64> {
    let levels = graph.input.levels();
    let pixels = image.len() / levels.len();
    let values: Vec<f64> = image.iter().enumerate().map(|(i, &v)| levels[i / pixels][usize::from(v)]).collect();
    outputs(graph, &values).swap_remove(0)
}

/// What the network gives for the values of one input, colour by row by column: one list for each output.
pub(crate) fn outputs(graph: &Graph, input: &[f64]) -> Vec<Vec<f64>> {
    let mut activations: Vec<Array3<f64>> = Vec::new();
    for (node, shape) in graph.nodes.iter().zip(graph.shapes()) {
        let inputs: Vec<&Array3<f64>> = node.inputs.iter().map(|&i| &activations[i]).collect();
        let mut y = result(node, shape, &inputs, input);
        assert_eq!(y.dim(), (shape.channels, shape.height, shape.width), "{}", node.name);
        if node.relu {
            y.mapv_inplace(|v| v.max(0.0));
        }
        activations.push(y);
    }
    graph.outputs.iter().map(|output| activations[output.node].iter().copied().collect()).collect()
}

fn result(node: &Node, shape: Shape, inputs: &[&Array3<f64>], input: &[f64]) -> Array3<f64> {
    let dims = (shape.channels, shape.height, shape.width);
    let listed = |values: Vec<f64>| Array3::from_shape_vec(dims, values).unwrap();
    let x = inputs.first().copied();
    let x = || x.unwrap();
    match &node.op {
        Op::Input(_) => listed(input.to_vec()),
        Op::Constant(values) => values.mapv(f64::from),
        Op::Conv(conv) => convolve(conv, x(), dims),
        Op::GlobalAveragePool => listed(x().outer_iter().map(|plane| plane.sum() / plane.len() as f64).collect()),
        Op::Linear(linear) => {
            let x = Array1::from_iter(x().iter().copied());
            listed((linear.weight.mapv(f64::from).dot(&x) + linear.bias.mapv(f64::from)).to_vec())
        }
        Op::Activation(activation) => x().mapv(|v| activation.apply(v)),
        Op::Binary(binary) => {
            let (a, b) = (inputs[0].broadcast(dims).unwrap(), inputs[1].broadcast(dims).unwrap());
            ndarray::Zip::from(a).and(b).map_collect(|&a, &b| binary.apply(a, b))
        }
        Op::Pool(pool) => Array3::from_shape_fn(dims, |at| pooled(pool, x(), at)),
        Op::Rearrange(rearrange) => {
            let (channels, height, width) = x().dim();
            let values: Vec<f64> = x().iter().copied().collect();
            let view = rearrange.view(Shape::new(channels, height, width));
            listed(view.positions().map(|at| values[at]).collect())
        }
        Op::Concat(axis) => {
            let views: Vec<_> = inputs.iter().map(|x| x.view()).collect();
            concatenate(Axis(axis.index() - 1), &views).unwrap()
        }
        Op::Resize(resize) => Array3::from_shape_fn(dims, |at| resized(resize, x(), at)),
        Op::Softmax(axis) => {
            let mut y = x().clone();
            for mut lane in y.lanes_mut(Axis(axis.index() - 1)) {
                let most = lane.fold(f64::NEG_INFINITY, |m, &v| m.max(v));
                lane.mapv_inplace(|v| (v - most).exp());
                let sum = lane.sum();
                lane.mapv_inplace(|v| v / sum);
            }
            y
        }
    }
}

fn pooled(pool: &Pool, x: &Array3<f64>, (c, row, column): (usize, usize, usize)) -> f64 {
    let (_, height, width) = x.dim();
    let ((rows, high), (columns, wide)) = (pool.window(height, 0, row), pool.window(width, 1, column));
    let values = rows.flat_map(|y| columns.clone().map(move |x| (y, x))).map(|(y, at)| x[[c, y, at]]);
    match pool.kind {
        PoolKind::Max => values.fold(f64::NEG_INFINITY, f64::max),
        PoolKind::Average | PoolKind::AverageWithPadding => values.sum::<f64>() / (high * wide) as f64,
    }
}

fn resized(resize: &Resize, x: &Array3<f64>, (c, row, column): (usize, usize, usize)) -> f64 {
    let (_, height, width) = x.dim();
    let (top, bottom, down) = resize.coordinates.neighbours(row, height, resize.size[0]);
    let (left, right, along) = resize.coordinates.neighbours(column, width, resize.size[1]);
    let mix = |line: ArrayView1<'_, f64>| line[left] * (1.0 - along) + line[right] * along;
    let line = |y: usize| mix(x.slice(ndarray::s![c, y, ..]));
    line(top) * (1.0 - down) + line(bottom) * down
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
