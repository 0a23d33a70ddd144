//! The one intermediate representation: a float network after fusion.

use std::collections::HashSet;
use std::fmt::Write;

use ndarray::{Array1, Array2, Array3, Array4};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Activation, Axis, Binary, Pool, PoolKind, Preprocessing, Rearrange, Resize, Shape, broadcast, joined};
use crate::{Error, Result};

/// Index of a node in [`Graph::nodes`].
pub type NodeId = usize;

/// A plain float network: convolutions with bias and what lies between them.
///
/// `nodes` is in execution order: every input of a node comes before it. Node 0 is the input. Each node has exactly one
/// result, the *activation* of its name. Every node is read by a later one or is an output.
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
    pub outputs: Vec<Output>,
    /// What was made of the layers of the file (branches merged, operations replaced) or could not be, and why.
    pub notes: Vec<Note>,
}

/// An activation that the network gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its name, which need not be that of the node.
    pub name: String,
    /// The node.
    pub node: NodeId,
    /// Its sides without the batch, in row-major order the same values as the activation's channels, rows, columns.
    pub sides: Vec<usize>,
}

/// Number of classes of a network that gives one vector: its values are taken for logits. None for others.
pub fn class_count(outputs: &[Output]) -> Option<usize> {
    match outputs {
        [Output { sides, .. }] if sides.len() == 1 => Some(sides[0]),
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

/// What a [`Note`] is about.
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
    /// Whether a `ReLU` follows, fused into this node: a convolution or a [`Binary`].
    pub relu: bool,
}

/// What a node computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The network input, channels × height × width.
    Input(Shape),
    /// A convolution with bias.
    Conv(Conv),
    /// The mean over height and width; gives C × 1 × 1.
    GlobalAveragePool,
    /// The classifier, a fully connected layer over C × 1 × 1 whose result is the only output.
    Linear(Linear),
    /// A function of each value.
    Activation(Activation),
    /// A function of two activations, value by value.
    Binary(Binary),
    /// Pooling over windows.
    Pool(Pool),
    /// The same values in another order or shape.
    Rearrange(Rearrange),
    /// Its inputs, two or more, one behind the other along an axis.
    Concat(Axis),
    /// Bilinear resizing.
    Resize(Resize),
    /// `e^x / Σ e^x` along an axis.
    Softmax(Axis),
    /// The same values for every image, channels × rows × columns; it has no inputs.
    Constant(Array3<f32>),
}

impl Op {
    /// Whether the values pass unchanged, all, some or several times: the result is stored as the input is.
    pub fn passes_values(&self) -> bool {
        matches!(self, Self::Rearrange(_) | Self::Pool(Pool { kind: PoolKind::Max, .. }))
    }

    /// How many activations it reads; none where that depends on the node.
    pub fn arity(&self) -> Option<usize> {
        match self {
            Self::Input(_) | Self::Constant(_) => Some(0),
            Self::Binary(_) => Some(2),
            Self::Concat(_) => None,
            _ => Some(1),
        }
    }

    /// Shape of the result for inputs of these shapes; none where they do not fit it. Of a convolution the sizes alone are
    /// looked at.
    pub fn output(&self, inputs: &[Shape]) -> Option<Shape> {
        let fits = match self.arity() {
            Some(arity) => inputs.len() == arity,
            None => inputs.len() >= 2,
        };
        if !fits {
            return None;
        }
        Some(match self {
            Self::Input(shape) => *shape,
            Self::Constant(values) => {
                let (channels, height, width) = values.dim();
                Shape::new(channels, height, width)
            }
            Self::Conv(conv) => {
                super::conv_output(inputs[0], conv.out_channels(), conv.kernel(), conv.stride, conv.padding)
            }
            Self::GlobalAveragePool => Shape::new(inputs[0].channels, 1, 1),
            Self::Linear(linear) => Shape::new(linear.bias.len(), 1, 1),
            Self::Activation(_) | Self::Softmax(_) => inputs[0],
            Self::Binary(_) => broadcast(inputs[0], inputs[1])?,
            Self::Pool(pool) => pool.output(inputs[0]),
            Self::Rearrange(rearrange) => rearrange.fits(inputs[0]).then_some(rearrange.shape)?,
            Self::Concat(axis) => joined(inputs, *axis)?,
            Self::Resize(resize) => Shape::new(inputs[0].channels, resize.size[0], resize.size[1]),
        })
    }

