//! The metadata entry of a quantized model.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{
    Activation, Axis, Binary, CoarseScale, Multiplier, Op, Output, Pool, Preprocessing, QBinary, QConv, QOp, QParams,
    Rearrange, Resize, Shape, SplitReport, Support,
};

/// What the entry calls this kind of file.
pub(super) const KIND: &str = "quantized";
/// Version of the layout.
pub(super) const VERSION: u64 = 2;
/// The version before: no outputs, and a classifier in the end.
pub(super) const VERSION_1: u64 = 1;

/// The metadata entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub kind: String,
    pub version: u64,
    /// Version of the program that wrote it.
    pub program: String,
    pub name: String,
    pub input: Preprocessing,
    pub classes: Option<Vec<String>>,
    pub source_digest: String,
    pub options: Value,
    pub calibration: Value,
    pub nodes: Vec<HeaderNode>,
    /// None in version 1.
    pub outputs: Option<Vec<Output>>,
}

/// A node without its tensors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderNode {
    pub name: String,
    pub op: HeaderOp,
    pub inputs: Vec<usize>,
    pub relu: bool,
    pub output: Option<QParams>,
    pub split: SplitReport,
}

/// An operation without its tensors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum HeaderOp {
    Input(Shape),
    Conv(Geometry),
    Linear(Geometry),
    GlobalAveragePool(Multiplier),
    Table(Activation),
    Binary(QBinary),
    Pool(Pool),
    Rearrange(Rearrange),
    Concat(Tables),
    FloatConv(FloatGeometry),
    FloatLinear,
    Float(FloatOp),
}

/// An operation without weights that is computed in float.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum FloatOp {
    GlobalAveragePool,
    Activation(Activation),
    Binary(Binary),
    Pool(Pool),
    Rearrange(Rearrange),
    Concat(Axis),
    Resize(Resize),
    Softmax(Axis),
    Constant,
}

/// A concatenation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tables {
    pub axis: Axis,
    /// Which inputs have a table.
    pub tables: Vec<bool>,
}

/// What the tensors of a quantized layer do not say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Geometry {
    pub bits: u8,
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub groups: usize,
    pub coarse: Option<CoarseForm>,
}

/// What the tensors of a float convolution do not say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FloatGeometry {
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub groups: usize,
}

/// The coarse part.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CoarseForm {
    pub support: Support,
    pub scale: ScaleForm,
}

/// How the coarse part is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ScaleForm {
    /// `s_c = 2^k·s_f`.
    Aligned,
    /// A grid of its own.
    Paper,
}

impl HeaderOp {
    /// An operation without its tensors.
    pub(super) fn of(op: &QOp) -> Self {
        match op {
            QOp::Input(shape) | QOp::Float(Op::Input(shape)) => Self::Input(*shape),
            QOp::Conv(conv) => Self::Conv(Geometry::of(conv)),
            QOp::Linear(conv) => Self::Linear(Geometry::of(conv)),
            QOp::GlobalAveragePool(multiplier) => Self::GlobalAveragePool(*multiplier),
            QOp::Float(Op::Conv(conv)) => {
                Self::FloatConv(FloatGeometry { stride: conv.stride, padding: conv.padding, groups: conv.groups })
            }
            QOp::Float(Op::Linear(_)) => Self::FloatLinear,
            QOp::Table { function, .. } => Self::Table(*function),
            QOp::Binary(binary) => Self::Binary(*binary),
            QOp::Pool { pool, .. } => Self::Pool(*pool),
            QOp::Rearrange(rearrange) => Self::Rearrange(rearrange.clone()),
            QOp::Concat { axis, tables } => {
                Self::Concat(Tables { axis: *axis, tables: tables.iter().map(Option::is_some).collect() })
            }
            QOp::Float(Op::GlobalAveragePool) => Self::Float(FloatOp::GlobalAveragePool),
            QOp::Float(Op::Activation(activation)) => Self::Float(FloatOp::Activation(*activation)),
            QOp::Float(Op::Binary(binary)) => Self::Float(FloatOp::Binary(*binary)),
            QOp::Float(Op::Pool(pool)) => Self::Float(FloatOp::Pool(*pool)),
            QOp::Float(Op::Rearrange(rearrange)) => Self::Float(FloatOp::Rearrange(rearrange.clone())),
            QOp::Float(Op::Concat(axis)) => Self::Float(FloatOp::Concat(*axis)),
            QOp::Float(Op::Resize(resize)) => Self::Float(FloatOp::Resize(*resize)),
            QOp::Float(Op::Softmax(axis)) => Self::Float(FloatOp::Softmax(*axis)),
            QOp::Float(Op::Constant(_)) => Self::Float(FloatOp::Constant),
        }
    }
}

impl Geometry {
    fn of(conv: &QConv) -> Self {
        let coarse = conv.coarse.as_ref().map(|coarse| CoarseForm {
            support: coarse.support,
            scale: match coarse.scale {
                CoarseScale::Shift(_) => ScaleForm::Aligned,
                CoarseScale::Own { .. } => ScaleForm::Paper,
            },
        });
        Self { bits: conv.bits, stride: conv.stride, padding: conv.padding, groups: conv.groups, coarse }
    }
}
