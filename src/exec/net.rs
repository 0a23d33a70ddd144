//! A network on a device: its nodes as steps, and the buffers between them.

use std::cell::{Cell, OnceCell};
use std::marker::PhantomData;
use std::sync::Arc;

use super::encoding::{Encoding, levels_of};
use super::layer::Layer;
use super::plan::{Activations, Keep, Reads, int8_words, scratch_words};
use super::step::Step;
use crate::device::{Buffer, Device, Recorder};
use crate::images::{Batch, Content};
use crate::kernels::convert::quantize_activation::QuantizeActivation;
use crate::kernels::rearrange::gather_f32::{self, GatherF32};
use crate::kernels::statistics::range::Range;
use crate::kernels::statistics::{Extent, Row};
use crate::model::{
    Computed, Graph, GraphOutput, NodeId, QNode, QParams, QuantizedGraph, Rearrange, RearrangeKind, Shape,
};
use crate::{Error, Result};

/// A float network with its weights and activations on a device.
pub type FloatNet<'d> = Net<'d, Graph>;

/// An int8 network with its weights and activations on a device, in true integer arithmetic but for
/// what it computes in float.
pub type Int8Net<'d> = Net<'d, QuantizedGraph>;

/// A network of kind `G` with its weights and activations on a device.
pub struct Net<'d, G> {
    pub(super) device: &'d Device,
    pub(super) nodes: Vec<Prepared>,
    pub(super) outputs: Vec<NodeId>,
    activations: Activations,
    /// What operations in f32 read and write where their neighbours are integers.
    scratch: Vec<Buffer>,
    pixels: Buffer,
    /// f32 inputs of a quantized network, where there were any; a float network's lie in its first
    /// activation.
    values: OnceCell<Buffer>,
    /// How f32 inputs of another network become those of this one, where it computes with them.
    copied: OnceCell<gather_f32::Order>,
    /// Whether the batch uploaded last holds values and no pixels.
    has_values: Cell<bool>,
    max_images: usize,
    kind: PhantomData<fn() -> G>,
}

