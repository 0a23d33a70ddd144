//! The float network over the images, and what comes behind each change of it.

use std::collections::VecDeque;

use crate::device::{Device, Readback};
use crate::error::{Error, Result};
use crate::exec::{self, Change, Changed};
use crate::images::Batch;
use crate::model::{Graph, NodeId};

use super::effect::Effect;

/// The float network on a device, and the images.
pub(super) struct Bench<'a> {
    pub(super) device: &'a Device,
    pub(super) graph: &'a Graph,
    batches: &'a [Batch],
    net: Changed<'a>,
}

/// A change whose results may not be there yet.
struct Submitted {
    layer: usize,
    change: usize,
    /// The outputs that are read.
    outputs: Vec<usize>,
    readback: Readback,
}

/// The rows of an output.
type Rows = Vec<Vec<f64>>;

impl<'a> Bench<'a> {
    /// Makes the network ready for changes at `nodes`.
    ///
    /// # Errors
    /// If the device has not enough memory; names the layer.
    pub(super) fn new(
        device: &'a Device,
        graph: &'a Graph,
        batches: &'a [Batch],
        max_images: usize,
        nodes: &[NodeId],
    ) -> Result<Self> {
        let net = Changed::new(device, graph, max_images, nodes)?;
        Ok(Self { device, graph, batches, net })
    }

    /// What each change of each layer costs. `done` is told of every layer in every batch.
    ///
    /// # Errors
    /// An output that is NaN or infinite (the layer is named), or a device that failed.
    pub(super) fn measure(&self, layers: &[Vec<Change>], mut done: impl FnMut()) -> Result<Vec<Vec<Effect>>> {
        let none = |changes: &Vec<Change>| changes.iter().map(|_| Effect::new(self.graph)).collect();
        let mut effects: Vec<Vec<Effect>> = layers.iter().map(none).collect();
        if let Some(most) = self.batches.iter().map(|batch| batch.count).max() {
            self.device.prepare(|rec| {
                self.net.record(rec, most)?;
                layers.iter().flatten().try_for_each(|change| self.net.record_change(rec, most, change))
            })?;
        }
        let most = exec::batches_in_flight(self.device);
        for batch in self.batches.iter().filter(|batch| batch.count > 0) {
            let before = self.unchanged(batch)?;
            let mut submitted: VecDeque<Submitted> = VecDeque::new();
            for (layer, changes) in layers.iter().enumerate() {
                for (place, change) in changes.iter().enumerate() {
                    submitted.push_back(self.submit(batch, layer, place, change)?);
                    if submitted.len() >= most {
                        self.finish(&mut submitted, &before, layers, &mut effects)?;
                    }
                }
                done();
            }
            while !submitted.is_empty() {
                self.finish(&mut submitted, &before, layers, &mut effects)?;
            }
        }
        Ok(effects)
    }

    /// Runs the network as it is: the rows of each output.
    fn unchanged(&self, batch: &Batch) -> Result<Vec<Rows>> {
        self.net.upload(batch)?;
        let mut rec = self.device.recorder();
        self.net.record(&mut rec, batch.count)?;
        rec.submit()?;
        let readback = self.device.begin_read(&self.net.output_words(batch.count))?;
        let words = pollster::block_on(self.device.finish_read(readback))?;
        let rows: Vec<Rows> = words.iter().enumerate().map(|(index, words)| self.net.to_output(index, words)).collect();
        for (rows, output) in rows.iter().zip(&self.graph.outputs) {
            if let Some(image) = rows.iter().position(|row| !finite(row)) {
                let name = batch.names.get(image).map_or("an image", String::as_str);
                return Err(Error::bad("an output is NaN or infinite")
                    .at(&output.name)
                    .at(name)
                    .hint("check the checkpoint, and the mean and std of the input"));
            }
        }
        Ok(rows)
    }

    fn submit(&self, batch: &Batch, layer: usize, place: usize, change: &Change) -> Result<Submitted> {
        let mut rec = self.device.recorder();
        self.net.record_change(&mut rec, batch.count, change)?;
        rec.submit()?;
        let read = self.net.changed_words(batch.count, change);
        let outputs = read.iter().map(|(output, ..)| *output).collect();
        let buffers: Vec<_> = read.into_iter().map(|(_, buffer, words)| (buffer, words)).collect();
        Ok(Submitted { layer, change: place, outputs, readback: self.device.begin_read(&buffers)? })
    }

    /// Waits for the first of those submitted, and adds what it gave.
    fn finish(
        &self,
        submitted: &mut VecDeque<Submitted>,
        before: &[Rows],
        layers: &[Vec<Change>],
        effects: &mut [Vec<Effect>],
    ) -> Result<()> {
        let Some(Submitted { layer, change, outputs, readback }) = submitted.pop_front() else { return Ok(()) };
        let words = pollster::block_on(self.device.finish_read(readback))?;
        let mut after: Vec<Option<Rows>> = vec![None; before.len()];
        for (output, words) in outputs.into_iter().zip(words) {
            let rows = self.net.to_output(output, &words);
            if !rows.iter().all(|row| finite(row)) {
                let name = &self.graph.nodes[layers[layer][change].node()].name;
                return Err(Error::bad("quantized, it makes an output NaN or infinite").at(format!("layer {name}")));
            }
            after[output] = Some(rows);
        }
        effects[layer][change].add(before, &after);
        Ok(())
    }
}

fn finite(row: &[f64]) -> bool {
    row.iter().all(|v| v.is_finite())
}
