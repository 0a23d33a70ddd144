//! Operations without weights: parameters in range, tables and multipliers, and shapes that fit.

use super::layers::{bad_multiplier, check_multiplier};
use super::{Value, check_size};
use crate::model::{Activation, MAX_SIDE, Multiplier, Op, Pool, PoolKind, QBinary, QNode, QOp, QParams, Shape, Table};
use crate::quantize::requantize::check_pool;
use crate::quantize::stored::Stored;
use crate::{Error, Result};

/// An operation without weights and its output's shape.
pub(super) fn check(node: &QNode, inputs: &[Value]) -> Result<Shape> {
    // What a shape is computed from is looked at first, so that computing it cannot fail.
    check_parameters(&node.op)?;
    let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape).collect();
    let shape = node.op.output(&shapes).ok_or_else(|| {
        let shapes: Vec<String> = shapes.iter().map(Shape::to_string).collect();
        Error::bad(format!("the operation does not fit inputs of [{}]", shapes.join(", ")))
    })?;
    if !matches!(node.op, QOp::Float(_)) {
        let levels: Option<Vec<Stored>> = inputs.iter().map(|input| input.stored).collect();
        let (Some(y), Some(levels)) = (&node.output, levels) else {
            return Err(Error::bad("an operation on levels reads and gives levels"));
        };
        check_integers(&node.op, y, &levels, &shapes)?;
    }
    Ok(shape)
}

/// The parameters that do not depend on the inputs.
fn check_parameters(op: &QOp) -> Result<()> {
    match op {
        QOp::Pool { pool, .. } | QOp::Float(Op::Pool(pool)) => check_window(pool),
        QOp::Rearrange(rearrange) | QOp::Float(Op::Rearrange(rearrange)) => check_size(rearrange.shape).map(drop),
        QOp::Float(Op::Resize(resize)) => {
            let in_range = resize.size.iter().all(|side| (1..=MAX_SIDE).contains(side))
                && resize.scale.iter().flatten().all(|scale| scale.is_finite() && *scale > 0.0);
            if in_range { Ok(()) } else { Err(Error::bad(format!("it resizes to {:?}", resize.size))) }
        }
        QOp::Float(Op::Activation(activation)) => check_activation(*activation),
        QOp::Float(Op::Constant(values)) if !values.iter().all(|v| v.is_finite()) => {
            Err(Error::bad("a constant is not a finite number"))
        }
        QOp::Float(Op::Input(_)) => Err(Error::bad("an input is no operation in float")),
        _ => Ok(()),
    }
}

fn check_window(pool: &Pool) -> Result<()> {
    let sides = pool.kernel.iter().chain(&pool.stride);
    let in_range = sides.into_iter().all(|side| (1..=MAX_SIDE).contains(side));
    // A window that lies in the padding alone would have no value.
    if in_range && (0..4).all(|side| pool.padding[side] < pool.kernel[side % 2]) {
        return Ok(());
    }
    Err(Error::bad("its kernel, stride or padding is out of range"))
}

fn check_activation(activation: Activation) -> Result<()> {
    let in_range = match activation {
        Activation::Clip { low, high } => low < f32::INFINITY && high > f32::NEG_INFINITY,
        Activation::LeakyRelu { slope } => slope.is_finite(),
        Activation::HardSigmoid { slope, offset } => slope.is_finite() && offset.is_finite(),
        Activation::Sigmoid | Activation::HardSwish | Activation::Silu => true,
    };
    if in_range { Ok(()) } else { Err(Error::bad(format!("a parameter of {} is out of range", activation.name()))) }
}

/// The integers of an operation on levels, its shapes being right.
fn check_integers(op: &QOp, y: &QParams, inputs: &[Stored], shapes: &[Shape]) -> Result<()> {
    match op {
        QOp::Table { function, table } => {
            check_activation(*function)?;
            check_table(table, y)
        }
        QOp::Concat { tables, .. } => inputs.iter().zip(tables).try_for_each(|(x, table)| match table {
            Some(table) => check_table(table, y),
            None if x.params == *y => Ok(()),
            None => Err(Error::bad("an input that is stored otherwise than the output has no table")),
        }),
        QOp::Binary(QBinary::Product(multiplier)) => check_multiplier(*multiplier, multiplier.multiplier),
        QOp::Binary(QBinary::Sum { multipliers: [a, b], right_shift }) => {
            let Some(b) = b.checked_abs() else { return Err(bad_multiplier()) };
            check_multiplier(Multiplier { multiplier: *a, right_shift: *right_shift }, b.max(*a))
        }
        QOp::GlobalAveragePool(multiplier) => {
            check_multiplier(*multiplier, multiplier.multiplier)?;
            check_pool(inputs[0], shapes[0].pixels())
        }
        QOp::Pool { pool, multipliers } if pool.kind != PoolKind::Max => {
            let divisors = pool.largest_divisor(shapes[0]);
            if multipliers.len() != divisors {
                return Err(Error::bad(format!("{} multipliers for {divisors} divisors", multipliers.len())));
            }
            multipliers.iter().try_for_each(|m| check_multiplier(*m, m.multiplier))?;
            check_pool(inputs[0], divisors)
        }
        QOp::Pool { multipliers, .. } if !multipliers.is_empty() => {
            Err(Error::bad("the largest of a window has no multiplier"))
        }
        QOp::Pool { .. } | QOp::Rearrange(_) if inputs[0].params != *y => {
            Err(Error::bad("levels that are only moved are stored as they were"))
        }
        QOp::Pool { .. } | QOp::Rearrange(_) => Ok(()),
        QOp::Input(_) | QOp::Conv(_) | QOp::Linear(_) | QOp::Float(_) => {
            Err(Error::bad("this is no operation on levels without weights"))
        }
    }
}

fn check_table(table: &Table, y: &QParams) -> Result<()> {
    match table.0.iter().find(|&&level| !(y.qmin..=y.qmax).contains(&i32::from(level))) {
        None => Ok(()),
        Some(level) => Err(Error::bad(format!("a level of {level} in a table for {} to {}", y.qmin, y.qmax))),
    }
}
