//! The quantized network: what `quantize` fills, `exec::int8` runs and `export` writes.

use ndarray::{Array1, Array4, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use super::{Multiplier, NodeId, Op, Preprocessing, QParams, Shape, conv_output};

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
}

/// One quantized operation.
#[derive(Debug, Clone, PartialEq)]
pub struct QNode {
    /// Name of the layer.
    pub name: String,
    /// What is computed.
    pub op: QOp,
    /// The nodes whose activations it reads.
    pub inputs: Vec<NodeId>,
    /// Whether a `ReLU` follows: a clamp from below at the output's zero point.
    pub relu: bool,
    /// How the output is stored. None for the classifier, whose output stay int32 accumulators.
    pub output: Option<QParams>,
    /// What was decided about the split, and why.
    pub split: SplitReport,
}

/// What a quantized node computes.
#[derive(Debug, Clone)]
pub enum QOp {
    /// The network input; 8-bit levels become int8 through a table.
    Input(Shape),
    /// Convolution in integers.
    Conv(QConv),
    /// Sum over height and width, then one multiplier `s_x / (s_y·H·W)`.
    GlobalAveragePool(Multiplier),
    /// The classifier in integers: a 1×1 [`QConv`] with empty `multiplier`; logit `= acc · s_x · scale[o]`.
    Linear(QConv),
    /// A layer kept in float by request: dequantize, compute in f32, quantize (the classifier: real logits).
    Float(Op),
}

impl PartialEq for QOp {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Input(a), Self::Input(b)) => a == b,
            (Self::Conv(a), Self::Conv(b)) | (Self::Linear(a), Self::Linear(b)) => a == b,
            (Self::GlobalAveragePool(a), Self::GlobalAveragePool(b)) => a == b,
            (Self::Float(Op::Conv(a)), Self::Float(Op::Conv(b))) => {
                a.weight == b.weight
                    && a.bias == b.bias
                    && (a.stride, a.padding, a.groups) == (b.stride, b.padding, b.groups)
            }
            (Self::Float(Op::Linear(a)), Self::Float(Op::Linear(b))) => a.weight == b.weight && a.bias == b.bias,
            _ => false,
        }
    }
}

/// An int8 convolution, its weights in one part (fine) or two (fine and coarse).
///
/// With `acc_f = bias + Σ fine·q` and `acc_c = coarse_bias + Σ coarse·q` over the support:
/// - no coarse part: `q_y = clamp(z_y + ((acc_f·M + 2^(n−1)) >> n))`;
/// - aligned: the same with `acc_f + (acc_c << shift)` in place of `acc_f` (`coarse_bias` is 0, its part is in `bias`);
/// - published: `q_y = clamp(z_y + ((acc_c·M_c + acc_f·M_f + 2^(n−1)) >> n))`, one n for both.
#[derive(Debug, Clone, PartialEq)]
pub struct QConv {
    /// Bit width of the weights, 2 to 8.
    pub bits: u8,
    /// `O × I/groups × kh × kw`.
    pub fine: Array4<i8>,
    /// The second part, where the layer is split.
    pub coarse: Option<Coarse>,
    /// Fine scale `s_f` of each output channel.
    pub scale: Array1<f32>,
    /// int32 bias of each output channel, the zero point of the input folded in:
    /// `round(bias/(s_x·s_f)) − z_x·Σ(Q_f + 2^k·Q_c)` (published split: `− z_x·ΣQ_f`).
    pub bias: Array1<i32>,
    /// `M` (published split: `M_f`) of each output channel; empty for the classifier.
    pub multiplier: Array1<i32>,
    /// `n` of each output channel; empty for the classifier.
    pub right_shift: Array1<u8>,
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Padding with the input's zero point.
    pub padding: [usize; 2],
    /// Groups.
    pub groups: usize,
}

/// Which weights the coarse part may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// The centre tap, all input channels.
    Center,
    /// The centre tap of the own channel only, where an identity branch lands.
    Diagonal,
    /// Every weight.
    Full,
}

impl Support {
    /// The positions that the support of output channel `out_channel` holds, ascending, in that channel's kernel of
    /// `in_per_group × kh × kw` weights: the order of [`Coarse::weights`].
    ///
    /// The centre tap is `(kh/2, kw/2)`; the own channel of `Diagonal` is counted within its group.
    pub fn positions(self, out_channel: usize, in_per_group: usize, kernel: [usize; 2]) -> impl Iterator<Item = usize> {
        let taps = kernel[0] * kernel[1];
        let center = kernel[0] / 2 * kernel[1] + kernel[1] / 2;
        let (first, count, step) = match self {
            Self::Center => (center, in_per_group, taps),
            Self::Diagonal => (out_channel % in_per_group * taps + center, 1, 1),
            Self::Full => (0, in_per_group * taps, 1),
        };
        (0..count).map(move |i| first + i * step)
    }

    /// How many weights the support of one output channel holds.
    pub fn len(self, in_per_group: usize, kernel: [usize; 2]) -> usize {
        match self {
            Self::Center => in_per_group,
            Self::Diagonal => 1,
            Self::Full => in_per_group * kernel[0] * kernel[1],
        }
    }

    /// Shape of [`Coarse::weights`].
    pub fn shape(self, out_channels: usize, in_per_group: usize, kernel: [usize; 2]) -> [usize; 4] {
        match self {
            Self::Center => [out_channels, in_per_group, 1, 1],
            Self::Diagonal => [out_channels, 1, 1, 1],
            Self::Full => [out_channels, in_per_group, kernel[0], kernel[1]],
        }
    }
}

