//! A plain f64 forward pass of a float graph: nothing shared with the library's kernels.

use ndarray::{Array1, Array3, ArrayD, Axis, Slice, Zip, concatenate};
use rayon::prelude::*;
use repquant::internals::model::{
    Activation, Along, Binary, Conv, Coordinates, Graph, Node, Op, Pool, PoolKind, Rearrange, RearrangeKind, Resize,
    Shape,
};

use super::recurrent;

/// The logits of one image of 8-bit values, colour by row by column.
pub(crate) fn logits(graph: &Graph, image: &[u8]) -> Vec<f64> {
    let levels = graph.input.levels();
    let pixels = image.len() / levels.len();
    let values: Vec<f64> = image.iter().enumerate().map(|(i, &v)| levels[i / pixels][usize::from(v)]).collect();
    outputs(graph, &values).swap_remove(0)
}

/// What the network gives for the values of one input, colour by row by column: one list for each
/// output.
pub(crate) fn outputs(graph: &Graph, input: &[f64]) -> Vec<Vec<f64>> {
    let mut activations: Vec<Array3<f64>> = Vec::new();
    for (node, shape) in graph.nodes.iter().zip(graph.shapes()) {
        let inputs: Vec<&Array3<f64>> = node.inputs.iter().map(|&i| &activations[i]).collect();
        let mut y = result(node, shape, &inputs, input);
        assert_eq!(y.dim(), (shape.channels, shape.height, shape.width), "{}", node.name);
        if node.relu {
            y.mapv_inplace(|v| v.max(0.0));
        }
        activations.push(y.as_standard_layout().into_owned());
    }
    graph.outputs.iter().map(|output| activations[output.node].iter().copied().collect()).collect()
}

fn result(node: &Node, shape: Shape, inputs: &[&Array3<f64>], input: &[f64]) -> Array3<f64> {
    let dims = (shape.channels, shape.height, shape.width);
    let listed = |values: Vec<f64>| Array3::from_shape_vec(dims, values).unwrap();
    let x = || inputs[0];
    match &node.op {
        Op::Input(_) => listed(input.to_vec()),
        Op::Constant(values) => values.mapv(f64::from),
        Op::Conv(conv) => convolve(conv, x(), dims),
        Op::GlobalAveragePool => listed(x().outer_iter().map(|plane| plane.sum() / plane.len() as f64).collect()),
        Op::GlobalMaxPool => {
            listed(x().outer_iter().map(|plane| plane.fold(f64::NEG_INFINITY, |m, &v| m.max(v))).collect())
        }
        Op::Linear(linear) => {
            let x = Array1::from_iter(x().iter().copied());
            let (outputs, inputs, ..) = linear.weight.dim();
            let weight = linear.weight.mapv(f64::from).into_shape_with_order((outputs, inputs)).unwrap();
            listed((weight.dot(&x) + linear.bias.mapv(f64::from)).to_vec())
        }
        Op::Activation(function) => x().mapv(|v| activation(*function, v)),
        Op::Binary(kind) => {
            let (a, b) = (inputs[0].broadcast(dims).unwrap(), inputs[1].broadcast(dims).unwrap());
            Zip::from(a).and(b).map_collect(|a, b| match kind {
                Binary::Add => a + b,
                Binary::Sub => a - b,
                Binary::Mul => a * b,
            })
        }
        Op::Function(function) => {
            let views: Vec<_> = inputs.iter().map(|x| x.broadcast(dims).unwrap()).collect();
            Array3::from_shape_fn(dims, |at| {
                function.apply(&views.iter().map(|view| view[at]).collect::<Vec<_>>(), at.0)
            })
        }
        Op::Pool(pool) => Array3::from_shape_fn(dims, |at| pooled(pool, x(), at)),
        Op::Rearrange(rearrange) => listed(rearranged(rearrange, x()).iter().copied().collect()),
        Op::Concat(axis) => {
            let views: Vec<_> = inputs.iter().map(|x| x.view()).collect();
            concatenate(Axis(axis.index() - 1), &views).unwrap()
        }
        Op::Resize(resize) => Array3::from_shape_fn(dims, |at| resized(resize, x(), at)),
        Op::Softmax(axis) => {
            let mut y = x().clone();
            for mut lane in y.lanes_mut(Axis(axis.index() - 1)) {
                let largest = lane.fold(f64::NEG_INFINITY, |m, &v| m.max(v));
                lane.mapv_inplace(|v| (v - largest).exp());
                let sum = lane.sum();
                lane.mapv_inplace(|v| v / sum);
            }
            y
        }
        Op::Reduce(reduce) => over_lines(x(), reduce.along, |line| vec![reduce.kind.apply(line)]),
        Op::Standardize(standardize) => over_lines(x(), standardize.along, |line| {
            let mean = line.iter().sum::<f64>() / line.len() as f64;
            let variance = line.iter().map(|v| v * v).sum::<f64>() / line.len() as f64 - mean * mean;
            line.iter().map(|v| (v - mean) / (variance + f64::from(standardize.epsilon)).sqrt()).collect()
        }),
        Op::Recurrent(recurrent) => recurrent::states(recurrent, x()),
        Op::MatMul => {
            let channel = |x: &Array3<f64>, c: usize| x.index_axis(Axis(0), c.min(x.dim().0 - 1)).into_owned();
            let mut y = Array3::zeros(dims);
            for (c, mut plane) in y.outer_iter_mut().enumerate() {
                plane.assign(&channel(inputs[0], c).dot(&channel(inputs[1], c)));
            }
            y
        }
    }
}

