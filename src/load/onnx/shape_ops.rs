//! Operations that move values: reshapes, transposes, slices, concatenation.

use super::draft::Draft;
use super::operation::{self, Operation};
use super::tensors::product;
use super::values::{Active, Value, reshaped, stored};
use crate::model::{Axis, Op, Rearrange, RearrangeKind};
use crate::{Error, Result};

/// What is kept along an axis: `count` entries, `step` apart from `start` on, towards the first one
/// where it goes backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub axis: usize,
    pub start: usize,
    pub step: usize,
    pub count: usize,
    pub backwards: bool,
}

impl Cut {
    /// Those from `start` on.
    pub(super) fn forwards(axis: usize, start: usize, step: usize, count: usize) -> Self {
        Self { axis, start, step, count, backwards: false }
    }

    /// The entries, one after the other.
    pub(super) fn entries(self) -> impl Iterator<Item = usize> {
        (0..self.count).map(move |i| {
            let distance = i * self.step;
            if self.backwards { self.start - distance } else { self.start + distance }
        })
    }
}

/// `x` with its values in the order in which they are seen, as an array of `sides`.
pub(super) fn flat(draft: &mut Draft, x: &Active, sides: Vec<usize>, seen_by: &str) -> Result<Active> {
    let node = if x.order.is_none() { x.node } else { draft.realize(x)? };
    Ok(Active::new(node, sides, seen_by))
}

/// `Reshape`; `batch` is the number of images that the file is made for, where it says one.
pub(super) fn reshape(op: &Operation<'_>, draft: &mut Draft, batch: Option<usize>) -> Result<Active> {
    op.at_most(2)?;
    let x = op.active(0)?;
    let target = op.needed(1)?.as_ints()?;
    let lifted: Vec<i64>;
    let target = if op.lifted {
        lifted = [&[1], target].concat();
        &lifted
    } else {
        target
    };
    let sides = reshaped(&x.dims(), target, op.flag("allowzero", false)?, batch)?;
    flat(draft, x, sides, op.name)
}

/// `Flatten`: the axes before `axis` must be the batch, or of side 1.
pub(super) fn flatten(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let x = op.active(0)?;
    let dims = x.dims();
    let given = op.int("axis")?.unwrap_or(1);
    // It may be as large as the rank.
    let axis = match given {
        0.. => op.axis(given, dims.len() + 2)?,
        _ => op.axis(given, dims.len() + 1)?,
    };
    if op.lifted {
        let part = |sides: &[usize]| product(sides).ok_or_else(|| Error::bad("is too large"));
        let sides = vec![part(&dims[..axis - 1])?, part(&dims[axis - 1..])?];
        return flat(draft, x, sides, op.name);
    }
    if axis == 0 || dims.get(..axis - 1).is_none_or(|before| before.iter().any(|&side| side != 1)) {
        return Err(Error::bad(format!("at axis {given} does not keep the batch as the first axis")));
    }
    let values = product(&dims).ok_or_else(|| Error::bad("is too large"))?;
    flat(draft, x, vec![values], op.name)
}

/// `Squeeze`.
pub(super) fn squeeze(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let x = op.active(0)?;
    let dims = x.dims();
    let given = match op.list("axes", 1)? {
        Some(given) => given,
        // Of one image every axis of 1, the batch too.
        None if op.lifted => (0i64..).zip(&dims).filter(|(_, side)| **side == 1).map(|(axis, _)| axis).collect(),
        None => {
            let what = "its axes are missing: whether the batch stays would depend on the number of images";
            return Err(Error::bad(what));
        }
    };
    let gone = op.axes(&given, dims.len() + 1)?;
    if gone.iter().any(|&axis| axis == 0 || dims[axis - 1] != 1) {
        return Err(Error::bad(format!(
            "leaves out the axes {given:?} of 1, {dims:?}; they must be 1 and not the batch"
        )));
    }
    let sides = (0..dims.len()).filter(|axis| !gone.contains(&(axis + 1))).map(|axis| dims[axis]).collect();
    flat(draft, x, sides, op.name)
}

