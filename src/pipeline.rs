//! The stages in order, and nothing else.

use std::time::Instant;

use crate::Result;
use crate::calibrate::{self, Calibration};
use crate::device::Device;
use crate::evaluate::{self, Contender, Evaluation};
use crate::exec;
use crate::fuse;
use crate::images::{Batch, Waited};
use crate::load::{self, LoadOptions};
use crate::model::{Graph, QuantizedGraph};
use crate::progress::{Event, Progress, Stage};
use crate::quantize::{self, QuantizeOptions};
use crate::report::{Pace, Seconds, Throughput};
use crate::threshold::{self, ActivationRanges, RangeOptions};

/// Batches of images, in order.
pub type Batches<'a> = &'a mut dyn Iterator<Item = Result<Batch>>;

/// A network to be made: its name in the report, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// What the report calls it.
    pub name: String,
    /// How activation ranges are chosen.
    pub ranges: RangeOptions,
    /// How weights are quantized.
    pub weights: QuantizeOptions,
}

/// A network that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// How it was made.
    pub variant: Variant,
    /// The ranges chosen.
    pub ranges: ActivationRanges,
    /// The network.
    pub graph: QuantizedGraph,
}

/// A float graph on its way to int8, with the time each stage took.
pub struct Pipeline<'a> {
    /// Where it runs.
    pub device: &'a Device,
    /// The float network.
    pub graph: &'a Graph,
    /// Images in a batch.
    pub batch_size: usize,
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// Where the time went so far.
    pub seconds: Seconds,
    /// How fast the last calibration and the last evaluation went.
    pub throughput: Throughput,
}

/// Reads an ONNX file (`.onnx`) or a checkpoint, and fuses its branches.
///
/// # Errors
/// A bad file or description.
pub fn load_and_fuse(path: &std::path::Path, options: &LoadOptions, seconds: &mut Seconds) -> Result<Graph> {
    timed("load", &mut seconds.load, || {
        if load::onnx::is_onnx(path) {
            return fuse::merge(load::onnx::read(path, options)?).map_err(|e| e.at(path.display()));
        }
        fuse::fuse(&load::load(path, options)?).map_err(|e| e.at(path.display()))
    })
}

impl<'a> Pipeline<'a> {
    /// Plans for `device`; `batch_size` none: what suits it.
    ///
    /// # Errors
    /// If a single image does not fit the device.
    pub fn new(
        device: &'a Device,
        graph: &'a Graph,
        batch_size: Option<usize>,
        seconds: Seconds,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let fits = exec::batch_size(device, graph)?;
        let batch_size = batch_size.unwrap_or(fits).max(1);
        Ok(Self { device, graph, batch_size, progress, seconds, throughput: Throughput::default() })
    }

    /// Collects histograms of every activation; `total` images, for progress alone.
    ///
    /// # Errors
    /// A bad image, a NaN or infinity, a failing device.
    pub fn calibrate(&mut self, batches: Batches<'_>, total: Option<u64>) -> Result<Calibration> {
        let (device, graph, most, progress) = (self.device, self.graph, self.batch_size, self.progress);
        let (calibration, pace) = paced("calibrate", &mut self.seconds.calibrate, batches, |batches| {
            let calibration = calibrate::calibrate(device, graph, batches, most, total, progress)?;
            Ok((calibration.images, calibration))
        })?;
        self.throughput.calibrate = Some(pace);
        Ok(calibration)
    }

    /// Chooses ranges, then splits and quantizes.
    ///
    /// # Errors
    /// Options that do not suit the network.
    pub fn quantize(&mut self, calibration: &Calibration, variant: Variant) -> Result<Made> {
        self.progress.event(Event::Begin { stage: Stage::Quantize, total: None });
        let ranges =
            timed("threshold", &mut self.seconds.threshold, || threshold::choose(calibration, &variant.ranges))?;
        let graph = timed("quantize", &mut self.seconds.quantize, || {
            quantize::quantize(self.graph, &ranges, calibration, &variant.weights)
        })?;
        self.progress.event(Event::End { stage: Stage::Quantize });
        Ok(Made { variant, ranges, graph })
    }

    /// Runs the float network and `made` side by side; the layers of the network called `detailed` are compared one by
    /// one. The float network's entry comes first.
    ///
    /// # Errors
    /// A bad image or label, a failing device.
    pub fn evaluate(
        &mut self,
        made: &[Made],
        detailed: &str,
        batches: Batches<'_>,
        total: Option<u64>,
    ) -> Result<Vec<Evaluation>> {
        let contenders: Vec<Contender<'_>> = made
            .iter()
            .map(|m| Contender { name: &m.variant.name, graph: &m.graph, layers: m.variant.name == detailed })
            .collect();
        let (device, graph, most, progress) = (self.device, self.graph, self.batch_size, self.progress);
        let (evaluations, pace) = paced("evaluate", &mut self.seconds.evaluate, batches, |batches| {
            let evaluations = evaluate::evaluate(device, Some(graph), &contenders, batches, most, total, progress)?;
            Ok((evaluations.first().map_or(0, |e| e.images), evaluations))
        })?;
        self.throughput.evaluate = Some(pace);
        Ok(evaluations)
    }
}

/// As [`timed`], for `work` that takes images and returns how many: tells how fast it went and how long it waited for them.
///
/// # Errors
/// Those of `work`.
pub fn paced<T>(
    stage: &'static str,
    seconds: &mut f64,
    batches: Batches<'_>,
    work: impl FnOnce(Batches<'_>) -> Result<(u64, T)>,
) -> Result<(T, Pace)> {
    let mut waited = Waited::new(batches);
    let mut own = 0.0;
    let result = timed(stage, &mut own, || work(&mut waited));
    *seconds += own;
    result.map(|(images, result)| (result, Pace::new(images, own, waited.waited())))
}

/// Runs `work` within a `tracing` span called `stage`, and adds the seconds it took.
pub fn timed<T>(stage: &'static str, seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let _span = tracing::info_span!("stage", name = stage).entered();
    let start = Instant::now();
    let result = work();
    *seconds += start.elapsed().as_secs_f64();
    result
}
