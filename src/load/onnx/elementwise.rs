//! Functions of each value, and of two values.

use ndarray::Array3;

use super::draft::{Draft, DraftOp};
use super::operation::Operation;
use super::reduce;
use super::tensors::{Tensor, product};
use super::values::{Active, Value, stored};
use crate::model::{Activation, Binary, Op, broadcast};
use crate::{Error, Result};

/// A function of each value; it does not matter how the activation is seen.
pub(super) fn function(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let activation = match op.kind {
        "Relu" => Activation::Clip { low: 0.0, high: f32::INFINITY },
        "Clip" => match bounds(op)? {
            (f32::NEG_INFINITY, f32::INFINITY) => return Ok(op.active(0)?.clone()),
            (low, high) => Activation::Clip { low, high },
        },
        "LeakyRelu" => Activation::LeakyRelu { slope: op.float("alpha", 0.01)? },
        "Sigmoid" => Activation::Sigmoid,
        "HardSigmoid" => Activation::HardSigmoid { slope: op.float("alpha", 0.2)?, offset: op.float("beta", 0.5)? },
        _ => Activation::HardSwish,
    };
    let x = op.active(0)?;
    let node = draft.operation(op.name, Op::Activation(activation), vec![x.node])?;
    Ok(x.with_node(node))
}

/// The bounds of a `Clip`.
fn bounds(op: &Operation<'_>) -> Result<(f32, f32)> {
    op.at_most(3)?;
    let bound = |index, default| match op.constant(index)? {
        None => Ok(default),
        Some(tensor) => match tensor.as_floats()? {
            [value] if !value.is_nan() => Ok(*value),
            _ => Err(Error::bad(format!("its input {index} is not one number"))),
        },
    };
    let (low, high) = (bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?);
    if low > high || low == f32::INFINITY || high == f32::NEG_INFINITY {
        return Err(Error::bad(format!("its bounds {low} and {high} leave nothing")));
    }
    Ok((low, high))
}

/// `BatchNormalization` in inference form: `y = γ·(x − μ)/sqrt(σ² + ε) + β`, in f64.
pub(super) fn batch_norm(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(5)?;
    if op.flag("training_mode", false)? {
        return Err(Error::bad("is in training mode").hint("export the network in evaluation mode: model.eval()"));
    }
    op.float("momentum", 0.9)?;
    let epsilon = f64::from(op.float("epsilon", 1e-5)?);
    let x = op.active(0)?.clone();
    let channels = *x.dims().first().ok_or_else(|| Error::bad("reads an activation without channels"))?;
    let input = |index: usize, what: &str| -> Result<Vec<f64>> {
        let values = op.needed(index)?.vector(channels).map_err(|e| e.at(what))?;
        Ok(values.iter().map(|&v| f64::from(v)).collect())
    };
    let (gamma, beta) = (input(1, "scale")?, input(2, "bias")?);
    let (mean, variance) = (input(3, "mean")?, input(4, "variance")?);
    // The comparison is false for NaN too.
    if !variance.iter().all(|v| v + epsilon > 0.0 && *v >= 0.0) {
        return Err(Error::bad("has a variance that is negative, no number, or zero with `epsilon` zero"));
    }
    let scale: Vec<f64> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let shift = scale.iter().zip(beta.iter().zip(&mean)).map(|(a, (b, m))| b - a * m).collect();
    for_each_channel(op, draft, &x, scale, shift)
}

/// `scale·x + shift` along the first axis after the batch.
fn for_each_channel(
    op: &Operation<'_>,
    draft: &mut Draft,
    x: &Active,
    scale: Vec<f64>,
    shift: Vec<f64>,
) -> Result<Active> {
    let there = along_channels(draft, x, 0)?.ok_or_else(|| Error::bad("has no channels"))?;
    affine(op, draft, &there, scale, shift)
}

/// An activation one of whose axes is the channels of its node, realized for that where it is the
/// first after the batch; none where it lies otherwise.
pub(super) fn along_channels(draft: &mut Draft, x: &Active, axis: usize) -> Result<Option<Active>> {
    if x.base(axis) == 0 && draft.shape(x.node).channels == x.sides[0] {
        return Ok(Some(x.clone()));
    }
    Ok(if axis == 0 { Some(Active::new(draft.realize(x)?, x.dims(), &x.seen_by)) } else { None })
}

/// `scale·x + shift` for the channels of the node.
fn affine(op: &Operation<'_>, draft: &mut Draft, x: &Active, scale: Vec<f64>, shift: Vec<f64>) -> Result<Active> {
    let shape = draft.shape(x.node);
    let node = draft.push(op.name, DraftOp::Affine { scale, shift }, vec![x.node], shape)?;
    Ok(x.with_node(node))
}