/// The sides with some of 1 put in.
pub(super) fn unsqueezed(dims: &[usize], given: &[i64]) -> Result<Vec<usize>> {
    let rank = dims.len() + given.len();
    if rank > super::tensors::MOST_AXES + 1 {
        return Err(Error::bad(format!("its result has {rank} axes")));
    }
    let new = operation::axes(given, rank)?;
    let mut old = dims.iter();
    (0..rank)
        .map(|axis| if new.contains(&axis) { Some(1) } else { old.next().copied() })
        .collect::<Option<_>>()
        .ok_or_else(|| Error::bad("its axes do not fit"))
}

/// `Unsqueeze`.
pub(super) fn unsqueeze(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let x = op.active(0)?;
    let given = op.list("axes", 1)?.ok_or_else(|| Error::bad("its axes are missing"))?;
    let mut dims = x.dims();
    if op.lifted {
        return flat(draft, x, unsqueezed(&dims, &given)?, op.name);
    }
    dims.insert(0, 1);
    let sides = unsqueezed(&dims, &given)?;
    if operation::axes(&given, sides.len())?.contains(&0) {
        return Err(Error::bad("puts an axis in front of the batch"));
    }
    flat(draft, x, sides[1..].to_vec(), op.name)
}

/// The order of axes that a `Transpose` asks for.
pub(super) fn permutation(op: &Operation<'_>, rank: usize) -> Result<Vec<usize>> {
    let Some(given) = op.ints("perm")? else { return Ok((0..rank).rev().collect()) };
    let order = given.iter().map(|&axis| usize::try_from(axis).ok()).collect::<Option<Vec<usize>>>();
    let mut sorted = order.clone().unwrap_or_default();
    sorted.sort_unstable();
    order
        .filter(|_| sorted.iter().copied().eq(0..rank))
        .ok_or_else(|| Error::bad(format!("its attribute `perm` {given:?} is no order of {rank} axes")))
}

/// `Transpose`: how the activation is seen changes, nothing is moved yet.
pub(super) fn transpose(op: &Operation<'_>) -> Result<Active> {
    let x = op.active(0)?;
    if op.lifted {
        return Ok(x.permuted(&permutation(op, x.sides.len())?, op.name));
    }
    let order = permutation(op, x.sides.len() + 1)?;
    if order[0] != 0 {
        return Err(Error::bad(format!("by {order:?} moves the batch; it must stay the first axis")));
    }
    let order: Vec<usize> = order[1..].iter().map(|axis| axis - 1).collect();
    Ok(x.permuted(&order, op.name))
}

/// What a `Slice` keeps of a tensor of these sides.
pub(super) fn cuts(op: &Operation<'_>, dims: &[usize]) -> Result<Vec<Cut>> {
    op.at_most(5)?;
    let (starts, ends) = (op.needed(1)?.as_ints()?, op.needed(2)?.as_ints()?);
    let all: Vec<i64> = (0i64..).take(starts.len()).collect();
    let given = op.constant(3)?.map_or(Ok(all.as_slice()), |axes| axes.as_ints())?;
    let ones = vec![1; starts.len()];
    let steps = op.constant(4)?.map_or(Ok(ones.as_slice()), |steps| steps.as_ints())?;
    if [ends.len(), given.len(), steps.len()] != [starts.len(); 3] {
        return Err(Error::bad("its starts, ends, axes and steps are not of the same number"));
    }
    op.axes(given, dims.len())?;
    let cut = |i: usize| {
        let axis = op.axis(given[i], dims.len())?;
        let side = i64::try_from(dims[axis]).map_err(|e| Error::bad("is too large").because(e))?;
        let backwards = steps[i] < 0;
        let step = usize::try_from(steps[i].unsigned_abs()).ok().filter(|&step| step > 0);
        let step = step.ok_or_else(|| Error::bad(format!("has a step of {}", steps[i])))?;
        // Backwards the end may lie before the first entry, and nothing begins behind the last.
        let lies = |at: i64, least: i64, most: i64| {
            let counted = if at < 0 { at.saturating_add(side) } else { at };
            counted.max(least).min(most)
        };
        let (start, way) = if backwards {
            let start = lies(starts[i], 0, side - 1);
            (start, start - lies(ends[i], -1, side - 1))
        } else {
            let start = lies(starts[i], 0, side);
            (start, lies(ends[i], 0, side) - start)
        };
        let size = |value: i64| usize::try_from(value).unwrap_or(0);
        Ok(Cut { axis, start: size(start), step, count: size(way).div_ceil(step), backwards })
    };
    (0..starts.len()).map(cut).collect()
}

