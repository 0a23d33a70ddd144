//! A quantized graph on a device, in true integer arithmetic.

mod form;
mod step;

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use self::form::Form;
use self::step::{Operand, Step};
use super::float::{Source, check_batch};
use super::plan::{Activations, Keep, Reads, float_words, int8_words, scratch_words};
use crate::device::{Buffer, Device, Recorder};
use crate::images::{Batch, Content};
use crate::kernels::convert::quantize_activation::QuantizeActivation;
use crate::kernels::convert::quantize_input::QuantizeInput;
use crate::model::{NodeId, QuantizedGraph, Shape};
use crate::{Error, Result};

/// An int8 network with its weights and activations on a device.
pub struct Int8Net<'d> {
    device: &'d Device,
    nodes: Vec<Prepared>,
    outputs: Vec<NodeId>,
    activations: Activations,
    /// What operations in f32 read and write where their neighbours are integers.
    scratch: Vec<Buffer>,
    pixels: Buffer,
    /// f32 inputs, where there were any, and whether the batch uploaded last holds some.
    values: OnceCell<Buffer>,
    has_values: Cell<bool>,
    max_images: usize,
}

/// A node on the device.
struct Prepared {
    name: Arc<str>,
    step: Step,
    inputs: Vec<NodeId>,
    shape: Shape,
    form: Form,
    /// Of one image's activation.
    words: usize,
}

