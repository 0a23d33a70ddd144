//! The form in integers: ONNX Runtime computes the same levels as the kernels, to the bit.
//!
//! Activations and weights are uint8, 128 above the int8 levels. ONNX Runtime's `ConvInteger` took nothing else before
//! 1.24, and for this pair of types its kernels do not saturate on any processor, as those for int8 do on x86
//! without VNNI. `q − z` is the same for both. Accumulators become doubles, in which every step is exact or proved to
//! round to the same level (`requantize.rs`).

use super::builder::{Builder, Window, integer};
use super::coarse::CoarseConv;
use super::input::InputForm;
use super::real::{self, LOGITS, Real, clip, island};
use super::requantize::{Levels, Requantization};
use crate::model::{CoarseScale, Multiplier, Op, QConv, QNode, QOp, QParams, QuantizedGraph, Shape};
use crate::{Error, Result};

/// What is added to an int8 level.
const OFFSET: i32 = 128;

/// A node's levels.
struct Activation {
    tensor: String,
    flat: bool,
    params: QParams,
    negative: bool,
}

/// Adds the whole network.
///
/// # Errors
/// A layer whose sums ONNX cannot hold, an operation that has no place there.
pub(super) fn network(builder: &mut Builder, graph: &QuantizedGraph, input: InputForm) -> Result<()> {
    let shapes = graph.shapes();
    let mut activations: Vec<Option<Activation>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let x = node.inputs.first().map(|&i| (activations[i].as_ref(), shapes[i]));
        let made = match (&node.op, x) {
            (QOp::Input(shape), _) => self::input(builder, graph, node, *shape, input),
            (_, Some((Some(x), shape))) => layer(builder, node, x, shape),
            _ => Err(Error::bad("it reads nothing that is quantized")),
        };
        activations.push(made.map_err(|e| e.at(format!("layer {}", node.name)))?);
    }
    Ok(())
}

fn input(
    builder: &mut Builder,
    graph: &QuantizedGraph,
    node: &QNode,
    shape: Shape,
    form: InputForm,
) -> Result<Option<Activation>> {
    let params = node.output.ok_or_else(|| Error::bad("its output has no quantization parameters"))?;
    let tensor = form.levels(builder, &graph.input, shape, &params);
    Ok(Some(Activation { tensor, flat: false, params, negative: true }))
}

/// One layer; none for the classifier, whose output is real.
fn layer(builder: &mut Builder, node: &QNode, x: &Activation, shape: Shape) -> Result<Option<Activation>> {
    let name = &node.name;
    let (tensor, flat, negative) = match (&node.op, node.output) {
        (QOp::Conv(conv), Some(params)) => (self::conv(builder, node, conv, x, &params)?, false, !node.relu),
        (QOp::GlobalAveragePool(m), Some(params)) => (pool(builder, name, x, *m, shape, &params), true, x.negative),
        (QOp::Linear(conv), None) => {
            classifier(builder, name, conv, x)?;
            return Ok(None);
        }
        (QOp::Float(op), output) => {
            let y = float(builder, node, op, x)?;
            let Some(params) = output else { return Ok(None) };
            let clipped = clip(builder, name, &y.tensor, &params, !node.relu);
            let (scale, zero_point) = (
                builder.scalar(format!("{name}.output_scale"), params.scale),
                builder.scalar(format!("{name}.output_zero_point"), byte(params.zero_point)),
            );
            let q =
                builder.node("QuantizeLinear", format!("{name}/quantized"), &[&clipped, &scale, &zero_point], vec![]);
            (q, y.flat, !node.relu)
        }
        _ => return Err(Error::bad("its output's levels do not suit its operation")),
    };
    let params = node.output.ok_or_else(|| Error::bad("its output has no quantization parameters"))?;
    Ok(Some(Activation { tensor, flat, params, negative }))
}

/// The byte of a level.
fn byte(level: i32) -> u8 {
    (level + OFFSET) as u8
}

fn bytes<'a>(levels: impl IntoIterator<Item = &'a i8>) -> Vec<u8> {
    levels.into_iter().map(|&q| byte(i32::from(q))).collect()
}

