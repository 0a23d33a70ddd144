//! Reductions over axes: means and maxima as pooling, which has an integer form, the others in f32.

use super::draft::{Draft, DraftOp};
use super::operation::Operation;
use super::values::{Active, stored};
use crate::model::{Along, NoteKind, Op, Reduce, ReduceKind};
use crate::{Error, Result};

/// What a reduction computes; none for operators that are none.
fn kind(op: &Operation<'_>) -> Result<Option<ReduceKind>> {
    Ok(Some(match op.kind {
        "ReduceSum" => ReduceKind::Sum,
        "ReduceMean" => ReduceKind::Mean,
        "ReduceL1" => ReduceKind::SumOfMagnitudes,
        "ReduceL2" => ReduceKind::Norm,
        "ReduceSumSquare" => ReduceKind::SumOfSquares,
        "ReduceLogSum" => ReduceKind::LogOfSum,
        "ReduceLogSumExp" => ReduceKind::LogOfSumOfExponentials,
        "ReduceProd" => ReduceKind::Product,
        "ReduceMin" => ReduceKind::Min,
        "ReduceMax" => ReduceKind::Max,
        "ArgMax" => {
            if op.flag("select_last_index", false)? {
                ReduceKind::ArgMaxLast
            } else {
                ReduceKind::ArgMax
            }
        }
        "ArgMin" => {
            if op.flag("select_last_index", false)? {
                ReduceKind::ArgMinLast
            } else {
                ReduceKind::ArgMin
            }
        }
        _ => return Ok(None),
    }))
}

/// The operators that are read here.
pub(super) const OPERATORS: [&str; 12] = [
    "ArgMax",
    "ArgMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
];

/// A reduction.
pub(super) fn reduce(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let Some(kind) = kind(op)? else { return Err(Error::bad("is no reduction")) };
    let x = op.active(0)?.clone();
    let keep = op.flag("keepdims", true)?;
    let places = matches!(op.kind, "ArgMax" | "ArgMin");
    let given = if places {
        op.at_most(1)?;
        vec![op.int("axis")?.unwrap_or(0)]
    } else {
        op.at_most(2)?;
        op.list("axes", 1)?.unwrap_or_default()
    };
    let axes = if given.is_empty() {
        if op.flag("noop_with_empty_axes", false)? {
            return if kind == ReduceKind::Sum || matches!(kind, ReduceKind::Mean | ReduceKind::Min | ReduceKind::Max) {
                Ok(x)
            } else {
                Err(Error::bad("is over no axes"))
            };
        }
        if !op.lifted {
            return Err(Error::bad("is over all axes, the batch too"));
        }
        (1..=x.sides.len()).collect()
    } else {
        op.flag("noop_with_empty_axes", false)?;
        op.axes(&given, x.sides.len() + 1)?
    };
    let axes: Option<Vec<usize>> = axes.iter().map(|axis| axis.checked_sub(1)).collect();
    let axes = axes.ok_or_else(|| Error::bad("is over the batch"))?;
    if places {
        draft.note(op.name, NoteKind::Replaced, "places, which are int64 in the file, are given as float32");
    }
    match kind {
        ReduceKind::Mean => over(op, draft, &x, &axes, keep, whole_image(false)),
        ReduceKind::Max => over(op, draft, &x, &axes, keep, whole_image(true)),
        kind => lines(op, draft, &x, &axes, keep, kind),
    }
}

/// Whether a node gives places: integers in the file.
pub(super) fn gives_places(draft: &Draft, node: usize) -> bool {
    let kinds = [ReduceKind::ArgMax, ReduceKind::ArgMaxLast, ReduceKind::ArgMin, ReduceKind::ArgMinLast];
    match &draft.nodes[node].op {
        DraftOp::Op(Op::Reduce(reduce)) => kinds.contains(&reduce.kind),
        DraftOp::Op(Op::Rearrange(_)) => {
            draft.nodes[node].inputs.first().is_some_and(|&input| gives_places(draft, input))
        }
        _ => false,
    }
}

