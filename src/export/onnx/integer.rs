//! The form in integers: ONNX Runtime computes the same levels as the kernels, to the bit.
//!
//! Activations and weights are uint8, 128 above the int8 levels. ONNX Runtime's `ConvInteger` took nothing else before
//! 1.24, and for this pair of types its kernels do not saturate on any processor, as those for int8 do on x86
//! without VNNI. `q − z` is the same for both. Accumulators become doubles, in which every step is exact or proved to
//! round to the same level (`requantize.rs`).

mod operations;

use super::builder::{Builder, Window, integer};
use super::coarse::CoarseConv;
use super::input::InputForm;
use super::real::{self, Real, clip, island};
use super::requantize::{Levels, Requantization};
use crate::model::{
    CoarseScale, Computed, Constants, Integer, Multiplier, Op, QConv, QNode, QParams, QuantizedGraph, Shape, on_op,
};
use crate::{Error, Result};

/// What is added to an int8 level.
const OFFSET: i32 = 128;

/// What a node gives.
#[derive(Clone)]
enum Value {
    /// Levels.
    Levels(Activation),
    /// Real values, where the network does not store levels.
    Real(Real),
}

/// A node's levels.
#[derive(Clone)]
pub(super) struct Activation {
    pub(super) tensor: String,
    pub(super) flat: bool,
    pub(super) params: QParams,
    /// Whether levels below the zero point occur.
    pub(super) negative: bool,
}

/// Adds the whole network; gives the real tensor of every node, that of levels made real where it is an output.
///
/// # Errors
/// A layer whose sums ONNX cannot hold, an operation that has no place there.
pub(super) fn network(builder: &mut Builder, graph: &QuantizedGraph, input: InputForm) -> Result<Vec<Real>> {
    let shapes = graph.shapes();
    let kinds = graph.nodes.iter().map(|node| on_op!(&node.computed, op => real::flat_kind(op, &node.inputs)));
    let flat = real::flat_pools(kinds, &graph.outputs);
    let mut values: Vec<Value> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<(&Value, Shape)> = node.inputs.iter().map(|&x| (&values[x], shapes[x])).collect();
        let made = match &node.computed {
            Computed::Float(op) => float(builder, graph, node, op, &inputs, flat[id]),
            Computed::Integer(integer) => match integer.op() {
                Op::Input(shape) => self::input(builder, graph, node, *shape, input),
                _ => layer(builder, node, integer, &inputs, shapes[id], flat[id]),
            },
        };
        values.push(made.map_err(|e| e.at(format!("layer {}", node.name)))?);
    }
    let real = values.into_iter().enumerate().map(|(id, value)| match value {
        Value::Real(real) => real,
        Value::Levels(levels) if graph.outputs.iter().any(|output| output.node == id) => {
            dequantized(builder, &graph.nodes[id].name, &levels)
        }
        Value::Levels(levels) => Real { tensor: levels.tensor, flat: levels.flat },
    });
    Ok(real.collect())
}

fn input(builder: &mut Builder, graph: &QuantizedGraph, node: &QNode, shape: Shape, form: InputForm) -> Result<Value> {
    let params = node.output.ok_or_else(|| Error::bad("its output has no quantization parameters"))?;
    let tensor = form.levels(builder, &graph.input, shape, &params);
    Ok(Value::Levels(Activation { tensor, flat: false, params, negative: true }))
}