/// The levels of an output; a `ReLU` lifts the lowest to the zero point.
fn levels(params: &QParams, relu: bool) -> Levels {
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

fn conv(builder: &mut Builder, node: &QNode, conv: &QConv, x: &Activation, output: &QParams) -> Result<String> {
    let name = &node.name;
    check_sums(conv)?;
    let window = Window::new(conv.kernel(), conv.stride, conv.padding, conv.groups);
    let fine = sums(builder, name, "fine", x, (conv.fine.shape(), bytes(&conv.fine)), &window);
    let bias = biases(&conv.bias_without_zero_point(x.params.zero_point))?;
    let bias = column(builder, format!("{name}.bias"), bias.into_iter().map(f64::from));
    let fine = builder.node("Add", format!("{name}/fine_and_bias"), &[&fine, &bias], vec![]);
    let multipliers: Vec<Multiplier> = conv
        .multiplier
        .iter()
        .zip(&conv.right_shift)
        .map(|(&multiplier, &right_shift)| Multiplier { multiplier, right_shift })
        .collect();
    let shape = [1, conv.out_channels(), 1, 1];
    let levels = levels(output, node.relu);
    let Some(coarse) = &conv.coarse else {
        return Ok(Requantization::new(&multipliers).record(builder, name, &shape, &[&fine], levels));
    };
    let part = CoarseConv::new(conv, coarse);
    let coarse_sums = sums(builder, name, "coarse", x, (&part.shape, bytes(&part.weights)), &part.window);
    match &coarse.scale {
        CoarseScale::Shift(k) => {
            let powers = column(builder, format!("{name}.powers"), k.iter().map(|&k| f64::from(1u32 << k)));
            let shifted = builder.node("Mul", format!("{name}/coarse_shifted"), &[&coarse_sums, &powers], vec![]);
            let acc = builder.node("Add", format!("{name}/sum"), &[&fine, &shifted], vec![]);
            Ok(Requantization::new(&multipliers).record(builder, name, &shape, &[&acc], levels))
        }
        CoarseScale::Own { multiplier, .. } => {
            let form = Requantization::pair(&multipliers, &multiplier.to_vec())?;
            Ok(form.record(builder, name, &shape, &[&fine, &coarse_sums], levels))
        }
    }
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

/// `acc = Σ(q − z)` over height and width; batch × channels.
fn pool(
    builder: &mut Builder,
    name: &str,
    x: &Activation,
    multiplier: Multiplier,
    shape: Shape,
    output: &QParams,
) -> String {
    let wide = builder.cast::<i32>(format!("{name}/bytes"), &x.tensor);
    let axes = builder.constant(format!("{name}.axes"), &[2], [2i64, 3]);
    let keep = vec![integer("keepdims", 0)];
    let sums = builder.node("ReduceSum", format!("{name}/byte_sums"), &[&wide, &axes], keep);
    let sums = builder.cast::<f64>(format!("{name}/sums"), &sums);
    let zeros = -(i64::from(byte(x.params.zero_point)) * shape.pixels() as i64) as f64;
    let zeros = builder.scalar(format!("{name}.input_zeros"), zeros);
    let acc = builder.node("Add", format!("{name}/sum"), &[&sums, &zeros], vec![]);
    Requantization::new(&[multiplier]).record(builder, name, &[1], &[&acc], levels(output, false))
}

/// int32 accumulators, then `logit = acc·s_x·s_f` in doubles, rounded once to float32.
fn classifier(builder: &mut Builder, name: &str, conv: &QConv, x: &Activation) -> Result<()> {
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
    builder.cast_to::<f32>(name, &real, LOGITS);
    Ok(())
}

/// A layer that stayed float, between levels.
fn float(builder: &mut Builder, node: &QNode, op: &Op, x: &Activation) -> Result<Real> {
    let name = &node.name;
    let scale = builder.scalar(format!("{name}.input_scale"), x.params.scale);
    let zero_point = builder.scalar(format!("{name}.input_zero_point"), byte(x.params.zero_point));
    let inputs = [x.tensor.as_str(), &scale, &zero_point];
    let tensor = builder.node("DequantizeLinear", format!("{name}/dequantized"), &inputs, vec![]);
    let x = island(builder, name, &Real { tensor, flat: x.flat }, &x.params);
    real::layer(builder, name, op, node.relu, &x)
}
