//! Messages that may speak of settings: the library and each program around it have names of their
//! own for them.

use std::borrow::Cow;
use std::fmt;

/// What callers of the library know by one name, and users of a program around it by another: a
/// setting, or a way out.
///
/// `Display` writes the library's name. A program that has flags, or arguments of another language,
/// puts its own in the place of each with [`Error::message`](super::Error::message).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Term {
    /// Images in a batch.
    BatchSize,
    /// The Cpu device, which needs no adapter.
    CpuDevice,
    /// A list of this machine's devices.
    Devices,
    /// Where times are taken.
    Profile,
    /// The comparison of each kernel with its plain twin.
    Verify,
    /// The description of a model, a file.
    Describe,
    /// The name of a published architecture.
    Arch,
    /// Height and width of a network's input.
    InputSize,
    /// How an image is brought to the size of the input.
    Fit,
    /// Where a crop is taken.
    Crop,
    /// Length of an image's shorter side before the crop.
    Resize,
    /// Preprocessing that is known by a name.
    Preprocess,
    /// Mean of each colour.
    Mean,
    /// Standard deviation of each colour.
    Std,
    /// Which colours a network's channels are.
    Color,
    /// How much of a JPEG is decoded.
    Decode,
    /// Leave out images that cannot be read.
    SkipBad,
    /// The file with the class of each image.
    Labels,
    /// The names of the classes.
    Classes,
    /// Bits of the weights.
    WeightBits,
    /// Bits of the weights of the first and last layers.
    FirstLastBits,
    /// How many multiplications a split may add.
    MaxOverhead,
    /// How weights are rounded.
    Rounding,
    /// Whether biases are corrected.
    BiasCorrection,
    /// Layers that stay in float.
    KeepFloat,
    /// What is chosen for a single layer.
    Layer,
    /// The step that collects statistics.
    Calibrate,
    /// The step that adds statistics of several runs.
    Merge,
    /// The step that makes a quantized model.
    Quantize,
    /// The file that is written.
    Output,
    /// Replace a file that exists.
    Replace,
}

impl Term {
    /// The name that a caller of the library knows.
    fn name(self) -> &'static str {
        match self {
            Self::BatchSize => "`batch_size`",
            Self::CpuDevice => "the Cpu device",
            Self::Devices => "`Device::adapters`",
            Self::Profile => "the profile",
            Self::Verify => "`Device::verify`",
            Self::Describe => "`describe`",
            Self::Arch => "`arch`",
            Self::InputSize => "`size`",
            Self::Fit => "`fit`",
            Self::Crop => "`crop`",
            Self::Resize => "`resize`",
            Self::Preprocess => "`preset`",
            Self::Mean => "`mean`",
            Self::Std => "`std`",
            Self::Color => "`color`",
            Self::Decode => "`decode`",
            Self::SkipBad => "`skip_bad`",
            Self::Labels => "a labels file",
            Self::Classes => "`Model::with_classes`",
            Self::WeightBits => "`weight_bits`",
            Self::FirstLastBits => "`first_last_bits`",
            Self::MaxOverhead => "`max_overhead`",
            Self::Rounding => "`rounding`",
            Self::BiasCorrection => "`bias_correction`",
            Self::KeepFloat => "`keep_float`",
            Self::Layer => "`layer`",
            Self::Calibrate => "`Calibration::collect`",
            Self::Merge => "`Calibration::merge`",
            Self::Quantize => "`Quantizer::quantize`",
            Self::Output => "for the output",
            Self::Replace => "`replace`",
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Words of a message, and the [`Term`]s among them. It is made from a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(Vec<Part>);

/// A piece of a [`Text`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Words(String),
    Term(Term),
}

impl Text {
    /// Of these parts, one behind the other.
    pub(crate) fn of(parts: impl IntoIterator<Item = Part>) -> Self {
        Self(parts.into_iter().collect())
    }

    /// With `name` for each term.
    pub(super) fn written<'a>(&self, name: &dyn Fn(Term) -> Cow<'a, str>) -> String {
        let part = |part: &Part| match part {
            Part::Words(words) => words.clone(),
            Part::Term(term) => name(*term).into_owned(),
        };
        self.0.iter().map(part).collect()
    }
}

impl<W: Into<String>> From<W> for Text {
    fn from(words: W) -> Self {
        Self::of([Part::Words(words.into())])
    }
}

impl From<&str> for Part {
    fn from(words: &str) -> Self {
        Self::Words(words.to_owned())
    }
}

impl From<String> for Part {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

impl From<Term> for Part {
    fn from(term: Term) -> Self {
        Self::Term(term)
    }
}

/// A [`Text`] of strings and [`Term`]s, one behind the other.
macro_rules! text {
    ($($part:expr),+ $(,)?) => {
        $crate::error::Text::of([$($crate::error::Part::from($part)),+])
    };
}

pub(crate) use text;
