//! Operations without weights: parameters in range, tables and multipliers, and shapes that fit.

use super::layers::{bad_multiplier, check_multiplier};
use super::value::Value;
use crate::model::{Computed, Constants, Integer, Multiplier, Op, QBinary, QNode, QParams, Shape, Table, on_op};
use crate::quantize::requantize::check_pool;
use crate::quantize::stored::Stored;
use crate::{Error, Result};

/// An operation without weights and its output's shape.
pub(super) fn check(node: &QNode, inputs: &[Value]) -> Result<Shape> {
    // What a shape is computed from is looked at first, so that computing it cannot fail.
    on_op!(&node.computed, op => op.check())?;
    let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape).collect();
    let shape = node.computed.output(&shapes).ok_or_else(|| {
        let shapes: Vec<String> = shapes.iter().map(Shape::to_string).collect();
        Error::bad(format!("the operation does not fit inputs of [{}]", shapes.join(", ")))
    })?;
    if let Computed::Integer(integer) = &node.computed {
        let levels: Option<Vec<Stored>> = inputs.iter().map(|input| input.stored).collect();
        let (Some(y), Some(levels)) = (&node.output, levels) else {
            return Err(Error::bad("an operation on levels reads and gives levels"));
        };
        check_integers(integer, y, &levels, &shapes)?;
    }
    Ok(shape)
}

/// The constants of an operation on levels, its shapes being right.
fn check_integers(integer: &Integer, y: &QParams, inputs: &[Stored], shapes: &[Shape]) -> Result<()> {
    match integer.constants() {
        Constants::Table(table) => check_table(table, y),
        Constants::ChannelTables(tables) if tables.len() != shapes[0].channels => {
            Err(Error::bad(format!("{} tables for {} channels", tables.len(), shapes[0].channels)))
        }
        Constants::ChannelTables(tables) => tables.iter().try_for_each(|table| check_table(table, y)),
        Constants::Tables(tables) if tables.len() != inputs.len() => {
            Err(Error::bad(format!("{} tables for {} inputs", tables.len(), inputs.len())))
        }
        Constants::Tables(tables) => inputs.iter().zip(tables).try_for_each(|(x, table)| match table {
            Some(table) => check_table(table, y),
            None if x.params == *y => Ok(()),
            None => Err(Error::bad("an input that is stored otherwise than the output has no table")),
        }),
        Constants::Binary(QBinary::Product(multiplier)) => check_multiplier(*multiplier, multiplier.multiplier),
        Constants::Binary(QBinary::Sum { multipliers: [a, b], right_shift }) => {
            let Some(b) = b.checked_abs() else { return Err(bad_multiplier()) };
            check_multiplier(Multiplier { multiplier: *a, right_shift: *right_shift }, b.max(*a))
        }
        Constants::Multiplier(multiplier) => {
            check_multiplier(*multiplier, multiplier.multiplier)?;
            check_pool(inputs[0], shapes[0].pixels())
        }
        Constants::Multipliers(multipliers) => {
            let Op::Pool(pool) = integer.op() else { return Err(Error::bad("nothing says what they divide by")) };
            let divisors = pool.largest_divisor(shapes[0]);
            if multipliers.len() != divisors {
                return Err(Error::bad(format!("{} multipliers for {divisors} divisors", multipliers.len())));
            }
            multipliers.iter().try_for_each(|m| check_multiplier(*m, m.multiplier))?;
            check_pool(inputs[0], divisors)
        }
        Constants::None if integer.op().passes_values() && inputs[0].params == *y => Ok(()),
        Constants::None => Err(Error::bad("levels that are only moved are stored as they were")),
    }
}

fn check_table(table: &Table, y: &QParams) -> Result<()> {
    match table.0.iter().find(|&&level| !(y.qmin..=y.qmax).contains(&i32::from(level))) {
        None => Ok(()),
        Some(level) => Err(Error::bad(format!("a level of {level} in a table for {} to {}", y.qmin, y.qmax))),
    }
}
