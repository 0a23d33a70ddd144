//! Layers in float32: a whole float network, and layers that stay float in a quantized one.

use super::builder::{Builder, Window, integer};
use crate::model::{Op, QParams};
use crate::{Error, Result};

/// Name of the network's output.
pub(super) const LOGITS: &str = "logits";

/// A tensor of a float activation.
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

/// One layer; the classifier's output is called [`LOGITS`].
///
/// # Errors
/// An operation that has no place here.
pub(super) fn layer(builder: &mut Builder, name: &str, op: &Op, relu: bool, x: &Real) -> Result<Real> {
    match op {
        Op::Conv(conv) => {
            let weight = builder.constant(format!("{name}.weight"), conv.weight.shape(), conv.weight.iter().copied());
            let bias = builder.constant(format!("{name}.bias"), conv.bias.shape(), conv.bias.iter().copied());
            let window = Window::new(conv.kernel(), conv.stride, conv.padding, conv.groups).attributes();
            let y = builder.node("Conv", before_relu(name, "conv", relu), &[&x.tensor, &weight, &bias], window);
            Ok(Real::image(rectified(builder, name, y, relu)))
        }
        Op::GlobalAveragePool => Ok(pool(builder, name, x)),
        Op::Linear(linear) => {
            let weight =
                builder.constant(format!("{name}.weight"), linear.weight.shape(), linear.weight.iter().copied());
            let bias = builder.constant(format!("{name}.bias"), linear.bias.shape(), linear.bias.iter().copied());
            Ok(classifier(builder, name, x, &weight, &bias))
        }
        op => Err(Error::bad(format!("{} cannot be written", op.kind()))),
    }
}

/// What the last operation of a layer is called: the layer's own name, unless a `ReLU` takes it.
pub(super) fn before_relu(name: &str, operation: &str, relu: bool) -> String {
    if relu { format!("{name}/{operation}") } else { name.to_owned() }
}

/// The `ReLU` of a layer, where it has one.
pub(super) fn rectified(builder: &mut Builder, name: &str, x: String, relu: bool) -> String {
    if relu { builder.node("Relu", name, &[&x], vec![]) } else { x }
}

/// The mean over height and width; batch × channels.
pub(super) fn pool(builder: &mut Builder, name: &str, x: &Real) -> Real {
    let mean = builder.node("GlobalAveragePool", format!("{name}/mean"), &[&x.tensor], vec![]);
    Real { tensor: builder.node("Flatten", name, &[&mean], vec![]), flat: true }
}

/// `logits = weight·x + bias`.
pub(super) fn classifier(builder: &mut Builder, name: &str, x: &Real, weight: &str, bias: &str) -> Real {
    let x = flat(builder, name, x);
    let transposed = vec![integer("transB", 1)];
    let tensor = builder.node_to("Gemm", name, &[&x, weight, bias], transposed, LOGITS);
    Real { tensor, flat: true }
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
/// (1.32, `WeightBiasQuantization`), float or not; the clamp keeps it from finding one.
pub(super) fn island(builder: &mut Builder, name: &str, x: &Real, params: &QParams) -> Real {
    let low = builder.scalar(format!("{name}.input_low"), params.dequantize(-128) as f32);
    let high = builder.scalar(format!("{name}.input_high"), params.dequantize(127) as f32);
    let tensor = builder.node("Clip", format!("{name}/input"), &[&x.tensor, &low, &high], vec![]);
    Real { tensor, flat: x.flat }
}
