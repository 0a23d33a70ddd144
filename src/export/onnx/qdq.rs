//! The form with `QuantizeLinear` and `DequantizeLinear` around float operators.
//!
//! Every activation is quantized and back: to int8 where real 0 is level 0, which is all that
//! TensorRT takes, else to uint8 (128 higher), which is what OpenVINO has kernels for. Weights are
//! int8 with a scale for each channel; biases are float32, because TensorRT takes no other. A split
//! kernel is two convolutions of the same activation, added. A runtime that knows the pattern runs
//! it in integers, any other in floats.

use super::builder::{Builder, Window, integer};
use super::coarse::CoarseConv;
use super::float_layers::{self, clip, flat_kind, flat_pools, guarded, repeated};
use super::input::InputForm;
use super::operations::in_float;
use super::tensors::{FloatTensor, before_relu, rectified};
use crate::model::{
    Activation, CoarseScale, Computed, Op, QConv, QNode, QParams, QuantizedGraph, Shape, Weights as _, on_op,
};
use crate::{Error, Result};

/// A node's activation after quantization and back.
struct Quantized {
    float: FloatTensor,
    params: Option<QParams>,
    /// Whether values below 0 occur.
    negative: bool,
}

/// Adds the whole network; gives the float tensor of every node.
///
/// # Errors
/// An operation that has no place there.
pub(super) fn network(builder: &mut Builder, graph: &QuantizedGraph, input: InputForm) -> Result<Vec<FloatTensor>> {
    let shapes = graph.shapes();
    let kinds = graph.nodes.iter().map(|node| on_op!(&node.computed, op => flat_kind(op, &node.inputs)));
    let flat = flat_pools(kinds, &graph.outputs);
    let mut activations: Vec<Quantized> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<(&Quantized, Shape)> = node.inputs.iter().map(|&x| (&activations[x], shapes[x])).collect();
        let made = layer(builder, graph, id, &inputs, input, flat[id]);
        activations.push(made.map_err(|e| e.at(format!("layer {}", node.name)))?);
    }
    Ok(activations.into_iter().map(|activation| activation.float).collect())
}

fn layer(
    builder: &mut Builder,
    graph: &QuantizedGraph,
    id: usize,
    inputs: &[(&Quantized, Shape)],
    input: InputForm,
    flat: bool,
) -> Result<Quantized> {
    let node = &graph.nodes[id];
    let name = &node.name;
    let (y, negative) = match &node.computed {
        Computed::Float(Op::Input(shape)) => {
            (FloatTensor::image(input.normalized(builder, &graph.input, *shape)), true)
        }
        Computed::Float(op) => {
            let floats = inputs.iter().enumerate().map(|(index, (x, shape))| match &x.params {
                Some(params) => (guarded(builder, name, index, &x.float, params), *shape),
                None => (x.float.clone(), *shape),
            });
            let floats: Vec<(FloatTensor, Shape)> = floats.collect();
            let inputs: Vec<(&FloatTensor, Shape)> = floats.iter().map(|(x, shape)| (x, *shape)).collect();
            let y = float_layers::layer(builder, name, op, node.relu, &inputs, flat)?;
            let readers = graph.nodes.iter().filter(|reader| reader.inputs.contains(&id));
            let readers =
                readers.filter_map(|reader| if let Computed::Float(op) = &reader.computed { Some(op) } else { None });
            let shape = op.output(&[]).unwrap_or(Shape::new(0, 0, 0));
            (repeated(builder, name, op, y, readers, shape), !node.relu)
        }
        Computed::Integer(integer) => match (integer.op(), inputs) {
            (Op::Input(shape), _) => {
                (FloatTensor::image(input.normalized(builder, &graph.input, *shape)), exceeds(graph, node))
            }
            (Op::Conv(conv), [(x, _)]) => (FloatTensor::image(self::conv(builder, node, conv, x)?), !node.relu),
            (Op::Linear(conv), [(x, _)]) => (classifier(builder, name, conv, x)?, true),
            (op, inputs) => {
                let negative = match op {
                    op if op.stays_within_input() => inputs.iter().any(|(x, _)| x.negative),
                    Op::Activation(Activation::Clip { low, .. }) => *low < 0.0,
                    _ => !node.relu,
                };
                let inputs: Vec<(&FloatTensor, Shape)> = inputs.iter().map(|(x, shape)| (&x.float, *shape)).collect();
                (in_float(builder, name, op, node.relu, &inputs, flat)?, negative)
            }
        },
    };
    let float = match &node.output {
        None => y,
        Some(params) => {
            let clipped = clip(builder, name, &y.tensor, params, negative);
            FloatTensor { tensor: quantized_and_back(builder, name, &clipped, params), flat: y.flat }
        }
    };
    // What was 0 and above stays so.
    Ok(Quantized { float, params: node.output, negative: negative || id == 0 })
}

