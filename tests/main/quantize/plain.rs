//! Every operation from its definition alone: real values in f64, and levels in integers.

use ndarray::{Array1, Array3, Array4, Axis as Dimension, concatenate};
use repquant::internals::model::{
    Along, Computed, Constants, Graph, Op, PoolKind, QBinary, QuantizedGraph, Shape, Table,
};
use repquant::internals::quantize::dequantize;

use super::graph::integer_output;
use crate::common::recurrent::states;

/// An activation as the operations that read it see it.
#[derive(Clone)]
pub(crate) struct Value {
    /// None where it is not stored.
    pub(crate) levels: Option<Array3<i32>>,
    pub(crate) real: Array3<f64>,
}

/// A result of this shape, value by value.
fn each(shape: [usize; 3], value: impl Fn(usize, usize, usize) -> f64) -> Array3<f64> {
    Array3::from_shape_fn(shape, |(c, y, x)| value(c, y, x))
}

/// The value at a position of the result, where a side of 1 serves all.
fn at<T: Copy>(values: &Array3<T>, position: [usize; 3]) -> T {
    let (c, h, w) = values.dim();
    values[[position[0].min(c - 1), position[1].min(h - 1), position[2].min(w - 1)]]
}

fn broadcast(a: (usize, usize, usize), b: (usize, usize, usize)) -> [usize; 3] {
    [a.0.max(b.0), a.1.max(b.1), a.2.max(b.2)]
}

/// What each output of a convolution sees: the value of each weight's input in its order, `outside`
/// the image.
fn field<T: Copy>(
    x: &Array3<T>,
    outside: T,
    (per_group, kh, kw): (usize, usize, usize),
    first_channel: usize,
    begin: [isize; 2],
) -> Vec<T> {
    let (_, height, width) = x.dim();
    let mut values = Vec::new();
    for (i, dy, dx) in (0..per_group).flat_map(|i| (0..kh).flat_map(move |dy| (0..kw).map(move |dx| (i, dy, dx)))) {
        let (y, x_at) = (begin[0] + dy as isize, begin[1] + dx as isize);
        let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&x_at);
        values.push(if inside { x[[first_channel + i, y as usize, x_at as usize]] } else { outside });
    }
    values
}

pub(crate) fn convolve(
    weight: &Array4<f64>,
    bias: &Array1<f32>,
    stride: [usize; 2],
    padding: [usize; 2],
    groups: usize,
    x: &Array3<f64>,
) -> Array3<f64> {
    let (out, per_group, kh, kw) = weight.dim();
    let side = |n: usize, k: usize, axis: usize| (n + 2 * padding[axis] - k) / stride[axis] + 1;
    each([out, side(x.dim().1, kh, 0), side(x.dim().2, kw, 1)], |o, y, column| {
        let begin = [y, column];
        let begin = [0, 1].map(|axis| (begin[axis] * stride[axis]) as isize - padding[axis] as isize);
        let values = field(x, 0.0, (per_group, kh, kw), o / (out / groups) * per_group, begin);
        let products = weight.index_axis(Dimension(0), o).iter().zip(&values).map(|(w, v)| w * v).sum::<f64>();
        products + f64::from(bias[o])
    })
}

