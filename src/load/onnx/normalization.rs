//! Normalizations: lines with mean 0 and variance 1, in f32, then factors and offsets.

use super::draft::Draft;
use super::elementwise::with_constant;
use super::operation::Operation;
use super::reduce::{along, lines};
use super::shape_ops::flat;
use super::tensors::{Tensor, product};
use super::values::Active;
use crate::model::{Along, Expression, Op, Operand, Operator, ReduceKind, Standardize, number};
use crate::{Error, Result};

/// The operators that are read here.
pub(super) const OPERATORS: [&str; 5] =
    ["GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization", "RMSNormalization"];

/// One of [`OPERATORS`].
pub(super) fn normalization(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    match op.kind {
        "LayerNormalization" => layer(op, draft),
        "InstanceNormalization" => instance(op, draft),
        "GroupNormalization" => group(op, draft),
        "LpNormalization" => norm(op, draft),
        _ => root_mean_square(op, draft),
    }
}

/// ε, 0 or more.
fn epsilon(op: &Operation<'_>) -> Result<f32> {
    let epsilon = op.float("epsilon", 1e-5)?;
    if epsilon < 0.0 { Err(Error::bad(format!("its epsilon is {epsilon}"))) } else { Ok(epsilon) }
}

/// The axes from the one that an attribute names to the last, without the batch.
fn trailing(op: &Operation<'_>, x: &Active) -> Result<Vec<usize>> {
    let rank = x.sides.len();
    let first = op.axis(op.int("axis")?.unwrap_or(-1), rank + 1)?;
    let first = first.checked_sub(1).ok_or_else(|| Error::bad("is over the batch"))?;
    Ok((first..rank).collect())
}

/// `(x − μ) / sqrt(σ² + ε)` over axes.
pub(super) fn standardized(
    op: &Operation<'_>,
    draft: &mut Draft,
    x: &Active,
    axes: &[usize],
    epsilon: f32,
) -> Result<Active> {
    if let Some(along) = along(draft, x, axes) {
        let node = draft.operation(op.name, Op::Standardize(Standardize { along, epsilon }), vec![x.node])?;
        return Ok(x.with_node(node));
    }
    // The axes become the pixels of a channel for each place of the others.
    let dims = x.dims();
    let others: Vec<usize> = (0..dims.len()).filter(|axis| !axes.contains(axis)).collect();
    let order: Vec<usize> = others.iter().chain(axes).copied().collect();
    let moved = x.permuted(&order, op.name);
    let node = draft.realize(&moved)?;
    let part = |axes: &[usize]| product(&axes.iter().map(|&axis| dims[axis]).collect::<Vec<_>>());
    let sides = [part(&others), part(axes)].into_iter().collect::<Option<Vec<usize>>>();
    let sides = sides.ok_or_else(|| Error::bad("is too large"))?;
    let node = draft.realize(&Active::new(node, sides, op.name))?;
    let standardize = Standardize { along: Along::Height, epsilon };
    let node = draft.operation(op.name, Op::Standardize(standardize), vec![node])?;
    let sides: Vec<usize> = order.iter().map(|&axis| dims[axis]).collect();
    let back: Vec<usize> = (0..dims.len()).filter_map(|axis| order.iter().position(|&moved| moved == axis)).collect();
    Ok(Active::new(node, sides, op.name).permuted(&back, op.name))
}

/// With a factor and an offset for each place of trailing axes.
fn scaled(op: &Operation<'_>, draft: &mut Draft, y: Active, inputs: [usize; 2]) -> Result<Active> {
    let mut y = y;
    for (index, kind) in inputs.into_iter().zip(["Mul", "Add"]) {
        if let Some(tensor) = op.constant(index)? {
            y = with_constant(op, kind, draft, &y, tensor, false)?;
        }
    }
    Ok(y)
}

/// `LayerNormalization`: over the last axes.
fn layer(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(3)?;
    op.int("stash_type")?;
    let x = op.active(0)?.clone();
    let axes = trailing(op, &x)?;
    let y = standardized(op, draft, &x, &axes, epsilon(op)?)?;
    scaled(op, draft, y, [1, 2])
}

/// A constant of one number for each channel, as one for each channel and all places behind.
fn for_channels(op: &Operation<'_>, index: usize, channels: usize, rank: usize) -> Result<Tensor> {
    let values = op.needed(index)?.vector(channels)?.to_vec();
    let dims = std::iter::once(channels).chain(std::iter::repeat_n(1, rank - 1)).collect();
    Ok(Tensor { dims, values: super::tensors::Values::Float(values) })
}

