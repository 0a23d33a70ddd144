//! The options of quantization: defaults, names, checks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::layers::LayerChoice;
use crate::error::{Term, text};
use crate::model::{Graph, Support};
use crate::threshold::RangeOptions;
use crate::{Error, Result};

/// How kernels are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitMode {
    /// Not at all.
    None,
    /// As published: the coarse part on a grid of its own.
    Paper,
    /// The coarse scale is the fine scale shifted (default).
    #[default]
    Aligned,
    /// Layers and supports chosen under a budget of multiplications.
    Auto,
}

/// How many weight scales a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// One for each output channel (default).
    #[default]
    Channel,
    /// One for the layer.
    Tensor,
}

/// How weights are rounded to levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Each weight to the nearest level (default).
    #[default]
    Nearest,
    /// All weights of a channel together, by the second moments of what the layer reads; biases
    /// follow. It needs images.
    SecondOrder,
}

/// Whether channels are made equal before depthwise convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelEqualization {
    /// Where it gains (default).
    #[default]
    Auto,
    /// Nowhere.
    Off,
}

/// Options of [`quantize`](super::quantize).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantizeOptions {
    /// Bit width of weights, 2 to 8; default 8.
    pub weight_bits: u8,
    /// Bit width of the weights of the first convolutions and of the classifier, or where there is
    /// none, of the convolutions that nothing stored comes after; default: that of the others.
    pub first_last_bits: Option<u8>,
    /// How many scales; default one for each channel.
    pub granularity: Granularity,
    /// How kernels are split; default aligned.
    pub split: SplitMode,
    /// Which weights the coarse part may touch. None: `center`, and pointwise kernels as the design
    /// has it (`paper` splits all of them, `aligned` none). With `auto`: the only support that is
    /// weighed; None: all.
    pub support: Option<Support>,
    /// `auto`: how many multiplications may be added, as a fraction; default 0.12.
    pub max_overhead: f64,
    /// How weights are rounded; default to nearest.
    #[serde(default)]
    pub rounding: Rounding,
    /// Whether biases are corrected by what each layer gives, where weights are rounded to nearest;
    /// default: no. Second-order rounding does so anyway. It needs images.
    #[serde(default)]
    pub bias_correction: bool,
    /// Whether channels are made equal before depthwise convolutions; default: where it gains. It is
    /// done by `equalize`, before ranges are chosen.
    #[serde(default)]
    pub channel_equalization: ChannelEqualization,
    /// Layers that stay float, by name; `*` in a name stands for any characters, none too.
    pub keep_float: Vec<String>,
    /// What is chosen for single layers, by such names; of several that are a layer's the last counts.
    #[serde(default)]
    pub layers: Vec<(String, LayerChoice)>,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            weight_bits: 8,
            first_last_bits: None,
            granularity: Granularity::default(),
            split: SplitMode::default(),
            support: None,
            max_overhead: 0.12,
            rounding: Rounding::default(),
            bias_correction: false,
            channel_equalization: ChannelEqualization::default(),
            keep_float: Vec::new(),
            layers: Vec::new(),
        }
    }
}

impl QuantizeOptions {
    /// Checks the values that a type cannot: bit widths and the budget.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage), naming the option.
    pub fn check(&self) -> Result<()> {
        let bits = [(Term::WeightBits, Some(self.weight_bits)), (Term::FirstLastBits, self.first_last_bits)];
        for (term, bits) in bits.into_iter().filter_map(|(term, bits)| Some((term, bits?))) {
            if !(2..=8).contains(&bits) {
                return Err(Error::usage(text![term, format!(" {bits} is not a width of 2 to 8 bits")]));
            }
        }
        for (name, choice) in &self.layers {
            choice.check().map_err(|e| e.at(format!("layer {name}")))?;
        }
        if self.max_overhead.is_finite() && self.max_overhead >= 0.0 {
            return Ok(());
        }
        Err(Error::usage(text![Term::MaxOverhead, format!(" {} is not a fraction of 0 or more", self.max_overhead)])
            .hint("0.12 allows 12 % more multiplications"))
    }

