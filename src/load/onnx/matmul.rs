//! Matrix products of two activations.

use super::draft::Draft;
use super::operation::Operation;
use super::tensors::product;
use super::values::Active;
use crate::model::Op;
use crate::{Error, Result};

/// `MatMul` of two activations: over the last axis of the first and the last but one of the second,
/// for each place of the axes before, which are the same for both, or none or 1.
pub(super) fn matmul(op: &Operation<'_>, draft: &mut Draft, a: &Active, b: &Active) -> Result<Active> {
    let (dims_a, dims_b) = (a.dims(), b.dims());
    let wrong = || Error::bad(format!("matrices of 1, {dims_a:?} and 1, {dims_b:?} do not go together"));
    let ([before_a @ .., rows, depth], [before_b @ .., deep, columns]) = (dims_a.as_slice(), dims_b.as_slice()) else {
        return Err(Error::bad("of vectors of two images is not supported"));
    };
    if depth != deep {
        return Err(wrong());
    }
    let rank = before_a.len().max(before_b.len());
    let padded = |before: &[usize]| [vec![1; rank - before.len()], before.to_vec()].concat();
    let (left, right) = (padded(before_a), padded(before_b));
    let ones = |sides: &[usize]| sides.iter().all(|&side| side == 1);
    let before = match (&left, &right) {
        (left, right) if left == right || ones(right) => left.clone(),
        (left, right) if ones(left) => right.clone(),
        _ => return Err(wrong()),
    };
    let mut matrices = |x: &Active, before: &[usize], rows: usize, columns: usize| -> Result<usize> {
        let node = draft.realize(x)?;
        let channels = product(before).ok_or_else(|| Error::bad("is too large"))?;
        draft.realize(&Active::new(node, vec![channels, rows, columns], op.name))
    };
    let (x, y) = (matrices(a, before_a, *rows, *depth)?, matrices(b, before_b, *depth, *columns)?);
    let node = draft.operation(op.name, Op::MatMul, vec![x, y])?;
    Ok(Active::new(node, [before.as_slice(), &[*rows, *columns]].concat(), op.name))
}
