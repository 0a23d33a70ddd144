//! Other ways to quantize single layers, to be tried.

use super::auto::supports;
use super::in_float::InFloat;
use super::layers::{LayerChoice, LayerSplit};
use super::options::{QuantizeOptions, SplitMode};
use super::plan::Plan;
use super::split::SplitForm;
use super::strategy::Nearest;
use super::weights::{Layer, quantize_layer};
use crate::Result;
use crate::model::{Graph, NodeId, Op, QConv, QParams, Support, Weights};
use crate::threshold::ActivationRanges;

/// Bits that are worth a trial: the next of them.
const BITS: [u8; 2] = [6, 8];

/// Other ways to quantize the layers of a network than its options say.
pub(crate) struct Alternatives<'a> {
    plan: Plan<'a>,
}

impl<'a> Alternatives<'a> {
    /// Those of a network that was quantized so.
    ///
    /// # Errors
    /// As [`quantize`](super::quantize()).
    pub(crate) fn new(graph: &'a Graph, ranges: &ActivationRanges, options: &'a QuantizeOptions) -> Result<Self> {
        Ok(Self { plan: Plan::new(graph, ranges, options)? })
    }

    /// How each activation is stored.
    pub(crate) fn stored(&self) -> Vec<Option<QParams>> {
        self.plan.stored.iter().map(|stored| stored.map(|stored| stored.params)).collect()
    }

    /// Which of a node's inputs are stored as levels all the same if the node stays float.
    pub(crate) fn stored_if_kept(&self, node: NodeId) -> Vec<bool> {
        let graph = self.plan.graph;
        let kept = (graph.nodes[node].name.clone(), LayerChoice { float: true, ..LayerChoice::default() });
        let mut options = self.plan.options.clone();
        options.layers.push(kept);
        let stored = InFloat::new(graph, &options).stored;
        graph.nodes[node].inputs.iter().map(|&input| stored[input]).collect()
    }

    /// Weights of a layer with more bits, or with a coarse part that may touch more of them, rounded
    /// to nearest; `now` are those that it has.
    ///
    /// # Errors
    /// As [`quantize`](super::quantize()), naming the layer.
    pub(crate) fn weights(&self, node: NodeId, now: &QConv) -> Result<Vec<(LayerChoice, QConv)>> {
        let Some(layer) = self.plan.layer(node) else { return Ok(Vec::new()) };
        let graph_node = &self.plan.graph.nodes[node];
        let present = now.coarse.as_ref().map(|coarse| coarse.support);
        let (form, _) = self.plan.form(node);
        let form = match (form, present) {
            (SplitForm::Paper(support), Some(_)) => SplitForm::Paper(support),
            (_, Some(support)) => SplitForm::Aligned(support),
            _ => SplitForm::Plain,
        };
        // What is chosen for it already stays; what `auto` chose is said.
        let mut own = self.plan.options.choice(&graph_node.name);
        if self.plan.options.split == SplitMode::Auto && matches!(graph_node.op, Op::Conv(_)) {
            own.split = own.split.or(Some(present.map_or(LayerSplit::Whole, LayerSplit::Aligned)));
        }
        let bits = BITS.into_iter().find(|&bits| bits > now.bits).into_iter();
        let mut tried: Vec<(LayerChoice, u8, SplitForm)> =
            bits.map(|bits| (LayerChoice { bits: Some(bits), ..own }, bits, form)).collect();
        if let Op::Conv(conv) = &graph_node.op {
            let held = now.coarse.as_ref().map_or(0, |coarse| coarse.weights.len());
            let holds = |support: &Support| support.len(conv.dim().1, conv.kernel()) * conv.out_channels();
            let more = supports(conv, None).into_iter().filter(|support| holds(support) > held);
            tried.extend(more.map(|support| {
                let split = Some(LayerSplit::Aligned(support));
                (LayerChoice { split, ..own }, now.bits, SplitForm::Aligned(support))
            }));
        }
        let mut found = Vec::new();
        for (choice, bits, form) in tried {
            let layer = Layer { bits, ..layer };
            let quantized = quantize_layer(&layer, form, self.plan.options.granularity, &Nearest);
            let (conv, _) = quantized.map_err(|e| e.at(&graph_node.name))?;
            // A split that no channel gains from is none.
            if bits > now.bits || conv.coarse.is_some() {
                found.push((choice, conv));
            }
        }
        Ok(found)
    }
}
