//! Networks side by side over the same images.

use super::{Images, Model, Quantized, run};
use crate::device::Device;
use crate::evaluate;
use crate::exec;
use crate::progress::{Progress, Silent};
use crate::report::{LayerRow, Report, ResultRow, Run};
use crate::{Error, Result};

/// A quantized network to be measured.
#[derive(Debug, Clone, Copy)]
pub struct Contender<'a> {
    /// What the report calls it.
    pub name: &'a str,
    /// The network.
    pub network: &'a Quantized,
    /// Whether each layer's activation is compared with the float network's, where there is one.
    /// The report lists the layers of the first network for which this is set.
    pub layers: bool,
}

/// What was measured of networks that ran side by side over the same images: accuracy where the
/// images have classes, agreement with the float network, and how far outputs and layers are from
/// its.
///
/// ```no_run
/// use repquant::{Device, Evaluation, Images, Model, Quantized};
///
/// # fn main() -> repquant::Result<()> {
/// let model = Model::load("repvgg.safetensors")?;
/// let quantized = Quantized::load("repvgg-int8.safetensors")?;
/// let images = Images::labelled("val/", &model.classes().expect("a classifier"))?;
/// let evaluation = Evaluation::compare(&Device::cpu(), &model, &quantized, images)?;
/// println!("{}", evaluation.report());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Evaluation {
    report: Report,
    run: Run,
}

impl Evaluation {
    /// Runs `model` and `quantized` side by side, and compares them layer by layer.
    ///
    /// # Errors
    /// As [`Evaluation::of`].
    pub fn compare(device: &Device, model: &Model, quantized: &Quantized, images: Images<'_>) -> Result<Self> {
        let contender = Contender { name: "quantized", network: quantized, layers: true };
        Self::of(device, Some(model), &[contender], images, &Silent)
    }

    /// Runs the float network, where there is one, and every contender, in one pass over the
    /// images.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) for a contender that was not made from
    /// `model`, an image that cannot be read, a class that the network does not have, or an output
    /// that is NaN or infinite; [`ErrorKind::Usage`](crate::ErrorKind::Usage) where there is no
    /// network at all; [`ErrorKind::Device`](crate::ErrorKind::Device) where the device failed or a
    /// single image does not fit it.
    pub fn of(
        device: &Device,
        model: Option<&Model>,
        contenders: &[Contender<'_>],
        images: Images<'_>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut report = Report::of(device, model, contenders)?;
        let quantized_input = contenders.first().map(|contender| &contender.network.graph.input);
        let input = model.map(|model| &model.graph.input).or(quantized_input);
        let input = input.ok_or_else(|| Error::usage("there is no network to evaluate"))?;
        let batch_size = images.batch_size_for(|| {
            // The same number with contenders: all networks have activations of the same shapes.
            if let Some(model) = model {
                return exec::batch_size(device, &model.graph);
            }
            let size = |c: &Contender<'_>| exec::int8_batch_size(device, &c.network.graph);
            contenders.iter().try_fold(usize::MAX, |least, c| Ok(least.min(size(c)?)))
        })?;
        let total = images.count();
        let graphs: Vec<evaluate::Contender<'_>> = contenders
            .iter()
            .map(|c| evaluate::Contender { name: c.name, graph: &c.network.graph, layers: c.layers })
            .collect();
        let (run, found) = run::over("evaluate", images, input, batch_size, |batches| {
            let float = model.map(|model| &model.graph);
            let found = evaluate::evaluate(device, float, &graphs, batches, batch_size, total, progress)?;
            Ok((found.first().map_or(0, |e| e.images), found))
        })?;
        report.add_measured(contenders, &found, &run);
        Ok(Self { report, run })
    }

    /// One row for each network, the float one's first.
    pub fn results(&self) -> &[ResultRow] {
        &self.report.results
    }

    /// One row for each layer of the first contender whose layers were asked for.
    pub fn layers(&self) -> &[LayerRow] {
        &self.report.layers
    }

    /// How the run went.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// All of it as a document, to be printed or written as JSON.
    pub fn report(&self) -> Report {
        self.report.clone()
    }
}
