//! Operations without weights, in float32 and on levels: the only file of `onnx` that tells them
//! apart.

use super::builder::{Builder, Window, integer, integers, number, text};
use super::functions::function;
use super::lines::{reduce, standardize};
use super::moves::{concat, max_pool, padding, rearrange, sides};
use super::recurrent::recurrent;
use super::requantize::{Levels, Requantization};
use super::tensors::{FloatTensor, LevelTensor, before_relu, byte, levels, rectified};
use crate::model::{
    Activation, Axis, Binary, Constants, Coordinates, Integer, Multiplier, Op, Pool, PoolKind, QBinary, QNode, QParams,
    Resize, Shape, Table, Weights,
};
use crate::{Error, Result};

/// One operation in float32, the tensor called as the layer. `inputs` are batch × channels × height
/// × width, of these shapes; `flat` tells whether a global pooling gives batch × channels.
///
/// # Errors
/// An operation that has weights, or inputs that it has no place for.
pub(super) fn in_float<W: Weights>(
    builder: &mut Builder,
    name: &str,
    op: &Op<W>,
    relu: bool,
    inputs: &[(&FloatTensor, Shape)],
    flat: bool,
) -> Result<FloatTensor> {
    let tensors: Vec<&str> = inputs.iter().map(|(x, _)| x.tensor.as_str()).collect();
    let tensor = match (op, inputs, tensors.as_slice()) {
        (Op::GlobalAveragePool, [(x, _)], _) => return Ok(global_mean(builder, name, x, flat)),
        (Op::GlobalMaxPool, _, [x]) => builder.node("GlobalMaxPool", name, &[x], vec![]),
        (Op::Activation(function), _, [x]) => activation(builder, name, *function, x),
        (Op::Binary(kind), _, [_, _]) => {
            let operator = match kind {
                Binary::Add => "Add",
                Binary::Sub => "Sub",
                Binary::Mul => "Mul",
            };
            let y = builder.node(operator, before_relu(name, "both", relu), &tensors, vec![]);
            rectified(builder, name, y, relu)
        }
        (Op::Function(f), [_, ..], inputs) => function(builder, name, f, inputs)?,
        (Op::Pool(pool), [(_, shape)], [x]) => match pool.kind {
            PoolKind::Max => max_pool(builder, name, x, *shape, pool, name),
            PoolKind::Average | PoolKind::AverageWithPadding => mean(builder, name, x, *shape, pool),
        },
        (Op::Rearrange(how), [(_, shape)], [x]) => rearrange(builder, name, x, *shape, how, name),
        (Op::Concat(axis), _, [_, _, ..]) => concat(builder, name, &tensors, axis.index(), name),
        (Op::Resize(resize), [(_, shape)], [x]) => bilinear(builder, name, x, *shape, resize)?,
        (Op::Softmax(axis), _, [x]) => builder.node("Softmax", name, &[x], vec![axis_of(*axis)]),
        (Op::Reduce(how), [(_, shape)], [x]) => reduce(builder, name, x, *shape, *how),
        (Op::Standardize(how), _, [x]) => standardize(builder, name, x, *how),
        (Op::MatMul, _, [_, _]) => builder.node("MatMul", name, &tensors, vec![]),
        (Op::Recurrent(cells), [(_, shape)], [x]) => recurrent(builder, name, x, *shape, cells),
        (Op::Constant(values), [], []) => {
            let (channels, height, width) = values.dim();
            builder.constant(name, &[1, channels, height, width], values.iter().copied())
        }
        _ => return Err(Error::bad(format!("{} cannot be written with {} inputs", op.kind(), inputs.len()))),
    };
    Ok(FloatTensor::image(tensor))
}

