//! How an image becomes the input, as a description states it.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{Color, Decode, Fit, Interpolation, MAX_SIDE, Preprocessing};
use crate::{Error, Result};

/// Channels of an image as `ImageNet`'s networks take it.
const IMAGENET_CHANNELS: usize = 3;

/// Preprocessing as a description states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputDescription {
    /// Height and width of the input.
    pub size: [usize; 2],
    /// How an image is brought to that size.
    #[serde(default, skip_serializing_if = "is_crop")]
    pub fit: Fit,
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
    /// Which colours the channels are; none: gray for one, RGB for three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<Color>,
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

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_crop(fit: &Fit) -> bool {
    *fit == Fit::Crop
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
            fit: Fit::Crop,
            resize: Some(256),
            crop: Crop::Center,
            interpolation: Interpolation::Bilinear,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            color: None,
        }
    }

    /// What is taken where nothing is said, for an input of `channels` and `size`: `ImageNet`'s
    /// mean, deviation and margin around the crop for three channels; values from 0 to 1 for
    /// others, gray images stretched to the size.
    pub fn usual(channels: usize, size: [usize; 2]) -> Self {
        let longest = size[0].max(size[1]);
        if channels == IMAGENET_CHANNELS {
            // 224 of 256.
            let resize = Some(longest.saturating_mul(8) / 7).filter(|&side| side <= MAX_SIDE);
            return Self { size, resize, ..Self::imagenet() };
        }
        let fit = if channels == 1 { Fit::Stretch } else { Fit::Crop };
        Self { size, fit, resize: None, mean: vec![0.0; channels], std: vec![1.0; channels], ..Self::imagenet() }
    }

    /// Channels of the input.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// Which colours the channels are.
    pub fn colors(&self) -> Color {
        self.color.unwrap_or(Color::of(self.channels()))
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
        if self.fit != Fit::Crop && resize.is_some() {
            return bad("input.fit", format!("{} brings images to the size itself: leave out `resize`", self.fit));
        }
        if !mean.iter().all(|v| v.is_finite()) {
            return bad("input.mean", format!("must be numbers; got {mean:?}"));
        }
        if !std.iter().all(|v| v.is_finite() && *v > 0.0) {
            return bad("input.std", format!("must be positive numbers; got {std:?}"));
        }
        if !self.colors().fits(self.channels()) {
            return bad("input.color", format!("is {}, which is not {} channels", self.colors(), self.channels()));
        }
        Ok(())
    }

    /// The same as the model's type.
    pub fn preprocessing(&self) -> Preprocessing {
        let Self { size, fit, resize, crop: Crop::Center, interpolation, ref mean, ref std, color: _ } = *self;
        Preprocessing {
            size,
            fit,
            resize,
            interpolation,
            mean: mean.clone(),
            std: std.clone(),
            color: self.colors(),
            decode: Decode::Full,
        }
    }
}

impl From<&Preprocessing> for InputDescription {
    fn from(input: &Preprocessing) -> Self {
        // How files are decoded is no property of the model.
        let Preprocessing { size, fit, resize, interpolation, mean, std, color, decode: _ } = input.clone();
        // Said where the number of channels does not say it.
        let color = Some(color).filter(|color| *color != Color::of(mean.len()));
        Self { size, fit, resize, crop: Crop::Center, interpolation, mean, std, color }
    }
}

/// Whether means or deviations are those of pixels from 0 to 255.
pub(super) fn too_high(values: &[f64]) -> bool {
    values.iter().any(|v| *v > 1.0)
}

/// Means or deviations of pixels from 0 to 255 as they are written here.
pub(super) fn by_255(values: &[f64], between: &str) -> String {
    let written = |v: &f64| match v / 255.0 {
        0.0 => "0".to_owned(),
        // 1/255 needs more digits.
        small if small.abs() < 0.1 => format!("{small:.8}"),
        other => format!("{other:.4}"),
    };
    values.iter().map(written).collect::<Vec<_>>().join(between)
}

/// A key of a description that makes no sense.
pub(super) fn bad(key: &str, what: String) -> Result<()> {
    Err(Error::bad(what).at(format!("description, key \"{key}\"")))
}