/// An operation on real values.
pub(crate) fn apply(op: &Op, relu: bool, inputs: &[&Array3<f64>]) -> Array3<f64> {
    let shape = |values: &Array3<f64>| Shape::new(values.dim().0, values.dim().1, values.dim().2);
    let y = match op {
        Op::Input(_) => panic!("an input computes nothing"),
        Op::Constant(values) => values.mapv(f64::from),
        Op::Conv(conv) | Op::Linear(conv) => {
            let weight = conv.weight.mapv(f64::from);
            convolve(&weight, &conv.bias, conv.stride, conv.padding, conv.groups, inputs[0])
        }
        Op::GlobalAveragePool => {
            let (channels, height, width) = inputs[0].dim();
            let mean = |c: usize| inputs[0].index_axis(Dimension(0), c).sum() / (height * width) as f64;
            each([channels, 1, 1], |c, _, _| mean(c))
        }
        Op::GlobalMaxPool => {
            let largest = |c: usize| inputs[0].index_axis(Dimension(0), c).fold(f64::NEG_INFINITY, |m, &v| m.max(v));
            each([inputs[0].dim().0, 1, 1], |c, _, _| largest(c))
        }
        Op::Activation(f) => inputs[0].mapv(|x| f.apply(x)),
        Op::Function(f) => {
            let (first, rest) = inputs.split_first().unwrap();
            let (c, h, w) = rest.iter().fold(first.dim(), |dim, x| {
                let [c, h, w] = broadcast(dim, x.dim());
                (c, h, w)
            });
            each([c, h, w], |c, y, x| f.apply(&inputs.iter().map(|input| at(input, [c, y, x])).collect::<Vec<_>>(), c))
        }
        Op::Binary(f) => {
            let (a, b) = (inputs[0], inputs[1]);
            each(broadcast(a.dim(), b.dim()), |c, y, x| f.apply(at(a, [c, y, x]), at(b, [c, y, x])))
        }
        Op::Pool(pool) => {
            let x = inputs[0];
            let shape = pool.output(shape(x));
            each([shape.channels, shape.height, shape.width], |c, row, column| {
                let (rows, d_rows) = pool.window(x.dim().1, 0, row);
                let (columns, d_columns) = pool.window(x.dim().2, 1, column);
                let values = rows.flat_map(|y| columns.clone().map(move |column| x[[c, y, column]]));
                match pool.kind {
                    PoolKind::Max => values.fold(f64::NEG_INFINITY, f64::max),
                    _ => values.sum::<f64>() / (d_rows * d_columns) as f64,
                }
            })
        }
        Op::Rearrange(rearrange) => {
            let values: Vec<f64> = inputs[0].iter().copied().collect();
            let moved = rearrange.view(shape(inputs[0])).positions().map(|from| values[from]).collect();
            let to = rearrange.shape;
            Array3::from_shape_vec((to.channels, to.height, to.width), moved).unwrap()
        }
        Op::Concat(axis) => {
            let views: Vec<_> = inputs.iter().map(|x| x.view()).collect();
            concatenate(Dimension(axis.index() - 1), &views).unwrap()
        }
        Op::Resize(resize) => {
            let x = inputs[0];
            each([x.dim().0, resize.size[0], resize.size[1]], |c, row, column| {
                let (top, bottom, down) = resize.neighbours(0, row, x.dim().1);
                let (left, right, across) = resize.neighbours(1, column, x.dim().2);
                let mix = |y: usize| x[[c, y, left]] * (1.0 - across) + x[[c, y, right]] * across;
                mix(top) * (1.0 - down) + mix(bottom) * down
            })
        }
        Op::Softmax(axis) => {
            let mut y = inputs[0].mapv(f64::exp);
            for mut lane in y.lanes_mut(Dimension(axis.index() - 1)) {
                let sum = lane.sum();
                lane.mapv_inplace(|v| v / sum);
            }
            y
        }
        Op::Recurrent(recurrent) => states(recurrent, inputs[0]),
        Op::Reduce(_) | Op::Standardize(_) | Op::MatMul => lines(op, inputs),
    };
    if relu { y.mapv(|v| v.max(0.0)) } else { y }
}

/// An operation over lines, or a matrix product.
fn lines(op: &Op, inputs: &[&Array3<f64>]) -> Array3<f64> {
    let x = inputs[0];
    let (channels, height, width) = x.dim();
    let line = |along: Along, [c, h, w]: [usize; 3]| -> Vec<f64> {
        match along {
            Along::Channels => (0..channels).map(|c| x[[c, h, w]]).collect(),
            Along::Height => (0..height).map(|h| x[[c, h, w]]).collect(),
            Along::Width => (0..width).map(|w| x[[c, h, w]]).collect(),
            Along::Pixels => x.index_axis(Dimension(0), c).iter().copied().collect(),
        }
    };
    match op {
        Op::Reduce(reduce) => {
            let y = reduce.along.reduced(Shape::new(channels, height, width));
            each([y.channels, y.height, y.width], |c, h, w| reduce.kind.apply(&line(reduce.along, [c, h, w])))
        }
        Op::Standardize(standardize) => each([channels, height, width], |c, h, w| {
            let place = match standardize.along {
                Along::Channels => c,
                Along::Height => h,
                Along::Width => w,
                Along::Pixels => h * width + w,
            };
            standardize.apply(&line(standardize.along, [c, h, w]))[place]
        }),
        _ => {
            let b = inputs[1];
            let y = [channels.max(b.dim().0), height, b.dim().2];
            each(y, |c, h, w| {
                let of = |x: &Array3<f64>| c.min(x.dim().0 - 1);
                (0..width).map(|k| x[[of(x), h, k]] * b[[of(b), k, w]]).sum()
            })
        }
    }
}

