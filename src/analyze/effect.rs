//! What the outputs of a network lose by a change.

use crate::evaluate::{OutputFidelity, top1};
use crate::model::{Graph, class_count};

/// What the outputs of a network lose by a change, over the images seen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Effect {
    /// Each output against itself without the change.
    pub(crate) outputs: Vec<OutputFidelity>,
    /// Images seen.
    pub(crate) images: u64,
    /// Those whose first class stayed; none where the network is no classifier.
    agreed: Option<u64>,
}

impl Effect {
    /// Nothing seen yet.
    pub(super) fn new(graph: &Graph) -> Self {
        let agreed = class_count(&graph.outputs).map(|_| 0);
        Self { outputs: graph.outputs.iter().map(OutputFidelity::new).collect(), images: 0, agreed }
    }

    /// Adds a batch: the rows of each output without the change, and of those that it reaches with it.
    pub(super) fn add(&mut self, before: &[Vec<Vec<f64>>], after: &[Option<Vec<Vec<f64>>>]) {
        for ((output, before), after) in self.outputs.iter_mut().zip(before).zip(after) {
            for (image, row) in before.iter().enumerate() {
                output.add(row, after.as_ref().map_or(row, |after| &after[image]));
            }
        }
        let (Some(logits), Some(agreed)) = (before.first(), &mut self.agreed) else {
            self.images += before.first().map_or(0, Vec::len) as u64;
            return;
        };
        self.images += logits.len() as u64;
        *agreed += match after.first() {
            Some(Some(after)) => logits.iter().zip(after).filter(|(a, b)| top1(a) == top1(b)).count() as u64,
            _ => logits.len() as u64,
        };
    }

    /// Agreement as a fraction; none where the network is no classifier.
    pub(crate) fn agreement(&self) -> Option<f64> {
        self.agreed.map(|agreed| agreed as f64 / self.images.max(1) as f64)
    }

    /// The least SQNR of its outputs, in decibels, and of their parts where one holds several things;
    /// none where nothing was lost.
    pub(crate) fn least_db(&self) -> Option<f64> {
        self.outputs.iter().filter_map(least_db).min_by(f64::total_cmp)
    }

    /// Noise over signal where that is worst: the least SQNR, not in decibels; 0 where nothing was
    /// lost.
    pub(crate) fn noise(&self) -> f64 {
        self.least_db().map_or(0.0, |db| 10f64.powf(-db / 10.0))
    }
}

/// The least SQNR of an output and of its parts, in decibels.
pub(crate) fn least_db(output: &OutputFidelity) -> Option<f64> {
    let parts = output.parts.worst();
    parts.first().map(|part| part.sqnr_db).into_iter().chain(output.fidelity.sqnr_db()).min_by(f64::total_cmp)
}

/// The mean over the parts of an output that holds several things, in decibels; else that of all of
/// it.
pub(crate) fn mean_db(output: &OutputFidelity) -> Option<f64> {
    let parts = output.parts.worst();
    if parts.is_empty() {
        return output.fidelity.sqnr_db();
    }
    Some(parts.iter().map(|part| part.sqnr_db).sum::<f64>() / parts.len() as f64)
}
