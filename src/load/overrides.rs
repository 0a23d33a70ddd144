//! Preprocessing that is asked for in place of what a description says.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use super::input::{by_255, too_high};
use super::preset::Meaning;
use super::{Crop, InputDescription, Preset};
use crate::error::{Term, text};
use crate::model::{Color, Fit, Interpolation, MAX_SIDE};
use crate::{Error, Result};

/// Numbers that differ by less, as a fraction, say the same: `1/255` is written in many ways.
const SAME: f64 = 1e-3;

/// Each field that is there takes the place of the same field of an [`InputDescription`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InputOverrides {
    /// Several of the fields at once; what else is asked for must not contradict it.
    pub preset: Option<Preset>,
    /// Height and width of the input.
    pub size: Option<[usize; 2]>,
    /// How an image is brought to that size.
    pub fit: Option<Fit>,
    /// Length of the shorter side before the crop; `Some(None)`: no resize. It asks for a crop.
    pub resize: Option<Option<usize>>,
    /// Where the crop is taken. It asks for a crop.
    pub crop: Option<Crop>,
    /// The filter of the resize.
    pub interpolation: Option<Interpolation>,
    /// Mean of each channel, on 0 … 1; one number serves all.
    pub mean: Option<Vec<f64>>,
    /// Standard deviation of each channel, on 0 … 1; one number serves all.
    pub std: Option<Vec<f64>>,
    /// Which colours the channels are.
    pub color: Option<Color>,
}

impl InputOverrides {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `input` with what is asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where that makes no sense, or not together
    /// with the rest of `input`.
    pub fn over(&self, input: &InputDescription) -> Result<InputDescription> {
        if let Some(preset) = self.preset {
            return self.filled(preset, input)?.over(input);
        }
        let Self { size, crop, interpolation, mean, std, color, .. } = self;
        let (fit, resize) = self.fitted(input)?;
        let channels = input.channels();
        let each = |values: &Option<Vec<f64>>, said: &[f64]| match values.as_deref() {
            None => said.to_vec(),
            Some(&[one]) => vec![one; channels],
            Some(values) => values.to_vec(),
        };
        let made = InputDescription {
            size: size.unwrap_or(input.size),
            fit,
            resize,
            crop: crop.unwrap_or(input.crop),
            interpolation: interpolation.unwrap_or(input.interpolation),
            mean: each(mean, &input.mean),
            std: each(std, &input.std),
            color: color.or(input.color),
        };
        if let Some(color) = color.filter(|color| !color.fits(channels)) {
            let hint = match channels {
                1 => "that is gray",
                3 => "that is rgb or bgr",
                _ => "those are no colours: they are read from .npy files as they are",
            };
            let what = format!(" {color}: the network's input has {channels} channels");
            return Err(Error::usage(text![Term::Color, what]).hint(hint));
        }
        let [height, width] = made.size;
        let longer = height.max(width);
        if size.is_some() && !made.size.iter().all(|side| (1..=MAX_SIDE).contains(side)) {
            return Err(Error::usage(format!("an input of {height}×{width}: sides must be from 1 to {MAX_SIDE}")));
        }
        let asked = size.is_some() || self.resize.is_some() || self.fit.is_some();
        if let Some(side) = made.resize.filter(|side| asked && !(longer..=MAX_SIDE).contains(side)) {
            let what = format!("images are resized to {side}, which gives no crop of {height}×{width}");
            return Err(Error::usage(what).hint(text![
                Term::Resize,
                format!(" takes a number from {longer} to {MAX_SIDE}, or none; "),
                Term::InputSize,
                " the crop",
            ]));
        }
        for (values, term) in [(&made.mean, Term::Mean), (&made.std, Term::Std)] {
            if values.len() != channels {
                let numbers = if values.len() == 1 { "number" } else { "numbers" };
                let what = format!(": {} {numbers} for an input of {channels} channels", values.len());
                return Err(Error::usage(text![term, what]).hint("give one for each channel, or one for all"));
            }
        }
        if mean.is_some() && !made.mean.iter().all(|v| v.is_finite()) {
            return Err(Error::usage(format!("the mean {:?}: numbers are expected", made.mean)));
        }
        if std.is_some() && !made.std.iter().all(|v| v.is_finite() && *v > 0.0) {
            return Err(Error::usage(format!("the deviation {:?}: positive numbers are expected", made.std)));
        }
        if (mean.is_some() && too_high(&made.mean)) || (std.is_some() && too_high(&made.std)) {
            let of = |asked: Option<&Vec<f64>>, otherwise: f64| {
                by_255(&asked.cloned().unwrap_or_else(|| vec![otherwise; channels]), ",")
            };
            return Err(Error::usage("mean and deviation are on 0 to 1, and these are greater").hint(text![
                "for pixels of 0 to 255 divide both by 255: ",
                Term::Mean,
                format!(" {} and ", of(mean.as_ref(), 0.0)),
                Term::Std,
                format!(" {}", of(std.as_ref(), 1.0)),
            ]));
        }
        Ok(made)
    }