/// `Add`, `Sub`, `Mul`, and `Div` by a constant.
pub(super) fn binary(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(2)?;
    match (op.input(0), op.input(1)) {
        (Some(Value::Active(a)), Some(Value::Active(b))) => {
            let function = match op.kind {
                "Add" => Binary::Add,
                "Sub" => Binary::Sub,
                "Mul" => Binary::Mul,
                other => return Err(Error::bad(format!("{other} of two activations is not supported"))),
            };
            two(op, draft, function, a, b)
        }
        (Some(Value::Active(x)), Some(Value::Constant(c))) => with_constant(op, op.kind, draft, x, c, false),
        (Some(Value::Constant(c)), Some(Value::Active(x))) => with_constant(op, op.kind, draft, x, c, true),
        _ => Err(Error::bad("two inputs are expected")),
    }
}

fn two(op: &Operation<'_>, draft: &mut Draft, function: Binary, a: &Active, b: &Active) -> Result<Active> {
    let rank = a.sides.len();
    if b.sides.len() != rank {
        return Err(Error::bad(format!(
            "its inputs have {} and {} axes; the same number is expected",
            rank + 1,
            b.sides.len() + 1
        )));
    }
    let wrong = || Error::bad(format!("sides of 1, {:?} and 1, {:?} do not go together", a.dims(), b.dims()));
    let (dims_a, dims_b) = (a.dims(), b.dims());
    let side = |(&a, &b): (&usize, &usize)| match (a, b) {
        (a, b) if a == b => Some(a),
        (1, side) | (side, 1) => Some(side),
        _ => None,
    };
    let dims: Vec<usize> = dims_a.iter().zip(&dims_b).map(side).collect::<Option<_>>().ok_or_else(wrong)?;
    let (shape_a, shape_b) = (draft.shape(a.node), draft.shape(b.node));
    // Values that lie alike are combined as they lie.
    let alike = a.order == b.order
        && (a.sides == b.sides && shape_a == shape_b
            || rank <= 3 && shape_a == stored(&a.sides) && shape_b == stored(&b.sides));
    if alike {
        let node = draft.operation(op.name, Op::Binary(function), vec![a.node, b.node])?;
        let sides = a.sides.iter().zip(&b.sides).map(side).collect::<Option<_>>().ok_or_else(wrong)?;
        return Ok(Active { node, sides, order: a.order.clone(), seen_by: op.name.to_owned() });
    }
    let (x, y) = (draft.realize(a)?, draft.realize(b)?);
    if broadcast(stored(&dims_a), stored(&dims_b)) != Some(stored(&dims)) {
        return Err(wrong());
    }
    let node = draft.operation(op.name, Op::Binary(function), vec![x, y])?;
    Ok(Active::new(node, dims, op.name))
}

/// Sides of a constant as an activation of `rank` axes without the batch has them.
fn aligned(tensor: &Tensor, rank: usize) -> Result<Vec<usize>> {
    let given = &tensor.dims;
    let missing = (rank + 1).checked_sub(given.len());
    let sides: Option<Vec<usize>> =
        missing.map(|missing| std::iter::repeat_n(1, missing).chain(given.iter().copied()).collect());
    match sides {
        Some(sides) if sides[0] == 1 && !sides.contains(&0) => Ok(sides[1..].to_vec()),
        _ => Err(Error::bad(format!("a constant of shape {given:?} does not fit an activation of {} axes", rank + 1))),
    }
}

