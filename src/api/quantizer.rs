//! How a network is quantized.

use super::{Calibration, Model, Quantized};
use crate::Result;
use crate::model::Support;
use crate::progress::{Event, Progress, Silent, Stage};
use crate::quantize::{self, Granularity, QuantizeOptions, SplitMode};
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

    /// Keeps a layer in float; one call for each.
    #[must_use]
    pub fn keep_float(mut self, layer: impl Into<String>) -> Self {
        self.weights.keep_float.push(layer.into());
        self
    }

    /// How the ranges of activations are chosen; default [`Method::KlReparam`].
    #[must_use]
    pub fn threshold(mut self, method: Method) -> Self {
        self.ranges.method = method;
        self
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
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options out of range;
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where `calibration` is of another model, the
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
        let ranges = stage(Stage::Threshold, progress, || threshold::choose(statistics, &self.ranges))?;
        let quantize = || quantize::quantize(&model.graph, &ranges, statistics, &self.weights);
        let graph = stage(Stage::Quantize, progress, quantize)?;
        Ok(Quantized { graph, asked: Some([self.weights.weight_bits, self.ranges.bits]) })
    }
}

fn stage<T>(stage: Stage, progress: &dyn Progress, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _span = tracing::info_span!("stage", name = stage.name()).entered();
    progress.event(Event::Begin { stage, total: None });
    let result = work()?;
    progress.event(Event::End { stage });
    Ok(result)
}
