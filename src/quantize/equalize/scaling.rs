//! What functions do to the units of their input.

use crate::model::{Activation, Expression, Function, Op, Operand, Operator, number};

/// What a function of one activation does to its units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scaling {
    /// `f(2^k·x) = 2^k·f(x)`, in floats as well.
    WithInput,
    /// It cuts off below 0 and above this.
    Clip(f32),
    /// Neither.
    Other,
}

/// What an operation does to units; none where it is no function of one activation.
pub(super) fn scaling(op: &Op) -> Option<Scaling> {
    match op {
        Op::Activation(Activation::LeakyRelu { .. }) => Some(Scaling::WithInput),
        Op::Activation(Activation::Clip { low, high }) => {
            let ends = [*low, *high];
            Some(match ends {
                _ if ends.iter().all(|end| *end == 0.0 || end.is_infinite()) => Scaling::WithInput,
                [0.0, high] if high > 0.0 => Scaling::Clip(high),
                _ => Scaling::Other,
            })
        }
        Op::Activation(_) => Some(Scaling::Other),
        Op::Function(function) if function.inputs() == 1 => {
            Some(if degree(function) == Some(Degree::One) { Scaling::WithInput } else { Scaling::Other })
        }
        _ => None,
    }
}

/// How a value follows the units of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Degree {
    /// It is always 0.
    Nothing,
    /// It does not change.
    Zero,
    /// It is in the units of the input.
    One,
}

/// How the result of a function follows the units of its input; none where it does in no simple way.
fn degree(function: &Function) -> Option<Degree> {
    let mut found: Vec<Degree> = Vec::with_capacity(function.steps.len());
    for step in &function.steps {
        let operand = |operand: &Operand| match operand {
            Operand::Input(_) => Degree::One,
            Operand::Step(index) => found[*index],
            Operand::Constant(values) if values.iter().all(|&value| value == 0.0) => Degree::Nothing,
            Operand::Constant(_) => Degree::Zero,
        };
        let read: Vec<Degree> = step.operands.iter().map(operand).collect();
        found.push(step_degree(step.operator, &read)?);
    }
    found.last().copied()
}

/// The same of a step.
fn step_degree(operator: Operator, read: &[Degree]) -> Option<Degree> {
    // What sums, comparisons and choices need: the same units, where it is not 0.
    let same = |read: &[Degree]| {
        let mut units = read.iter().filter(|&&degree| degree != Degree::Nothing);
        match units.next() {
            None => Some(Degree::Nothing),
            Some(&first) => units.all(|&other| other == first).then_some(first),
        }
    };
    match (operator, read) {
        (Operator::Abs | Operator::Neg, [a]) | (Operator::Div, [a, Degree::Zero]) => Some(*a),
        (Operator::Sign, [_]) | (Operator::Div, [Degree::One, Degree::One]) => Some(Degree::Zero),
        (Operator::Add | Operator::Sub | Operator::Min | Operator::Max, read) => same(read),
        (Operator::Less | Operator::LessOrEqual | Operator::Equal, read) => same(read).map(|_| Degree::Zero),
        (Operator::Select, [condition, rest @ ..]) if *condition != Degree::One => same(rest),
        (Operator::Mul, [Degree::Zero, other] | [other, Degree::Zero]) => Some(*other),
        // Functions of what has no units have none.
        (_, read) if read.iter().all(|&degree| degree == Degree::Zero) => Some(Degree::Zero),
        _ => None,
    }
}

/// A clip from 0, its ends those of each channel in its own units, as [`rescaled`](super::rescaled)
/// writes it.
pub(super) fn clip_function(highs: Vec<f32>) -> Op {
    let mut e = Expression::default();
    // In this order a NaN stays, and −0 as a clip would leave it.
    let raised = e.push(Operator::Max, &[number(0.0), Operand::Input(0)]);
    let cut = e.push(Operator::Min, &[Operand::Constant(highs), raised]);
    Op::Function(e.finish(&cut).unwrap_or_else(|| unreachable!("the last step is its result")))
}

/// Low and high of a clip; of one with ends for each channel the least high.
pub(in crate::quantize) fn clip(op: &Op) -> Option<(f32, f32)> {
    match op {
        Op::Activation(Activation::Clip { low, high }) => Some((*low, *high)),
        Op::Function(function) => {
            let [_, last] = function.steps.as_slice() else { return None };
            let Operand::Constant(highs) = last.operands.first()? else { return None };
            let high = highs.iter().copied().fold(f32::INFINITY, f32::min);
            (*op == clip_function(highs.clone())).then_some((0.0, high))
        }
        _ => None,
    }
}
