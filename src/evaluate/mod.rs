//! Evaluation: networks side by side over the same images, in one pass.

mod accuracy;
mod fidelity;

pub use accuracy::{Accuracy, rank, top1};
pub use fidelity::Fidelity;

use crate::exec::{FloatNet, Int8Net, Keep};
use crate::gpu::{Buffer, Device};
use crate::images::Batch;
use crate::kernels::{Extent, error_sums};
use crate::model::{Graph, QuantizedGraph};
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
    /// The logits against those of the float network; none without one.
    pub logits: Option<Fidelity>,
    /// Each activation against the float one, by name, where it was asked for.
    pub layers: Vec<(String, Fidelity)>,
}

impl Evaluation {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            images: 0,
            accuracy: Accuracy::default(),
            agreement: None,
            logits: None,
            layers: Vec::new(),
        }
    }

    /// Agreement with the float network as a fraction.
    pub fn agreement_fraction(&self) -> Option<f64> {
        self.agreement.map(|count| count as f64 / self.images.max(1) as f64)
    }

    fn add(&mut self, batch: &Batch, logits: &[Vec<f64>], float: Option<&[Vec<f64>]>) -> Result<()> {
        let finite = |row: &Vec<f64>| row.iter().all(|v| v.is_finite());
        if let Some(i) = logits.iter().position(|row| !finite(row)) {
            let image = batch.names.get(i).map_or("an image", String::as_str);
            return Err(Error::bad("a logit is NaN or infinite")
                .at(&self.name)
                .at(image)
                .hint("check the checkpoint, and the mean and std of the input"));
        }
        self.images += batch.count as u64;
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
            let fidelity = self.logits.get_or_insert_default();
            for (row, float) in logits.iter().zip(float) {
                fidelity.add(float, row);
            }
        }
        Ok(())
    }
}

/// A contender on the device.
struct Runner<'a> {
    net: Int8Net<'a>,
    graph: &'a QuantizedGraph,
    /// Partial sums of each node that is compared, one buffer a node.
    sums: Vec<Buffer>,
}

/// Runs the float network, where there is one, and every contender over `batches`, and compares them. The first entry
/// of the result is the float network's (named `float32`), the others follow in order.
///
/// # Errors
/// A bad image, a label outside the classes, a contender made from another network, or a failing device.
pub fn evaluate(
    device: &Device,
    float: Option<&Graph>,
    contenders: &[Contender<'_>],
    batches: &mut dyn Iterator<Item = Result<Batch>>,
    max_images: usize,
    total: Option<u64>,
    progress: &dyn Progress,
) -> Result<Vec<Evaluation>> {
    progress.event(Event::Begin { stage: Stage::Evaluate, total });
    let float_net = float.map(|graph| FloatNet::new(device, graph, max_images, Keep::Last)).transpose()?;
    let digest = float.map(Graph::digest);
    let mut runners = Vec::new();
    for contender in contenders {
        check_pair(float.zip(digest.as_deref()), contender)?;
        let compared = if contender.layers && float.is_some() { contender.graph.nodes.len() - 1 } else { 0 };
        let sums = (0..compared).map(|_| device.alloc(error_sums::SUM_WORDS, "error sums")).collect::<Result<_>>()?;
        let net = Int8Net::new(device, contender.graph, max_images, Keep::Last)?;
        runners.push(Runner { net, graph: contender.graph, sums });
    }
    let mut results: Vec<Evaluation> = float.iter().map(|_| Evaluation::new("float32")).collect();
    results.extend(contenders.iter().map(|c| Evaluation::new(c.name)));
    for batch in batches {
        let batch = batch?;
        run_batch(device, &batch, float_net.as_ref(), &runners)?;
        let float_logits = float_net.as_ref().map(|net| net.logits(batch.count)).transpose()?;
        let (own, rest) = results.split_at_mut(usize::from(float_net.is_some()));
        if let (Some(logits), Some(own)) = (&float_logits, own.first_mut()) {
            own.add(&batch, logits, Some(logits))?;
        }
        for (runner, result) in runners.iter().zip(rest) {
            result.add(&batch, &runner.net.logits(batch.count)?, float_logits.as_deref())?;
            for (node, sums) in runner.sums.iter().enumerate() {
                let words = device.read(sums, error_sums::SUM_WORDS)?;
                if result.layers.len() <= node {
                    result.layers.push((runner.graph.nodes[node].name.clone(), Fidelity::default()));
                }
                result.layers[node].1.add_sums(error_sums::total(&words));
            }
        }
        progress.event(Event::Advance { stage: Stage::Evaluate, items: batch.count as u64 });
    }
    progress.event(Event::End { stage: Stage::Evaluate });
    Ok(results)
}

/// Records all networks in step, so that a layer's float and int8 activations exist at the same time.
fn run_batch(device: &Device, batch: &Batch, float: Option<&FloatNet<'_>>, runners: &[Runner<'_>]) -> Result<()> {
    let mut rec = device.recorder();
    if let Some(net) = float {
        net.upload(batch)?;
    }
    for runner in runners {
        runner.net.upload(batch)?;
    }
    let nodes = float.map_or(0, FloatNet::len).max(runners.iter().map(|r| r.net.len()).max().unwrap_or(0));
    for node in 0..nodes {
        if let Some(net) = float {
            net.record(&mut rec, batch.count, node)?;
        }
        for runner in runners {
            runner.net.record(&mut rec, batch.count, node)?;
            let (Some(float), Some(sums)) = (float, runner.sums.get(node)) else { continue };
            let extent = Extent { images: batch.count, shape: runner.net.shape(node) };
            let levels = runner.graph.nodes[node].output.map(|q| (q.scale, q.zero_point));
            let (y, other) = (float.activation(node), runner.net.activation(node));
            error_sums::dispatch(&mut rec, &extent, levels, y, other, sums)?;
        }
    }
    rec.submit()
}

/// A contender is compared layer by layer, so it must come from the very network (and its digest) that it is
/// compared with.
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