/// Each line's values replaced by what `of` makes of them.
fn over_lines(x: &Array3<f64>, along: Along, of: impl Fn(&[f64]) -> Vec<f64>) -> Array3<f64> {
    // The axes of a line last, all others flat.
    let order = match along {
        Along::Channels => [1, 2, 0],
        Along::Height => [0, 2, 1],
        Along::Width | Along::Pixels => [0, 1, 2],
    };
    let moved = x.view().permuted_axes(order);
    let dims = moved.dim();
    let length = if along == Along::Pixels { dims.1 * dims.2 } else { dims.2 };
    let values: Vec<f64> = moved.iter().copied().collect();
    let made: Vec<f64> = values.chunks_exact(length).flat_map(of).collect();
    let sides = match (made.len() == values.len(), along) {
        (true, _) => dims,
        (false, Along::Pixels) => (dims.0, 1, 1),
        (false, _) => (dims.0, dims.1, 1),
    };
    let back = [0, 1, 2].map(|axis| order.iter().position(|&moved| moved == axis).unwrap());
    Array3::from_shape_vec(sides, made).unwrap().permuted_axes(back)
}

fn activation(function: Activation, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match function {
        Activation::Clip { low, high } => x.max(low.into()).min(high.into()),
        Activation::LeakyRelu { slope } => x.max(0.0) + f64::from(slope) * x.min(0.0),
        Activation::Sigmoid => sigmoid,
        Activation::HardSigmoid { slope, offset } => (f64::from(slope) * x + f64::from(offset)).clamp(0.0, 1.0),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Silu => x * sigmoid,
    }
}

/// Tap by tap: those in the image have a value, those in the padding count in a mean that says so.
fn pooled(pool: &Pool, x: &Array3<f64>, (c, row, column): (usize, usize, usize)) -> f64 {
    let (_, height, width) = x.dim();
    let [top, left, bottom, right] = pool.padding;
    let (mut values, mut counted) = (Vec::new(), 0);
    for (dy, dx) in (0..pool.kernel[0]).flat_map(|dy| (0..pool.kernel[1]).map(move |dx| (dy, dx))) {
        let (r, q) = (row * pool.stride[0] + dy, column * pool.stride[1] + dx);
        counted += usize::from(r < top + height + bottom && q < left + width + right);
        if (top..top + height).contains(&r) && (left..left + width).contains(&q) {
            values.push(x[[c, r - top, q - left]]);
        }
    }
    match pool.kind {
        PoolKind::Max => values.into_iter().reduce(f64::max).unwrap(),
        PoolKind::Average => values.iter().sum::<f64>() / values.len() as f64,
        PoolKind::AverageWithPadding => values.iter().sum::<f64>() / f64::from(u32::try_from(counted).unwrap()),
    }
}

/// The values in the order of the result; its shape is another's business.
fn rearranged(rearrange: &Rearrange, x: &Array3<f64>) -> ArrayD<f64> {
    let array = |sides: &[usize]| x.to_shape(sides).unwrap().into_owned();
    match &rearrange.kind {
        RearrangeKind::Reshape => x.clone().into_dyn(),
        RearrangeKind::Transpose { sides, order } => array(sides).permuted_axes(order.clone()),
        RearrangeKind::Slice { sides, axis, start, step, count } => {
            let end = start + step * (count - 1) + 1;
            let kept = Slice::new(*start as isize, Some(end as isize), *step as isize);
            array(sides).slice_axis(Axis(*axis), kept).into_owned()
        }
        RearrangeKind::Pick { sides, axis, entries } => array(sides).select(Axis(*axis), entries),
        RearrangeKind::Upsample { factor } => {
            let (channels, height, width) = x.dim();
            let dims = (channels, height * factor[0], width * factor[1]);
            Array3::from_shape_fn(dims, |(c, r, q)| x[[c, r / factor[0], q / factor[1]]]).into_dyn()
        }
    }
}

/// A tent over each pixel of the image: 1 at its place, 0 from its neighbours on.
fn resized(resize: &Resize, x: &Array3<f64>, (c, row, column): (usize, usize, usize)) -> f64 {
    let (_, height, width) = x.dim();
    let place = |axis: usize, i: usize, from: usize| {
        let to = resize.size[axis];
        let (i, m, n) = (i as f64, from as f64, to as f64);
        let ratio = resize.scale.map_or(m / n, |scale| 1.0 / f64::from(scale[axis]));
        let place = match resize.coordinates {
            Coordinates::AlignCorners if to > 1 => i * (m - 1.0) / (n - 1.0),
            Coordinates::PytorchHalfPixel | Coordinates::AlignCorners if to == 1 => 0.0,
            Coordinates::Asymmetric => i * ratio,
            _ => (i + 0.5) * ratio - 0.5,
        };
        place.max(0.0).min(m - 1.0)
    };
    let (y, z) = (place(0, row, height), place(1, column, width));
    let tent = |at: usize, place: f64| (1.0 - (at as f64 - place).abs()).max(0.0);
    let of = |r: usize, q: usize| tent(r, y) * tent(q, z) * x[[c, r, q]];
    (0..height).flat_map(|r| (0..width).map(move |q| of(r, q))).sum()
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
