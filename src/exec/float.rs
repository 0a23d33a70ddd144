//! A float graph on a device.

use std::sync::Arc;

use super::plan::{Activations, Keep, Reads, float_words};
use crate::gpu::{Buffer, Device, Recorder};
use crate::images::Batch;
use crate::kernels::{Geometry, conv_f32, depthwise_f32, normalize, pool_f32};
use crate::model::{Conv, Graph, Linear, NodeId, Op, Shape};
use crate::{Error, Result};

/// A float network with its weights and activations on a device.
pub struct FloatNet<'d> {
    device: &'d Device,
    names: Vec<Arc<str>>,
    steps: Vec<Step>,
    inputs: Vec<Vec<NodeId>>,
    shapes: Vec<Shape>,
    activations: Activations,
    pixels: Buffer,
    max_images: usize,
}

enum Step {
    Input { table: Buffer },
    Conv(FloatConv),
    Pool,
}

/// A float convolution, prepared for a device.
pub(super) struct FloatConv {
    weights: Weights,
    out_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    relu: bool,
}

enum Weights {
    Dense(conv_f32::Weights),
    Depthwise(depthwise_f32::Weights),
}

impl FloatConv {
    pub(super) fn new(device: &Device, conv: &Conv, relu: bool) -> Result<Self> {
        let weights = if conv.is_depthwise() {
            Weights::Depthwise(depthwise_f32::Weights::new(device, conv)?)
        } else {
            Weights::Dense(conv_f32::Weights::new(device, conv)?)
        };
        Ok(Self {
            weights,
            out_channels: conv.out_channels(),
            kernel: conv.kernel(),
            stride: conv.stride,
            padding: conv.padding,
            relu,
        })
    }

    /// A fully connected layer is a 1×1 convolution of a 1×1 image.
    pub(super) fn from_linear(device: &Device, linear: &Linear) -> Result<Self> {
        let (o, i) = linear.weight.dim();
        let weight = linear
            .weight
            .clone()
            .into_shape_with_order((o, i, 1, 1))
            .map_err(|e| Error::bad("the classifier's weights are not stored in order").because(e))?;
        let conv = Conv { weight, bias: linear.bias.clone(), stride: [1, 1], padding: [0, 0], groups: 1 };
        Self::new(device, &conv, false)
    }

    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        images: usize,
        shape: Shape,
        x: &Buffer,
        y: &Buffer,
    ) -> Result<()> {
        let geometry =
            |groups| Geometry::new(images, shape, self.out_channels, self.kernel, self.stride, self.padding, groups);
        match &self.weights {
            Weights::Dense(w) => {
                let g = geometry(w.groups());
                let work = |rec: &mut Recorder<'_>| conv_f32::dispatch(rec, &g, self.relu, x, w, y);
                rec.kernel(conv_f32::SPEC.name, g.multiplications(), work)
            }
            Weights::Depthwise(w) => {
                let g = geometry(w.groups());
                let work = |rec: &mut Recorder<'_>| depthwise_f32::dispatch(rec, &g, self.relu, x, w, y);
                rec.kernel(depthwise_f32::SPEC.name, g.multiplications(), work)
            }
        }
    }
}

