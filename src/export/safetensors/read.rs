//! A quantized model from bytes. A malformed file gives an error, whatever it claims.

use std::collections::HashMap;
use std::path::Path;

use ndarray::{Array1, Array2, Array3, Array4};
use safetensors::tensor::{Dtype, Metadata, TensorView};

use super::header::{
    Cells, CoarseForm, FloatGeometry, FloatOp, Geometry, Header, HeaderNode, HeaderOp, KIND, ScaleForm, Tables,
    VERSION, VERSION_1,
};
use crate::error::{Term, Text, text};
use crate::export::check::check;
use crate::export::kind::Kind;
use crate::model::{
    Coarse, CoarseScale, Computed, Constants, ConstantsKind, Conv, GraphOutput, Multiplier, Op, QConv, QNode,
    QuantizedGraph, Recurrent, Table, Weights, on_op,
};
use crate::tensor_file::{self, METADATA_KEY, open};
use crate::{Error, Result};

/// What to do about a file that is not one of ours.
fn hint() -> Text {
    text!["quantized models are written by ", Term::Quantize]
}

/// Reads a quantized model and checks everything that its integer arithmetic relies on: shapes, the
/// range of every level, multiplier and shift, and that no sum can overflow.
///
/// # Errors
/// [`ErrorKind::Input`](crate::ErrorKind::Input) where it cannot be read, is of another kind or
/// contradicts itself.
pub fn read(path: &Path) -> Result<QuantizedGraph> {
    let bytes = tensor_file::read(path)?;
    from_bytes(&bytes).map_err(|e| e.at(path.display()))
}

/// As [`read`], from memory.
///
/// # Errors
/// As [`read`]; the path is the caller's to add.
pub fn from_bytes(bytes: &[u8]) -> Result<QuantizedGraph> {
    let (metadata, tensors) =
        open(bytes).map_err(|e| Error::bad("not a whole safetensors file").because(e).hint(hint()))?;
    let header = header(&metadata)?;
    let mut tensors: Tensors<'_> = tensors.tensors().into_iter().collect();
    let nodes = header.nodes.into_iter().map(|node| {
        let name = node.name.clone();
        read_node(node, &mut tensors).map_err(|e| e.at(name.escape_debug()))
    });
    let nodes = nodes.collect::<Result<Vec<QNode>>>()?;
    let outputs = match header.outputs {
        Some(outputs) => outputs,
        None => version_1_outputs(&nodes)?,
    };
    let graph = QuantizedGraph {
        name: header.name,
        input: header.input,
        classes: header.classes,
        source_digest: header.source_digest,
        options: header.options,
        calibration: header.calibration,
        nodes,
        outputs,
    };
    let mut left: Vec<&str> = tensors.keys().map(String::as_str).collect();
    left.sort_unstable();
    if let Some(first) = left.first() {
        let message = format!("{} tensors belong to no layer, the first is {}", left.len(), first.escape_debug());
        return Err(Error::bad(message).hint(hint()));
    }
    check(&graph)?;
    Ok(graph)
}

/// The tensors that no layer has taken yet.
type Tensors<'a> = HashMap<String, TensorView<'a>>;

fn header(metadata: &Metadata) -> Result<Header> {
    let text = metadata.metadata().as_ref().and_then(|m| m.get(METADATA_KEY));
    let text = text.ok_or_else(|| Error::bad("not a quantized model").hint(hint()))?;
    let malformed = |e| Error::bad("the metadata entry is malformed").because(e).hint(hint());
    let Kind { kind, version } = serde_json::from_str(text).map_err(malformed)?;
    if kind != KIND {
        return Err(Error::bad(format!("not a quantized model but `{}`", kind.escape_debug())).hint(hint()));
    }
    if ![VERSION_1, VERSION].contains(&version) {
        let message = format!("version {version} of a quantized model; this program reads {VERSION_1} and {VERSION}");
        return Err(Error::bad(message).hint("quantize again, or use the version of repquant that wrote it"));
    }
    let header: Header = serde_json::from_str(text).map_err(malformed)?;
    if header.outputs.is_some() != (version == VERSION) {
        return Err(Error::bad(format!("the outputs are not those of version {version}")).hint(hint()));
    }
    Ok(header)
}

/// The one output of a file of version 1: the last node, which was a classifier.
fn version_1_outputs(nodes: &[QNode]) -> Result<Vec<GraphOutput>> {
    let last = nodes.last().and_then(|node| {
        on_op!(&node.computed, op => if let Op::Linear(weights) = op { Some(weights.out_channels()) } else { None })
    });
    match last {
        Some(classes) => Ok(vec![GraphOutput {
            name: "logits".into(),
            node: nodes.len() - 1,
            sides: vec![classes],
            one_image: false,
        }]),
        None => Err(Error::bad("a model of version 1 ends with its classifier").hint(hint())),
    }
}

