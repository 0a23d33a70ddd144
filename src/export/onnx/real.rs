//! Layers in float32: a whole float network, and layers that stay float in a quantized one.

use super::builder::{Builder, Window, integer};
use super::operations::operation;
use crate::Result;
use crate::model::{GraphOutput, NodeId, Op, QParams, Shape};

/// A tensor of a float activation.
#[derive(Clone)]
pub(super) struct Real {
    /// Its name.
    pub tensor: String,
    /// Whether it is batch × channels, without height and width.
    pub flat: bool,
}

impl Real {
    /// Batch × channels × height × width.
    pub(super) fn image(tensor: String) -> Self {
        Self { tensor, flat: false }
    }
}

/// One layer; its tensor is called as the layer. `inputs` are what it reads and their shapes, `flat` tells whether a global
/// pooling gives batch × channels ([`flat_pools`]).
///
/// # Errors
/// An operation that has no place here.
pub(super) fn layer(
    builder: &mut Builder,
    name: &str,
    op: &Op,
    relu: bool,
    inputs: &[(&Real, Shape)],
    flat: bool,
) -> Result<Real> {
    match (op, inputs) {
        (Op::Conv(conv), [(x, _)]) => {
            let weight = builder.constant(format!("{name}.weight"), conv.weight.shape(), conv.weight.iter().copied());
            let bias = builder.constant(format!("{name}.bias"), conv.bias.shape(), conv.bias.iter().copied());
            let window = Window::new(conv.kernel(), conv.stride, conv.padding, conv.groups).attributes();
            let y = builder.node("Conv", before_relu(name, "conv", relu), &[&x.tensor, &weight, &bias], window);
            Ok(Real::image(rectified(builder, name, y, relu)))
        }
        (Op::GlobalAveragePool, [(x, _)]) => Ok(pool(builder, name, x, flat)),
        (Op::Linear(linear), [(x, _)]) => {
            let sides = [linear.out_channels(), linear.in_channels()];
            let weight = builder.constant(format!("{name}.weight"), &sides, linear.weight.iter().copied());
            let bias = builder.constant(format!("{name}.bias"), linear.bias.shape(), linear.bias.iter().copied());
            Ok(classifier(builder, name, x, &weight, &bias))
        }
        _ => operation(builder, name, op, relu, inputs),
    }
}

/// Whether a node is a global pooling, whether a classifier, and what it reads.
pub(super) fn flat_kind<'a, W>(op: &Op<W>, inputs: &'a [NodeId]) -> (bool, bool, &'a [NodeId]) {
    (matches!(op, Op::GlobalAveragePool), matches!(op, Op::Linear(_)), inputs)
}

/// Which nodes are global poolings that a classifier alone reads: their features need no height and width.
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

/// What the last operation of a layer is called: the layer's own name, unless a `ReLU` takes it.
pub(super) fn before_relu(name: &str, operation: &str, relu: bool) -> String {
    if relu { format!("{name}/{operation}") } else { name.to_owned() }
}

/// The `ReLU` of a layer, where it has one.
pub(super) fn rectified(builder: &mut Builder, name: &str, x: String, relu: bool) -> String {
    if relu { builder.node("Relu", name, &[&x], vec![]) } else { x }
}

/// The mean over height and width; where `flat`, batch × channels.
pub(super) fn pool(builder: &mut Builder, name: &str, x: &Real, flat: bool) -> Real {
    if !flat {
        return Real::image(builder.node("GlobalAveragePool", name, &[&x.tensor], vec![]));
    }
    let mean = builder.node("GlobalAveragePool", format!("{name}/mean"), &[&x.tensor], vec![]);
    Real { tensor: builder.node("Flatten", name, &[&mean], vec![]), flat: true }
}

/// `logits = weight·x + bias`.
pub(super) fn classifier(builder: &mut Builder, name: &str, x: &Real, weight: &str, bias: &str) -> Real {
    let x = flat(builder, name, x);
    let transposed = vec![integer("transB", 1)];
    Real { tensor: builder.node("Gemm", name, &[&x, weight, bias], transposed), flat: true }
}

/// Batch × features, for the layer called `name`.
pub(super) fn flat(builder: &mut Builder, name: &str, x: &Real) -> String {
    if x.flat { x.tensor.clone() } else { builder.node("Flatten", format!("{name}/flat"), &[&x.tensor], vec![]) }
}

/// Clamps what `QuantizeLinear` would not: it ends at the ends of the byte, the levels of `params` may end before.
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

/// The input of a layer that stays float: clamped to what int8 levels reach, which changes nothing.
///
/// ONNX Runtime quantizes the weights of a convolution that it finds between `DequantizeLinear` and `QuantizeLinear`
/// (1.32, `WeightBiasQuantization`), float or not; the clamp, called `name`, keeps it from finding one.
pub(super) fn island(builder: &mut Builder, name: &str, x: &Real, params: &QParams) -> Real {
    let low = builder.scalar(format!("{name}.low"), params.dequantize(-128) as f32);
    let high = builder.scalar(format!("{name}.high"), params.dequantize(127) as f32);
    let tensor = builder.node("Clip", name, &[&x.tensor, &low, &high], vec![]);
    Real { tensor, flat: x.flat }
}

/// What the input of an island is called: those after the first have their number.
pub(super) fn island_input(name: &str, index: usize) -> String {
    if index == 0 { format!("{name}/input") } else { format!("{name}/input_{index}") }
}
