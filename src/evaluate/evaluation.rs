//! What was measured of one network.

use super::accuracy::{Accuracy, top1};
use super::fidelity::Fidelity;
use super::output::OutputFidelity;
use crate::images::Batch;
use crate::model::{GraphOutput, class_count};
use crate::{Error, Result};

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
    pub(super) fn new(name: &str) -> Self {
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
    pub(super) fn add(
        &mut self,
        batch: &Batch,
        outputs: &[GraphOutput],
        found: &[Rows],
        float: Option<&[Rows]>,
    ) -> Result<()> {
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
                self.outputs = outputs.iter().map(OutputFidelity::new).collect();
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
