//! `Softmax`.

use super::draft::Draft;
use super::operation::Operation;
use super::tensors::product;
use super::values::{Active, stored};
use crate::model::{Axis, Op};
use crate::{Error, Result};

/// `Softmax`: along one axis since opset 13, before that along all from one on, as one.
pub(super) fn softmax(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let x = op.active(0)?.clone();
    let dims = x.dims();
    let given = op.int("axis")?.unwrap_or(if op.opset < 13 { 1 } else { -1 });
    let axis = op.axis(given, dims.len() + 1)?;
    let axis = axis.checked_sub(1).ok_or_else(|| Error::bad("is over the batch"))?;
    let all = op.opset < 13 && dims[axis + 1..].iter().any(|&side| side != 1);
    if !all && stored(&x.sides) == draft.shape(x.node) && x.sides.len() <= 3 {
        let along = [Axis::Channels, Axis::Height, Axis::Width][x.base(axis)];
        let node = draft.operation(op.name, Op::Softmax(along), vec![x.node])?;
        return Ok(x.with_node(node));
    }
    let node = if x.order.is_some() { draft.realize(&x)? } else { x.node };
    let part = |sides: &[usize]| product(sides).unwrap_or(usize::MAX);
    let (before, after) = (part(&dims[..axis]), part(&dims[axis + 1..]));
    let sides = if all { vec![before, dims[axis] * after, 1] } else { vec![before, dims[axis], after] };
    let node = draft.realize(&Active::new(node, sides, op.name))?;
    let node = draft.operation(op.name, Op::Softmax(Axis::Height), vec![node])?;
    Ok(Active::new(node, dims, op.name))
}
