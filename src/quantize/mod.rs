//! From a float graph and activation ranges to an int8 graph.
//!
//! | step | file |
//! | --- | --- |
//! | options, their names and checks | `options.rs` |
//! | whether and how a layer is split; the split as published | `split.rs` |
//! | the aligned split's search over scale and shift | `search.rs` |
//! | `--split auto`: layers and supports under a budget | `auto.rs` |
//! | one layer's weights to int8 | `weights.rs` |
//! | biases, multipliers, overflow bounds | `requantize.rs` |
//!
//! Everything runs on the host, parallel over layers and channels; the result does not depend on the number of threads.
//! The formulas are those of docs/quantization.md.

mod auto;
mod gain;
mod options;
pub(crate) mod requantize;
mod search;
mod split;
mod weights;

pub use gain::predicted_gain_db;
pub use options::{Granularity, QuantizeOptions, SplitMode};
pub use search::{Aligned, LANES, RATIOS, ratio, search, split_at};
pub use split::{Form, published, published_scales};
pub use weights::{dequantize, qmax};

use std::collections::HashMap;

use ndarray::Axis;
use rayon::prelude::*;
use serde_json::json;

use crate::calibrate::Calibration;
use crate::model::{CoarseScale, Graph, Node, Op, QConv, QNode, QOp, QParams, QuantizedGraph, Shape, SplitReport};
use crate::threshold::ActivationRanges;
use crate::{Error, Result};
use requantize::Input;
use weights::{Layer, quantize_layer};

/// A layer's form, and what to say about it.
type Choice = (Form, Option<String>);

/// Quantizes every convolution and the classifier of `graph`, but those that `options` keep in float.
///
/// `calibration` and `ranges` must be those of this graph; a function of its arguments alone.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options out of range and unknown layer names,
/// [`ErrorKind::Input`](crate::ErrorKind::Input) where the statistics or ranges belong to another graph, a weight is not
/// finite, or a layer's requantization factor is 2^30 or more; naming the layer.
pub fn quantize(
    graph: &Graph,
    ranges: &ActivationRanges,
    calibration: &Calibration,
    options: &QuantizeOptions,
) -> Result<QuantizedGraph> {
    options.check()?;
    options.check_layers(graph)?;
    calibration.check_graph(graph)?;
    let plan = Plan::new(graph, ranges, options)?;
    let choices = match options.split {
        SplitMode::Auto => auto::choose(&plan, calibration)?,
        _ => graph.nodes.iter().map(|node| plan.form(node)).collect(),
    };
    let nodes = (0..graph.nodes.len()).into_par_iter().zip(choices);
    let nodes = nodes.map(|(id, choice)| plan.node(id, choice).map_err(|e| e.at(&graph.nodes[id].name)));
    Ok(QuantizedGraph {
        name: graph.name.clone(),
        input: graph.input.clone(),
        classes: graph.classes.clone(),
        source_digest: calibration.model_digest.clone(),
        options: options.record(&ranges.options),
        calibration: json!({"images": calibration.images, "threshold": ranges.options.method.to_string()}),
        outputs: graph.outputs.clone(),
        // Collected before errors are looked at: the first in order is reported, not the first in time.
        nodes: nodes.collect::<Vec<_>>().into_iter().collect::<Result<_>>()?,
    })
}

/// What is known before any weight is looked at.
struct Plan<'a> {
    graph: &'a Graph,
    options: &'a QuantizeOptions,
    shapes: Vec<Shape>,
    /// How each activation is stored; none for the classifier's.
    stored: Vec<Option<QParams>>,
    /// The first convolution, which may have bits of its own.
    first: Option<usize>,
}

impl<'a> Plan<'a> {
    fn new(graph: &'a Graph, ranges: &ActivationRanges, options: &'a QuantizeOptions) -> Result<Self> {
        let by_name: HashMap<&str, QParams> = ranges.ranges.iter().map(|r| (r.name.as_str(), r.qparams)).collect();
        let last = graph.nodes.len().saturating_sub(1);
        let stored = graph.nodes.iter().enumerate().map(|(id, node)| {
            let found = by_name.get(node.name.as_str()).copied();
            match found {
                _ if id == last => Ok(None),
                Some(params) => Ok(Some(params)),
                None => Err(Error::bad("the activation ranges do not have this activation").at(&node.name)),
            }
        });
        Ok(Self {
            graph,
            options,
            shapes: graph.shapes(),
            stored: stored.collect::<Result<_>>()?,
            first: graph.nodes.iter().position(|node| matches!(node.op, Op::Conv(_))),
        })
    }

