//! `Range` of constants.

use super::draft::Draft;
use super::operation::Operation;
use super::tensors::{MOST_INT, Tensor, Values, narrowed};
use crate::{Error, Result};

/// From the first input on, below the second (or above it, where the third, the step, is negative).
pub(super) fn range(op: &Operation<'_>, draft: &mut Draft) -> Result<Tensor> {
    // What sums are kept in, of opset 27: they are of f64 here.
    op.int("stash_type")?;
    let inputs = [op.needed(0)?, op.needed(1)?, op.needed(2)?];
    if let Some(index) = inputs.iter().position(|input| input.values.len() != 1) {
        let count = inputs[index].values.len();
        return Err(Error::bad(format!("its input {index} has {count} values; one is expected")));
    }
    match inputs.map(|input| &input.values) {
        [Values::Int(start), Values::Int(limit), Values::Int(delta)] => {
            int_range([start[0], limit[0], delta[0]], draft)
        }
        [Values::Float(start), Values::Float(limit), Values::Float(delta)] => {
            float_range([start[0], limit[0], delta[0]], draft)
        }
        _ => Err(Error::bad("some of its inputs are of integers, others of floats")),
    }
}

fn int_range(inputs: [i64; 3], draft: &mut Draft) -> Result<Tensor> {
    let [start, limit, delta] = inputs.map(i128::from);
    if delta == 0 {
        return Err(Error::bad("its step is 0"));
    }
    // Rounded up: the distance and the step have the same sign, or the range is empty.
    let count = ((limit - start + delta - delta.signum()) / delta).max(0);
    let count = usize::try_from(count).map_err(|e| Error::bad("is too large").because(e))?;
    draft.allocate(count)?;
    let values = (0..count).map(|i| i64::try_from(start + delta * i128::try_from(i).unwrap_or(0)).unwrap_or(i64::MAX));
    Ok(Tensor::ints(values.collect()))
}

/// `start + i·delta`, below the limit (or above it, where `delta` is negative).
fn float_range(inputs: [f32; 3], draft: &mut Draft) -> Result<Tensor> {
    let [start, limit, delta] = inputs.map(f64::from);
    let count = ((limit - start) / delta).ceil();
    if count.is_nan() || count.abs() >= f64::from(MOST_INT) {
        return Err(Error::bad(format!("from {start} to {limit} by {delta} is none")));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bound was checked")]
    let count = count.max(0.0) as usize;
    draft.allocate(count)?;
    let values = std::iter::successors(Some(0.0), |i| Some(i + 1.0)).take(count);
    let values: Vec<f32> = values.map(|i: f64| narrowed(start + i * delta)).collect();
    Ok(Tensor { dims: vec![count], values: Values::Float(values) })
}
