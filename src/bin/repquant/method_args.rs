//! Flags for how a network is quantized.

use std::path::PathBuf;

use clap::Args;

use repquant::options::{
    ActivationMode, ChannelEqualization, Granularity, LayerChoice, LayerChoices, Method, Rounding, SplitMode, Support,
};
use repquant::{Error, Quantizer};

use super::values::{OrAuto, bytes, or_auto, parse};

/// How to quantize.
#[derive(Debug, Args)]
pub(super) struct MethodArgs {
    /// Bits of the weights, 2 to 8
    #[arg(long, default_value_t = 8, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=8))]
    pub weight_bits: u8,
    /// Bits of the activations, 2 to 8
    #[arg(long, default_value_t = 8, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=8))]
    pub activation_bits: u8,
    /// affine, or symmetric (zero point 0) for runtimes that know no zero points
    #[arg(long, default_value = "affine", value_name = "MODE", value_parser = parse::<ActivationMode>)]
    pub activations: ActivationMode,
    /// One weight scale for each channel, or for the tensor
    #[arg(long, default_value = "channel", value_name = "WHAT", value_parser = parse::<Granularity>)]
    pub granularity: Granularity,
    /// none, paper (as published), aligned (every layer), or auto (where it gains, under
    /// --max-overhead)
    #[arg(long, default_value = "auto", value_name = "MODE", value_parser = parse::<SplitMode>)]
    pub split: SplitMode,
    /// Weights the coarse part may touch: center, diagonal or full (default: center; pointwise
    /// kernels: all with paper, none with aligned; auto weighs them all)
    #[arg(long, value_name = "WHICH", value_parser = parse::<Support>)]
    pub split_support: Option<Support>,
    /// With --split auto: multiplications that may be added, as a fraction
    #[arg(long, default_value_t = 0.12, value_name = "F")]
    pub max_overhead: f64,
    /// How weights are rounded: nearest, second-order (a channel's weights together, for the inputs
    /// that the layer really gets; needs --images and takes longer), or auto (second-order below 8
    /// bits and where weights lose much)
    #[arg(long, default_value = "auto", value_name = "HOW", value_parser = or_auto::<Rounding>)]
    pub rounding: OrAuto<Rounding>,
    /// Correct biases, so that the mean of each output channel is the float network's, where that lowers
    /// the layer's error (needs --images; second-order rounding does so anyway)
    #[arg(long)]
    pub bias_correction: bool,
    /// Memory for activations that second-order rounding and bias correction hold beside the images, as
    /// 512M or 2G; with less they compute more again, and the result is the same
    #[arg(long, default_value = "1G", value_name = "BYTES", value_parser = bytes)]
    pub activation_memory: u64,
    /// Before depthwise convolutions: auto (channels of unequal ranges are made equal by powers of two;
    /// the network stays the same function) or off
    #[arg(long, default_value = "auto", value_name = "HOW", value_parser = parse::<ChannelEqualization>)]
    pub channel_equalization: ChannelEqualization,
    /// How activation ranges are chosen: minmax, percentile:P, mse, kl, kl-reparam, or auto (the best
    /// of four on some of the images)
    #[arg(long, default_value = "auto", value_name = "METHOD", value_parser = or_auto::<Method>)]
    pub threshold: OrAuto<Method>,
    /// Bits of the first convolutions' and the classifier's weights (without one: the last
    /// convolutions'; default: those of the others)
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=8))]
    pub first_last_bits: Option<u8>,
    /// Keep this layer in float; * stands for any characters, as in 'head.*' (repeatable)
    #[arg(long, value_name = "LAYER")]
    pub keep_float: Vec<String>,
    /// Choose for this layer by itself: bits (2 to 8) or float, whole or a support, or both, as in
    /// 'stage0=8' or 'head.*=6,full' (repeatable; the last one for a layer counts)
    #[arg(long, value_name = "LAYER=CHOICE", value_parser = layer)]
    pub layer: Vec<(String, LayerChoice)>,
    /// Such choices as JSON, {"stage0": "8", "head.*": "6,full"}; --layer comes after them
    #[arg(long, value_name = "FILE")]
    pub layers: Option<PathBuf>,
}

impl MethodArgs {
    /// The file that they may read.
    pub(super) fn inputs(&self) -> impl Iterator<Item = PathBuf> {
        self.layers.iter().cloned()
    }

    /// As the library takes them.
    ///
    /// # Errors
    /// If the file of choices cannot be read or has others.
    pub(super) fn quantizer(&self) -> repquant::Result<Quantizer> {
        let quantizer = Quantizer::new()
            .weight_bits(self.weight_bits)
            .activation_bits(self.activation_bits)
            .activations(self.activations)
            .granularity(self.granularity)
            .split(self.split)
            .split_support(self.split_support)
            .max_overhead(self.max_overhead)
            .rounding(self.rounding.0)
            .bias_correction(self.bias_correction)
            .activation_memory(self.activation_memory)
            .channel_equalization(self.channel_equalization)
            .threshold(self.threshold.0)
            .first_last_bits(self.first_last_bits);
        let quantizer = self.keep_float.iter().fold(quantizer, Quantizer::keep_float);
        let mut choices = match &self.layers {
            Some(path) => {
                let failed = |e| Error::bad("cannot be read").because(e).at(path.display());
                let json = std::fs::read_to_string(path).map_err(failed)?;
                LayerChoices::from_json(&json).map_err(|e| e.at(path.display()))?.0
            }
            None => Vec::new(),
        };
        choices.extend(self.layer.iter().cloned());
        Ok(choices.into_iter().fold(quantizer, |quantizer, (name, choice)| quantizer.layer(name, choice)))
    }
}

/// `LAYER=CHOICE`.
fn layer(text: &str) -> Result<(String, LayerChoice), String> {
    // A name may hold an =, a choice does not.
    let Some((name, choice)) = text.rsplit_once('=') else {
        return Err("a layer and what is chosen for it are written LAYER=CHOICE, as in stage0=8".into());
    };
    Ok((name.to_owned(), parse(choice)?))
}
