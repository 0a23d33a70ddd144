//! How a network is quantized.

use super::{Calibration, Images, Model, Quantized, settle};
use crate::Result;
use crate::calibrate;
use crate::device::Device;
use crate::exec;
use crate::images::Batch;
use crate::model::{Graph, QuantizedGraph, Support};
use crate::progress::{Event, Progress, Silent, Stage};
use crate::quantize::{
    self, ACTIVATION_MEMORY, CalibrationImages, ChannelEqualization, Equalized, Granularity, LayerChoice,
    QuantizeOptions, Rounding, SplitMode,
};
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
#[derive(Debug, Clone, PartialEq)]
pub struct Quantizer {
    /// The rounding in it is `rounding`, once that is known.
    weights: QuantizeOptions,
    /// The method in it is `method`, once that is known.
    ranges: RangeOptions,
    method: Option<Method>,
    rounding: Option<Rounding>,
    memory: Option<u64>,
}

impl Default for Quantizer {
    fn default() -> Self {
        Self {
            weights: QuantizeOptions { split: SplitMode::Auto, ..QuantizeOptions::default() },
            ranges: RangeOptions { mode: ActivationMode::Affine, ..RangeOptions::default() },
            method: None,
            rounding: None,
            memory: None,
        }
    }
}

impl Quantizer {
    /// The defaults: 8 bits, a scale for each channel, kernels split where it gains, affine
    /// activations; the ranges' method and the rounding are chosen by [`Quantizer::quantize_on`].
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

    /// Where the levels of activations lie; default: affine. Symmetric ones are for runtimes that
    /// know no zero points.
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

    /// How kernels are split into a coarse and a fine part; default: [`SplitMode::Auto`], where it
    /// gains.
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

    /// How weights are rounded; default (none): with images ([`Quantizer::quantize_on`])
    /// [`Rounding::SecondOrder`] where they have fewer than 8 bits or lose much, otherwise to nearest.
    #[must_use]
    pub fn rounding(mut self, rounding: impl Into<Option<Rounding>>) -> Self {
        self.rounding = rounding.into();
        self
    }

    /// Whether biases are corrected, so that the mean of each output channel is that of the float network
    /// where this lowers the layer's error; default: no. [`Rounding::SecondOrder`] does so anyway. It needs
    /// images, so [`Quantizer::quantize_on`] in place of [`Quantizer::quantize`].
    #[must_use]
    pub fn bias_correction(mut self, correct: bool) -> Self {
        self.weights.bias_correction = correct;
        self
    }