/// The lines of a node that these axes of an activation are, where it lies as channels, rows and
/// columns.
pub(super) fn along(draft: &Draft, x: &Active, axes: &[usize]) -> Option<Along> {
    if stored(&x.sides) != draft.shape(x.node) || x.sides.len() > 3 {
        return None;
    }
    let mut own: Vec<usize> = axes.iter().map(|&axis| x.base(axis)).collect();
    own.sort_unstable();
    match own.as_slice() {
        [0] => Some(Along::Channels),
        [1] => Some(Along::Height),
        [2] => Some(Along::Width),
        [1, 2] => Some(Along::Pixels),
        _ => None,
    }
}

/// One value for each line of the axes.
pub(super) fn lines(
    op: &Operation<'_>,
    draft: &mut Draft,
    x: &Active,
    axes: &[usize],
    keep: bool,
    kind: ReduceKind,
) -> Result<Active> {
    let Some(along) = along(draft, x, axes) else {
        return over(op, draft, x, axes, keep, Op::Reduce(Reduce { kind, along: Along::Pixels }));
    };
    let node = draft.operation(op.name, Op::Reduce(Reduce { kind, along }), vec![x.node])?;
    let gone: Vec<usize> = axes.iter().map(|&axis| x.base(axis)).collect();
    let sides = x.sides.iter().enumerate().map(|(axis, &side)| if gone.contains(&axis) { 1 } else { side }).collect();
    let y = Active { node, sides, ..x.clone() };
    Ok(if keep { y } else { without(&y, axes) })
}

/// Without axes of side 1.
fn without(x: &Active, axes: &[usize]) -> Active {
    let gone: Vec<usize> = axes.iter().map(|&axis| x.base(axis)).collect();
    let left = |axis: &usize| !gone.contains(axis);
    let sides = (0..x.sides.len()).filter(left).map(|axis| x.sides[axis]).collect();
    let order = x.order.as_ref().map(|order| {
        let before = |axis: usize| gone.iter().filter(|&&other| other < axis).count();
        order.iter().filter(|axis| left(axis)).map(|&axis| axis - before(axis)).collect()
    });
    Active { sides, order, ..x.clone() }
}

/// The pooling of which an image is the one window.
pub(super) fn whole_image(max: bool) -> Op {
    if max { Op::GlobalMaxPool } else { Op::GlobalAveragePool }
}

/// An operation that gives one value for each channel, over axes: those become rows and columns, the
/// others channels.
pub(super) fn over(
    op: &Operation<'_>,
    draft: &mut Draft,
    x: &Active,
    axes: &[usize],
    keep: bool,
    pooling: Op,
) -> Result<Active> {
    let dims = x.dims();
    let others: Vec<usize> = (0..dims.len()).filter(|axis| !axes.contains(axis)).collect();
    let order: Vec<usize> = others.iter().chain(axes).copied().collect();
    let moved = x.permuted(&order, &x.seen_by);
    let channels: usize = others.iter().map(|&axis| dims[axis]).product();
    let reduced: Vec<usize> = axes.iter().map(|&axis| dims[axis]).collect();
    let sides = match reduced.as_slice() {
        &[height, width] => vec![channels, height, width],
        reduced => vec![channels, reduced.iter().product(), 1],
    };
    let node = if moved.order.is_some() { draft.realize(&moved)? } else { moved.node };
    let node = draft.realize(&Active::new(node, sides, &x.seen_by))?;
    let node = draft.operation(op.name, pooling, vec![node])?;
    let kept = (0..dims.len()).filter(|axis| keep || !axes.contains(axis));
    let sides = kept.map(|axis| if axes.contains(&axis) { 1 } else { dims[axis] }).collect();
    Ok(Active::new(node, sides, op.name))
}
