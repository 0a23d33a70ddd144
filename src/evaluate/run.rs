//! The networks on a device: a batch runs through all of them, and its results are read back once.

use super::evaluation::Evaluation;
use super::fidelity::Fidelity;
use crate::Result;
use crate::device::{Buffer, Device, Readback, Recorder};
use crate::exec::{FloatNet, Int8Net, Keep};
use crate::images::{Batch, Content};
use crate::kernels::statistics::Extent;
use crate::kernels::statistics::error_sums::{self, ErrorSums};
use crate::model::{Activation, Graph, GraphOutput, NodeId, Op, QuantizedGraph};
use crate::quantize::rescaled;

/// A quantized network to be measured.
#[derive(Debug, Clone, Copy)]
pub struct Contender<'a> {
    /// What the report calls it.
    pub name: &'a str,
    /// The network.
    pub graph: &'a QuantizedGraph,
    /// Whether each layer's activation is compared with the float one.
    pub layers: bool,
}

/// The networks that run side by side.
pub(super) struct Networks<'a> {
    device: &'a Device,
    float: Option<(FloatNet<'a>, &'a [GraphOutput])>,
    runners: Vec<Runner<'a>>,
}

/// A contender on the device.
struct Runner<'a> {
    net: Int8Net<'a>,
    graph: &'a QuantizedGraph,
    /// The nodes that are compared, those whose activation is stored, and the partial sums of each.
    sums: Vec<(NodeId, Buffer)>,
}

/// A batch whose results may not be there yet.
pub(super) struct Submitted {
    batch: Batch,
    readback: Readback,
}