/// The coarse part of a split kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Coarse {
    /// What `weights` covers.
    pub support: Support,
    /// Only what the support holds: center `O × I/groups × 1 × 1`, diagonal `O × 1 × 1 × 1`, full `O × I/groups × kh × kw`.
    pub weights: Array4<i8>,
    /// Its scale.
    pub scale: CoarseScale,
}

/// The scale of a coarse part.
#[derive(Debug, Clone, PartialEq)]
pub enum CoarseScale {
    /// Aligned: `s_c = 2^k · s_f`; k of each output channel.
    Shift(Array1<u8>),
    /// Published: a grid of its own.
    Own {
        /// `s_c` of each output channel.
        scale: Array1<f32>,
        /// `M_c` of each output channel; the right shift is that of the fine part.
        multiplier: Array1<i32>,
        /// `−z_x·ΣQ_c` of each output channel.
        bias: Array1<i32>,
    },
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

impl QConv {
    /// Number of output channels.
    pub fn out_channels(&self) -> usize {
        self.fine.dim().0
    }

    /// Number of input channels.
    pub fn in_channels(&self) -> usize {
        self.fine.dim().1 * self.groups
    }

    /// Kernel height and width.
    pub fn kernel(&self) -> [usize; 2] {
        let (_, _, kh, kw) = self.fine.dim();
        [kh, kw]
    }

    /// One filter for each channel.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.in_channels() && self.groups == self.out_channels()
    }

    /// The bias of each output channel without the input zero point's share, `round(bias/(s_x·s_f))`: for arithmetic
    /// that subtracts `input_zero_point` from the levels first.
    pub fn bias_without_zero_point(&self, input_zero_point: i32) -> Vec<i64> {
        let total = |levels: ArrayView3<'_, i8>| levels.iter().map(|&q| i64::from(q)).sum::<i64>();
        let folded = self.fine.outer_iter().enumerate().map(|(o, fine)| {
            let coarse = match &self.coarse {
                Some(Coarse { weights, scale: CoarseScale::Shift(k), .. }) => {
                    total(weights.index_axis(Axis(0), o)) << k[o]
                }
                _ => 0,
            };
            i64::from(self.bias[o]) + i64::from(input_zero_point) * (total(fine) + coarse)
        });
        folded.collect()
    }

    /// Bytes of the weights: both parts at their bit width, scales 4, shifts 1, biases 4 bytes.
    pub fn weight_bytes(&self) -> u64 {
        let (coarse, shifts, scales) = match &self.coarse {
            None => (0, 0, 0),
            Some(c) => match &c.scale {
                CoarseScale::Shift(k) => (c.weights.len(), k.len(), 0),
                CoarseScale::Own { scale, .. } => (c.weights.len(), 0, scale.len()),
            },
        };
        let packed = (self.fine.len() as u64 * u64::from(self.bits)).div_ceil(8)
            + (coarse as u64 * u64::from(self.bits)).div_ceil(8);
        packed + 4 * (self.scale.len() + scales + self.bias.len()) as u64 + shifts as u64
    }
}

impl QuantizedGraph {
    /// Shape of every activation, in the order of `nodes`.
    pub fn shapes(&self) -> Vec<Shape> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let input = node.inputs.first().map(|&i| shapes[i]);
            shapes.push(match (&node.op, input) {
                (QOp::Input(shape), _) => *shape,
                (QOp::Conv(c), Some(x)) => conv_output(x, c.out_channels(), c.kernel(), c.stride, c.padding),
                (QOp::Float(Op::Conv(c)), Some(x)) => conv_output(x, c.out_channels(), c.kernel(), c.stride, c.padding),
                (QOp::Linear(c), Some(_)) => Shape::new(c.out_channels(), 1, 1),
                (QOp::Float(Op::Linear(l)), Some(_)) => Shape::new(l.bias.len(), 1, 1),
                (QOp::GlobalAveragePool(_) | QOp::Float(_), Some(x)) => Shape::new(x.channels, 1, 1),
                (_, None) => unreachable!("a node that is not the input has one"),
            });
        }
        shapes
    }

    /// Bytes of all weights as they would be shipped.
    pub fn weight_bytes(&self) -> u64 {
        let each = self.nodes.iter().map(|node| match &node.op {
            QOp::Conv(c) | QOp::Linear(c) => c.weight_bytes(),
            QOp::Float(Op::Conv(c)) => 4 * (c.weight.len() + c.bias.len()) as u64,
            QOp::Float(Op::Linear(l)) => 4 * (l.weight.len() + l.bias.len()) as u64,
            _ => 0,
        });
        each.sum()
    }

    /// Multiplications for one image: those of the unsplit network, and those that the coarse parts add.
    pub fn macs(&self) -> (u64, u64) {
        let shapes = self.shapes();
        let mut total = (0, 0);
        for (node, shape) in self.nodes.iter().zip(&shapes) {
            let pixels = shape.pixels() as u64;
            match &node.op {
                QOp::Conv(c) | QOp::Linear(c) => {
                    total.0 += c.fine.len() as u64 * pixels;
                    total.1 += c.coarse.as_ref().map_or(0, |c| c.weights.len() as u64) * pixels;
                }
                QOp::Float(Op::Conv(c)) => total.0 += c.weight.len() as u64 * pixels,
                QOp::Float(Op::Linear(l)) => total.0 += l.weight.len() as u64,
                _ => {}
            }
        }
        total
    }
}
