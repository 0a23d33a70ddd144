//! Pooling.

use super::conv::{Windows, before_padding, extent, image};
use super::draft::{Draft, DraftOp};
use super::operation::Operation;
use super::reduce::{over, whole_image};
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
    over(op, draft, &x, &axes, true, whole_image(op.kind == "GlobalMaxPool"))
}
