//! The quantized network: what `quantize` fills, `exec::int8` runs and `export` writes.

use std::fmt;

use ndarray::{Array1, Array4, ArrayView3};
use serde::{Deserialize, Serialize};

use super::{
    Activation, Axis, Multiplier, NodeId, Op, Output, Pool, PoolKind, Preprocessing, QParams, Rearrange, Shape,
    broadcast, conv_output, joined,
};

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
    pub outputs: Vec<Output>,
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
    /// Whether a `ReLU` follows, in a convolution or a binary operation: a clamp from below at the output's zero point, or
    /// at 0 where accumulators are made real.
    pub relu: bool,
    /// How the output is stored as levels. None where it is not ([`Graph::stored`](super::Graph::stored)): a convolution's
    /// or classifier's stays int32 accumulators (real: `acc · s_x · scale[o]`), a [`QOp::Float`]'s real.
    pub output: Option<QParams>,
    /// What was decided about the split, and why.
    pub split: SplitReport,
}

/// What a quantized node computes.
#[derive(Debug, Clone, PartialEq)]
pub enum QOp {
    /// The network input; 8-bit levels become int8 through a table.
    Input(Shape),
    /// Convolution in integers. Where the output is not stored, as the classifier: without `multiplier`, and its coarse part
    /// on no grid of its own.
    Conv(QConv),
    /// Sum over height and width, then one multiplier `s_x / (s_y·H·W)`.
    GlobalAveragePool(Multiplier),
    /// The classifier in integers: a 1×1 [`QConv`] with empty `multiplier`; logit `= acc · s_x · scale[o]`.
    Linear(QConv),
    /// A function of each level.
    Table {
        /// What it stands for.
        function: Activation,
        /// What becomes of each level.
        table: Table,
    },
    /// A sum, difference or product of two activations.
    Binary(QBinary),
    /// Pooling over windows. Max: `multipliers` is empty, the output is stored as the input. Mean: for a divisor of d
    /// `q_y = clamp(z_y + ((Σ(q − z_x)·M + 2^(n−1)) >> n))`, (M, n) being entry d − 1, `s_x / (s_y·d)`.
    Pool {
        /// Windows and kind.
        pool: Pool,
        /// One for each divisor from 1 to [`Pool::largest_divisor`].
        multipliers: Vec<Multiplier>,
    },
    /// Moved levels; the output is stored as the input.
    Rearrange(Rearrange),
    /// Levels of the inputs one behind the other along an axis, each input's through its table, where it has one.
    Concat {
        /// The axis.
        axis: Axis,
        /// One for each input; none where its levels are those of the output.
        tables: Vec<Option<Table>>,
    },
    /// Computed in f32: levels and accumulators of its inputs are made real first, and where the output is stored it is
    /// quantized. A layer kept in float by request, an operation that has no integer form, or what follows the last
    /// convolution.
    Float(Op),
}

/// The level that becomes of each level: entry q + 128.
#[derive(Clone, PartialEq, Eq)]
pub struct Table(pub Box<[i8; 256]>);

impl Table {
    /// `q_y = clamp(round(f(x)/s_y) + z_y, low, high)` of the real value x of each level, in f64, half to even.
    pub fn of(x: &QParams, y: &QParams, f: impl Fn(f64) -> f64) -> Self {
        let level = |q: i32| y.quantize(f(x.dequantize(q))) as i8;
        Self(Box::new(std::array::from_fn(|i| level(i as i32 - 128))))
    }

    /// What becomes of a level.
    pub fn get(&self, level: i8) -> i8 {
        self.0[(i32::from(level) + 128) as usize]
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

/// A function of two activations in integers; `>>` rounds to the nearest, halves upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum QBinary {
    /// `q_y = clamp(z_y + (((q_a − z_a)·M_a + (q_b − z_b)·M_b + 2^(n−1)) >> n))`; a difference has a negative `M_b`.
    Sum {
        /// `M_a` and `M_b`, `s_a/s_y` and `±s_b/s_y` times 2^n.
        multipliers: [i32; 2],
        /// n, 1 to 62.
        right_shift: u8,
    },
    /// `q_y = clamp(z_y + (((q_a − z_a)·(q_b − z_b)·M + 2^(n−1)) >> n))`, `M·2^(−n) = s_a·s_b/s_y`.
    Product(Multiplier),
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
    /// `M` (published split: `M_f`) of each output channel; empty where the output stays accumulators.
    pub multiplier: Array1<i32>,
    /// `n` of each output channel; empty where the output stays accumulators.
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
                    total(weights.index_axis(ndarray::Axis(0), o)) << k[o]
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

impl QOp {
    /// Shape of the result for inputs of these shapes; none where they do not fit it. Of a convolution the sizes alone are
    /// looked at.
    pub fn output(&self, inputs: &[Shape]) -> Option<Shape> {
        let one = || if let [x] = inputs { Some(*x) } else { None };
        match self {
            Self::Float(op) => op.output(inputs),
            Self::Input(shape) => inputs.is_empty().then_some(*shape),
            Self::Conv(c) => Some(conv_output(one()?, c.out_channels(), c.kernel(), c.stride, c.padding)),
            Self::Linear(c) => one().map(|_| Shape::new(c.out_channels(), 1, 1)),
            Self::GlobalAveragePool(_) => Some(Shape::new(one()?.channels, 1, 1)),
            Self::Table { .. } => one(),
            Self::Binary(_) => {
                let [a, b] = inputs else { return None };
                broadcast(*a, *b)
            }
            Self::Pool { pool, .. } => Some(pool.output(one()?)),
            Self::Rearrange(rearrange) => rearrange.fits(one()?).then_some(rearrange.shape),
            Self::Concat { axis, tables } => {
                if inputs.len() >= 2 && tables.len() == inputs.len() {
                    joined(inputs, *axis)
                } else {
                    None
                }
            }
        }
    }

    /// Whether the output is stored as the input is.
    pub fn passes_levels(&self) -> bool {
        matches!(self, Self::Rearrange(_) | Self::Pool { pool: Pool { kind: PoolKind::Max, .. }, .. })
    }
}

impl QuantizedGraph {
    /// Shape of every activation, in the order of `nodes`.
    ///
    /// # Panics
    /// If an operation does not fit its inputs: a graph that neither `quantize` made nor a reader checked.
    pub fn shapes(&self) -> Vec<Shape> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<Shape> = node.inputs.iter().map(|&i| shapes[i]).collect();
            shapes.push(node.op.output(&inputs).expect("an operation that fits its inputs"));
        }
        shapes
    }

    /// Number of classes, where the network is a classifier.
    pub fn class_count(&self) -> Option<usize> {
        super::class_count(&self.outputs)
    }

    /// Bytes of all weights as they would be shipped.
    pub fn weight_bytes(&self) -> u64 {
        let each = self.nodes.iter().map(|node| match &node.op {
            QOp::Conv(c) | QOp::Linear(c) => c.weight_bytes(),
            QOp::Float(Op::Conv(c)) => 4 * (c.weight.len() + c.bias.len()) as u64,
            QOp::Float(Op::Linear(l)) => 4 * (l.weight.len() + l.bias.len()) as u64,
            QOp::Float(Op::Constant(values)) => 4 * values.len() as u64,
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
