//! How a report is put together.

use super::{Calibration, Contender, Model};
use crate::device::Device;
use crate::evaluate::Evaluation as Measured;
use crate::report::{Images, Report, ResultRow, Run, Seconds, Throughput, layer_rows, peak_memory_bytes};
use crate::{Error, Result};

impl Report {
    /// What is known of networks before they run: bits, sizes, layers. `model` is the float
    /// network, whose row comes first; the layers are those of the first contender whose layers are
    /// asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where there is no network at all.
    pub fn of(device: &Device, model: Option<&Model>, contenders: &[Contender<'_>]) -> Result<Self> {
        let name = model.map(Model::name).or_else(|| contenders.first().map(|c| c.network.name()));
        let Some(name) = name else { return Err(Error::usage("there is no network to report on")) };
        let mut report = Self {
            model: name.to_owned(),
            device: device.info().clone(),
            images: Images::default(),
            results: model.iter().map(|model| ResultRow::float(&model.graph)).collect(),
            layers: Vec::new(),
            seconds: Seconds::default(),
            throughput: Throughput::default(),
            second_device: None,
            profile: None,
            peak_memory_bytes: peak_memory_bytes(),
        };
        for Contender { name, network, .. } in contenders {
            report.results.push(ResultRow::quantized(name, &network.graph, network.bits()));
        }
        if let Some(Contender { network, .. }) = contenders.iter().find(|c| c.layers) {
            report.layers = layer_rows(&network.graph, None);
        }
        Ok(report)
    }

    /// Adds how a calibration went: its images, the time it took, how fast it was.
    pub fn add_calibration(&mut self, calibration: &Calibration) {
        self.images.calibration += calibration.images();
        if let Some(run) = calibration.run() {
            self.images.skipped += run.skipped.len() as u64;
            self.seconds.calibrate += run.seconds;
            self.throughput.calibrate = Some(run.pace);
        }
    }

    /// Adds what was measured of the networks of [`Report::of`], in their order.
    pub(super) fn add_measured(&mut self, contenders: &[Contender<'_>], found: &[Measured], run: &Run) {
        for (row, measured) in self.results.iter_mut().zip(found) {
            row.measured(measured);
        }
        let floats = found.len().saturating_sub(contenders.len());
        if let Some(place) = contenders.iter().position(|c| c.layers) {
            self.layers = layer_rows(&contenders[place].network.graph, found.get(floats + place));
        }
        self.images.evaluation += run.images;
        self.images.skipped += run.skipped.len() as u64;
        self.seconds.evaluate += run.seconds;
        self.throughput.evaluate = Some(run.pace);
        self.peak_memory_bytes = peak_memory_bytes();
    }
}
