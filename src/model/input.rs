//! How an image file becomes the network's input tensor.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Fit;
use crate::{Error, Result};

/// The longest side of an input or a resized image that is taken.
pub const MAX_SIDE: usize = 16_384;

/// Resampling filter, anti-aliased as Pillow does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Triangle filter.
    Bilinear,
    /// Cubic filter, a = −0.5.
    Bicubic,
}

impl FromStr for Interpolation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "bilinear" => Ok(Self::Bilinear),
            "bicubic" => Ok(Self::Bicubic),
            _ => Err(Error::usage(format!("there is no filter `{text}`")).hint("choose bilinear or bicubic")),
        }
    }
}

/// How much of a JPEG is decoded before the resize.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// Every pixel.
    #[default]
    Full,
    /// A big one at 1/4 or 1/8 of its width and height, where that still is at least as large as
    /// the resized image. It moves pixels by a level or so; see
    /// [`images::decode`](crate::images::decode).
    Scaled,
}

impl fmt::Display for Decode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Scaled => "scaled",
        })
    }
}

impl FromStr for Decode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "full" => Ok(Self::Full),
            "scaled" => Ok(Self::Scaled),
            _ => Err(Error::usage(format!("images cannot be decoded `{text}`")).hint("choose full or scaled")),
        }
    }
}

/// Which colours of an image a network's channels are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Red, green, blue. (Of an input that has neither one nor three channels it says nothing:
    /// those are no colours.)
    #[default]
    Rgb,
    /// Blue, green, red, as `OpenCV` reads images.
    Bgr,
    /// One channel, the luma that Pillow's `L` is: `(299 R + 587 G + 114 B) / 1000`, as
    /// `(19595 R + 38470 G + 7471 B + 0x8000) >> 16`.
    Gray,
}

impl Color {
    /// What an input of so many channels takes where nothing else is said.
    pub fn of(channels: usize) -> Self {
        if channels == 1 { Self::Gray } else { Self::Rgb }
    }

    /// Whether an input of so many channels can be these colours.
    pub fn fits(self, channels: usize) -> bool {
        match self {
            Self::Rgb => channels != 1,
            Self::Bgr => channels == 3,
            Self::Gray => channels == 1,
        }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
            Self::Gray => "gray",
        })
    }
}

impl FromStr for Color {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "rgb" => Ok(Self::Rgb),
            "bgr" => Ok(Self::Bgr),
            "gray" => Ok(Self::Gray),
            _ => Err(Error::usage(format!("there are no colours `{text}`")).hint("choose rgb, bgr or gray")),
        }
    }
}

/// Preprocessing: bring the image to the size, normalize each channel: `(v/255 − mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Height and width of the input.
    pub size: [usize; 2],
    /// How an image is brought to that size; a file that does not say means [`Fit::Crop`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub fit: Fit,
    /// With [`Fit::Crop`] the length of the shorter side after resizing, before the crop; none:
    /// images must already have `size`. None with every other.
    pub resize: Option<usize>,
    /// The filter of the resize.
    pub interpolation: Interpolation,
    /// Mean of each of the input's channels, on 0 … 1.
    pub mean: Vec<f64>,
    /// Standard deviation of each of the input's channels, on 0 … 1.
    pub std: Vec<f64>,
    /// Which colours the channels are; a file that does not say means RGB.
    #[serde(default, skip_serializing_if = "is_default")]
    pub color: Color,
    /// How much of a JPEG is decoded; a file that does not say means all of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decode: Decode,
}

impl Preprocessing {
    /// Channels of the input.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// The input value of each 8-bit level, for each channel: `(v/255 − mean) / std`, in f64.
    pub fn levels(&self) -> Vec<[f64; 256]> {
        let channel = |(mean, std): (&f64, &f64)| std::array::from_fn(|v| (v as f64 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(channel).collect()
    }
}

/// Whether files need not say it.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
