//! Layer normalization that exporters of old opsets spell out: `(x − μ) / sqrt(mean((x − μ)²) + ε)`.
//!
//! It is found by the operations of the file, and read as one: in integers its parts would lose
//! what they are for.

use super::draft::Draft;
use super::normalization::standardized;
use super::operation::Operation;
use super::program::Program;
use super::reader::Reader;
use super::values::{Active, Value};
use crate::Result;
use crate::onnx_proto::NodeProto;

/// Where the parts of a standardization are.
pub(super) struct Spelled<'a> {
    /// What is standardized.
    x: &'a str,
    /// The operation that gives the mean: its axes count.
    mean: &'a NodeProto,
    /// The one that gives the variance.
    variance: &'a NodeProto,
    /// ε, a constant.
    epsilon: &'a str,
}

impl<'a> Program<'a> {
    /// The standardization that a division ends, or a product with a reciprocal, where it is one.
    pub(super) fn standardization(&self, node: &NodeProto) -> Option<Spelled<'a>> {
        let [a, b] = node.input.as_slice() else { return None };
        let inverse = |name: &str| {
            let maker = self.makers.get(name).filter(|node| node.op_type() == "Reciprocal");
            maker.and_then(|node| node.input.first())
        };
        match node.op_type() {
            "Div" => self.parts(a, b),
            "Mul" => [(a, b), (b, a)].into_iter().find_map(|(a, b)| self.parts(a, inverse(b)?)),
            _ => None,
        }
    }

    /// As [`Program::standardization`], of the names of what is divided and by what.
    fn parts(&self, centred: &str, deviation: &str) -> Option<Spelled<'a>> {
        let maker = |name: &str, kind: &str| self.makers.get(name).copied().filter(|node| node.op_type() == kind);
        let raised = maker(deviation, "Sqrt")?.input.first()?;
        let [a, b] = maker(raised, "Add")?.input.as_slice() else { return None };
        let (variance, epsilon) = [(a, b), (b, a)].into_iter().find_map(|(a, b)| Some((maker(a, "ReduceMean")?, b)))?;
        let squares = self.makers.get(variance.input.first()?.as_str()).copied()?;
        let squared = match (squares.op_type(), squares.input.as_slice()) {
            ("Mul", [a, b]) if a == b => a,
            ("Pow", [a, two]) if self.is_two(two) => a,
            _ => return None,
        };
        // Some exporters subtract the mean once for the squares and once for the result.
        let [x, mean] = maker(centred, "Sub")?.input.as_slice() else { return None };
        let same = squared == centred || maker(squared, "Sub")?.input == [x.clone(), mean.clone()];
        let mean = maker(mean, "ReduceMean").filter(|mean| same && mean.input.first() == Some(x))?;
        Some(Spelled { x, mean, variance, epsilon })
    }

    /// Whether a constant, in the file or of an operation, is the number 2.
    fn is_two(&self, name: &str) -> bool {
        let held = self.makers.get(name).filter(|node| node.op_type() == "Constant");
        let held = held.and_then(|node| node.attribute.iter().find(|attribute| attribute.name() == "value"));
        let proto = held.and_then(|attribute| attribute.t.as_ref()).or_else(|| self.constants.get(name).copied());
        let memory = super::tensors::Source { folder: None };
        proto.and_then(|proto| memory.tensor(proto).ok()).is_some_and(|tensor| tensor.numbers() == [2.0])
    }
}

impl<'a> Reader<'a> {
    /// Reads a standardization that is spelled out; false where its parts do not go together after
    /// all.
    ///
    /// # Errors
    /// A transpose of more axes than are supported.
    pub(super) fn standardize(
        &mut self,
        node: &'a NodeProto,
        spelled: &Spelled<'a>,
        draft: &mut Draft,
    ) -> Result<bool> {
        if self.lifted.contains(spelled.x) {
            return Ok(false);
        }
        let Value::Active(x) = self.value(spelled.x, draft)? else { return Ok(false) };
        let (Some(mean), Some(variance)) =
            (self.mean_axes(spelled.mean, &x, draft)?, self.mean_axes(spelled.variance, &x, draft)?)
        else {
            return Ok(false);
        };
        let Value::Constant(epsilon) = self.value(spelled.epsilon, draft)? else { return Ok(false) };
        let epsilon = match epsilon.numbers()[..] {
            [epsilon] if epsilon.is_finite() && epsilon >= 0.0 && mean == variance => epsilon,
            _ => return Ok(false),
        };
        let op = Operation::new(node, self.program.opset, vec![])?;
        let y = standardized(&op, draft, &x, &mean, epsilon)?;
        for name in node.output.iter().take(1) {
            draft.rename(y.node, op.name);
            self.values.insert(name, Value::Active(y.clone()));
        }
        Ok(true)
    }

    /// The axes of a mean that keeps them, without the batch.
    fn mean_axes(&mut self, node: &'a NodeProto, x: &Active, draft: &mut Draft) -> Result<Option<Vec<usize>>> {
        let mut inputs = vec![Some(Value::Active(x.clone()))];
        for name in node.input.iter().skip(1) {
            inputs.push(if name.is_empty() { None } else { Some(self.value(name, draft)?) });
        }
        let op = Operation::new(node, self.program.opset, inputs)?;
        if !op.flag("keepdims", true)? {
            return Ok(None);
        }
        let Some(axes) = op.list("axes", 1)? else { return Ok(None) };
        let axes = op.axes(&axes, x.sides.len() + 1)?;
        Ok(axes.iter().map(|axis| axis.checked_sub(1)).collect::<Option<Vec<usize>>>().filter(|axes| !axes.is_empty()))
    }
}
