//! `Pad`.

use super::draft::{Draft, DraftOp};
use super::operation::{self, Operation};
use super::shape_ops::picked;
use super::values::{Active, stored};
use crate::{Error, Result};

/// `Pad`: zeros around rows and columns, or more of what is there around any axis but the batch.
pub(super) fn pad(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(4)?;
    let x = op.active(0)?.clone();
    let pads = amounts(op, x.sides.len() + 1)?;
    match op.word("mode", &["constant", "edge", "reflect", "wrap"])? {
        "constant" => zeros(op, draft, x, &pads),
        mode => repeated(op, draft, x, &pads, mode),
    }
}

/// How many entries are put before and behind each axis.
fn amounts(op: &Operation<'_>, rank: usize) -> Result<Vec<[usize; 2]>> {
    let given = op.needed(1)?.as_ints()?;
    let axes = match op.constant(3)? {
        None => (0..rank).collect(),
        Some(axes) => axes.as_ints()?.iter().map(|&axis| operation::axis(axis, rank)).collect::<Result<Vec<_>>>()?,
    };
    if given.len() != 2 * axes.len() {
        return Err(Error::bad(format!("has {} pads for {} axes", given.len(), axes.len())));
    }
    let mut pads = vec![[0; 2]; rank];
    for (index, &axis) in axes.iter().enumerate() {
        for (end, &pad) in [given[index], given[index + axes.len()]].iter().enumerate() {
            let size = operation::size(pad, 0);
            pads[axis][end] = size.ok_or_else(|| Error::bad(format!("by {pad} is not supported")))?;
        }
    }
    Ok(pads)
}

fn zeros(op: &Operation<'_>, draft: &mut Draft, x: Active, amounts: &[[usize; 2]]) -> Result<Active> {
    if let Some(value) = op.constant(2)?
        && value.as_floats()?.iter().any(|&v| v != 0.0)
    {
        return Err(Error::bad("with other values than 0 is not supported"));
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
