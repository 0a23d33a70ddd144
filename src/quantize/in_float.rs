//! What is computed in float, and why, as far as that follows from the network alone.
//!
//! Beside what has no integer form or is kept by request, an operation is computed in float
//!
//! - that only kept layers read: then they read what calibration saw, not its levels;
//! - that lies between others in float, on both sides;
//! - that is a function of one value and alone reads a result in float, moved or not: the result is
//!   quantized once, behind the function.

use super::options::QuantizeOptions;
use crate::model::{Graph, NodeId, Op};

/// What is computed in float, and which activations are stored as levels.
pub(super) struct InFloat {
    /// Why each node is computed in float; none for those in integers.
    pub(super) why: Vec<Option<String>>,
    /// Whether each activation is stored as levels: those that lead to a convolution or the
    /// classifier, but for those that only kept layers read, and those in float that only
    /// operations in float read.
    pub(super) stored: Vec<bool>,
}

impl InFloat {
    /// Decides it for a graph that was checked.
    pub(super) fn new(graph: &Graph, options: &QuantizeOptions) -> Self {
        let leads = graph.stored();
        let mut readers: Vec<Vec<NodeId>> = vec![Vec::new(); graph.nodes.len()];
        for (id, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|&input| readers[input].push(id));
        }
        let mut kept: Vec<bool> =
            graph.nodes.iter().enumerate().map(|(id, node)| id > 0 && options.keeps(&node.name)).collect();
        let mut why: Vec<Option<String>> =
            (0..graph.nodes.len()).map(|id| reason(graph, id, kept[id], leads[id])).collect();
        // What only kept layers read, from the end.
        for id in (0..graph.nodes.len()).rev() {
            let alone = !readers[id].is_empty() && readers[id].iter().all(|&reader| kept[reader]);
            if alone && graph.nodes[id].op.weights().is_none() {
                kept[id] = true;
                why[id].get_or_insert_with(|| "in float: only kept layers read it".into());
            }
        }
        between(graph, &readers, &mut why);
        behind(graph, &readers, &mut why);
        let stored = (0..graph.nodes.len()).map(|id| {
            let quantizes = |reader: &NodeId| if why[id].is_some() { why[*reader].is_none() } else { !kept[*reader] };
            leads[id] && readers[id].iter().any(quantizes)
        });
        Self { stored: stored.collect(), why }
    }
}

/// Why a node is computed in float whatever its neighbours are.
fn reason(graph: &Graph, id: NodeId, kept: bool, leads: bool) -> Option<String> {
    let node = &graph.nodes[id];
    let computes = node.op.weights().is_none();
    let reads_constants = node.inputs.iter().any(|&input| matches!(graph.nodes[input].op, Op::Constant(_)));
    if matches!(node.op, Op::Constant(_)) {
        Some("real: the same for every image".into())
    } else if kept {
        Some("kept in float".into())
    } else if computes && !leads {
        Some("real: no convolution follows".into())
    } else if reads_constants {
        Some("in float: it reads constants".into())
    } else if computes && node.op.constants().is_none() {
        Some(format!("in float: {} has no integer form", node.op.kind()))
    } else {
        None
    }
}

/// Adds what has operations in float on both sides.
fn between(graph: &Graph, readers: &[Vec<NodeId>], why: &mut [Option<String>]) {
    let count = graph.nodes.len();
    let inner = |id: NodeId| graph.nodes[id].op.weights().is_none() && id > 0;
    let (mut after, mut before) = (vec![false; count], vec![false; count]);
    for id in 0..count {
        let inputs = &graph.nodes[id].inputs;
        after[id] = why[id].is_some() || (inner(id) && inputs.iter().all(|&input| after[input]));
    }
    for id in (0..count).rev() {
        let all = !readers[id].is_empty() && readers[id].iter().all(|&reader| before[reader]);
        before[id] = why[id].is_some() || (inner(id) && all);
    }
    for id in (0..count).filter(|&id| after[id] && before[id]) {
        why[id].get_or_insert_with(|| "in float: it lies between operations in float".into());
    }
}

/// Adds functions of a result in float, and what moves it on the way.
fn behind(graph: &Graph, readers: &[Vec<NodeId>], why: &mut [Option<String>]) {
    for id in 0..graph.nodes.len() {
        if why[id].is_some() || !matches!(graph.nodes[id].op, Op::Activation(_) | Op::Function(_)) {
            continue;
        }
        let mut way = vec![id];
        let mut from = id;
        while let ([input], Op::Activation(_) | Op::Function(_) | Op::Rearrange(_)) =
            (graph.nodes[from].inputs.as_slice(), &graph.nodes[from].op)
        {
            from = *input;
            if readers[from].len() != 1 || graph.outputs.iter().any(|output| output.node == from) {
                break;
            }
            if why[from].is_some() {
                if !matches!(graph.nodes[from].op, Op::Constant(_)) {
                    for &id in &way {
                        why[id] = Some("in float: as what it reads".into());
                    }
                }
                break;
            }
            way.push(from);
        }
    }
}