/// An activation with a constant, the first operand where `first` says so; `kind` is the operator,
/// `Add`, `Sub`, `Mul` or `Div`.
pub(super) fn with_constant(
    op: &Operation<'_>,
    kind: &str,
    draft: &mut Draft,
    x: &Active,
    c: &Tensor,
    first: bool,
) -> Result<Active> {
    let dims = x.dims();
    let own = aligned(c, dims.len())?;
    let values = c.as_floats()?;
    // What x becomes: scale·x + shift.
    let line = |c: f32| {
        let c = f64::from(c);
        match (kind, first) {
            ("Add", _) => (1.0, c),
            ("Sub", false) => (1.0, -c),
            ("Sub", true) => (-1.0, c),
            ("Mul", _) => (c, 0.0),
            _ => (1.0 / c, 0.0),
        }
    };
    let lines = || values.iter().map(|&c| line(c)).collect::<Vec<_>>();
    let wider = (0..own.len()).find(|&axis| own[axis] != 1 && own[axis] != dims[axis]);
    if let Some(axis) = wider.filter(|&axis| dims[axis] != 1) {
        let what = format!("a constant of {} does not fit a side of {} (axis {})", own[axis], dims[axis], axis + 1);
        return Err(Error::bad(what));
    }
    let varies: Vec<usize> = (0..own.len()).filter(|&axis| own[axis] != 1).collect();
    if varies.is_empty() {
        let (scale, shift) = lines().into_iter().unzip();
        return affine(op, draft, x, scale, shift);
    }
    if wider.is_none() && varies.len() == 1 {
        // Along the channels of the node, or of what it will be.
        if let Some(x) = along_channels(draft, x, varies[0])? {
            let (scale, shift) = lines().into_iter().unzip();
            return affine(op, draft, &x, scale, shift);
        }
    }
    let function = match kind {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        _ => Binary::Mul,
    };
    let inverse: Vec<f32>;
    let values = if kind == "Div" {
        inverse = values.iter().map(|c| 1.0 / c).collect();
        &inverse
    } else {
        values
    };
    let operand = Tensor { dims: own.clone(), values: super::tensors::Values::Float(values.to_vec()) };
    let operand = literal(draft, &operand, &format!("{}/constant", op.name))?;
    let (a, b) = if first { (&operand, x) } else { (x, &operand) };
    two(op, draft, function, a, b)
}

/// The axis of an activation of these sides along which a constant has one number for each, none
/// where it is another.
pub(super) fn channel_axis(tensor: &Tensor, dims: &[usize]) -> Option<usize> {
    let own = aligned(tensor, dims.len()).ok()?;
    let mut varies = (0..own.len()).filter(|&axis| own[axis] != 1);
    let axis = varies.next()?;
    (varies.next().is_none() && own[axis] == dims[axis]).then_some(axis)
}

/// A constant as an operand of an activation of `rank` axes without the batch.
pub(super) fn operand(draft: &mut Draft, tensor: &Tensor, rank: usize, name: &str) -> Result<Active> {
    let dims = aligned(tensor, rank)?;
    literal(draft, &Tensor { dims, values: tensor.values.clone() }, name)
}

/// A constant as a node; its sides are those without the batch.
fn literal(draft: &mut Draft, tensor: &Tensor, name: &str) -> Result<Active> {
    let shape = stored(&tensor.dims);
    let values = tensor.as_floats()?;
    if !values.iter().all(|v| v.is_finite()) {
        return Err(Error::bad("a constant is not finite"));
    }
    let array = Array3::from_shape_vec((shape.channels, shape.height, shape.width), values.to_vec());
    let array = array.map_err(|e| Error::bad("a constant cannot be read").because(e))?;
    let node = draft.operation(name, Op::Constant(array), vec![])?;
    Ok(Active::new(node, tensor.dims.clone(), name))
}

/// A constant that stands where an activation could.
pub(super) fn constant(draft: &mut Draft, tensor: &Tensor, name: &str) -> Result<Active> {
    match tensor.dims.split_first() {
        Some((1, sides)) if product(sides) != Some(0) => {
            literal(draft, &Tensor { dims: sides.to_vec(), values: tensor.values.clone() }, name)
        }
        _ => Err(Error::bad(format!("a constant of shape {:?} is no activation of one image", tensor.dims))),
    }
}

/// `Dropout` as in inference.
pub(super) fn dropout(op: &Operation<'_>) -> Result<Active> {
    op.at_most(3)?;
    op.int("seed")?;
    let training = match op.constant(2)? {
        None => false,
        Some(tensor) => tensor.as_ints()?.iter().any(|&v| v != 0),
    };
    if training {
        return Err(Error::bad("is in training mode").hint("export the network in evaluation mode: model.eval()"));
    }
    // Before opset 12 the ratio is an attribute.
    op.float("ratio", 0.5)?;
    Ok(op.active(0)?.clone())
}

/// `Cast` of an activation: floats stay f32, the image's levels become it, and places that are
/// integers in the file are f32 already.
pub(super) fn cast(op: &Operation<'_>, draft: &Draft) -> Result<Active> {
    op.flag("saturate", true)?;
    op.word("round_mode", &["up", "down", "nearest"])?;
    let is_place = reduce::gives_places(draft, op.active(0)?.node);
    match op.int("to")? {
        Some(6 | 7 | 12 | 13) if is_place => Ok(op.active(0)?.clone()),
        Some(1 | 10 | 11 | 16) => Ok(op.active(0)?.clone()),
        to => Err(Error::bad(format!(
            "of an activation to the data type number {} is not supported; float types are",
            to.unwrap_or(0)
        ))),
    }
}
