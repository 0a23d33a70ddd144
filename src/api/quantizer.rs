//! How a network is quantized.

use super::{Calibration, Images, Model, Quantized};
use crate::Result;
use crate::device::Device;
use crate::exec;
use crate::model::Support;
use crate::progress::{Event, Progress, Silent, Stage};
use crate::quantize::{self, CalibrationImages, Granularity, LayerChoice, QuantizeOptions, Rounding, SplitMode};
use crate::threshold::{self, ActivationMode, Method, RangeOptions};

/// How a network is quantized: every option, with its default.
///
/// ```
/// use repquant::{Quantizer, options::{Method, SplitMode}};
///
/// let quantizer = Quantizer::new().weight_bits(4).split(SplitMode::Aligned).threshold(Method::Mse);
/// assert!(quantizer.check().is_ok());
/// assert!(quantizer.weight_bits(9).check().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Quantizer {
    weights: QuantizeOptions,
    ranges: RangeOptions,
}

impl Quantizer {
    /// The defaults: 8 bits, a scale for each channel, the aligned split, ranges by `kl-reparam`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bits of the weights, 2 to 8; default 8.
    #[must_use]
    pub fn weight_bits(mut self, bits: u8) -> Self {
        self.weights.weight_bits = bits;
        self
    }

    /// Bits of the weights of the first convolutions and of the classifier, or where there is none,
    /// of the last convolutions; default: those of the others.
    #[must_use]
    pub fn first_last_bits(mut self, bits: impl Into<Option<u8>>) -> Self {
        self.weights.first_last_bits = bits.into();
        self
    }

    /// Bits of the activations, 2 to 8; default 8. The network's input always has 8.
    #[must_use]
    pub fn activation_bits(mut self, bits: u8) -> Self {
        self.ranges.bits = bits;
        self
    }

    /// Where the levels of activations lie; default: symmetric around 0.
    #[must_use]
    pub fn activations(mut self, mode: ActivationMode) -> Self {
        self.ranges.mode = mode;
        self
    }

    /// How many scales the weights of a layer have; default: one for each channel.
    #[must_use]
    pub fn granularity(mut self, granularity: Granularity) -> Self {
        self.weights.granularity = granularity;
        self
    }

    /// How kernels are split into a coarse and a fine part; default: aligned.
    #[must_use]
    pub fn split(mut self, split: SplitMode) -> Self {
        self.weights.split = split;
        self
    }

    /// Which weights the coarse part may touch; default: the centre, and of pointwise kernels all
    /// with [`SplitMode::Paper`], none with [`SplitMode::Aligned`]. With [`SplitMode::Auto`]: the
    /// only support that is weighed; default: all of them.
    #[must_use]
    pub fn split_support(mut self, support: impl Into<Option<Support>>) -> Self {
        self.weights.support = support.into();
        self
    }

    /// With [`SplitMode::Auto`]: how many multiplications may be added, as a fraction of the
    /// network's; default 0.12.
    #[must_use]
    pub fn max_overhead(mut self, fraction: f64) -> Self {
        self.weights.max_overhead = fraction;
        self
    }

    /// How weights are rounded; default: to nearest. [`Rounding::SecondOrder`] needs images, so
    /// [`Quantizer::quantize_on`] in place of [`Quantizer::quantize`].
    #[must_use]
    pub fn rounding(mut self, rounding: Rounding) -> Self {
        self.weights.rounding = rounding;
        self
    }

    /// Keeps a layer in float; one call for each.
    #[must_use]
    pub fn keep_float(mut self, layer: impl Into<String>) -> Self {
        self.weights.keep_float.push(layer.into());
        self
    }

