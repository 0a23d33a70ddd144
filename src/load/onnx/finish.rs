//! From the draft to the graph: weights are rounded, names made unique, unused nodes dropped.

use std::collections::{HashMap, HashSet};

use ndarray::{Array1, Array4};

use super::conv::{enlarged, symmetric};
use super::draft::{Draft, DraftConv, DraftNode, DraftOp, live};
use super::tensors::{narrowed, product};
use crate::model::{Conv, Node, NodeId, Note, NoteKind, Op, Shape, Weights};
use crate::{Error, Result};

/// The nodes of a graph, and where the draft's are among them.
pub(super) struct Finished {
    pub nodes: Vec<Node>,
    pub place: HashMap<usize, NodeId>,
    pub notes: Vec<Note>,
}

/// Makes a graph's nodes of the draft's; `outputs` are the nodes that the network gives.
///
/// # Errors
/// A weight that is not finite in f32; a kernel that would be absurdly large.
pub(super) fn finish(draft: &mut Draft, outputs: &[usize]) -> Result<Finished> {
    let nodes = std::mem::take(&mut draft.nodes);
    let live = live(&nodes, outputs);
    let shapes: Vec<Shape> = nodes.iter().map(|node| node.shape).collect();
    let (mut made, mut place) = (Vec::new(), HashMap::new());
    let mut names = HashSet::new();
    for (id, node) in nodes.into_iter().enumerate().filter(|(id, _)| live[*id]) {
        let name = unique(&node.name, &mut names);
        let classifier = outputs == [id] && !node.relu;
        let x = node.inputs.first().map_or(node.shape, |&input| shapes[input]);
        let inputs = node.inputs.iter().map(|input| place[input]).collect();
        let relu = node.relu;
        let op = operation(draft, node, x, classifier, &name).map_err(|e| e.at(format!("node {name}")))?;
        place.insert(id, made.len());
        made.push(Node { name, op, inputs, relu });
    }
    let notes = std::mem::take(&mut draft.notes);
    Ok(Finished { nodes: made, place, notes })
}

/// A name that no other node has.
fn unique(name: &str, names: &mut HashSet<String>) -> String {
    let name = if name.is_empty() { "node" } else { name };
    let mut found = name.to_owned();
    let mut count = 1usize;
    while !names.insert(found.clone()) {
        count += 1;
        found = format!("{name}_{count}");
    }
    found
}

fn operation(draft: &mut Draft, node: DraftNode, x: Shape, classifier: bool, name: &str) -> Result<Op> {
    let DraftNode { op, shape, .. } = node;
    let conv = match op {
        DraftOp::Op(op) => return Ok(op),
        DraftOp::Conv(conv) => conv,
        DraftOp::Affine { scale, shift } => {
            draft.note(name, NoteKind::Replaced, "factors and offsets of the channels follow no convolution that could hold them: a depthwise 1×1 convolution");
            depthwise(draft, x.channels, &scale, &shift, [0; 4])?
        }
        DraftOp::Pad(pads) => {
            draft.note(
                name,
                NoteKind::Replaced,
                "zeros are put around it for more than convolutions and pooling: a depthwise 1×1 convolution",
            );
            depthwise(draft, x.channels, &[1.0], &[0.0], pads)?
        }
    };
    let dense = conv.dense;
    let conv = rounded(draft, conv, x, shape, name)?;
    let matrix = classifier && dense && x.pixels() == 1 && conv.is_matrix();
    Ok(if matrix { Op::Linear(conv) } else { Op::Conv(conv) })
}

/// A factor and an offset for each channel as a convolution.
fn depthwise(draft: &mut Draft, channels: usize, scale: &[f64], shift: &[f64], pads: [usize; 4]) -> Result<DraftConv> {
    draft.allocate(channels)?;
    let all = |values: &[f64]| values.iter().copied().cycle().take(channels).collect::<Vec<f64>>();
    Ok(DraftConv {
        weight: Array4::ones((channels, 1, 1, 1)),
        scale: all(scale),
        shift: all(shift),
        stride: [1; 2],
        pads,
        dilation: [1; 2],
        groups: channels,
        dense: false,
    })
}

/// Rounds the weights to f32, once, and makes the padding the same on both sides.
fn rounded(draft: &mut Draft, conv: DraftConv, x: Shape, y: Shape, name: &str) -> Result<Conv> {
    let (kernels, padding) = symmetric(&conv, x, y);
    let DraftConv { mut weight, scale, shift, stride, dilation, groups, .. } = conv;
    if !weight.iter().all(|w| w.is_finite()) {
        return Err(Error::bad("a weight is not finite"));
    }
    for (o, &a) in scale.iter().enumerate().filter(|(_, a)| **a != 1.0) {
        weight.index_axis_mut(ndarray::Axis(0), o).mapv_inplace(|w| narrowed(a * f64::from(w)));
    }
    let bias: Array1<f32> = shift.iter().map(|&b| narrowed(b)).collect();
    if !weight.iter().chain(&bias).all(|v| v.is_finite()) {
        return Err(Error::bad("a weight with what is folded into it is not finite in f32"));
    }
    let (out, inputs, kh, kw) = weight.dim();
    let size: [usize; 2] = [kernels[0].iter().sum(), kernels[1].iter().sum()];
    if size != [kh, kw] {
        let sides = [out, inputs, size[0], size[1]];
        let count = product(&sides).ok_or_else(|| Error::bad("its dilated kernel is too large"))?;
        draft.allocate(count)?;
        weight = enlarged(&weight, dilation, &kernels);
        let why = if dilation == [1; 2] {
            "padding that differs from side to side or is larger than the kernel"
        } else {
            "dilation"
        };
        draft.note(
            name,
            NoteKind::Replaced,
            format!("{why}: a kernel of {}×{}, with zeros, in place of {kh}×{kw}", size[0], size[1]),
        );
    }
    Ok(Conv { weight, bias, stride, padding, groups })
}