impl<'a> Networks<'a> {
    /// Uploads the networks for batches of up to `max_images`, and compiles what they need.
    pub(super) fn new(
        device: &'a Device,
        float: Option<&'a Graph>,
        contenders: &'a [Contender<'a>],
        max_images: usize,
    ) -> Result<Self> {
        // Layers are compared in the units of the first contender that is compared so.
        let reference: Vec<&[u8]> = contenders.iter().find(|contender| contender.layers).map_or_else(Vec::new, units);
        let runner = |contender: &'a Contender<'a>| {
            let compared =
                float.filter(|_| contender.layers).map_or_else(Vec::new, |float| compared(float, contender.graph));
            let compared = compared.into_iter().filter(|&id| units(contender)[id] == reference[id]);
            let sums = compared.map(|id| Ok((id, device.alloc(error_sums::SUM_WORDS, "error sums")?)));
            let net = Int8Net::new(device, contender.graph, max_images, Keep::Last)?;
            Ok(Runner { sums: sums.collect::<Result<_>>()?, net, graph: contender.graph })
        };
        let runners = contenders.iter().map(runner).collect::<Result<_>>()?;
        let new = |graph: &'a Graph| {
            let exponents: Vec<Vec<u8>> = reference.iter().map(|units| units.to_vec()).collect();
            let net = if exponents.iter().all(Vec::is_empty) {
                FloatNet::new(device, graph, max_images, Keep::Last)?
            } else {
                FloatNet::new(device, &rescaled(graph, &exponents)?, max_images, Keep::Last)?
            };
            Ok((net, graph.outputs.as_slice()))
        };
        let float = float.map(new).transpose()?;
        let networks = Self { device, float, runners };
        device.prepare(|rec| networks.record(rec, max_images))?;
        Ok(networks)
    }

    /// Hands a batch to the device. It does not wait.
    pub(super) fn submit(&self, mut batch: Batch) -> Result<Submitted> {
        match &self.float {
            Some((net, _)) => net.upload(&batch)?,
            None => self.runners.iter().try_for_each(|runner| runner.net.upload(&batch))?,
        }
        let mut rec = self.device.recorder();
        self.record(&mut rec, batch.count)?;
        rec.submit()?;
        let mut parts: Vec<(&Buffer, usize)> =
            self.float.iter().flat_map(|(net, _)| net.output_words(batch.count)).collect();
        for runner in &self.runners {
            parts.extend(runner.net.output_words(batch.count));
            parts.extend(runner.sums.iter().map(|(_, sums)| (sums, error_sums::SUM_WORDS)));
        }
        batch.content = Content::Pixels(Vec::new());
        Ok(Submitted { readback: self.device.begin_read(&parts)?, batch })
    }

    /// Waits for a batch and adds what it gave to `results`: the float network's entry first, where
    /// there is one, then one for each contender. Returns its number of images.
    pub(super) async fn finish(&self, submitted: Submitted, results: &mut [Evaluation]) -> Result<u64> {
        let Submitted { batch, readback } = submitted;
        let mut words = self.device.finish_read(readback).await?.into_iter();
        let mut next = || words.next().unwrap_or_default();
        let float = self
            .float
            .as_ref()
            .map(|(net, outputs)| (0..outputs.len()).map(|index| net.to_output(index, &next())).collect::<Vec<_>>());
        let (own, rest) = results.split_at_mut(usize::from(self.float.is_some()));
        if let (Some(found), Some((_, outputs)), Some(own)) = (&float, &self.float, own.first_mut()) {
            own.add(&batch, outputs, found, Some(found))?;
        }
        for (runner, result) in self.runners.iter().zip(rest) {
            let outputs = &runner.graph.outputs;
            let found: Vec<_> = (0..outputs.len()).map(|index| runner.net.to_output(index, &next())).collect();
            result.add(&batch, outputs, &found, float.as_deref())?;
            for (place, (node, _)) in runner.sums.iter().enumerate() {
                if result.layers.len() <= place {
                    result.layers.push((runner.graph.nodes[*node].name.clone(), Fidelity::default()));
                }
                result.layers[place].1.add_sums(error_sums::total(&next()));
            }
        }
        Ok(batch.count as u64)
    }

    /// Records all networks in step, so that a layer's float and int8 activations exist at the same
    /// time.
    fn record(&self, rec: &mut Recorder<'_>, images: usize) -> Result<()> {
        let float = self.float.as_ref().map(|(net, _)| net);
        let nodes = float.map_or(0, FloatNet::len).max(self.runners.iter().map(|r| r.net.len()).max().unwrap_or(0));
        for node in 0..nodes {
            if let Some(net) = float {
                net.record(rec, images, node)?;
            }
            for runner in &self.runners {
                // With a float network the batch was uploaded to it, and the caller has checked
                // that all take the same images.
                match float {
                    Some(float) => runner.net.record_from(rec, images, node, float.source())?,
                    None => runner.net.record(rec, images, node)?,
                }
                let sums =
                    runner.sums.binary_search_by_key(&node, |(id, _)| *id).ok().map(|place| &runner.sums[place].1);
                let (Some(float), Some(sums)) = (float, sums) else { continue };
                let extent = Extent { images, shape: runner.net.shape(node) };
                let qparams = runner.graph.nodes[node].output.map(|q| (q.scale, q.zero_point));
                let (y, other) = (float.activation(node), runner.net.activation(node));
                rec.run(&ErrorSums { extent, qparams, y, other, sums })?;
            }
        }
        Ok(())
    }
}

/// The exponents of each activation's channels.
fn units<'a>(contender: &'a Contender<'a>) -> Vec<&'a [u8]> {
    contender.graph.nodes.iter().map(|node| node.exponents.as_slice()).collect()
}

/// The nodes whose activations can be compared: those stored as levels, but one that only a clip
/// reads may be stored as the clip's result.
fn compared(float: &Graph, quantized: &QuantizedGraph) -> Vec<NodeId> {
    let clipped = |id: NodeId| {
        let mut readers = float.nodes.iter().filter(|node| node.inputs.contains(&id));
        matches!(readers.next(), Some(node) if matches!(node.op, Op::Activation(Activation::Clip { .. })))
            && readers.next().is_none()
    };
    let stored = quantized.nodes.iter().enumerate().filter(|(_, node)| node.output.is_some());
    stored.map(|(id, _)| id).filter(|&id| !clipped(id)).collect()
}
