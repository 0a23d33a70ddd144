//! The quantized network: what `quantize` fills, `exec` runs and `export` writes.

use serde::{Deserialize, Serialize};

use super::{Constants, Conv, GraphOutput, NodeId, Op, Preprocessing, QConv, QParams, Shape};
use crate::{Error, Result};

/// An int8 network. Same order and names as the [`Graph`](super::Graph) it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedGraph {
    /// Name of the model.
    pub name: String,
    /// How an image becomes the input tensor.
    pub input: Preprocessing,
    /// Class names in the order of the logits, where they are known.
    pub classes: Option<Vec<String>>,
    /// Digest of the float graph ([`Graph::digest`](super::Graph::digest)).
    pub source_digest: String,
    /// The options it was made with, as JSON, for the record.
    pub options: serde_json::Value,
    /// A summary of the calibration (images, method), as JSON, for the record.
    pub calibration: serde_json::Value,
    /// The operations, in execution order.
    pub nodes: Vec<QNode>,
    /// What the network gives.
    pub outputs: Vec<GraphOutput>,
}

/// One quantized operation.
#[derive(Debug, Clone, PartialEq)]
pub struct QNode {
    /// Name of the layer.
    pub name: String,
    /// What is computed, and how.
    pub computed: Computed,
    /// The nodes whose activations it reads.
    pub inputs: Vec<NodeId>,
    /// Whether a `ReLU` follows, where the operation can hold one: a clamp from below at the
    /// output's zero point, or at 0 where accumulators are made real.
    pub relu: bool,
    /// How the output is stored as levels. None where it is not
    /// ([`Graph::stored`](super::Graph::stored)): an integer convolution's or classifier's stays
    /// int32 accumulators (real: `acc · s_x · scale[o]`), a float operation's f32.
    pub output: Option<QParams>,
    /// Its activation is the float network's times `2^k` of its channel; empty: as it is.
    pub exponents: Vec<u8>,
    /// What was decided about the split, and why.
    pub split: SplitReport,
}

/// What a quantized node computes, and in which numbers.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is one for each layer, and most are large")]
pub enum Computed {
    /// In f32: levels and accumulators of its inputs are made real first, and where the output is
    /// stored it is quantized. A layer kept in float by request, an operation that has no integer
    /// form, or what follows the last convolution.
    Float(Op<Conv>),
    /// In integers.
    Integer(Integer),
}

/// An operation in integers, with the constants that suit it.
#[derive(Debug, Clone, PartialEq)]
pub struct Integer {
    op: Op<QConv>,
    constants: Constants,
}

impl Integer {
    /// An operation and its constants. The output of a convolution that is not stored, and the
    /// classifier's, has a [`QConv`] without `multiplier`, its coarse part on no grid of its own.
    ///
    /// # Errors
    /// Where the operation has no integer form, or the constants are of another kind than it takes
    /// ([`Op::constants`]).
    pub fn new(op: Op<QConv>, constants: Constants) -> Result<Self> {
        match op.constants() {
            None => Err(Error::bad(format!("{} has no integer form", op.kind()))),
            Some(kind) if constants.are(kind) => Ok(Self { op, constants }),
            Some(_) => Err(Error::bad(format!("the constants are not those of {}", op.kind()))),
        }
    }

    /// What it is.
    pub fn op(&self) -> &Op<QConv> {
        &self.op
    }

    /// What it computes with.
    pub fn constants(&self) -> &Constants {
        &self.constants
    }
}

/// Asks the operation of a [`Computed`] something, whatever numbers it is computed in:
/// `on_op!(computed, op => op.arity())`.
macro_rules! on_op {
    ($computed:expr, $op:pat => $answer:expr) => {
        match $computed {
            $crate::model::Computed::Float($op) => $answer,
            $crate::model::Computed::Integer(integer) => {
                let $op = integer.op();
                $answer
            }
        }
    };
}
pub(crate) use on_op;

impl Computed {
    /// An operation in integers.
    ///
    /// # Errors
    /// Those of [`Integer::new`].
    pub fn integer(op: Op<QConv>, constants: Constants) -> Result<Self> {
        Integer::new(op, constants).map(Self::Integer)
    }

    /// An operation in integers that needs no constants beside its weights.
    ///
    /// # Errors
    /// Those of [`Integer::new`].
    pub fn plain(op: Op<QConv>) -> Result<Self> {
        Self::integer(op, Constants::None)
    }