impl<'d> Int8Net<'d> {
    /// Uploads the weights and allocates activations for batches of up to `max_images`.
    ///
    /// # Errors
    /// If a layer contradicts itself or what it reads, or the device has not enough memory; names the layer.
    pub fn new(device: &'d Device, graph: &QuantizedGraph, max_images: usize, keep: Keep) -> Result<Self> {
        let shapes = graph.shapes();
        let mut nodes: Vec<Prepared> = Vec::with_capacity(graph.nodes.len());
        for ((node, &shape), words) in graph.nodes.iter().zip(&shapes).zip(int8_words(graph, &shapes)) {
            let inputs: Vec<_> = node.inputs.iter().map(|&input| (shapes[input], &nodes[input].form)).collect();
            let prepared = Form::new(graph, node).and_then(|form| {
                let step = Step::new(device, graph, node, &inputs)?;
                Ok(Prepared { name: node.name.as_str().into(), step, inputs: node.inputs.clone(), shape, form, words })
            });
            nodes.push(prepared.map_err(|e| e.at(format!("layer {}", node.name)))?);
        }
        if graph.outputs.is_empty() {
            return Err(Error::bad("the network has no output"));
        }
        let mut reads = Reads::new(graph.nodes.iter().map(|node| node.inputs.as_slice()), &graph.outputs);
        reads.same = nodes.iter().map(|node| matches!(node.step, Step::Same)).collect();
        let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
        let words: Vec<usize> = nodes.iter().map(|node| max_images * node.words).collect();
        let activations = Activations::new(device, &names, &reads, &words, keep)?;
        let scratch = scratch_words(graph, &shapes);
        let scratch = scratch.into_iter().map(|words| device.alloc(max_images * words, "real values"));
        Ok(Self {
            device,
            outputs: reads.outputs,
            activations,
            scratch: scratch.collect::<Result<_>>()?,
            pixels: device.alloc(max_images * shapes[0].pixels(), "input images")?,
            values: OnceCell::new(),
            has_values: Cell::new(false),
            max_images,
            nodes,
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
        check_batch(batch, self.max_images, self.nodes[0].shape)?;
        self.has_values.set(matches!(batch.content, Content::Values(_)));
        match &batch.content {
            Content::Pixels(pixels) => self.device.write(&self.pixels, pixels),
            Content::Values(values) => {
                if self.values.get().is_none() {
                    let words = self.max_images * float_words(&self.nodes[0].shape);
                    let buffer = self.device.alloc(words, "input values")?;
                    self.values.get_or_init(|| buffer);
                }
                self.values.get().map_or(Ok(()), |buffer| self.device.write(buffer, values))
            }
        }
    }

    /// Records one node for the uploaded batch of `images`; nodes are recorded in order.
    ///
    /// # Errors
    /// If the device failed.
    pub fn record(&self, rec: &mut Recorder<'_>, images: usize, node: NodeId) -> Result<()> {
        let source = match self.values.get().filter(|_| self.has_values.get()) {
            Some(values) => Source::Values(values),
            None => Source::Pixels(&self.pixels),
        };
        self.record_from(rec, images, node, source)
    }

    /// As [`Int8Net::record`], for a batch that was uploaded to another network that takes the same inputs: to `source`.
    ///
    /// # Errors
    /// If the device failed.
    pub fn record_from(&self, rec: &mut Recorder<'_>, images: usize, node: NodeId, source: Source<'_>) -> Result<()> {
        let Prepared { name, step, inputs, shape, .. } = &self.nodes[node];
        rec.layer(name);
        let y = self.activations.of(node);
        if let Step::Input { table, stored } = step {
            let pixels = images * shape.pixels();
            return match source {
                Source::Pixels(x) => rec.run(&QuantizeInput { pixels, x, table, y }),
                Source::Values(x) => rec.run(&QuantizeActivation { pixels, channels: shape.channels, q: stored, x, y }),
            };
        }
        let operand = |node: NodeId| Operand { shape: self.nodes[node].shape, buffer: self.activations.of(node) };
        let inputs: Vec<Operand<'_>> = inputs.iter().map(|&input| operand(input)).collect();
        step.record(rec, images, &inputs, operand(node), &self.scratch)
    }

    /// Shape of a node's activation.
    pub fn shape(&self, node: NodeId) -> Shape {
        self.nodes[node].shape
    }

    /// A node's activation, NHWC with padded channels: packed int8, or where the node's output is not stored as levels one
    /// word a channel, int32 accumulators or f32. Valid until the last node that reads it is recorded.
    pub fn activation(&self, node: NodeId) -> &Buffer {
        self.activations.of(node)
    }

    /// The words of a node's activation for `images` images, read back; every activation with [`Keep::All`].
    ///
    /// # Errors
    /// If the device failed.
    pub fn read(&self, node: NodeId, images: usize) -> Result<Vec<u32>> {
        pollster::block_on(self.device.read(self.activation(node), images * self.nodes[node].words))
    }

    /// The buffers with the outputs of a batch of `images`, in the order of [`QuantizedGraph::outputs`], and how many of
    /// their words they are.
    pub fn output_words(&self, images: usize) -> Vec<(&Buffer, usize)> {
        self.outputs.iter().map(|&node| (self.activation(node), images * self.nodes[node].words)).collect()
    }

    /// Output `index` from its words of [`Int8Net::output_words`]: a row for each image, values in the order channels, rows,
    /// columns. Levels and int32 accumulators become real here on the host, in f64.
    ///
    /// # Panics
    /// If there is no such output: an error of the caller.
    pub fn to_output(&self, index: usize, words: &[u32]) -> Vec<Vec<f64>> {
        let node = &self.nodes[self.outputs[index]];
        node.form.to_real(node.shape, words)
    }

    /// All outputs of a finished batch: for each, a row for each of `images` images.
    ///
    /// # Errors
    /// If the device failed.
    pub fn outputs(&self, images: usize) -> Result<Vec<Vec<Vec<f64>>>> {
        let words = self
            .output_words(images)
            .into_iter()
            .map(|(buffer, words)| pollster::block_on(self.device.read(buffer, words)));
        words.enumerate().map(|(index, words)| Ok(self.to_output(index, &words?))).collect()
    }

    /// The first output of a finished batch, the logits of a classifier: `images` rows.
    ///
    /// # Errors
    /// If the device failed.
    pub fn logits(&self, images: usize) -> Result<Vec<Vec<f64>>> {
        let node = self.outputs[0];
        Ok(self.to_output(0, &self.read(node, images)?))
    }

    /// Runs a whole batch and returns its first output.
    ///
    /// # Errors
    /// As [`Int8Net::upload`], or if the device failed.
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
