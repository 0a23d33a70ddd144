//! What is decided about a network before any weight is looked at: how each activation is stored,
//! what stays float.
//!
//! - Stored as levels is what leads to a convolution or the classifier ([`Graph::stored`]) and is
//!   read in integers.
//! - An operation that moves values is stored as its input is.
//! - A clip that alone reads a result is left to the saturation of that result's levels, which
//!   takes the clip's range.
//! - What has no integer form, reads constants or is kept by request is computed in float, and so is
//!   what lies between such (`in_float.rs`); what follows the last convolutions stays float.

use std::collections::HashMap;

use super::equalize::clip;
use super::in_float::InFloat;
use super::layers::LayerSplit;
use super::ops::integer;
use super::options::{QuantizeOptions, SplitMode};
use super::split::{self, SplitForm};
use super::stored::Stored;
use super::weights::Layer;
use crate::model::{Activation, Computed, Graph, NodeId, Op, QParams, Shape};
use crate::threshold::ActivationRanges;
use crate::{Error, Result};

/// A layer's form, and what to say about it.
pub(super) type Choice = (SplitForm, Option<String>);

/// What becomes of a node that is no layer in integers, and why it is computed in float, if it is.
pub(super) struct Made {
    pub(super) computed: Computed,
    pub(super) why: Option<String>,
}

/// What is known before any weight is looked at.
pub(super) struct Plan<'a> {
    pub(super) graph: &'a Graph,
    pub(super) options: &'a QuantizeOptions,
    pub(super) shapes: Vec<Shape>,
    /// How each activation is stored; none where it is not.
    pub(super) stored: Vec<Option<Stored>>,
    /// Whether values below 0 are cut off, by a `ReLU` of the node's own or by a clip that follows.
    pub(super) relu: Vec<bool>,
    /// What becomes of each node; none where its weights are to be quantized.
    pub(super) made: Vec<Option<Made>>,
    /// The clips that are left to the saturation of what they read.
    clips: Vec<Option<Activation>>,
    /// The first and last layers, which may have bits of their own.
    ends: Vec<bool>,
}

impl<'a> Plan<'a> {
    /// Decides all of it for a graph that was checked.
    ///
    /// # Errors
    /// Where no convolution reads the input, or the ranges lack an activation.
    pub(super) fn new(graph: &'a Graph, ranges: &ActivationRanges, options: &'a QuantizeOptions) -> Result<Self> {
        let leads = graph.stored();
        if leads.first() != Some(&true) {
            return Err(Error::bad(
                "no convolution or classifier reads the network's input: there is nothing to quantize",
            ));
        }
        let InFloat { why, stored } = InFloat::new(graph, options);
        let mut params = found(graph, ranges, &stored)?;
        let mut relu: Vec<bool> = graph.nodes.iter().map(|node| node.relu).collect();
        let clips = leave_clips_to_saturation(graph, &mut params, &mut relu);
        let mut plan = Self {
            graph,
            options,
            shapes: graph.shapes(),
            stored: Vec::with_capacity(graph.nodes.len()),
            relu,
            made: Vec::with_capacity(graph.nodes.len()),
            clips,
            ends: ends(graph, &leads),
        };
        for (id, (params, why)) in params.into_iter().zip(why).enumerate() {
            let params = params.map(|own| plan.passed(id, why.is_some()).unwrap_or(own));
            let made = plan.decide(id, why, params.as_ref());
            let stored = params.map(|params| match &made {
                None => Stored::new(params, plan.relu[id]),
                Some(Made { computed, .. }) => {
                    let inputs: Vec<Stored> = graph.nodes[id].inputs.iter().filter_map(|&i| plan.stored[i]).collect();
                    Stored::of(computed, plan.relu[id], params, &inputs)
                }
            });
            plan.stored.push(stored);
            plan.made.push(made);
        }
        Ok(plan)
    }

    /// How the input of an operation that moves values is stored: then the output is stored so,
    /// too, unless it is computed in float.
    fn passed(&self, id: NodeId, in_float: bool) -> Option<QParams> {
        let node = &self.graph.nodes[id];
        let moved = (node.op.passes_values() && !in_float).then(|| node.inputs.first())?;
        Some(self.stored[*moved?]?.params)
    }

    /// What becomes of a node whose inputs are decided, `y` being how it is stored; `why` is a
    /// reason to compute it in float.
    fn decide(&self, id: NodeId, why: Option<String>, y: Option<&QParams>) -> Option<Made> {
        let node = &self.graph.nodes[id];
        let float = |why: String| Some(Made { computed: Computed::Float(node.op.clone()), why: Some(why) });
        if let Some(why) = why {
            return float(why);
        }
        let inputs: Option<Vec<(Stored, Shape)>> =
            node.inputs.iter().map(|&i| Some((self.stored[i]?, self.shapes[i]))).collect();
        // Where levels end before any of its ends, one end serves all channels.
        let clip = self.clips[id].map(Op::Activation);
        match (inputs, y) {
            (Some(_), _) if node.op.weights().is_some() => None,
            (Some(inputs), Some(y)) => match integer(clip.as_ref().unwrap_or(&node.op), &inputs, y) {
                Ok(integer) => Some(Made { computed: Computed::Integer(integer), why: None }),
                Err(error) => {
                    let why = error.to_string();
                    float(format!("in float: {}", why.lines().next().unwrap_or_default()))
                }
            },
            // What reads it is kept, and so is what it reads.
            _ => float("in float: as what reads it".into()),
        }
    }

