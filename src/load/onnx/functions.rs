//! ONNX's element-wise operators as expressions.

use super::draft::Draft;
use super::elementwise::{self, along_channels, channel_axis};
use super::operation::Operation;
use super::tensors::{Tensor, Values};
use super::values::{Active, Value, stored};
use crate::model::{Activation, Expression, Function, Op, Operand, Operator, Step, broadcast, number};
use crate::{Error, Result};

/// The operators that are read here: functions of one value, of two, comparisons and choices.
pub(super) fn is_function(kind: &str) -> bool {
    plain(kind).is_some()
        || matches!(
            kind,
            "And"
                | "Celu"
                | "Elu"
                | "Gelu"
                | "Greater"
                | "GreaterOrEqual"
                | "IsInf"
                | "IsNaN"
                | "Mean"
                | "Mish"
                | "Not"
                | "Or"
                | "PRelu"
                | "Selu"
                | "Shrink"
                | "Softplus"
                | "Softsign"
                | "Sum"
                | "Swish"
                | "ThresholdedRelu"
                | "Where"
                | "Xor"
        )
}

/// Those that are one step.
fn plain(kind: &str) -> Option<Operator> {
    Some(match kind {
        "Abs" => Operator::Abs,
        "Acos" => Operator::Acos,
        "Acosh" => Operator::Acosh,
        "Asin" => Operator::Asin,
        "Asinh" => Operator::Asinh,
        "Atan" => Operator::Atan,
        "Atanh" => Operator::Atanh,
        "Ceil" => Operator::Ceil,
        "Cos" => Operator::Cos,
        "Cosh" => Operator::Cosh,
        "Div" => Operator::Div,
        "Equal" => Operator::Equal,
        "Erf" => Operator::Erf,
        "Exp" => Operator::Exp,
        "Floor" => Operator::Floor,
        "Less" => Operator::Less,
        "LessOrEqual" => Operator::LessOrEqual,
        "Log" => Operator::Log,
        "Max" => Operator::Max,
        "Min" => Operator::Min,
        "Neg" => Operator::Neg,
        "Pow" => Operator::Pow,
        "Reciprocal" => Operator::Reciprocal,
        "Round" => Operator::Round,
        "Sign" => Operator::Sign,
        "Sin" => Operator::Sin,
        "Sinh" => Operator::Sinh,
        "Sqrt" => Operator::Sqrt,
        "Tan" => Operator::Tan,
        "Tanh" => Operator::Tanh,
        _ => return None,
    })
}

/// A function of the values at one place; the batch, rows and columns stay where they are.
///
/// # Errors
/// Inputs or attributes that the operator does not take, or that are not supported here.
pub(super) fn function(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let operands = Operands::of(op, draft)?;
    let mut e = Expression::default();
    let result = built(op, &mut e, &operands.read)?;
    let Some(function) = e.finish(&result) else {
        return match (&result, operands.actives.as_slice()) {
            (Operand::Input(index), actives) if *index < actives.len() => Ok(actives[*index].clone()),
            _ => Err(Error::bad("gives a constant")),
        };
    };
    operands.node(op, draft, function)
}

/// What the operator computes of its operands.
pub(super) fn built(op: &Operation<'_>, e: &mut Expression, read: &[Operand]) -> Result<Operand> {
    let needs = |count: usize| {
        let given = read.len();
        if given == count { Ok(()) } else { Err(Error::bad(format!("has {given} inputs; {count} are expected"))) }
    };
    if let Some(operator) = plain(op.kind) {
        if matches!(operator, Operator::Min | Operator::Max) {
            return many(e, operator, read);
        }
        needs(operator.arity())?;
        return Ok(if operator == Operator::Pow { power(e, &read[0], &read[1]) } else { e.push(operator, read) });
    }
    match op.kind {
        "Sum" => return many(e, Operator::Add, read),
        "Mean" => {
            let sum = many(e, Operator::Add, read)?;
            return Ok(e.push(Operator::Mul, &[sum, number(1.0 / read.len() as f32)]));
        }
        "Greater" | "GreaterOrEqual" | "And" | "Or" | "Xor" | "PRelu" => {
            needs(2)?;
            let (a, b) = (read[0].clone(), read[1].clone());
            return Ok(match op.kind {
                "Greater" => e.push(Operator::Less, &[b, a]),
                "GreaterOrEqual" => e.push(Operator::LessOrEqual, &[b, a]),
                "And" => e.push(Operator::Mul, &[a, b]),
                "Or" => e.push(Operator::Max, &[a, b]),
                "Xor" => {
                    let same = e.push(Operator::Equal, &[a, b]);
                    e.push(Operator::Sub, &[number(1.0), same])
                }
                _ => leaky(e, a, b),
            });
        }
        "Where" => {
            needs(3)?;
            return Ok(e.push(Operator::Select, read));
        }
        _ => {}
    }
    needs(1)?;
    one(op, e, &read[0])
}

