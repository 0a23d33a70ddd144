//! Networks as ONNX files.
//!
//! | form | made of | for |
//! | --- | --- | --- |
//! | float | `Conv`, `Relu`, `GlobalAveragePool`, `Gemm` and what else the network has | every runtime |
//! | [`Format::Qdq`] | the same between `QuantizeLinear` and `DequantizeLinear` | TensorRT, OpenVINO, ONNX Runtime: they turn the pattern into their own integer kernels |
//! | [`Format::Integer`] | `ConvInteger`, `MatMulInteger`, requantization in doubles | the very integers of this program's kernels, in ONNX Runtime on a CPU |
//!
//! Tensors: `input` (batch × 3 × height × width), the outputs (`logits`, batch × classes, of a
//! checkpoint), and for a layer `NAME`: `NAME` is the float activation (not in the integer form),
//! `NAME/quantized` its levels (int8; uint8, 128 higher, in the integer form and where the zero
//! point is not 0). Other operations are called `NAME/…` and constants `NAME.…`. The metadata
//! entries `repquant.…` hold the version, the form, the preprocessing, class names, options, a
//! summary of the calibration, and the digest of the float network.

mod builder;
mod coarse;
mod float_layers;
mod functions;
mod input;
mod integer;
mod lines;
mod moves;
mod operations;
mod outputs;
mod qdq;
mod recurrent;
mod requantize;
mod tensors;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

pub use input::InputForm;

use self::builder::Builder;
use self::float_layers::{flat_kind, flat_pools, layer, repeated};
use self::tensors::FloatTensor;
use super::check::check;
use crate::model::{Graph, GraphOutput, Op, Preprocessing, QuantizedGraph, Shape};
use crate::{Error, Result};

/// How a quantized network is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Float operators between `QuantizeLinear` and `DequantizeLinear`.
    #[default]
    Qdq,
    /// Integer operators, the same levels as this program's to the bit.
    Integer,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "qdq" => Ok(Self::Qdq),
            "integer" => Ok(Self::Integer),
            _ => Err(Error::usage(format!("`{}` is neither qdq nor integer", text.escape_debug()))),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qdq => "qdq",
            Self::Integer => "integer",
        })
    }
}

/// A file's bytes, and how many operations it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxFile {
    /// The bytes; the same network gives the same.
    pub bytes: Vec<u8>,
    /// Number of operations.
    pub operations: usize,
}

/// A float network.
///
/// # Errors
/// [`ErrorKind::Input`](crate::ErrorKind::Input) where layer names clash or the file would exceed 2
/// GiB.
pub fn float(graph: &Graph, input: InputForm) -> Result<OnnxFile> {
    let clash = clashes(graph.nodes.iter().map(|node| &node.name));
    let graph = &*renamed(graph, clash, |graph| graph.nodes.iter_mut().map(|node| &mut node.name).collect());
    let mut builder = Builder::default();
    let shapes = graph.shapes();
    let kinds = graph.nodes.iter().map(|node| flat_kind(&node.op, &node.inputs));
    let flat = flat_pools(kinds, &graph.outputs);
    let mut activations: Vec<FloatTensor> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<(&FloatTensor, Shape)> = node.inputs.iter().map(|&x| (&activations[x], shapes[x])).collect();
        let made = match &node.op {
            Op::Input(shape) => Ok(FloatTensor::image(input.normalized(&mut builder, &graph.input, *shape))),
            op => layer(&mut builder, &node.name, op, node.relu, &inputs, flat[id]),
        };
        let made = made.map_err(|e| e.at(format!("layer {}", node.name)))?;
        let readers = graph.nodes.iter().filter(|reader| reader.inputs.contains(&id)).map(|reader| &reader.op);
        activations.push(repeated(&mut builder, &node.name, &node.op, made, readers, shapes[id]));
    }
    declare(&mut builder, &graph.outputs, &activations, &shapes)?;
    let mut metadata = vec![("repquant.form", "float".to_owned()), ("repquant.source_digest", graph.digest())];
    describe(&mut metadata, &graph.input, graph.classes.as_deref())?;
    file(builder, &graph.name, "A fused float network.", &metadata)
}