/// One operation on levels; the tensor is `NAME/quantized`, and stored as `y`, of this `shape`.
/// `flat` tells whether a global pooling gives batch × channels.
///
/// # Errors
/// An operation that has no place here.
pub(super) fn on_levels(
    builder: &mut Builder,
    node: &QNode,
    integer: &Integer,
    inputs: &[(&LevelTensor, Shape)],
    (shape, y): (Shape, &QParams),
    flat: bool,
) -> Result<LevelTensor> {
    let name = &node.name;
    let quantized = format!("{name}/quantized");
    let tensor = match (integer.op(), integer.constants(), inputs) {
        (Op::GlobalAveragePool, Constants::Multiplier(multiplier), [(x, x_shape)]) => {
            let tensor = global_mean_of_levels(builder, name, x, *multiplier, *x_shape, y, flat);
            return Ok(LevelTensor { tensor, flat, params: *y });
        }
        (Op::Function(_), Constants::ChannelTables(tables), [(x, _)]) => {
            look_up_channels(builder, name, &x.tensor, tables, &quantized)
        }
        (Op::Activation(_) | Op::Function(_), Constants::Table(table), [(x, _)]) => {
            look_up(builder, name, "", &x.tensor, table, &quantized)
        }
        (Op::Binary(_), Constants::Binary(binary), [(a, _), (b, _)]) => {
            combined(builder, name, *binary, [a, b], levels(y, node.relu))
        }
        (Op::GlobalMaxPool, _, [(x, x_shape)]) => {
            // As a window: GlobalMaxPool itself takes no integers.
            let kernel = [x_shape.height, x_shape.width];
            let pool = Pool { kind: PoolKind::Max, kernel, stride: [1; 2], padding: [0; 4], ceil: false };
            max_pool(builder, name, &x.tensor, *x_shape, &pool, &quantized)
        }
        (Op::Pool(pool), Constants::None, [(x, x_shape)]) => {
            max_pool(builder, name, &x.tensor, *x_shape, pool, &quantized)
        }
        (Op::Pool(pool), Constants::Multipliers(multipliers), [(x, x_shape)]) => {
            let acc = window_sums(builder, name, x, *x_shape, pool);
            let at = |row: usize, column: usize| {
                let (_, rows) = pool.window(x_shape.height, 0, row);
                let (_, columns) = pool.window(x_shape.width, 1, column);
                multipliers.get((rows * columns).wrapping_sub(1)).copied()
            };
            let places = (0..shape.height).flat_map(|row| (0..shape.width).map(move |column| at(row, column)));
            let places: Option<Vec<_>> = places.collect();
            let places = places.ok_or_else(|| Error::bad("a window divides by what has no multiplier"))?;
            let sides = [1, 1, shape.height, shape.width];
            Requantization::new(&places).record(builder, name, &sides, &[&acc], levels(y, false))
        }
        (Op::Rearrange(how), _, [(x, x_shape)]) => rearrange(builder, name, &x.tensor, *x_shape, how, &quantized),
        (Op::Concat(axis), Constants::Tables(tables), inputs) => {
            let parts: Vec<String> = inputs
                .iter()
                .zip(tables)
                .enumerate()
                .map(|(index, ((x, _), table))| match table {
                    None => x.tensor.clone(),
                    Some(table) => {
                        let part = format!("{name}/part_{index}");
                        look_up(builder, name, &format!("_{index}"), &x.tensor, table, &part)
                    }
                })
                .collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            concat(builder, name, &parts, axis.index(), &quantized)
        }
        _ => return Err(Error::bad("this operation cannot be written in integers")),
    };
    Ok(LevelTensor { tensor, flat: false, params: *y })
}

/// The mean over height and width; where `flat`, batch × channels.
fn global_mean(builder: &mut Builder, name: &str, x: &FloatTensor, flat: bool) -> FloatTensor {
    if !flat {
        return FloatTensor::image(builder.node("GlobalAveragePool", name, &[&x.tensor], vec![]));
    }
    let mean = builder.node("GlobalAveragePool", format!("{name}/mean"), &[&x.tensor], vec![]);
    FloatTensor { tensor: builder.node("Flatten", name, &[&mean], vec![]), flat: true }
}

/// `acc = Σ(q − z)` over height and width; where `flat`, batch × channels.
fn global_mean_of_levels(
    builder: &mut Builder,
    name: &str,
    x: &LevelTensor,
    multiplier: Multiplier,
    shape: Shape,
    output: &QParams,
    flat: bool,
) -> String {
    let wide = builder.cast::<i32>(format!("{name}/bytes"), &x.tensor);
    let axes = builder.constant(format!("{name}.axes"), &[2], [2i64, 3]);
    let keep = vec![integer("keepdims", usize::from(!flat))];
    let sums = builder.node("ReduceSum", format!("{name}/byte_sums"), &[&wide, &axes], keep);
    let sums = builder.cast::<f64>(format!("{name}/sums"), &sums);
    let zeros = -(i64::from(byte(x.params.zero_point)) * shape.pixels() as i64) as f64;
    let zeros = builder.scalar(format!("{name}.input_zeros"), zeros);
    let acc = builder.node("Add", format!("{name}/sum"), &[&sums, &zeros], vec![]);
    Requantization::new(&[multiplier]).record(builder, name, &[1], &[&acc], levels(output, false))
}

fn axis_of(axis: Axis) -> crate::onnx_proto::AttributeProto {
    integer("axis", axis.index())
}