/// One layer in integers.
fn layer(
    builder: &mut Builder,
    node: &QNode,
    integer: &Integer,
    inputs: &[(&Value, Shape)],
    shape: Shape,
    flat: bool,
) -> Result<Value> {
    let name = &node.name;
    let levels = inputs.iter().map(|(value, shape)| match value {
        Value::Levels(levels) => Ok((levels, *shape)),
        Value::Real(_) => Err(Error::bad("it reads what is not quantized")),
    });
    let levels: Vec<(&Activation, Shape)> = levels.collect::<Result<_>>()?;
    let &(x, x_shape) = levels.first().ok_or_else(|| Error::bad("it reads nothing"))?;
    let Some(params) = node.output else {
        return match integer.op() {
            Op::Conv(conv) => accumulators(builder, node, conv, x).map(Value::Real),
            Op::Linear(conv) => classifier(builder, name, conv, x).map(Value::Real),
            _ => Err(Error::bad("its output's levels do not suit its operation")),
        };
    };
    let (tensor, negative) = match (integer.op(), integer.constants()) {
        (Op::Conv(conv), _) => (self::conv(builder, node, conv, x, &params)?, !node.relu),
        (Op::GlobalAveragePool, Constants::Multiplier(m)) => {
            (pool(builder, name, x, *m, x_shape, &params, flat), x.negative)
        }
        (op, _) => {
            let tensor = operations::operation(builder, node, integer, &levels, shape, &params)?;
            (tensor, if op.stays_within_input() { x.negative } else { !node.relu })
        }
    };
    let flat = flat && matches!(integer.op(), Op::GlobalAveragePool);
    Ok(Value::Levels(Activation { tensor, flat, params, negative }))
}

/// Levels made real.
fn dequantized(builder: &mut Builder, name: &str, x: &Activation) -> Real {
    let scale = builder.scalar(format!("{name}.scale_of_levels"), x.params.scale);
    let zero_point = builder.scalar(format!("{name}.zero_point_of_levels"), byte(x.params.zero_point));
    let inputs = [x.tensor.as_str(), &scale, &zero_point];
    Real { tensor: builder.node("DequantizeLinear", name, &inputs, vec![]), flat: x.flat }
}

/// The byte of a level.
pub(super) fn byte(level: i32) -> u8 {
    (level + OFFSET) as u8
}

fn bytes<'a>(levels: impl IntoIterator<Item = &'a i8>) -> Vec<u8> {
    levels.into_iter().map(|&q| byte(i32::from(q))).collect()
}

/// The levels of an output; a `ReLU` lifts the lowest to the zero point.
pub(super) fn levels(params: &QParams, relu: bool) -> Levels {
    let low = if relu { params.qmin.max(params.zero_point) } else { params.qmin };
    let [zero_point, low, high] = [params.zero_point, low, params.qmax].map(|q| f64::from(q + OFFSET));
    Levels { zero_point, low, high }
}

/// Adds a `ConvInteger` and the cast of its accumulators to doubles.
fn sums(
    builder: &mut Builder,
    name: &str,
    part: &str,
    x: &Activation,
    weights: (&[usize], Vec<u8>),
    window: &Window,
) -> String {
    let weight = builder.constant(format!("{name}.{part}"), weights.0, weights.1);
    let x_zero = builder.scalar(format!("{name}.{part}_input_zero_point"), byte(x.params.zero_point));
    let w_zero = builder.scalar(format!("{name}.{part}_zero_point"), byte(0));
    let inputs = [x.tensor.as_str(), &weight, &x_zero, &w_zero];
    let acc = builder.node("ConvInteger", format!("{name}/{part}"), &inputs, window.attributes());
    builder.cast::<f64>(format!("{name}/{part}_sums"), &acc)
}

/// A column of doubles for each channel, to be combined with batch × channels × height × width.
fn column(builder: &mut Builder, name: String, values: impl ExactSizeIterator<Item = f64>) -> String {
    builder.constant(name, &[1, values.len(), 1, 1], values)
}

/// What a convolution's parts add up to, in doubles.
struct Sums {
    /// Fine part and bias.
    fine: String,
    /// The coarse part: in steps of the fine one already, or of its own grid.
    coarse: Option<String>,
}

