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

mod cholesky;
mod moments;
mod pass;
mod places;
mod solve;
#[cfg(test)]
mod tests;

use super::node::quantize_node;
use super::plan::{Choice, Plan};
use crate::device::Device;
use crate::images::Batch;
use crate::model::{NodeId, QuantizedGraph};
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
}

/// Rounds the layers of `quantized`, whose weights are rounded to nearest, by what they read of
/// `images`; `choices` has the form of each node.
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
    let CalibrationImages { device, batches, max_images } = images;
    let batches: Vec<Batch> = batches.collect::<Result<_>>()?;
    if batches.iter().all(|batch| batch.count == 0) {
        return Err(Error::bad("there are no images to round the weights by"));
    }
    let graph = plan.graph;
    let layers: Vec<NodeId> = (0..graph.nodes.len()).filter(|&id| plan.layer(id).is_some()).collect();
    let mut pass = Pass::new(device, graph, &quantized, &layers, batches, max_images)?;
    for &id in &layers {
        let Some((layer, &input)) = plan.layer(id).zip(graph.nodes[id].inputs.first()) else { continue };
        let at = |e: Error| e.at(format!("layer {}", graph.nodes[id].name));
        let geometry = Geometry::new(&layer, plan.shapes[input], plan.shapes[id]);
        let blocks = geometry.blocks().len();
        let mut summing = Summing::new(device, geometry, layer.input.params, max_images).map_err(at)?;
        pass.inputs(id, input, |images, float, levels| summing.add(Input { images, levels, float })).map_err(at)?;
        let strategy = SecondOrder::new(&layer, &summing.finish().map_err(at)?);
        let (form, note) = choices[id].clone();
        let mut node = quantize_node(plan, id, (form, note), &strategy)?;
        if strategy.varying() == 0 {
            node.split.notes.push("rounded to nearest: what it reads is the same for every image".into());
        } else if blocks > 1 {
            node.split.notes.push(format!("second-order rounding in {blocks} blocks of its inputs, each by itself"));
        }
        quantized.nodes[id] = node;
        pass.replace(&quantized, id)?;
        progress.event(Event::Advance { stage: Stage::Quantize, items: 1 });
    }
    Ok(quantized)
}
