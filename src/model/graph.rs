//! The one intermediate representation: a float network after fusion.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{Op, Preprocessing, Shape};
use crate::{Error, Result};

/// Index of a node in [`Graph::nodes`].
pub type NodeId = usize;

/// A plain float network: convolutions with bias and what lies between them.
///
/// `nodes` is in execution order: every input of a node comes before it. Node 0 is the input. Each
/// node has exactly one result, the *activation* of its name. Every node is read by a later one or
/// is an output.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Name of the model, from its file name or architecture.
    pub name: String,
    /// How an image becomes the input tensor.
    pub input: Preprocessing,
    /// Class names in the order of the logits, where they are known.
    pub classes: Option<Vec<String>>,
    /// The operations, in execution order.
    pub nodes: Vec<Node>,
    /// What the network gives, at least one.
    pub outputs: Vec<GraphOutput>,
    /// What was made of the layers of the file (branches merged, operations replaced) or could not
    /// be, and why.
    pub notes: Vec<Note>,
}

/// An activation that the network gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphOutput {
    /// Its name, which need not be that of the node.
    pub name: String,
    /// The node.
    pub node: NodeId,
    /// Its sides without the batch, in row-major order the same values as the activation's
    /// channels, rows, columns.
    pub sides: Vec<usize>,
    /// Whether these are all sides, those of one image: the network of the file is made for one,
    /// and its batch is not the first axis here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_image: bool,
}

/// Number of classes of a network that gives one vector: its values are taken for logits. None for
/// others.
pub(crate) fn class_count(outputs: &[GraphOutput]) -> Option<usize> {
    match outputs {
        [GraphOutput { sides, .. }] if sides.len() == 1 => Some(sides[0]),
        _ => None,
    }
}

/// Something that was decided about a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The layer.
    pub layer: String,
    /// What it is about.
    pub kind: NoteKind,
    /// What was merged; why not; what stands in for what.
    pub text: String,
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// Parallel branches or a chain became this convolution.
    Merged,
    /// Branches that stay as they are.
    NotMerged,
    /// An operation of the file that others stand in for.
    Replaced,
    /// Something that the file does not say.
    Assumed,
}

/// One operation and its activation.
#[derive(Debug, Clone)]
pub struct Node {
    /// Name that leads back to the source layer, e.g. `stage1.0`.
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// The nodes whose activations it reads.
    pub inputs: Vec<NodeId>,
    /// Whether a `ReLU` follows, fused into this node, where it can hold one ([`Op::holds_relu`]).
    pub relu: bool,
}

impl Graph {
    /// Shape of every activation, in the order of `nodes`.
    ///
    /// # Panics
    /// If an operation does not fit its inputs; see [`Graph::check`].
    pub fn shapes(&self) -> Vec<Shape> {
        self.try_shapes().expect("a graph that was checked")
    }

    fn try_shapes(&self) -> Result<Vec<Shape>> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for (id, node) in self.nodes.iter().enumerate() {
            if node.inputs.iter().any(|&input| input >= id) {
                return Err(Error::bad("a layer reads one that comes after it").at(&node.name));
            }
            let inputs: Vec<Shape> = node.inputs.iter().map(|&input| shapes[input]).collect();
            let shape = node.op.output(&inputs).filter(|shape| !shape.is_empty());
            shapes.push(shape.ok_or_else(|| {
                let inputs: Vec<String> = inputs.iter().map(Shape::to_string).collect();
                Error::bad(format!("{} does not fit inputs of {}", node.op.kind(), inputs.join(", "))).at(&node.name)
            })?);
        }
        Ok(shapes)
    }

    /// Checks what every stage relies on: the order of the nodes, one input, first of all, unique
    /// names, operations that fit their inputs, and outputs.
    ///
    /// # Errors
    /// The first contradiction, naming the layer.
    pub fn check(&self) -> Result<()> {
        let mut names = HashSet::new();
        for (id, node) in self.nodes.iter().enumerate() {
            let wrong = |text: &str| Err(Error::bad(text).at(&node.name));
            if !names.insert(node.name.as_str()) {
                return wrong("two layers have this name");
            }
            if matches!(node.op, Op::Input(_)) != (id == 0) {
                return wrong("a network has one input, its first node");
            }
            if node.relu && !node.op.holds_relu() {
                return wrong("this layer cannot hold a ReLU");
            }
            if matches!(node.op, Op::Linear(_)) && !(self.outputs.len() == 1 && self.outputs[0].node == id) {
                return wrong("a classifier is the only output");
            }
        }
        let shapes = self.try_shapes()?;
        if self.outputs.is_empty() {
            return Err(Error::bad("the network has no output"));
        }
        for output in &self.outputs {
            let sides = output.sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
            if shapes.get(output.node).map(Shape::len) != sides {
                return Err(Error::bad("the sides of an output are not those of its node").at(&output.name));
            }
        }
        Ok(())
    }

    /// Which nodes an output needs; the input always counts.
    pub fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        for output in &self.outputs {
            needed[output.node] = true;
        }
        if let Some(input) = needed.first_mut() {
            *input = true;
        }
        for id in (0..self.nodes.len()).rev() {
            if needed[id] {
                self.nodes[id].inputs.iter().for_each(|&input| needed[input] = true);
            }
        }
        needed
    }

    /// Takes out what no output needs; the order stays.
    pub fn prune(&mut self) {
        let needed = self.needed();
        let mut kept = 0;
        let place = needed.iter().map(|&on| {
            kept += usize::from(on);
            kept - usize::from(on)
        });
        let place: Vec<NodeId> = place.collect();
        let mut keep = needed.iter();
        self.nodes.retain(|_| keep.next().is_some_and(|&on| on));
        for input in self.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
            *input = place[*input];
        }
        for output in &mut self.outputs {
            output.node = place[output.node];
        }
    }

    /// Which activations the quantized network stores as int8 levels: those that lead to a
    /// convolution or a classifier. What comes after the last of these stays real: logits are int32
    /// accumulators, what follows them is computed in f32.
    pub fn stored(&self) -> Vec<bool> {
        let mut stored = vec![false; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate().rev() {
            if stored[id] || node.op.weights().is_some() {
                for &input in &node.inputs {
                    stored[input] = !matches!(self.nodes[input].op, Op::Constant(_));
                }
            }
        }
        stored
    }

    /// Number of classes, where the network is a classifier.
    pub fn class_count(&self) -> Option<usize> {
        class_count(&self.outputs)
    }

    /// Multiplications for one image.
    pub fn macs(&self) -> u64 {
        self.nodes.iter().zip(self.shapes()).map(|(node, shape)| node.op.macs(shape)).sum()
    }

    /// Number of fused parameters, weights and biases.
    pub fn parameters(&self) -> u64 {
        self.nodes.iter().map(|node| node.op.parameters()).sum()
    }
}
