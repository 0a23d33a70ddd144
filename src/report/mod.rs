//! What a run found: one document, printed as JSON or as a table.

mod analysis;
mod layers;
mod profile;
mod results;
mod rows;
mod table;

use serde::Serialize;

pub(crate) use analysis::layer_costs;
pub use analysis::{AnalysisReport, Cost, CureRow, CureSetting, LayerCost, OutputCost, cost_table};
pub use layers::{FloatLayer, LayerRow, NoteRow};
pub(crate) use layers::{float_layers, layer_rows, note_rows};
pub use profile::profile_tables;
pub use results::{OutputRow, PartRow, ResultRow};
pub use rows::{ActivationRow, KernelRow, NetworkOutput, Verified};
pub use table::{columns, layer_table, output_table, result_table, throughput_lines};

pub use crate::device::{AdapterInfo, DeviceInfo, DeviceKind};
pub use crate::images::{Found, Skipped};
use crate::profile::Summary;

/// What a run found: the document that the command prints as JSON. Fields may be added, not
/// renamed.
///
/// [`Evaluation::report`](crate::Evaluation::report) makes one; `Display` writes it as a table.
///
/// ```no_run
/// # use repquant::{Device, Evaluation, Images, Model, Quantized};
/// # fn main() -> repquant::Result<()> {
/// # let (device, model) = (Device::cpu(), Model::load("m.onnx")?);
/// # let quantized = Quantized::load("m-int8.safetensors")?;
/// let report = Evaluation::compare(&device, &model, &quantized, Images::folder("val/")?)?.report();
/// println!("{report}");
/// std::fs::write("report.json", serde_json::to_string_pretty(&report).expect("plain data")).expect("a file");
/// # Ok(())
/// # }
/// ```
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
    /// Time of each kernel, where it was taken.
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
    /// Seconds in which decoding waited for the device, the average of its threads; null where
    /// nothing is decoded.
    pub decoding_waited: Option<f64>,
}

impl Pace {
    /// The pace of a stage that took `seconds` for so many images, and waited for them for
    /// `waiting`.
    pub fn new(images: u64, seconds: f64, waiting: std::time::Duration) -> Self {
        Self {
            images_per_second: if seconds > 0.0 { images as f64 / seconds } else { 0.0 },
            waiting_for_images: waiting.as_secs_f64(),
            decoding_waited: None,
        }
    }
}

/// How a run over images went.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// How many went through the network.
    pub images: u64,
    /// Files that were left out, in their order.
    pub skipped: Vec<Skipped>,
    /// Wall-clock seconds of all of it, compiling kernels and decoding included.
    pub seconds: f64,
    /// How fast it went.
    pub pace: Pace,
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

/// Largest resident memory of this process, where the system tells (Linux).
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
