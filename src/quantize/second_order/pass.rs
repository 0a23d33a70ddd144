//! The float network and the network quantized so far over the calibration images, layer by layer.
//!
//! The images lie in memory, and so does of each batch what later layers still read of both networks,
//! within a budget; what does not fit is computed again from the images. Each node then runs once for
//! a batch and a network, or, beyond the budget, once for each layer that comes after it.

use std::ops::Range;

use crate::Result;
use crate::device::{Buffer, Device};
use crate::exec::{FloatNet, Int8Net, Keep};
use crate::images::Batch;
use crate::model::{Graph, NodeId, QuantizedGraph};

/// Both networks, and how far they are with each batch.
pub(super) struct Pass<'d> {
    device: &'d Device,
    float: FloatNet<'d>,
    int8: Int8Net<'d>,
    batches: Vec<Queued>,
    /// Whether a layer reads each node's activation, directly or by way of others; the rest need not
    /// run.
    needed: Vec<bool>,
    /// The last node that reads each node's activation.
    read_until: Vec<NodeId>,
    /// Words that may still be kept.
    room: usize,
}

/// A batch, and its activations that are kept.
struct Queued {
    batch: Batch,
    /// The first node that did not run.
    next: NodeId,
    kept: Vec<Kept>,
}

/// A node's activation in both networks, as words.
struct Kept {
    node: NodeId,
    float: Vec<u32>,
    int8: Vec<u32>,
}

impl Kept {
    fn words(&self) -> usize {
        self.float.len() + self.int8.len()
    }
}

impl<'d> Pass<'d> {
    /// Makes both networks ready for batches of up to `max_images`, of whose activations `room` words
    /// are kept. `layers` are those whose input will be asked for.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub(super) fn new(
        device: &'d Device,
        graph: &Graph,
        quantized: &QuantizedGraph,
        layers: &[NodeId],
        batches: Vec<Batch>,
        [max_images, room]: [usize; 2],
    ) -> Result<Self> {
        let count = graph.nodes.len();
        let (mut needed, mut read_until) = (vec![false; count], vec![0; count]);
        for &layer in layers {
            graph.nodes[layer].inputs.iter().for_each(|&input| needed[input] = true);
        }
        for (id, node) in graph.nodes.iter().enumerate().rev() {
            for &input in &node.inputs {
                needed[input] |= needed[id];
                if needed[id] || layers.contains(&id) {
                    read_until[input] = read_until[input].max(id);
                }
            }
        }
        Ok(Self {
            device,
            float: FloatNet::new(device, graph, max_images, Keep::Last)?,
            int8: Int8Net::new(device, quantized, max_images, Keep::Last)?,
            batches: batches.into_iter().map(|batch| Queued { batch, next: 0, kept: Vec::new() }).collect(),
            needed,
            read_until,
            room,
        })
    }

    /// Gives the activation of `input` in both networks, where it lies, for each batch in turn: the
    /// number of its images, the float network's buffer and the other's. All nodes before `layer` have
    /// run then, in the graph as it is now; layers come in the order of the graph.
    ///
    /// # Errors
    /// If the device failed, or those of `take`.
    pub(super) fn inputs(
        &mut self,
        layer: NodeId,
        input: NodeId,
        mut take: impl FnMut(usize, &Buffer, &Buffer) -> Result<()>,
    ) -> Result<()> {
        for index in 0..self.batches.len() {
            let queued = &mut self.batches[index];
            let (first, before) = (std::mem::take(&mut queued.next), std::mem::take(&mut queued.kept));
            self.room += before.iter().map(Kept::words).sum::<usize>();
            let batch = &self.batches[index].batch;
            self.run(batch, first..layer, &before)?;
            drop(before);
            take(batch.count, self.float.activation(input), self.int8.activation(input))?;
            let wanted: Vec<NodeId> =
                (0..layer).filter(|&node| self.needed[node] && self.read_until[node] >= layer).collect();
            let words = |&node: &NodeId| self.float.words(node, batch.count) + self.int8.words(node, batch.count);
            let words = wanted.iter().map(words).sum::<usize>();
            if words <= self.room {
                let read = |node| {
                    let (float, int8) = (self.float.read(node, batch.count)?, self.int8.read(node, batch.count)?);
                    Ok(Kept { node, float, int8 })
                };
                let kept = wanted.into_iter().map(read).collect::<Result<_>>()?;
                self.room -= words;
                let queued = &mut self.batches[index];
                (queued.next, queued.kept) = (layer, kept);
            }
        }
        Ok(())
    }

    /// Runs a layer, and after it the nodes of `behind`, which read one another in turn, in both networks
    /// for each batch, and gives what the last one gives: a row of real values for each image, channel
    /// by channel, of the float network and of the other as it is now. [`Pass::inputs`] was asked for
    /// the layer before, and no layer before it was replaced since.
    ///
    /// # Errors
    /// If the device failed, or those of `take`.
    pub(super) fn outputs(
        &self,
        layer: NodeId,
        behind: &[NodeId],
        mut take: impl FnMut(Vec<Vec<f64>>, Vec<Vec<f64>>) -> Result<()>,
    ) -> Result<()> {
        let last = behind.last().copied().unwrap_or(layer);
        for Queued { batch, next, kept } in &self.batches {
            self.run(batch, *next..layer, kept)?;
            let mut rec = self.device.recorder();
            for node in std::iter::once(layer).chain(behind.iter().copied()) {
                self.float.record(&mut rec, batch.count, node)?;
                self.int8.record_from(&mut rec, batch.count, node, self.float.source())?;
            }
            rec.submit()?;
            take(self.float.real_values(last, batch.count)?, self.int8.real_values(last, batch.count)?)?;
        }
        Ok(())
    }

    /// Runs nodes of both networks for a batch, after what the nodes before them gave.
    fn run(&self, batch: &Batch, nodes: Range<NodeId>, before: &[Kept]) -> Result<()> {
        if nodes.start == 0 {
            self.float.upload(batch)?;
        }
        for Kept { node, float, int8 } in before {
            self.float.write(*node, float)?;
            self.int8.write(*node, int8)?;
        }
        let mut rec = self.device.recorder();
        for node in nodes.filter(|&node| self.needed[node]) {
            self.float.record(&mut rec, batch.count, node)?;
            self.int8.record_from(&mut rec, batch.count, node, self.float.source())?;
        }
        rec.submit()
    }

    /// Takes over a node of `quantized` that has changed.
    ///
    /// # Errors
    /// If it contradicts itself, or the device has no memory left.
    pub(super) fn replace(&mut self, quantized: &QuantizedGraph, node: NodeId) -> Result<()> {
        self.int8.replace(quantized, node)
    }
}