/// Whether a pixel's value lies below what the input's lowest level stands for: the calibration
/// images had none such.
fn exceeds(graph: &QuantizedGraph, node: &QNode) -> bool {
    let lowest = node.output.map_or(f64::MIN, |q| q.dequantize(q.qmin) - 0.5 * f64::from(q.scale));
    graph.input.levels().iter().flatten().any(|&x| x < lowest)
}

fn quantized_and_back(builder: &mut Builder, name: &str, x: &str, params: &QParams) -> String {
    let scale = builder.scalar(format!("{name}.output_scale"), params.scale);
    let zero_name = format!("{name}.output_zero_point");
    let zero_point = match params.zero_point {
        0 => builder.scalar(zero_name, 0i8),
        z => builder.scalar(zero_name, (z + 128) as u8),
    };
    let q = builder.node("QuantizeLinear", format!("{name}/quantized"), &[x, &scale, &zero_point], vec![]);
    builder.node("DequantizeLinear", format!("{name}/dequantized"), &[&q, &scale, &zero_point], vec![])
}

/// Levels and a scale for each output channel, as float weights.
fn weights(builder: &mut Builder, name: &str, shape: &[usize], levels: Vec<i8>, scales: Vec<f32>) -> String {
    let channels = [shape[0]];
    let levels = builder.constant(name, shape, levels);
    let scales = builder.constant(format!("{name}_scale"), &channels, scales);
    let zeros = builder.constant(format!("{name}_zero_point"), &channels, vec![0i8; shape[0]]);
    // The name of the constant, with the layer's name in front of a slash as for every operation.
    let node = name.rsplit_once('.').map_or(name.to_owned(), |(layer, part)| format!("{layer}/{part}_dequantized"));
    builder.node("DequantizeLinear", node, &[&levels, &scales, &zeros], vec![integer("axis", 0)])
}

fn conv(builder: &mut Builder, node: &QNode, conv: &QConv, x: &Quantized) -> Result<String> {
    let (name, relu) = (&node.name, node.relu);
    let fine_scales = conv.scale.to_vec();
    let fine =
        weights(builder, &format!("{name}.fine"), conv.fine.shape(), conv.fine.iter().copied().collect(), fine_scales);
    let bias = bias(builder, name, conv, x)?;
    let window = Window::of(conv).attributes();
    let operation = if conv.coarse.is_some() { format!("{name}/fine") } else { before_relu(name, "conv", relu) };
    let mut y = builder.node("Conv", operation, &[&x.float.tensor, &fine, &bias], window);
    if let Some(coarse) = &conv.coarse {
        let scales = match &coarse.scale {
            CoarseScale::Shift(k) => conv.scale.iter().zip(k).map(|(s, &k)| s * (1u32 << k) as f32).collect(),
            CoarseScale::Own { scale, .. } => scale.to_vec(),
        };
        let part = CoarseConv::new(conv, coarse);
        let weights = weights(builder, &format!("{name}.coarse"), &part.shape, part.weights, scales);
        let attributes = part.window.attributes();
        let coarse = builder.node("Conv", format!("{name}/coarse"), &[&x.float.tensor, &weights], attributes);
        y = builder.node("Add", before_relu(name, "sum", relu), &[&y, &coarse], vec![]);
    }
    Ok(rectified(builder, name, y, relu))
}

/// The float bias, `s_x·s_f·bias` without the zero point's share.
fn bias(builder: &mut Builder, name: &str, conv: &QConv, x: &Quantized) -> Result<String> {
    let params = x.params.ok_or_else(|| Error::bad("its input is not quantized"))?;
    let s_x = f64::from(params.scale);
    let levels = conv.bias_without_zero_point(params.zero_point);
    let values = levels.into_iter().zip(&conv.scale).map(|(b, &s_f)| (b as f64 * s_x * f64::from(s_f)) as f32);
    Ok(builder.constant(format!("{name}.bias"), &[conv.out_channels()], values))
}

fn classifier(builder: &mut Builder, name: &str, conv: &QConv, x: &Quantized) -> Result<FloatTensor> {
    let shape = [conv.out_channels(), conv.in_channels()];
    let levels = conv.fine.iter().copied().collect();
    let weight = weights(builder, &format!("{name}.weight"), &shape, levels, conv.scale.to_vec());
    let bias = bias(builder, name, conv, x)?;
    Ok(float_layers::classifier(builder, name, &x.float, &weight, &bias))
}
