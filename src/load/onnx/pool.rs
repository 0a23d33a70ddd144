//! Pooling, and means over axes.

use super::conv::{Windows, before_padding, extent, image};
use super::draft::{Draft, DraftOp};
use super::operation::Operation;
use super::shape_ops::picked;
use super::values::Active;
use crate::model::{Activation, Op, Pool, PoolKind};
use crate::{Error, Result};

/// `MaxPool` and `AveragePool`.
pub(super) fn pool(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let node = image(draft, op.active(0)?)?;
    let kernel = op.sizes("kernel_shape", 1)?.ok_or_else(|| Error::bad("its attribute `kernel_shape` is missing"))?;
    let windows = Windows::of(op, kernel, draft.shape(node))?;
    let ceil = op.flag("ceil_mode", false)?;
    let max = op.kind == "MaxPool";
    let counted = if max {
        op.flag("storage_order", false)?;
        false
    } else {
        op.flag("count_include_pad", false)?
    };
    if windows.dilation != [1; 2] {
        let kind = if max { PoolKind::Max } else { PoolKind::Average };
        return dilated(op, draft, node, &windows, ceil, kind);
    }
    let (before, around) = before_padding(draft, node);
    let mut padding = windows.pads;
    let mut kind = match (max, counted) {
        (true, _) => PoolKind::Max,
        (false, true) => PoolKind::AverageWithPadding,
        (false, false) => PoolKind::Average,
    };
    let mut node = node;
    if around != [0; 4] {
        // Zeros count in a mean, but not the padding of the pool itself; in a maximum they do not
        // where nothing is less.
        let merges = if max { never_negative(draft, before) } else { counted || padding == [0; 4] };
        let inside = (0..4).all(|side| padding[side] + around[side] < kernel[side % 2]);
        if merges && inside {
            node = before;
            padding = std::array::from_fn(|side| padding[side] + around[side]);
            kind = if max { kind } else { PoolKind::AverageWithPadding };
        }
    }
    if (0..4).any(|side| padding[side] >= kernel[side % 2]) {
        return Err(Error::bad(format!("its padding {padding:?} is not smaller than its windows of {kernel:?}")));
    }
    let shape = draft.shape(node);
    let whole = kernel == [shape.height, shape.width] && padding == [0; 4];
    let model =
        if whole { whole_image(max) } else { Op::Pool(Pool { kind, kernel, stride: windows.stride, padding, ceil }) };
    let node = draft.operation(op.name, model, vec![node])?;
    let shape = draft.shape(node);
    Ok(Active::new(node, vec![shape.channels, shape.height, shape.width], op.name))
}

/// Windows whose rows and columns are not neighbours: those of each window are put side by side
/// first.
///
/// A maximum does not change where a tap beyond the image is replaced by another one of its window;
/// a mean does.
fn dilated(
    op: &Operation<'_>,
    draft: &mut Draft,
    node: usize,
    windows: &Windows,
    ceil: bool,
    kind: PoolKind,
) -> Result<Active> {
    let shape = draft.shape(node);
    let kernel = windows.kernel;
    let reach = [0, 1].map(|axis| extent(kernel[axis], windows.dilation[axis]));
    let outline = Pool { kind, kernel: reach, stride: windows.stride, padding: windows.pads, ceil };
    let mut x = Active::new(node, vec![shape.channels, shape.height, shape.width], op.name);
    for (axis, side) in [shape.height, shape.width].into_iter().enumerate() {
        let count = outline.side(side, axis);
        draft.allocate(count.saturating_mul(kernel[axis]))?;
        let mut entries = Vec::with_capacity(count * kernel[axis]);
        for window in 0..count {
            let tap = |tap: usize| {
                let place = window * windows.stride[axis] + tap * windows.dilation[axis];
                place.checked_sub(windows.pads[axis]).filter(|&place| place < side)
            };
            let instead = if kind == PoolKind::Max { (0..kernel[axis]).find_map(tap) } else { None };
            for place in (0..kernel[axis]).map(|at| tap(at).or(instead)) {
                entries.push(place.ok_or_else(|| {
                    Error::bad(format!("with the dilations {:?} a window reaches into the padding", windows.dilation))
                })?);
            }
        }
        x = picked(draft, &x, axis + 1, entries, &format!("{}/windows", op.name))?;
    }
    let pool = Pool { kind, kernel, stride: kernel, padding: [0; 4], ceil: false };
    let node = draft.operation(op.name, Op::Pool(pool), vec![x.node])?;
    let shape = draft.shape(node);
    Ok(Active::new(node, vec![shape.channels, shape.height, shape.width], op.name))
}

/// Whether none of the values can be below zero.
fn never_negative(draft: &Draft, node: usize) -> bool {
    match &draft.nodes[node].op {
        DraftOp::Op(Op::Activation(activation)) => match activation {
            Activation::Clip { low, .. } => *low >= 0.0,
            Activation::Sigmoid | Activation::HardSigmoid { .. } => true,
            _ => false,
        },
        _ => false,
    }
}

/// `GlobalAveragePool` and `GlobalMaxPool`.
pub(super) fn global(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let x = op.active(0)?;
    let x = draft.image(x)?;
    let axes: Vec<usize> = (1..x.sides.len()).collect();
    over(op, draft, &x, &axes, true, op.kind == "GlobalMaxPool")
}

/// `ReduceMean` and `ReduceMax`.
pub(super) fn reduce(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(2)?;
    let x = op.active(0)?.clone();
    let given = op.list("axes", 1)?.unwrap_or_default();
    let keep = op.flag("keepdims", true)?;
    if given.is_empty() {
        if op.flag("noop_with_empty_axes", false)? {
            return Ok(x);
        }
        return Err(Error::bad("is over all axes, the batch too"));
    }
    op.flag("noop_with_empty_axes", false)?;
    let axes = op.axes(&given, x.sides.len() + 1)?;
    let axes: Option<Vec<usize>> = axes.iter().map(|axis| axis.checked_sub(1)).collect();
    let axes = axes.ok_or_else(|| Error::bad("is over the batch"))?;
    over(op, draft, &x, &axes, keep, op.kind == "ReduceMax")
}

/// The pooling of which an image is the one window.
fn whole_image(max: bool) -> Op {
    if max { Op::GlobalMaxPool } else { Op::GlobalAveragePool }
}

/// The mean or the maximum over axes: those become rows and columns, the others channels.
fn over(op: &Operation<'_>, draft: &mut Draft, x: &Active, axes: &[usize], keep: bool, max: bool) -> Result<Active> {
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
    let node = draft.operation(op.name, whole_image(max), vec![node])?;
    let kept = (0..dims.len()).filter(|axis| keep || !axes.contains(axis));
    let sides = kept.map(|axis| if axes.contains(&axis) { 1 } else { dims[axis] }).collect();
    Ok(Active::new(node, sides, op.name))
}
