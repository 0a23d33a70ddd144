//! All layers of a network, one at a time.

use super::bench::Bench;
use super::cures::cures;
use super::effect::Effect;
use super::found::{Analyzed, Sources};
use super::parts::{Part, parts};
use crate::calibrate::Calibration;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::exec::Change;
use crate::images::Batch;
use crate::model::{Graph, NodeId, QuantizedGraph};
use crate::progress::{Event, Progress, Stage};
use crate::quantize::{Alternatives, QuantizeOptions};
use crate::threshold::{ActivationRange, ActivationRanges, RangeOptions};

impl<'a> Sources<'a> {
    /// A network, and `quantized`, which was made of it with these options and statistics, from the file of
    /// `model_digest`.
    ///
    /// # Errors
    /// If it was made of another, or with other options.
    pub(crate) fn new(
        graph: &'a Graph,
        quantized: &'a QuantizedGraph,
        calibration: &'a Calibration,
        options: &'a QuantizeOptions,
        ranges: &'a RangeOptions,
        model_digest: &str,
    ) -> Result<Self> {
        calibration.check_graph(graph)?;
        if quantized.source_digest != model_digest {
            return Err(Error::bad(format!(
                "{} was not made from {}: their weights differ",
                quantized.name, graph.name
            ))
            .hint("give the float model that the quantized one was made from"));
        }
        let mut recorded = quantized.options.clone();
        // Whether channels were made equal follows from the statistics.
        recorded.as_object_mut().and_then(|recorded| recorded.remove("channel_equalization"));
        if recorded != options.record(ranges) {
            return Err(Error::usage("the quantized network was made with other options than those given"));
        }
        let stored = quantized.nodes.iter().filter_map(|node| Some((node.name.clone(), node.output?)));
        let range = |(name, qparams)| ActivationRange { name, threshold: 0.0, low: 0.0, qparams };
        let as_stored = ActivationRanges { options: ranges.clone(), ranges: stored.map(range).collect() };
        let alternatives = Alternatives::new(graph, &as_stored, options)?;
        Ok(Self { graph, quantized, calibration, options, ranges, shapes: graph.shapes(), alternatives })
    }
}

/// The changes of a layer that are measured.
struct Changes {
    node: NodeId,
    has_weights: bool,
    has_inputs: bool,
    measured: Vec<Change>,
}

impl Changes {
    fn new(device: &Device, graph: &Graph, part: &Part) -> Result<Self> {
        let (weights, none) = (part.weights.as_ref(), vec![None; part.inputs.len()]);
        let has_inputs = part.inputs.iter().any(Option::is_some);
        let mut measured = Vec::new();
        if weights.is_some() {
            measured.push(Change::new(device, graph, part.node, weights, none)?);
        }
        if has_inputs {
            measured.push(Change::new(device, graph, part.node, None, part.inputs.clone())?);
        }
        if weights.is_some() && has_inputs {
            measured.push(Change::new(device, graph, part.node, weights, part.inputs.clone())?);
        }
        Ok(Self { node: part.node, has_weights: weights.is_some(), has_inputs, measured })
    }
}

/// Quantizes each layer alone, over the images: what its weights cost the outputs, what it reads, both.
/// Layers are in the order of the network.
///
/// # Errors
/// No images, an output that is NaN or infinite (the layer is named), or a device that failed.
pub(crate) fn analyze(
    device: &Device,
    sources: &Sources<'_>,
    batches: &[Batch],
    max_images: usize,
    progress: &dyn Progress,
) -> Result<Vec<Analyzed>> {
    if batches.iter().all(|batch| batch.count == 0) {
        return Err(Error::bad("there are no images to measure on"));
    }
    let (graph, parts) = (sources.graph, parts(sources.graph, sources.quantized)?);
    let nodes: Vec<NodeId> = parts.iter().map(|part| part.node).collect();
    let begin = |layers: usize| {
        let total = Some((layers * batches.len()) as u64);
        progress.event(Event::Begin { stage: Stage::Analyze, total });
    };
    let done = || progress.event(Event::Advance { stage: Stage::Analyze, items: 1 });
    begin(parts.len());
    let bench = Bench::new(device, graph, batches, max_images, &nodes)?;
    let changes: Vec<Changes> = parts.iter().map(|part| Changes::new(device, graph, part)).collect::<Result<_>>()?;
    let (each, changes): (Vec<_>, Vec<Vec<Change>>) = changes
        .into_iter()
        .map(|Changes { node, has_weights, has_inputs, measured }| ((node, has_weights, has_inputs), measured))
        .unzip();
    let effects = bench.measure(&changes, done)?;
    drop(changes);
    let mut layers: Vec<Analyzed> = each
        .into_iter()
        .zip(effects)
        .map(|((node, has_weights, has_inputs), effects)| {
            let last = effects.last().cloned().unwrap_or_else(|| Effect::new(graph));
            let mut effects = effects.into_iter();
            let weights = has_weights.then(|| effects.next()).flatten();
            let activation = has_inputs.then(|| effects.next()).flatten();
            Analyzed { node, weights, activation, all: last, cures: Vec::new() }
        })
        .collect();
    progress.event(Event::End { stage: Stage::Analyze });
    cures(&bench, sources, &parts, &mut layers, begin, done)?;
    progress.event(Event::End { stage: Stage::Analyze });
    Ok(layers)
}
