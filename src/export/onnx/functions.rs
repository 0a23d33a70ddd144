//! Functions of values as ONNX's operators, one for each step.

use super::builder::{Builder, integer};
use crate::model::{Function, Operand, Operator};
use crate::{Error, Result};

/// A step's result: as a number, and as a truth value where it is a comparison.
struct Given {
    number: Option<String>,
    truth: Option<String>,
}

/// A function; the last step's tensor is called as the layer, the others `NAME/step_0` and so on.
///
/// # Errors
/// A function without steps.
pub(super) fn function(builder: &mut Builder, name: &str, function: &Function, inputs: &[&str]) -> Result<String> {
    let mut steps: Vec<Given> = Vec::with_capacity(function.steps.len());
    for (index, step) in function.steps.iter().enumerate() {
        let last = index + 1 == function.steps.len();
        let called = if last { name.to_owned() } else { format!("{name}/step_{index}") };
        let mut operands = Vec::with_capacity(step.operands.len());
        for (slot, operand) in step.operands.iter().enumerate() {
            operands.push(match operand {
                Operand::Input(input) => inputs[*input].to_owned(),
                Operand::Constant(values) => {
                    let tensor = format!("{name}.constant_{index}_{slot}");
                    match values.as_slice() {
                        [value] => builder.scalar(tensor, *value),
                        values => builder.constant(tensor, &[values.len(), 1, 1], values.iter().copied()),
                    }
                }
                Operand::Step(earlier) => {
                    let truth = step.operator == Operator::Select && slot == 0;
                    steps[*earlier].tensor(builder, &format!("{name}/step_{earlier}"), truth)
                }
            });
        }
        if step.operator == Operator::Select && !matches!(step.operands[0], Operand::Step(_)) {
            let zero = builder.scalar(format!("{name}.zero_{index}"), 0.0f32);
            let is = builder.node("Equal", format!("{called}/is_zero"), &[&operands[0], &zero], vec![]);
            operands[0] = builder.node("Not", format!("{called}/condition"), &[&is], vec![]);
        }
        let read: Vec<&str> = operands.iter().map(String::as_str).collect();
        let operator = onnx_operator(step.operator);
        steps.push(if step.operator.is_comparison() {
            let truth = builder.node(operator, format!("{called}/truth"), &read, vec![]);
            let mut given = Given { number: None, truth: Some(truth) };
            if last {
                given.number =
                    Some(builder.node("Cast", called, &[given.truth.as_deref().unwrap_or_default()], float()));
            }
            given
        } else {
            Given { number: Some(builder.node(operator, called, &read, vec![])), truth: None }
        });
    }
    let last = steps.pop().and_then(|given| given.number);
    last.ok_or_else(|| Error::bad("a function without steps cannot be written"))
}

impl Given {
    /// Its tensor as a number, or as a truth value.
    fn tensor(&mut self, builder: &mut Builder, called: &str, truth: bool) -> String {
        match (truth, &self.number, &self.truth) {
            (true, _, Some(tensor)) | (false, Some(tensor), _) => tensor.clone(),
            (true, Some(number), None) => {
                let zero = builder.scalar(format!("{called}.zero"), 0.0f32);
                let is = builder.node("Equal", format!("{called}/is_zero"), &[number, &zero], vec![]);
                let tensor = builder.node("Not", format!("{called}/condition"), &[&is], vec![]);
                self.truth = Some(tensor.clone());
                tensor
            }
            (_, _, truth) => {
                let tensor = builder.node("Cast", called, &[truth.as_deref().unwrap_or_default()], float());
                self.number = Some(tensor.clone());
                tensor
            }
        }
    }
}

fn float() -> Vec<crate::onnx_proto::AttributeProto> {
    vec![integer("to", <f32 as crate::onnx_proto::Element>::DATA_TYPE as usize)]
}

/// ONNX's name of an operator.
fn onnx_operator(operator: Operator) -> &'static str {
    match operator {
        Operator::Abs => "Abs",
        Operator::Neg => "Neg",
        Operator::Sign => "Sign",
        Operator::Floor => "Floor",
        Operator::Ceil => "Ceil",
        Operator::Round => "Round",
        Operator::Reciprocal => "Reciprocal",
        Operator::Sqrt => "Sqrt",
        Operator::Exp => "Exp",
        Operator::Log => "Log",
        Operator::Erf => "Erf",
        Operator::Sigmoid => "Sigmoid",
        Operator::Tanh => "Tanh",
        Operator::Sin => "Sin",
        Operator::Cos => "Cos",
        Operator::Tan => "Tan",
        Operator::Asin => "Asin",
        Operator::Acos => "Acos",
        Operator::Atan => "Atan",
        Operator::Sinh => "Sinh",
        Operator::Cosh => "Cosh",
        Operator::Asinh => "Asinh",
        Operator::Acosh => "Acosh",
        Operator::Atanh => "Atanh",
        Operator::Add => "Add",
        Operator::Sub => "Sub",
        Operator::Mul => "Mul",
        Operator::Div => "Div",
        Operator::Pow => "Pow",
        Operator::Min => "Min",
        Operator::Max => "Max",
        Operator::Less => "Less",
        Operator::LessOrEqual => "LessOrEqual",
        Operator::Equal => "Equal",
        Operator::Select => "Where",
    }
}
