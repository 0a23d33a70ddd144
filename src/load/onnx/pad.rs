//! `Pad`.

use super::draft::{Draft, DraftOp};
use super::elementwise::constant;
use super::operation::{self, Operation};
use super::shape_ops::{Cut, kept, picked};
use super::tensors::{Tensor, Values, product};
use super::values::{Active, stored};
use crate::model::{Axis, Op};
use crate::{Error, Result};

/// `Pad`: zeros around rows and columns, another value around any axis but the batch, or more of
/// what is there. A pad below 0 leaves entries out.
pub(super) fn pad(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(4)?;
    let mut x = op.active(0)?.clone();
    let (pads, cuts) = amounts(op, x.sides.len() + 1)?;
    for (axis, [before, after]) in cuts.into_iter().enumerate().filter(|(_, cuts)| *cuts != [0; 2]) {
        let axis = axis.checked_sub(1).ok_or_else(|| Error::bad("of the batch is not supported"))?;
        let side = x.dims()[axis];
        let left = side.checked_sub(before).and_then(|left| left.checked_sub(after)).filter(|&left| left > 0);
        let left = left.ok_or_else(|| Error::bad(format!("leaves nothing of a side of {side}")))?;
        x = kept(draft, &x, Cut::forwards(axis, before, 1, left), &format!("{}/crop", op.name))?;
    }
    match op.word("mode", &["constant", "edge", "reflect", "wrap"])? {
        "constant" => zeros(op, draft, x, &pads),
        mode => repeated(op, draft, x, &pads, mode),
    }
}

/// Entries before and behind each axis.
type Amounts = Vec<[usize; 2]>;

/// How many entries are put before and behind each axis, and how many are left out there.
fn amounts(op: &Operation<'_>, rank: usize) -> Result<(Amounts, Amounts)> {
    let given = op.needed(1)?.as_ints()?;
    let axes = match op.constant(3)? {
        None => (0..rank).collect(),
        Some(axes) => axes.as_ints()?.iter().map(|&axis| operation::axis(axis, rank)).collect::<Result<Vec<_>>>()?,
    };
    if given.len() != 2 * axes.len() {
        return Err(Error::bad(format!("has {} pads for {} axes", given.len(), axes.len())));
    }
    let (mut pads, mut cuts) = (vec![[0; 2]; rank], vec![[0; 2]; rank]);
    for (index, &axis) in axes.iter().enumerate() {
        for (end, &pad) in [given[index], given[index + axes.len()]].iter().enumerate() {
            let size = operation::size(pad.saturating_abs(), 0);
            let size = size.ok_or_else(|| Error::bad(format!("by {pad} is not supported")))?;
            if pad < 0 { cuts[axis][end] = size } else { pads[axis][end] = size }
        }
    }
    Ok((pads, cuts))
}

fn zeros(op: &Operation<'_>, draft: &mut Draft, x: Active, amounts: &[[usize; 2]]) -> Result<Active> {
    if let Some(value) = op.constant(2)?
        && let Some(&value) = value.as_floats()?.iter().find(|&&v| v != 0.0)
    {
        return filled(op, draft, &x, amounts, value);
    }
    let mut pads = [0; 4];
    for (axis, &[before, after]) in amounts.iter().enumerate().filter(|(_, amounts)| **amounts != [0; 2]) {
        // The axis of the node that it is: rows and columns alone can be padded.
        match axis.checked_sub(1).map(|axis| x.base(axis)) {
            Some(base @ 1..=2) if amounts.len() == 4 => (pads[base - 1], pads[base + 1]) = (before, after),
            _ => return Err(Error::bad(format!("of axis {axis} is not supported; rows and columns are"))),
        }
    }
    if pads == [0; 4] {
        return Ok(x);
    }
    let x = draft.image(&Active { seen_by: op.name.to_owned(), ..x })?;
    let mut sides = x.sides.clone();
    sides[1] += pads[0] + pads[2];
    sides[2] += pads[1] + pads[3];
    let node = draft.push(op.name, DraftOp::Pad(pads), vec![x.node], stored(&sides))?;
    Ok(Active { node, sides, ..x })
}

/// Constants in front of and behind what is there, along one axis after the other.
fn filled(op: &Operation<'_>, draft: &mut Draft, x: &Active, pads: &[[usize; 2]], value: f32) -> Result<Active> {
    let mut dims = x.dims();
    let mut node = draft.realize(x)?;
    for (axis, &[before, after]) in pads.iter().enumerate().filter(|(_, pads)| **pads != [0; 2]) {
        let axis = axis.checked_sub(1).ok_or_else(|| Error::bad("of the batch is not supported"))?;
        // As an array of these sides is stored.
        let along = match axis {
            0 => Axis::Channels,
            1 if dims.len() <= 3 => Axis::Height,
            axis if axis + 1 == dims.len() => Axis::Width,
            _ => return Err(Error::bad(format!("of axis {} of {} is not supported", axis + 1, dims.len() + 1))),
        };
        let mut inputs = vec![node];
        for (place, count) in [(0, before), (usize::MAX, after)] {
            if count == 0 {
                continue;
            }
            let sides: Vec<usize> = (0..dims.len()).map(|a| if a == axis { count } else { dims[a] }).collect();
            let len = product(&sides).ok_or_else(|| Error::bad("is too large"))?;
            draft.allocate(len)?;
            let tensor = Tensor { dims: [&[1], sides.as_slice()].concat(), values: Values::Float(vec![value; len]) };
            let edge = constant(draft, &tensor, &format!("{}/value", op.name))?;
            inputs.insert(place.min(inputs.len()), edge.node);
        }
        dims[axis] = dims[axis].checked_add(before + after).ok_or_else(|| Error::bad("is too large"))?;
        node = draft.operation(op.name, Op::Concat(along), inputs)?;
    }
    Ok(Active::new(node, dims, op.name))
}

/// The entries of an axis go on as `mode` says: the last one again and again, backwards from the
/// one before it, or from the other end.
fn repeated(op: &Operation<'_>, draft: &mut Draft, x: Active, pads: &[[usize; 2]], mode: &str) -> Result<Active> {
    let dims = x.dims();
    let mut y = x;
    for (axis, &[before, after]) in pads.iter().enumerate().filter(|(_, pads)| **pads != [0; 2]) {
        let axis = axis.checked_sub(1).ok_or_else(|| Error::bad("of the batch is not supported"))?;
        let side = dims[axis];
        let most = match mode {
            "edge" => operation::MOST,
            "reflect" => side - 1,
            _ => side,
        };
        if before.max(after) > most {
            return Err(Error::bad(format!(
                "by {before} and {after} is more than a side of {side} has in mode {mode}"
            )));
        }
        let entry = |place: usize| match mode {
            "edge" => place.saturating_sub(before).min(side - 1),
            "reflect" if place < before => before - place,
            "reflect" if place - before >= side => 2 * (side - 1) - (place - before),
            "reflect" => place - before,
            _ => (place + side - before) % side,
        };
        let count = before + side + after;
        draft.allocate(count)?;
        y = picked(draft, &y, axis, (0..count).map(entry).collect(), op.name)?;
    }
    Ok(y)
}
