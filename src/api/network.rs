//! Networks on a device, batch after batch.

use ndarray::{ArrayD, IxDyn};

use super::images::Feed;
use crate::device::Device;
use crate::exec::{FloatNet, Int8Net};
use crate::images::Batch;
use crate::report::NetworkOutput;
use crate::{Error, Result};

/// A network on a device.
pub(super) enum Network<'d> {
    Float(&'d Device, FloatNet<'d>),
    Int8(&'d Device, Int8Net<'d>),
}

impl Network<'_> {
    /// Runs a batch: for each output, a row for each image.
    fn outputs(&self, batch: &Batch) -> Result<Vec<Vec<Vec<f64>>>> {
        match self {
            Self::Float(device, net) => {
                net.upload(batch)?;
                let mut recorder = device.recorder();
                (0..net.len()).try_for_each(|node| net.record(&mut recorder, batch.count, node))?;
                recorder.submit()?;
                net.outputs(batch.count)
            }
            Self::Int8(device, net) => {
                net.upload(batch)?;
                let mut recorder = device.recorder();
                (0..net.len()).try_for_each(|node| net.record(&mut recorder, batch.count, node))?;
                recorder.submit()?;
                net.outputs(batch.count)
            }
        }
    }
}

/// Runs every batch: for each, an array for each of `outputs`, images × the output's sides. After
/// an error it ends.
pub(super) fn batch_outputs<'d>(
    network: Network<'d>,
    batches: Feed<'d>,
    outputs: Vec<NetworkOutput>,
) -> impl Iterator<Item = Result<Vec<ArrayD<f64>>>> + use<'d> {
    let mut failed = false;
    let run = move |batch: Result<Batch>| {
        let batch = batch?;
        let found = network.outputs(&batch)?;
        found.into_iter().zip(&outputs).map(|(rows, output)| array(&rows, &output.sides)).collect()
    };
    batches.map(run).take_while(move |result: &Result<_>| !std::mem::replace(&mut failed, result.is_err()))
}

fn array(rows: &[Vec<f64>], sides: &[usize]) -> Result<ArrayD<f64>> {
    let shape: Vec<usize> = std::iter::once(rows.len()).chain(sides.iter().copied()).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), rows.concat())
        .map_err(|e| Error::bad("an output has another size than the network says").because(e))
}
