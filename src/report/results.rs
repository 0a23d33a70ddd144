//! One row for each network.

use serde::Serialize;

use crate::evaluate::{Evaluation as Measured, OutputFidelity, Part};
use crate::model::{Graph, QuantizedGraph};

/// One network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResultRow {
    /// `float32`, `unsplit`, `quantized` …
    pub name: String,
    /// Bit width of the weights; 32 for float.
    pub weight_bits: u8,
    /// Bit width of the activations; 32 for float.
    pub activation_bits: u8,
    /// Fraction right; null without labels.
    pub top1: Option<f64>,
    /// Fraction among the first five; null without labels.
    pub top5: Option<f64>,
    /// Fraction whose class is one more than the first: the right ones, were the classes counted from 1.
    /// None without labels; no part of the document.
    #[serde(skip)]
    pub one_more: Option<f64>,
    /// Fraction that agrees with the float network's first class; null without one.
    pub agreement: Option<f64>,
    /// SQNR of the logits in decibels; null for float and for networks that are no classifiers.
    pub logit_sqnr_db: Option<f64>,
    /// Cosine between the logits and the float network's; null without one.
    pub logit_cosine: Option<f64>,
    /// Each output against the float network's; empty without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputRow>,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Multiplications for one image, those of the split included.
    pub macs: u64,
    /// What the split adds, as a fraction of the unsplit network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overhead: Option<f64>,
}

/// One output of a quantized network against that of the float network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputRow {
    /// Its name.
    pub name: String,
    /// SQNR in decibels; null where there is no difference or no signal.
    pub sqnr_db: Option<f64>,
    /// Cosine.
    pub cosine: Option<f64>,
    /// The largest difference of a value.
    pub largest_difference: f64,
    /// The largest magnitude of the float network's values.
    pub largest: f64,
    /// Where it holds several things along an axis: the entries that are the least close, the worst
    /// first, ten at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<PartRow>,
}

/// An entry of an output along an axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartRow {
    /// The axis; the batch is axis 0.
    pub axis: usize,
    /// The entry, counted from 0.
    pub entry: usize,
    /// Its SQNR in decibels.
    pub sqnr_db: f64,
}

impl ResultRow {
    /// The row of the float network.
    pub(crate) fn float(graph: &Graph) -> Self {
        Self {
            name: "float32".into(),
            weight_bits: 32,
            activation_bits: 32,
            top1: None,
            top5: None,
            one_more: None,
            agreement: None,
            logit_sqnr_db: None,
            logit_cosine: None,
            outputs: Vec::new(),
            weight_bytes: 4 * graph.parameters(),
            macs: graph.macs(),
            overhead: None,
        }
    }

    /// The row of a quantized network with these bit widths.
    pub(crate) fn quantized(name: &str, graph: &QuantizedGraph, bits: [u8; 2]) -> Self {
        let (plain, added) = graph.macs();
        Self {
            name: name.to_owned(),
            weight_bits: bits[0],
            activation_bits: bits[1],
            top1: None,
            top5: None,
            one_more: None,
            agreement: None,
            logit_sqnr_db: None,
            logit_cosine: None,
            outputs: Vec::new(),
            weight_bytes: graph.weight_bytes(),
            macs: plain + added,
            overhead: Some(added as f64 / plain.max(1) as f64),
        }
    }

    /// Adds what was measured.
    pub(crate) fn measured(&mut self, measured: &Measured) {
        self.top1 = measured.accuracy.top1_fraction();
        self.top5 = measured.accuracy.top5_fraction();
        self.one_more = measured.accuracy.one_more_fraction();
        self.agreement = measured.agreement_fraction();
        self.logit_sqnr_db = measured.logits().and_then(|f| f.sqnr_db());
        self.logit_cosine = measured.logits().and_then(|f| f.cosine());
        // The float network against itself says nothing.
        let compared = if self.weight_bits == 32 { &[][..] } else { &measured.outputs };
        self.outputs = compared.iter().map(OutputRow::of).collect();
    }
}

/// How many entries of an output are listed.
const MOST_PARTS: usize = 10;

impl PartRow {
    fn of(part: Part) -> Self {
        Self { axis: part.axis, entry: part.entry, sqnr_db: part.sqnr_db }
    }
}

impl OutputRow {
    fn of(output: &OutputFidelity) -> Self {
        Self {
            name: output.name.clone(),
            sqnr_db: output.fidelity.sqnr_db(),
            cosine: output.fidelity.cosine(),
            largest_difference: output.largest_difference,
            largest: output.largest,
            worst: output.parts.worst().into_iter().take(MOST_PARTS).map(PartRow::of).collect(),
        }
    }
}
