//! `Softmax` and its logarithm.

use super::draft::Draft;
use super::operation::Operation;
use super::tensors::product;
use super::values::{Active, stored};
use crate::model::{Along, Axis, Binary, Op, Reduce, ReduceKind};
use crate::{Error, Result};

/// `Softmax` or `LogSoftmax`: along one axis since opset 13, before that along all from one on, as
/// one.
pub(super) fn softmax(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let x = op.active(0)?.clone();
    let dims = x.dims();
    let given = op.int("axis")?.unwrap_or(if op.opset < 13 { 1 } else { -1 });
    let axis = op.axis(given, dims.len() + 1)?;
    let axis = axis.checked_sub(1).ok_or_else(|| Error::bad("is over the batch"))?;
    let all = op.opset < 13 && dims[axis + 1..].iter().any(|&side| side != 1);
    if !all && stored(&x.sides) == draft.shape(x.node) && x.sides.len() <= 3 {
        let node = along(op, draft, x.node, [Axis::Channels, Axis::Height, Axis::Width][x.base(axis)])?;
        return Ok(x.with_node(node));
    }
    let node = if x.order.is_some() { draft.realize(&x)? } else { x.node };
    let part = |sides: &[usize]| product(sides).unwrap_or(usize::MAX);
    let (before, after) = (part(&dims[..axis]), part(&dims[axis + 1..]));
    let sides = if all { vec![before, dims[axis] * after, 1] } else { vec![before, dims[axis], after] };
    let node = draft.realize(&Active::new(node, sides, op.name))?;
    let node = along(op, draft, node, Axis::Height)?;
    Ok(Active::new(node, dims, op.name))
}

/// The operation along one axis of a node. The logarithm is `d − ln Σ e^d` of the distance d from
/// the largest: it has a value where the exponential alone would be 0, and keeps its digits where
/// all values are large.
fn along(op: &Operation<'_>, draft: &mut Draft, node: usize, axis: Axis) -> Result<usize> {
    if op.kind == "Softmax" {
        return draft.operation(op.name, Op::Softmax(axis), vec![node]);
    }
    let along = match axis {
        Axis::Channels => Along::Channels,
        Axis::Height => Along::Height,
        Axis::Width => Along::Width,
    };
    let mut part = |what: &str, op_of: Op, inputs| draft.operation(&format!("{}/{what}", op.name), op_of, inputs);
    let largest = part("largest", Op::Reduce(Reduce { kind: ReduceKind::Max, along }), vec![node])?;
    let distance = part("distance", Op::Binary(Binary::Sub), vec![node, largest])?;
    let sum = Op::Reduce(Reduce { kind: ReduceKind::LogOfSumOfExponentials, along });
    let sum = part("sum", sum, vec![distance])?;
    draft.operation(op.name, Op::Binary(Binary::Sub), vec![distance, sum])
}