/// A function of one value.
fn activation(builder: &mut Builder, name: &str, function: Activation, x: &str) -> String {
    let gate = |builder: &mut Builder, operator: &str, attributes| {
        let gate = builder.node(operator, format!("{name}/gate"), &[x], attributes);
        builder.node("Mul", name, &[x, &gate], vec![])
    };
    match function {
        Activation::Clip { low: 0.0, high: f32::INFINITY } => builder.node("Relu", name, &[x], vec![]),
        Activation::Clip { low, high } => {
            // An infinite end is left out.
            let mut end = |part: &str, value: f32| {
                if value.is_finite() { builder.scalar(format!("{name}.{part}"), value) } else { String::new() }
            };
            let (low, high) = (end("low", low), end("high", high));
            let inputs = [x, &low, &high];
            builder.node("Clip", name, if high.is_empty() { &inputs[..2] } else { &inputs }, vec![])
        }
        Activation::LeakyRelu { slope } => builder.node("LeakyRelu", name, &[x], vec![number("alpha", slope)]),
        Activation::Sigmoid => builder.node("Sigmoid", name, &[x], vec![]),
        Activation::HardSigmoid { slope, offset } => {
            builder.node("HardSigmoid", name, &[x], vec![number("alpha", slope), number("beta", offset)])
        }
        // HardSwish itself is of a later version.
        Activation::HardSwish => gate(builder, "HardSigmoid", vec![number("alpha", 1.0 / 6.0), number("beta", 0.5)]),
        Activation::Silu => gate(builder, "Sigmoid", vec![]),
    }
}

/// The mean of each window. Windows are counted by rounding down, with padding at the end that
/// makes them those of `pool`; it is not counted. Where declared padding is, it becomes zeros of
/// the image first.
fn mean(builder: &mut Builder, name: &str, x: &str, shape: Shape, pool: &Pool) -> String {
    let mut pads = padding(pool, shape);
    let mut image = x.to_owned();
    if pool.kind == PoolKind::AverageWithPadding && pool.padding != [0; 4] {
        let [top, left, bottom, right] = pool.padding.map(|side| side as i64);
        let amounts = builder.constant(format!("{name}.padding"), &[8], [0, 0, top, left, 0, 0, bottom, right]);
        image = builder.node("Pad", format!("{name}/padded"), &[x, &amounts], vec![text("mode", "constant")]);
        for (pad, declared) in pads.iter_mut().zip(pool.padding) {
            *pad = pad.saturating_sub(declared);
        }
    }
    let window = vec![
        integers("kernel_shape", &pool.kernel),
        integers("strides", &pool.stride),
        integers("pads", &pads),
        integer("count_include_pad", 0),
    ];
    builder.node("AveragePool", name, &[&image], window)
}

fn bilinear(builder: &mut Builder, name: &str, x: &str, shape: Shape, resize: &Resize) -> Result<String> {
    let [_, height, width] = sides(shape);
    let scale = |from: usize, to: usize| {
        let exact = to as f32 / from as f32;
        // A runtime rounds side·scale down, in floats or doubles: the scale must not be a little
        // too small.
        [exact, exact.next_up()].into_iter().find(|&scale| {
            (from as f32 * scale).floor() == to as f32 && (from as f64 * f64::from(scale)).floor() == to as f64
        })
    };
    let of = |axis: usize, from: usize| match resize.scale {
        Some(scale) => Some(scale[axis]),
        None => scale(from, resize.size[axis]),
    };
    let (Some(down), Some(across)) = (of(0, height), of(1, width)) else {
        return Err(Error::bad(format!(
            "no scale of ONNX takes {height}×{width} to {}×{}",
            resize.size[0], resize.size[1]
        )));
    };
    let scales = builder.constant(format!("{name}.scales"), &[4], [1.0, 1.0, down, across]);
    let coordinates = match resize.coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::AlignCorners => "align_corners",
        Coordinates::Asymmetric => "asymmetric",
    };
    let how = vec![text("mode", "linear"), text("coordinate_transformation_mode", coordinates)];
    Ok(builder.node("Resize", name, &[x, "", &scales], how))
}

/// The byte that becomes of each byte.
fn look_up(builder: &mut Builder, name: &str, suffix: &str, x: &str, table: &Table, output: &str) -> String {
    // Entry q + 128 is that of the byte of level q.
    let entries = table.0.iter().map(|&q| byte(i32::from(q)));
    let table = builder.constant(format!("{name}.table{suffix}"), &[256], entries);
    let index = builder.cast::<i32>(format!("{name}/index{suffix}"), x);
    builder.node_to("Gather", &format!("{name}/looked_up{suffix}"), &[&table, &index], vec![], output)
}