/// Adds both parts of a convolution.
fn parts(builder: &mut Builder, name: &str, conv: &QConv, x: &Activation) -> Result<Sums> {
    check_sums(conv)?;
    let window = Window::new(conv.kernel(), conv.stride, conv.padding, conv.groups);
    let fine = sums(builder, name, "fine", x, (conv.fine.shape(), bytes(&conv.fine)), &window);
    let bias = biases(&conv.bias_without_zero_point(x.params.zero_point))?;
    let bias = column(builder, format!("{name}.bias"), bias.into_iter().map(f64::from));
    let fine = builder.node("Add", format!("{name}/fine_and_bias"), &[&fine, &bias], vec![]);
    let Some(coarse) = &conv.coarse else { return Ok(Sums { fine, coarse: None }) };
    let part = CoarseConv::new(conv, coarse);
    let coarse_sums = sums(builder, name, "coarse", x, (&part.shape, bytes(&part.weights)), &part.window);
    match &coarse.scale {
        CoarseScale::Shift(k) => {
            let powers = column(builder, format!("{name}.powers"), k.iter().map(|&k| f64::from(1u32 << k)));
            let shifted = builder.node("Mul", format!("{name}/coarse_shifted"), &[&coarse_sums, &powers], vec![]);
            Ok(Sums { fine: builder.node("Add", format!("{name}/sum"), &[&fine, &shifted], vec![]), coarse: None })
        }
        CoarseScale::Own { .. } => Ok(Sums { fine, coarse: Some(coarse_sums) }),
    }
}

fn conv(builder: &mut Builder, node: &QNode, conv: &QConv, x: &Activation, output: &QParams) -> Result<String> {
    let name = &node.name;
    let sums = parts(builder, name, conv, x)?;
    let multipliers: Vec<Multiplier> = conv
        .multiplier
        .iter()
        .zip(&conv.right_shift)
        .map(|(&multiplier, &right_shift)| Multiplier { multiplier, right_shift })
        .collect();
    let shape = [1, conv.out_channels(), 1, 1];
    let levels = levels(output, node.relu);
    let own = conv.coarse.as_ref().map(|coarse| &coarse.scale);
    if let (Some(coarse), Some(CoarseScale::Own { multiplier, .. })) = (&sums.coarse, own) {
        let form = Requantization::pair(&multipliers, &multiplier.to_vec())?;
        return Ok(form.record(builder, name, &shape, &[&sums.fine, coarse], levels));
    }
    Ok(Requantization::new(&multipliers).record(builder, name, &shape, &[&sums.fine], levels))
}

/// A convolution after which no other comes: `acc·s_x·s_f` in doubles, rounded once to float32.
fn accumulators(builder: &mut Builder, node: &QNode, conv: &QConv, x: &Activation) -> Result<Real> {
    let name = &node.name;
    let sums = parts(builder, name, conv, x)?;
    if sums.coarse.is_some() {
        return Err(Error::bad("accumulators of a published split have no common scale"));
    }
    let s_x = f64::from(x.params.scale);
    let scales: Vec<f64> = conv.scale.iter().map(|&s| s_x * f64::from(s)).collect();
    let scale = column(builder, format!("{name}.scale"), scales.into_iter());
    let real = builder.node("Mul", format!("{name}/real"), &[&sums.fine, &scale], vec![]);
    let y = builder.cast::<f32>(real::before_relu(name, "rounded", node.relu), &real);
    Ok(Real::image(real::rectified(builder, name, y, node.relu)))
}

/// Each part's own sum must fit 32 bits; that of both together always does.
fn check_sums(conv: &QConv) -> Result<()> {
    let (_, per_group, kh, kw) = conv.fine.dim();
    // |q − z| is at most 255 and |Q| at most 128.
    if per_group * kh * kw > (i32::MAX / (255 * 128)) as usize {
        return Err(Error::bad(format!("the sum of {per_group}×{kh}×{kw} products may not fit the 32 bits of ONNX")));
    }
    Ok(())
}

fn biases(levels: &[i64]) -> Result<Vec<i32>> {
    let fits = levels.iter().map(|&b| i32::try_from(b)).collect::<std::result::Result<_, _>>();
    fits.map_err(|e| Error::bad("a bias does not fit 32 bits").because(e))
}