/// Every activation of the float network for one image.
pub(crate) fn run_float(graph: &Graph, image: &Array3<f64>) -> Vec<Array3<f64>> {
    let mut values: Vec<Array3<f64>> = Vec::new();
    for node in &graph.nodes {
        let inputs: Vec<&Array3<f64>> = node.inputs.iter().map(|&i| &values[i]).collect();
        let value = if values.is_empty() { image.clone() } else { apply(&node.op, node.relu, &inputs) };
        values.push(value);
    }
    values
}

/// The real function that a quantized node stands for, of its inputs as they are stored. `float` is
/// the node that it was made from, for the bias.
pub(crate) fn meant(graph: &QuantizedGraph, float: &Graph, id: usize, values: &[Value]) -> Array3<f64> {
    let node = &graph.nodes[id];
    let inputs: Vec<&Array3<f64>> = node.inputs.iter().map(|&i| &values[i].real).collect();
    match (node.computed.int8_weights(), &float.nodes[id].op) {
        (Some(conv), Op::Conv(float) | Op::Linear(float)) => {
            let y = convolve(&dequantize(conv), &float.bias, conv.stride, conv.padding, conv.groups, inputs[0]);
            if node.relu { y.mapv(|v| v.max(0.0)) } else { y }
        }
        (_, op) => apply(op, node.relu, &inputs),
    }
}