fn read_node(node: HeaderNode, tensors: &mut Tensors<'_>) -> Result<QNode> {
    let mut layer = LayerTensors { name: &node.name, tensors };
    let computed = match node.op {
        HeaderOp::Conv(geometry) => Computed::plain(Op::Conv(layer.conv(geometry, node.output.is_some())?))?,
        HeaderOp::Linear(geometry) => Computed::plain(Op::Linear(layer.conv(geometry, false)?))?,
        HeaderOp::GlobalAveragePool(multiplier) => {
            Computed::integer(Op::GlobalAveragePool, Constants::Multiplier(multiplier))?
        }
        HeaderOp::Table(function) => {
            Computed::integer(Op::Activation(function), Constants::Table(layer.table("table")?))?
        }
        HeaderOp::Binary(binary) => {
            let (function, binary) = binary.read();
            Computed::integer(Op::Binary(function), Constants::Binary(binary))?
        }
        HeaderOp::Concat(Tables { axis, tables }) => {
            let tables = tables.into_iter().enumerate();
            let tables = tables.map(|(i, has)| has.then(|| layer.table(&format!("table{i}"))).transpose());
            Computed::integer(Op::Concat(axis), Constants::Tables(tables.collect::<Result<_>>()?))?
        }
        HeaderOp::Integer(op) => {
            let constants = layer.constants(&op)?;
            Computed::integer(op, constants)?
        }
        HeaderOp::FloatConv(FloatGeometry { stride, padding, groups }) => Computed::Float(Op::Conv(Conv {
            weight: layer.array4("weight", Dtype::F32, f32::from_le_bytes)?,
            bias: layer.array1("bias", Dtype::F32, f32::from_le_bytes)?,
            stride,
            padding,
            groups,
        })),
        HeaderOp::FloatLinear => {
            let weight = layer.array2("weight")?;
            let bias = layer.array1("bias", Dtype::F32, f32::from_le_bytes)?;
            Computed::Float(Op::Linear(Conv::linear(weight, bias)))
        }
        HeaderOp::Float(FloatOp::Constant) => Computed::Float(Op::Constant(layer.array3("value")?)),
        HeaderOp::Float(FloatOp::Recurrent(cells)) => {
            Computed::Float(Op::Recurrent(Box::new(layer.recurrent(&cells)?)))
        }
        HeaderOp::Float(FloatOp::Op(op)) => Computed::Float(op),
    };
    let HeaderNode { name, inputs, relu, output, exponents, split, .. } = node;
    Ok(QNode { name, computed, inputs, relu, output, exponents, split })
}

/// The tensors of one layer.
struct LayerTensors<'a, 'b> {
    name: &'a str,
    tensors: &'a mut Tensors<'b>,
}

impl LayerTensors<'_, '_> {
    fn conv(&mut self, geometry: Geometry, requantized: bool) -> Result<QConv> {
        let (multiplier, right_shift) = if requantized {
            (
                self.array1("multiplier", Dtype::I32, i32::from_le_bytes)?,
                self.array1("right_shift", Dtype::U8, u8::from_le_bytes)?,
            )
        } else {
            (Array1::default(0), Array1::default(0))
        };
        Ok(QConv {
            bits: geometry.bits,
            fine: self.array4("fine", Dtype::I8, i8::from_le_bytes)?,
            coarse: geometry.coarse.map(|form| self.coarse(&form)).transpose()?,
            scale: self.array1("scale", Dtype::F32, f32::from_le_bytes)?,
            bias: self.array1("bias", Dtype::I32, i32::from_le_bytes)?,
            multiplier,
            right_shift,
            stride: geometry.stride,
            padding: geometry.padding,
            groups: geometry.groups,
        })
    }

    fn table(&mut self, part: &str) -> Result<Table> {
        let (_, levels) = self.take::<_, 1, 1>(part, Dtype::I8, i8::from_le_bytes)?;
        let levels: Result<[i8; 256], Vec<i8>> = levels.try_into();
        let levels = levels.map_err(|levels| Error::bad(format!("{part} has {} levels, not 256", levels.len())))?;
        Ok(Table(Box::new(levels)))
    }

    fn channel_tables(&mut self) -> Result<Vec<Table>> {
        let ([_, entries], levels) = self.take::<_, 1, 2>("table", Dtype::I8, i8::from_le_bytes)?;
        let (tables, []) = levels.as_chunks::<256>() else {
            return Err(Error::bad(format!("table has {entries} levels for each channel, not 256")));
        };
        if entries != 256 {
            return Err(Error::bad(format!("table has {entries} levels for each channel, not 256")));
        }
        Ok(tables.iter().map(|table| Table(Box::new(*table))).collect())
    }

