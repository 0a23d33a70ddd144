//! The integer forms of operations without weights.
//!
//! | operation | integers |
//! | --- | --- |
//! | a function of one value | a table of 256 levels, for each channel where they differ |
//! | sum, difference | two multipliers `s_a/s_y`, `±s_b/s_y` with one shift |
//! | product | the multiplier `s_a·s_b/s_y` |
//! | mean over a window | the multiplier `s_x/(s_y·d)` for each divisor d |
//! | the largest of a window, moved values | none: stored as the input is |
//! | concatenation | a table for each input that is not stored as the output is |

use super::requantize::{check_pool, pool};
use super::stored::Stored;
use crate::model::{Binary, Constants, Integer, Multiplier, Op, QBinary, QParams, Shape, Table};
use crate::{Error, Result};

/// An operation without weights that reads levels, with the shapes of its inputs, and is stored as
/// `y`.
///
/// # Errors
/// Where the operation has no integer form, a multiplier would be out of range, or a sum could
/// overflow.
pub(super) fn integer(op: &Op, inputs: &[(Stored, Shape)], y: &QParams) -> Result<Integer> {
    let scale = |x: &Stored| f64::from(x.params.scale);
    let s_y = f64::from(y.scale);
    let none = || Error::bad(format!("{} has no integer form", op.kind()));
    let constants = match (op, inputs) {
        (Op::Input(_), []) => Constants::None,
        (op, [_]) if op.passes_values() => Constants::None,
        (Op::Activation(f), [(x, _)]) => Constants::Table(Table::of(&x.params, y, |x| f.apply(x))),
        (Op::Function(f), [(x, _)]) => {
            let table = |channel: usize| Table::of_partial(&x.params, y, |x| f.apply(&[x], channel));
            match f.channels() {
                None => Constants::Table(table(0)),
                Some(channels) => Constants::ChannelTables((0..channels).map(table).collect()),
            }
        }
        (Op::Binary(Binary::Mul), [(a, _), (b, _)]) => {
            Constants::Binary(QBinary::Product(Multiplier::new(scale(a) * scale(b) / s_y)?))
        }
        (Op::Binary(kind @ (Binary::Add | Binary::Sub)), [(a, _), (b, _)]) => {
            let (m_a, m_b) = Multiplier::pair(scale(a) / s_y, scale(b) / s_y)?;
            let m_b_signed = if *kind == Binary::Sub { -m_b.multiplier } else { m_b.multiplier };
            let multipliers = [m_a.multiplier, m_b_signed];
            Constants::Binary(QBinary::Sum { multipliers, right_shift: m_a.right_shift })
        }
        (Op::GlobalAveragePool, [(x, shape)]) => Constants::Multiplier(pool(*x, y, shape.pixels())?),
        (Op::Pool(window), [(x, shape)]) => {
            let divisors = window.largest_divisor(*shape);
            check_pool(*x, divisors)?;
            Constants::Multipliers((1..=divisors).map(|divisor| pool(*x, y, divisor)).collect::<Result<_>>()?)
        }
        (Op::Concat(_), inputs) => {
            let table = |x: &QParams| (x != y).then(|| Table::of(x, y, |x| x));
            Constants::Tables(inputs.iter().map(|(x, _)| table(&x.params)).collect())
        }
        _ => return Err(none()),
    };
    Integer::new(op.without_weights().ok_or_else(none)?, constants)
}