/// Functions of one value that are several steps.
fn one(op: &Operation<'_>, e: &mut Expression, x: &Operand) -> Result<Operand> {
    let x = x.clone();
    Ok(match op.kind {
        "Not" => e.push(Operator::Equal, &[x, number(0.0)]),
        "IsNaN" => {
            let same = e.push(Operator::Equal, &[x.clone(), x]);
            e.push(Operator::Equal, &[same, number(0.0)])
        }
        "IsInf" => {
            let (above, below) = (op.flag("detect_positive", true)?, op.flag("detect_negative", true)?);
            let of = match (above, below) {
                (true, true) => e.push(Operator::Abs, &[x]),
                (true, false) => x,
                (false, true) => e.push(Operator::Neg, &[x]),
                (false, false) => return Err(Error::bad("detects nothing")),
            };
            e.push(Operator::Less, &[number(f32::MAX), of])
        }
        "Gelu" if op.word("approximate", &["none", "tanh"])? == "none" => {
            let scaled = e.push(Operator::Mul, &[x.clone(), number(std::f32::consts::FRAC_1_SQRT_2)]);
            let erf = e.push(Operator::Erf, &[scaled]);
            halves(e, x, erf)
        }
        "Gelu" => {
            let square = e.push(Operator::Mul, &[x.clone(), x.clone()]);
            let cube = e.push(Operator::Mul, &[square, x.clone()]);
            let bent = e.push(Operator::Mul, &[cube, number(0.044_715)]);
            let sum = e.push(Operator::Add, &[x.clone(), bent]);
            let scaled = e.push(Operator::Mul, &[sum, number(0.797_884_6)]);
            let tanh = e.push(Operator::Tanh, &[scaled]);
            halves(e, x, tanh)
        }
        "Swish" => {
            let scaled = e.push(Operator::Mul, &[x.clone(), number(op.float("alpha", 1.0)?)]);
            let gate = e.push(Operator::Sigmoid, &[scaled]);
            e.push(Operator::Mul, &[x, gate])
        }
        "Softplus" => softplus(e, x),
        "Mish" => mish(e, x),
        "Softsign" => {
            let magnitude = e.push(Operator::Abs, std::slice::from_ref(&x));
            let divisor = e.push(Operator::Add, &[magnitude, number(1.0)]);
            e.push(Operator::Div, &[x, divisor])
        }
        "Elu" | "Selu" | "Celu" => {
            let (alpha, gamma, divisor) = match op.kind {
                "Elu" => (op.float("alpha", 1.0)?, 1.0, 1.0),
                "Selu" => (op.float("alpha", 1.673_263_2)?, op.float("gamma", 1.050_701)?, 1.0),
                _ => {
                    let alpha = op.float("alpha", 1.0)?;
                    (alpha, 1.0, alpha)
                }
            };
            // Of what is negative alone: the power cannot overflow.
            let low = e.push(Operator::Min, &[x.clone(), number(0.0)]);
            let scaled = if divisor == 1.0 { low } else { e.push(Operator::Div, &[low, number(divisor)]) };
            let power = e.push(Operator::Exp, &[scaled]);
            let lowered = e.push(Operator::Sub, &[power, number(1.0)]);
            let below = e.push(Operator::Mul, &[lowered, number(alpha)]);
            let negative = e.push(Operator::Less, &[x.clone(), number(0.0)]);
            let bent = e.push(Operator::Select, &[negative, below, x]);
            if gamma == 1.0 { bent } else { e.push(Operator::Mul, &[bent, number(gamma)]) }
        }
        "ThresholdedRelu" => {
            let above = e.push(Operator::Less, &[number(op.float("alpha", 1.0)?), x.clone()]);
            e.push(Operator::Select, &[above, x, number(0.0)])
        }
        "Shrink" => {
            let (bias, lambda) = (op.float("bias", 0.0)?, op.float("lambd", 0.5)?);
            let (low, high) = (
                e.push(Operator::Less, &[x.clone(), number(-lambda)]),
                e.push(Operator::Less, &[number(lambda), x.clone()]),
            );
            let raised = e.push(Operator::Add, &[x.clone(), number(bias)]);
            let lowered = e.push(Operator::Sub, &[x, number(bias)]);
            let upper = e.push(Operator::Select, &[high, lowered, number(0.0)]);
            e.push(Operator::Select, &[low, raised, upper])
        }
        other => return Err(Error::bad(format!("{other} is no function that is read"))),
    })
}

