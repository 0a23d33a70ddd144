//! From a [`TrainedNet`], or an ONNX file, to a [`Graph`] of plain convolutions.
//!
//! Batch norm and parallel branches are linear, so each block is one convolution with bias. All is
//! computed in f64 and rounded once to f32.

mod affine_map;
mod batch_norm;
mod branches;
mod merge;
#[cfg(test)]
mod tests;

pub use merge::merge;

use std::path::Path;

use crate::load::{self, LoadOptions, Loaded, Squeeze, TrainedNet};
use crate::model::{Activation, Binary, Conv, Graph, GraphOutput, Node, Note, NoteKind, Op};
use crate::{Error, Result};

/// Reads an ONNX file (`.onnx`) or a checkpoint, and fuses its branches.
///
/// # Errors
/// Those of [`load::load`] or [`load::onnx::read`], and of [`fuse`] or [`merge()`].
pub fn read(path: &Path, options: &LoadOptions) -> Result<Graph> {
    let graph = if load::onnx::is_onnx(path) {
        merge(load::onnx::read(path, options)?)
    } else {
        loaded(load::read_checkpoint(path, options)?)
    };
    graph.map_err(|e| e.at(path.display()))
}

/// Fuses the branches of what was read from a checkpoint.
///
/// # Errors
/// Those of [`fuse`] or [`merge()`].
pub(crate) fn loaded(loaded: Loaded) -> Result<Graph> {
    match loaded {
        Loaded::Blocks(net) => fuse(&net),
        Loaded::Modules { graph, .. } => merge(graph),
    }
}

/// Fuses every block into one convolution.
///
/// The nodes are `input`, one convolution with `ReLU` for each block, named as the block, `pool`,
/// and the classifier. A block with squeeze-and-excitation is a convolution, `NAME.se.pool`,
/// `NAME.se.reduce`, `NAME.se.expand`, `NAME.se.sigmoid`, and `NAME.se`, the product with `ReLU`.
///
/// # Errors
/// [`ErrorKind::Input`](crate::ErrorKind::Input), naming the layer, where branches do not fit each
/// other or a fused value is not finite in f32.
pub fn fuse(net: &TrainedNet) -> Result<Graph> {
    let node = |name: &str, op, inputs, relu| Node { name: name.to_owned(), op, inputs, relu };
    let assumed = |text: &String| Note { layer: "checkpoint".into(), kind: NoteKind::Assumed, text: text.clone() };
    let mut notes: Vec<Note> = net.notes.iter().map(assumed).collect();
    let mut nodes = vec![node("input", Op::Input(net.input_shape), vec![], false)];
    for block in &net.blocks {
        let (weight, bias) = branches::fuse_block(block).map_err(|e| e.at(format!("layer {}", block.name)))?;
        let (stride, padding) = ([block.stride; 2], [block.padding; 2]);
        let conv = Conv { weight, bias, stride, padding, groups: block.groups };
        nodes.push(node(&block.name, Op::Conv(conv), vec![nodes.len() - 1], block.squeeze.is_none()));
        if let Some(squeeze) = &block.squeeze {
            weigh(&mut nodes, &block.name, squeeze).map_err(|e| e.at(format!("layer {}", block.name)))?;
        }
        if let Some(text) = branches::names(&block.branches) {
            notes.push(Note { layer: block.name.clone(), kind: NoteKind::Merged, text });
        }
    }
    if !net.classifier.weight.iter().chain(&net.classifier.bias).all(|v| v.is_finite()) {
        return Err(Error::bad("a weight is not finite").at(format!("layer {}", net.classifier_name)));
    }
    nodes.push(node("pool", Op::GlobalAveragePool, vec![nodes.len() - 1], false));
    nodes.push(node(&net.classifier_name, Op::Linear(net.classifier.clone()), vec![nodes.len() - 1], false));
    let outputs = vec![GraphOutput {
        name: "logits".into(),
        node: nodes.len() - 1,
        sides: vec![net.classifier.bias.len()],
        one_image: false,
    }];
    let (name, input, classes) = (net.name.clone(), net.input.clone(), net.classes.clone());
    let graph = Graph { name, input, classes, nodes, outputs, notes };
    graph.check()?;
    Ok(graph)
}

/// Adds squeeze-and-excitation of the last node, and the `ReLU` after it.
fn weigh(nodes: &mut Vec<Node>, name: &str, Squeeze { reduce, expand }: &Squeeze) -> Result<()> {
    let finite = |conv: &Conv| conv.weight.iter().chain(&conv.bias).all(|v| v.is_finite());
    if !(finite(reduce) && finite(expand)) {
        return Err(Error::bad("a weight is not finite"));
    }
    let sum = nodes.len() - 1;
    let steps = [
        ("pool", Op::GlobalAveragePool, false),
        ("reduce", Op::Conv(reduce.clone()), true),
        ("expand", Op::Conv(expand.clone()), false),
        ("sigmoid", Op::Activation(Activation::Sigmoid), false),
    ];
    for (step, op, relu) in steps {
        nodes.push(Node { name: format!("{name}.se.{step}"), op, inputs: vec![nodes.len() - 1], relu });
    }
    let inputs = vec![sum, nodes.len() - 1];
    nodes.push(Node { name: format!("{name}.se"), op: Op::Binary(Binary::Mul), inputs, relu: true });
    Ok(())
}