    /// What is asked for, and what follows from the preset for an input that is described as `input`;
    /// the result has no preset.
    ///
    /// # Errors
    /// Where something else than the preset is asked for, or it is not for so many channels.
    fn filled(&self, preset: Preset, input: &InputDescription) -> Result<Self> {
        let channels = input.channels();
        let Some(Meaning { mean, std, fit, color }) = preset.meaning(channels) else {
            let what = format!(" {preset}: the network's input has {channels} channels, not three colours");
            return Err(Error::usage(text![Term::Preprocess, what]).hint(text![
                Term::Preprocess,
                " yolo is for values from 0 to 1 and none for 0 to 255; ",
                Term::Mean,
                " and ",
                Term::Std,
                " say others",
            ]));
        };
        let crops = self.resize.is_some() || self.crop.is_some();
        let free = self.fit.unwrap_or(if crops { Fit::Crop } else { Fit::Stretch });
        let fit = fit.unwrap_or(free);
        let differ = |asked: &Option<Vec<f64>>, own: &[f64]| {
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= SAME * b.abs();
            asked.as_ref().is_some_and(|asked| match asked.as_slice() {
                [one] => !own.iter().all(|own| near((one, own))),
                asked => asked.len() != own.len() || !asked.iter().zip(own).all(near),
            })
        };
        let contradictions = [
            (differ(&self.mean, &mean), Term::Mean),
            (differ(&self.std, &std), Term::Std),
            (self.fit.is_some_and(|asked| asked != fit), Term::Fit),
            (color.is_some() && self.color.is_some_and(|asked| Some(asked) != color), Term::Color),
            (fit != Fit::Crop && self.resize.is_some(), Term::Resize),
            (fit != Fit::Crop && self.crop.is_some(), Term::Crop),
        ];
        if let Some((_, term)) = contradictions.into_iter().find(|(contradicts, _)| *contradicts) {
            let what = text![Term::Preprocess, format!(" {preset} and "), term, " contradict each other"];
            let list = |values: &[f64]| values.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(",");
            return Err(Error::usage(what).hint(text![
                format!("{preset} stands for "),
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
        // The usual margin around the crop.
        let usual = InputDescription::usual(channels, self.size.unwrap_or(input.size)).resize;
        Ok(Self {
            preset: None,
            fit: Some(fit),
            resize: self.resize.or((preset == Preset::Imagenet).then_some(usual)),
            mean: Some(self.mean.clone().unwrap_or(mean)),
            std: Some(self.std.clone().unwrap_or(std)),
            color: color.or(self.color),
            ..self.clone()
        })
    }

    /// How images are brought to the size, and to what the shorter side is resized for a crop.
    ///
    /// # Errors
    /// A resize or a crop beside another way.
    fn fitted(&self, input: &InputDescription) -> Result<(Fit, Option<usize>)> {
        let crops = self.resize.is_some() || self.crop.is_some();
        let fit = match self.fit {
            Some(fit) if fit != Fit::Crop && crops => {
                let term = if self.resize.is_some() { Term::Resize } else { Term::Crop };
                let what = text![term, " and ", Term::Fit, format!(" {fit} contradict each other")];
                return Err(Error::usage(what).hint(text![term, " is for images that are cropped"]));
            }
            Some(fit) => fit,
            None if crops => Fit::Crop,
            None => input.fit,
        };
        let resize = match (fit, self.resize) {
            (Fit::Letterbox(_) | Fit::Stretch, _) => None,
            (Fit::Crop, Some(resize)) => resize,
            (Fit::Crop, None) if input.fit == Fit::Crop => input.resize,
            (Fit::Crop, None) => Some(self.size.unwrap_or(input.size).into_iter().fold(0, usize::max)),
        };
        Ok((fit, resize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn each_takes_the_place_of_one_field() {
        let usual = InputDescription::imagenet();
        assert_eq!(InputOverrides::default().over(&usual).unwrap(), usual);
        let size = InputOverrides { size: Some([192, 256]), ..Default::default() };
        assert_eq!(size.over(&usual).unwrap(), InputDescription { size: [192, 256], ..usual.clone() });
        let resize = InputOverrides { resize: Some(None), ..Default::default() };
        assert_eq!(resize.over(&usual).unwrap(), InputDescription { resize: None, ..usual.clone() });
        let mean = InputOverrides { mean: Some(vec![0.5; 3]), crop: Some(Crop::Center), ..Default::default() };
        assert_eq!(mean.over(&usual).unwrap(), InputDescription { mean: vec![0.5; 3], ..usual.clone() });
        for fit in [Fit::Letterbox(0), Fit::Stretch] {
            let asked = InputOverrides { fit: Some(fit), ..Default::default() };
            let fitted = InputDescription { fit, resize: None, ..usual.clone() };
            assert_eq!(asked.over(&usual).unwrap(), fitted);
            // And back: a crop of the longer side, or of what is asked for.
            let crop = InputOverrides { fit: Some(Fit::Crop), ..Default::default() };
            assert_eq!(crop.over(&fitted).unwrap(), InputDescription { resize: Some(224), ..usual.clone() });
            let resize = InputOverrides { resize: Some(Some(300)), ..Default::default() };
            assert_eq!(resize.over(&fitted).unwrap(), InputDescription { resize: Some(300), ..usual.clone() });
        }
        let bgr = InputOverrides { color: Some(Color::Bgr), ..Default::default() };
        assert_eq!(bgr.over(&usual).unwrap().preprocessing().color, Color::Bgr);
        let bicubic = Interpolation::Bicubic;
        let filter = InputOverrides { interpolation: Some(bicubic), std: Some(vec![1.0]), ..Default::default() };
        let expected = InputDescription { interpolation: bicubic, std: vec![1.0; 3], ..usual.clone() };
        assert_eq!(filter.over(&usual).unwrap(), expected);
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for (overrides, words) in [
            (InputOverrides { size: Some([0, 224]), ..Default::default() }, "from 1 to"),
            (InputOverrides { size: Some([320, 224]), ..Default::default() }, "resized to 256"),
            (InputOverrides { resize: Some(Some(200)), ..Default::default() }, "from 224 to"),
            (InputOverrides { resize: Some(Some(MAX_SIDE + 1)), ..Default::default() }, "or none"),
            (InputOverrides { mean: Some(vec![f64::NAN; 3]), ..Default::default() }, "numbers"),
            (InputOverrides { std: Some(vec![1.0, 0.0, 1.0]), ..Default::default() }, "positive"),
            (
                InputOverrides {
                    mean: Some(vec![123.675, 116.28, 103.53]),
                    std: Some(vec![58.395, 57.12, 57.375]),
                    ..Default::default()
                },
                "`mean` 0.4850,0.4560,0.4060 and `std` 0.2290,0.2240,0.2250",
            ),
            (
                InputOverrides { color: Some(Color::Gray), ..Default::default() },
                "`color` gray: the network's input has 3",
            ),
            (
                InputOverrides { fit: Some(Fit::Stretch), resize: Some(Some(256)), ..Default::default() },
                "`resize` and `fit` stretch contradict",
            ),
            (
                InputOverrides { fit: Some(Fit::Letterbox(9)), crop: Some(Crop::Center), ..Default::default() },
                "`crop` and `fit` letterbox:9 contradict",
            ),
            // Caffe's: means alone.
            (
                InputOverrides { mean: Some(vec![123.0; 3]), ..Default::default() },
                "`std` 0.00392157,0.00392157,0.00392157",
            ),
            (InputOverrides { mean: Some(vec![0.5; 2]), ..Default::default() }, "`mean`: 2 numbers for an input of 3"),
        ] {
            let error = overrides.over(&InputDescription::imagenet()).unwrap_err();
            assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(words), "{error}");
        }
    }
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
