//! Matrix products with constants, as convolutions.

use ndarray::{Array2, Array4};

use super::draft::{Draft, DraftConv, DraftOp};
use super::operation::Operation;
use super::tensors::Tensor;
use super::values::Active;
use crate::model::Shape;
use crate::{Error, Result};

/// A matrix, transposed where `transposed` says so, so that it is `O × I`.
fn matrix(tensor: &Tensor, transposed: bool) -> Result<Array2<f32>> {
    let &[rows, columns] = tensor.dims.as_slice() else {
        return Err(Error::bad(format!("its weights have shape {:?}; a matrix is expected", tensor.dims)));
    };
    let matrix = Array2::from_shape_vec([rows, columns], tensor.as_floats()?.to_vec());
    let matrix = matrix.map_err(|e| Error::bad("its weights cannot be read").because(e))?;
    let matrix = if transposed { matrix.reversed_axes().as_standard_layout().into_owned() } else { matrix };
    if matrix.is_empty() { Err(Error::bad("its weights are empty")) } else { Ok(matrix) }
}

/// `weight` times the vector that `x` is: a convolution over the whole image that the vector was flattened from.
fn product(
    op: &Operation<'_>,
    draft: &mut Draft,
    x: &Active,
    weight: Array2<f32>,
    scale: f64,
    shift: Vec<f64>,
) -> Result<Active> {
    let (out, inputs) = weight.dim();
    let &[values] = x.sides.as_slice() else {
        return Err(Error::bad(format!("reads an activation of {} axes; 2 are expected", x.sides.len() + 1)));
    };
    if values != inputs {
        return Err(Error::bad(format!("weights of {out} × {inputs} do not fit {values} values")));
    }
    // The row-major order of the image is that of the vector.
    let image = draft.shape(x.node);
    let kernel = (out, image.channels, image.height, image.width);
    let weight = weight.into_shape_with_order(kernel).map_err(|e| Error::bad("its weights do not fit").because(e))?;
    dense(op, draft, x.node, weight, scale, shift).map(|node| Active::new(node, vec![out], op.name))
}

/// A convolution of one group without padding that is a matrix product in the file.
fn dense(
    op: &Operation<'_>,
    draft: &mut Draft,
    x: usize,
    weight: Array4<f32>,
    scale: f64,
    shift: Vec<f64>,
) -> Result<usize> {
    let (out, _, kh, kw) = weight.dim();
    let image = draft.shape(x);
    let shape = Shape::new(out, image.height - kh + 1, image.width - kw + 1);
    let conv = DraftConv {
        weight,
        scale: vec![scale; out],
        shift,
        stride: [1; 2],
        pads: [0; 4],
        dilation: [1; 2],
        groups: 1,
        dense: true,
    };
    draft.push(op.name, DraftOp::Conv(conv), vec![x], shape)
}

/// `Gemm`: `alpha·x·B + beta·C`.
pub(super) fn gemm(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(3)?;
    if op.flag("transA", false)? {
        return Err(Error::bad("its attribute `transA` is 1; the batch must be the first axis"));
    }
    let (alpha, beta) = (f64::from(op.float("alpha", 1.0)?), f64::from(op.float("beta", 1.0)?));
    let weight = matrix(op.needed(1)?, !op.flag("transB", false)?)?;
    let out = weight.dim().0;
    let shift = match op.constant(2)? {
        None => vec![0.0; out],
        Some(tensor) => {
            let values = tensor.as_floats()?;
            let fits = match tensor.dims.as_slice() {
                [] => true,
                [side] | [1, side] => *side == out || *side == 1,
                _ => false,
            };
            if !fits {
                return Err(Error::bad(format!("its bias has shape {:?}; [{out}] is expected", tensor.dims)));
            }
            values.iter().cycle().take(out).map(|&b| beta * f64::from(b)).collect()
        }
    };
    product(op, draft, op.active(0)?, weight, alpha, shift)
}

/// `MatMul` with a constant on the right: over the last axis, wherever the activation lies.
pub(super) fn matmul(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(2)?;
    let weight = matrix(op.needed(1)?, true)?;
    let x = op.active(0)?;
    let (out, inputs) = weight.dim();
    if x.sides.len() == 1 {
        return product(op, draft, x, weight, 1.0, vec![0.0; out]);
    }
    let dims = x.dims();
    let rank = dims.len();
    if dims.last() != Some(&inputs) {
        return Err(Error::bad(format!("weights of {inputs} × {out} do not fit sides of 1, {dims:?}")));
    }
    // The axis that is summed over becomes the channels.
    let order: Vec<usize> = std::iter::once(rank - 1).chain(0..rank - 1).collect();
    let x = x.permuted(&order, op.name);
    let node = draft.realize(&x)?;
    let weight = weight.into_shape_with_order((out, inputs, 1, 1));
    let weight = weight.map_err(|e| Error::bad("its weights do not fit").because(e))?;
    let node = dense(op, draft, node, weight, 1.0, vec![0.0; out])?;
    let sides = std::iter::once(out).chain(dims[..rank - 1].iter().copied()).collect();
    let back: Vec<usize> = (1..rank).chain([0]).collect();
    Ok(Active::new(node, sides, op.name).permuted(&back, op.name))
}
