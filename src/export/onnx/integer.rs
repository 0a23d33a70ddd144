//! The form in integers: ONNX Runtime computes the same levels as the kernels, to the bit.
//!
//! Activations and weights are uint8, 128 above the int8 levels. ONNX Runtime's `ConvInteger` took
//! nothing else before 1.24, and for this pair of types its kernels do not saturate on any
//! processor, as those for int8 do on x86 without VNNI. `q − z` is the same for both. Accumulators
//! become doubles, in which every step is exact or proved to round to the same level
//! (`requantize.rs`).

use super::builder::{Builder, Window};
use super::coarse::CoarseConv;
use super::float_layers::{self, clip, flat_kind, flat_pools, guarded, repeated};
use super::input::InputForm;
use super::operations::on_levels;
use super::requantize::Requantization;
use super::tensors::{FloatTensor, LevelTensor, before_relu, byte, levels, rectified};
use crate::model::{
    CoarseScale, Computed, Integer, Multiplier, Op, QConv, QNode, QParams, QuantizedGraph, Shape, Weights, on_op,
};
use crate::{Error, Result};

/// What a node gives.
#[derive(Clone)]
enum Value {
    /// Levels.
    Levels(LevelTensor),
    /// Floats, where the network does not store levels.
    Float(FloatTensor),
}

/// Adds the whole network; gives the float tensor of every node, levels made real where it is an
/// output.
///
/// # Errors
/// A layer whose sums ONNX cannot hold, an operation that has no place there.
pub(super) fn network(builder: &mut Builder, graph: &QuantizedGraph, input: InputForm) -> Result<Vec<FloatTensor>> {
    let shapes = graph.shapes();
    let kinds = graph.nodes.iter().map(|node| on_op!(&node.computed, op => flat_kind(op, &node.inputs)));
    let flat = flat_pools(kinds, &graph.outputs);
    let mut values: Vec<Value> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<(&Value, Shape)> = node.inputs.iter().map(|&x| (&values[x], shapes[x])).collect();
        let made = match &node.computed {
            Computed::Float(Op::Input(shape)) => {
                Ok(Value::Float(FloatTensor::image(input.normalized(&mut *builder, &graph.input, *shape))))
            }
            Computed::Float(op) => float(builder, graph, node, op, &inputs, flat[id]),
            Computed::Integer(integer) => match integer.op() {
                Op::Input(shape) => self::input(builder, graph, node, *shape, input),
                _ => layer(builder, node, integer, &inputs, shapes[id], flat[id]),
            },
        };
        values.push(made.map_err(|e| e.at(format!("layer {}", node.name)))?);
    }
    let floats = values.into_iter().enumerate().map(|(id, value)| match value {
        Value::Float(float) => float,
        Value::Levels(levels) if graph.outputs.iter().any(|output| output.node == id) => {
            dequantized(builder, &graph.nodes[id].name, &levels)
        }
        Value::Levels(levels) => FloatTensor { tensor: levels.tensor, flat: levels.flat },
    });
    Ok(floats.collect())
}

fn input(builder: &mut Builder, graph: &QuantizedGraph, node: &QNode, shape: Shape, form: InputForm) -> Result<Value> {
    let params = node.output.ok_or_else(|| Error::bad("its output has no quantization parameters"))?;
    let tensor = form.levels(builder, &graph.input, shape, &params);
    Ok(Value::Levels(LevelTensor { tensor, flat: false, params }))
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
    let levels = inputs.iter().map(|(value, shape)| match value {
        Value::Levels(levels) => Ok((levels, *shape)),
        Value::Float(_) => Err(Error::bad("it reads what is not quantized")),
    });
    let levels: Vec<(&LevelTensor, Shape)> = levels.collect::<Result<_>>()?;
    let &(x, _) = levels.first().ok_or_else(|| Error::bad("it reads nothing"))?;
    match (integer.op(), &node.output) {
        (Op::Conv(conv), Some(params)) => {
            let tensor = self::conv(builder, node, conv, x, params)?;
            Ok(Value::Levels(LevelTensor { tensor, flat: false, params: *params }))
        }
        (Op::Conv(conv), None) => accumulators(builder, node, conv, x).map(Value::Float),
        (Op::Linear(conv), None) => classifier(builder, &node.name, conv, x).map(Value::Float),
        (_, Some(params)) => on_levels(builder, node, integer, &levels, (shape, params), flat).map(Value::Levels),
        (_, None) => Err(Error::bad("its output's levels do not suit its operation")),
    }
}

