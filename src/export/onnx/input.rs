//! Images on their way in.

use super::builder::{Builder, channels};
use crate::model::{Preprocessing, QParams, Shape};
use crate::{Error, Result};

use std::str::FromStr;

/// Name of the network's input.
pub(super) const NAME: &str = "input";

/// What the network takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputForm {
    /// float32, `(v/255 − mean) / std` for each channel: what the float network takes in PyTorch.
    #[default]
    Normalized,
    /// uint8 values, 0 to 255, in the network's channels; the network normalizes them itself.
    Pixels,
}

impl FromStr for InputForm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "normalized" => Ok(Self::Normalized),
            "pixels" => Ok(Self::Pixels),
            _ => Err(Error::usage(format!("`{}` is neither normalized nor pixels", text.escape_debug()))),
        }
    }
}

impl InputForm {
    /// Declares the input, and gives the tensor of normalized values, floats.
    pub(super) fn normalized(self, builder: &mut Builder, preprocessing: &Preprocessing, shape: Shape) -> String {
        if self == Self::Normalized {
            builder.input::<f32>(NAME, shape);
            return NAME.into();
        }
        builder.input::<u8>(NAME, shape);
        let sides = [1, preprocessing.channels(), 1, 1];
        let scale = builder.constant(
            "input.scale_of_pixels",
            &sides,
            channels(preprocessing, |_, std| (1.0 / (255.0 * std)) as f32),
        );
        let offset = builder.constant(
            "input.offset_of_pixels",
            &sides,
            channels(preprocessing, |mean, std| (-mean / std) as f32),
        );
        let pixels = builder.cast::<f32>("input/pixels", NAME);
        let scaled = builder.node("Mul", "input/scaled", &[&pixels, &scale], vec![]);
        builder.node("Add", "input/normalized", &[&scaled, &offset], vec![])
    }

    /// Declares the input, and gives the tensor of its levels, 128 above those of int8: a look-up
    /// in the table of 256 entries for each channel that the kernels use, so the levels are the
    /// same.
    ///
    /// Normalized values are turned back into the pixels that they came from:
    /// `v = (x·std + mean)·255` is off by far less than 1/2 in float32, so rounding finds v.
    pub(super) fn levels(
        self,
        builder: &mut Builder,
        preprocessing: &Preprocessing,
        shape: Shape,
        params: &QParams,
    ) -> String {
        let pixels = match self {
            Self::Pixels => {
                builder.input::<u8>(NAME, shape);
                builder.cast::<i32>("input/pixels", NAME)
            }
            Self::Normalized => {
                builder.input::<f32>(NAME, shape);
                let sides = [1, preprocessing.channels(), 1, 1];
                let scale = builder.constant(
                    "input.scale_to_pixels",
                    &sides,
                    channels(preprocessing, |_, std| (255.0 * std) as f32),
                );
                let offset = builder.constant(
                    "input.offset_to_pixels",
                    &sides,
                    channels(preprocessing, |mean, _| (255.0 * mean) as f32),
                );
                let scaled = builder.node("Mul", "input/scaled", &[NAME, &scale], vec![]);
                let shifted = builder.node("Add", "input/shifted", &[&scaled, &offset], vec![]);
                let (low, high) = (builder.scalar("input.black", 0f32), builder.scalar("input.white", 255f32));
                let clipped = builder.node("Clip", "input/clipped", &[&shifted, &low, &high], vec![]);
                let rounded = builder.node("Round", "input/rounded", &[&clipped], vec![]);
                builder.cast::<i32>("input/pixels", &rounded)
            }
        };
        let (count, rows) = (preprocessing.channels(), (0i32..).step_by(256));
        let rows = builder.constant("input.rows", &[1, count, 1, 1], rows.take(count));
        let index = builder.node("Add", "input/index", &[&pixels, &rows], vec![]);
        let values = preprocessing.levels().into_iter().flatten();
        let table = builder.constant("input.table", &[256 * count], values.map(|v| (params.quantize(v) + 128) as u8));
        builder.node("Gather", "input/quantized", &[&table, &index], vec![])
    }
}