    /// The operation in integers, where it is one.
    pub fn as_integer(&self) -> Option<&Integer> {
        match self {
            Self::Float(_) => None,
            Self::Integer(integer) => Some(integer),
        }
    }

    /// The weights of an integer convolution or classifier.
    pub fn int8_weights(&self) -> Option<&QConv> {
        self.as_integer()?.op.weights()
    }

    /// The weights of an integer convolution or classifier, to be changed.
    pub fn int8_weights_mut(&mut self) -> Option<&mut QConv> {
        match self {
            Self::Integer(Integer { op: Op::Conv(conv) | Op::Linear(conv), .. }) => Some(conv),
            _ => None,
        }
    }

    /// What it is called in reports; see [`Op::kind`].
    pub fn kind(&self) -> &'static str {
        on_op!(self, op => op.kind())
    }

    /// Shape of the result for inputs of these shapes, none where they do not fit it; see
    /// [`Op::output`].
    pub fn output(&self, inputs: &[Shape]) -> Option<Shape> {
        on_op!(self, op => op.output(inputs))
    }
}

/// What was decided about splitting a layer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SplitReport {
    /// `none`, `aligned/center`, `paper/center`, …
    pub split: String,
    /// The largest shift k in the layer (0 where there is none).
    pub shift_max: u8,
    /// Why it is not split, or what had to be changed (a scale raised against overflow).
    pub notes: Vec<String>,
}

impl QuantizedGraph {
    /// Shape of every activation, in the order of `nodes`.
    ///
    /// # Panics
    /// If an operation does not fit its inputs: a graph that neither `quantize` made nor a reader
    /// checked.
    pub fn shapes(&self) -> Vec<Shape> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<Shape> = node.inputs.iter().map(|&i| shapes[i]).collect();
            shapes.push(node.computed.output(&inputs).expect("an operation that fits its inputs"));
        }
        shapes
    }

    /// Number of classes, where the network is a classifier.
    pub fn class_count(&self) -> Option<usize> {
        super::class_count(&self.outputs)
    }

    /// Bytes of all weights as they would be shipped.
    pub fn weight_bytes(&self) -> u64 {
        let each = self.nodes.iter().map(|node| match &node.computed {
            Computed::Float(op) => 4 * op.parameters(),
            Computed::Integer(integer) => integer.op.weights().map_or(0, QConv::weight_bytes),
        });
        each.sum()
    }

    /// Multiplications for one image: those of the unsplit network, and those that the coarse parts
    /// add.
    pub fn macs(&self) -> (u64, u64) {
        let each = self.nodes.iter().zip(self.shapes()).map(|(node, shape)| {
            let added = node.computed.int8_weights().map_or(0, |conv| conv.added_macs(shape));
            (on_op!(&node.computed, op => op.macs(shape)), added)
        });
        each.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Activation, Axis, Binary, Multiplier, QBinary};

    #[test]
    fn constants_must_suit_the_operation() {
        let multiplier = Multiplier { multiplier: 1 << 30, right_shift: 31 };
        let sum = |b| Constants::Binary(QBinary::Sum { multipliers: [1 << 30, b], right_shift: 31 });
        let suits = |op: Op<QConv>, constants: Constants| Integer::new(op, constants).is_ok();
        assert!(suits(Op::GlobalAveragePool, Constants::Multiplier(multiplier)));
        assert!(!suits(Op::GlobalAveragePool, Constants::None));
        assert!(suits(Op::Binary(Binary::Add), sum(5)) && !suits(Op::Binary(Binary::Add), sum(-5)));
        assert!(suits(Op::Binary(Binary::Sub), sum(-5)) && !suits(Op::Binary(Binary::Sub), sum(5)));
        assert!(!suits(Op::Binary(Binary::Mul), sum(5)));
        assert!(suits(Op::Binary(Binary::Mul), Constants::Binary(QBinary::Product(multiplier))));
        assert!(suits(Op::Concat(Axis::Channels), Constants::Tables(vec![None; 2])));
        assert!(!suits(Op::Activation(Activation::Silu), Constants::Tables(vec![None])));
        let refusal = Integer::new(Op::Softmax(Axis::Width), Constants::None).unwrap_err();
        assert_eq!(refusal.to_string(), "softmax has no integer form");
    }
}