/// Levels made real.
fn dequantized(builder: &mut Builder, name: &str, x: &LevelTensor) -> FloatTensor {
    let scale = builder.scalar(format!("{name}.scale_of_levels"), x.params.scale);
    let zero_point = builder.scalar(format!("{name}.zero_point_of_levels"), byte(x.params.zero_point));
    let inputs = [x.tensor.as_str(), &scale, &zero_point];
    FloatTensor { tensor: builder.node("DequantizeLinear", name, &inputs, vec![]), flat: x.flat }
}

fn bytes<'a>(levels: impl IntoIterator<Item = &'a i8>) -> Vec<u8> {
    levels.into_iter().map(|&q| byte(i32::from(q))).collect()
}

/// Adds a `ConvInteger` and the cast of its accumulators to doubles.
fn sums(
    builder: &mut Builder,
    name: &str,
    part: &str,
    x: &LevelTensor,
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
fn parts(builder: &mut Builder, name: &str, conv: &QConv, x: &LevelTensor) -> Result<Sums> {
    check_sums(conv)?;
    let window = Window::of(conv);
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

fn conv(builder: &mut Builder, node: &QNode, conv: &QConv, x: &LevelTensor, output: &QParams) -> Result<String> {
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
fn accumulators(builder: &mut Builder, node: &QNode, conv: &QConv, x: &LevelTensor) -> Result<FloatTensor> {
    let name = &node.name;
    let sums = parts(builder, name, conv, x)?;
    if sums.coarse.is_some() {
        return Err(Error::bad("accumulators of a published split have no common scale"));
    }
    let s_x = f64::from(x.params.scale);
    let scales: Vec<f64> = conv.scale.iter().map(|&s| s_x * f64::from(s)).collect();
    let scale = column(builder, format!("{name}.scale"), scales.into_iter());
    let real = builder.node("Mul", format!("{name}/real"), &[&sums.fine, &scale], vec![]);
    let y = builder.cast::<f32>(before_relu(name, "rounded", node.relu), &real);
    Ok(FloatTensor::image(rectified(builder, name, y, node.relu)))
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

/// int32 accumulators, then `logit = acc·s_x·s_f` in doubles, rounded once to float32.
fn classifier(builder: &mut Builder, name: &str, conv: &QConv, x: &LevelTensor) -> Result<FloatTensor> {
    check_sums(conv)?;
    let (out, features) = (conv.out_channels(), conv.in_channels());
    let x_tensor = FloatTensor { tensor: x.tensor.clone(), flat: x.flat }.flattened(builder, name);
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
    Ok(FloatTensor { tensor: builder.cast::<f32>(name, &real), flat: true })
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
    let mut floats: Vec<(FloatTensor, Shape)> = Vec::with_capacity(inputs.len());
    for (index, (value, shape)) in inputs.iter().enumerate() {
        let x = match value {
            Value::Float(float) => float.clone(),
            Value::Levels(LevelTensor { tensor, flat, params }) => {
                let suffix = if index == 0 { String::new() } else { format!("_{index}") };
                let scale = builder.scalar(format!("{name}.input{suffix}_scale"), params.scale);
                let zero = builder.scalar(format!("{name}.input{suffix}_zero_point"), byte(params.zero_point));
                let levels = [tensor.as_str(), &scale, &zero];
                let tensor = builder.node("DequantizeLinear", format!("{name}/dequantized{suffix}"), &levels, vec![]);
                guarded(builder, name, index, &FloatTensor { tensor, flat: *flat }, params)
            }
        };
        floats.push((x, *shape));
    }
    let inputs: Vec<(&FloatTensor, Shape)> = floats.iter().map(|(x, shape)| (x, *shape)).collect();
    let y = float_layers::layer(builder, name, op, node.relu, &inputs, flat)?;
    let Some(params) = node.output else {
        let id = graph.nodes.iter().position(|other| other.name == node.name);
        let readers = graph.nodes.iter().filter(|reader| reader.inputs.iter().any(|&input| Some(input) == id));
        let readers =
            readers.filter_map(|reader| if let Computed::Float(op) = &reader.computed { Some(op) } else { None });
        let shape = op.output(&[]).unwrap_or(Shape::new(0, 0, 0));
        return Ok(Value::Float(repeated(builder, name, op, y, readers, shape)));
    };
    let clipped = clip(builder, name, &y.tensor, &params, !node.relu);
    let scale = builder.scalar(format!("{name}.output_scale"), params.scale);
    let zero_point = builder.scalar(format!("{name}.output_zero_point"), byte(params.zero_point));
    let tensor = builder.node("QuantizeLinear", format!("{name}/quantized"), &[&clipped, &scale, &zero_point], vec![]);
    Ok(Value::Levels(LevelTensor { tensor, flat: y.flat, params }))
}
