//! Preprocessing that is known by a name.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fmt;
use std::str::FromStr;

use super::{InputDescription, InputOverrides};
use crate::error::{Term, text};
use crate::model::{Color, Fit};
use crate::{Error, Result};

/// Numbers that differ by less, as a fraction, say the same: `1/255` is written in many ways.
const SAME: f64 = 1e-3;

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

impl Preset {
    /// What is asked for, and what follows from this preset for an input that is described as
    /// `input`; the result has no preset.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where something else is asked for, or the
    /// preset is not for so many channels.
    pub(super) fn fill(self, asked: &InputOverrides, input: &InputDescription) -> Result<InputOverrides> {
        let channels = input.channels();
        let colours = InputDescription::imagenet();
        if self == Self::Imagenet && channels != colours.channels() {
            let what = format!(" {self}: the network's input has {channels} channels, not three colours");
            return Err(Error::usage(text![Term::Preprocess, what]).hint(text![
                Term::Preprocess,
                " yolo is for values from 0 to 1 and none for 0 to 255; ",
                Term::Mean,
                " and ",
                Term::Std,
                " say others",
            ]));
        }
        let (mean, std) = match self {
            Self::Imagenet => (colours.mean, colours.std),
            Self::Yolo => (vec![0.0; channels], vec![1.0; channels]),
            Self::Pixels => (vec![0.0; channels], vec![1.0 / 255.0; channels]),
        };
        let crops = asked.resize.is_some() || asked.crop.is_some();
        let fit = match self {
            Self::Imagenet => Fit::Crop,
            Self::Yolo => Fit::default_letterbox(),
            Self::Pixels if crops => asked.fit.unwrap_or(Fit::Crop),
            Self::Pixels => asked.fit.unwrap_or(Fit::Stretch),
        };
        let color = (self != Self::Pixels && channels == 3).then_some(Color::Rgb);
        let differ = |asked: &Option<Vec<f64>>, own: &[f64]| {
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= SAME * b.abs();
            asked.as_ref().is_some_and(|asked| match asked.as_slice() {
                [one] => !own.iter().all(|own| near((one, own))),
                asked => asked.len() != own.len() || !asked.iter().zip(own).all(near),
            })
        };
        for (contradicts, term) in [
            (differ(&asked.mean, &mean), Term::Mean),
            (differ(&asked.std, &std), Term::Std),
            (asked.fit.is_some_and(|asked| asked != fit), Term::Fit),
            (color.is_some() && asked.color.is_some_and(|asked| Some(asked) != color), Term::Color),
            (fit != Fit::Crop && asked.resize.is_some(), Term::Resize),
            (fit != Fit::Crop && asked.crop.is_some(), Term::Crop),
        ] {
            if contradicts {
                let what = text![Term::Preprocess, format!(" {self} and "), term, " contradict each other"];
                let list = |values: &[f64]| values.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(",");
                return Err(Error::usage(what).hint(text![
                    format!("{self} stands for "),
                    Term::Mean,
                    format!(" {} ", list(&mean)),
                    Term::Std,
                    format!(" {} ", list(&std)),
                    Term::Fit,
                    format!(" {fit}"),
                    color.map_or_else(String::new, |color| format!(" and {color}")),
                    ": give those that you need one by one",
                ]));
            }
        }
        let usual = InputDescription::usual(channels, asked.size.unwrap_or(input.size));
        let resize = if self == Self::Imagenet { asked.resize.or(Some(usual.resize)) } else { asked.resize };
        let (mean, std) = (asked.mean.clone().unwrap_or(mean), asked.std.clone().unwrap_or(std));
        Ok(InputOverrides {
            preset: None,
            fit: Some(fit),
            resize,
            mean: Some(mean),
            std: Some(std),
            color: color.or(asked.color),
            ..asked.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::model::Interpolation;

    fn preset(preset: Preset) -> InputOverrides {
        InputOverrides { preset: Some(preset), ..InputOverrides::default() }
    }

    #[test]
    fn each_says_all_but_sizes_and_filter() {
        let described = InputDescription {
            size: [70, 56],
            resize: Some(71),
            mean: vec![0.1; 3],
            std: vec![0.9; 3],
            interpolation: Interpolation::Bicubic,
            color: Some(Color::Bgr),
            ..InputDescription::imagenet()
        };
        let usual = InputDescription::imagenet();
        let made = preset(Preset::Imagenet).over(&described).unwrap();
        let (rgb, bgr) = (Some(Color::Rgb), Some(Color::Bgr));
        let expected =
            InputDescription { mean: usual.mean.clone(), std: usual.std.clone(), color: rgb, ..described.clone() };
        assert_eq!(made, InputDescription { resize: Some(80), ..expected.clone() });
        let resize = InputOverrides { resize: Some(Some(75)), ..preset(Preset::Imagenet) };
        assert_eq!(resize.over(&described).unwrap(), InputDescription { resize: Some(75), ..expected });
        let framed = InputDescription { fit: Fit::Letterbox(114), resize: None, color: rgb, ..described.clone() };
        let (mean, std) = (vec![0.0; 3], vec![1.0; 3]);
        assert_eq!(preset(Preset::Yolo).over(&described).unwrap(), InputDescription { mean, std, ..framed });
        let (mean, std) = (vec![0.0; 3], vec![1.0 / 255.0; 3]);
        let raw = InputDescription { mean, std, fit: Fit::Stretch, resize: None, color: bgr, ..described.clone() };
        assert_eq!(preset(Preset::Pixels).over(&described).unwrap(), raw);
        // YOLOX: the letterbox of pixels.
        let yolox = InputOverrides { fit: Some(Fit::Letterbox(114)), ..preset(Preset::Pixels) };
        assert_eq!(yolox.over(&described).unwrap(), InputDescription { fit: Fit::Letterbox(114), ..raw.clone() });
        let crop = InputOverrides { resize: Some(Some(90)), ..preset(Preset::Pixels) };
        assert_eq!(crop.over(&described).unwrap(), InputDescription { fit: Fit::Crop, resize: Some(90), ..raw });
        // Every level of a pixel is its value.
        let levels = preset(Preset::Pixels).over(&described).unwrap().preprocessing().levels();
        assert!((0..256).all(|v| (levels[2][v] - v as f64).abs() < 1e-12));
    }

    #[test]
    fn any_number_of_channels_but_imagenets() {
        for channels in [1, 4] {
            let described = InputDescription::usual(channels, [8, 8]);
            let made = preset(Preset::Yolo).over(&described).unwrap();
            assert_eq!((made.mean, made.std, made.color), (vec![0.0; channels], vec![1.0; channels], None));
            let error = preset(Preset::Imagenet).over(&described).unwrap_err();
            assert!(error.kind() == ErrorKind::Usage, "{error}");
            assert!(error.to_string().contains(&format!("imagenet: the network's input has {channels}")), "{error}");
        }
    }

    #[test]
    fn what_contradicts_is_a_usage_error_and_what_agrees_is_none() {
        let over = |asked: &InputOverrides| asked.over(&InputDescription::imagenet());
        let one = |value: f64| Some(vec![value]);
        for (asked, words) in [
            (InputOverrides { mean: one(0.5), ..preset(Preset::Imagenet) }, "imagenet and `mean` contradict"),
            (InputOverrides { std: one(0.5), ..preset(Preset::Yolo) }, "yolo and `std` contradict"),
            (InputOverrides { std: one(1.0), ..preset(Preset::Pixels) }, "none and `std` contradict"),
            (InputOverrides { fit: Some(Fit::Crop), ..preset(Preset::Yolo) }, "yolo and `fit` contradict"),
            (InputOverrides { fit: Some(Fit::Letterbox(0)), ..preset(Preset::Yolo) }, "yolo and `fit` contradict"),
            (InputOverrides { fit: Some(Fit::Stretch), ..preset(Preset::Imagenet) }, "imagenet and `fit` contradict"),
            (InputOverrides { color: Some(Color::Bgr), ..preset(Preset::Yolo) }, "yolo and `color` contradict"),
            (InputOverrides { resize: Some(None), ..preset(Preset::Yolo) }, "yolo and `resize` contradict"),
            (
                InputOverrides { fit: Some(Fit::Stretch), resize: Some(Some(256)), ..preset(Preset::Pixels) },
                "none and `resize` contradict",
            ),
        ] {
            let error = over(&asked).unwrap_err();
            assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(words), "{words}: {error}");
        }
        for asked in [
            InputOverrides { mean: one(0.0), std: Some(vec![1.0; 3]), ..preset(Preset::Yolo) },
            InputOverrides { std: one(0.00392), color: Some(Color::Bgr), ..preset(Preset::Pixels) },
            InputOverrides { color: Some(Color::Rgb), fit: Some(Fit::Crop), ..preset(Preset::Imagenet) },
        ] {
            over(&asked).unwrap();
        }
        for name in ["imagenet", "yolo", "none"] {
            assert_eq!(name.parse::<Preset>().unwrap().to_string(), name);
        }
        assert!("caffe".parse::<Preset>().unwrap_err().to_string().contains("imagenet, yolo or none"));
    }
}