/// `acc = Σ(q − z)` over height and width; where `flat`, batch × channels.
fn pool(
    builder: &mut Builder,
    name: &str,
    x: &Activation,
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

/// int32 accumulators, then `logit = acc·s_x·s_f` in doubles, rounded once to float32.
fn classifier(builder: &mut Builder, name: &str, conv: &QConv, x: &Activation) -> Result<Real> {
    check_sums(conv)?;
    let (out, features) = (conv.out_channels(), conv.in_channels());
    let x_tensor = real::flat(builder, name, &Real { tensor: x.tensor.clone(), flat: x.flat });
    let mut transposed = Vec::with_capacity(out * features);
    for i in 0..features {
        transposed.extend((0..out).map(|o| byte(i32::from(conv.fine[[o, i, 0, 0]]))));
    }
    let weight = builder.constant(format!("{name}.weight"), &[features, out], transposed);
    let x_zero = builder.scalar(format!("{name}.input_zero_point"), byte(x.params.zero_point));
    let w_zero = builder.scalar(format!("{name}.weight_zero_point"), byte(0));
    let product =
        builder.node("MatMulInteger", format!("{name}/product"), &[&x_tensor, &weight, &x_zero, &w_zero], vec![]);
    let bias = biases(&conv.bias_without_zero_point(x.params.zero_point))?;
    let bias = builder.constant(format!("{name}.bias"), &[out], bias);
    let acc = builder.node("Add", format!("{name}/accumulators"), &[&product, &bias], vec![]);
    let acc = builder.cast::<f64>(format!("{name}/sums"), &acc);
    let s_x = f64::from(x.params.scale);
    let scale = builder.constant(format!("{name}.scale"), &[out], conv.scale.iter().map(|&s| s_x * f64::from(s)));
    let real = builder.node("Mul", format!("{name}/real"), &[&acc, &scale], vec![]);
    Ok(Real { tensor: builder.cast::<f32>(name, &real), flat: true })
}

/// A layer in float32: its inputs' levels made real, and where its output is stored, quantized.
fn float(
    builder: &mut Builder,
    graph: &QuantizedGraph,
    node: &QNode,
    op: &Op,
    inputs: &[(&Value, Shape)],
    flat: bool,
) -> Result<Value> {
    let name = &node.name;
    let mut real: Vec<(Real, Shape)> = Vec::with_capacity(inputs.len());
    for (index, (value, shape)) in inputs.iter().enumerate() {
        let x = match value {
            Value::Real(real) => real.clone(),
            Value::Levels(x @ Activation { params, .. }) => {
                let suffix = if index == 0 { String::new() } else { format!("_{index}") };
                let scale = builder.scalar(format!("{name}.input{suffix}_scale"), x.params.scale);
                let zero = builder.scalar(format!("{name}.input{suffix}_zero_point"), byte(x.params.zero_point));
                let levels = [x.tensor.as_str(), &scale, &zero];
                let tensor = builder.node("DequantizeLinear", format!("{name}/dequantized{suffix}"), &levels, vec![]);
                let x = Real { tensor, flat: x.flat };
                island(builder, &real::island_input(name, index), &x, params)
            }
        };
        real.push((x, *shape));
    }
    let inputs: Vec<(&Real, Shape)> = real.iter().map(|(real, shape)| (real, *shape)).collect();
    let y = real::layer(builder, name, op, node.relu, &inputs, flat)?;
    let Some(params) = node.output else {
        let id = graph.nodes.iter().position(|other| other.name == node.name);
        let readers = graph.nodes.iter().filter(|reader| reader.inputs.iter().any(|&input| Some(input) == id));
        let readers =
            readers.filter_map(|reader| if let Computed::Float(op) = &reader.computed { Some(op) } else { None });
        let shape = op.output(&[]).unwrap_or(Shape::new(0, 0, 0));
        return Ok(Value::Real(super::repeated(builder, name, op, y, readers, shape)));
    };
    let clipped = clip(builder, name, &y.tensor, &params, !node.relu);
    let scale = builder.scalar(format!("{name}.output_scale"), params.scale);
    let zero_point = builder.scalar(format!("{name}.output_zero_point"), byte(params.zero_point));
    let tensor = builder.node("QuantizeLinear", format!("{name}/quantized"), &[&clipped, &scale, &zero_point], vec![]);
    Ok(Value::Levels(Activation { tensor, flat: y.flat, params, negative: !node.relu }))
}
