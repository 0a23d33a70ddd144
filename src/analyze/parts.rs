//! What of a network is quantized, node by node.

use crate::error::{Error, Result};
use crate::model::{Computed, Conv, Graph, NodeId, Op, QConv, QParams, QuantizedGraph};
use crate::quantize::dequantize;

/// What quantizing means for one node: its weights, and the activations that it reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// The node.
    pub(crate) node: NodeId,
    /// Its operation with the real weights and biases that its integers stand for, where it has any.
    pub(crate) weights: Option<Op>,
    /// How each of its inputs is stored; none where it is not.
    pub(crate) inputs: Vec<Option<QParams>>,
}

/// The nodes of which something is quantized, in order.
///
/// An activation that is stored counts where it is read. What only moves levels reads what it gives,
/// and adds nothing to what its own reader has.
///
/// # Errors
/// If the quantized network is not one of this graph.
pub(crate) fn parts(graph: &Graph, quantized: &QuantizedGraph) -> Result<Vec<Part>> {
    let mut found = Vec::new();
    for (id, (node, int8)) in graph.nodes.iter().zip(&quantized.nodes).enumerate() {
        let inputs: Vec<Option<QParams>> = node.inputs.iter().map(|&input| quantized.nodes[input].output).collect();
        let moves = matches!(int8.computed, Computed::Integer(_)) && node.op.passes_values();
        let weights = match (&node.op, int8.computed.int8_weights()) {
            (_, None) => None,
            (Op::Linear(_), Some(conv)) => Some(Op::Linear(real(conv, input_of(&inputs, &node.name)?))),
            (_, Some(conv)) => Some(Op::Conv(real(conv, input_of(&inputs, &node.name)?))),
        };
        if weights.is_some() || (!moves && inputs.iter().any(Option::is_some)) {
            found.push(Part { node: id, weights, inputs });
        }
    }
    Ok(found)
}

/// How what a layer in integers reads is stored.
fn input_of(inputs: &[Option<QParams>], name: &str) -> Result<QParams> {
    let input = inputs.first().copied().flatten();
    input.ok_or_else(|| Error::bad("its input is not stored as levels").at(format!("layer {name}")))
}

/// The weights and biases that the integers of a layer stand for, its input being stored so.
pub(super) fn real(conv: &QConv, input: QParams) -> Conv {
    let biases = conv.bias_without_zero_point(input.zero_point);
    let step = |scale: f32| f64::from(input.scale) * f64::from(scale);
    Conv {
        weight: dequantize(conv).mapv(|w| w as f32),
        bias: biases.iter().zip(&conv.scale).map(|(&bias, &scale)| (bias as f64 * step(scale)) as f32).collect(),
        stride: conv.stride,
        padding: conv.padding,
        groups: conv.groups,
    }
}
