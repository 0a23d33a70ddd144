//! The metadata entry of a quantized model.

use std::fmt;

use serde::de::{DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor, value::EnumAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::{
    Activation, Axis, Binary, Cell, CoarseScale, Computed, Constants, Direction, GraphOutput, Integer, Multiplier, Op,
    Preprocessing, QBinary, QConv, QParams, Recurrent, SplitReport, Support,
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
    pub outputs: Option<Vec<GraphOutput>>,
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
    /// Files of networks whose channels are as they were do not have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exponents: Vec<u8>,
    pub split: SplitReport,
}

/// An operation without its tensors.
///
/// In integers it is written as what it is, `{"pool": {…}}`, and its tensors are those of its
/// constants; where these are numbers that belong here, or the entry has another name since version
/// 1, it has a form of its own.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "there is one for each layer, and most are large")]
pub(super) enum HeaderOp {
    Conv(Geometry),
    Linear(Geometry),
    GlobalAveragePool(Multiplier),
    Table(Activation),
    Binary(HeaderBinary),
    Concat(Tables),
    FloatConv(FloatGeometry),
    FloatLinear,
    Float(FloatOp),
    #[serde(untagged)]
    Integer(Op<QConv>),
}

/// An operation that is computed in float, without its tensor.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FloatOp {
    Constant,
    Recurrent(Cells),
    #[serde(untagged)]
    Op(Op),
}

/// What the tensors of recurrent cells do not say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cells {
    pub cell: Cell,
    pub direction: Direction,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gives_memory: bool,
    /// Which of the tensors that need not be there are: peepholes, initial state, initial memory.
    pub has: [bool; 3],
}

/// A sum, difference or product.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum HeaderBinary {
    Sum {
        multipliers: [i32; 2],
        right_shift: u8,
        /// Whether it is a difference; none means that the sign of the second multiplier says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        difference: Option<bool>,
    },
    Product(Multiplier),
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
    pub(super) fn of(computed: &Computed) -> Self {
        match computed {
            Computed::Float(op) => Self::of_float(op),
            Computed::Integer(integer) => Self::of_integer(integer),
        }
    }

    fn of_float(op: &Op) -> Self {
        match op {
            Op::Conv(conv) => {
                Self::FloatConv(FloatGeometry { stride: conv.stride, padding: conv.padding, groups: conv.groups })
            }
            Op::Linear(_) => Self::FloatLinear,
            Op::Constant(_) => Self::Float(FloatOp::Constant),
            Op::Recurrent(recurrent) => Self::Float(FloatOp::Recurrent(Cells::of(recurrent))),
            op => Self::Float(FloatOp::Op(op.clone())),
        }
    }

    fn of_integer(integer: &Integer) -> Self {
        match (integer.op(), integer.constants()) {
            (Op::Conv(conv), _) => Self::Conv(Geometry::of(conv)),
            (Op::Linear(conv), _) => Self::Linear(Geometry::of(conv)),
            (Op::GlobalAveragePool, Constants::Multiplier(multiplier)) => Self::GlobalAveragePool(*multiplier),
            (Op::Activation(function), _) => Self::Table(*function),
            (Op::Binary(function), Constants::Binary(binary)) => Self::Binary(HeaderBinary::of(*function, *binary)),
            (Op::Concat(axis), Constants::Tables(tables)) => {
                Self::Concat(Tables { axis: *axis, tables: tables.iter().map(Option::is_some).collect() })
            }
            (op, _) => Self::Integer(op.clone()),
        }
    }
}

impl Cells {
    fn of(recurrent: &Recurrent) -> Self {
        let Recurrent { cell, direction, gives_memory, peepholes, initial_state, initial_memory, .. } = recurrent;
        let has = [peepholes.is_some(), initial_state.is_some(), initial_memory.is_some()];
        Self { cell: *cell, direction: *direction, gives_memory: *gives_memory, has }
    }
}

impl HeaderBinary {
    fn of(function: Binary, binary: QBinary) -> Self {
        match binary {
            QBinary::Sum { multipliers, right_shift } => {
                Self::Sum { multipliers, right_shift, difference: (function == Binary::Sub).then_some(true) }
            }
            QBinary::Product(multiplier) => Self::Product(multiplier),
        }
    }

    /// What it is, and what it computes with.
    pub(super) fn read(&self) -> (Binary, QBinary) {
        match *self {
            Self::Product(multiplier) => (Binary::Mul, QBinary::Product(multiplier)),
            Self::Sum { multipliers, right_shift, difference } => {
                // Older files do not say it: what has a negative second multiplier is a difference
                // there.
                let difference = difference.unwrap_or(multipliers[1] < 0);
                let function = if difference { Binary::Sub } else { Binary::Add };
                (function, QBinary::Sum { multipliers, right_shift })
            }
        }
    }
}

/// Reads an enum by the names of its variants, those that it does not know as operations.
macro_rules! by_name {
    ($type:ident, $content:ident, $other:ident, $($name:literal => $variant:expr),+) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Names;
                impl<'de> Visitor<'de> for Names {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an operation")
                    }

                    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<$type, A::Error> {
                        let (name, $content) = data.variant::<String>()?;
                        Ok(match name.as_str() {
                            $($name => $variant,)+
                            _ => $type::$other(named(name, $content)?),
                        })
                    }
                }
                deserializer.deserialize_enum(stringify!($type), &[], Names)
            }
        }
    };
}

by_name!(HeaderOp, content, Integer,
    "conv" => HeaderOp::Conv(content.newtype_variant()?),
    "linear" => HeaderOp::Linear(content.newtype_variant()?),
    "global_average_pool" => HeaderOp::GlobalAveragePool(content.newtype_variant()?),
    "table" => HeaderOp::Table(content.newtype_variant()?),
    "binary" => HeaderOp::Binary(content.newtype_variant()?),
    "concat" => HeaderOp::Concat(content.newtype_variant()?),
    "float_conv" => HeaderOp::FloatConv(content.newtype_variant()?),
    "float_linear" => { content.unit_variant()?; HeaderOp::FloatLinear },
    "float" => HeaderOp::Float(content.newtype_variant()?));

by_name!(FloatOp, content, Op,
    "constant" => { content.unit_variant()?; FloatOp::Constant },
    "recurrent" => FloatOp::Recurrent(content.newtype_variant()?));

/// An operation whose name was read already. Not by trying one form after the other, as serde's
/// untagged enums are read: they keep numbers as f64 meanwhile, and a f32 that is rounded twice may
/// become another.
fn named<'de, V: VariantAccess<'de>, T: Deserialize<'de>>(name: String, content: V) -> Result<T, V::Error> {
    struct Named<V>(String, V);
    impl<'de, V: VariantAccess<'de>> EnumAccess<'de> for Named<V> {
        type Error = V::Error;
        type Variant = V;

        fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, V), V::Error> {
            Ok((seed.deserialize(self.0.into_deserializer())?, self.1))
        }
    }
    T::deserialize(EnumAccessDeserializer::new(Named(name, content)))
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
