//! A float network in which one node is changed: what comes behind the node runs again, into buffers
//! of its own, and reads everything else from the run without the change.

use super::layer::Layer;
use super::net::FloatNet;
use super::plan::{Activations, Keep, Reads};
use super::step::Step;
use crate::device::{Buffer, Device, Recorder};
use crate::images::Batch;
use crate::kernels::convert::dequantize::Dequantize;
use crate::kernels::convert::quantize_activation::QuantizeActivation;
use crate::model::{Graph, NodeId, Op, QParams, Shape};
use crate::{Error, Result};

/// A float network, all of whose activations are kept, and buffers for those behind a change.
pub(crate) struct Changed<'d> {
    net: FloatNet<'d>,
    activations: Activations,
    /// Levels of an input that is rounded, and the real values that they stand for.
    levels: Buffer,
    rounded: Vec<Buffer>,
    /// The nodes that each node's activation reaches, in order.
    behind: Vec<Vec<NodeId>>,
}

/// What is other at one node.
pub(crate) struct Change {
    node: NodeId,
    /// What it computes; none: as ever.
    step: Option<Step>,
    /// How each of its inputs is rounded for it; none: not at all.
    inputs: Vec<Option<QParams>>,
}

impl Change {
    /// A node of `graph` that computes `op`, where that is given, and reads its inputs on these grids,
    /// where there are any.
    ///
    /// # Errors
    /// If the device has no memory left, or the operation does not fit; names the layer.
    pub(crate) fn new(
        device: &Device,
        graph: &Graph,
        node: NodeId,
        op: Option<&Op>,
        inputs: Vec<Option<QParams>>,
    ) -> Result<Self> {
        let changed = &graph.nodes[node];
        let step = |op: &Op| {
            let shapes = graph.shapes();
            let shapes: Vec<Shape> = changed.inputs.iter().map(|&input| shapes[input]).collect();
            Layer::float(device, &graph.input, op, changed.relu, &shapes).map(Step::plain)
        };
        let step = op.map(step).transpose().map_err(|e: Error| e.at(format!("layer {}", changed.name)))?;
        Ok(Self { node, step, inputs })
    }

    /// Where it is.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }
}

impl<'d> Changed<'d> {
    /// Uploads the weights and allocates activations for batches of up to `max_images`, and what
    /// rounding the inputs of `nodes` takes.
    ///
    /// # Errors
    /// If the device has not enough memory; names the layer.
    pub(crate) fn new(device: &'d Device, graph: &Graph, max_images: usize, nodes: &[NodeId]) -> Result<Self> {
        let net = FloatNet::new(device, graph, max_images, Keep::All)?;
        let reads = Reads::new(net.nodes.iter().map(|node| node.inputs.as_slice()), &graph.outputs);
        let names: Vec<&str> = net.nodes.iter().map(|node| &*node.name).collect();
        let words: Vec<usize> = net.nodes.iter().map(|node| max_images * node.words).collect();
        let activations = Activations::new(device, &names, &reads, &words, Keep::Last)?;
        let mut widest: Vec<usize> = Vec::new();
        for inputs in nodes.iter().map(|&node| &graph.nodes[node].inputs) {
            widest.resize(widest.len().max(inputs.len()), 0);
            for (widest, &input) in widest.iter_mut().zip(inputs) {
                *widest = (*widest).max(words[input]);
            }
        }
        let levels = widest.iter().copied().max().unwrap_or(0).div_ceil(4).max(1);
        let rounded = widest.iter().map(|&words| device.alloc(words.max(1), "rounded values"));
        Ok(Self {
            activations,
            levels: device.alloc(levels, "levels")?,
            rounded: rounded.collect::<Result<_>>()?,
            behind: behind(graph),
            net,
        })
    }

    /// Copies a batch's inputs to the device.
    ///
    /// # Errors
    /// As [`FloatNet`]'s.
    pub(crate) fn upload(&self, batch: &Batch) -> Result<()> {
        self.net.upload(batch)
    }

    /// Records the network without a change, which comes first for a batch.
    ///
    /// # Errors
    /// If the device failed.
    pub(crate) fn record(&self, rec: &mut Recorder<'_>, images: usize) -> Result<()> {
        (0..self.net.len()).try_for_each(|node| self.net.record(rec, images, node))
    }

    /// Records the changed node and what comes behind it.
    ///
    /// # Errors
    /// If the device failed.
    pub(crate) fn record_change(&self, rec: &mut Recorder<'_>, images: usize, change: &Change) -> Result<()> {
        let node = &self.net.nodes[change.node];
        rec.layer(&node.name);
        let mut inputs: Vec<&Buffer> = Vec::with_capacity(node.inputs.len());
        for (place, &input) in node.inputs.iter().enumerate() {
            let (x, shape) = (self.net.activation(input), self.net.shape(input));
            let Some(q) = change.inputs.get(place).and_then(Option::as_ref) else {
                inputs.push(x);
                continue;
            };
            let (pixels, channels, y) = (images * shape.pixels(), shape.channels, &self.rounded[place]);
            rec.run(&QuantizeActivation { pixels, channels, q, x, y: &self.levels })?;
            let QParams { scale, zero_point, .. } = *q;
            rec.run(&Dequantize { pixels, channels, scale, zero_point, x: &self.levels, y })?;
            inputs.push(y);
        }
        let step = change.step.as_ref().unwrap_or(&node.step);
        step.record(rec, images, &inputs, self.activations.of(change.node), &[], None)?;
        for &id in &self.behind[change.node] {
            let node = &self.net.nodes[id];
            rec.layer(&node.name);
            let inputs: Vec<&Buffer> = node.inputs.iter().map(|&input| self.activation(change, input)).collect();
            node.step.record(rec, images, &inputs, self.activations.of(id), &[], None)?;
        }
        Ok(())
    }

    /// Whether a node's activation is another with a change.
    fn reaches(&self, change: &Change, node: NodeId) -> bool {
        node == change.node || self.behind[change.node].binary_search(&node).is_ok()
    }

    /// A node's activation under a change.
    fn activation(&self, change: &Change, node: NodeId) -> &Buffer {
        if self.reaches(change, node) { self.activations.of(node) } else { self.net.activation(node) }
    }

    /// The buffers with the outputs of a batch of `images` without a change, and how many of their
    /// words they are.
    pub(crate) fn output_words(&self, images: usize) -> Vec<(&Buffer, usize)> {
        self.net.output_words(images)
    }

    /// As [`Changed::output_words`], under a change: of each output that it reaches, its place among
    /// the outputs besides.
    pub(crate) fn changed_words(&self, images: usize, change: &Change) -> Vec<(usize, &Buffer, usize)> {
        let outputs = self.net.outputs.iter().enumerate().filter(|(_, node)| self.reaches(change, **node));
        outputs.map(|(place, &node)| (place, self.activations.of(node), images * self.net.nodes[node].words)).collect()
    }

    /// Output `index` from its words: a row for each image.
    pub(crate) fn to_output(&self, index: usize, words: &[u32]) -> Vec<Vec<f64>> {
        self.net.to_output(index, words)
    }
}

/// The nodes that each node's activation reaches, in ascending order.
fn behind(graph: &Graph) -> Vec<Vec<NodeId>> {
    let count = graph.nodes.len();
    let behind = |first: NodeId| {
        let mut reached = vec![false; count];
        reached[first] = true;
        for id in first + 1..count {
            reached[id] = graph.nodes[id].inputs.iter().any(|&input| reached[input]);
        }
        (first + 1..count).filter(|&id| reached[id]).collect()
    };
    (0..count).map(behind).collect()
}
