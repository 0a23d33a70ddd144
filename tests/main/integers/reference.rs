//! A plain forward pass of a quantized graph: integers exact in i128, nothing shared with the
//! library's kernels.
//!
//! Real values are f64. The networks of this test have scales and weights that are small multiples
//! of powers of two, so that f32 computes the same values.

use repquant::internals::model::{
    Activation, Binary, Computed, Constants, Conv, Multiplier, Op, Pool, PoolKind, QBinary, QConv, QNode, QParams,
    QuantizedGraph, Rearrange, RearrangeKind, Shape, Weights,
};

/// An activation of one image, in the order channels, rows, columns.
#[derive(Clone)]
pub(crate) enum Value {
    Levels(Vec<i128>),
    Totals(Vec<i128>),
    Real(Vec<f64>),
}

/// What a node reads: its shape, its value, how it is stored, and the real values that it stands
/// for.
struct Input<'a> {
    shape: Shape,
    value: &'a Value,
    node: &'a QNode,
    real: Vec<f64>,
}

impl Input<'_> {
    fn q(&self) -> QParams {
        self.node.output.unwrap()
    }

    fn levels(&self) -> &[i128] {
        let Value::Levels(levels) = self.value else { panic!("{} is not levels", self.node.name) };
        levels
    }

    /// Steps above real 0 at a place; along sides of 1 there is one for all.
    fn steps(&self, [c, y, x]: [usize; 3]) -> i128 {
        self.levels()[index(self.shape, self.clamped([c, y, x]))] - i128::from(self.q().zero_point)
    }

    fn real(&self, place: [usize; 3]) -> f64 {
        self.real[index(self.shape, self.clamped(place))]
    }

    fn clamped(&self, [c, y, x]: [usize; 3]) -> [usize; 3] {
        [c.min(self.shape.channels - 1), y.min(self.shape.height - 1), x.min(self.shape.width - 1)]
    }
}

fn index(shape: Shape, [c, y, x]: [usize; 3]) -> usize {
    (c * shape.height + y) * shape.width + x
}

fn places(shape: Shape) -> impl Iterator<Item = [usize; 3]> {
    (0..shape.len()).map(move |i| [i / shape.pixels(), i / shape.width % shape.height, i % shape.width])
}

/// The activations of every node for an image of pixels `R | G << 8 | B << 16`.
pub(crate) fn run(graph: &QuantizedGraph, pixels: &[u32]) -> Vec<Value> {
    let shapes = graph.shapes();
    let mut values: Vec<Value> = Vec::new();
    for (node, &shape) in graph.nodes.iter().zip(&shapes) {
        let inputs: Vec<Input<'_>> = node
            .inputs
            .iter()
            .map(|&i| Input {
                shape: shapes[i],
                value: &values[i],
                node: &graph.nodes[i],
                real: real(graph, i, &shapes, &values[i]),
            })
            .collect();
        let value = compute(graph, node, shape, &inputs, pixels);
        values.push(value);
    }
    values
}

/// The real values of an activation.
pub(crate) fn real(graph: &QuantizedGraph, node: usize, shapes: &[Shape], value: &Value) -> Vec<f64> {
    let QNode { computed, inputs, relu, output, .. } = &graph.nodes[node];
    match (value, computed.int8_weights()) {
        (Value::Real(values), _) => values.clone(),
        (Value::Levels(levels), _) => {
            let q = output.unwrap();
            levels.iter().map(|&level| (level as f64 - f64::from(q.zero_point)) * f64::from(q.scale)).collect()
        }
        (Value::Totals(totals), Some(conv)) => {
            let scale = f64::from(graph.nodes[inputs[0]].output.unwrap().scale);
            let channel = |i: usize| i / shapes[node].pixels();
            let of = |(i, &total): (usize, &i128)| {
                let total = if *relu { total.max(0) } else { total };
                total as f64 * scale * f64::from(conv.scale[channel(i)])
            };
            totals.iter().enumerate().map(of).collect()
        }
        _ => panic!("{} has totals", graph.nodes[node].name),
    }
}

