//! From a float graph and activation ranges to an int8 graph.
//!
//! | step | file |
//! | --- | --- |
//! | options, their names and checks | `options.rs` |
//! | channels made equal before depthwise convolutions | `equalize/` |
//! | what is chosen for single layers | `layers.rs` |
//! | what is computed in float | `in_float.rs` |
//! | how activations are stored | `plan.rs`, `stored.rs` |
//! | operations without weights | `ops.rs` |
//! | whether and how a layer is split; the split as published | `split.rs` |
//! | the aligned split's search over scale and shift | `search.rs` |
//! | the split mode `auto`: layers and supports under a budget | `auto.rs` |
//! | whether the weights are what is lost by | `share.rs` |
//! | how scales and levels are chosen; rounding to nearest | `strategy.rs` |
//! | second-order rounding, layer by layer over the images | `second_order/` |
//! | one layer's weights to int8 | `weights.rs` |
//! | biases, multipliers, overflow bounds | `requantize.rs` |
//! | one node | `node.rs` |
//! | other ways for a single layer, to be tried | `alternatives.rs` |
//!
//! Everything runs on the host, parallel over layers and channels, but for the networks that second-
//! order rounding runs; the result does not depend on the number of threads. The formulas are those of
//! docs/quantization.md.

mod alternatives;
mod auto;
mod equalize;
mod gain;
mod in_float;
mod layers;
mod node;
mod ops;
mod options;
mod plan;
pub(crate) mod requantize;
mod scale;
mod search;
mod second_order;
mod share;
mod split;
pub(crate) mod stored;
mod strategy;
mod weights;

pub(crate) use alternatives::Alternatives;
pub(crate) use equalize::rescaled;
pub use equalize::{Equalized, equalize};
pub(crate) use gain::predicted_gain_db;
pub use layers::{LayerChoice, LayerChoices, LayerSplit};
pub use options::{ChannelEqualization, Granularity, QuantizeOptions, Rounding, SplitMode};
pub use scale::qmax;
pub use search::{Aligned, LANES, RATIOS, ratio, search};
pub use second_order::{ACTIVATION_MEMORY, CalibrationImages};
pub use split::{published, published_scales};
pub use weights::dequantize;

use rayon::prelude::*;
use serde_json::json;

use crate::calibrate::Calibration;
use crate::error::{Term, text};
use crate::model::{Graph, QuantizedGraph};
use crate::progress::Progress;
use crate::threshold::ActivationRanges;
use crate::{Error, Result};
use node::quantize_node;
use plan::{Choice, Plan};
use strategy::Nearest;

/// Quantizes `graph`: every convolution and the classifier, but those that `options` keep in float,
/// and what lies between them. An activation is stored as levels where an operation in integers
/// reads it. The result has the same nodes; those computed in float say why in
/// their report.
///
/// `calibration` and `ranges` must be those of this graph; a function of its arguments alone.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options out of range, unknown layer names,
/// second-order rounding and bias correction, which [`quantize_on`] does,
/// [`ErrorKind::Input`](crate::ErrorKind::Input) where the graph contradicts itself or has nothing
/// to quantize, the statistics or ranges belong to another graph, a weight is not finite, or a
/// layer's requantization factor is 2^30 or more; naming the layer.
pub fn quantize(
    graph: &Graph,
    ranges: &ActivationRanges,
    calibration: &Calibration,
    options: &QuantizeOptions,
) -> Result<QuantizedGraph> {
    if options.rounding == Rounding::SecondOrder {
        let what = text![Term::Rounding, " second-order needs the images: statistics alone do not have what it sums"];
        return Err(Error::usage(what).hint("round to nearest, or give images"));
    }
    if options.bias_correction {
        let what = text![Term::BiasCorrection, " needs the images: statistics alone do not have what layers give"];
        return Err(Error::usage(what).hint("leave biases as they are, or give images"));
    }
    let (plan, choices) = planned(graph, ranges, calibration, options)?;
    nearest(&plan, ranges, calibration, choices)
}

/// As [`quantize`], with second-order rounding and corrected biases over `images` where `options` ask
/// for them.
///
/// The result does not depend on the size of the batches or the number of threads. The float
/// network's activations are floats, which devices round in their own ways, so second-order rounding
/// on another device may choose other levels.
///
/// # Errors
/// Those of [`quantize`]; a bad image; no images; an activation that is NaN or infinite (the layer is
/// named); a device that failed.
pub fn quantize_on(
    graph: &Graph,
    ranges: &ActivationRanges,
    calibration: &Calibration,
    options: &QuantizeOptions,
    images: CalibrationImages<'_>,
    progress: &dyn Progress,
) -> Result<QuantizedGraph> {
    let (plan, choices) = planned(graph, ranges, calibration, options)?;
    let quantized = nearest(&plan, ranges, calibration, choices.clone())?;
    if !options.needs_images() {
        return Ok(quantized);
    }
    second_order::run(&plan, &choices, quantized, images, progress)
}

/// How much the weights lose, rounded to nearest, as a multiple of what the activations do: see
/// docs/quantization.md, "`--rounding auto`".
///
/// # Errors
/// Those of [`quantize`].
pub(crate) fn weight_share(
    graph: &Graph,
    ranges: &ActivationRanges,
    calibration: &Calibration,
    options: &QuantizeOptions,
) -> Result<f64> {
    let (plan, choices) = planned(graph, ranges, calibration, options)?;
    share::weight_share(&plan, &choices, calibration)
}

/// Checks everything, and decides how each layer is split.
fn planned<'a>(
    graph: &'a Graph,
    ranges: &ActivationRanges,
    calibration: &Calibration,
    options: &'a QuantizeOptions,
) -> Result<(Plan<'a>, Vec<Choice>)> {
    options.check()?;
    graph.check()?;
    options.check_layers(graph)?;
    calibration.check_graph(graph)?;
    let plan = Plan::new(graph, ranges, options)?;
    let choices = match options.split {
        SplitMode::Auto => auto::choose(&plan, calibration)?,
        _ => (0..graph.nodes.len()).map(|id| plan.form(id)).collect(),
    };
    Ok((plan, choices))
}

/// The network with every weight rounded to nearest.
fn nearest(
    plan: &Plan<'_>,
    ranges: &ActivationRanges,
    calibration: &Calibration,
    choices: Vec<Choice>,
) -> Result<QuantizedGraph> {
    let graph = plan.graph;
    let nodes = (0..graph.nodes.len()).into_par_iter().zip(choices);
    let nodes = nodes.map(|(id, choice)| quantize_node(plan, id, choice, &Nearest));
    Ok(QuantizedGraph {
        name: graph.name.clone(),
        input: graph.input.clone(),
        classes: graph.classes.clone(),
        source_digest: calibration.model_digest.clone(),
        options: plan.options.record(&ranges.options),
        calibration: json!({"images": calibration.images, "threshold": ranges.options.method.to_string()}),
        outputs: graph.outputs.clone(),
        // Collected before errors are looked at: the first in order is reported, not the first in
        // time.
        nodes: nodes.collect::<Vec<_>>().into_iter().collect::<Result<_>>()?,
    })
}
