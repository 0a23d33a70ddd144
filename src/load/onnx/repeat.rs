//! Operations that repeat values: `Expand` and `Tile`.

use super::draft::Draft;
use super::fold::{sizes, together};
use super::operation::Operation;
use super::shape_ops::{flat, repeated};
use super::values::Active;
use crate::{Error, Result};

/// `Expand`: what is 1 along an axis stands as often as the shape says; `batch` is the number of
/// images that the file is made for, where it says one.
pub(super) fn expand(op: &Operation<'_>, draft: &mut Draft, batch: Option<usize>) -> Result<Active> {
    op.at_most(2)?;
    let x = op.active(0)?;
    let target = sizes(op.needed(1)?.as_ints()?)?;
    if op.lifted {
        let dims = together(&x.dims(), &target)?;
        let behind = [vec![1; dims.len() - x.sides.len()], x.dims()].concat();
        let x = flat(draft, x, behind, op.name)?;
        return to(draft, &x, &dims, op.name);
    }
    let images = batch.unwrap_or(1);
    let dims = together(&[&[images], x.dims().as_slice()].concat(), &target)?;
    if dims.len() > x.sides.len() + 1 {
        return Err(Error::bad("puts an axis in front of the batch"));
    }
    if dims[0] != images {
        return Err(Error::bad("repeats the images of the batch"));
    }
    to(draft, x, &dims[1..], op.name)
}

/// An activation with sides of 1 repeated until they are those of `dims`.
fn to(draft: &mut Draft, x: &Active, dims: &[usize], name: &str) -> Result<Active> {
    let mut x = x.clone();
    for (axis, &side) in dims.iter().enumerate() {
        if x.dims()[axis] != side {
            x = repeated(draft, &x, axis, side, |_| 0, name)?;
        }
    }
    Ok(x)
}

/// `Tile`: the whole, one after the other along each axis.
pub(super) fn tile(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(2)?;
    let mut x = op.active(0)?.clone();
    let times = op.needed(1)?.as_ints()?.iter().map(|&times| usize::try_from(times).ok().filter(|&times| times > 0));
    let times = times.collect::<Option<Vec<usize>>>().ok_or_else(|| Error::bad("repeats something no times"))?;
    let front = usize::from(!op.lifted);
    if times.len() != x.sides.len() + front {
        return Err(Error::bad(format!("has {} numbers for {} axes", times.len(), x.sides.len() + front)));
    }
    if front == 1 && times[0] != 1 {
        return Err(Error::bad("repeats the images of the batch"));
    }
    for (axis, &times) in times[front..].iter().enumerate().filter(|(_, times)| **times != 1) {
        let side = x.dims()[axis];
        let all = side.checked_mul(times).ok_or_else(|| Error::bad("is too large"))?;
        x = repeated(draft, &x, axis, all, |at| at % side, op.name)?;
    }
    Ok(x)
}
