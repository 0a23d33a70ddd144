//! How an image file becomes the network's input tensor.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

/// Preprocessing: resize the shorter side, crop the centre, normalize each colour:
/// `(v/255 − mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Length of the shorter side after resizing, before the crop; none: images must already have
    /// `size`.
    pub resize: Option<usize>,
    /// The filter of the resize.
    pub interpolation: Interpolation,
    /// Mean of each colour, on 0 … 1.
    pub mean: [f64; 3],
    /// Standard deviation of each colour, on 0 … 1.
    pub std: [f64; 3],
    /// How much of a JPEG is decoded; a file that does not say means all of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decode: Decode,
}

impl Preprocessing {
    /// The input value of each 8-bit level, for each colour: `(v/255 − mean) / std`, in f64.
    pub fn levels(&self) -> [[f64; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f64 / 255.0 - self.mean[c]) / self.std[c]))
    }
}

/// Whether files need not say it.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