/// `x` where it is not negative, else `slope·x`.
pub(super) fn leaky(e: &mut Expression, x: Operand, slope: Operand) -> Operand {
    let below = e.push(Operator::Mul, &[x.clone(), slope]);
    let negative = e.push(Operator::Less, &[x.clone(), number(0.0)]);
    e.push(Operator::Select, &[negative, below, x])
}

/// `x · (1 + f) / 2`.
fn halves(e: &mut Expression, x: Operand, f: Operand) -> Operand {
    let raised = e.push(Operator::Add, &[f, number(1.0)]);
    let product = e.push(Operator::Mul, &[x, raised]);
    e.push(Operator::Mul, &[product, number(0.5)])
}

/// `ln(1 + e^x)` as `max(x, 0) + ln(1 + e^(−|x|))`, which cannot overflow.
fn softplus(e: &mut Expression, x: Operand) -> Operand {
    let high = e.push(Operator::Max, &[x.clone(), number(0.0)]);
    let magnitude = e.push(Operator::Abs, &[x]);
    let negative = e.push(Operator::Neg, &[magnitude]);
    let power = e.push(Operator::Exp, &[negative]);
    let raised = e.push(Operator::Add, &[power, number(1.0)]);
    let log = e.push(Operator::Log, &[raised]);
    e.push(Operator::Add, &[high, log])
}

/// `x·tanh(ln(1 + e^x))` as `x·n / (n + 2)` with `n = e^x·(e^x + 2)`: no sum with 1 loses the small
/// `e^x`. Above 20 the quotient is 1, and a larger power would overflow.
fn mish(e: &mut Expression, x: Operand) -> Operand {
    let low = e.push(Operator::Min, &[x.clone(), number(20.0)]);
    let power = e.push(Operator::Exp, &[low]);
    let raised = e.push(Operator::Add, &[power.clone(), number(2.0)]);
    let n = e.push(Operator::Mul, &[power, raised]);
    let divisor = e.push(Operator::Add, &[n.clone(), number(2.0)]);
    let quotient = e.push(Operator::Div, &[n, divisor]);
    e.push(Operator::Mul, &[x, quotient])
}

/// `a^b`; where b is a small number, as products and roots, which are defined for a negative a and
/// rounded less.
fn power(e: &mut Expression, a: &Operand, b: &Operand) -> Operand {
    let a = a.clone();
    let square = |e: &mut Expression| e.push(Operator::Mul, &[a.clone(), a.clone()]);
    match b {
        Operand::Constant(values) => match values.as_slice() {
            [1.0] => a,
            [2.0] => square(e),
            [3.0] => {
                let square = square(e);
                e.push(Operator::Mul, &[square, a])
            }
            [0.5] => e.push(Operator::Sqrt, &[a]),
            [-1.0] => e.push(Operator::Reciprocal, &[a]),
            [-0.5] => {
                let root = e.push(Operator::Sqrt, &[a]);
                e.push(Operator::Reciprocal, &[root])
            }
            _ => e.push(Operator::Pow, &[a, b.clone()]),
        },
        _ => e.push(Operator::Pow, &[a, b.clone()]),
    }
}

/// One operator over many operands.
fn many(e: &mut Expression, operator: Operator, read: &[Operand]) -> Result<Operand> {
    let Some((first, rest)) = read.split_first() else { return Err(Error::bad("has no inputs")) };
    Ok(rest.iter().fold(first.clone(), |all, next| e.push(operator, &[all, next.clone()])))
}

/// What an operation reads: activations, each once, and constants that are one number or one for
/// each channel of the node. Other constants are activations of their own.
struct Operands {
    actives: Vec<Active>,
    read: Vec<Operand>,
}