/// `Slice`.
pub(super) fn slice(op: &Operation<'_>, draft: &mut Draft, batch: Option<usize>) -> Result<Active> {
    let mut x = op.active(0)?.clone();
    let mut dims = x.dims();
    dims.insert(0, batch.unwrap_or(1));
    for cut in cuts(op, &dims)? {
        if cut.axis > 0 {
            x = kept(draft, &x, Cut { axis: cut.axis - 1, ..cut }, op.name)?;
        } else if cut != Cut::forwards(0, 0, 1, dims[0]) {
            return Err(Error::bad("cuts the batch"));
        }
    }
    Ok(x)
}

/// A part of an activation; `cut.axis` is as it is seen.
pub(super) fn kept(draft: &mut Draft, x: &Active, cut: Cut, name: &str) -> Result<Active> {
    let axis = x.base(cut.axis);
    let side = x.sides[axis];
    if cut.count == 0 {
        return Err(Error::bad(format!("keeps nothing of {side} along axis {}", cut.axis + 1)));
    }
    if (cut.start, cut.count) == (0, side) {
        return Ok(x.clone());
    }
    let count = cut.count;
    if cut.backwards && count > 1 {
        draft.allocate(count)?;
        return along(draft, x, axis, count, name, |sides| RearrangeKind::Pick {
            sides,
            axis: 1,
            entries: cut.entries().collect(),
        });
    }
    let Cut { start, step, .. } = cut;
    along(draft, x, axis, count, name, |sides| RearrangeKind::Slice { sides, axis: 1, start, step, count })
}

/// Some entries along an axis, as it is seen, one after the other; each must be below its side.
pub(super) fn picked(draft: &mut Draft, x: &Active, axis: usize, entries: Vec<usize>, name: &str) -> Result<Active> {
    let cut = match *entries.as_slice() {
        [] => return Err(Error::bad("picks nothing")),
        [only] => Cut::forwards(axis, only, 1, 1),
        [first, second, ..] => Cut::forwards(axis, first, second.saturating_sub(first).max(1), entries.len()),
    };
    if cut.entries().eq(entries.iter().copied()) {
        return kept(draft, x, cut, name);
    }
    draft.allocate(entries.len())?;
    along(draft, x, x.base(axis), entries.len(), name, |sides| RearrangeKind::Pick { sides, axis: 1, entries })
}

/// `count` entries along an axis, as it is seen, place by place: `entry` must be below its side.
pub(super) fn repeated(
    draft: &mut Draft,
    x: &Active,
    axis: usize,
    count: usize,
    entry: impl Fn(usize) -> usize,
    name: &str,
) -> Result<Active> {
    if count == 0 {
        return Err(Error::bad("picks nothing"));
    }
    draft.allocate(count)?;
    let entries = (0..count).map(entry).collect();
    along(draft, x, x.base(axis), count, name, |sides| RearrangeKind::Pick { sides, axis: 1, entries })
}

