//! The batch as an axis like any other.
//!
//! Values are kept without the batch, which is the first axis of the file's. A network that is made
//! for one image may move that axis, or leave it out: the batch is 1, so that the values are the
//! same. Such a value is *lifted*: all of the file's axes are among its sides, behind a batch that
//! the file does not have. An operation on it counts its axes one further.

use super::draft::Draft;
use super::functions;
use super::operation::Operation;
use super::operators;
use super::recurrent;
use super::reduce;
use super::tensors::Source;
use super::values::{Active, Value};
use crate::{Error, Result};

/// Operators that take values whose first axis is not the batch, besides functions, reductions and
/// recurrent layers.
const ANY_AXIS: [&str; 28] = [
    "Add",
    "Cast",
    "Clip",
    "Concat",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Gemm",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "LogSoftmax",
    "MatMul",
    "Mul",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "Sub",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Operators that may move the batch, or leave it out, besides reductions and recurrent layers.
const MOVES: [&str; 13] = [
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "LogSoftmax",
    "Reshape",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

fn moves(kind: &str) -> bool {
    MOVES.contains(&kind) || reduce::OPERATORS.contains(&kind) || recurrent::OPERATORS.contains(&kind)
}

/// What an operation gives, and for each result whether it is lifted; `lifted` says whether each
/// input is, and `batch` how many images the file is made for, where it says that.
///
/// # Errors
/// Those of [`operators::run`].
pub(super) fn run(
    op: &mut Operation<'_>,
    lifted: &[bool],
    draft: &mut Draft,
    source: &Source,
    batch: Option<usize>,
) -> Result<Vec<(Value, bool)>> {
    let any = lifted.contains(&true);
    let first = if any {
        let takes = ANY_AXIS.contains(&op.kind) || functions::is_function(op.kind) || moves(op.kind);
        if !takes {
            return Err(Error::bad("reads an activation whose first axis is not the batch"));
        }
        None
    } else {
        match operators::run(op, draft, source, batch) {
            Ok(values) => return Ok(values.into_iter().map(|value| (value, false)).collect()),
            Err(error) if batch.unwrap_or(1) != 1 || !moves(op.kind) => return Err(error),
            Err(error) => Some(error),
        }
    };
    for (index, input) in op.inputs.iter_mut().enumerate() {
        if let Some(Value::Active(active)) = input
            && !lifted.get(index).copied().unwrap_or(false)
        {
            *active = lift(active);
        }
    }
    op.lifted = true;
    let values = operators::run(op, draft, source, None).map_err(|error| first.unwrap_or(error))?;
    Ok(values.into_iter().map(settled).collect())
}

/// With the batch as an axis of 1 behind another.
fn lift(x: &Active) -> Active {
    let sides = [&[1], x.sides.as_slice()].concat();
    let order = x.order.as_ref().map(|order| std::iter::once(0).chain(order.iter().map(|axis| axis + 1)).collect());
    Active { sides, order, ..x.clone() }
}

/// A value that begins with an axis of 1 has a batch again.
fn settled(value: Value) -> (Value, bool) {
    let Value::Active(mut x) = value else { return (value, false) };
    if x.dims().first() != Some(&1) {
        return (Value::Active(x), true);
    }
    let first = x.base(0);
    x.sides.remove(first);
    x.order = x.order.map(|order| order[1..].iter().map(|&axis| axis - usize::from(axis > first)).collect());
    (Value::Active(x), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifted_values_settle_where_they_begin_with_one() {
        let x = Active::new(0, vec![3, 4, 5], "x").permuted(&[2, 0, 1], "t");
        let up = lift(&x);
        assert_eq!((up.dims(), up.order.as_deref()), (vec![1, 5, 3, 4], Some(&[0, 3, 1, 2][..])));
        assert!(matches!(settled(Value::Active(up.clone())), (Value::Active(y), false) if y == x));
        let moved = up.permuted(&[1, 0, 2, 3], "u");
        assert!(matches!(settled(Value::Active(moved)), (Value::Active(y), true) if y.dims() == [5, 1, 3, 4]));
    }
}