    /// Checks that the layers to be kept in float, and those for which something is chosen, are
    /// layers of `graph`, and have weights where those are what is chosen for.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage), naming the first that is not, and those there
    /// are.
    pub fn check_layers(&self, graph: &Graph) -> Result<()> {
        let layers = graph.nodes.get(1..).unwrap_or_default();
        let list = |all: bool| {
            let names = layers.iter().filter(|node| all || node.op.weights().is_some());
            names.map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let kept = self.keep_float.iter().map(|name| (Term::KeepFloat, name));
        for (term, unknown) in kept.chain(self.layers.iter().map(|(name, _)| (Term::Layer, name))) {
            if !layers.iter().any(|node| matches(unknown, &node.name)) {
                return Err(Error::usage(text![term, format!(" {unknown}: {} has no such layer", graph.name)])
                    .hint(format!("its layers are: {}", list(true))));
            }
        }
        let weighted = |name: &str| layers.iter().any(|node| node.op.weights().is_some() && matches(name, &node.name));
        match self.layers.iter().find(|(name, choice)| !choice.float && !weighted(name)) {
            None => Ok(()),
            Some((name, choice)) => {
                let what = format!(" {name}={choice}: this layer has no weights to be rounded");
                Err(Error::usage(text![Term::Layer, what])
                    .hint(format!("it can stay float; those with weights are: {}", list(false))))
            }
        }
    }

    /// Whether the images are looked at, not only what was counted of them.
    pub(crate) fn needs_images(&self) -> bool {
        self.rounding == Rounding::SecondOrder || self.bias_correction
    }

    /// What is chosen for a layer by itself.
    pub(super) fn choice(&self, layer: &str) -> LayerChoice {
        let own = self.layers.iter().rev().find(|(name, _)| matches(name, layer));
        own.map_or(LayerChoice::default(), |(_, choice)| *choice)
    }

    /// Whether a layer is to be kept in float.
    pub(super) fn keeps(&self, layer: &str) -> bool {
        self.keep_float.iter().any(|name| matches(name, layer)) || self.choice(layer).float
    }

    /// These options and those of the activation ranges under the names of their flags, for the
    /// record in the model.
    pub(crate) fn record(&self, ranges: &RangeOptions) -> Value {
        let mut record = json!({
            "weight_bits": self.weight_bits,
            "first_last_bits": self.first_last_bits,
            "granularity": self.granularity,
            "split": self.split,
            "split_support": self.support,
            "max_overhead": self.max_overhead,
            "keep_float": self.keep_float,
            "threshold": ranges.method.to_string(),
            "activation_bits": ranges.bits,
            "activations": ranges.mode.to_string(),
        });
        // Files of networks that are rounded to nearest stay as they were before there was a choice.
        if self.rounding != Rounding::Nearest {
            record["rounding"] = json!(self.rounding);
        }
        if self.bias_correction {
            record["bias_correction"] = json!(true);
        }
        if !self.layers.is_empty() {
            record["layers"] = json!(self.layers);
        }
        record
    }
}

/// Whether a pattern, in which `*` stands for any characters, is that of a name; a name that holds
/// a `*` itself is matched by itself, too.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// `Display` and `FromStr` of an option whose values are words.
macro_rules! words {
    ($type:ty, $what:literal, $($variant:ident => $word:literal),+) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $word),+ })
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(word: &str) -> Result<Self> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Error::usage(format!("{word:?} is not {}", $what))
                        .hint(format!("one of: {}", [$($word),+].join(", ")))),
                }
            }
        }
    };
}

words!(SplitMode, "a split", None => "none", Paper => "paper", Aligned => "aligned", Auto => "auto");
words!(Granularity, "a granularity", Channel => "channel", Tensor => "tensor");
words!(Rounding, "a rounding", Nearest => "nearest", SecondOrder => "second-order");
words!(ChannelEqualization, "an equalization", Auto => "auto", Off => "off");
words!(Support, "a support", Center => "center", Diagonal => "diagonal", Full => "full");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn words_go_both_ways() {
        for mode in [SplitMode::None, SplitMode::Paper, SplitMode::Aligned, SplitMode::Auto] {
            assert_eq!(mode.to_string().parse::<SplitMode>().unwrap(), mode);
            assert_eq!(serde_json::to_value(mode).unwrap(), json!(mode.to_string()));
        }
        for rounding in [Rounding::Nearest, Rounding::SecondOrder] {
            assert_eq!(rounding.to_string().parse::<Rounding>().unwrap(), rounding);
            assert_eq!(serde_json::to_value(rounding).unwrap(), json!(rounding.to_string()));
        }
        for equalization in [ChannelEqualization::Auto, ChannelEqualization::Off] {
            assert_eq!(equalization.to_string().parse::<ChannelEqualization>().unwrap(), equalization);
            assert_eq!(serde_json::to_value(equalization).unwrap(), json!(equalization.to_string()));
        }
        for support in [Support::Center, Support::Diagonal, Support::Full] {
            assert_eq!(support.to_string().parse::<Support>().unwrap(), support);
            assert_eq!(serde_json::to_value(support).unwrap(), json!(support.to_string()));
        }
        assert_eq!("tensor".parse::<Granularity>().unwrap(), Granularity::Tensor);
        let error = "layer".parse::<Granularity>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.to_string(), "\"layer\" is not a granularity\n  one of: channel, tensor");
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("head", "head", true),
            ("head", "head.0", false),
            ("head.*", "head.0", true),
            ("head.*", "head.", true),
            ("head.*", "head", false),
            ("*.conv", "a.b.conv", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("a*", "ba", false),
            ("node*1", "node*1", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn values_out_of_range_are_usage_errors() {
        assert!(QuantizeOptions::default().check().is_ok());
        for bits in [0, 1, 9, 255] {
            let weight = QuantizeOptions { weight_bits: bits, ..Default::default() };
            let ends = QuantizeOptions { first_last_bits: Some(bits), ..Default::default() };
            assert_eq!(weight.check().unwrap_err().kind(), ErrorKind::Usage);
            assert!(ends.check().unwrap_err().to_string().contains("first_last_bits"));
        }
        for max_overhead in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(QuantizeOptions { max_overhead, ..Default::default() }.check().is_err());
        }
    }
}