/// The byte that becomes of each byte of each channel: one table behind the other.
fn look_up_channels(builder: &mut Builder, name: &str, x: &str, tables: &[Table], output: &str) -> String {
    let entries: Vec<u8> = tables.iter().flat_map(|table| table.0.iter().map(|&q| byte(i32::from(q)))).collect();
    let table = builder.constant(format!("{name}.table"), &[entries.len()], entries);
    let begins = (0..tables.len()).map(|channel| 256 * channel as i32);
    let begins = builder.constant(format!("{name}.tables"), &[tables.len(), 1, 1], begins);
    let entry = builder.cast::<i32>(format!("{name}/entry"), x);
    let index = builder.node("Add", format!("{name}/index"), &[&entry, &begins], vec![]);
    builder.node_to("Gather", &format!("{name}/looked_up"), &[&table, &index], vec![], output)
}

/// Sums and products in doubles: `t = (q_a − z_a)·M_a + (q_b − z_b)·M_b` is an integer below
/// 2·2^8·2^31 = 2^40, a product `(q_a − z_a)·(q_b − z_b)·M` below 2^47: exact, and so is scaling by
/// 2^−n, before or after the addition. What is wanted is `floor(t·2^−n + 1/2)`. For n ≤ 53 the sum
/// is `(t + 2^(n−1))·2^−n` with an integer of at most 2^53: exact. For larger n, `|t·2^−n|` is
/// below 2^−6: the sum, rounded or not, lies between 0 and 1, and its floor is 0.
fn combined(builder: &mut Builder, name: &str, binary: QBinary, [a, b]: [&LevelTensor; 2], levels: Levels) -> String {
    let steps = |builder: &mut Builder, part: &str, x: &LevelTensor| {
        let wide = builder.cast::<f64>(format!("{name}/{part}_bytes"), &x.tensor);
        let zero = builder.scalar(format!("{name}.{part}_zero_point"), f64::from(byte(x.params.zero_point)));
        builder.node("Sub", format!("{name}/{part}_steps"), &[&wide, &zero], vec![])
    };
    let (left, right) = (steps(builder, "a", a), steps(builder, "b", b));
    let factor = |builder: &mut Builder, part: &str, multiplier: i32, shift: u8| {
        builder.scalar(format!("{name}.{part}_factor"), f64::from(multiplier) * 2f64.powi(-i32::from(shift)))
    };
    let total = match binary {
        QBinary::Sum { multipliers, right_shift } => {
            let m =
                [factor(builder, "a", multipliers[0], right_shift), factor(builder, "b", multipliers[1], right_shift)];
            let left = builder.node("Mul", format!("{name}/a_scaled"), &[&left, &m[0]], vec![]);
            let right = builder.node("Mul", format!("{name}/b_scaled"), &[&right, &m[1]], vec![]);
            builder.node("Add", format!("{name}/scaled"), &[&left, &right], vec![])
        }
        QBinary::Product(multiplier) => {
            let product = builder.node("Mul", format!("{name}/product"), &[&left, &right], vec![]);
            let m = factor(builder, "product", multiplier.multiplier, multiplier.right_shift);
            builder.node("Mul", format!("{name}/scaled"), &[&product, &m], vec![])
        }
    };
    let half = builder.scalar(format!("{name}.half"), 0.5);
    let raised = builder.node("Add", format!("{name}/raised"), &[&total, &half], vec![]);
    let steps = builder.node("Floor", format!("{name}/steps"), &[&raised], vec![]);
    let zero = builder.scalar(format!("{name}.zero_point"), levels.zero_point);
    let shifted = builder.node("Add", format!("{name}/shifted"), &[&steps, &zero], vec![]);
    let (low, high) =
        (builder.scalar(format!("{name}.lowest"), levels.low), builder.scalar(format!("{name}.highest"), levels.high));
    let clipped = builder.node("Clip", format!("{name}/clipped"), &[&shifted, &low, &high], vec![]);
    builder.cast::<u8>(format!("{name}/quantized"), &clipped)
}

/// `Σ(q − z)` over each window, in doubles: a convolution with ones, padded with the zero point.
fn window_sums(builder: &mut Builder, name: &str, x: &LevelTensor, shape: Shape, pool: &Pool) -> String {
    let [kh, kw] = pool.kernel;
    let ones = vec![byte(1); shape.channels * kh * kw];
    let ones = builder.constant(format!("{name}.ones"), &[shape.channels, 1, kh, kw], ones);
    let x_zero = builder.scalar(format!("{name}.input_zero_point"), byte(x.params.zero_point));
    let w_zero = builder.scalar(format!("{name}.ones_zero_point"), byte(0));
    let window =
        Window { kernel: pool.kernel, strides: pool.stride, pads: padding(pool, shape), groups: shape.channels };
    let inputs = [x.tensor.as_str(), &ones, &x_zero, &w_zero];
    let acc = builder.node("ConvInteger", format!("{name}/window_sums"), &inputs, window.attributes());
    builder.cast::<f64>(format!("{name}/sums"), &acc)
}