/// Another choice of `count` entries along an axis of the array that `x` is; the array may be taken
/// together on both sides of that axis.
fn along(
    draft: &mut Draft,
    x: &Active,
    axis: usize,
    count: usize,
    name: &str,
    kind: impl FnOnce(Vec<usize>) -> RearrangeKind,
) -> Result<Active> {
    let mut sides = x.sides.clone();
    sides[axis] = count;
    let before: usize = x.sides[..axis].iter().product();
    let after: usize = x.sides[axis + 1..].iter().product();
    let (kind, shape) = (kind(vec![before, x.sides[axis], after]), stored(&sides));
    let node = draft.operation(name, Op::Rearrange(Rearrange { kind, shape }), vec![x.node])?;
    Ok(Active { node, sides, ..x.clone() })
}

/// `Split`: one part for each output.
pub(super) fn split(op: &Operation<'_>, draft: &mut Draft) -> Result<Vec<Value>> {
    let x = op.active(0)?.clone();
    let dims = x.dims();
    let axis = op.axis(op.int("axis")?.unwrap_or(0), dims.len() + 1)?;
    let axis = axis.checked_sub(1).ok_or_else(|| Error::bad("splits the batch"))?;
    let side = dims[axis];
    let (outputs, said) = (op.outputs, op.int("num_outputs")?);
    let lengths: Option<Vec<usize>> = if let Some(given) = op.list("split", 1)? {
        let lengths: Option<Vec<usize>> = given.iter().map(|&part| operation::size(part, 1)).collect();
        lengths.filter(|lengths| lengths.iter().sum::<usize>() == side && lengths.len() == outputs)
    } else {
        // The last part is smaller where the side is no multiple; only where `num_outputs` says how
        // many there are.
        let part = side.div_ceil(outputs.max(1));
        let before = outputs.checked_sub(1).and_then(|others| part.checked_mul(others));
        let last = before.and_then(|before| side.checked_sub(before)).filter(|&last| last > 0);
        let fits = said.map_or(last == Some(part), |said| usize::try_from(said) == Ok(outputs));
        last.filter(|_| fits).map(|last| [vec![part; outputs - 1], vec![last]].concat())
    };
    let lengths = lengths
        .ok_or_else(|| Error::bad(format!("into {outputs} parts does not fit a side of {side} (axis {})", axis + 1)))?;
    let mut start = 0;
    let mut values = Vec::with_capacity(lengths.len());
    for (index, count) in lengths.into_iter().enumerate() {
        let name = format!("{}/{index}", op.name);
        values.push(Value::Active(kept(draft, &x, Cut::forwards(axis, start, 1, count), &name)?));
        start += count;
    }
    Ok(values)
}

/// `Gather`: entries along an axis, in the shape of the constant that lists them.
pub(super) fn gather(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let (x, indices) = (op.active(0)?.clone(), op.needed(1)?);
    let dims = x.dims();
    let axis = op.axis(op.int("axis")?.unwrap_or(0), dims.len() + 1)?;
    let axis = axis.checked_sub(1).ok_or_else(|| Error::bad("picks images out of the batch"))?;
    if dims.len() + indices.dims.len() > super::tensors::MOST_AXES {
        return Err(Error::bad("its result has too many axes"));
    }
    let entries = indices.as_ints()?.iter().map(|&index| operation::axis(index, dims[axis]));
    let entries = entries.collect::<Result<Vec<_>>>().map_err(|e| Error::bad("an index is outside").because(e))?;
    let part = picked(draft, &x, axis, entries, op.name)?;
    if indices.dims.len() == 1 {
        return Ok(part);
    }
    let mut sides = part.dims();
    sides.splice(axis..=axis, indices.dims.iter().copied());
    flat(draft, &part, sides, op.name)
}

