//! The description: what a checkpoint does not say of its network. Read strictly and checked for
//! sense.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{Color, Decode, Interpolation, MAX_SIDE, Preprocessing};
use crate::{Error, Result};

/// ε of `PyTorch`'s batch norm, where nothing else is said.
pub(crate) const DEFAULT_BN_EPS: f64 = 1e-5;

/// The kind of blocks a network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// `BN(conv3x3) + BN(conv1x1) + BN(identity)`, arXiv 2101.03697.
    RepVgg,
    /// Depthwise, then pointwise blocks of several branches, arXiv 2206.04040.
    MobileOne,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RepVgg => "RepVGG",
            Self::MobileOne => "MobileOne",
        })
    }
}

/// Channels of an image as `ImageNet`'s networks take it.
const IMAGENET_CHANNELS: usize = 3;

/// The largest stride that is taken for one.
const MAX_STRIDE: usize = 64;

/// What a checkpoint does not say. The JSON form is strict: an unknown key is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The kind of blocks.
    pub family: Family,
    /// Stride of each stage's first block, the stem first.
    pub strides: Vec<usize>,
    /// Groups of a `RepVGG`'s grouped layers (4 in the g4 models, 1: none is grouped); none:
    /// whatever the weight shapes say.
    #[serde(default)]
    pub groups: Option<usize>,
    /// ε of every batch norm; 1e-5 where it is not said.
    #[serde(default = "default_bn_eps")]
    pub bn_eps: f64,
    /// How an image becomes the input.
    pub input: InputDescription,
    /// Class names in the order of the logits.
    #[serde(default)]
    pub classes: Option<Vec<String>>,
}

/// Preprocessing as a description states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputDescription {
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Length of the shorter side before the crop; null: no resize.
    #[serde(default)]
    pub resize: Option<usize>,
    /// Where the crop is taken.
    #[serde(default)]
    pub crop: Crop,
    /// The filter of the resize; bilinear where it is not said.
    #[serde(default = "default_interpolation")]
    pub interpolation: Interpolation,
    /// Mean of each of the input's channels, on 0 … 1: one number (gray), three (RGB), or as many
    /// as there are where they are no colours.
    pub mean: Vec<f64>,
    /// Standard deviation of each of the input's channels, on 0 … 1.
    pub std: Vec<f64>,
}

/// Where the crop is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// From the middle of the image.
    #[default]
    Center,
}

impl FromStr for Crop {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "center" => Ok(Self::Center),
            _ => Err(Error::usage(format!("a crop `{text}` is not supported")).hint("choose center")),
        }
    }
}

fn default_bn_eps() -> f64 {
    DEFAULT_BN_EPS
}

fn default_interpolation() -> Interpolation {
    Interpolation::Bilinear
}

impl InputDescription {
    /// `ImageNet`'s usual preprocessing: shorter side to 256, centre 224×224, `ImageNet`'s mean and
    /// deviation.
    pub fn imagenet() -> Self {
        Self {
            size: [224, 224],
            resize: Some(256),
            crop: Crop::Center,
            interpolation: Interpolation::Bilinear,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
        }
    }

    /// What is taken where nothing is said, for an input of `channels` and `size`: `ImageNet`'s
    /// mean, deviation and margin around the crop for three channels; values from 0 to 1 for
    /// others, gray images with their shorter side resized to the longer one of the input.
    pub fn usual(channels: usize, size: [usize; 2]) -> Self {
        let longest = size[0].max(size[1]);
        if channels == IMAGENET_CHANNELS {
            // 224 of 256.
            let resize = Some(longest.saturating_mul(8) / 7).filter(|&side| side <= MAX_SIDE);
            return Self { size, resize, ..Self::imagenet() };
        }
        let resize = (channels == 1).then_some(longest);
        Self { size, resize, mean: vec![0.0; channels], std: vec![1.0; channels], ..Self::imagenet() }
    }

    /// Channels of the input.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// Checks what can be checked without a network.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input), naming the key that makes no sense.
    pub fn check(&self) -> Result<()> {
        let Self { size, resize, mean, std, .. } = self;
        if mean.is_empty() || mean.len() != std.len() {
            let what = format!("one number for each channel is expected; there are {} and {}", mean.len(), std.len());
            return bad("input.mean and input.std", what);
        }
        if size.iter().any(|&side| side == 0 || side > MAX_SIDE) {
            return bad("input.size", format!("each side must be from 1 to {MAX_SIDE}; got {size:?}"));
        }
        if resize.is_some_and(|side| side > MAX_SIDE || size.iter().any(|&crop| crop > side)) {
            return bad("input.resize", format!("must be from the longer side of {size:?} to {MAX_SIDE}, or null"));
        }
        if !mean.iter().all(|v| v.is_finite()) {
            return bad("input.mean", format!("must be numbers; got {mean:?}"));
        }
        if !std.iter().all(|v| v.is_finite() && *v > 0.0) {
            return bad("input.std", format!("must be positive numbers; got {std:?}"));
        }
        Ok(())
    }