    /// Its name in reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::Conv(_) => "conv",
            Self::GlobalAveragePool => "global average pool",
            Self::Linear(_) => "linear",
            Self::Activation(activation) => activation.name(),
            Self::Binary(Binary::Add) => "add",
            Self::Binary(Binary::Sub) => "subtract",
            Self::Binary(Binary::Mul) => "multiply",
            Self::Pool(Pool { kind: PoolKind::Max, .. }) => "max pool",
            Self::Pool(_) => "average pool",
            Self::Rearrange(rearrange) => rearrange.name(),
            Self::Concat(_) => "concat",
            Self::Resize(_) => "resize",
            Self::Softmax(_) => "softmax",
            Self::Constant(_) => "constant",
        }
    }
}

/// A 2-D convolution, zero padding.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// `O × I/groups × kh × kw`.
    pub weight: Array4<f32>,
    /// `O`.
    pub bias: Array1<f32>,
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Zero padding: rows above and below, columns left and right.
    pub padding: [usize; 2],
    /// Groups; input and output channels are multiples of it.
    pub groups: usize,
}

/// A fully connected layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// `O × I`.
    pub weight: Array2<f32>,
    /// `O`.
    pub bias: Array1<f32>,
}

impl Conv {
    /// Number of output channels.
    pub fn out_channels(&self) -> usize {
        self.weight.dim().0
    }

    /// Number of input channels.
    pub fn in_channels(&self) -> usize {
        self.weight.dim().1 * self.groups
    }

    /// Kernel height and width.
    pub fn kernel(&self) -> [usize; 2] {
        let (_, _, kh, kw) = self.weight.dim();
        [kh, kw]
    }

    /// One filter for each channel: `groups` equals input and output channels, and there is more than one.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.in_channels() && self.groups == self.out_channels()
    }
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

    /// Checks what every stage relies on: the order of the nodes, one input, first of all, unique names, operations that
    /// fit their inputs, and outputs.
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
            if node.relu && !matches!(node.op, Op::Conv(_) | Op::Binary(_)) {
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

    /// Which activations the quantized network stores as int8 levels: those that lead to a convolution or a classifier.
    /// What comes after the last of these stays real: logits are int32 accumulators, what follows them is computed in f32.
    pub fn stored(&self) -> Vec<bool> {
        let mut stored = vec![false; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate().rev() {
            if stored[id] || matches!(node.op, Op::Conv(_) | Op::Linear(_)) {
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
        let shapes = self.shapes();
        let each = self.nodes.iter().zip(&shapes).map(|(node, shape)| match &node.op {
            Op::Conv(conv) => conv.weight.len() * shape.height * shape.width,
            Op::Linear(linear) => linear.weight.len(),
            _ => 0,
        });
        each.map(|n| n as u64).sum()
    }

    /// Number of fused parameters, weights and biases.
    pub fn parameters(&self) -> u64 {
        let each = self.nodes.iter().map(|node| match &node.op {
            Op::Conv(conv) => conv.weight.len() + conv.bias.len(),
            Op::Linear(linear) => linear.weight.len() + linear.bias.len(),
            Op::Constant(values) => values.len(),
            _ => 0,
        });
        each.map(|n| n as u64).sum()
    }

    /// SHA-256 over names, shapes, strides and the bits of every weight: the identity of what is computed.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (node, shape) in self.nodes.iter().zip(self.shapes()) {
            hash.update(format!("{}:{:?}:{}:{shape};", node.name, node.inputs, node.relu));
            let (weight, bias) = match &node.op {
                Op::Conv(conv) => {
                    hash.update(format!(
                        "conv:{:?}:{:?}:{}:{:?};",
                        conv.stride,
                        conv.padding,
                        conv.groups,
                        conv.weight.dim()
                    ));
                    (conv.weight.as_standard_layout().into_owned().into_raw_vec_and_offset().0, &conv.bias)
                }
                Op::Linear(linear) => {
                    hash.update(format!("linear:{:?};", linear.weight.dim()));
                    (linear.weight.as_standard_layout().into_owned().into_raw_vec_and_offset().0, &linear.bias)
                }
                Op::Constant(values) => {
                    hash.update("constant;");
                    for value in values {
                        hash.update(value.to_le_bytes());
                    }
                    continue;
                }
                Op::Input(_) | Op::GlobalAveragePool => continue,
                Op::Activation(_)
                | Op::Binary(_)
                | Op::Pool(_)
                | Op::Rearrange(_)
                | Op::Concat(_)
                | Op::Resize(_)
                | Op::Softmax(_) => {
                    // Debug writes floats so that they can be told apart, and every field.
                    hash.update(format!("{:?};", node.op));
                    continue;
                }
            };
            for value in weight.iter().chain(bias) {
                hash.update(value.to_le_bytes());
            }
        }
        if !self.outputs.iter().map(|output| output.node).eq([self.nodes.len().saturating_sub(1)]) {
            for Output { node, sides, .. } in &self.outputs {
                hash.update(format!("output:{node}:{sides:?};"));
            }
        }
        let mut text = String::with_capacity(64);
        for byte in hash.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}
