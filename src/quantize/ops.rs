//! The integer forms of operations without weights.
//!
//! | operation | integers |
//! | --- | --- |
//! | a function of one value | a table of 256 levels |
//! | sum, difference | two multipliers `s_a/s_y`, `±s_b/s_y` with one shift |
//! | product | the multiplier `s_a·s_b/s_y` |
//! | mean over a window | the multiplier `s_x/(s_y·d)` for each divisor d |
//! | the largest of a window, moved values | none: stored as the input is |
//! | concatenation | a table for each input that is not stored as the output is |

use super::requantize::{check_pool, pool};
use super::stored::Stored;
use crate::model::{Binary, Multiplier, Op, PoolKind, QBinary, QOp, QParams, Shape, Table};
use crate::{Error, Result};

/// An operation that reads levels, with the shapes of its inputs, and is stored as `y`.
///
/// # Errors
/// Where the operation has no integer form, a multiplier would be out of range, or a sum could overflow.
pub(super) fn integer(op: &Op, inputs: &[(Stored, Shape)], y: &QParams) -> Result<QOp> {
    let scale = |x: &Stored| f64::from(x.params.scale);
    let s_y = f64::from(y.scale);
    Ok(match (op, inputs) {
        (Op::Activation(f), [(x, _)]) => QOp::Table { function: *f, table: Table::of(&x.params, y, |x| f.apply(x)) },
        (Op::Binary(Binary::Mul), [(a, _), (b, _)]) => {
            QOp::Binary(QBinary::Product(Multiplier::new(scale(a) * scale(b) / s_y)?))
        }
        (Op::Binary(kind), [(a, _), (b, _)]) => {
            let (m_a, m_b) = Multiplier::pair(scale(a) / s_y, scale(b) / s_y)?;
            let m_b_signed = if *kind == Binary::Sub { -m_b.multiplier } else { m_b.multiplier };
            QOp::Binary(QBinary::Sum { multipliers: [m_a.multiplier, m_b_signed], right_shift: m_a.right_shift })
        }
        (Op::GlobalAveragePool, [(x, shape)]) => QOp::GlobalAveragePool(pool(*x, y, shape.pixels())?),
        (Op::Pool(window), [(x, shape)]) => {
            let divisors = if window.kind == PoolKind::Max { 0 } else { window.largest_divisor(*shape) };
            if divisors > 0 {
                check_pool(*x, divisors)?;
            }
            let multipliers = (1..=divisors).map(|divisor| pool(*x, y, divisor)).collect::<Result<_>>()?;
            QOp::Pool { pool: *window, multipliers }
        }
        (Op::Rearrange(rearrange), [_]) => QOp::Rearrange(rearrange.clone()),
        (Op::Concat(axis), inputs) => {
            let table = |x: &QParams| (x != y).then(|| Table::of(x, y, |x| x));
            QOp::Concat { axis: *axis, tables: inputs.iter().map(|(x, _)| table(&x.params)).collect() }
        }
        _ => return Err(Error::bad(format!("{} has no integer form", op.kind()))),
    })
}