/// A quantized network.
///
/// # Errors
/// [`ErrorKind::Input`](crate::ErrorKind::Input) where the network contradicts itself, its layer
/// names clash, its sums do not fit what ONNX has, or the file would exceed 2 GiB.
pub fn quantized(graph: &QuantizedGraph, format: Format, input: InputForm) -> Result<OnnxFile> {
    check(graph)?;
    let clash = clashes(graph.nodes.iter().map(|node| &node.name));
    let graph = &*renamed(graph, clash, |graph| graph.nodes.iter_mut().map(|node| &mut node.name).collect());
    let mut builder = Builder::default();
    let activations = match format {
        Format::Qdq => qdq::network(&mut builder, graph, input)?,
        Format::Integer => integer::network(&mut builder, graph, input)?,
    };
    declare(&mut builder, &graph.outputs, &activations, &graph.shapes())?;
    let mut metadata = vec![
        ("repquant.form", format.to_string()),
        ("repquant.options", json(&graph.options)?),
        ("repquant.calibration", json(&graph.calibration)?),
        ("repquant.source_digest", graph.source_digest.clone()),
    ];
    describe(&mut metadata, &graph.input, graph.classes.as_deref())?;
    let description = match format {
        Format::Qdq => "A quantized network, float operators between QuantizeLinear and DequantizeLinear.",
        Format::Integer => "A quantized network in integer arithmetic; levels are uint8, 128 above those of int8.",
    };
    file(builder, &graph.name, description, &metadata)
}

/// Whether a layer behind the input is called as the file's input is.
fn clashes<'a>(mut names: impl Iterator<Item = &'a String>) -> bool {
    names.next();
    names.any(|name| name == input::NAME)
}

/// The network, where there is a clash as a copy in which such a layer has a name of its own;
/// `names` are those of its layers.
fn renamed<G: Clone>(graph: &G, clash: bool, names: impl FnOnce(&mut G) -> Vec<&mut String>) -> Cow<'_, G> {
    if !clash {
        return Cow::Borrowed(graph);
    }
    let mut own = graph.clone();
    make_way(names(&mut own));
    Cow::Owned(own)
}

/// Gives such a layer a name that no other has.
fn make_way(mut names: Vec<&mut String>) {
    let free = |names: &[&mut String]| {
        let mut free = (2..).map(|count: u64| format!("{}_{count}", input::NAME));
        free.find(|free| !names.iter().any(|name| **name == *free))
    };
    for layer in 1..names.len() {
        if names[layer].as_str() == input::NAME
            && let Some(free) = free(&names)
        {
            *names[layer] = free;
        }
    }
}

/// Declares the outputs, given the float tensor of every node.
fn declare(
    builder: &mut Builder,
    outputs: &[GraphOutput],
    activations: &[FloatTensor],
    shapes: &[Shape],
) -> Result<()> {
    let (tensors, shapes): (Vec<FloatTensor>, Vec<Shape>) =
        outputs.iter().map(|output| (activations[output.node].clone(), shapes[output.node])).unzip();
    outputs::declare(builder, outputs, &tensors, &shapes)
}

/// What both kinds of network say of their input and output.
fn describe(
    metadata: &mut Vec<(&'static str, String)>,
    input: &Preprocessing,
    classes: Option<&[String]>,
) -> Result<()> {
    metadata.push(("repquant.version", env!("CARGO_PKG_VERSION").to_owned()));
    metadata.push(("repquant.preprocessing", json(input)?));
    if let Some(classes) = classes {
        metadata.push(("repquant.classes", json(&classes)?));
    }
    Ok(())
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::bad("the metadata cannot be written").because(e))
}

fn file(builder: Builder, name: &str, description: &str, metadata: &[(&str, String)]) -> Result<OnnxFile> {
    let operations = builder.operations();
    Ok(OnnxFile { bytes: builder.finish(name, description, metadata)?, operations })
}