    /// Chooses for a layer by itself, by name or pattern (`head.*`): bits, split, or that it stays
    /// float. One call for each; of several that are a layer's the last counts.
    ///
    /// ```
    /// use repquant::Quantizer;
    ///
    /// # fn main() -> repquant::Result<()> {
    /// let quantizer = Quantizer::new().weight_bits(4).layer("stage0", "8".parse()?).layer("head.*", "6,full".parse()?);
    /// assert!(quantizer.check().is_ok());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer(mut self, name: impl Into<String>, choice: LayerChoice) -> Self {
        self.weights.layers.push((name.into(), choice));
        self
    }

    /// How the ranges of activations are chosen; default [`Method::KlReparam`].
    #[must_use]
    pub fn threshold(mut self, method: Method) -> Self {
        self.ranges.method = method;
        self
    }

    /// The options of the weights and of the ranges.
    pub(super) fn parts(&self) -> (&QuantizeOptions, &RangeOptions) {
        (&self.weights, &self.ranges)
    }

    /// Whether every option is in its range.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage), naming the first that is not.
    pub fn check(&self) -> Result<()> {
        self.weights.check()?;
        self.ranges.check()
    }

    /// [`Quantizer::check`], and whether the layers to be kept in float are layers of `model`:
    /// before a calibration that takes long, say.
    ///
    /// # Errors
    /// As [`Quantizer::check`].
    pub fn check_for(&self, model: &Model) -> Result<()> {
        self.check()?;
        self.weights.check_layers(&model.graph)
    }

    /// Chooses ranges, splits and quantizes: a function of its arguments alone, the same bits on
    /// every machine. It runs on all cores of the host and needs no device.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options out of range and for
    /// [`Rounding::SecondOrder`]; [`ErrorKind::Input`](crate::ErrorKind::Input) where `calibration` is of another model, the
    /// network has nothing to quantize, or a layer's range cannot be represented (the layer is
    /// named).
    pub fn quantize(&self, model: &Model, calibration: &Calibration) -> Result<Quantized> {
        self.quantize_with(model, calibration, &Silent)
    }

    /// As [`Quantizer::quantize`]; `progress` is told when each stage begins and ends.
    ///
    /// # Errors
    /// As [`Quantizer::quantize`].
    pub fn quantize_with(
        &self,
        model: &Model,
        calibration: &Calibration,
        progress: &dyn Progress,
    ) -> Result<Quantized> {
        let statistics = &calibration.statistics;
        let ranges = stage(Stage::Threshold, None, progress, || threshold::choose(statistics, &self.ranges))?;
        let quantize = || quantize::quantize(&model.graph, &ranges, statistics, &self.weights);
        let graph = stage(Stage::Quantize, None, progress, quantize)?;
        Ok(Quantized { graph, asked: Some([self.weights.weight_bits, self.ranges.bits]) })
    }

    /// As [`Quantizer::quantize_with`], with what [`Rounding::SecondOrder`] needs: the float network
    /// and the quantized one run over `images` on `device`, layer by layer. The images are held in
    /// memory; best they are those of the calibration, a few hundred. To nearest, none is read.
    ///
    /// Neither the size of the batches nor the number of threads changes the result. Second-order
    /// rounding looks at the float network's activations, which devices round in their own ways: on
    /// another device it may choose other levels.
    ///
    /// # Errors
    /// Those of [`Quantizer::quantize`], but for that of the rounding, and those of
    /// [`Calibration::collect`].
    pub fn quantize_on(
        &self,
        device: &Device,
        model: &Model,
        calibration: &Calibration,
        images: Images<'_>,
        progress: &dyn Progress,
    ) -> Result<Quantized> {
        if self.weights.rounding == Rounding::Nearest {
            return self.quantize_with(model, calibration, progress);
        }
        let (graph, statistics) = (&model.graph, &calibration.statistics);
        let ranges = stage(Stage::Threshold, None, progress, || threshold::choose(statistics, &self.ranges))?;
        let batch_size = images.batch_size_for(|| exec::batch_size(device, graph))?;
        let layers = graph.nodes.iter().filter(|node| node.op.weights().is_some()).count() as u64;
        let graph = stage(Stage::Quantize, Some(layers), progress, || {
            let mut batches = images.feed(&graph.input, batch_size);
            let images = CalibrationImages { device, batches: &mut batches, max_images: batch_size };
            quantize::quantize_on(graph, &ranges, statistics, &self.weights, images, progress)
        })?;
        Ok(Quantized { graph, asked: Some([self.weights.weight_bits, self.ranges.bits]) })
    }
}

fn stage<T>(stage: Stage, total: Option<u64>, progress: &dyn Progress, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _span = tracing::info_span!("stage", name = stage.name()).entered();
    progress.event(Event::Begin { stage, total });
    let result = work()?;
    progress.event(Event::End { stage });
    Ok(result)
}
