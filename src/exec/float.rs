//! A float graph on a device.

use std::cell::Cell;
use std::sync::Arc;

use super::plan::{Activations, Keep, Reads, float_words};
use super::real::RealLayer;
use crate::device::{Buffer, Device, Recorder};
use crate::images::{Batch, Content};
use crate::kernels::convert::normalize::{self, Normalize};
use crate::kernels::statistics::range::Range;
use crate::kernels::statistics::{Extent, Row};
use crate::model::{Graph, NodeId, Op, Shape};
use crate::{Error, Result};

/// A float network with its weights and activations on a device.
pub struct FloatNet<'d> {
    device: &'d Device,
    names: Vec<Arc<str>>,
    steps: Vec<Step>,
    inputs: Vec<Vec<NodeId>>,
    outputs: Vec<NodeId>,
    shapes: Vec<Shape>,
    activations: Activations,
    pixels: Buffer,
    /// Whether the batch uploaded last holds values, which lie in the input's activation already, and no pixels.
    values: Cell<bool>,
    max_images: usize,
}

/// The inputs of a batch on a device.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// Pixels, 8 bits a colour.
    Pixels(&'a Buffer),
    /// Values of the network's input, NHWC f32 with padded channels.
    Values(&'a Buffer),
}

enum Step {
    Input { table: Buffer },
    Layer(RealLayer),
}

impl<'d> FloatNet<'d> {
    /// Uploads the weights and allocates activations for batches of up to `max_images`.
    ///
    /// # Errors
    /// If the device has not enough memory; names the layer.
    pub fn new(device: &'d Device, graph: &Graph, max_images: usize, keep: Keep) -> Result<Self> {
        let shapes = graph.shapes();
        let steps = graph.nodes.iter().map(|node| {
            let inputs: Vec<Shape> = node.inputs.iter().map(|&input| shapes[input]).collect();
            let step = match &node.op {
                Op::Input(_) => normalize::table(device, &graph.input.levels()).map(|table| Step::Input { table }),
                op => RealLayer::new(device, op, node.relu, &inputs).map(Step::Layer),
            };
            step.map_err(|e| e.at(format!("layer {}", node.name)))
        });
        let steps = steps.collect::<Result<_>>()?;
        let names: Vec<&str> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
        let reads = Reads::new(graph.nodes.iter().map(|n| n.inputs.as_slice()), &graph.outputs);
        let words: Vec<usize> = shapes.iter().map(|s| float_words(s) * max_images).collect();
        Ok(Self {
            device,
            names: graph.nodes.iter().map(|n| n.name.as_str().into()).collect(),
            steps,
            activations: Activations::new(device, &names, &reads, &words, keep)?,
            outputs: reads.outputs,
            inputs: graph.nodes.iter().map(|n| n.inputs.clone()).collect(),
            pixels: device.alloc(max_images * shapes[0].pixels(), "input images")?,
            values: Cell::new(false),
            shapes,
            max_images,
        })
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are no nodes; there always are.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Copies a batch's inputs to the device.
    ///
    /// # Errors
    /// If the batch is larger than the network was made for, or its images have another size.
    pub fn upload(&self, batch: &Batch) -> Result<()> {
        check_batch(batch, self.max_images, self.shapes[0])?;
        self.values.set(matches!(batch.content, Content::Values(_)));
        match &batch.content {
            Content::Pixels(pixels) => self.device.write(&self.pixels, pixels),
            Content::Values(values) => self.device.write(self.activations.of(0), values),
        }
    }

    /// The inputs of the batch uploaded last, for [`Int8Net::record_from`](super::Int8Net::record_from): values are valid
    /// until the last node that reads the input is recorded.
    pub fn source(&self) -> Source<'_> {
        if self.values.get() { Source::Values(self.activations.of(0)) } else { Source::Pixels(&self.pixels) }
    }

    /// Records one node for the uploaded batch of `images`; nodes are recorded in order.
    ///
    /// # Errors
    /// If the device failed.
    pub fn record(&self, rec: &mut Recorder<'_>, images: usize, node: NodeId) -> Result<()> {
        self.record_with(rec, images, node, None)
    }

    /// [`FloatNet::record`], and the update of a row of states with the range of the node's
    /// activation.
    ///
    /// # Errors
    /// If the device failed.
    pub fn record_observed(&self, rec: &mut Recorder<'_>, images: usize, node: NodeId, row: Row<'_>) -> Result<()> {
        self.record_with(rec, images, node, Some(row))
    }

    fn record_with(&self, rec: &mut Recorder<'_>, images: usize, node: NodeId, row: Option<Row<'_>>) -> Result<()> {
        rec.layer(&self.names[node]);
        let y = self.activations.of(node);
        let observed = match &self.steps[node] {
            Step::Input { .. } if self.values.get() => false,
            Step::Input { table } => {
                let pixels = images * self.shapes[0].pixels();
                rec.run(&Normalize { pixels, x: &self.pixels, table, y })?;
                false
            }
            Step::Layer(layer) => {
                let inputs = self.inputs[node].iter().map(|&input| (self.shapes[input], self.activations.of(input)));
                layer.record(rec, images, &inputs.collect::<Vec<_>>(), y, row)?
            }
        };
        let (Some(row), false) = (row, observed) else { return Ok(()) };
        rec.run(&Range { extent: Extent { images, shape: self.shapes[node] }, x: y, row })
    }

    /// A node's activation, NHWC f32 with padded channels; valid until the last node that reads it is recorded.
    pub fn activation(&self, node: NodeId) -> &Buffer {
        self.activations.of(node)
    }

    /// The buffers of the outputs of a batch of `images`, in the graph's order, and how many of their words they are.
    pub fn output_words(&self, images: usize) -> Vec<(&Buffer, usize)> {
        let words = |&node: &NodeId| (self.activation(node), images * float_words(&self.shapes[node]));
        self.outputs.iter().map(words).collect()
    }

    /// The values of an output, from its words: one row for each image, in the order channels, rows, columns.
    pub fn to_output(&self, index: usize, words: &[u32]) -> Vec<Vec<f64>> {
        rows(words, self.shapes[self.outputs[index]], |word, _| f64::from(f32::from_bits(word)))
    }

    /// Every output of a finished batch: rows of each image.
    ///
    /// # Errors
    /// If the device failed.
    pub fn outputs(&self, images: usize) -> Result<Vec<Vec<Vec<f64>>>> {
        let read =
            |(index, (buffer, words))| Ok(self.to_output(index, &pollster::block_on(self.device.read(buffer, words))?));
        self.output_words(images).into_iter().enumerate().map(read).collect()
    }

    /// The first output of a finished batch: `images` rows; those of a classifier are logits.
    ///
    /// # Errors
    /// If the device failed.
    pub fn logits(&self, images: usize) -> Result<Vec<Vec<f64>>> {
        Ok(self.outputs(images)?.swap_remove(0))
    }

    /// Runs a whole batch and returns its first output.
    ///
    /// # Errors
    /// As [`FloatNet::upload`], or if the device failed.
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

/// Rows of values in the order channels, rows, columns, from words or levels in NHWC with padded channels; `value` gets
/// one and its channel.
pub(super) fn rows<T: Copy>(words: &[T], shape: Shape, value: impl Fn(T, usize) -> f64) -> Vec<Vec<f64>> {
    let (padded, pixels) = (shape.padded_channels(), shape.pixels());
    let row = |image: &[T]| {
        let channel = |c: usize| (0..pixels).map(move |pixel| (pixel * padded + c, c));
        (0..shape.channels).flat_map(channel).map(|(at, c)| value(image[at], c)).collect()
    };
    words.chunks_exact(padded * pixels).map(row).collect()
}

/// Checks that a batch is one this network takes.
pub(super) fn check_batch(batch: &Batch, max_images: usize, input: Shape) -> Result<()> {
    if batch.size != [input.height, input.width] {
        return Err(Error::usage(format!(
            "images are {}×{}, the network takes {}×{}",
            batch.size[0], batch.size[1], input.height, input.width
        )));
    }
    let (words, image) = match &batch.content {
        Content::Pixels(pixels) => (pixels.len(), input.pixels()),
        Content::Values(values) => (values.len(), float_words(&input)),
    };
    if batch.count > max_images || words != batch.count * image {
        return Err(Error::usage(format!("a batch of {} images; at most {max_images} were planned", batch.count)));
    }
    Ok(())
}