/// `Concat`.
pub(super) fn concat(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let mut parts: Vec<Active> = Vec::with_capacity(op.inputs.len());
    for (index, input) in op.inputs.iter().enumerate() {
        parts.push(match input {
            Some(Value::Constant(tensor)) => {
                super::elementwise::constant(draft, tensor, &format!("{}/{index}", op.name))?
            }
            _ => op.active(index)?.clone(),
        });
    }
    let first = parts.first().ok_or_else(|| Error::bad("has no inputs"))?.clone();
    let rank = first.sides.len();
    let given = op.int("axis")?.ok_or_else(|| Error::bad("its axis is missing"))?;
    let axis = op.axis(given, rank + 1)?.checked_sub(1).ok_or_else(|| Error::bad("joins batches"))?;
    if parts.len() == 1 {
        return Ok(first);
    }
    if parts.iter().any(|part| part.sides.len() != rank) {
        return Err(Error::bad("its inputs have different numbers of axes"));
    }
    let dims = first.dims();
    let mut joined = dims.clone();
    joined[axis] = 0;
    for part in &parts {
        let own = part.dims();
        if (0..rank).any(|a| a != axis && own[a] != dims[a]) {
            return Err(Error::bad(format!("sides of 1, {dims:?} and 1, {own:?} cannot be joined along axis {given}")));
        }
        joined[axis] = joined[axis].checked_add(own[axis]).ok_or_else(|| Error::bad("is too large"))?;
    }
    // Where all lie in the same other order of axes, they are joined as they lie.
    let as_they_lie = |draft: &Draft, part: &Active| {
        part.order == first.order && rank <= 3 && draft.shape(part.node) == stored(&part.sides)
    };
    let (order, base) = if parts.iter().all(|part| as_they_lie(draft, part)) {
        (first.order.clone(), first.base(axis))
    } else {
        for part in &mut parts {
            let node = draft.realize(part)?;
            *part = Active::new(node, part.dims(), op.name);
        }
        (None, axis)
    };
    // Of more than three axes the first is stored as channels, the last as columns, those between
    // together as rows.
    let along = match base {
        0 => Axis::Channels,
        1 => Axis::Height,
        axis if axis + 1 == rank => Axis::Width,
        _ => return Err(Error::bad(format!("along axis {given} of {} is not supported", rank + 1))),
    };
    let inputs: Vec<usize> = parts.iter().map(|part| part.node).collect();
    let node = draft.operation(op.name, Op::Concat(along), inputs)?;
    let mut sides = parts[0].sides.clone();
    sides[base] = joined[axis];
    Ok(Active { node, sides, order, seen_by: op.name.to_owned() })
}

/// `DepthToSpace` and `SpaceToDepth`.
pub(super) fn blocks(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let x = op.active(0)?;
    let block = op.int("blocksize")?.and_then(|block| operation::size(block, 1));
    let block = block.ok_or_else(|| Error::bad("its attribute `blocksize` is missing or no size"))?;
    let dims = x.dims();
    let &[channels, height, width] = dims.as_slice() else {
        return Err(Error::bad(format!("needs an image, batch × channels × height × width; it has 1, {dims:?}")));
    };
    let indivisible = || Error::bad(format!("blocks of {block} do not divide {channels}×{height}×{width}"));
    if op.kind == "SpaceToDepth" {
        if height % block != 0 || width % block != 0 {
            return Err(indivisible());
        }
        let (rows, columns) = (height / block, width / block);
        // The mode is of opset 28; what it is without one, it was before.
        let order = if op.word("mode", &["DCR", "CRD"])? == "DCR" { [2, 4, 0, 1, 3] } else { [0, 2, 4, 1, 3] };
        let x = flat(draft, x, vec![channels, rows, block, columns, block], op.name)?;
        let moved = x.permuted(&order, op.name);
        return flat(draft, &moved, vec![channels * block * block, rows, columns], op.name);
    }
    let depth_first = op.word("mode", &["DCR", "CRD"])? == "DCR";
    let parts = block.checked_mul(block).filter(|parts| channels % parts == 0).ok_or_else(indivisible)?;
    let kept = channels / parts;
    let (array, order) = if depth_first {
        (vec![block, block, kept, height, width], [2, 3, 0, 4, 1])
    } else {
        (vec![kept, block, block, height, width], [0, 3, 1, 4, 2])
    };
    let moved = flat(draft, x, array, op.name)?.permuted(&order, op.name);
    flat(draft, &moved, vec![kept, height * block, width * block], op.name)
}
