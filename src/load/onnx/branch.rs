//! `If` with a constant condition: the branch that is taken stands for it.
//!
//! Exporters write it for operations whose result depends on whether a side is 1, such as torch's
//! `squeeze()`; sides are known here.

use super::draft::Draft;
use super::operators;
use super::program::{place, twice};
use super::reader::Reader;
use super::values::Value;
use crate::onnx_proto::{AttributeProto, NodeProto};
use crate::{Error, Result};

impl<'a> Reader<'a> {
    /// Reads the branch of an `If` that its constant condition takes.
    ///
    /// # Errors
    /// A condition that depends on the image; what the branch holds that is not supported.
    pub(super) fn branch(&mut self, node: &'a NodeProto, draft: &mut Draft) -> Result<()> {
        let [condition] = node.input.as_slice() else { return Err(Error::bad("one condition is expected")) };
        let Value::Constant(condition) = self.value(condition, draft)? else {
            return Err(Error::bad("its condition depends on the image")
                .hint("export the network so that the same branch is taken for every image"));
        };
        let [taken] = condition.numbers()[..] else { return Err(Error::bad("its condition is not one value")) };
        let name = if taken == 0.0 { "else_branch" } else { "then_branch" };
        let named = |attribute: &&AttributeProto| attribute.name() == name;
        let graph = node.attribute.iter().find(named).and_then(|attribute| attribute.g.as_deref());
        let graph = graph.ok_or_else(|| Error::bad(format!("has no `{name}`")))?;
        if !graph.input.is_empty() || !graph.sparse_initializer.is_empty() {
            return Err(Error::bad(format!("its `{name}` has inputs or sparse constants of its own")));
        }
        for tensor in &graph.initializer {
            if self.program.constants.contains_key(tensor.name()) || self.local.insert(tensor.name(), tensor).is_some()
            {
                return Err(twice(tensor.name()));
            }
        }
        let nodes: Vec<&NodeProto> = graph.node.iter().collect();
        operators::refuse_unsupported(&nodes)?;
        for inner in nodes {
            if let Some(output) = inner.output.iter().find(|output| self.values.contains_key(output.as_str())) {
                return Err(twice(output));
            }
            self.operation(inner, draft).map_err(|e| e.at(place(inner)))?;
        }
        if graph.output.len() != node.output.len() {
            return Err(Error::bad(format!("its `{name}` has {} results", graph.output.len())));
        }
        for (outer, inner) in node.output.iter().zip(&graph.output) {
            let value = self.value(inner.name(), draft)?;
            self.values.insert(outer, value);
            if self.lifted.contains(inner.name()) {
                self.lifted.insert(outer);
            }
        }
        Ok(())
    }
}