/// `InstanceNormalization`: over all axes behind the channels.
fn instance(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(3)?;
    let x = op.active(0)?.clone();
    let (dims, rank) = (x.dims(), x.sides.len());
    if rank < 2 {
        return Err(Error::bad("reads an activation without rows"));
    }
    let axes: Vec<usize> = (1..rank).collect();
    let mut y = standardized(op, draft, &x, &axes, epsilon(op)?)?;
    for (index, kind) in [(1, "Mul"), (2, "Add")] {
        let tensor = for_channels(op, index, dims[0], rank)?;
        y = with_constant(op, kind, draft, &y, &tensor, false)?;
    }
    Ok(y)
}

/// `GroupNormalization`: over groups of channels and all axes behind them. Until opset 20 there is
/// one factor and one offset for each group, then one for each channel.
fn group(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(3)?;
    op.int("stash_type")?;
    let x = op.active(0)?.clone();
    let (dims, rank) = (x.dims(), x.sides.len());
    let groups = op.int("num_groups")?.and_then(|groups| usize::try_from(groups).ok());
    let channels = dims.first().copied().unwrap_or(0);
    let groups = groups.filter(|&groups| groups > 0 && channels > 0 && channels.is_multiple_of(groups));
    let groups = groups.ok_or_else(|| Error::bad(format!("its groups do not divide {channels} channels")))?;
    let node = draft.realize(&x)?;
    let rest = product(&dims).ok_or_else(|| Error::bad("is too large"))? / groups;
    let grouped = draft.realize(&Active::new(node, vec![groups, rest], op.name))?;
    let y = standardized(op, draft, &Active::new(grouped, vec![groups, rest], op.name), &[1], epsilon(op)?)?;
    let mut y = Active::new(y.node, dims, op.name);
    let each = if op.opset < 21 { groups } else { channels };
    for (index, kind) in [(1, "Mul"), (2, "Add")] {
        let mut tensor = for_channels(op, index, each, rank)?;
        if each != channels {
            let values = tensor.as_floats()?;
            let repeated = values.iter().flat_map(|&v| std::iter::repeat_n(v, channels / groups)).collect();
            tensor.values = super::tensors::Values::Float(repeated);
            tensor.dims[0] = channels;
        }
        y = with_constant(op, kind, draft, &y, &tensor, false)?;
    }
    Ok(y)
}

/// `LpNormalization`: divided by the norm along an axis.
fn norm(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(1)?;
    let x = op.active(0)?.clone();
    let axis = op.axis(op.int("axis")?.unwrap_or(-1), x.sides.len() + 1)?;
    let axis = axis.checked_sub(1).ok_or_else(|| Error::bad("is over the batch"))?;
    let kind = match op.int("p")?.unwrap_or(2) {
        1 => ReduceKind::SumOfMagnitudes,
        2 => ReduceKind::Norm,
        other => return Err(Error::bad(format!("its attribute `p` is {other}; 1 or 2 is expected"))),
    };
    let mut e = Expression::default();
    let quotient = e.push(Operator::Div, &[Operand::Input(0), Operand::Input(1)]);
    over_lines(op, draft, &x, axis, kind, e, &quotient)
}

/// `RMSNormalization`: divided by the root of the mean square over the last axes.
fn root_mean_square(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(2)?;
    op.int("stash_type")?;
    let x = op.active(0)?;
    let (dims, first) = (x.dims(), trailing(op, x)?[0]);
    // Several axes are one line.
    let line: usize = dims[first..].iter().product();
    let sides = [&dims[..first], &[line]].concat();
    let x = if first + 1 < dims.len() { flat(draft, x, sides, op.name)? } else { x.clone() };
    let count = super::tensors::narrowed(1.0 / line as f64);
    let mut e = Expression::default();
    let mean = e.push(Operator::Mul, &[Operand::Input(1), number(count)]);
    let raised = e.push(Operator::Add, &[mean, number(epsilon(op)?)]);
    let root = e.push(Operator::Sqrt, &[raised]);
    let quotient = e.push(Operator::Div, &[Operand::Input(0), root]);
    let y = over_lines(op, draft, &x, first, ReduceKind::SumOfSquares, e, &quotient)?;
    let y = if first + 1 < dims.len() { flat(draft, &y, dims, op.name)? } else { y };
    scaled(op, draft, y, [1, 2])
}

/// A function of each value and of what its line is reduced to.
fn over_lines(
    op: &Operation<'_>,
    draft: &mut Draft,
    x: &Active,
    axis: usize,
    kind: ReduceKind,
    e: Expression,
    result: &Operand,
) -> Result<Active> {
    let function = e.finish(result).ok_or_else(|| Error::bad("computes nothing"))?;
    let x = draft.image(x)?;
    if along(draft, &x, &[axis]).is_none() {
        return Err(Error::bad("reads an activation of more than three axes"));
    }
    let reduced = lines(op, draft, &x, &[axis], true, kind)?;
    let node = draft.operation(op.name, Op::Function(function), vec![x.node, reduced.node])?;
    Ok(x.with_node(node))
}
