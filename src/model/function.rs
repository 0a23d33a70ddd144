//! Functions of values at one place, as expressions: what a run of element-wise operations
//! computes, whatever it was spelled as.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A function of the values of one to three activations at the same place.
///
/// It is a list of steps, each of which reads inputs, constants and steps before it; the last one's
/// result is the function's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// In the order in which they are computed; one or more.
    pub steps: Vec<Step>,
}

/// One operator and what it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What is computed.
    pub operator: Operator,
    /// What it reads, as many as [`Operator::arity`] says.
    pub operands: Vec<Operand>,
}

/// What a step reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operand {
    /// The value of an input, counted from 0.
    Input(usize),
    /// The result of an earlier step.
    Step(usize),
    /// One number, or one for each channel.
    Constant(Vec<f32>),
}

/// An operator of a step. What is true is 1, what is not is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// `|a|`.
    Abs,
    /// `−a`.
    Neg,
    /// −1, 0 or 1.
    Sign,
    /// The largest integer that is not above a.
    Floor,
    /// The smallest integer that is not below a.
    Ceil,
    /// The nearest integer, halves to the even one.
    Round,
    /// `1 / a`.
    Reciprocal,
    /// The square root.
    Sqrt,
    /// `e^a`.
    Exp,
    /// The natural logarithm.
    Log,
    /// The error function.
    Erf,
    /// `1 / (1 + e^(−a))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// The sine.
    Sin,
    /// The cosine.
    Cos,
    /// The tangent.
    Tan,
    /// The arc sine.
    Asin,
    /// The arc cosine.
    Acos,
    /// The arc tangent.
    Atan,
    /// The hyperbolic sine.
    Sinh,
    /// The hyperbolic cosine.
    Cosh,
    /// The inverse hyperbolic sine.
    Asinh,
    /// The inverse hyperbolic cosine.
    Acosh,
    /// The inverse hyperbolic tangent.
    Atanh,
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a · b`.
    Mul,
    /// `a / b`.
    Div,
    /// `a^b`.
    Pow,
    /// The smaller one.
    Min,
    /// The larger one.
    Max,
    /// `a < b`.
    Less,
    /// `a ≤ b`.
    LessOrEqual,
    /// `a = b`.
    Equal,
    /// b where a is not 0, else c.
    Select,
}

impl Operator {
    /// Every operator, in the order of their numbers in shaders.
    pub const ALL: [Self; 35] = [
        Self::Abs,
        Self::Neg,
        Self::Sign,
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::Reciprocal,
        Self::Sqrt,
        Self::Exp,
        Self::Log,
        Self::Erf,
        Self::Sigmoid,
        Self::Tanh,
        Self::Sin,
        Self::Cos,
        Self::Tan,
        Self::Asin,
        Self::Acos,
        Self::Atan,
        Self::Sinh,
        Self::Cosh,
        Self::Asinh,
        Self::Acosh,
        Self::Atanh,
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Pow,
        Self::Min,
        Self::Max,
        Self::Less,
        Self::LessOrEqual,
        Self::Equal,
        Self::Select,
    ];

    /// How many operands it reads.
    pub fn arity(self) -> usize {
        match self {
            Self::Select => 3,
            Self::Add
            | Self::Sub
            | Self::Mul
            | Self::Div
            | Self::Pow
            | Self::Min
            | Self::Max
            | Self::Less
            | Self::LessOrEqual
            | Self::Equal => 2,
            _ => 1,
        }
    }

    /// Whether its result is 1 for what is true and 0 for what is not.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Less | Self::LessOrEqual | Self::Equal)
    }

    /// The operator in f64, NaN where it is not defined; operands that it does not read are
    /// ignored.
    pub fn apply(self, [a, b, c]: [f64; 3]) -> f64 {
        let truth = |is: bool| f64::from(u8::from(is));
        match self {
            Self::Abs => a.abs(),
            Self::Neg => -a,
            Self::Sign if a == 0.0 || a.is_nan() => a,
            Self::Sign => a.signum(),
            Self::Floor => a.floor(),
            Self::Ceil => a.ceil(),
            Self::Round => a.round_ties_even(),
            Self::Reciprocal => 1.0 / a,
            Self::Sqrt => a.sqrt(),
            Self::Exp => a.exp(),
            Self::Log => a.ln(),
            Self::Erf => libm::erf(a),
            Self::Sigmoid => 1.0 / (1.0 + (-a).exp()),
            Self::Tanh => a.tanh(),
            Self::Sin => a.sin(),
            Self::Cos => a.cos(),
            Self::Tan => a.tan(),
            Self::Asin => a.asin(),
            Self::Acos => a.acos(),
            Self::Atan => a.atan(),
            Self::Sinh => a.sinh(),
            Self::Cosh => a.cosh(),
            Self::Asinh => a.asinh(),
            Self::Acosh => a.acosh(),
            Self::Atanh => a.atanh(),
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Pow => a.powf(b),
            // Comparisons and not `min` and `max`: NaN stays.
            Self::Min if a < b || a.is_nan() => a,
            Self::Max if a > b || a.is_nan() => a,
            Self::Less => truth(a < b),
            Self::LessOrEqual => truth(a <= b),
            Self::Equal => truth(a == b),
            Self::Select if a == 0.0 => c,
            Self::Min | Self::Max | Self::Select => b,
        }
    }
}

impl Function {
    /// The most steps: more are several functions.
    pub const MOST_STEPS: usize = 32;

    /// The most inputs.
    pub const MOST_INPUTS: usize = 3;

    /// How many activations it reads.
    pub fn inputs(&self) -> usize {
        self.operands()
            .map(|operand| match operand {
                Operand::Input(index) => index.saturating_add(1),
                _ => 0,
            })
            .max()
            .unwrap_or(0)
    }

    /// For how many channels it has constants, where it has any that differ from channel to
    /// channel.
    pub fn channels(&self) -> Option<usize> {
        self.constants().map(Vec::len).find(|&length| length > 1)
    }

    fn operands(&self) -> impl Iterator<Item = &Operand> {
        self.steps.iter().flat_map(|step| &step.operands)
    }

    /// Its constants, in the order of the steps.
    pub fn constants(&self) -> impl Iterator<Item = &Vec<f32>> {
        self.operands().filter_map(|operand| if let Operand::Constant(values) = operand { Some(values) } else { None })
    }

    /// Checks that every step reads what there is.
    ///
    /// # Errors
    /// Steps, inputs or constants that are none, or too many of them; a constant that is not
    /// finite.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::bad(format!("its function {what}")));
        if self.steps.is_empty() || self.steps.len() > Self::MOST_STEPS {
            return Err(Error::bad(format!("its function has {} steps", self.steps.len())));
        }
        if self.inputs() == 0 || self.inputs() > Self::MOST_INPUTS {
            return Err(Error::bad(format!("its function has {} inputs", self.inputs())));
        }
        for (index, step) in self.steps.iter().enumerate() {
            if step.operands.len() != step.operator.arity() {
                return wrong("has an operator with another number of operands than it takes");
            }
            if step.operands.iter().any(|operand| matches!(operand, Operand::Step(earlier) if *earlier >= index)) {
                return wrong("reads a step before it is computed");
            }
        }
        let channels = self.channels().unwrap_or(1);
        if self.constants().any(|values| values.len() != 1 && values.len() != channels) {
            return wrong("has constants for different numbers of channels");
        }
        if !self.constants().flatten().all(|value| value.is_finite()) {
            return wrong("has a constant that is not finite");
        }
        Ok(())
    }

    /// Its value for the values of its inputs, in f64; not finite where it is not defined.
    pub fn apply(&self, x: &[f64], channel: usize) -> f64 {
        let mut results: Vec<f64> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let mut read = [0.0; 3];
            for (value, operand) in read.iter_mut().zip(&step.operands) {
                *value = match operand {
                    Operand::Input(index) => x[*index],
                    Operand::Step(index) => results[*index],
                    Operand::Constant(values) => f64::from(values[if values.len() == 1 { 0 } else { channel }]),
                };
            }
            results.push(step.operator.apply(read));
        }
        results.last().copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// An expression while it is put together: equal steps are computed once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expression {
    steps: Vec<Step>,
}

impl Expression {
    /// Adds a step, or finds the one that computes the same.
    pub(crate) fn push(&mut self, operator: Operator, operands: &[Operand]) -> Operand {
        let step = Step { operator, operands: operands.to_vec() };
        let place = self.steps.iter().position(|earlier| *earlier == step).unwrap_or_else(|| {
            self.steps.push(step);
            self.steps.len() - 1
        });
        Operand::Step(place)
    }

    /// Adds a function of operands that are there, and gives its result.
    pub(crate) fn insert(&mut self, function: &Function, inputs: &[Operand]) -> Operand {
        let mut results: Vec<Operand> = Vec::with_capacity(function.steps.len());
        for step in &function.steps {
            let operand = |operand: &Operand| match operand {
                Operand::Input(index) => inputs[*index].clone(),
                Operand::Step(index) => results[*index].clone(),
                Operand::Constant(values) => Operand::Constant(values.clone()),
            };
            let operands: Vec<Operand> = step.operands.iter().map(operand).collect();
            results.push(self.push(step.operator, &operands));
        }
        results.pop().unwrap_or(Operand::Input(0))
    }

    /// The function whose result this is; none where it is an input or a constant, not a step.
    pub(crate) fn finish(mut self, result: &Operand) -> Option<Function> {
        let Operand::Step(last) = result else { return None };
        // What was found again can have steps behind it; they are not its.
        self.steps.truncate(last + 1);
        Some(Function { steps: self.steps })
    }
}

/// One number.
pub(crate) fn number(value: f32) -> Operand {
    Operand::Constant(vec![value])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x · 0.5 · (1 + erf(x/√2))`.
    fn gelu() -> Function {
        let mut e = Expression::default();
        let x = Operand::Input(0);
        let scaled = e.push(Operator::Mul, &[x.clone(), number(0.5f32.sqrt())]);
        let erf = e.push(Operator::Erf, &[scaled]);
        let raised = e.push(Operator::Add, &[erf, number(1.0)]);
        let product = e.push(Operator::Mul, &[x, raised]);
        let half = e.push(Operator::Mul, &[product, number(0.5)]);
        e.finish(&half).unwrap()
    }

    #[test]
    fn an_expression_is_its_function() {
        let f = gelu();
        f.check().unwrap();
        assert_eq!((f.inputs(), f.channels()), (1, None));
        for (x, y) in [(0.0, 0.0), (1.0, 0.841_344_746), (-1.0, -0.158_655_254), (3.0, 2.995_950_306)] {
            assert!((f.apply(&[x], 0) - y).abs() < 1e-7, "{x}");
        }
        let text = serde_json::to_string(&f).unwrap();
        assert!(text.starts_with(r#"{"steps":[{"operator":"mul","operands":[{"input":0},{"constant":[0.70710677]}]}"#));
        assert_eq!(serde_json::from_str::<Function>(&text).unwrap(), f);
    }

    #[test]
    fn functions_are_put_into_each_other() {
        let mut e = Expression::default();
        let slope = Operand::Constant(vec![0.1, 0.2]);
        let less = e.push(Operator::Less, &[Operand::Input(0), number(0.0)]);
        let below = e.push(Operator::Mul, &[Operand::Input(0), slope]);
        let prelu = e.push(Operator::Select, &[less, below, Operand::Input(0)]);
        let again = e.push(Operator::Less, &[Operand::Input(0), number(0.0)]);
        assert_eq!(again, Operand::Step(0));
        let prelu = e.finish(&prelu).unwrap();
        assert_eq!(
            (prelu.channels(), prelu.apply(&[-1.0], 1), prelu.apply(&[3.0], 0)),
            (Some(2), f64::from(-0.2f32), 3.0)
        );
        let mut e = Expression::default();
        let inner = e.insert(&prelu, &[Operand::Input(0)]);
        let outer = e.insert(&gelu(), &[inner]);
        let both = e.finish(&outer).unwrap();
        both.check().unwrap();
        let x = -0.7;
        assert_eq!(both.apply(&[x], 1), gelu().apply(&[prelu.apply(&[x], 1)], 0));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let of =
            |operator, operands: &[Operand]| Function { steps: vec![Step { operator, operands: operands.to_vec() }] };
        assert!(of(Operator::Abs, &[Operand::Input(0)]).check().is_ok());
        let input = Operand::Input(0);
        for (operator, operands) in [
            (Operator::Abs, vec![]),
            (Operator::Abs, vec![number(1.0)]),
            (Operator::Abs, vec![Operand::Step(0)]),
            (Operator::Abs, vec![Operand::Input(3)]),
            (Operator::Add, vec![input.clone(), number(f32::NAN)]),
            (Operator::Add, vec![input.clone(), Operand::Constant(vec![])]),
            (Operator::Select, vec![input, Operand::Constant(vec![1.0; 2]), Operand::Constant(vec![1.0; 3])]),
        ] {
            assert!(of(operator, &operands).check().is_err(), "{operator} {operands:?}");
        }
        assert!(Function { steps: vec![] }.check().is_err());
    }

    #[test]
    fn every_operator_has_its_number() {
        for (number, operator) in Operator::ALL.into_iter().enumerate() {
            assert_eq!(operator as usize, number, "{operator}");
        }
    }
}
