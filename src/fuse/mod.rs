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

use crate::load::{self, LoadOptions, TrainedNet};
use crate::model::{Conv, Graph, GraphOutput, Node, Note, NoteKind, Op};
use crate::{Error, Result};

/// Reads an ONNX file (`.onnx`) or a checkpoint, and fuses its branches.
///
/// # Errors
/// Those of [`load::load`] or [`load::onnx::read`], and of [`fuse`] or [`merge()`].
pub fn read(path: &Path, options: &LoadOptions) -> Result<Graph> {
    let graph = if load::onnx::is_onnx(path) {
        merge(load::onnx::read(path, options)?)
    } else {
        fuse(&load::load(path, options)?)
    };
    graph.map_err(|e| e.at(path.display()))
}

/// Fuses every block into one convolution.
///
/// The nodes are `input`, one convolution with `ReLU` for each block, named as the block, `pool`,
/// and the classifier.
///
/// # Errors
/// [`ErrorKind::Input`](crate::ErrorKind::Input), naming the layer, where branches do not fit each
/// other or a fused value is not finite in f32.
pub fn fuse(net: &TrainedNet) -> Result<Graph> {
    let node = |name: &str, op, inputs, relu| Node { name: name.to_owned(), op, inputs, relu };
    let mut notes = Vec::new();
    let mut nodes = vec![node("input", Op::Input(net.input_shape), vec![], false)];
    for block in &net.blocks {
        let (weight, bias) = branches::fuse_block(block).map_err(|e| e.at(format!("layer {}", block.name)))?;
        let (stride, padding) = ([block.stride; 2], [block.padding; 2]);
        let conv = Conv { weight, bias, stride, padding, groups: block.groups };
        nodes.push(node(&block.name, Op::Conv(conv), vec![nodes.len() - 1], true));
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
