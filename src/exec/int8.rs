//! A quantized graph on a device, in true integer arithmetic.

use std::sync::Arc;

use super::float::{check_batch, rows};
use super::plan::{Activations, Keep, float_words};
use super::real::RealLayer;
use crate::gpu::{Buffer, Device, Recorder};
use crate::images::Batch;
use crate::kernels::{Geometry, conv_i8, depthwise_i8, dequantize, pool_i8, quantize_activation, quantize_input};
use crate::model::{Multiplier, NodeId, QConv, QNode, QOp, QParams, QuantizedGraph, Shape};
use crate::{Error, Result};

/// An int8 network with its weights and activations on a device.
pub struct Int8Net<'d> {
    device: &'d Device,
    names: Vec<Arc<str>>,
    steps: Vec<Step>,
    nodes: Vec<(Vec<NodeId>, Option<QParams>)>,
    shapes: Vec<Shape>,
    activations: Activations,
    pixels: Buffer,
    max_images: usize,
    logit_scales: LogitScales,
}

/// How the last node's words become logits.
enum LogitScales {
    /// int32 accumulators times `s_x·s_f[o]`.
    Accumulators(Vec<f64>),
    /// The classifier stayed float.
    Real,
}

enum Step {
    Input { table: Buffer },
    Conv { conv: IntConv, output: conv_i8::Output },
    Classifier(conv_i8::Weights),
    Pool { multiplier: Multiplier, output: conv_i8::Output },
    Float { layer: RealLayer, stored: Option<QParams>, x: Buffer, y: Buffer },
}

struct IntConv {
    weights: Weights,
    out_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
}

enum Weights {
    Dense(conv_i8::Weights),
    Depthwise(depthwise_i8::Weights),
}

impl IntConv {
    fn new(device: &Device, conv: &QConv) -> Result<Self> {
        let weights = if conv.is_depthwise() {
            Weights::Depthwise(depthwise_i8::Weights::new(device, conv)?)
        } else {
            Weights::Dense(conv_i8::Weights::new(device, conv)?)
        };
        Ok(Self {
            weights,
            out_channels: conv.out_channels(),
            kernel: conv.kernel(),
            stride: conv.stride,
            padding: conv.padding,
        })
    }
}

/// The levels a node may store; a fused `ReLU` lifts the lowest to the zero point.
fn levels(q: &QParams, relu: bool) -> conv_i8::Output {
    let low = if relu { q.qmin.max(q.zero_point) } else { q.qmin };
    conv_i8::Output { zero_point: q.zero_point, low, high: q.qmax }
}

