//! Which operator is read by what.

use std::rc::Rc;

use super::draft::Draft;
use super::operation::Operation;
use super::tensors::Source;
use super::values::{Active, Value};
use super::{
    conv, dense, elementwise, fold, functions, normalization, pad, pool, program, recurrent, reduce, repeat, resize,
    shape_ops, softmax,
};
use crate::onnx_proto::{ModelProto, NodeProto};
use crate::{Error, Result};

/// Refuses networks that are quantized already.
pub(super) fn refuse_quantized(model: &ModelProto) -> Result<()> {
    let quantized = |kind: &str| {
        matches!(kind, "QuantizeLinear" | "DynamicQuantizeLinear")
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

/// The operators that are read, of constants or of activations, besides functions, reductions,
/// normalizations and recurrent layers.
const SUPPORTED: [&str; 45] = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "DequantizeLinear",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "If",
    "LeakyRelu",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "Range",
    "Relu",
    "Reshape",
    "Resize",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Sub",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Upsample",
];

/// Refuses a network with operators that are not read, naming all of them at once.
pub(super) fn refuse_unsupported(nodes: &[&NodeProto]) -> Result<()> {
    let read = |kind: &str| {
        SUPPORTED.contains(&kind)
            || reduce::OPERATORS.contains(&kind)
            || normalization::OPERATORS.contains(&kind)
            || recurrent::OPERATORS.contains(&kind)
            || functions::is_function(kind)
    };
    let other = |node: &&&NodeProto| !read(node.op_type()) || check_domain(node).is_err();
    let mut kinds: Vec<(String, usize, &NodeProto)> = Vec::new();
    for node in nodes.iter().filter(other) {
        let kind = match check_domain(node) {
            Ok(()) => node.op_type().to_owned(),
            Err(_) => format!("{}.{}", node.domain(), node.op_type()),
        };
        match kinds.iter_mut().find(|(known, ..)| *known == kind) {
            Some((_, count, _)) => *count += 1,
            None => kinds.push((kind, 1, node)),
        }
    }
    let hint = "docs/onnx.md lists those that are";
    match kinds.as_slice() {
        [] => Ok(()),
        [(_, 1, node)] => {
            check_domain(node).map_err(|e| e.at(program::place(node)))?;
            Err(Error::bad("the operator is not supported").hint(hint).at(program::place(node)))
        }
        kinds => {
            let list: Vec<String> = kinds
                .iter()
                .map(|(kind, count, node)| {
                    let name = program::name(node).escape_debug();
                    match count {
                        1 => format!("{} (node {name})", kind.escape_debug()),
                        _ => format!("{} ({count} nodes, {name} the first)", kind.escape_debug()),
                    }
                })
                .collect();
            Err(Error::bad(format!("has operators that are not supported: {}", list.join(", "))).hint(hint))
        }
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
            let batch = if op.lifted { None } else { Some(1) };
            let dims: Vec<usize> = batch.into_iter().chain(op.active(0)?.dims()).collect();
            return Ok(vec![Value::Constant(Rc::new(fold::shape(op, &dims)?))]);
        }
        "Split" => return shape_ops::split(op, draft),
        kind if recurrent::OPERATORS.contains(&kind) => return recurrent::recurrent(op, draft),
        "Identity" => op.active(0)?.clone(),
        "Dropout" => elementwise::dropout(op)?,
        "Cast" => elementwise::cast(op, draft)?,
        "Conv" => conv::conv(op, draft)?,
        "ConvTranspose" => conv::conv_transpose(op, draft)?,
        "Gemm" => dense::gemm(op, draft)?,
        "MatMul" => dense::matmul(op, draft)?,
        "BatchNormalization" => elementwise::batch_norm(op, draft)?,
        "Relu" | "Clip" | "LeakyRelu" | "Sigmoid" | "HardSigmoid" | "HardSwish" => elementwise::function(op, draft)?,
        "Add" | "Sub" | "Mul" => elementwise::binary(op, draft)?,
        "Div" if matches!(op.input(1), Some(Value::Constant(_))) => elementwise::binary(op, draft)?,
        kind if functions::is_function(kind) => functions::function(op, draft)?,
        "Pad" => pad::pad(op, draft)?,
        "MaxPool" | "AveragePool" => pool::pool(op, draft)?,
        "GlobalAveragePool" | "GlobalMaxPool" => pool::global(op, draft)?,
        kind if reduce::OPERATORS.contains(&kind) => reduce::reduce(op, draft)?,
        kind if normalization::OPERATORS.contains(&kind) => normalization::normalization(op, draft)?,
        "Reshape" => shape_ops::reshape(op, draft, batch)?,
        "Flatten" => shape_ops::flatten(op, draft)?,
        "Squeeze" => shape_ops::squeeze(op, draft)?,
        "Unsqueeze" => shape_ops::unsqueeze(op, draft)?,
        "Transpose" => shape_ops::transpose(op)?,
        "Slice" => shape_ops::slice(op, draft, batch)?,
        "Gather" => shape_ops::gather(op, draft)?,
        "Concat" => shape_ops::concat(op, draft)?,
        "Expand" => repeat::expand(op, draft, batch)?,
        "Tile" => repeat::tile(op, draft)?,
        "DepthToSpace" | "SpaceToDepth" => shape_ops::blocks(op, draft)?,
        "Resize" => resize::resize(op, draft)?,
        "LogSoftmax" | "Softmax" => softmax::softmax(op, draft)?,
        _ if op.inputs.iter().flatten().all(|input| matches!(input, Value::Constant(_))) => {
            return Err(Error::bad("the operator is not supported on constants"));
        }
        _ => {
            return Err(Error::bad("the operator is not supported").hint("docs/onnx.md lists those that are"));
        }
    }))
}
