//! The one intermediate representation: a float network after fusion.

use std::fmt::Write;

use ndarray::{Array1, Array2, Array4};
use sha2::{Digest, Sha256};

use super::{Preprocessing, Shape};

/// Index of a node in [`Graph::nodes`].
pub type NodeId = usize;

/// A plain float network: convolutions with bias, pooling, a classifier.
///
/// `nodes` is in execution order: every input of a node comes before it. Node 0 is the input; the last node is the
/// classifier, whose output are the logits. Each node has exactly one output, the *activation* of its name.
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
    /// Whether a `ReLU` follows, fused into this node.
    pub relu: bool,
}

/// What a node computes.
#[derive(Debug, Clone)]
pub enum Op {
    /// The network input, channels × height × width.
    Input(Shape),
    /// A convolution with bias.
    Conv(Conv),
    /// The mean over height and width; gives C × 1 × 1.
    GlobalAveragePool,
    /// A fully connected layer over C × 1 × 1.
    Linear(Linear),
}

/// A 2-D convolution, zero padding.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
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
    pub fn shapes(&self) -> Vec<Shape> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let input = node.inputs.first().map(|&i| shapes[i]);
            shapes.push(match (&node.op, input) {
                (Op::Input(shape), _) => *shape,
                (Op::Conv(conv), Some(x)) => {
                    super::conv_output(x, conv.out_channels(), conv.kernel(), conv.stride, conv.padding)
                }
                (Op::GlobalAveragePool, Some(x)) => Shape::new(x.channels, 1, 1),
                (Op::Linear(linear), Some(_)) => Shape::new(linear.bias.len(), 1, 1),
                (_, None) => unreachable!("a node that is not the input has one"),
            });
        }
        shapes
    }

    /// Multiplications for one image.
    pub fn macs(&self) -> u64 {
        let shapes = self.shapes();
        let each = self.nodes.iter().zip(&shapes).map(|(node, shape)| match &node.op {
            Op::Conv(conv) => conv.weight.len() * shape.height * shape.width,
            Op::Linear(linear) => linear.weight.len(),
            Op::Input(_) | Op::GlobalAveragePool => 0,
        });
        each.map(|n| n as u64).sum()
    }

    /// Number of fused parameters, weights and biases.
    pub fn parameters(&self) -> u64 {
        let each = self.nodes.iter().map(|node| match &node.op {
            Op::Conv(conv) => conv.weight.len() + conv.bias.len(),
            Op::Linear(linear) => linear.weight.len() + linear.bias.len(),
            Op::Input(_) | Op::GlobalAveragePool => 0,
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
                Op::Input(_) | Op::GlobalAveragePool => continue,
            };
            for value in weight.iter().chain(bias) {
                hash.update(value.to_le_bytes());
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
