//! Which operator is read by what.

use std::rc::Rc;

use super::draft::Draft;
use super::operation::Operation;
use super::tensors::Source;
use super::values::{Active, Value};
use super::{conv, dense, elementwise, fold, pad, pool, program, resize, shape_ops, softmax};
use crate::onnx_proto::{ModelProto, NodeProto};
use crate::{Error, Result};

/// Refuses networks that are quantized already.
pub(super) fn refuse_quantized(model: &ModelProto) -> Result<()> {
    let quantized = |kind: &str| {
        kind.contains("QuantizeLinear")
            || kind.starts_with("QLinear")
            || matches!(kind, "ConvInteger" | "MatMulInteger")
    };
    let mut nodes = model.graph.iter().flat_map(|graph| &graph.node);
    match nodes.find(|node| quantized(node.op_type())) {
        Some(node) => Err(Error::bad("the network is quantized already")
            .hint("give the float network that it was made from")
            .at(program::place(node))),
        None => Ok(()),
    }
}

/// Refuses operators that are not of the standard's domain.
pub(super) fn check_domain(node: &NodeProto) -> Result<()> {
    match node.domain() {
        "" | "ai.onnx" => Ok(()),
        other => Err(Error::bad(format!(
            "the operator is of the domain `{}`; those of the ONNX standard are supported",
            other.escape_debug()
        ))),
    }
}

/// What an operation gives: a constant where all its inputs are, else nodes of the draft; `batch`
/// is the number of images that the file is made for, where it says one.
///
/// # Errors
/// An operator or an attribute that is not supported, inputs that do not fit.
pub(super) fn run(op: &Operation<'_>, draft: &mut Draft, source: &Source, batch: Option<usize>) -> Result<Vec<Value>> {
    if op.inputs.iter().flatten().all(|input| matches!(input, Value::Constant(_)))
        && let Some(tensor) = fold::fold(op, draft, source)?
    {
        return Ok(vec![Value::Constant(tensor)]);
    }
    let one = |active: Active| vec![Value::Active(active)];
    Ok(one(match op.kind {
        "Shape" => {
            // One image at a time: the batch is 1.
            let dims: Vec<usize> = std::iter::once(1).chain(op.active(0)?.dims()).collect();
            return Ok(vec![Value::Constant(Rc::new(fold::shape(op, &dims)?))]);
        }
        "Split" => return shape_ops::split(op, draft),
        "Identity" => op.active(0)?.clone(),
        "Dropout" => elementwise::dropout(op)?,
        "Cast" => elementwise::cast(op)?,
        "Conv" => conv::conv(op, draft)?,
        "ConvTranspose" => conv::conv_transpose(op, draft)?,
        "Gemm" => dense::gemm(op, draft)?,
        "MatMul" => dense::matmul(op, draft)?,
        "BatchNormalization" => elementwise::batch_norm(op, draft)?,
        "Relu" | "Clip" | "LeakyRelu" | "Sigmoid" | "HardSigmoid" | "HardSwish" => elementwise::function(op, draft)?,
        "Add" | "Sub" | "Mul" | "Div" => elementwise::binary(op, draft)?,
        "Pad" => pad::pad(op, draft)?,
        "MaxPool" | "AveragePool" => pool::pool(op, draft)?,
        "GlobalAveragePool" | "GlobalMaxPool" => pool::global(op, draft)?,
        "ReduceMean" | "ReduceMax" => pool::reduce(op, draft)?,
        "Reshape" => shape_ops::reshape(op, draft, batch)?,
        "Flatten" => shape_ops::flatten(op, draft)?,
        "Squeeze" => shape_ops::squeeze(op, draft)?,
        "Unsqueeze" => shape_ops::unsqueeze(op, draft)?,
        "Transpose" => shape_ops::transpose(op)?,
        "Slice" => shape_ops::slice(op, draft, batch)?,
        "Gather" => shape_ops::gather(op, draft)?,
        "Concat" => shape_ops::concat(op, draft)?,
        "DepthToSpace" | "SpaceToDepth" => shape_ops::blocks(op, draft)?,
        "Resize" => resize::resize(op, draft)?,
        "Softmax" => softmax::softmax(op, draft)?,
        "Upsample" => {
            return Err(
                Error::bad("the operator ended with opset 9").hint("export the network again: Resize replaced it")
            );
        }
        _ if op.inputs.iter().flatten().all(|input| matches!(input, Value::Constant(_))) => {
            return Err(Error::bad("the operator is not supported on constants"));
        }
        _ => {
            return Err(Error::bad("the operator is not supported").hint("docs/onnx.md lists those that are"));
        }
    }))
}
