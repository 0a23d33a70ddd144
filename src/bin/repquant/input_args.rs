//! Flags for how an image becomes the input.

use clap::Args;

use repquant::options::{Color, Crop, Fit, InputOverrides, Interpolation, MAX_SIDE, Preset};
use repquant::{Error, Result};

use super::values::parse;

/// Preprocessing in place of what the description says.
#[derive(Debug, Args)]
pub(super) struct InputArgs {
    /// imagenet (RGB with the mean and deviation usual for it, --fit crop), yolo (RGB from 0 to 1, --fit
    /// letterbox:114) or none (the pixels' values, 0 to 255, --fit stretch unless said otherwise);
    /// flags below that say something else are refused
    #[arg(long, value_name = "NAME", value_parser = parse::<Preset>)]
    pub preprocess: Option<Preset>,
    /// Height and width of the network's input, e.g. 224x224
    #[arg(long, value_name = "HxW", value_parser = size)]
    pub input_size: Option<[usize; 2]>,
    /// How an image is brought to that size: crop (the shorter side to --resize, then the centre),
    /// letterbox[:FILL] (the whole image scaled to fit, framed in FILL, 114 where it is not said, as
    /// YOLO does) or stretch (each side by itself)
    #[arg(long, value_name = "HOW", value_parser = parse::<Fit>)]
    pub fit: Option<Fit>,
    /// Length of an image's shorter side before the crop, or none: images have the size of the
    /// input already
    #[arg(long, value_name = "N|none", value_parser = resize)]
    pub resize: Option<Resize>,
    /// Where the crop is taken: center
    #[arg(long, value_name = "WHERE", value_parser = parse::<Crop>)]
    pub crop: Option<Crop>,
    /// The filter of the resize: bilinear or bicubic
    #[arg(long, value_name = "FILTER", value_parser = parse::<Interpolation>)]
    pub interpolation: Option<Interpolation>,
    /// Mean of each channel (R,G,B; gray: one number), on 0 to 1; one number serves all. Floats in
    /// .npy files are never normalized
    #[arg(long, value_name = "M,…", value_parser = channels, allow_hyphen_values = true)]
    pub mean: Option<Channels>,
    /// Standard deviation of each channel, on 0 to 1; one number serves all
    #[arg(long, value_name = "S,…", value_parser = deviations, allow_hyphen_values = true)]
    pub std: Option<Channels>,
    /// Which colours the input's channels are: rgb, bgr (blue first) or gray [default:
    /// gray for one channel, else rgb]
    #[arg(long, value_name = "COLORS", value_parser = parse::<Color>)]
    pub color: Option<Color>,
}

/// Whether images are resized, and to what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resize(Option<usize>);

/// A number for each channel; a type of its own, for clap takes a `Vec` for several values.
#[derive(Debug, Clone)]
pub(super) struct Channels(Vec<f64>);

impl InputArgs {
    /// As the loader takes them.
    pub(super) fn overrides(&self) -> InputOverrides {
        InputOverrides {
            preset: self.preprocess,
            size: self.input_size,
            fit: self.fit,
            resize: self.resize.map(|Resize(side)| side),
            crop: self.crop,
            interpolation: self.interpolation,
            mean: self.mean.clone().map(|Channels(values)| values),
            std: self.std.clone().map(|Channels(values)| values),
            color: self.color,
        }
    }

    /// Refuses every flag.
    ///
    /// # Errors
    /// The first that is given, for a quantized model at `place`.
    pub(super) fn refuse(&self, place: &std::path::Path) -> Result<()> {
        let given = [
            ("--preprocess", self.preprocess.is_some()),
            ("--input-size", self.input_size.is_some()),
            ("--fit", self.fit.is_some()),
            ("--resize", self.resize.is_some()),
            ("--crop", self.crop.is_some()),
            ("--interpolation", self.interpolation.is_some()),
            ("--mean", self.mean.is_some()),
            ("--std", self.std.is_some()),
            ("--color", self.color.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => {
                let what = format!("{}: {flag}: the preprocessing is a part of a quantized model", place.display());
                Err(Error::usage(what).hint(format!("give {flag} where the model is quantized or calibrated")))
            }
        }
    }
}

fn side(text: &str) -> Option<usize> {
    text.parse().ok().filter(|side| (1..=MAX_SIDE).contains(side))
}

fn size(text: &str) -> Result<[usize; 2], String> {
    let sides = text.split_once(['x', 'X', '×']).and_then(|(height, width)| Some([side(height)?, side(width)?]));
    sides.ok_or_else(|| format!("expected height x width, e.g. 224x224, each from 1 to {MAX_SIDE}"))
}

fn resize(text: &str) -> Result<Resize, String> {
    match text {
        "none" => Ok(Resize(None)),
        number => {
            let side = side(number).ok_or_else(|| format!("expected a number from 1 to {MAX_SIDE}, or none"))?;
            Ok(Resize(Some(side)))
        }
    }
}

fn channels(text: &str) -> Result<Channels, String> {
    let numbers = text.split(',').map(|part| part.trim().parse().ok().filter(|v: &f64| v.is_finite()));
    let numbers = numbers.collect::<Option<_>>().map(Channels);
    numbers.ok_or_else(|| "expected numbers, e.g. 0.485,0.456,0.406 or 0.5".into())
}

fn deviations(text: &str) -> Result<Channels, String> {
    let Channels(numbers) = channels(text)?;
    if numbers.iter().all(|v| *v > 0.0) { Ok(Channels(numbers)) } else { Err("expected positive numbers".into()) }
}
