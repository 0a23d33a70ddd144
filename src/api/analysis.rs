//! What quantizing each layer alone costs.

use std::time::Instant;

use super::quantizer::parts;
use super::{Calibration, Images, Model, Quantized, Quantizer, run};
use crate::Result;
use crate::analyze::{Sources, analyze};
use crate::device::Device;
use crate::evaluate::{Contender, evaluate};
use crate::exec;
use crate::images::Batch;
use crate::progress::Progress;
use crate::quantize;
use crate::report::{AnalysisReport, Cost, LayerCost, Run, Seconds, layer_costs, peak_memory_bytes};

/// What quantizing each layer of a network alone costs its outputs, and what would help: which layer
/// is to blame.
///
/// In the float network one layer at a time gets the weights that its integers stand for, what it
/// reads rounded to the levels that it is stored as, and both; of each only what comes behind the
/// layer runs again. For the layers that cost most other settings are tried: more bits, another split,
/// other ranges, float.
///
/// ```
/// # fn setup() -> Result<tempfile::TempDir, Box<dyn std::error::Error>> {
/// #     let folder = tempfile::tempdir()?;
/// #     let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/repquant/demo/repvgg-demo");
/// #     std::fs::create_dir_all(folder.path().join("calib"))?;
/// #     for ending in ["safetensors", "json"] {
/// #         std::fs::copy(demo.with_extension(ending), folder.path().join("repvgg").with_extension(ending))?;
/// #     }
/// #     for i in 0..4u8 {
/// #         let picture = image::RgbImage::from_pixel(32, 32, image::Rgb([50 * i, 99, 255 - 20 * i]));
/// #         picture.save(folder.path().join(format!("calib/{i}.png")))?;
/// #     }
/// #     std::env::set_current_dir(folder.path())?;
/// #     Ok(folder)
/// # }
/// use repquant::{Analysis, Calibration, Device, Images, Model, Quantizer, progress::Silent};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = setup()?;
/// let (device, model) = (Device::cpu(), Model::load("repvgg.safetensors")?);
/// let calibration = Calibration::collect(&device, &model, Images::folder("calib/")?)?;
/// let quantizer = Quantizer::new().weight_bits(4);
/// let quantized = quantizer.quantize(&model, &calibration)?;
/// let made = (&quantizer, &calibration);
/// let analysis = Analysis::of(&device, &model, &quantized, made, Images::folder("calib/")?, &Silent)?;
/// let worst = &analysis.layers()[0];
/// println!("{} leaves {:?} dB", worst.name, worst.both.least_db);
/// # assert!(worst.both.least_db < analysis.layers()[1].both.least_db);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Analysis {
    report: AnalysisReport,
    run: Run,
}

impl Analysis {
    /// Quantizes each layer of `model` alone, over `images`, as `quantized` has it, which was `made` by
    /// that quantizer of those statistics. The images are held in memory; a hundred or two tell.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where `quantized` or the statistics are of another
    /// model, an image cannot be read, there are none, or an output is NaN or infinite;
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where `quantized` was made with other options;
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) where the device failed or a single image does
    /// not fit it.
    pub fn of(
        device: &Device,
        model: &Model,
        quantized: &Quantized,
        made: (&Quantizer, &Calibration),
        images: Images<'_>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let int8 = &quantized.graph;
        let (quantizer, calibration) = made;
        let (options, ranges) = quantizer.settled(quantized);
        let equal = quantize::equalize(&model.graph, &calibration.statistics, &options)?;
        let (graph, statistics) = parts(equal.as_ref(), model, calibration);
        let sources = Sources::new(graph, int8, statistics, &options, &ranges, &calibration.statistics.model_digest)?;
        let batch_size = images.batch_size_for(|| exec::changed_batch_size(device, graph))?;
        let total = images.count();
        let (mut seconds, mut layer_seconds) = (Seconds::default(), 0.0);
        let (run, (whole, layers)) = run::over("analyze", images, &graph.input, batch_size, |batches| {
            let batches: Vec<Batch> = batches.collect::<Result<_>>()?;
            // Both networks as they are: what the whole costs, and how long that takes.
            let start = Instant::now();
            let contenders = [Contender { name: "quantized", graph: int8, layers: false }];
            let mut again = batches.iter().cloned().map(Ok);
            let whole = evaluate(device, Some(&model.graph), &contenders, &mut again, batch_size, total, progress)?;
            seconds.evaluate = start.elapsed().as_secs_f64();
            let start = Instant::now();
            let layers = analyze(device, &sources, &batches, batch_size, progress)?;
            layer_seconds = start.elapsed().as_secs_f64();
            let count = whole.first().map_or(0, |whole| whole.images);
            Ok((count, (whole, layers)))
        })?;
        let [weight_bits, activation_bits] = quantized.bits();
        let (plain, added) = int8.macs();
        let mut report = AnalysisReport {
            model: model.name().to_owned(),
            device: device.info().clone(),
            images: crate::report::Images { evaluation: run.images, ..Default::default() },
            weight_bits,
            activation_bits,
            weight_bytes: int8.weight_bytes(),
            macs: plain + added,
            quantized: Cost::measured(&whole[1]),
            layers: layer_costs(graph, int8, &ranges, &layers),
            evaluations: if seconds.evaluate > 0.0 { layer_seconds / seconds.evaluate } else { 0.0 },
            seconds,
            layer_seconds,
            profile: None,
            peak_memory_bytes: peak_memory_bytes(),
        };
        report.images.skipped = run.skipped.len() as u64;
        Ok(Self { report, run })
    }

    /// One row for each layer, the one that costs most first.
    pub fn layers(&self) -> &[LayerCost] {
        &self.report.layers
    }

    /// What the quantized network as a whole costs, in integers.
    pub fn quantized(&self) -> &Cost {
        &self.report.quantized
    }

    /// How the run went.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// All of it as a document, to be printed or written as JSON.
    pub fn report(&self) -> AnalysisReport {
        self.report.clone()
    }
}

impl AnalysisReport {
    /// Adds how the calibration went: its images, the time it took.
    pub fn add_calibration(&mut self, calibration: &Calibration) {
        self.images.calibration += calibration.images();
        if let Some(run) = calibration.run() {
            self.images.skipped += run.skipped.len() as u64;
            self.seconds.calibrate += run.seconds;
        }
    }
}