    /// The form that the options give a node, where they do not leave it to `auto`.
    pub(super) fn form(&self, id: NodeId) -> Choice {
        let node = &self.graph.nodes[id];
        let own = self.options.choice(&node.name).split;
        match (&node.op, &self.made[id]) {
            (Op::Conv(conv), None) => {
                let (split, support) = match own {
                    None => (self.options.split, self.options.support),
                    Some(LayerSplit::Whole) => (SplitMode::None, None),
                    Some(LayerSplit::Aligned(support)) => (SplitMode::Aligned, Some(support)),
                };
                let (form, note) = split::form(conv, split, support);
                match form {
                    SplitForm::Paper(_) if self.stored[id].is_none() => {
                        let why = "not split: its result stays 32-bit sums, of which the published split has two";
                        (SplitForm::Plain, Some(why.into()))
                    }
                    SplitForm::Plain if split == SplitMode::Auto && self.stored[id].is_none() => {
                        let why = "auto: not split, its result is not stored and has no scale to weigh errors by";
                        (SplitForm::Plain, Some(why.into()))
                    }
                    form => (form, note),
                }
            }
            (Op::Linear(_), None) if matches!(own, Some(LayerSplit::Aligned(_))) => {
                (SplitForm::Plain, Some("not split: the classifier never is".into()))
            }
            _ => (SplitForm::Plain, None),
        }
    }

    /// A convolution or classifier as it is quantized; none where the node is another or stays
    /// float.
    pub(super) fn layer(&self, id: NodeId) -> Option<Layer<'_>> {
        let node = &self.graph.nodes[id];
        if self.made[id].is_some() {
            return None;
        }
        let input = self.stored[*node.inputs.first()?]?;
        let output = self.stored[id].map(|stored| stored.params);
        let usual = self.options.first_last_bits.filter(|_| self.ends[id]).unwrap_or(self.options.weight_bits);
        let bits = self.options.choice(&node.name).bits.unwrap_or(usual);
        match &node.op {
            Op::Conv(conv) | Op::Linear(conv) => Some(Layer {
                weight: conv.weight.view(),
                bias: conv.bias.view(),
                stride: conv.stride,
                padding: conv.padding,
                groups: conv.groups,
                bits,
                input,
                output,
            }),
            _ => None,
        }
    }
}

/// The range of each stored activation.
fn found(graph: &Graph, ranges: &ActivationRanges, stored: &[bool]) -> Result<Vec<Option<QParams>>> {
    let by_name: HashMap<&str, QParams> = ranges.ranges.iter().map(|r| (r.name.as_str(), r.qparams)).collect();
    let each = graph.nodes.iter().zip(stored).map(|(node, &stored)| {
        if !stored {
            return Ok(None);
        }
        let found = by_name.get(node.name.as_str()).copied();
        found.map(Some).ok_or_else(|| Error::bad("the activation ranges do not have this activation").at(&node.name))
    });
    each.collect()
}

/// Gives the result before a clip that nothing else reads the clip's range: levels end where it
/// cuts off, and none of them is spent on what is cut. In between there may be operations that move
/// values.
///
/// Gives these clips.
fn leave_clips_to_saturation(
    graph: &Graph,
    params: &mut [Option<QParams>],
    relu: &mut [bool],
) -> Vec<Option<Activation>> {
    let mut left = vec![None; graph.nodes.len()];
    let mut readers = vec![0usize; graph.nodes.len()];
    let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().copied());
    read.chain(graph.outputs.iter().map(|output| output.node)).for_each(|id| readers[id] += 1);
    for (id, node) in graph.nodes.iter().enumerate() {
        let (Some((low, high)), Some(range)) = (clip(&node.op), params[id]) else { continue };
        // One with ends for each channel: only where levels end before them all.
        let whole = matches!(node.op, Op::Activation(_)) || range.dequantize(range.qmax) <= f64::from(high) * 1.000_001;
        if !whole {
            continue;
        }
        let mut from = node.inputs[0];
        while readers[from] == 1 && graph.nodes[from].op.passes_values() {
            from = graph.nodes[from].inputs[0];
        }
        let op = &graph.nodes[from].op;
        let computes = matches!(op, Op::Conv(_) | Op::Binary(_) | Op::Concat(_) | Op::Resize(_));
        let saturates = computes || (op.stays_within_input() && !op.passes_values());
        if saturates && readers[from] == 1 {
            params[from] = Some(range);
            relu[from] |= low == 0.0 && op.holds_relu();
            left[id] = Some(Activation::Clip { low, high });
        }
    }
    left
}

/// The convolutions that the input reaches without passing another, and the classifier or, where
/// there is none, those whose results are the network's.
fn ends(graph: &Graph, leads: &[bool]) -> Vec<bool> {
    let is_layer = |id: NodeId| graph.nodes[id].op.weights().is_some();
    let classifier = graph.nodes.iter().any(|node| matches!(node.op, Op::Linear(_)));
    let mut reached = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        reached[id] = matches!(node.op, Op::Input(_)) || node.inputs.iter().any(|&i| reached[i] && !is_layer(i));
    }
    let last = |id: NodeId| match graph.nodes[id].op {
        Op::Linear(_) => true,
        _ => !classifier && !leads[id],
    };
    (0..graph.nodes.len()).map(|id| is_layer(id) && (reached[id] || last(id))).collect()
}