/// The inputs of a batch on a device.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// Pixels, 8 bits a colour.
    Pixels(&'a Buffer),
    /// Values of the network's input, NHWC f32 with padded channels.
    Values(&'a Buffer),
}

/// A node on the device.
pub(super) struct Prepared {
    pub(super) name: Arc<str>,
    pub(super) step: Step,
    pub(super) inputs: Vec<NodeId>,
    encoding: Encoding,
    /// Of one image's activation.
    pub(super) words: usize,
}

impl<'d> FloatNet<'d> {
    /// Uploads the weights and allocates activations for batches of up to `max_images`.
    ///
    /// # Errors
    /// If the device has not enough memory; names the layer.
    pub fn new(device: &'d Device, graph: &Graph, max_images: usize, keep: Keep) -> Result<Self> {
        let shapes = graph.shapes();
        let nodes = graph.nodes.iter().zip(&shapes).map(|(node, shape)| {
            let inputs: Vec<Shape> = node.inputs.iter().map(|&input| shapes[input]).collect();
            let layer = Layer::float(device, &graph.input, &node.op, node.relu, &inputs);
            let layer = layer.map_err(|e| e.at(format!("layer {}", node.name)))?;
            Ok(Prepared {
                name: node.name.as_str().into(),
                step: Step::plain(layer),
                inputs: node.inputs.clone(),
                encoding: Encoding::Float,
                words: shape.padded_len(),
            })
        });
        Self::with(device, nodes.collect::<Result<_>>()?, &graph.outputs, &[], max_images, keep)
    }

    /// [`Net::record`], and the update of a row of states with the range of the node's activation.
    ///
    /// # Errors
    /// If the device failed.
    pub fn record_observed(&self, rec: &mut Recorder<'_>, images: usize, node: NodeId, row: Row<'_>) -> Result<()> {
        self.record_with(rec, images, node, self.source(), Some(row))
    }
}

impl<'d> Int8Net<'d> {
    /// Uploads the weights and allocates activations for batches of up to `max_images`.
    ///
    /// # Errors
    /// If a layer contradicts itself or what it reads, or the device has not enough memory; names
    /// the layer.
    pub fn new(device: &'d Device, graph: &QuantizedGraph, max_images: usize, keep: Keep) -> Result<Self> {
        let shapes = graph.shapes();
        let mut nodes: Vec<Prepared> = Vec::with_capacity(graph.nodes.len());
        for (node, words) in graph.nodes.iter().zip(int8_words(graph, &shapes)) {
            let prepared = Encoding::of(graph, node).and_then(|encoding| {
                let step = quantized_step(device, graph, node, &nodes)?;
                Ok(Prepared { name: node.name.as_str().into(), step, inputs: node.inputs.clone(), encoding, words })
            });
            nodes.push(prepared.map_err(|e| e.at(format!("layer {}", node.name)))?);
        }
        if graph.outputs.is_empty() {
            return Err(Error::bad("the network has no output"));
        }
        Self::with(device, nodes, &graph.outputs, &scratch_words(graph, &shapes), max_images, keep)
    }

    /// As [`Net::record`], for a batch that was uploaded to another network that takes the same
    /// inputs: to `source`.
    ///
    /// # Errors
    /// If the device failed.
    pub fn record_from(&self, rec: &mut Recorder<'_>, images: usize, node: NodeId, source: Source<'_>) -> Result<()> {
        self.record_with(rec, images, node, source, None)
    }

    /// Takes over a node of `graph` whose weights have changed, and nothing else; what reads its
    /// sums is prepared again, too.
    ///
    /// # Errors
    /// As [`Net::new`].
    pub(crate) fn replace(&mut self, graph: &QuantizedGraph, node: NodeId) -> Result<()> {
        let sums = graph.nodes[node].output.is_none();
        let reads = |id: NodeId| id == node || (sums && graph.nodes[id].inputs.contains(&node));
        for id in (node..self.nodes.len()).filter(|&id| reads(id)) {
            let changed = &graph.nodes[id];
            let prepared = Encoding::of(graph, changed)
                .and_then(|encoding| Ok((encoding, quantized_step(self.device, graph, changed, &self.nodes)?)));
            let (encoding, step) = prepared.map_err(|e| e.at(format!("layer {}", changed.name)))?;
            (self.nodes[id].encoding, self.nodes[id].step) = (encoding, step);
        }
        Ok(())
    }
}

/// A node of a quantized network that reads some of the `nodes` before it.
fn quantized_step(device: &Device, graph: &QuantizedGraph, node: &QNode, nodes: &[Prepared]) -> Result<Step> {
    let shape = |input: NodeId| nodes[input].step.shape();
    match &node.computed {
        Computed::Float(op) => {
            let shapes: Vec<Shape> = node.inputs.iter().map(|&input| shape(input)).collect();
            let layer = Layer::float(device, &graph.input, op, node.relu, &shapes)?;
            let encodings: Vec<&Encoding> = node.inputs.iter().map(|&input| &nodes[input].encoding).collect();
            Step::converting(device, layer, &encodings, node.output)
        }
        Computed::Integer(integer) => {
            let levels = |(index, &input): (usize, &NodeId)| Ok((shape(input), levels_of(graph, node, index)?));
            let inputs: Vec<(Shape, QParams)> = node.inputs.iter().enumerate().map(levels).collect::<Result<_>>()?;
            Layer::integer(device, &graph.input, integer, node.relu, &inputs, node.output).map(Step::plain)
        }
    }
}

impl<'d, G> Net<'d, G> {
    /// Allocates what lies between the nodes; `scratch` has the words of one image in each shared
    /// f32 buffer.
    fn with(
        device: &'d Device,
        nodes: Vec<Prepared>,
        outputs: &[GraphOutput],
        scratch: &[usize],
        max_images: usize,
        keep: Keep,
    ) -> Result<Self> {
        let mut reads = Reads::new(nodes.iter().map(|node| node.inputs.as_slice()), outputs);
        reads.same = nodes.iter().map(|node| node.step.is_same()).collect();
        let names: Vec<&str> = nodes.iter().map(|node| &*node.name).collect();
        let words: Vec<usize> = nodes.iter().map(|node| max_images * node.words).collect();
        let activations = Activations::new(device, &names, &reads, &words, keep)?;
        let scratch = scratch.iter().map(|words| device.alloc(max_images * words, "real values"));
        Ok(Self {
            device,
            outputs: reads.outputs,
            activations,
            scratch: scratch.collect::<Result<_>>()?,
            pixels: device.alloc(max_images * nodes[0].step.shape().pixels(), "input images")?,
            values: OnceCell::new(),
            copied: OnceCell::new(),
            has_values: Cell::new(false),
            max_images,
            nodes,
            kind: PhantomData,
        })
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes; there always are.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Copies a batch's inputs to the device.
    ///
    /// # Errors
    /// If the batch is larger than the network was made for, or its images have another size.
    pub fn upload(&self, batch: &Batch) -> Result<()> {
        check_batch(batch, self.max_images, self.shape(0))?;
        self.has_values.set(matches!(batch.content, Content::Values(_)));
        match &batch.content {
            Content::Pixels(pixels) => self.device.write(&self.pixels, pixels),
            Content::Values(values) => {
                if self.stores_levels() && self.values.get().is_none() {
                    let words = self.max_images * self.shape(0).padded_len();
                    let buffer = self.device.alloc(words, "input values")?;
                    self.values.get_or_init(|| buffer);
                }
                self.device.write(self.values(), values)
            }
        }
    }

    /// Whether the input is stored as levels: in a quantized network that reads it in integers.
    fn stores_levels(&self) -> bool {
        matches!(self.nodes[0].encoding, Encoding::Levels(_))
    }

    /// Where values of the input lie.
    fn values(&self) -> &Buffer {
        self.values.get().unwrap_or(self.activations.of(0))
    }

    /// The inputs of the batch uploaded last, for [`Int8Net::record_from`]; values are valid until
    /// the last node that reads the input is recorded.
    pub fn source(&self) -> Source<'_> {
        if self.has_values.get() { Source::Values(self.values()) } else { Source::Pixels(&self.pixels) }
    }

    /// Records one node for the uploaded batch of `images`; nodes are recorded in order.
    ///
    /// # Errors
    /// If the device failed.
    pub fn record(&self, rec: &mut Recorder<'_>, images: usize, node: NodeId) -> Result<()> {
        self.record_with(rec, images, node, self.source(), None)
    }

    fn record_with(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        node: NodeId,
        source: Source<'_>,
        range: Option<Row<'_>>,
    ) -> Result<()> {
        let Prepared { name, step, inputs, .. } = &self.nodes[node];
        rec.layer(name);
        let mut x: Vec<&Buffer> = inputs.iter().map(|&input| self.activations.of(input)).collect();
        if node == 0 {
            match source {
                Source::Pixels(pixels) => x.push(pixels),
                Source::Values(values) => return self.record_values(rec, images, values, range),
            }
        }
        step.record(rec, images, &x, self.activations.of(node), &self.scratch, range)
    }

    /// Records the input of a batch of values: their levels, or where they lie there already their
    /// range alone.
    fn record_values(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        values: &Buffer,
        range: Option<Row<'_>>,
    ) -> Result<()> {
        let (shape, y) = (self.shape(0), self.activations.of(0));
        match (&self.nodes[0].encoding, range) {
            _ if !self.stores_levels() && !std::ptr::eq(values, y) => {
                if self.copied.get().is_none() {
                    let same = Rearrange { kind: RearrangeKind::Reshape, shape };
                    let order = gather_f32::Order::new(self.device, &same, shape)?;
                    self.copied.get_or_init(|| order);
                }
                self.copied.get().map_or(Ok(()), |order| rec.run(&GatherF32 { images, order, x: values, y }))
            }
            (Encoding::Levels(q), _) => {
                let (pixels, channels) = (images * shape.pixels(), shape.channels);
                rec.run(&QuantizeActivation { pixels, channels, q, x: values, y })
            }
            (_, Some(row)) => rec.run(&Range { extent: Extent { images, shape }, x: y, row }),
            (_, None) => Ok(()),
        }
    }

    /// Shape of a node's activation.
    pub fn shape(&self, node: NodeId) -> Shape {
        self.nodes[node].step.shape()
    }

    /// A node's activation, NHWC with padded channels: f32 in a float network; in a quantized one
    /// packed int8, or where the node's output is not stored as levels one word a channel, int32
    /// accumulators or f32. Valid until the last node that reads it is recorded.
    pub fn activation(&self, node: NodeId) -> &Buffer {
        self.activations.of(node)
    }

    /// How many words a node's activation has for `images` images.
    pub(crate) fn words(&self, node: NodeId, images: usize) -> usize {
        images * self.nodes[node].words
    }

    /// The words of a node's activation for `images` images, read back; every activation with
    /// [`Keep::All`].
    ///
    /// # Errors
    /// If the device failed.
    pub fn read(&self, node: NodeId, images: usize) -> Result<Vec<u32>> {
        pollster::block_on(self.device.read(self.activation(node), self.words(node, images)))
    }

    /// A node's activation for `images` images as real values: a row for each, in the order channels,
    /// rows, columns.
    ///
    /// # Errors
    /// If the device failed.
    pub(crate) fn real_values(&self, node: NodeId, images: usize) -> Result<Vec<Vec<f64>>> {
        Ok(self.nodes[node].encoding.values(self.shape(node), &self.read(node, images)?))
    }

    /// Writes the words of a node's activation, as [`Net::read`] gave them, for nodes that read it
    /// and are recorded later.
    ///
    /// # Errors
    /// If there are more words than the activation has, or the device failed.
    pub fn write(&self, node: NodeId, words: &[u32]) -> Result<()> {
        self.device.write(self.activation(node), words)
    }

    /// The buffers with the outputs of a batch of `images`, in the graph's order, and how many of
    /// their words they are.
    pub fn output_words(&self, images: usize) -> Vec<(&Buffer, usize)> {
        self.outputs.iter().map(|&node| (self.activation(node), images * self.nodes[node].words)).collect()
    }

    /// Output `index` from its words of [`Net::output_words`]: a row for each image, values in the
    /// order channels, rows, columns. Levels and int32 accumulators become real here on the host,
    /// in f64.
    ///
    /// # Panics
    /// If there is no such output: an error of the caller.
    pub fn to_output(&self, index: usize, words: &[u32]) -> Vec<Vec<f64>> {
        let node = self.outputs[index];
        self.nodes[node].encoding.values(self.shape(node), words)
    }

    /// All outputs of a finished batch: for each, a row for each of `images` images.
    ///
    /// # Errors
    /// If the device failed.
    pub fn outputs(&self, images: usize) -> Result<Vec<Vec<Vec<f64>>>> {
        let read =
            |(index, (buffer, words))| Ok(self.to_output(index, &pollster::block_on(self.device.read(buffer, words))?));
        self.output_words(images).into_iter().enumerate().map(read).collect()
    }

    /// The first output of a finished batch, the logits of a classifier: `images` rows.
    ///
    /// # Errors
    /// If the device failed.
    pub fn logits(&self, images: usize) -> Result<Vec<Vec<f64>>> {
        Ok(self.to_output(0, &self.read(self.outputs[0], images)?))
    }

    /// Runs a whole batch and returns its first output.
    ///
    /// # Errors
    /// As [`Net::upload`], or if the device failed.
    pub fn run(&self, batch: &Batch) -> Result<Vec<Vec<f64>>> {
        self.upload(batch)?;
        let mut rec = self.device.recorder();
        for node in 0..self.len() {
            self.record(&mut rec, batch.count, node)?;
        }
        rec.submit()?;
        self.logits(batch.count)
    }
}

/// Checks that a batch is one this network takes.
fn check_batch(batch: &Batch, max_images: usize, input: Shape) -> Result<()> {
    if batch.size != [input.height, input.width] {
        return Err(Error::usage(format!(
            "images are {}×{}, the network takes {}×{}",
            batch.size[0], batch.size[1], input.height, input.width
        )));
    }
    let (words, image) = match &batch.content {
        Content::Pixels(pixels) => (pixels.len(), input.pixels()),
        Content::Values(values) => (values.len(), input.padded_len()),
    };
    if batch.count > max_images || words != batch.count * image {
        return Err(Error::usage(format!("a batch of {} images; at most {max_images} were planned", batch.count)));
    }
    Ok(())
}
