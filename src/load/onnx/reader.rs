//! What the names of a file stand for, found operation by operation.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::draft::Draft;
use super::operation::Operation;
use super::program::Program;
use super::tensors::Source;
use super::values::{Active, Value};
use super::{batch, former, operators};
use crate::onnx_proto::{NodeProto, TensorProto};
use crate::{Error, Result};

/// How many numbers of its own a network may have for each byte of its file.
pub(super) const NUMBERS_PER_BYTE: usize = 8;

/// What the names of a file stand for, as far as it was read.
pub(super) struct Reader<'a> {
    pub(super) program: &'a Program<'a>,
    pub(super) source: Source,
    pub(super) values: HashMap<&'a str, Value>,
    /// Those whose first axis is not the batch.
    pub(super) lifted: HashSet<&'a str>,
    /// The constants of branches that are taken.
    pub(super) local: HashMap<&'a str, &'a TensorProto>,
    batch: Option<usize>,
}

impl<'a> Reader<'a> {
    /// A reader that has read nothing yet; `batch` is the number of images that the file is made
    /// for, where it says one.
    pub(super) fn new(program: &'a Program<'a>, source: Source, batch: Option<usize>) -> Self {
        let (values, lifted, local) = (HashMap::new(), HashSet::new(), HashMap::new());
        Self { program, source, values, lifted, local, batch }
    }

    /// What a name stands for; a constant is read when it is first asked for.
    pub(super) fn value(&mut self, name: &'a str, draft: &mut Draft) -> Result<Value> {
        if let Some(value) = self.values.get(name) {
            return Ok(value.clone());
        }
        let Some(proto) = self.program.constants.get(name).or_else(|| self.local.get(name)) else {
            return Err(Error::bad(format!("the result `{}` of an operation is not supported", name.escape_debug())));
        };
        let tensor = self.source.tensor(proto).map_err(|e| e.at(format!("constant {}", name.escape_debug())))?;
        if proto.data_location == Some(TensorProto::EXTERNAL) {
            // It is a part of the file as much as the rest.
            draft.grant(tensor.values.len().saturating_mul(NUMBERS_PER_BYTE));
        }
        let value = Value::Constant(Rc::new(tensor));
        self.values.insert(name, value.clone());
        Ok(value)
    }

    /// Reads an operation: its results are constants, or nodes of the draft.
    pub(super) fn operation(&mut self, node: &'a NodeProto, draft: &mut Draft) -> Result<()> {
        operators::check_domain(node)?;
        if node.op_type() == "If" {
            return self.branch(node, draft);
        }
        if let Some(spelled) = self.program.standardization(node)
            && self.standardize(node, &spelled, draft)?
        {
            return Ok(());
        }
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(if name.is_empty() { None } else { Some(self.value(name, draft)?) });
        }
        let lifted: Vec<bool> = node.input.iter().map(|name| self.lifted.contains(name.as_str())).collect();
        let mut op = Operation::new(node, self.program.opset, inputs)?;
        former::today(&mut op)?;
        let results = batch::run(&mut op, &lifted, draft, &self.source, self.batch)?;
        op.check_attributes()?;
        for (name, (result, lifted)) in node.output.iter().zip(results).filter(|(name, _)| !name.is_empty()) {
            if let Value::Active(active) = &result {
                draft.rename(active.node, op.name);
            }
            self.values.insert(name, result);
            if lifted {
                self.lifted.insert(name);
            }
        }
        Ok(())
    }

    /// An output: its name, its node, its sides.
    pub(super) fn output(&mut self, name: &'a str, draft: &mut Draft) -> Result<(&'a str, usize, Vec<usize>)> {
        match self.value(name, draft)? {
            Value::Constant(_) => Err(Error::bad("is a constant")),
            Value::Active(Active { order: None, node, sides, .. }) => Ok((name, node, sides)),
            Value::Active(moved) => Ok((name, draft.realize(&moved)?, moved.dims())),
        }
    }
}