    /// The form that the options give a node, where they do not leave it to `auto`.
    fn form(&self, node: &Node) -> Choice {
        match &node.op {
            Op::Conv(_) if self.is_float(node) => (Form::Plain, None),
            Op::Conv(conv) => split::form(conv, self.options),
            _ => (Form::Plain, None),
        }
    }

    fn is_float(&self, node: &Node) -> bool {
        self.options.keep_float.contains(&node.name)
    }

    /// The activation that a node reads.
    fn input(&self, node: &Node) -> Result<(usize, Input)> {
        let id = *node.inputs.first().ok_or_else(|| Error::bad("the layer has no input"))?;
        let params = self.stored.get(id).copied().flatten();
        let params = params.ok_or_else(|| Error::bad("the layer reads the classifier's output"))?;
        Ok((id, Input::new(params, self.graph.nodes[id].relu)))
    }

    /// A convolution or classifier as it is quantized.
    fn layer(&self, id: usize) -> Result<Option<Layer<'_>>> {
        let node = &self.graph.nodes[id];
        let bits = |end: bool| self.options.first_last_bits.filter(|_| end).unwrap_or(self.options.weight_bits);
        Ok(match &node.op {
            Op::Conv(conv) => Some(Layer {
                weight: conv.weight.view(),
                bias: conv.bias.view(),
                stride: conv.stride,
                padding: conv.padding,
                groups: conv.groups,
                bits: bits(self.first == Some(id)),
                input: self.input(node)?.1,
                output: self.stored[id],
            }),
            Op::Linear(linear) => Some(Layer {
                weight: linear.weight.view().insert_axis(Axis(2)).insert_axis(Axis(3)),
                bias: linear.bias.view(),
                stride: [1, 1],
                padding: [0, 0],
                groups: 1,
                bits: bits(true),
                input: self.input(node)?.1,
                output: self.stored[id],
            }),
            _ => None,
        })
    }

    /// Quantizes one node.
    fn node(&self, id: usize, (form, note): Choice) -> Result<QNode> {
        let node = &self.graph.nodes[id];
        let mut split = SplitReport { split: Form::Plain.name(), shift_max: 0, notes: note.into_iter().collect() };
        let op = match (&node.op, self.layer(id)?) {
            (op, Some(_)) if self.is_float(node) => {
                split.notes.push("kept in float".into());
                QOp::Float(op.clone())
            }
            (op, Some(layer)) => {
                let (conv, raised) = quantize_layer(&layer, form, self.options.granularity)?;
                split = report(&conv, form, raised, split.notes);
                if matches!(op, Op::Linear(_)) { QOp::Linear(conv) } else { QOp::Conv(conv) }
            }
            (Op::Input(shape), None) => QOp::Input(*shape),
            (Op::GlobalAveragePool, None) => {
                let (from, input) = self.input(node)?;
                let output = self.stored[id].ok_or_else(|| Error::bad("the last layer must be a classifier"))?;
                QOp::GlobalAveragePool(requantize::pool(input, &output, self.shapes[from].pixels())?)
            }
            (op, None) => return Err(Error::bad(format!("{} cannot be quantized", op.kind()))),
        };
        Ok(QNode {
            name: node.name.clone(),
            op,
            inputs: node.inputs.clone(),
            relu: node.relu,
            output: self.stored[id],
            split,
        })
    }
}

/// What was decided about a layer.
fn report(conv: &QConv, form: Form, raised: usize, mut notes: Vec<String>) -> SplitReport {
    let shift_max = conv.coarse.as_ref().map_or(0, |coarse| match &coarse.scale {
        CoarseScale::Shift(shift) => shift.iter().copied().max().unwrap_or(0),
        CoarseScale::Own { .. } => 0,
    });
    let split = if conv.coarse.is_some() { form.name() } else { Form::Plain.name() };
    if conv.coarse.is_none() && form.support().is_some() {
        notes.push("not split: no channel gains from it".into());
    }
    if raised > 0 {
        let scales = if raised == 1 { "scale was" } else { "scales were" };
        notes.push(format!("{raised} {scales} raised so that 32-bit sums cannot overflow"));
    }
    SplitReport { split, shift_max, notes }
}
