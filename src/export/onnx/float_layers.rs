//! Layers in float32: a whole float network, and layers that stay float in a quantized one.

use super::builder::{Builder, Window, integer};
use super::input;
use super::moves::sides;
use super::operations::in_float;
use super::tensors::{FloatTensor, before_relu, rectified};
use crate::Result;
use crate::model::{GraphOutput, NodeId, Op, QParams, Shape, Weights};

/// One layer; its tensor is called as the layer. `inputs` are what it reads and their shapes,
/// `flat` tells whether a global pooling gives batch × channels ([`flat_pools`]).
///
/// # Errors
/// An operation that has no place here.
pub(super) fn layer(
    builder: &mut Builder,
    name: &str,
    op: &Op,
    relu: bool,
    inputs: &[(&FloatTensor, Shape)],
    flat: bool,
) -> Result<FloatTensor> {
    match (op, inputs) {
        (Op::Conv(conv), [(x, _)]) => {
            let weight = builder.constant(format!("{name}.weight"), conv.weight.shape(), conv.weight.iter().copied());
            let bias = builder.constant(format!("{name}.bias"), conv.bias.shape(), conv.bias.iter().copied());
            let window = Window::of(conv).attributes();
            let y = builder.node("Conv", before_relu(name, "conv", relu), &[&x.tensor, &weight, &bias], window);
            Ok(FloatTensor::image(rectified(builder, name, y, relu)))
        }
        (Op::Linear(linear), [(x, _)]) => {
            let sides = [linear.out_channels(), linear.in_channels()];
            let weight = builder.constant(format!("{name}.weight"), &sides, linear.weight.iter().copied());
            let bias = builder.constant(format!("{name}.bias"), linear.bias.shape(), linear.bias.iter().copied());
            Ok(classifier(builder, name, x, &weight, &bias))
        }
        _ => in_float(builder, name, op, relu, inputs, flat),
    }
}

/// Whether a node is a global pooling, whether a classifier, and what it reads.
pub(super) fn flat_kind<'a, W>(op: &Op<W>, inputs: &'a [NodeId]) -> (bool, bool, &'a [NodeId]) {
    (matches!(op, Op::GlobalAveragePool), matches!(op, Op::Linear(_)), inputs)
}

/// Which nodes are global poolings that a classifier alone reads: their features need no height and
/// width.
pub(super) fn flat_pools<'a>(
    nodes: impl Iterator<Item = (bool, bool, &'a [NodeId])>,
    outputs: &[GraphOutput],
) -> Vec<bool> {
    let mut flat: Vec<bool> = Vec::new();
    for (id, (is_pool, is_classifier, inputs)) in nodes.enumerate() {
        flat.push(is_pool && outputs.iter().all(|output| output.node != id));
        if !is_classifier {
            for &input in inputs {
                flat[input] = false;
            }
        }
    }
    flat
}

/// `logits = weight·x + bias`.
pub(super) fn classifier(builder: &mut Builder, name: &str, x: &FloatTensor, weight: &str, bias: &str) -> FloatTensor {
    let x = x.flattened(builder, name);
    let transposed = vec![integer("transB", 1)];
    FloatTensor { tensor: builder.node("Gemm", name, &[&x, weight, bias], transposed), flat: true }
}

/// Clamps what `QuantizeLinear` would not: it ends at the ends of the byte, the levels of `params`
/// may end before.
///
/// `negative` tells whether values below 0 occur.
pub(super) fn clip(builder: &mut Builder, name: &str, x: &str, params: &QParams, negative: bool) -> String {
    if params.qmax == 127 && (params.qmin == -128 || !negative) {
        return x.to_owned();
    }
    let low = builder.scalar(format!("{name}.clip_low"), params.dequantize(params.qmin) as f32);
    let high = builder.scalar(format!("{name}.clip_high"), params.dequantize(params.qmax) as f32);
    builder.node("Clip", format!("{name}/clipped"), &[x, &low, &high], vec![])
}

/// An input of a layer that stays float, clamped to what int8 levels reach, which changes nothing.
///
/// ONNX Runtime quantizes the weights of a convolution that it finds between `DequantizeLinear` and
/// `QuantizeLinear` (1.32, `WeightBiasQuantization`), float or not; the clamp keeps it from finding
/// one. It is called `NAME/input`, those of inputs after the first have their number.
pub(super) fn guarded(
    builder: &mut Builder,
    name: &str,
    index: usize,
    x: &FloatTensor,
    params: &QParams,
) -> FloatTensor {
    let name = if index == 0 { format!("{name}/input") } else { format!("{name}/input_{index}") };
    let low = builder.scalar(format!("{name}.low"), params.dequantize(-128) as f32);
    let high = builder.scalar(format!("{name}.high"), params.dequantize(127) as f32);
    let tensor = builder.node("Clip", &name, &[&x.tensor, &low, &high], vec![]);
    FloatTensor { tensor, flat: x.flat }
}

/// A constant's tensor, repeated for every image where something but a function of two activations
/// reads it, or nothing.
pub(super) fn repeated<'a>(
    builder: &mut Builder,
    name: &str,
    op: &Op,
    made: FloatTensor,
    mut readers: impl Iterator<Item = &'a Op>,
    shape: Shape,
) -> FloatTensor {
    let first = readers.next();
    let combined = |op: &Op| matches!(op, Op::Binary(_));
    if !matches!(op, Op::Constant(_)) || (first.is_some_and(combined) && readers.all(combined)) {
        return made;
    }
    FloatTensor::image(for_each_image(builder, name, &made.tensor, input::NAME, shape))
}

/// A constant repeated for every image of the batch, for what does not do that itself.
fn for_each_image(builder: &mut Builder, name: &str, constant: &str, input: &str, shape: Shape) -> String {
    let all = builder.node("Shape", format!("{name}/input_shape"), &[input], vec![]);
    let [zero, one] = [0i64, 1].map(|n| builder.constant(format!("{name}.{n}"), &[1], [n]));
    let batch = builder.node("Slice", format!("{name}/batch"), &[&all, &zero, &one], vec![]);
    let rest = builder.constant(format!("{name}.sides"), &[3], sides(shape).map(|side| side as i64));
    let whole = builder.node("Concat", format!("{name}/shape"), &[&batch, &rest], vec![integer("axis", 0)]);
    builder.node("Expand", format!("{name}/repeated"), &[constant, &whole], vec![])
}
