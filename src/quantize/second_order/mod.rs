//! Second-order rounding: the weights of each layer are chosen for the input that it really gets, all
//! of a channel's together.
//!
//! Layer by layer, from the input on, both networks run up to the layer's input: the float one, and
//! the quantized one with the layers before rounded so. Exact sums over what the layer reads of both
//! ([`moments`]) then give its levels and biases ([`solve`]), and the next layer reads what it makes
//! of them. A network is a graph; its layers go in its own order. Source: docs/quantization.md,
//! "Second-order rounding".
//!
//! | what | file |
//! | --- | --- |
//! | which patches are summed | `places.rs` |
//! | the sums | `moments.rs` |
//! | both networks over the images | `pass.rs` |
//! | decomposing a matrix | `cholesky.rs` |
//! | levels and biases from the sums | `solve.rs` |
//! | biases by what a layer gives | `bias.rs` |

mod bias;
mod cholesky;
mod moments;
mod pass;
mod places;
mod solve;
#[cfg(test)]
mod tests;

use super::node::quantize_node;
use super::options::Rounding;
use super::plan::{Choice, Plan};
use super::weights::Layer;
use crate::device::Device;
use crate::images::Batch;
use crate::model::{Graph, NodeId, Op, QNode, QuantizedGraph};
use crate::progress::{Event, Progress, Stage};
use crate::{Error, Result};
use moments::{Geometry, Input, Summing};
use pass::Pass;
use solve::SecondOrder;

/// The images that second-order rounding goes by, and what runs them.
pub struct CalibrationImages<'a> {
    /// Where both networks run.
    pub device: &'a Device,
    /// The images; all are held in memory.
    pub batches: &'a mut dyn Iterator<Item = Result<Batch>>,
    /// Images of the largest batch.
    pub max_images: usize,
    /// Bytes of both networks' activations that are held; what does not fit is computed again, with
    /// the same result. [`ACTIVATION_MEMORY`] unless there is a reason.
    pub memory: u64,
}

/// Bytes of activations that are held where nothing else is said: 1 GiB.
pub const ACTIVATION_MEMORY: u64 = 1 << 30;

/// Goes through the layers of `quantized`, whose weights are rounded to nearest, by what they read of
/// `images`: where the options say so their weights are rounded by second moments, and their biases
/// follow. `choices` has the form of each node.
///
/// # Errors
/// A bad image, no images, an activation that is no finite number, a multiplier that is out of range (the layer is
/// named), or a device that failed.
pub(super) fn run(
    plan: &Plan<'_>,
    choices: &[Choice],
    mut quantized: QuantizedGraph,
    images: CalibrationImages<'_>,
    progress: &dyn Progress,
) -> Result<QuantizedGraph> {
    let CalibrationImages { device, batches, max_images, memory } = images;
    let batches: Vec<Batch> = batches.collect::<Result<_>>()?;
    if batches.iter().all(|batch| batch.count == 0) {
        return Err(Error::bad("there are no images to round the weights by"));
    }
    let graph = plan.graph;
    let layers: Vec<NodeId> = (0..graph.nodes.len()).filter(|&id| plan.layer(id).is_some()).collect();
    let mut pass = Pass::new(device, graph, &quantized, &layers, batches, [max_images, (memory / 4) as usize])?;
    for &id in &layers {
        let Some((layer, &input)) = plan.layer(id).zip(graph.nodes[id].inputs.first()) else { continue };
        let at = |e: Error| e.at(format!("layer {}", graph.nodes[id].name));
        let second_order = plan.options.rounding == Rounding::SecondOrder;
        if second_order {
            quantized.nodes[id] =
                rounded(plan, &choices[id], (device, max_images), &mut pass, [id, input], &layer).map_err(at)?;
            pass.replace(&quantized, id)?;
        } else {
            pass.inputs(id, input, |_, _, _| Ok(())).map_err(at)?;
        }
        let behind = behind(graph, &quantized, id);
        let place = bias::Place { layer: id, behind: &behind, input: layer.input };
        let (changed, channels) = bias::correct(&mut pass, &mut quantized, &place).map_err(at)?;
        let note = match (second_order, changed) {
            (true, 0) => None,
            (true, _) => Some(format!("biases matched by what follows in {changed} of {channels} channels")),
            (false, 0) => Some("biases stay: none lowers the error".into()),
            (false, _) => Some(format!("biases corrected in {changed} of {channels} channels")),
        };
        quantized.nodes[id].split.notes.extend(note);
        progress.event(Event::Advance { stage: Stage::Quantize, items: 1 });
    }
    Ok(quantized)
}

/// A layer, node `id`, with its weights rounded by what it reads of node `input`, in batches of up to
/// `max_images`.
fn rounded(
    plan: &Plan<'_>,
    choice: &Choice,
    (device, max_images): (&Device, usize),
    pass: &mut Pass<'_>,
    [id, input]: [NodeId; 2],
    layer: &Layer<'_>,
) -> Result<QNode> {
    let geometry = Geometry::new(layer, plan.shapes[input], plan.shapes[id]);
    let blocks = geometry.blocks().len();
    let mut summing = Summing::new(device, geometry, layer.input.params, max_images)?;
    pass.inputs(id, input, |images, float, levels| summing.add(Input { images, levels, float }))?;
    let strategy = SecondOrder::new(layer, &summing.finish()?);
    let mut node = quantize_node(plan, id, choice.clone(), &strategy)?;
    if strategy.varying() == 0 {
        node.split.notes.push("rounded to nearest: what it reads is the same for every image".into());
    } else if blocks > 1 {
        node.split.notes.push(format!("second-order rounding in {blocks} blocks of its inputs, each by itself"));
    }
    Ok(node)
}

/// The functions of one value in integers that alone read a layer, one after the other.
fn behind(graph: &Graph, quantized: &QuantizedGraph, layer: NodeId) -> Vec<NodeId> {
    let mut found = Vec::new();
    let mut last = layer;
    loop {
        let mut readers = graph.nodes.iter().enumerate().filter(|(_, node)| node.inputs.contains(&last));
        let (Some((id, node)), None) = (readers.next(), readers.next()) else { return found };
        let function = matches!(node.op, Op::Activation(_) | Op::Function(_)) && node.inputs.len() == 1;
        let integer = quantized.nodes[id].computed.as_integer().is_some();
        if !function || !integer || graph.outputs.iter().any(|output| output.node == last) {
            return found;
        }
        found.push(id);
        last = id;
    }
}
