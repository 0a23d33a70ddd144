//! Statistics of a network's activations.

use std::path::Path;

use super::{Images, Model, run};
use crate::Result;
use crate::calibrate::{self, stats_file};
use crate::device::Device;
use crate::exec;
use crate::files::OutputFile;
use crate::progress::{Progress, Silent};
use crate::report::{ActivationRow, Run};

/// What a float network's activations look like over a set of images: a histogram for each, exact.
///
/// Nothing in it depends on the device, the order of the images or the size of the batches, and
/// statistics of several sets of images add up to those of all of them.
///
/// ```no_run
/// use repquant::{Calibration, Device, Images, Model};
///
/// # fn main() -> repquant::Result<()> {
/// let model = Model::load("repvgg.safetensors")?;
/// let mut all = Calibration::collect(&Device::cpu(), &model, Images::folder("monday/")?)?;
/// all.merge(&Calibration::load("tuesday.safetensors")?)?;
/// all.save("both.safetensors")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Calibration {
    pub(super) statistics: calibrate::Calibration,
    run: Option<Run>,
}

impl Calibration {
    /// Runs `model` over `images` on `device` and counts every activation that is stored.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) for an image that cannot be read, or one that
    /// makes an activation NaN or infinite (the layer and the image are named);
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) where the device failed or a single image
    /// does not fit it.
    pub fn collect(device: &Device, model: &Model, images: Images<'_>) -> Result<Self> {
        Self::collect_with(device, model, images, &Silent)
    }

    /// As [`Calibration::collect`]; `progress` is told of the images.
    ///
    /// # Errors
    /// As [`Calibration::collect`].
    pub fn collect_with(device: &Device, model: &Model, images: Images<'_>, progress: &dyn Progress) -> Result<Self> {
        let graph = &model.graph;
        let batch_size = images.batch_size_for(|| exec::batch_size(device, graph))?;
        let total = images.count();
        let (run, statistics) = run::over("calibrate", images, &graph.input, batch_size, |batches| {
            let found = calibrate::calibrate(device, graph, batches, batch_size, total, progress)?;
            Ok((found.images, found))
        })?;
        Ok(Self { statistics, run: Some(run) })
    }

    /// Reads a file of [`Calibration::save`].
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where it cannot be read, is of another kind or
    /// contradicts itself.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { statistics: stats_file::read(path.as_ref())?, run: None })
    }

    /// The bytes of a safetensors file; the same statistics give the same bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where no image was seen.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        stats_file::to_bytes(&self.statistics)
    }

    /// Writes [`Calibration::to_bytes`] to a file, which is replaced if it exists.
    ///
    /// # Errors
    /// Those of [`Calibration::to_bytes`], or a file that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        OutputFile::replace(path.as_ref())?.write(&self.to_bytes()?)
    }

    /// Adds the statistics of other images, exactly: the result is that of one run over all of
    /// them.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where `other` is of another model or
    /// preprocessing, or a count would not fit 64 bits; nothing is changed then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.statistics.merge(&other.statistics)?;
        self.run = None;
        Ok(())
    }

    /// Whether these are statistics of `model`: its weights, its preprocessing.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input), with what differs.
    pub fn check(&self, model: &Model) -> Result<()> {
        self.statistics.check_graph(&model.graph)
    }

    /// Number of images.
    pub fn images(&self) -> u64 {
        self.statistics.images
    }

    /// One row for each activation that is stored, in the order of the network.
    pub fn activations(&self) -> Vec<ActivationRow> {
        self.statistics.activations.iter().map(ActivationRow::of).collect()
    }

    /// How the run went that collected them; none for those read from a file or merged.
    pub fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }
}
