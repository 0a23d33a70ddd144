//! Evaluation: networks side by side over the same images, in one pass.

mod accuracy;
mod evaluation;
mod fidelity;
mod output;
mod parts;
mod run;

pub(crate) use accuracy::top1;
pub(crate) use evaluation::Evaluation;
pub use fidelity::Fidelity;
pub(crate) use output::OutputFidelity;
pub(crate) use parts::Part;
pub use run::Contender;

use std::collections::VecDeque;

use run::Networks;

use crate::device::Device;
use crate::exec;
use crate::images::Batch;
use crate::model::Graph;
use crate::progress::{Event, Progress, Stage};
use crate::{Error, Result};

/// Runs the float network, where there is one, and every contender over `batches`, and compares
/// them. The first entry of the result is the float network's (named `float32`), the others follow
/// in order.
///
/// # Errors
/// A bad image, a label outside the classes, a contender made from another network, or a failing
/// device.
pub fn evaluate(
    device: &Device,
    float: Option<&Graph>,
    contenders: &[Contender<'_>],
    batches: &mut dyn Iterator<Item = Result<Batch>>,
    max_images: usize,
    total: Option<u64>,
    progress: &dyn Progress,
) -> Result<Vec<Evaluation>> {
    pollster::block_on(evaluate_async(device, float, contenders, batches, max_images, total, progress))
}

/// As [`evaluate`], without blocking.
///
/// # Errors
/// As [`evaluate`].
pub(crate) async fn evaluate_async(
    device: &Device,
    float: Option<&Graph>,
    contenders: &[Contender<'_>],
    batches: &mut dyn Iterator<Item = Result<Batch>>,
    max_images: usize,
    total: Option<u64>,
    progress: &dyn Progress,
) -> Result<Vec<Evaluation>> {
    progress.event(Event::Begin { stage: Stage::Evaluate, total });
    let digest = float.map(Graph::digest);
    for contender in contenders {
        check_pair(float.zip(digest.as_deref()), contender)?;
    }
    let networks = Networks::new(device, float, contenders, max_images)?;
    let mut results: Vec<Evaluation> = float.iter().map(|_| Evaluation::new("float32")).collect();
    results.extend(contenders.iter().map(|c| Evaluation::new(c.name)));
    let mut submitted = VecDeque::new();
    let most = exec::batches_in_flight(device);
    loop {
        let next = batches.next();
        let going_on = matches!(next, Some(Ok(_)));
        let failed = match next {
            Some(Ok(batch)) => {
                submitted.push_back(networks.submit(batch)?);
                None
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        // At the end all are waited for: what went wrong in an earlier batch is told before a bad
        // image of a later one.
        while submitted.len() >= if going_on { most } else { 1 } {
            let Some(first) = submitted.pop_front() else { break };
            let items = networks.finish(first, &mut results).await?;
            progress.event(Event::Advance { stage: Stage::Evaluate, items });
        }
        match failed {
            Some(error) => return Err(error),
            None if going_on => {}
            None => break,
        }
    }
    progress.event(Event::End { stage: Stage::Evaluate });
    Ok(results)
}

/// A contender is compared layer by layer, so it must come from the very network (and its digest)
/// that it is compared with.
fn check_pair(float: Option<(&Graph, &str)>, contender: &Contender<'_>) -> Result<()> {
    match float {
        Some((graph, digest)) if digest != contender.graph.source_digest => {
            Err(Error::bad(format!("{} was not made from {}: their weights differ", contender.name, graph.name))
                .hint("give the float model that the quantized one was made from"))
        }
        Some((graph, _)) if graph.input != contender.graph.input => {
            Err(Error::bad(format!("{} and {} take different inputs (size, mean or std)", contender.name, graph.name))
                .hint("describe the float model as it was when the quantized one was made"))
        }
        Some((graph, _)) if graph.shapes() != contender.graph.shapes() => {
            Err(Error::bad(format!("{} and {} have different layers", contender.name, graph.name)))
        }
        _ => Ok(()),
    }
}
