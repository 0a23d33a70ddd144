//! Evaluation: networks side by side over the same images, in one pass.

mod accuracy;
mod fidelity;
mod run;

pub use accuracy::{Accuracy, rank, top1};
pub use fidelity::{Fidelity, OutputFidelity};

use std::collections::VecDeque;

use run::Networks;

use crate::device::Device;
use crate::exec;
use crate::images::Batch;
use crate::model::{Graph, Output, QuantizedGraph, class_count};
use crate::progress::{Event, Progress, Stage};
use crate::{Error, Result};

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

/// What was measured of one network.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// What the report calls it.
    pub name: String,
    /// Images seen.
    pub images: u64,
    /// Right answers, where labels are known.
    pub accuracy: Accuracy,
    /// Images on which the first class is that of the float network; none without one.
    pub agreement: Option<u64>,
    /// Each output against that of the float network, in the network's order; empty without one.
    pub outputs: Vec<OutputFidelity>,
    /// Each activation against the float one, by name, where it was asked for.
    pub layers: Vec<(String, Fidelity)>,
}

/// One row of values for each image.
type Rows = Vec<Vec<f64>>;

impl Evaluation {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            images: 0,
            accuracy: Accuracy::default(),
            agreement: None,
            outputs: Vec::new(),
            layers: Vec::new(),
        }
    }

    /// Agreement with the float network as a fraction.
    pub fn agreement_fraction(&self) -> Option<f64> {
        self.agreement.map(|count| count as f64 / self.images.max(1) as f64)
    }

    /// The logits against those of the float network; none without one, or where the network is no
    /// classifier.
    pub fn logits(&self) -> Option<Fidelity> {
        self.agreement.and(self.outputs.first()).map(|output| output.fidelity)
    }

    /// Adds a batch: `found` holds the rows of each output, `float` those of the float network.
    fn add(&mut self, batch: &Batch, outputs: &[Output], found: &[Rows], float: Option<&[Rows]>) -> Result<()> {
        let finite = |row: &Vec<f64>| row.iter().all(|v| v.is_finite());
        for (output, rows) in outputs.iter().zip(found) {
            let Some(i) = rows.iter().position(|row| !finite(row)) else { continue };
            let what = if class_count(outputs).is_some() { "a logit" } else { "an output" };
            let image = batch.names.get(i).map_or("an image", String::as_str);
            let error = Error::bad(format!("{what} is NaN or infinite"));
            let error = if class_count(outputs).is_some() { error } else { error.at(&output.name) };
            return Err(error.at(&self.name).at(image).hint("check the checkpoint, and the mean and std of the input"));
        }
        self.images += batch.count as u64;
        if let Some(float) = float {
            if self.outputs.is_empty() {
                self.outputs = outputs.iter().map(|output| OutputFidelity::new(&output.name)).collect();
            }
            for ((output, rows), float) in self.outputs.iter_mut().zip(found).zip(float) {
                rows.iter().zip(float).for_each(|(row, float)| output.add(float, row));
            }
        }
        match (class_count(outputs), found) {
            (Some(_), [logits]) => self.add_logits(batch, logits, float.and_then(|float| float.first())),
            _ => Ok(()),
        }
    }

    fn add_logits(&mut self, batch: &Batch, logits: &Rows, float: Option<&Rows>) -> Result<()> {
        for (row, label) in logits.iter().zip(&batch.labels) {
            let Some(label) = *label else { continue };
            if label >= row.len() {
                return Err(Error::bad(format!("class number {label}, but the network has {} classes", row.len()))
                    .hint("the folder or the labels file has more classes than the model"));
            }
            self.accuracy.add(row, label);
        }
        if let Some(float) = float {
            let agreed = logits.iter().zip(float).filter(|(a, b)| top1(a) == top1(b)).count() as u64;
            *self.agreement.get_or_insert(0) += agreed;
        }
        Ok(())
    }
}

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
