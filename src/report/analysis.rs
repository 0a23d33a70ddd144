//! What quantizing each layer alone costs: one document, printed as JSON or as a table.

use std::fmt;

use serde::Serialize;

use super::table::{bytes as bytes_text, columns};
use super::{DeviceInfo, Images, Seconds};
use crate::analyze::{Analyzed, Cure, Effect, Setting, least_db, mean_db};
use crate::evaluate::{Evaluation as Measured, OutputFidelity};
use crate::model::{Graph, QuantizedGraph};
use crate::profile::Summary;
use crate::quantize::LayerChoice;
use crate::threshold::RangeOptions;

/// What quantizing each layer alone costs the outputs: the document that `repquant analyze` prints as
/// JSON. Fields may be added, not renamed.
///
/// [`Analysis::report`](crate::Analysis::report) makes one; `Display` writes it as a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnalysisReport {
    /// Name of the model.
    pub model: String,
    /// Where it ran.
    pub device: DeviceInfo,
    /// How many images; those that were measured on are `evaluation`.
    pub images: Images,
    /// Bits of the weights that were asked for.
    pub weight_bits: u8,
    /// Bits of the activations that were asked for.
    pub activation_bits: u8,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Multiplications for one image, those of the split included.
    pub macs: u64,
    /// The quantized network, in integers.
    pub quantized: Cost,
    /// One row for each layer that has something quantized, the one that costs most first.
    pub layers: Vec<LayerCost>,
    /// Where the time went; `evaluate` is that of running both networks once.
    pub seconds: Seconds,
    /// Seconds that quantizing each layer alone took, and what was tried to help.
    pub layer_seconds: f64,
    /// The same, divided by `seconds.evaluate`: how many times both networks could have run over the
    /// images in that time.
    pub evaluations: f64,
    /// Time of each kernel, where it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Summary>,
    /// Largest resident memory of the process so far, where the system tells (Linux).
    pub peak_memory_bytes: Option<u64>,
}

/// What one layer costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerCost {
    /// Its name.
    pub name: String,
    /// The operation.
    pub kind: String,
    /// Bits of its weights; null where it has none in integers.
    pub weight_bits: Option<u8>,
    /// What was done to its kernel.
    pub split: String,
    /// The activations that it reads as levels.
    pub reads: Vec<String>,
    /// Its weights alone quantized; null where it has none in integers.
    pub weights: Option<Cost>,
    /// What it reads alone quantized, for it alone; null where it reads no levels.
    pub activation: Option<Cost>,
    /// Both.
    pub both: Cost,
    /// Its part of the noise of all layers, each taken alone.
    pub share: f64,
    /// What was tried and helps, the best first: of those that take at least 6 dB of its noise the one
    /// that costs least, and so on; then the others.
    pub cures: Vec<CureRow>,
}

/// What the outputs lose.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// The least SQNR in decibels, of any output, and of the parts of one that holds several things;
    /// null where nothing is lost.
    pub least_db: Option<f64>,
    /// Fraction of the images whose first class is that of the float network; null where the network
    /// is no classifier.
    pub agreement: Option<f64>,
    /// Each output, in the network's order.
    pub outputs: Vec<OutputCost>,
}

/// What one output loses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputCost {
    /// Its name.
    pub name: String,
    /// SQNR over all of it, in decibels; null where nothing is lost.
    pub sqnr_db: Option<f64>,
    /// The least over its parts, where it holds several things along an axis; else as `sqnr_db`.
    pub least_db: Option<f64>,
    /// The mean over its parts, in decibels; else as `sqnr_db`.
    pub mean_db: Option<f64>,
}

/// A setting that helps a layer, and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CureRow {
    /// What is set.
    #[serde(flatten)]
    pub setting: CureSetting,
    /// How it is written, where a program says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
    /// The least SQNR that quantizing the layer alone leaves then, in decibels; null where nothing is
    /// lost any more.
    pub least_db: Option<f64>,
    /// Bytes of the weights that it adds.
    pub bytes: i64,
    /// Multiplications for one image that it adds.
    pub macs: i64,
    /// Multiplications of this layer that are in f32 then.
    pub float_macs: u64,
}

