//! Matrix products with constants, as convolutions.

use ndarray::{Array2, Array4, ArrayD, Axis, IxDyn};

use super::draft::{Draft, DraftConv, DraftOp};
use super::matmul;
use super::operation::Operation;
use super::shape_ops::flat;
use super::tensors::Tensor;
use super::values::{Active, Value};
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

/// `weight` times the vector that `x` is: a convolution over the whole image that the vector was
/// flattened from.
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
    dense(op, draft, x.node, weight, 1, (scale, shift)).map(|node| Active::new(node, vec![out], op.name))
}

/// A convolution without padding that is a matrix product in the file; the factor and the offsets
/// are those of its results.
fn dense(
    op: &Operation<'_>,
    draft: &mut Draft,
    x: usize,
    weight: Array4<f32>,
    groups: usize,
    (scale, shift): (f64, Vec<f64>),
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
        groups,
        dense: groups == 1,
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
    let x = op.active(0)?;
    if !op.lifted {
        return product(op, draft, x, weight, alpha, shift);
    }
    // The rows are those of one image.
    let (dims, inputs) = (x.dims(), weight.dim().1);
    let wrong = || Error::bad(format!("weights of {out} × {inputs} and sides of {dims:?} do not go together"));
    if dims.len() != 2 || dims[1] != inputs {
        return Err(wrong());
    }
    contracted(op, draft, x, weight.into_dyn(), 1, (alpha, Some(shift)))?.ok_or_else(wrong)
}

/// `MatMul`: with a constant, on the right or on the left, over the last axis, or the last but one,
/// wherever the activation lies. A constant of more than two axes has matrices of its own along
/// those before.
pub(super) fn matmul(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(2)?;
    let (x, constant, right) = match (op.input(0), op.input(1)) {
        (Some(Value::Active(x)), Some(Value::Constant(constant))) => (x, constant, true),
        (Some(Value::Constant(constant)), Some(Value::Active(x))) => (x, constant, false),
        (Some(Value::Active(a)), Some(Value::Active(b))) => return matmul::matmul(op, draft, a, b),
        _ => return Err(Error::bad("two inputs are expected")),
    };
    let vector = constant.dims.len() == 1;
    let weight = matrices(constant, right)?;
    let dims = x.dims();
    let rank = dims.len();
    if right && rank == 1 && weight.ndim() == 2 {
        let weight: Array2<f32> =
            weight.into_dimensionality().map_err(|e| Error::bad("its weights cannot be read").because(e))?;
        let out = weight.dim().0;
        let y = product(op, draft, x, weight, 1.0, vec![0.0; out])?;
        return Ok(if vector { Active::new(y.node, vec![], op.name) } else { y });
    }
    // A matrix on the left of a matrix for each image would add up images.
    let summed = if right { rank.checked_sub(1) } else { rank.checked_sub(2) };
    let wrong = || Error::bad(format!("a constant of {:?} and sides of 1, {dims:?} do not go together", constant.dims));
    let summed = summed.filter(|_| rank >= 2).ok_or_else(wrong)?;
    if weight.shape().last() != dims.get(summed) {
        return Err(wrong());
    }
    let y = contracted(op, draft, x, weight, summed, (1.0, None))?.ok_or_else(wrong)?;
    if !vector {
        return Ok(y);
    }
    let mut sides = y.dims();
    sides.remove(if right { rank - 1 } else { rank - 2 });
    flat(draft, &y, sides, op.name)
}

/// The matrices of a constant as … × `O × I`; a vector is one with a single row or column.
fn matrices(constant: &Tensor, right: bool) -> Result<ArrayD<f32>> {
    let dims = match (constant.dims.as_slice(), right) {
        (&[side], true) => vec![side, 1],
        (&[side], false) => vec![1, side],
        (dims, _) => dims.to_vec(),
    };
    if dims.len() < 2 || dims.contains(&0) {
        return Err(Error::bad(format!("its weights have shape {:?}; a matrix is expected", constant.dims)));
    }
    let rank = dims.len();
    let array = ArrayD::from_shape_vec(IxDyn(&dims), constant.as_floats()?.to_vec());
    let mut array = array.map_err(|e| Error::bad("its weights cannot be read").because(e))?;
    if right {
        array.swap_axes(rank - 2, rank - 1);
    }
    Ok(array.as_standard_layout().into_owned())
}

/// `weight` summed with `x` over one of its last two axes; the result has that axis' place for what
/// the weights give, times a factor, with offsets where there is one matrix. None where the axes
/// before do not fit.
fn contracted(
    op: &Operation<'_>,
    draft: &mut Draft,
    x: &Active,
    mut weight: ArrayD<f32>,
    summed: usize,
    (scale, shift): (f64, Option<Vec<f64>>),
) -> Result<Option<Active>> {
    let dims = x.dims();
    let rank = dims.len();
    // Like the activation, without the batch.
    while weight.ndim() > 2
        && weight.shape()[0] == 1
        && (weight.ndim() > rank || weight.shape()[..weight.ndim() - 2].iter().all(|&side| side == 1))
    {
        weight.index_axis_inplace(Axis(0), 0);
    }
    let last = weight.ndim() - 2;
    let (out, inputs) = (weight.shape()[last], weight.shape()[last + 1]);
    let before: Vec<usize> = (0..rank - 2).collect();
    let other = if summed + 1 == rank { rank - 2 } else { rank - 1 };
    let (groups, order) = if last == 0 {
        // One matrix for all: what is summed over becomes the channels.
        (1, [&[summed], before.as_slice(), &[other]].concat())
    } else {
        // A group of channels for each matrix.
        let leading = &dims[..rank - 2];
        let whole = [leading, &[out, inputs]].concat();
        let Some(spread) = weight.broadcast(IxDyn(&whole)) else { return Ok(None) };
        if spread.len() > weight.len() {
            draft.allocate(spread.len())?;
        }
        weight = spread.as_standard_layout().into_owned();
        (leading.iter().product(), [before.as_slice(), &[summed, other]].concat())
    };
    let moved = x.permuted(&order, op.name);
    let mut node = draft.realize(&moved)?;
    if groups > 1 {
        node = draft.realize(&Active::new(node, vec![groups * inputs, dims[other]], op.name))?;
    }
    let weight = weight.into_shape_with_order((groups * out, inputs, 1, 1));
    let weight = weight.map_err(|e| Error::bad("its weights do not fit").because(e))?;
    let shift = shift.unwrap_or_else(|| vec![0.0; groups * out]);
    let node = dense(op, draft, node, weight, groups, (scale, shift))?;
    // How the axes of the result lie: as those of what was moved.
    let sides = order.iter().map(|&axis| if axis == summed { out } else { dims[axis] }).collect();
    let back: Vec<usize> = (0..rank).filter_map(|axis| order.iter().position(|&moved| moved == axis)).collect();
    Ok(Some(Active::new(node, sides, op.name).permuted(&back, op.name)))
}