/// One node of the quantized network by its own arithmetic.
#[allow(clippy::too_many_lines, reason = "an arm for each operation")]
pub(crate) fn step(graph: &QuantizedGraph, id: usize, values: &[Value]) -> Value {
    let node = &graph.nodes[id];
    let inputs: Vec<&Value> = node.inputs.iter().map(|&i| &values[i]).collect();
    let params = |slot: usize| graph.nodes[node.inputs[slot]].output.unwrap();
    let levels = |slot: usize| inputs[slot].levels.as_ref().unwrap();
    let y = node.output;
    let clamp = |q: i128| {
        let y = y.unwrap();
        let low = if node.relu { y.zero_point } else { y.qmin };
        (i128::from(y.zero_point) + q).clamp(i128::from(low), i128::from(y.qmax)) as i32
    };
    // To the nearest, halves upwards.
    let shifted = |sum: i128, n: u8| (2 * sum + (1 << n)).div_euclid(2 << n);
    let steps = |slot: usize, position: [usize; 3]| i128::from(at(levels(slot), position) - params(slot).zero_point);
    let integer = match &node.computed {
        Computed::Integer(integer) => integer,
        Computed::Float(op) => {
            let reals: Vec<&Array3<f64>> = inputs.iter().map(|x| &x.real).collect();
            let real = apply(op, node.relu, &reals);
            let Some(y) = y else { return Value { levels: None, real } };
            let made = real.mapv(|x| y.quantize(x));
            return Value { real: made.mapv(|q| y.dequantize(q)), levels: Some(made) };
        }
    };
    let made: Array3<i32> = match (integer.op(), integer.constants()) {
        (Op::Conv(conv) | Op::Linear(conv), _) => {
            let (out, per_group, kh, kw) = conv.fine.dim();
            let (x, z) = (levels(0), params(0).zero_point);
            let side = |n: usize, k: usize, axis: usize| (n + 2 * conv.padding[axis] - k) / conv.stride[axis] + 1;
            let shape = [out, side(x.dim().1, kh, 0), side(x.dim().2, kw, 1)];
            let result = |(o, row, column): (usize, usize, usize)| {
                let begin = [row, column];
                let begin = [0, 1].map(|axis| (begin[axis] * conv.stride[axis]) as isize - conv.padding[axis] as isize);
                let seen = field(x, z, (per_group, kh, kw), o / (out / conv.groups) * per_group, begin);
                integer_output(conv, o, &seen, y.as_ref(), node.relu)
            };
            if y.is_none() {
                let scale = f64::from(params(0).scale);
                let real = Array3::from_shape_fn(shape, |at| {
                    let (acc, _) = result(at);
                    let acc = i32::try_from(acc).unwrap();
                    f64::from(if node.relu { acc.max(0) } else { acc }) * scale * f64::from(conv.scale[at.0])
                });
                return Value { levels: None, real };
            }
            Array3::from_shape_fn(shape, |at| i32::from(result(at).1.unwrap()))
        }
        (Op::Activation(_) | Op::Function(_), Constants::Table(table)) => {
            levels(0).mapv(|q| i32::from(table.get(q as i8)))
        }
        (Op::Function(_), Constants::ChannelTables(tables)) => {
            let x = levels(0);
            Array3::from_shape_fn(x.dim(), |at| i32::from(tables[at.0].get(x[at] as i8)))
        }
        (Op::Binary(_), Constants::Binary(binary)) => {
            let shape = broadcast(levels(0).dim(), levels(1).dim());
            Array3::from_shape_fn(shape, |(c, y, x)| {
                let (a, b) = (steps(0, [c, y, x]), steps(1, [c, y, x]));
                clamp(match binary {
                    QBinary::Sum { multipliers: [m_a, m_b], right_shift } => {
                        let sum = i64::try_from(a * i128::from(*m_a) + b * i128::from(*m_b)).unwrap();
                        shifted(i128::from(sum), *right_shift)
                    }
                    QBinary::Product(m) => shifted(a * b * i128::from(m.multiplier), m.right_shift),
                })
            })
        }
        (Op::GlobalAveragePool, Constants::Multiplier(m)) => {
            let (channels, height, width) = levels(0).dim();
            Array3::from_shape_fn([channels, 1, 1], |(c, _, _)| {
                let all = (0..height).flat_map(|y| (0..width).map(move |x| [c, y, x]));
                let sum: i128 = all.map(|position| steps(0, position)).sum();
                clamp(shifted(i128::from(i32::try_from(sum).unwrap()) * i128::from(m.multiplier), m.right_shift))
            })
        }
        (Op::GlobalMaxPool, _) => apply(&Op::GlobalMaxPool, false, &[&levels(0).mapv(f64::from)]).mapv(|q| q as i32),
        (Op::Pool(pool), constants) => {
            let x = levels(0);
            let shape = [x.dim().0, pool.side(x.dim().1, 0), pool.side(x.dim().2, 1)];
            Array3::from_shape_fn(shape, |(c, row, column)| {
                let (rows, d_rows) = pool.window(x.dim().1, 0, row);
                let (columns, d_columns) = pool.window(x.dim().2, 1, column);
                let positions = rows.flat_map(|y| columns.clone().map(move |x| [c, y, x]));
                if pool.kind == PoolKind::Max {
                    return positions.map(|position| x[position]).max().unwrap();
                }
                let sum: i128 = positions.map(|position| steps(0, position)).sum();
                let Constants::Multipliers(multipliers) = constants else { panic!("no multipliers") };
                let m = multipliers[d_rows * d_columns - 1];
                clamp(shifted(sum * i128::from(m.multiplier), m.right_shift))
            })
        }
        (Op::Rearrange(rearrange), _) => {
            let real = levels(0).mapv(f64::from);
            apply(&Op::Rearrange(rearrange.clone()), false, &[&real]).mapv(|q| q as i32)
        }
        (Op::Concat(axis), Constants::Tables(tables)) => {
            let through = |(slot, table): (usize, &Option<Table>)| {
                levels(slot).mapv(|q| table.as_ref().map_or(f64::from(q), |table| f64::from(table.get(q as i8))))
            };
            let parts: Vec<Array3<f64>> = tables.iter().enumerate().map(through).collect();
            apply(&Op::Concat(*axis), false, &parts.iter().collect::<Vec<_>>()).mapv(|q| q as i32)
        }
        (op, _) => panic!("{} is not computed in integers", op.kind()),
    };
    let y = y.unwrap();
    Value { real: made.mapv(|q| y.dequantize(q)), levels: Some(made) }
}