    /// Bytes of activations that [`Quantizer::quantize_on`] holds beside the images; default: 1 GiB. What
    /// does not fit is computed again: with less it takes longer, and the result is the same.
    #[must_use]
    pub fn activation_memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Whether the channels of what depthwise convolutions read are made equal; default: where it gains.
    /// The network stays the same function.
    #[must_use]
    pub fn channel_equalization(mut self, equalization: ChannelEqualization) -> Self {
        self.weights.channel_equalization = equalization;
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

    /// How the ranges of activations are chosen; default (none): with images
    /// ([`Quantizer::quantize_on`]) the best of several, otherwise [`Method::Mse`].
    #[must_use]
    pub fn threshold(mut self, method: impl Into<Option<Method>>) -> Self {
        self.method = method.into();
        self
    }

    /// The options of the weights and of the ranges, what is left open as it is in what was made.
    pub(super) fn settled(&self, made: &Quantized) -> (QuantizeOptions, RangeOptions) {
        let recorded = |key: &str| made.options()[key].as_str();
        let rounding = self.rounding.or_else(|| recorded("rounding")?.parse().ok()).unwrap_or(Rounding::Nearest);
        let method = self.method.or_else(|| recorded("threshold")?.parse().ok()).unwrap_or(settle::UNTRIED);
        (QuantizeOptions { rounding, ..self.weights.clone() }, self.ranges(method))
    }

    /// Whether every option is in its range.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage), naming the first that is not.
    pub fn check(&self) -> Result<()> {
        self.weights.check()?;
        self.ranges(self.method.unwrap_or(settle::UNTRIED)).check()
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
    /// every machine. It runs on all cores of the host and needs no device. What is left open and
    /// needs images to be measured is not: ranges are by [`Method::Mse`], weights rounded to nearest
    /// ([`Quantized::decisions`]).
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options out of range and for
    /// what needs images; [`ErrorKind::Input`](crate::ErrorKind::Input) where `calibration` is of
    /// another model, the network has nothing to quantize, or a layer's range cannot be represented
    /// (the layer is named).
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
        let mut decisions = Vec::new();
        let method = self.method.unwrap_or_else(|| {
            decisions.push(format!("threshold {}: there are no images to try others on", settle::UNTRIED));
            settle::UNTRIED
        });
        let rounding = self.rounding.unwrap_or_else(|| {
            decisions.push(format!("rounding {}: there are no images for another", Rounding::Nearest));
            Rounding::Nearest
        });
        let weights = QuantizeOptions { rounding, ..self.weights.clone() };
        let equal = quantize::equalize(&model.graph, &calibration.statistics, &weights)?;
        let (graph, statistics) = parts(equal.as_ref(), model, calibration);
        let ranges = self.ranges(method);
        let ranges = stage(Stage::Threshold, None, progress, || threshold::choose(statistics, &ranges))?;
        let quantize = || quantize::quantize(graph, &ranges, statistics, &weights);
        let graph = stage(Stage::Quantize, None, progress, quantize)?;
        Ok(self.made(graph, equal, decisions))
    }

    /// As [`Quantizer::quantize_with`], with what measuring and [`Rounding::SecondOrder`] need.
    ///
    /// Where no method is given for the ranges, several are tried on some of the images, with weights of 8
    /// bits. Where no rounding is, it is second-order for weights of fewer than 8 bits, and for
    /// others that lose much. For that rounding the float network and the quantized one run over
    /// `images` on `device`, layer by layer; the images are held in memory. Best they are those of the
    /// calibration, a few hundred.
    ///
    /// Neither the size of the batches nor the number of threads changes the result. Trying methods
    /// and second-order rounding look at the float network's activations, which devices round in their
    /// own ways: on another device other levels may be chosen.
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
        let equal = quantize::equalize(&model.graph, &calibration.statistics, &self.weights)?;
        let (graph, statistics) = parts(equal.as_ref(), model, calibration);
        let mut decisions = Vec::new();
        let rounding = if let Some(rounding) = self.rounding {
            rounding
        } else {
            let ranges = self.ranges(self.method.unwrap_or(settle::UNTRIED));
            let (rounding, why) = settle::rounding(graph, statistics, &self.weights, &ranges)?;
            decisions.push(why);
            rounding
        };
        let weights = QuantizeOptions { rounding, ..self.weights.clone() };
        let all = weights.needs_images();
        let batch_size = images.batch_size_for(|| exec::batch_size(device, graph))?;
        let batches: Vec<Batch> = match (all, self.method) {
            (true, _) => images.feed(&graph.input, batch_size).collect::<Result<_>>()?,
            (false, None) => images.limit(settle::TRIED).feed(&graph.input, batch_size).collect::<Result<_>>()?,
            (false, Some(_)) => Vec::new(),
        };
        let ranges = stage(Stage::Threshold, None, progress, || {
            let method = if let Some(method) = self.method {
                method
            } else {
                let plain = QuantizeOptions { bias_correction: false, ..weights.clone() };
                let trial = settle::Trial { device, graph, statistics };
                let (method, why) = trial.method(&plain, &self.ranges, settle::spread(&batches, settle::TRIED))?;
                decisions.insert(0, why);
                method
            };
            threshold::choose(statistics, &self.ranges(method))
        })?;
        let layers = graph.nodes.iter().filter(|node| node.op.weights().is_some()).count() as u64;
        let graph = stage(Stage::Quantize, all.then_some(layers), progress, || {
            let (mut batches, memory) = (batches.into_iter().map(Ok), self.memory.unwrap_or(ACTIVATION_MEMORY));
            let images = CalibrationImages { device, batches: &mut batches, max_images: batch_size, memory };
            quantize::quantize_on(graph, &ranges, statistics, &weights, images, progress)
        })?;
        Ok(self.made(graph, equal, decisions))
    }

    /// How ranges are chosen, by a method.
    fn ranges(&self, method: Method) -> RangeOptions {
        RangeOptions { method, ..self.ranges.clone() }
    }

    fn made(&self, mut graph: QuantizedGraph, equal: Option<Equalized>, decisions: Vec<String>) -> Quantized {
        if let Some(equal) = equal {
            equal.note(&mut graph);
        }
        Quantized { graph, asked: Some([self.weights.weight_bits, self.ranges.bits]), decisions }
    }
}

/// The network that is quantized and its statistics: with equal channels, or as they are.
pub(super) fn parts<'a>(
    equal: Option<&'a Equalized>,
    model: &'a Model,
    calibration: &'a Calibration,
) -> (&'a Graph, &'a calibrate::Calibration) {
    match equal {
        Some(equal) => (&equal.graph, &equal.calibration),
        None => (&model.graph, &calibration.statistics),
    }
}

fn stage<T>(stage: Stage, total: Option<u64>, progress: &dyn Progress, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _span = tracing::info_span!("stage", name = stage.name()).entered();
    progress.event(Event::Begin { stage, total });
    let result = work()?;
    progress.event(Event::End { stage });
    Ok(result)
}