impl<'d> FloatNet<'d> {
    /// Uploads the weights and allocates activations for batches of up to `max_images`.
    ///
    /// # Errors
    /// If the device has not enough memory; names the layer.
    pub fn new(device: &'d Device, graph: &Graph, max_images: usize, keep: Keep) -> Result<Self> {
        let shapes = graph.shapes();
        let steps = graph.nodes.iter().map(|node| {
            let step = match &node.op {
                Op::Input(_) => normalize::table(device, &graph.input.levels()).map(|table| Step::Input { table }),
                Op::Conv(conv) => FloatConv::new(device, conv, node.relu).map(Step::Conv),
                Op::GlobalAveragePool => Ok(Step::Pool),
                Op::Linear(linear) => FloatConv::from_linear(device, linear).map(Step::Conv),
                op => Err(Error::bad(format!("{} cannot be run", op.kind()))),
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
            inputs: graph.nodes.iter().map(|n| n.inputs.clone()).collect(),
            pixels: device.alloc(max_images * shapes[0].pixels(), "input images")?,
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

    /// Copies a batch's pixels to the device.
    ///
    /// # Errors
    /// If the batch is larger than the network was made for, or its images have another size.
    pub fn upload(&self, batch: &Batch) -> Result<()> {
        check_batch(batch, self.max_images, self.shapes[0])?;
        self.device.write(&self.pixels, &batch.pixels);
        Ok(())
    }

    /// The images of the batch uploaded last, for [`Int8Net::record_from`](super::Int8Net::record_from).
    pub fn pixels(&self) -> &Buffer {
        &self.pixels
    }

    /// Records one node for the uploaded batch of `images`; nodes are recorded in order.
    ///
    /// # Errors
    /// If the device failed.
    pub fn record(&self, rec: &mut Recorder<'_>, images: usize, node: NodeId) -> Result<()> {
        rec.layer(&self.names[node]);
        let y = self.activations.of(node);
        let x = self.inputs[node].first().map(|&input| (self.shapes[input], self.activations.of(input)));
        match (&self.steps[node], x) {
            (Step::Input { table }, _) => {
                let pixels = images * self.shapes[0].pixels();
                rec.kernel(normalize::SPEC.name, 0, |rec| normalize::dispatch(rec, pixels, &self.pixels, table, y))
            }
            (Step::Conv(conv), Some((shape, x))) => conv.record(rec, images, shape, x, y),
            (Step::Pool, Some((shape, x))) => {
                rec.kernel(pool_f32::SPEC.name, 0, |rec| pool_f32::dispatch(rec, images, shape, x, y))
            }
            (_, None) => unreachable!("a node that is not the input has one"),
        }
    }

    /// A node's activation, NHWC f32 with padded channels; valid until the last node that reads it is recorded.
    pub fn activation(&self, node: NodeId) -> &Buffer {
        self.activations.of(node)
    }

    /// The logits of a finished batch: `images` rows of C values.
    ///
    /// # Errors
    /// If the device failed.
    pub fn logits(&self, images: usize) -> Result<Vec<Vec<f64>>> {
        let (buffer, words) = self.logit_words(images);
        Ok(self.to_logits(&self.device.read(buffer, words)?))
    }

    /// The buffer with the logits of a batch of `images`, and how many of its words they are.
    pub fn logit_words(&self, images: usize) -> (&Buffer, usize) {
        let last = self.len() - 1;
        (self.activation(last), images * float_words(&self.shapes[last]))
    }

    /// The rows of logits in the words of [`FloatNet::logit_words`].
    pub fn to_logits(&self, words: &[u32]) -> Vec<Vec<f64>> {
        float_rows(words, self.shapes[self.len() - 1])
    }

    /// Runs a whole batch and returns its logits.
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

/// Rows of `shape.channels` reals from rows of padded f32.
pub(super) fn float_rows(words: &[u32], shape: Shape) -> Vec<Vec<f64>> {
    let row = |row: &[u32]| row[..shape.channels].iter().map(|w| f64::from(f32::from_bits(*w))).collect();
    words.chunks_exact(shape.padded_channels()).map(row).collect()
}

/// Checks that a batch is one this network takes.
pub(super) fn check_batch(batch: &Batch, max_images: usize, input: Shape) -> Result<()> {
    if batch.size != [input.height, input.width] {
        return Err(Error::usage(format!(
            "images are {}×{}, the network takes {}×{}",
            batch.size[0], batch.size[1], input.height, input.width
        )));
    }
    if batch.count > max_images || batch.pixels.len() != batch.count * input.pixels() {
        return Err(Error::usage(format!("a batch of {} images; at most {max_images} were planned", batch.count)));
    }
    Ok(())
}
