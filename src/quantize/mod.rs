//! From a float graph and activation ranges to an int8 graph.
//!
//! | step | file |
//! | --- | --- |
//! | options, their names and checks | `options.rs` |
//! | what is computed in float | `in_float.rs` |
//! | how activations are stored | `plan.rs`, `stored.rs` |
//! | operations without weights | `ops.rs` |
//! | whether and how a layer is split; the split as published | `split.rs` |
//! | the aligned split's search over scale and shift | `search.rs` |
//! | the split mode `auto`: layers and supports under a budget | `auto.rs` |
//! | one layer's weights to int8 | `weights.rs` |
//! | biases, multipliers, overflow bounds | `requantize.rs` |
//!
//! Everything runs on the host, parallel over layers and channels; the result does not depend on
//! the number of threads. The formulas are those of docs/quantization.md.

mod auto;
mod gain;
mod in_float;
mod ops;
mod options;
mod plan;
pub(crate) mod requantize;
mod scale;
mod search;
mod split;
pub(crate) mod stored;
mod weights;

pub(crate) use gain::predicted_gain_db;
pub use options::{Granularity, QuantizeOptions, SplitMode};
pub use scale::qmax;
pub use search::{Aligned, LANES, RATIOS, ratio, search};
pub(crate) use split::SplitForm;
pub use split::{published, published_scales};
pub use weights::dequantize;

use rayon::prelude::*;
use serde_json::json;

use crate::Result;
use crate::calibrate::Calibration;
use crate::model::{CoarseScale, Computed, Constants, Graph, NodeId, Op, QConv, QNode, QuantizedGraph, SplitReport};
use crate::threshold::ActivationRanges;
use plan::{Choice, Made, Plan};
use weights::quantize_layer;

/// Quantizes `graph`: every convolution and the classifier, but those that `options` keep in float,
/// and what lies between them. An activation is stored as levels where an operation in integers
/// reads it. The result has the same nodes; those computed in float say why in
/// their report.
///
/// `calibration` and `ranges` must be those of this graph; a function of its arguments alone.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options out of range and unknown layer names,
/// [`ErrorKind::Input`](crate::ErrorKind::Input) where the graph contradicts itself or has nothing
/// to quantize, the statistics or ranges belong to another graph, a weight is not finite, or a
/// layer's requantization factor is 2^30 or more; naming the layer.
pub fn quantize(
    graph: &Graph,
    ranges: &ActivationRanges,
    calibration: &Calibration,
    options: &QuantizeOptions,
) -> Result<QuantizedGraph> {
    options.check()?;
    graph.check()?;
    options.check_layers(graph)?;
    calibration.check_graph(graph)?;
    let plan = Plan::new(graph, ranges, options)?;
    let choices = match options.split {
        SplitMode::Auto => auto::choose(&plan, calibration)?,
        _ => (0..graph.nodes.len()).map(|id| plan.form(id)).collect(),
    };
    let nodes = (0..graph.nodes.len()).into_par_iter().zip(choices);
    let nodes = nodes.map(|(id, choice)| node(&plan, id, choice).map_err(|e| e.at(&graph.nodes[id].name)));
    Ok(QuantizedGraph {
        name: graph.name.clone(),
        input: graph.input.clone(),
        classes: graph.classes.clone(),
        source_digest: calibration.model_digest.clone(),
        options: options.record(&ranges.options),
        calibration: json!({"images": calibration.images, "threshold": ranges.options.method.to_string()}),
        outputs: graph.outputs.clone(),
        // Collected before errors are looked at: the first in order is reported, not the first in
        // time.
        nodes: nodes.collect::<Vec<_>>().into_iter().collect::<Result<_>>()?,
    })
}

/// Quantizes one node.
fn node(plan: &Plan<'_>, id: NodeId, (form, note): Choice) -> Result<QNode> {
    let node = &plan.graph.nodes[id];
    let mut split = SplitReport { split: SplitForm::Plain.name(), shift_max: 0, notes: note.into_iter().collect() };
    let computed = match (&plan.made[id], plan.layer(id)) {
        (Some(Made { computed, why }), _) => {
            split.notes.extend(why.clone());
            computed.clone()
        }
        (None, Some(layer)) => {
            let (conv, raised) = quantize_layer(&layer, form, plan.options.granularity)?;
            split = report(&conv, form, raised, split.notes);
            let op = if matches!(node.op, Op::Linear(_)) { Op::Linear(conv) } else { Op::Conv(conv) };
            Computed::integer(op, Constants::None)?
        }
        (None, None) => unreachable!("a layer reads levels"),
    };
    Ok(QNode {
        name: node.name.clone(),
        computed,
        inputs: node.inputs.clone(),
        relu: plan.relu[id],
        output: plan.stored[id].map(|stored| stored.params),
        split,
    })
}

/// What was decided about a layer.
fn report(conv: &QConv, form: SplitForm, raised: usize, mut notes: Vec<String>) -> SplitReport {
    let shift_max = conv.coarse.as_ref().map_or(0, |coarse| match &coarse.scale {
        CoarseScale::Shift(shift) => shift.iter().copied().max().unwrap_or(0),
        CoarseScale::Own { .. } => 0,
    });
    let split = if conv.coarse.is_some() { form.name() } else { SplitForm::Plain.name() };
    if conv.coarse.is_none() && form.support().is_some() {
        notes.push("not split: no channel gains from it".into());
    }
    if raised > 0 {
        let scales = if raised == 1 { "scale was" } else { "scales were" };
        notes.push(format!("{raised} {scales} raised so that 32-bit sums cannot overflow"));
    }
    SplitReport { split, shift_max, notes }
}
