//! Calibration: the float network over the images, a tap on each activation.

use super::{Calibration, Collector};
use crate::Result;
use crate::device::Device;
use crate::exec::{FloatNet, Keep};
use crate::images::Batch;
use crate::model::{Graph, NodeId};
use crate::progress::{Event, Progress, Stage};

/// Runs `graph` over `batches` on `device` and counts every activation that is
/// [`stored`](Graph::stored). `total` is the number of images, for progress alone; `max_images` the
/// largest batch.
///
/// # Errors
/// A bad image, a NaN or infinity in an activation (named with its layer and image), or a failing
/// device.
pub fn calibrate(
    device: &Device,
    graph: &Graph,
    batches: &mut dyn Iterator<Item = Result<Batch>>,
    max_images: usize,
    total: Option<u64>,
    progress: &dyn Progress,
) -> Result<Calibration> {
    pollster::block_on(calibrate_async(device, graph, batches, max_images, total, progress))
}

/// As [`calibrate`], without blocking.
///
/// # Errors
/// As [`calibrate`].
pub(crate) async fn calibrate_async(
    device: &Device,
    graph: &Graph,
    batches: &mut dyn Iterator<Item = Result<Batch>>,
    max_images: usize,
    total: Option<u64>,
    progress: &dyn Progress,
) -> Result<Calibration> {
    progress.event(Event::Begin { stage: Stage::Calibrate, total });
    let net = FloatNet::new(device, graph, max_images, Keep::Last)?;
    let shapes = graph.shapes();
    let observed: Vec<NodeId> = graph.stored().iter().enumerate().filter_map(|(id, &on)| on.then_some(id)).collect();
    let end = observed.last().map_or(0, |&id| id + 1);
    let activations: Vec<_> = observed.iter().map(|&id| (graph.nodes[id].name.clone(), shapes[id])).collect();
    let mut collector = Collector::new(device, &activations)?;
    // Place of each node among the activations that are counted.
    let place: Vec<Option<usize>> = (0..end).map(|id| observed.binary_search(&id).ok()).collect();
    device.prepare(|rec| {
        place.iter().enumerate().try_for_each(|(node, place)| {
            let Some(index) = *place else { return net.record(rec, max_images, node) };
            net.record_observed(rec, max_images, node, collector.row(index))?;
            collector.rehearse(rec, index, max_images, net.activation(node))
        })
    })?;
    let mut images = 0;
    for batch in batches {
        let batch = match batch {
            Ok(batch) => batch,
            // What went wrong in an earlier batch is told before a bad image of this one.
            Err(error) => return collector.settle(device).await.and(Err(error)),
        };
        net.upload(&batch)?;
        let mut rec = device.recorder();
        for (node, place) in place.iter().enumerate() {
            let Some(index) = *place else {
                net.record(&mut rec, batch.count, node)?;
                continue;
            };
            net.record_observed(&mut rec, batch.count, node, collector.row(index))?;
            collector.record(&mut rec, index, batch.count, net.activation(node))?;
        }
        rec.submit()?;
        collector.end_batch(device, &batch.names).await?;
        images += batch.count as u64;
        progress.event(Event::Advance { stage: Stage::Calibrate, items: batch.count as u64 });
    }
    let activations = collector.finish(device).await?;
    progress.event(Event::End { stage: Stage::Calibrate });
    Ok(Calibration { model_digest: graph.digest(), preprocessing: graph.input.clone(), images, activations })
}
