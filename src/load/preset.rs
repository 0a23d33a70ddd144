//! Preprocessing that is known by a name.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fmt;
use std::str::FromStr;

use super::InputDescription;
use crate::model::{Color, Fit};
use crate::{Error, Result};

/// How images become the input of a whole kind of networks.
///
/// It says the mean, the deviation, the [`Fit`] and mostly the colours; the filter of the resize,
/// the size of the input and of the resize stay what they are said to be otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// `ImageNet`'s mean and deviation for RGB; the shorter side is resized (to 8/7 of the input's
    /// longer side where no resize is asked for), the centre cropped. For three channels alone.
    Imagenet,
    /// Values from 0 to 1 (mean 0, deviation 1), RGB where there are three channels, in a letterbox
    /// of 114.
    Yolo,
    /// The pixels' values, 0 to 255 (mean 0, deviation 1/255), stretched to the size where no
    /// other fit is asked for. The colours stay as described or asked for.
    Pixels,
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Imagenet => "imagenet",
            Self::Yolo => "yolo",
            Self::Pixels => "none",
        })
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "imagenet" => Ok(Self::Imagenet),
            "yolo" => Ok(Self::Yolo),
            "none" => Ok(Self::Pixels),
            _ => Err(Error::usage(format!("there is no preprocessing `{}`", text.escape_debug()))
                .hint("choose imagenet, yolo or none")),
        }
    }
}

/// What a preset says.
pub(super) struct Meaning {
    pub(super) mean: Vec<f64>,
    pub(super) std: Vec<f64>,
    /// How images are brought to the size; none: stretched, unless something else is asked for.
    pub(super) fit: Option<Fit>,
    /// The colours; none: as described.
    pub(super) color: Option<Color>,
}

impl Preset {
    /// What it says of an input of so many channels; none where it is not for them.
    pub(super) fn meaning(self, channels: usize) -> Option<Meaning> {
        let InputDescription { mean, std, .. } = InputDescription::imagenet();
        let rgb = (channels == mean.len()).then_some(Color::Rgb);
        Some(match self {
            Self::Imagenet if rgb.is_none() => return None,
            Self::Imagenet => Meaning { mean, std, fit: Some(Fit::Crop), color: rgb },
            Self::Yolo => Meaning {
                mean: vec![0.0; channels],
                std: vec![1.0; channels],
                fit: Some(Fit::default_letterbox()),
                color: rgb,
            },
            Self::Pixels => {
                Meaning { mean: vec![0.0; channels], std: vec![1.0 / 255.0; channels], fit: None, color: None }
            }
        })
    }
}
