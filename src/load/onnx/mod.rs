//! From an ONNX file to a [`Graph`].
//!
//! | step | file |
//! | --- | --- |
//! | names, versions, the order of operations, what the outputs need | `program` |
//! | what the names stand for, operation by operation | `reader` |
//! | constants, from the file or beside it | `tensors` |
//! | operations on constants and shapes are computed | `fold`, `range` |
//! | every other operation becomes nodes of a draft | `conv`, `dense`, `elementwise`, `functions`, `matmul`, `normalization`, `pad`, `pool`, `recurrent`, `reduce`, `resize`, `shape_ops`, `softmax` |
//! | operators of old opsets, batches that move, branches | `former`, `batch`, `branch` |
//! | standardization that is spelled out | `spelled` |
//! | patterns, folding into convolutions | `simplify` |
//! | runs of element-wise operations become functions | `compose` |
//! | weights are rounded, names made unique | `finish` |
//!
//! A node has the name of its operation in the file, or of that operation's result where it has
//! none. Every shape is known: height and width are fixed by the file or the description, and the
//! batch counts as 1.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod batch;
mod branch;
mod compose;
mod conv;
mod dense;
mod describe;
mod draft;
mod elementwise;
mod finish;
mod fold;
mod former;
mod functions;
mod input;
mod matmul;
mod normalization;
mod operation;
mod operators;
mod pad;
mod pool;
mod program;
mod range;
mod reader;
mod recurrent;
mod reduce;
mod repeat;
mod resize;
mod shape_ops;
mod simplify;
mod softmax;
mod spelled;
mod tensors;
#[cfg(test)]
mod tests;
mod values;

use std::path::{Path, PathBuf};

use prost::Message;

use self::describe::Described;
use self::draft::Draft;
use self::finish::Finished;
use self::input::Input;
use self::program::Program;
use self::reader::{NUMBERS_PER_BYTE, Reader};
use self::tensors::Source;
use self::values::Value;
use super::LoadOptions;
use crate::model::{Graph, GraphOutput};
use crate::onnx_proto::ModelProto;
use crate::tensor_file;
use crate::{Error, Result};

/// How many numbers of its own a network may have whatever the size of its file: constants that are
/// computed, zeros in enlarged kernels.
const FREE_NUMBERS: usize = 1 << 22;

/// Whether a file is taken for an ONNX file: its name ends in `.onnx`, and it is no folder.
pub(crate) fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx")) && !path.is_dir()
}

/// Reads an ONNX file, of opset 9 to 28.
///
/// The preprocessing and the class names are the first of: those of `options`; what a file of this
/// program says of itself; `MODEL.json` beside `MODEL.onnx`; `ImageNet`'s mean and deviation, with
/// the network's own size.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where the options contradict each other;
/// [`ErrorKind::Input`](crate::ErrorKind::Input) where a file is missing or broken, the network has
/// operators or attributes that are not supported (the message names the node, the operator and
/// what is expected), or contradicts the description.
pub fn read(path: &Path, options: &LoadOptions) -> Result<Graph> {
    let at = |e: Error| e.at(path.display());
    let bytes = tensor_file::read(path)?;
    let (model, size) = (decode(&bytes).map_err(at)?, bytes.len());
    drop(bytes);
    let described = Described::find(path, &model, options)?;
    let folder = path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let name = path.file_stem().map_or_else(|| "model".into(), |stem| stem.to_string_lossy().into_owned());
    network(&name, &model, size, folder.map(Path::to_owned), &described).map_err(at)
}

/// Reads an ONNX file that is in memory; all its constants must be in it.
///
/// # Errors
/// Those of [`read`] that concern the bytes, with `name` as the place.
pub fn read_bytes(name: &str, bytes: &[u8]) -> Result<Graph> {
    let parse = || {
        let model = decode(bytes)?;
        network(name, &model, bytes.len(), None, &Described::own(&model)?)
    };
    parse().map_err(|e| e.at(name))
}

fn decode(bytes: &[u8]) -> Result<ModelProto> {
    let broken = || Error::bad("this is not a whole ONNX file").hint("it may be cut short or of another format");
    let model = ModelProto::decode(bytes).map_err(|e| broken().because(e))?;
    if model.graph.is_none() && model.opset_import.is_empty() { Err(broken()) } else { Ok(model) }
}

/// The network of a file of `size` bytes; external data is looked for in `folder`.
fn network(
    name: &str,
    model: &ModelProto,
    size: usize,
    folder: Option<PathBuf>,
    described: &Described,
) -> Result<Graph> {
    operators::refuse_quantized(model)?;
    let program = Program::of(model)?;
    operators::refuse_unsupported(&program.nodes)?;
    let mut draft = Draft::new(size.saturating_mul(NUMBERS_PER_BYTE).saturating_add(FREE_NUMBERS));
    let input = Input::of(program.input, described.size())?;
    let mut reader = Reader::new(&program, Source { folder }, input.batch);
    reader.values.insert(program.input.name(), Value::Active(input.add(&mut draft)?));
    for node in &program.nodes {
        reader.operation(node, &mut draft).map_err(|e| e.at(program::place(node)))?;
    }
    let mut outputs = Vec::with_capacity(program.outputs.len());
    for &name in &program.outputs {
        outputs.push(reader.output(name, &mut draft).map_err(|e| e.at(format!("output {}", name.escape_debug())))?);
    }
    let mut ends: Vec<usize> = outputs.iter().map(|(_, node, _)| *node).collect();
    simplify::simplify(&mut draft.nodes, &mut ends);
    let preprocessing = input.preprocessing(&mut draft, &mut ends, described)?;
    let Finished { nodes, place, notes } = finish::finish(&mut draft, &ends)?;
    let outputs: Vec<GraphOutput> = outputs
        .into_iter()
        .zip(&ends)
        .map(|((name, _, sides), end)| {
            let one_image = reader.lifted.contains(name);
            GraphOutput { name: name.to_owned(), node: place[end], sides, one_image }
        })
        .collect();
    let name = described.own_name.clone().unwrap_or_else(|| name.to_owned());
    let graph = Graph { name, input: preprocessing, classes: described.classes.clone(), nodes, outputs, notes };
    graph.check()?;
    if let (Some(classes), true, Some(only)) = (&graph.classes, graph.class_count().is_some(), graph.outputs.first())
        && only.sides != [classes.len()]
    {
        let (said, has) = (classes.len(), only.sides.iter().product::<usize>());
        return Err(Error::bad(format!("the description names {said} classes, the network has {has} outputs")));
    }
    Ok(graph)
}