/// What may be set for the good of a layer: something for it alone, or for all activations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CureSetting {
    /// For this layer alone: bits, a split, or that it stays float.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerChoice>,
    /// How ranges are chosen, as it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<String>,
    /// Where the levels of activations lie, as it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<String>,
    /// Bits of the activations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_bits: Option<u8>,
}

impl CureSetting {
    /// What differs from the ranges there are.
    fn of(setting: &Setting, now: &RangeOptions) -> Self {
        let none = Self { layer: None, threshold: None, activations: None, activation_bits: None };
        match setting {
            Setting::Layer(choice) => Self { layer: Some(*choice), ..none },
            Setting::Ranges(RangeOptions { method, bits, mode }) => Self {
                threshold: (*method != now.method).then(|| method.to_string()),
                activations: (*mode != now.mode).then(|| mode.to_string()),
                activation_bits: (*bits != now.bits).then_some(*bits),
                ..none
            },
        }
    }
}

impl fmt::Display for CureSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |name: &str, value: Option<String>| value.map(|value| format!("{name} {value}"));
        let words = [
            self.layer.map(|choice| choice.to_string()),
            word("threshold", self.threshold.clone()),
            word("activations", self.activations.clone()),
            word("activation bits", self.activation_bits.map(|bits| bits.to_string())),
        ];
        f.pad(&words.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl Cost {
    pub(crate) fn of(effect: &Effect) -> Self {
        Self {
            least_db: effect.least_db(),
            agreement: effect.agreement(),
            outputs: effect.outputs.iter().map(OutputCost::of).collect(),
        }
    }

    /// Of a network that ran beside the float one.
    pub(crate) fn measured(measured: &Measured) -> Self {
        Self {
            least_db: measured.outputs.iter().filter_map(least_db).min_by(f64::total_cmp),
            agreement: measured.agreement_fraction(),
            outputs: measured.outputs.iter().map(OutputCost::of).collect(),
        }
    }

    /// The mean of the outputs' means.
    fn mean_db(&self) -> Option<f64> {
        let means: Vec<f64> = self.outputs.iter().filter_map(|output| output.mean_db).collect();
        (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
    }
}

impl OutputCost {
    fn of(output: &OutputFidelity) -> Self {
        Self {
            name: output.name.clone(),
            sqnr_db: output.fidelity.sqnr_db(),
            least_db: least_db(output),
            mean_db: mean_db(output),
        }
    }
}

impl CureRow {
    fn of(cure: &Cure, now: &RangeOptions) -> Self {
        let Cure { bytes, macs, float_macs, .. } = *cure;
        Self {
            setting: CureSetting::of(&cure.setting, now),
            flag: None,
            least_db: cure.left.as_ref().and_then(Effect::least_db),
            bytes,
            macs,
            float_macs,
        }
    }
}

/// One row for each layer, the one that costs most first; of equal ones the earlier.
pub(crate) fn layer_costs(
    graph: &Graph,
    quantized: &QuantizedGraph,
    ranges: &RangeOptions,
    layers: &[Analyzed],
) -> Vec<LayerCost> {
    let all: f64 = layers.iter().map(|layer| layer.all.noise()).sum();
    let mut order: Vec<&Analyzed> = layers.iter().collect();
    order.sort_by(|a, b| b.all.noise().total_cmp(&a.all.noise()));
    let row = |layer: &Analyzed| {
        let (node, int8) = (&graph.nodes[layer.node], &quantized.nodes[layer.node]);
        let stored = node.inputs.iter().filter(|&&input| quantized.nodes[input].output.is_some());
        LayerCost {
            name: node.name.clone(),
            kind: node.op.kind().to_owned(),
            weight_bits: int8.computed.int8_weights().map(|conv| conv.bits),
            split: int8.split.split.clone(),
            reads: stored.map(|&input| graph.nodes[input].name.clone()).collect(),
            weights: layer.weights.as_ref().map(Cost::of),
            activation: layer.activation.as_ref().map(Cost::of),
            both: Cost::of(&layer.all),
            share: if all > 0.0 { layer.all.noise() / all } else { 0.0 },
            cures: layer.cures.iter().map(|cure| CureRow::of(cure, ranges)).collect(),
        }
    };
    order.into_iter().map(row).collect()
}

impl fmt::Display for AnalysisReport {
    /// The quantized network in a line, and the table of layers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, weight_bits, activation_bits, quantized, images, .. } = self;
        let agreement = quantized.agreement.map(|a| format!(", {:.2} % agreement", 100.0 * a)).unwrap_or_default();
        writeln!(
            f,
            "{model} W{weight_bits}A{activation_bits}: {}{agreement}, on {} images\n",
            db(quantized.least_db),
            images.evaluation
        )?;
        f.write_str(&cost_table(self))
    }
}

/// The table of layers, one line each: what quantizing it alone costs, and what would help.
pub fn cost_table(report: &AnalysisReport) -> String {
    let several = |cost: &Cost| cost.outputs.iter().any(|output| output.mean_db != cost.least_db);
    let has_mean = report.layers.iter().any(|row| several(&row.both));
    let has_agreement = report.layers.iter().any(|row| row.both.agreement.is_some());
    let shown = |cells: Vec<String>| -> Vec<String> {
        let keep = |column: usize| match column {
            5 => has_mean,
            6 => has_agreement,
            _ => true,
        };
        cells.into_iter().enumerate().filter(|(column, _)| keep(*column)).map(|(_, cell)| cell).collect()
    };
    let header = [
        "layer",
        "bits",
        "weights",
        "input",
        "both",
        "mean",
        "agreement",
        "share",
        "what helps",
        "leaves",
        "bytes",
        "multiplications",
    ];
    let header = shown(header.map(String::from).to_vec());
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = report.layers.iter().map(|row| shown(cells(row))).collect();
    columns(&header, &rows)
}

fn cells(row: &LayerCost) -> Vec<String> {
    let least = |cost: Option<&Cost>| cost.map_or_else(|| "-".into(), |cost| db(cost.least_db));
    let mut cells = vec![
        row.name.clone(),
        row.weight_bits.map_or_else(|| "-".into(), |bits| bits.to_string()),
        least(row.weights.as_ref()),
        least(row.activation.as_ref()),
        db(row.both.least_db),
        db(row.both.mean_db()),
        row.both.agreement.map_or_else(|| "-".into(), |a| format!("{:.2} %", 100.0 * a)),
        format!("{:.1} %", 100.0 * row.share),
    ];
    match row.cures.first() {
        None => cells.extend(["-", "-", "-", "-"].map(String::from)),
        Some(cure) => {
            let float = if cure.float_macs > 0 {
                format!(" ({} in float)", millions(cure.float_macs as i64))
            } else {
                String::new()
            };
            cells.extend([
                cure.flag.clone().unwrap_or_else(|| cure.setting.to_string()),
                db(cure.least_db),
                signed(cure.bytes, |bytes| bytes_text(bytes.unsigned_abs())),
                signed(cure.macs, millions) + &float,
            ]);
        }
    }
    cells
}

/// Decibels; where nothing is lost there are none.
fn db(db: Option<f64>) -> String {
    db.map_or_else(|| "no loss".into(), |db| format!("{db:.1} dB"))
}

fn millions(count: i64) -> String {
    match count.unsigned_abs() {
        few @ 0..10_000 => few.to_string(),
        many => format!("{:.2} M", many as f64 / 1e6),
    }
}

fn signed(value: i64, text: impl Fn(i64) -> String) -> String {
    match value {
        0 => "0".into(),
        1.. => format!("+{}", text(value)),
        _ => format!("-{}", text(value)),
    }
}