    /// The same as the model's type.
    pub fn preprocessing(&self) -> Preprocessing {
        let Self { size, resize, crop: Crop::Center, interpolation, ref mean, ref std } = *self;
        Preprocessing {
            size,
            resize,
            interpolation,
            mean: mean.clone(),
            std: std.clone(),
            color: Color::of(self.channels()),
            decode: Decode::Full,
        }
    }
}

impl From<&Preprocessing> for InputDescription {
    fn from(input: &Preprocessing) -> Self {
        // How files are decoded is no property of the model, and the number of channels says which
        // colours they are.
        let Preprocessing { size, resize, interpolation, mean, std, color: _, decode: _ } = input.clone();
        Self { size, resize, crop: Crop::Center, interpolation, mean, std }
    }
}

fn bad(key: &str, what: String) -> Result<()> {
    Err(Error::bad(what).at(format!("description, key \"{key}\"")))
}

/// A text without the byte order mark that some editors put in front.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Names of classes must differ.
pub(crate) fn check_classes(classes: Option<&[String]>) -> Result<()> {
    let mut seen = BTreeSet::new();
    match classes.unwrap_or_default().iter().find(|class| !seen.insert(class.as_str())) {
        Some(twice) => bad(
            "classes",
            format!("the class \"{twice}\" is there twice; names must differ (ImageNet: use synset ids)"),
        ),
        None => Ok(()),
    }
}

impl Description {
    /// Reads and checks the JSON form.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where it is not such JSON, has an unknown key,
    /// or makes no sense.
    pub fn from_json(text: &str) -> Result<Self> {
        let description: Self = serde_json::from_str(without_mark(text))
            .map_err(|e| Error::bad("the description cannot be read").because(e))?;
        description.check()?;
        Ok(description)
    }

    /// Checks what can be checked without the weights.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input), naming the key that makes no sense.
    pub fn check(&self) -> Result<()> {
        if self.strides.is_empty() || !self.strides.iter().all(|stride| (1..=MAX_STRIDE).contains(stride)) {
            let what = format!("one stride from 1 to {MAX_STRIDE} for each stage is expected; got {:?}", self.strides);
            return bad("strides", what);
        }
        if self.groups == Some(0) {
            return bad("groups", "must be 1 or more, or null".into());
        }
        if !(self.bn_eps.is_finite() && self.bn_eps > 0.0) {
            return bad("bn_eps", format!("must be a positive number; got {}", self.bn_eps));
        }
        self.input.check()?;
        check_classes(self.classes.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"family": "repvgg", "strides": [1, 2],
        "input": {"size": [8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}"#;

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let d = Description::from_json(GOOD).unwrap();
        assert_eq!((d.groups, d.bn_eps, &d.classes), (None, 1e-5, &None));
        assert_eq!((d.input.resize, d.input.interpolation), (None, Interpolation::Bilinear));
        let again = Description::from_json(&serde_json::to_string(&d).unwrap()).unwrap();
        assert_eq!(d, again);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let cases = [
            ("\"family\"", "\"familie\"", "familie"),
            ("repvgg", "resnet", "resnet"),
            ("[1, 2]", "[]", "strides"),
            ("[1, 2]", "[1, 0]", "strides"),
            ("[1, 2]", "[1, -2]", "invalid value"),
            ("[1, 2]", "[1, 4294967296]", "strides"),
            ("[8, 8]", "[0, 8]", "input.size"),
            ("[8, 8]", "[8, 8], \"resize\": 7", "input.resize"),
            ("[8, 8]", "[8, 8], \"crop\": \"corner\"", "corner"),
            ("[8, 8]", "[8, 8], \"sise\": 7", "sise"),
            ("[0.25, ", "[0.0, ", "input.std"),
            ("[0.25, 0.25, 0.25]", "[0.25]", "there are 3 and 1"),
            ("[0.5, 0.5, 0.5], \"std\": [0.25, 0.25, 0.25]", "[], \"std\": []", "input.mean and input.std"),
            ("\"strides\"", "\"bn_eps\": 0, \"strides\"", "bn_eps"),
            ("\"strides\"", "\"groups\": 0, \"strides\"", "groups"),
            ("\"strides\"", "\"classes\": [\"a\", \"a\"], \"strides\"", "twice"),
        ];
        for (from, to, named) in cases {
            assert!(GOOD.contains(from));
            let error = Description::from_json(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(named), "{to}: {error}");
        }
    }
}