impl<'d> Int8Net<'d> {
    /// Uploads the weights and allocates activations for batches of up to `max_images`.
    ///
    /// # Errors
    /// If the device has not enough memory; names the layer.
    pub fn new(device: &'d Device, graph: &QuantizedGraph, max_images: usize, keep: Keep) -> Result<Self> {
        let shapes = graph.shapes();
        let mut steps = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let input = node.inputs.first().map(|&i| shapes[i]);
            let step = Step::new(device, graph, node, input, shapes[steps.len()], max_images);
            steps.push(step.map_err(|e| e.at(format!("layer {}", node.name)))?);
        }
        let names: Vec<&str> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
        let inputs: Vec<&[NodeId]> = graph.nodes.iter().map(|n| n.inputs.as_slice()).collect();
        let words: Vec<usize> = graph
            .nodes
            .iter()
            .zip(&shapes)
            // int8 packs four channels in a word; the classifier's accumulators (or real logits) take one each.
            .map(|(node, shape)| max_images * float_words(shape) / if node.output.is_some() { 4 } else { 1 })
            .collect();
        Ok(Self {
            device,
            names: graph.nodes.iter().map(|n| n.name.as_str().into()).collect(),
            steps,
            activations: Activations::new(device, &names, &inputs, &[graph.nodes.len() - 1], &words, keep)?,
            nodes: graph.nodes.iter().map(|n| (n.inputs.clone(), n.output)).collect(),
            pixels: device.alloc(max_images * shapes[0].pixels(), "input images")?,
            shapes,
            max_images,
            logit_scales: logit_scales(graph)?,
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

    /// Records one node for the uploaded batch of `images`; nodes are recorded in order.
    ///
    /// # Errors
    /// If the device failed.
    pub fn record(&self, rec: &mut Recorder<'_>, images: usize, node: NodeId) -> Result<()> {
        self.record_from(rec, images, node, &self.pixels)
    }

    /// As [`Int8Net::record`], for a batch that was uploaded to another network that takes the same images: to `pixels`.
    ///
    /// # Errors
    /// If the device failed.
    pub fn record_from(&self, rec: &mut Recorder<'_>, images: usize, node: NodeId, pixels: &Buffer) -> Result<()> {
        rec.layer(&self.names[node]);
        let y = self.activations.of(node);
        let Some(&input) = self.nodes[node].0.first() else {
            let Step::Input { table } = &self.steps[node] else { unreachable!("only the input has no inputs") };
            let count = images * self.shapes[0].pixels();
            let work = |rec: &mut Recorder<'_>| quantize_input::dispatch(rec, count, pixels, table, y);
            return rec.kernel(quantize_input::SPEC.name, 0, work);
        };
        let (shape, x) = (self.shapes[input], self.activations.of(input));
        let q = self.nodes[input].1.ok_or_else(|| Error::bad("a layer reads the classifier's output"))?;
        match &self.steps[node] {
            Step::Input { .. } => unreachable!("the input has no inputs"),
            Step::Conv { conv, output } => {
                let geometry = |groups| {
                    Geometry::new(images, shape, conv.out_channels, conv.kernel, conv.stride, conv.padding, groups)
                };
                match &conv.weights {
                    Weights::Dense(w) => {
                        let g = geometry(w.groups());
                        let work = |rec: &mut Recorder<'_>| conv_i8::dispatch(rec, &g, q.zero_point, output, x, w, y);
                        rec.kernel(conv_i8::SPEC.name, g.multiplications(), work)
                    }
                    Weights::Depthwise(w) => {
                        let g = geometry(w.groups());
                        let work =
                            |rec: &mut Recorder<'_>| depthwise_i8::dispatch(rec, &g, q.zero_point, output, x, w, y);
                        rec.kernel(depthwise_i8::SPEC.name, g.multiplications(), work)
                    }
                }
            }
            Step::Classifier(w) => {
                let out = self.shapes[node].channels;
                let g = Geometry::new(images, shape, out, [1, 1], [1, 1], [0, 0], w.groups());
                let work = |rec: &mut Recorder<'_>| conv_i8::dispatch_accumulators(rec, &g, q.zero_point, x, w, y);
                rec.kernel(conv_i8::SPEC.name, g.multiplications(), work)
            }
            Step::Pool { multiplier, output } => rec.kernel(pool_i8::SPEC.name, 0, |rec| {
                pool_i8::dispatch(rec, images, shape, q.zero_point, *multiplier, output, x, y)
            }),
            Step::Float { layer, stored, x: real_x, y: real_y } => {
                let pixels = images * shape.pixels();
                rec.kernel(dequantize::SPEC.name, 0, |rec| {
                    dequantize::dispatch(rec, pixels, shape.channels, q.scale, q.zero_point, x, real_x)
                })?;
                let target = if stored.is_some() { real_y } else { y };
                layer.record(rec, images, &[(shape, real_x)], target)?;
                let Some(out) = stored else { return Ok(()) };
                let shape = self.shapes[node];
                rec.kernel(quantize_activation::SPEC.name, 0, |rec| {
                    quantize_activation::dispatch(rec, images * shape.pixels(), shape.channels, out, real_y, y)
                })
            }
        }
    }

    /// Shape of a node's activation.
    pub fn shape(&self, node: NodeId) -> Shape {
        self.shapes[node]
    }

    /// A node's activation: packed int8 NHWC (the classifier: one word a channel); valid until the last node that reads it
    /// is recorded.
    pub fn activation(&self, node: NodeId) -> &Buffer {
        self.activations.of(node)
    }

    /// The words of a node's activation for `images` images, read back; every activation with [`Keep::All`].
    ///
    /// # Errors
    /// If the device failed.
    pub fn read(&self, node: NodeId, images: usize) -> Result<Vec<u32>> {
        self.device.read(self.activation(node), self.words(node, images))
    }

    /// Words of a node's activation.
    fn words(&self, node: NodeId, images: usize) -> usize {
        images * float_words(&self.shapes[node]) / if self.nodes[node].1.is_some() { 4 } else { 1 }
    }

    /// The buffers of the outputs of a batch of `images`, in the graph's order, and how many of their words they are.
    pub fn output_words(&self, images: usize) -> Vec<(&Buffer, usize)> {
        let last = self.len() - 1;
        vec![(self.activation(last), self.words(last, images))]
    }

    /// The values of an output, from its words: one row for each image, in the order channels, rows, columns. int32
    /// accumulators are turned into real numbers in f64.
    pub fn to_output(&self, _index: usize, words: &[u32]) -> Vec<Vec<f64>> {
        let shape = self.shapes[self.len() - 1];
        match &self.logit_scales {
            LogitScales::Real => rows(words, shape, |word, _| f64::from(f32::from_bits(word))),
            LogitScales::Accumulators(scales) => {
                rows(words, shape, |word, channel| f64::from(word.cast_signed()) * scales[channel])
            }
        }
    }

    /// Every output of a finished batch: rows of each image.
    ///
    /// # Errors
    /// If the device failed.
    pub fn outputs(&self, images: usize) -> Result<Vec<Vec<Vec<f64>>>> {
        let read = |(index, (buffer, words))| Ok(self.to_output(index, &self.device.read(buffer, words)?));
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

impl Step {
    fn new(
        device: &Device,
        graph: &QuantizedGraph,
        node: &QNode,
        input: Option<Shape>,
        shape: Shape,
        max_images: usize,
    ) -> Result<Self> {
        let required = |q: Option<QParams>| q.ok_or_else(|| Error::bad("its output has no quantization parameters"));
        Ok(match &node.op {
            QOp::Input(_) => {
                let table = quantize_input::table(device, &graph.input.levels(), &required(node.output)?)?;
                Self::Input { table }
            }
            QOp::Conv(conv) => {
                Self::Conv { conv: IntConv::new(device, conv)?, output: levels(&required(node.output)?, node.relu) }
            }
            QOp::Linear(conv) => Self::Classifier(conv_i8::Weights::new(device, conv)?),
            QOp::GlobalAveragePool(multiplier) => {
                Self::Pool { multiplier: *multiplier, output: levels(&required(node.output)?, node.relu) }
            }
            QOp::Table(_) | QOp::Binary(_) | QOp::Pool { .. } | QOp::Rearrange(_) | QOp::Concat { .. } => {
                return Err(Error::bad("this operation cannot be run"));
            }
            QOp::Float(op) => {
                let inputs: Vec<Shape> = input.into_iter().collect();
                let layer = RealLayer::new(device, op, node.relu, &inputs)?;
                let words = |shape: Option<Shape>| max_images * shape.map_or(0, |s| float_words(&s));
                Self::Float {
                    layer,
                    stored: node.output,
                    x: device.alloc(words(input), "float input")?,
                    y: device.alloc(words(node.output.map(|_| shape)), "float output")?,
                }
            }
        })
    }
}

fn logit_scales(graph: &QuantizedGraph) -> Result<LogitScales> {
    let last = graph.nodes.last().ok_or_else(|| Error::bad("the graph is empty"))?;
    match &last.op {
        QOp::Float(_) => Ok(LogitScales::Real),
        QOp::Linear(conv) => {
            let input = last.inputs.first().and_then(|&i| graph.nodes[i].output);
            let input = input.ok_or_else(|| Error::bad("the classifier's input is not quantized"))?;
            let scales = conv.scale.iter().map(|s| f64::from(input.scale) * f64::from(*s)).collect();
            Ok(LogitScales::Accumulators(scales))
        }
        _ => Err(Error::bad(format!("the last layer, {}, is not a classifier", last.name))),
    }
}
