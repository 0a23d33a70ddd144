//! A quantized model to bytes.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, TensorView, serialize};

use super::header::{Header, HeaderNode, HeaderOp, KIND, VERSION};
use crate::export::check::check;
use crate::model::{CoarseScale, Computed, Constants, Integer, Op, QConv, QuantizedGraph, Table, Weights};
use crate::tensor_file::METADATA_KEY;
use crate::{Error, Result};

/// A tensor on its way out.
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The file's bytes; the same model gives the same bytes.
///
/// # Errors
/// Where the model could not be read back: it contradicts itself.
pub fn to_bytes(graph: &QuantizedGraph) -> Result<Vec<u8>> {
    check(graph)?;
    let nodes = graph.nodes.iter().map(|node| HeaderNode {
        name: node.name.clone(),
        op: HeaderOp::of(&node.computed),
        inputs: node.inputs.clone(),
        relu: node.relu,
        output: node.output,
        exponents: node.exponents.clone(),
        split: node.split.clone(),
    });
    let header = Header {
        kind: KIND.into(),
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").into(),
        name: graph.name.clone(),
        input: graph.input.clone(),
        classes: graph.classes.clone(),
        source_digest: graph.source_digest.clone(),
        options: graph.options.clone(),
        calibration: graph.calibration.clone(),
        nodes: nodes.collect(),
        outputs: Some(graph.outputs.clone()),
    };
    let header = serde_json::to_string(&header).map_err(|e| Error::bad("the model cannot be written").because(e))?;
    let mut tensors = Vec::new();
    for node in &graph.nodes {
        push(&mut tensors, &node.name, &node.computed);
    }
    let failed = |e: safetensors::SafeTensorError| Error::bad("the model cannot be written").because(e);
    let views = tensors.iter().map(|t| Ok((t.name.as_str(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes)?)));
    let views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(failed)?;
    serialize(views, Some(HashMap::from([(METADATA_KEY.to_owned(), header)]))).map_err(failed)
}

/// The tensors of one operation.
fn push(tensors: &mut Vec<Tensor>, name: &str, computed: &Computed) {
    let mut add = |part: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>| {
        tensors.push(Tensor { name: format!("{name}.{part}"), dtype, shape: shape.to_vec(), bytes });
    };
    match computed {
        Computed::Float(Op::Conv(conv)) => {
            add("weight", Dtype::F32, conv.weight.shape(), le(&conv.weight, f32::to_le_bytes));
            add("bias", Dtype::F32, conv.bias.shape(), le(&conv.bias, f32::to_le_bytes));
        }
        Computed::Float(Op::Linear(linear)) => {
            let sides = [linear.out_channels(), linear.in_channels()];
            add("weight", Dtype::F32, &sides, le(&linear.weight, f32::to_le_bytes));
            add("bias", Dtype::F32, linear.bias.shape(), le(&linear.bias, f32::to_le_bytes));
        }
        Computed::Float(Op::Constant(values)) => {
            add("value", Dtype::F32, values.shape(), le(values, f32::to_le_bytes));
        }
        Computed::Float(Op::Recurrent(recurrent)) => {
            for (part, sides, values) in recurrent.tensors() {
                add(part, Dtype::F32, &sides, le(&values, f32::to_le_bytes));
            }
        }
        // All there is to say about these is in the entry.
        Computed::Float(_) => {}
        Computed::Integer(integer) => push_integer(&mut add, integer),
    }
}

/// The tensors of an operation in integers: its weights, and those of its constants that are not in
/// the entry.
fn push_integer(add: &mut impl FnMut(&str, Dtype, &[usize], Vec<u8>), integer: &Integer) {
    if let Some(conv) = integer.op().weights() {
        push_layer(add, conv);
    }
    match integer.constants() {
        Constants::Table(table) => push_table(add, "table", table),
        Constants::ChannelTables(tables) => {
            let levels = le(tables.iter().flat_map(|table| table.0.iter()), i8::to_le_bytes);
            add("table", Dtype::I8, &[tables.len(), 256], levels);
        }
        Constants::Tables(tables) => {
            for (i, table) in tables.iter().enumerate().filter_map(|(i, table)| Some((i, table.as_ref()?))) {
                push_table(add, &format!("table{i}"), table);
            }
        }
        Constants::Multipliers(multipliers) => {
            let (count, n) = ([multipliers.len()], multipliers.iter().map(|m| m.right_shift).collect());
            let m = multipliers.iter().map(|m| &m.multiplier);
            add("multiplier", Dtype::I32, &count, le(m, i32::to_le_bytes));
            add("right_shift", Dtype::U8, &count, n);
        }
        Constants::None | Constants::Multiplier(_) | Constants::Binary(_) => {}
    }
}

fn push_table(add: &mut impl FnMut(&str, Dtype, &[usize], Vec<u8>), part: &str, table: &Table) {
    add(part, Dtype::I8, &[table.0.len()], le(table.0.iter(), i8::to_le_bytes));
}

/// The tensors of a quantized layer.
fn push_layer(add: &mut impl FnMut(&str, Dtype, &[usize], Vec<u8>), conv: &QConv) {
    let channels = [conv.out_channels()];
    add("fine", Dtype::I8, conv.fine.shape(), le(&conv.fine, i8::to_le_bytes));
    add("scale", Dtype::F32, &channels, le(&conv.scale, f32::to_le_bytes));
    add("bias", Dtype::I32, &channels, le(&conv.bias, i32::to_le_bytes));
    if !conv.multiplier.is_empty() {
        add("multiplier", Dtype::I32, &channels, le(&conv.multiplier, i32::to_le_bytes));
        add("right_shift", Dtype::U8, &channels, conv.right_shift.to_vec());
    }
    let Some(coarse) = &conv.coarse else { return };
    add("coarse", Dtype::I8, coarse.weights.shape(), le(&coarse.weights, i8::to_le_bytes));
    match &coarse.scale {
        CoarseScale::Shift(shift) => add("shift", Dtype::U8, &channels, shift.to_vec()),
        CoarseScale::Own { scale, multiplier, bias } => {
            add("coarse_scale", Dtype::F32, &channels, le(scale, f32::to_le_bytes));
            add("coarse_multiplier", Dtype::I32, &channels, le(multiplier, i32::to_le_bytes));
            add("coarse_bias", Dtype::I32, &channels, le(bias, i32::to_le_bytes));
        }
    }
}

/// The values in logical order, lowest byte first.
fn le<'a, T: 'a + Copy, const N: usize>(values: impl IntoIterator<Item = &'a T>, bytes: fn(T) -> [u8; N]) -> Vec<u8> {
    values.into_iter().flat_map(|&value| bytes(value)).collect()
}
