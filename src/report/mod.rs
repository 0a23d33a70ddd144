//! What a run found: one document, printed as JSON or as a table.

mod profile;
mod table;

pub use profile::profile_tables;
pub use table::{columns, layer_table, output_table, result_table, throughput_lines};

use serde::Serialize;

use crate::device::DeviceInfo;
use crate::evaluate::{Evaluation, Fidelity, OutputFidelity};
use crate::model::{Graph, QNode, QuantizedGraph};
use crate::profile::Summary;

/// The document that `quantize`, `evaluate` and `demo` print with `--json`. Fields may be added, not renamed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Name of the model.
    pub model: String,
    /// Where it ran.
    pub device: DeviceInfo,
    /// How many images.
    pub images: Images,
    /// One row for each network, side by side.
    pub results: Vec<ResultRow>,
    /// One row for each quantized activation of the chosen network.
    pub layers: Vec<LayerRow>,
    /// Where the time went.
    pub seconds: Seconds,
    /// How fast the images went through.
    pub throughput: Throughput,
    /// The same integers on a second device, where there is one (`demo`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_device: Option<SecondDevice>,
    /// Time of each kernel, with `--profile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Summary>,
    /// Largest resident memory of the process so far, where the system tells (Linux).
    pub peak_memory_bytes: Option<u64>,
}

/// How many images were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Images {
    /// For calibration.
    pub calibration: u64,
    /// For evaluation.
    pub evaluation: u64,
    /// Skipped as bad, by request.
    pub skipped: u64,
}

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
}

/// One activation of the chosen network, and the layer that makes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerRow {
    /// Name of the layer.
    pub name: String,
    /// What was done to its kernel.
    pub split: String,
    /// The largest shift in the layer.
    pub shift_max: u8,
    /// The largest value represented; null for the classifier.
    pub threshold: Option<f64>,
    /// Scale of the activation.
    pub scale: Option<f32>,
    /// Zero point of the activation.
    pub zero_point: Option<i32>,
    /// SQNR against the float activation; null where it was not measured.
    pub sqnr_db: Option<f64>,
    /// Cosine with the float activation; null where it was not measured.
    pub cosine: Option<f64>,
    /// Refusals and changes, with their reasons.
    pub notes: Vec<String>,
}

/// Wall-clock seconds of each stage.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Seconds {
    /// Reading and fusing.
    pub load: f64,
    /// Histograms.
    pub calibrate: f64,
    /// Ranges.
    pub threshold: f64,
    /// Splits and weights.
    pub quantize: f64,
    /// Accuracy.
    pub evaluate: f64,
    /// All of it.
    pub total: f64,
}

/// How fast the stages went that run the network over images.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Throughput {
    /// Calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrate: Option<Pace>,
    /// Evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<Pace>,
}

/// How fast a stage went, and who waited for whom.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pace {
    /// Images divided by the seconds of the whole stage, its setting up included.
    pub images_per_second: f64,
    /// Seconds in which the stage had no images to hand to the device.
    pub waiting_for_images: f64,
    /// Seconds in which decoding waited for the device, the average of its threads; null where nothing is decoded.
    pub decoding_waited: Option<f64>,
}

impl Pace {
    /// The pace of a stage that took `seconds` for so many images, and waited for them for `waiting`.
    pub fn new(images: u64, seconds: f64, waiting: std::time::Duration) -> Self {
        Self {
            images_per_second: if seconds > 0.0 { images as f64 / seconds } else { 0.0 },
            waiting_for_images: waiting.as_secs_f64(),
            decoding_waited: None,
        }
    }
}

/// The int8 network repeated on another device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SecondDevice {
    /// Where it ran.
    pub device: DeviceInfo,
    /// How many images.
    pub images: u64,
    /// Whether every logit was the same, to the bit.
    pub identical: bool,
}

impl ResultRow {
    /// The row of the float network.
    pub fn float(graph: &Graph, evaluation: Option<&Evaluation>) -> Self {
        let row = Self {
            name: "float32".into(),
            weight_bits: 32,
            activation_bits: 32,
            top1: None,
            top5: None,
            agreement: None,
            logit_sqnr_db: None,
            logit_cosine: None,
            outputs: Vec::new(),
            weight_bytes: 4 * graph.parameters(),
            macs: graph.macs(),
            overhead: None,
        };
        row.measured(evaluation)
    }

    /// The row of a quantized network with these bit widths.
    pub fn quantized(name: &str, graph: &QuantizedGraph, bits: (u8, u8), evaluation: Option<&Evaluation>) -> Self {
        let (plain, added) = graph.macs();
        let row = Self {
            name: name.to_owned(),
            weight_bits: bits.0,
            activation_bits: bits.1,
            top1: None,
            top5: None,
            agreement: None,
            logit_sqnr_db: None,
            logit_cosine: None,
            outputs: Vec::new(),
            weight_bytes: graph.weight_bytes(),
            macs: plain + added,
            overhead: Some(added as f64 / plain.max(1) as f64),
        };
        row.measured(evaluation)
    }

    fn measured(mut self, evaluation: Option<&Evaluation>) -> Self {
        if let Some(e) = evaluation {
            self.top1 = e.accuracy.top1_fraction();
            self.top5 = e.accuracy.top5_fraction();
            self.agreement = e.agreement_fraction();
            self.logit_sqnr_db = e.logits().and_then(|f| f.sqnr_db());
            self.logit_cosine = e.logits().and_then(|f| f.cosine());
            // The float network against itself says nothing.
            let compared = if self.weight_bits == 32 { &[][..] } else { &e.outputs };
            self.outputs = compared.iter().map(OutputRow::of).collect();
        }
        self
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
        }
    }
}

/// One row for each node of `graph`; `evaluation` adds what it measured.
pub fn layer_rows(graph: &QuantizedGraph, evaluation: Option<&Evaluation>) -> Vec<LayerRow> {
    let row = |node: &QNode| {
        let fidelity = evaluation.and_then(|e| e.layers.iter().find(|(name, _)| *name == node.name)).map(|(_, f)| f);
        LayerRow {
            name: node.name.clone(),
            split: node.split.split.clone(),
            shift_max: node.split.shift_max,
            threshold: node.output.map(|q| q.dequantize(q.qmax)),
            scale: node.output.map(|q| q.scale),
            zero_point: node.output.map(|q| q.zero_point),
            sqnr_db: fidelity.and_then(Fidelity::sqnr_db),
            cosine: fidelity.and_then(Fidelity::cosine),
            notes: node.split.notes.clone(),
        }
    };
    graph.nodes.iter().map(row).collect()
}

/// Largest resident memory of this process, where the system tells (Linux).
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
