//! How an image file becomes the network's input tensor.

use serde::{Deserialize, Serialize};

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

/// Preprocessing: resize the shorter side, crop the centre, normalize each colour: `(v/255 − mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Length of the shorter side after resizing, before the crop; none: images must already have `size`.
    pub resize: Option<usize>,
    /// The filter of the resize.
    pub interpolation: Interpolation,
    /// Mean of each colour, on 0 … 1.
    pub mean: [f64; 3],
    /// Standard deviation of each colour, on 0 … 1.
    pub std: [f64; 3],
}

impl Preprocessing {
    /// The input value of each 8-bit level, for each colour: `(v/255 − mean) / std`, in f64.
    pub fn levels(&self) -> [[f64; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f64 / 255.0 - self.mean[c]) / self.std[c]))
    }
}