impl Operands {
    fn of(op: &Operation<'_>, draft: &mut Draft) -> Result<Self> {
        let mut actives: Vec<Active> = Vec::new();
        let mut lists: Vec<&Tensor> = Vec::new();
        for input in op.inputs.iter().flatten() {
            match input {
                Value::Active(active) if !actives.contains(active) => actives.push(active.clone()),
                Value::Constant(tensor) if tensor.values.len() != 1 => lists.push(tensor),
                _ => {}
            }
        }
        // Whether the only activation's node has, or gets, the channels that the constants are for.
        let mut only = None;
        if let [x] = actives.as_slice() {
            let dims = x.dims();
            let mut axes = lists.iter().map(|tensor| channel_axis(tensor, &dims));
            only = match axes.next() {
                None => Some(x.clone()),
                Some(Some(axis)) if axes.all(|other| other == Some(axis)) => along_channels(draft, x, axis)?,
                Some(_) => None,
            };
        }
        let mut read = Vec::with_capacity(op.inputs.len());
        for (slot, input) in op.inputs.iter().enumerate() {
            read.push(match input {
                None => return Err(Error::bad(format!("its input {slot} is missing"))),
                Some(Value::Active(active)) => {
                    // The only one is the first, realized or not.
                    Operand::Input(actives.iter().position(|known| known == active).unwrap_or_default())
                }
                Some(Value::Constant(tensor)) => match tensor.numbers() {
                    values if values.len() == 1 || only.is_some() => Operand::Constant(values),
                    values => {
                        let numbers = Tensor { dims: tensor.dims.clone(), values: Values::Float(values) };
                        let rank = actives.iter().map(|active| active.sides.len()).max().unwrap_or_default();
                        let name = format!("{}/constant_{slot}", op.name);
                        actives.push(elementwise::operand(draft, &numbers, rank, &name)?);
                        Operand::Input(actives.len() - 1)
                    }
                },
            });
        }
        Ok(Self { actives: only.map_or(actives, |only| vec![only]), read })
    }

    /// The node that computes a function of them.
    fn node(self, op: &Operation<'_>, draft: &mut Draft, function: Function) -> Result<Active> {
        let [first, rest @ ..] = self.actives.as_slice() else { return Err(Error::bad("reads no activation")) };
        if self.actives.len() > Function::MOST_INPUTS {
            let given = self.actives.len();
            return Err(Error::bad(format!("of {given} activations; at most {} are supported", Function::MOST_INPUTS)));
        }
        let alike = rest.iter().all(|other| {
            other.order == first.order
                && other.sides == first.sides
                && draft.shape(other.node) == draft.shape(first.node)
        });
        if alike {
            let inputs = self.actives.iter().map(|active| active.node).collect();
            let node = draft.operation(op.name, simplest(function), inputs)?;
            return Ok(first.with_node(node));
        }
        // Ranks are made alike by sides of 1 in front, as ONNX does.
        let rank = self.actives.iter().map(|active| active.sides.len()).max().unwrap_or_default();
        let mut dims = vec![1; rank];
        let mut inputs = Vec::with_capacity(self.actives.len());
        for active in &self.actives {
            let own = active.dims();
            if own.len() != rank {
                return Err(Error::bad("its inputs have different numbers of axes"));
            }
            for (side, own) in dims.iter_mut().zip(&own) {
                match (*side, *own) {
                    (a, b) if a == b || b == 1 => {}
                    (1, b) => *side = b,
                    _ => return Err(Error::bad("its inputs' sides do not go together")),
                }
            }
            inputs.push(draft.realize(active)?);
        }
        let mut shapes = self.actives.iter().map(|active| stored(&active.dims()));
        let all = shapes.try_fold(stored(&vec![1; rank]), broadcast);
        if all != Some(stored(&dims)) {
            return Err(Error::bad("its inputs' sides do not go together in three axes"));
        }
        let node = draft.operation(op.name, Op::Function(function), inputs)?;
        Ok(Active::new(node, dims, op.name))
    }
}

/// A function as the activation that it is, where it is one of a single step.
fn simplest(function: Function) -> Op {
    if let [Step { operator, operands }] = function.steps.as_slice() {
        let number = operands.iter().find_map(|operand| match operand {
            Operand::Constant(values) if values.len() == 1 => Some(values[0]),
            _ => None,
        });
        let clip = |low, high| Op::Activation(Activation::Clip { low, high });
        match (operator, number) {
            (Operator::Max, Some(low)) => return clip(low, f32::INFINITY),
            (Operator::Min, Some(high)) => return clip(f32::NEG_INFINITY, high),
            _ => {}
        }
    }
    Op::Function(function)
}
