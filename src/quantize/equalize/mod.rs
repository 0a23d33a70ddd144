//! Channels made equal before a depthwise convolution.
//!
//! A depthwise convolution has a weight scale for each channel and reads one channel with it, so the
//! channels of what it reads may be held in units of their own: times `2^k`, k chosen for each so that
//! its range comes near that of the widest, and its weights times `2^−k`. What makes the activation
//! gives it so: a convolution by its weights and bias, through functions that scale with their input
//! (`ReLU`, leaky `ReLU`, `PReLU`) and clips from 0; any other function by a table for each channel.
//!
//! Multiplying by a power of two is exact, so the float network stays the same function, to the bit
//! where nothing leaves the range of normal numbers. The statistics are those of the network as it was:
//! what they become is in `statistics.rs`. Source: docs/quantization.md, "Equal channels".

mod rescale;
mod scaling;
mod statistics;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub(crate) use rescale::rescaled;
pub(super) use scaling::clip;

use super::options::{ChannelEqualization, Granularity, QuantizeOptions};
use crate::Result;
use crate::calibrate::{ActivationStats, Calibration};
use crate::model::{Conv, Function, Graph, NodeId, Op, QuantizedGraph, Weights};
use scaling::{Scaling, scaling};
use statistics::{exponents, least};

/// A network some of whose channels are held in other units.
#[derive(Debug, Clone)]
pub struct Equalized {
    /// The same function, the activations in their units.
    pub graph: Graph,
    /// The statistics of the given network, of the activations in their units.
    pub calibration: Calibration,
    /// k of each channel of each activation; empty where its units are as before.
    exponents: Vec<Vec<u8>>,
    source_digest: String,
}

/// Makes channels equal where that is allowed and gains; none where no activation changes.
///
/// # Errors
/// Options out of range, a graph that contradicts itself, or statistics of another one.
pub fn equalize(graph: &Graph, calibration: &Calibration, options: &QuantizeOptions) -> Result<Option<Equalized>> {
    // With one weight scale for a layer a narrow channel would take what it gains from another.
    if options.channel_equalization == ChannelEqualization::Off || options.granularity == Granularity::Tensor {
        return Ok(None);
    }
    options.check()?;
    graph.check()?;
    options.check_layers(graph)?;
    calibration.check_graph(graph)?;
    let exponents = chosen(graph, calibration, options);
    if exponents.iter().all(Vec::is_empty) {
        return Ok(None);
    }
    // Weights near the largest number there is: they are left alone.
    let Ok(equal) = rescaled(graph, &exponents) else { return Ok(None) };
    let of: HashMap<&str, &[u8]> =
        graph.nodes.iter().map(|node| node.name.as_str()).zip(exponents.iter().map(Vec::as_slice)).collect();
    let activations = calibration.activations.iter().map(|stats| match of.get(stats.name.as_str()) {
        Some(&exponents) if !exponents.is_empty() => statistics::rescaled(stats, exponents),
        _ => stats.clone(),
    });
    let calibration =
        Calibration { model_digest: equal.digest(), activations: activations.collect(), ..calibration.clone() };
    Ok(Some(Equalized { graph: equal, calibration, exponents, source_digest: graph.digest() }))
}

impl Equalized {
    /// Says in a network that was made of [`Equalized::graph`] what it was made from, and in which
    /// units its activations are.
    pub fn note(self, quantized: &mut QuantizedGraph) {
        quantized.source_digest = self.source_digest;
        quantized.options["channel_equalization"] = serde_json::json!(ChannelEqualization::Auto);
        for (node, exponents) in quantized.nodes.iter_mut().zip(self.exponents) {
            let raised = exponents.iter().filter(|&&k| k > 0).count();
            if let Some(most) = exponents.iter().max() {
                let count = exponents.len();
                let note = format!("channels made equal: {raised} of {count} times 2 to 2^{most}");
                node.split.notes.push(if *most == 1 {
                    format!("channels made equal: {raised} of {count} times 2")
                } else {
                    note
                });
            }
            node.exponents = exponents;
        }
    }
}

/// The exponents of each activation's channels.
fn chosen(graph: &Graph, calibration: &Calibration, options: &QuantizeOptions) -> Vec<Vec<u8>> {
    let statistics: HashMap<&str, &ActivationStats> =
        calibration.activations.iter().map(|stats| (stats.name.as_str(), stats)).collect();
    let of = |id: NodeId| statistics.get(graph.nodes[id].name.as_str()).copied();
    let mut readers: Vec<Vec<NodeId>> = vec![Vec::new(); graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&input| readers[input].push(id));
    }
    let is_output = |id: NodeId| graph.outputs.iter().any(|output| output.node == id);
    let mut found: Vec<Vec<u8>> = vec![Vec::new(); graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        let read = &readers[id];
        let depthwise =
            !read.is_empty() && !is_output(id) && read.iter().all(|&reader| one_channel_each(graph, reader));
        // What only kept layers read is not stored as levels.
        if !depthwise || read.iter().all(|&reader| options.keeps(&graph.nodes[reader].name)) {
            continue;
        }
        let Some(stats) = of(id) else { continue };
        if matches!(node.op, Op::Conv(_)) {
            found[id] = exponents(stats, None);
            continue;
        }
        let Some(scaling) = scaling(&node.op).filter(|_| can_be_longer(&node.op)) else { continue };
        let before = node.inputs[0];
        let alone = matches!(graph.nodes[before].op, Op::Conv(_)) && readers[before] == [id] && !is_output(before);
        let both = match scaling {
            // A clip's input is stored as the clip's result; what another function reads has a range of
            // its own, which must not grow.
            Scaling::WithInput if alone && clip(&node.op).is_none() => match of(before) {
                Some(read) => least(&exponents(stats, None), &exponents(read, None)),
                None => continue,
            },
            Scaling::WithInput if alone => exponents(stats, None),
            Scaling::Clip(high) if alone => exponents(stats, Some(high)),
            _ => {
                found[id] = exponents(stats, None);
                if alone && let Some(stats) = of(before) {
                    found[before] = exponents(stats, None);
                }
                continue;
            }
        };
        found[before].clone_from(&both);
        found[id] = both;
    }
    found
}

/// Whether two more steps, which change units, have room in a function.
fn can_be_longer(op: &Op) -> bool {
    !matches!(op, Op::Function(function) if function.steps.len() + 2 > Function::MOST_STEPS)
}

/// Whether a node is a convolution each of whose weights reads a channel that no other channel's
/// weights share a scale with.
fn one_channel_each(graph: &Graph, id: NodeId) -> bool {
    matches!(&graph.nodes[id].op, Op::Conv(conv) if conv.groups > 1 && Conv::in_channels(conv) == conv.groups)
}