    /// The constants of an operation in integers, of those that are tensors.
    fn constants(&mut self, op: &Op<QConv>) -> Result<Constants> {
        match op.constants() {
            Some(ConstantsKind::None) => Ok(Constants::None),
            Some(ConstantsKind::Table) => self.table("table").map(Constants::Table),
            Some(ConstantsKind::ChannelTables) => self.channel_tables().map(Constants::ChannelTables),
            Some(ConstantsKind::Multipliers) => self.multipliers().map(Constants::Multipliers),
            _ => Err(Error::bad(format!("{} lacks its constants, or has no integer form", op.kind()))),
        }
    }

    fn multipliers(&mut self) -> Result<Vec<Multiplier>> {
        let m = self.array1("multiplier", Dtype::I32, i32::from_le_bytes)?;
        let n = self.array1("right_shift", Dtype::U8, u8::from_le_bytes)?;
        if m.len() != n.len() {
            return Err(Error::bad(format!("{} multipliers and {} right shifts", m.len(), n.len())));
        }
        Ok(m.into_iter().zip(n).map(|(multiplier, right_shift)| Multiplier { multiplier, right_shift }).collect())
    }

    fn coarse(&mut self, form: &CoarseForm) -> Result<Coarse> {
        let scale = match form.scale {
            ScaleForm::Aligned => CoarseScale::Shift(self.array1("shift", Dtype::U8, u8::from_le_bytes)?),
            ScaleForm::Paper => CoarseScale::Own {
                scale: self.array1("coarse_scale", Dtype::F32, f32::from_le_bytes)?,
                multiplier: self.array1("coarse_multiplier", Dtype::I32, i32::from_le_bytes)?,
                bias: self.array1("coarse_bias", Dtype::I32, i32::from_le_bytes)?,
            },
        };
        Ok(Coarse { support: form.support, weights: self.array4("coarse", Dtype::I8, i8::from_le_bytes)?, scale })
    }

    fn recurrent(&mut self, cells: &Cells) -> Result<Recurrent> {
        let &Cells { cell, direction, gives_memory, has } = cells;
        Ok(Recurrent {
            cell,
            direction,
            gives_memory,
            input: self.array3("input")?,
            state: self.array3("state")?,
            bias: self.array2("bias")?,
            peepholes: has[0].then(|| self.array2("peepholes")).transpose()?,
            initial_state: has[1].then(|| self.array3("initial_state")).transpose()?,
            initial_memory: has[2].then(|| self.array3("initial_memory")).transpose()?,
        })
    }

    fn array2(&mut self, part: &str) -> Result<Array2<f32>> {
        let (shape, values) = self.take::<_, 4, 2>(part, Dtype::F32, f32::from_le_bytes)?;
        Array2::from_shape_vec(shape, values).map_err(|e| Error::bad("shape and length differ").because(e).at(part))
    }

    fn array3(&mut self, part: &str) -> Result<Array3<f32>> {
        let (shape, values) = self.take::<_, 4, 3>(part, Dtype::F32, f32::from_le_bytes)?;
        Array3::from_shape_vec(shape, values).map_err(|e| Error::bad("shape and length differ").because(e).at(part))
    }

    fn array1<T, const N: usize>(&mut self, part: &str, dtype: Dtype, value: fn([u8; N]) -> T) -> Result<Array1<T>> {
        Ok(Array1::from_vec(self.take::<T, N, 1>(part, dtype, value)?.1))
    }

    fn array4<T, const N: usize>(&mut self, part: &str, dtype: Dtype, value: fn([u8; N]) -> T) -> Result<Array4<T>> {
        let (shape, values) = self.take::<T, N, 4>(part, dtype, value)?;
        Array4::from_shape_vec(shape, values).map_err(|e| Error::bad("shape and length differ").because(e).at(part))
    }

    /// Takes a tensor of `D` dimensions out; the file's bytes bound its length.
    fn take<T, const N: usize, const D: usize>(
        &mut self,
        part: &str,
        dtype: Dtype,
        value: fn([u8; N]) -> T,
    ) -> Result<([usize; D], Vec<T>)> {
        let key = format!("{}.{part}", self.name);
        let view = self.tensors.remove(&key).ok_or_else(|| Error::bad(format!("tensor {part} is missing")))?;
        let shape: Option<[usize; D]> = view.shape().try_into().ok();
        match shape {
            Some(shape) if view.dtype() == dtype => {
                let (words, _) = view.data().as_chunks::<N>();
                Ok((shape, words.iter().map(|bytes| value(*bytes)).collect()))
            }
            _ => Err(Error::bad(format!(
                "tensor {part} is {:?} {:?} and should be {dtype:?} with {D} dimensions",
                view.dtype(),
                view.shape()
            ))),
        }
    }
}