fn compute(graph: &QuantizedGraph, node: &QNode, shape: Shape, inputs: &[Input<'_>], pixels: &[u32]) -> Value {
    let stored = |scaled: i128, n: u8| {
        let q = node.output.unwrap();
        let low = if node.relu { q.zero_point.max(q.qmin) } else { q.qmin };
        // To the nearest, halves upwards: floor(scaled / 2^n + 1/2).
        let steps = (2 * scaled + (1i128 << n)).div_euclid(2i128 << n);
        (i128::from(q.zero_point) + steps).clamp(low.into(), q.qmax.into())
    };
    let requantized = |total: i128, m: Multiplier| stored(total * i128::from(m.multiplier), m.right_shift);
    let levels = |of: &dyn Fn([usize; 3]) -> i128| Value::Levels(places(shape).map(of).collect());
    let integer = match &node.computed {
        Computed::Integer(integer) => integer,
        Computed::Float(op) => {
            let mut values = float(op, shape, inputs);
            if node.relu {
                for value in &mut values {
                    *value = value.max(0.0);
                }
            }
            return match node.output {
                None => Value::Real(values),
                Some(q) => Value::Levels(values.into_iter().map(|v| q.quantize(v).into()).collect()),
            };
        }
    };
    match (integer.op(), integer.constants()) {
        (Op::Input(_), _) => {
            let (table, q) = (graph.input.levels(), node.output.unwrap());
            levels(&|[c, y, x]| q.quantize(table[c][(pixels[y * shape.width + x] >> (8 * c) & 255) as usize]).into())
        }
        (Op::Conv(conv) | Op::Linear(conv), _) => {
            let totals = places(shape).map(|place| total(conv, &inputs[0], place));
            if node.output.is_none() {
                return Value::Totals(totals.collect());
            }
            let m = |o| Multiplier { multiplier: conv.multiplier[o], right_shift: conv.right_shift[o] };
            Value::Levels(totals.zip(places(shape)).map(|(total, [o, ..])| requantized(total, m(o))).collect())
        }
        (Op::GlobalAveragePool, Constants::Multiplier(m)) => {
            let x = &inputs[0];
            levels(&|[c, ..]| requantized(places(x.shape).filter(|p| p[0] == c).map(|p| x.steps(p)).sum(), *m))
        }
        (Op::Function(_), Constants::ChannelTables(tables)) => levels(&|place| {
            let level = inputs[0].levels()[index(inputs[0].shape, place)];
            tables[place[0]].0[(level + 128) as usize].into()
        }),
        (Op::Activation(_) | Op::Function(_), Constants::Table(table)) => {
            Value::Levels(inputs[0].levels().iter().map(|q| table.0[(q + 128) as usize].into()).collect())
        }
        (Op::Binary(_), Constants::Binary(binary)) => levels(&|place| {
            let (a, b) = (inputs[0].steps(place), inputs[1].steps(place));
            match *binary {
                QBinary::Sum { multipliers: [m_a, m_b], right_shift } => {
                    stored(a * i128::from(m_a) + b * i128::from(m_b), right_shift)
                }
                QBinary::Product(m) => requantized(a * b, m),
            }
        }),
        (Op::GlobalMaxPool, _) => {
            let x = &inputs[0];
            let largest = |c| places(x.shape).filter(|p| p[0] == c).map(|p| x.levels()[index(x.shape, p)]).max();
            levels(&|[c, ..]| largest(c).unwrap())
        }
        (Op::Pool(pool), constants) => levels(&|place| {
            let (steps, counted) = window(pool, &inputs[0], place);
            let multipliers =
                if let Constants::Multipliers(multipliers) = constants { multipliers.as_slice() } else { &[] };
            match pool.kind {
                PoolKind::Max => steps.iter().max().unwrap() + i128::from(inputs[0].q().zero_point),
                PoolKind::Average => requantized(steps.iter().sum(), multipliers[steps.len() - 1]),
                PoolKind::AverageWithPadding => requantized(steps.iter().sum(), multipliers[counted - 1]),
            }
        }),
        (Op::Rearrange(rearrange), _) => Value::Levels(rearranged(rearrange, inputs[0].shape, inputs[0].levels())),
        (Op::Concat(axis), Constants::Tables(tables)) => levels(&|mut place| {
            let along = axis.index() - 1;
            for (x, table) in inputs.iter().zip(tables) {
                let side = axis.of(x.shape);
                if place[along] < side {
                    let level = x.levels()[index(x.shape, place)];
                    return table.as_ref().map_or(level, |table| table.0[(level + 128) as usize].into());
                }
                place[along] -= side;
            }
            panic!("{place:?} is in no input of {}", node.name)
        }),
        (op, _) => panic!("{} is not computed in integers", op.kind()),
    }
}

/// The input places that a kernel's taps meet inside an image: tap row and column, row, column.
fn taps(
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    x: Shape,
    [row, column]: [usize; 2],
) -> impl Iterator<Item = [usize; 4]> {
    (0..kernel[0] * kernel[1]).filter_map(move |tap| {
        let (dy, dx) = (tap / kernel[1], tap % kernel[1]);
        let iy = (row * stride[0] + dy).checked_sub(padding[0]).filter(|&iy| iy < x.height)?;
        let ix = (column * stride[1] + dx).checked_sub(padding[1]).filter(|&ix| ix < x.width)?;
        Some([dy, dx, iy, ix])
    })
}

/// The total of an unsplit layer.
fn total(conv: &QConv, x: &Input<'_>, [o, row, column]: [usize; 3]) -> i128 {
    let (outputs, per_group, ..) = conv.fine.dim();
    let first = o / (outputs / conv.groups) * per_group;
    let weights = || conv.fine.outer_iter().nth(o).unwrap();
    let zero = i128::from(x.q().zero_point);
    let mut total = i128::from(conv.bias[o]) + zero * weights().iter().map(|&w| i128::from(w)).sum::<i128>();
    for [dy, dx, iy, ix] in taps(conv.kernel(), conv.stride, conv.padding, x.shape, [row, column]) {
        for i in 0..per_group {
            total += i128::from(conv.fine[[o, i, dy, dx]]) * x.steps([first + i, iy, ix]);
        }
    }
    total
}

/// The steps inside a window, and how many places of it are in the image or its padding.
fn window(pool: &Pool, x: &Input<'_>, [c, row, column]: [usize; 3]) -> (Vec<i128>, usize) {
    let (top, left) = (row * pool.stride[0], column * pool.stride[1]);
    let [above, before, below, after] = pool.padding;
    let (mut steps, mut counted) = (Vec::new(), 0);
    for y in top..top + pool.kernel[0] {
        for x_at in left..left + pool.kernel[1] {
            counted += usize::from(y < above + x.shape.height + below && x_at < before + x.shape.width + after);
            let inside =
                (above..above + x.shape.height).contains(&y) && (before..before + x.shape.width).contains(&x_at);
            if inside {
                steps.push(x.steps([c, y - above, x_at - before]));
            }
        }
    }
    (steps, counted)
}

fn rearranged<T: Copy>(rearrange: &Rearrange, x: Shape, values: &[T]) -> Vec<T> {
    // The place in an array of `sides` of an index in its row-major order, and back.
    let place = |sides: &[usize], mut index: usize| {
        let mut place = vec![0; sides.len()];
        for (at, side) in place.iter_mut().zip(sides).rev() {
            (*at, index) = (index % side, index / side);
        }
        place
    };
    let back = |sides: &[usize], place: &[usize]| sides.iter().zip(place).fold(0, |index, (s, at)| index * s + at);
    let shape = rearrange.shape;
    let from = |to: usize| match &rearrange.kind {
        RearrangeKind::Reshape => to,
        RearrangeKind::Transpose { sides, order } => {
            let turned: Vec<usize> = order.iter().map(|&axis| sides[axis]).collect();
            let mut own = vec![0; sides.len()];
            for (at, &axis) in place(&turned, to).into_iter().zip(order) {
                own[axis] = at;
            }
            back(sides, &own)
        }
        RearrangeKind::Slice { sides, axis, start, step, count } => {
            let mut cut = sides.clone();
            cut[*axis] = *count;
            let mut at = place(&cut, to);
            at[*axis] = start + step * at[*axis];
            back(sides, &at)
        }
        RearrangeKind::Pick { sides, axis, entries } => {
            let mut picked = sides.clone();
            picked[*axis] = entries.len();
            let mut at = place(&picked, to);
            at[*axis] = entries[at[*axis]];
            back(sides, &at)
        }
        RearrangeKind::Upsample { factor } => {
            let at = place(&[shape.channels, shape.height, shape.width], to);
            index(x, [at[0], at[1] / factor[0], at[2] / factor[1]])
        }
    };
    (0..shape.len()).map(|to| values[from(to)]).collect()
}

fn float(op: &Op, shape: Shape, inputs: &[Input<'_>]) -> Vec<f64> {
    let each = |of: &dyn Fn([usize; 3]) -> f64| places(shape).map(of).collect::<Vec<f64>>();
    match op {
        Op::Constant(values) => each(&|[c, y, x]| f64::from(values[[c, y, x]])),
        Op::Conv(conv) => each(&|place| real_total(conv, &inputs[0], place)),
        Op::Linear(linear) => each(&|[o, ..]| {
            let weights = linear.weight.outer_iter().nth(o).unwrap();
            let products = weights.iter().zip(&inputs[0].real).map(|(w, x)| f64::from(*w) * x);
            products.sum::<f64>() + f64::from(linear.bias[o])
        }),
        Op::GlobalAveragePool => each(&|[c, ..]| {
            let x = &inputs[0];
            places(x.shape).filter(|p| p[0] == c).map(|p| x.real(p)).sum::<f64>() / x.shape.pixels() as f64
        }),
        Op::Binary(binary) => each(&|place| {
            let (a, b) = (inputs[0].real(place), inputs[1].real(place));
            match binary {
                Binary::Add => a + b,
                Binary::Sub => a - b,
                Binary::Mul => a * b,
            }
        }),
        Op::Activation(Activation::LeakyRelu { slope }) => each(&|place| {
            let x = inputs[0].real(place);
            if x < 0.0 { f64::from(*slope) * x } else { x }
        }),
        Op::Rearrange(rearrange) => rearranged(rearrange, inputs[0].shape, &inputs[0].real),
        op => panic!("no network of this test has {op:?}"),
    }
}

fn real_total(conv: &Conv, x: &Input<'_>, [o, row, column]: [usize; 3]) -> f64 {
    let (outputs, per_group, ..) = conv.weight.dim();
    let first = o / (outputs / conv.groups) * per_group;
    let mut total = f64::from(conv.bias[o]);
    for [dy, dx, iy, ix] in taps(conv.kernel(), conv.stride, conv.padding, x.shape, [row, column]) {
        for i in 0..per_group {
            total += f64::from(conv.weight[[o, i, dy, dx]]) * x.real([first + i, iy, ix]);
        }
    }
    total
}

/// The words that a device has for these images' activations of a node: NHWC, channels padded to
/// fours.
pub(crate) fn words(node: &QNode, shape: Shape, images: &[&Value]) -> Vec<u32> {
    let padded = shape.padded_channels();
    let mut words = Vec::new();
    for value in images {
        let at = |c: usize, pixel: usize| c * shape.pixels() + pixel;
        let lanes = (0..shape.pixels()).flat_map(|pixel| (0..padded).map(move |c| (c, pixel)));
        let lanes = lanes.map(|(c, pixel)| (c < shape.channels).then(|| at(c, pixel)));
        match value {
            Value::Levels(levels) => {
                let zero = i128::from(node.output.unwrap().zero_point);
                let bytes: Vec<u8> = lanes.map(|lane| lane.map_or(zero, |at| levels[at]) as i8 as u8).collect();
                words.extend(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            }
            Value::Totals(totals) => {
                words.extend(lanes.map(|lane| i32::try_from(lane.map_or(0, |at| totals[at])).unwrap().cast_unsigned()));
            }
            Value::Real(values) => words.extend(lanes.map(|lane| {
                let value = lane.map_or(0.0, |at| values[at]);
                assert_eq!(f64::from(value as f32), value, "{}: a value that f32 does not have", node.name);
                (value as f32).to_bits()
            })),
        }
    }
    words
}
