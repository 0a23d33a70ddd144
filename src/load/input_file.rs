//! What a description file says of the input: all of it, or a part.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::input::{by_255, too_high};
use super::{Crop, InputDescription};
use crate::model::{Color, Fit, Interpolation};
use crate::{Error, Result};

/// An [`InputDescription`] of which anything may be missing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputFile {
    #[serde(default, deserialize_with = "size")]
    pub(super) size: Option<[usize; 2]>,
    #[serde(default)]
    pub(super) fit: Option<Fit>,
    /// `Some(None)`: null, no resize.
    #[serde(default, deserialize_with = "said")]
    #[allow(clippy::option_option, reason = "null says something else than nothing")]
    pub(super) resize: Option<Option<usize>>,
    #[serde(default)]
    pub(super) crop: Option<Crop>,
    #[serde(default)]
    pub(super) interpolation: Option<Interpolation>,
    #[serde(default)]
    pub(super) mean: Option<Vec<f64>>,
    #[serde(default)]
    pub(super) std: Option<Vec<f64>>,
    #[serde(default)]
    pub(super) color: Option<Color>,
}

impl From<InputDescription> for InputFile {
    fn from(whole: InputDescription) -> Self {
        let InputDescription { size, fit, resize, crop, interpolation, mean, std, color } = whole;
        Self {
            size: Some(size),
            fit: Some(fit),
            resize: Some(resize),
            crop: Some(crop),
            interpolation: Some(interpolation),
            mean: Some(mean),
            std: Some(std),
            color,
        }
    }
}

impl InputFile {
    /// Whether it says all that has no default: then what else is missing is what the documentation
    /// of [`InputDescription`] says.
    pub(super) fn is_whole(&self) -> bool {
        self.size.is_some() && self.mean.is_some() && self.std.is_some()
    }

    /// The input: this, and of one that is not whole the rest of `base`.
    pub(super) fn over(&self, base: &InputDescription) -> InputDescription {
        let size = self.size.unwrap_or(base.size);
        let crops = self.resize.is_some() || self.crop.is_some();
        let (fit, resize) = if self.is_whole() {
            (self.fit.unwrap_or_default(), self.resize.flatten())
        } else {
            let fit = self.fit.unwrap_or(if crops { Fit::Crop } else { base.fit });
            let resize = match self.resize {
                Some(resize) => resize,
                None if fit != Fit::Crop => None,
                None if base.fit == Fit::Crop && size == base.size => base.resize,
                // The usual margin around a crop of another size.
                None => InputDescription::usual(InputDescription::imagenet().channels(), size).resize,
            };
            (fit, resize)
        };
        let usual = if self.is_whole() { InputDescription::imagenet().interpolation } else { base.interpolation };
        // As of flags, one number serves all channels of an input that is known otherwise.
        let each = |values: &Option<Vec<f64>>, base: &[f64]| match values.as_deref() {
            None => base.to_vec(),
            Some(&[one]) if !self.is_whole() => vec![one; base.len()],
            Some(values) => values.to_vec(),
        };
        InputDescription {
            size,
            fit,
            resize,
            crop: self.crop.unwrap_or(base.crop),
            interpolation: self.interpolation.unwrap_or(usual),
            mean: each(&self.mean, &base.mean),
            std: each(&self.std, &base.std),
            color: if self.is_whole() { self.color } else { self.color.or(base.color) },
        }
    }

    /// Holds mean and deviation to the range of 0 to 1, in which they are written.
    ///
    /// # Errors
    /// Greater ones, with what to write in their place.
    pub(super) fn check_units(&self) -> Result<()> {
        let (mean, std) = (self.mean.as_deref().unwrap_or(&[]), self.std.as_deref().unwrap_or(&[]));
        if !too_high(mean) && !too_high(std) {
            return Ok(());
        }
        let key = if too_high(mean) { "input.mean" } else { "input.std" };
        let channels = mean.len().max(std.len());
        let (no_mean, no_std) = (vec![0.0; channels], vec![1.0; channels]);
        let hint = format!(
            "for pixels of 0 to 255 divide both by 255: \"mean\": [{}], \"std\": [{}] \
             (a network that takes the pixels' values has the mean 0 and the deviation 1/255)",
            by_255(if mean.is_empty() { &no_mean } else { mean }, ", "),
            by_255(if std.is_empty() { &no_std } else { std }, ", ")
        );
        let what = "mean and deviation are on 0 to 1, and these are greater";
        Err(Error::bad(what).at(format!("description, key \"{key}\"")).hint(hint))
    }
}

/// A field that is there, though it may be null.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Height and width; other forms are refused with what is meant.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[usize; 2]>, D::Error> {
    /// More channels than that are taken for a side.
    const MOST_CHANNELS: u64 = 16;
    let given = Value::deserialize(deserializer)?;
    let numbers: Option<Vec<u64>> = match &given {
        Value::Array(sides) => sides.iter().map(Value::as_u64).collect(),
        number => number.as_u64().map(|side| vec![side]),
    };
    let meant = match numbers.as_deref() {
        Some(&[height, width]) if given.is_array() => {
            let sides = [usize::try_from(height), usize::try_from(width)];
            if let [Ok(height), Ok(width)] = sides {
                return Ok(Some([height, width]));
            }
            None
        }
        Some(&[side]) => Some([side, side]),
        Some(&[channels, height, width] | &[1, channels, height, width]) if channels <= MOST_CHANNELS => {
            Some([height, width])
        }
        Some(&[height, width, channels] | &[1, height, width, channels]) if channels <= MOST_CHANNELS => {
            Some([height, width])
        }
        _ => None,
    };
    let example = meant.map_or_else(
        || "as in [224, 224]".to_owned(),
        |[height, width]| format!("write [{height}, {width}]; mean and std say how many channels there are"),
    );
    Err(D::Error::custom(format!("\"size\" is {given}; two numbers are expected, height and width: {example}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> InputFile {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_part_leaves_the_rest_as_it_is() {
        let base = InputDescription { color: Some(Color::Bgr), ..InputDescription::imagenet() };
        assert_eq!(file("{}").over(&base), base);
        // The usual margin around another size.
        let sized = InputDescription { size: [56, 70], resize: Some(80), ..base.clone() };
        assert_eq!(file(r#"{"size": [56, 70]}"#).over(&base), sized);
        assert_eq!(file(r#"{"mean": [0.5]}"#).over(&base), InputDescription { mean: vec![0.5; 3], ..base.clone() });
        let boxed = InputDescription { fit: Fit::Letterbox(7), resize: None, ..base.clone() };
        assert_eq!(file(r#"{"fit": "letterbox:7"}"#).over(&base), boxed);
        let whole = InputDescription { resize: None, ..base.clone() };
        assert_eq!(file(r#"{"resize": null}"#).over(&base), whole);
        assert_eq!(file(r#"{"resize": null}"#).over(&boxed), whole);
        assert_eq!(InputFile::from(base.clone()).over(&InputDescription::usual(1, [8, 8])), base);
        // A whole one has the defaults of its own.
        let own = file(r#"{"size": [8, 8], "mean": [0], "std": [1]}"#).over(&base);
        assert_eq!((own.resize, own.mean, own.color), (None, vec![0.0], None));
    }

    #[test]
    fn a_size_of_other_numbers_says_what_is_meant() {
        for (size, words) in [
            ("[3, 224, 320]", "write [224, 320]"),
            ("[224, 320, 3]", "write [224, 320]"),
            ("[1, 3, 224, 320]", "write [224, 320]"),
            ("224", "write [224, 224]"),
            ("[224]", "write [224, 224]"),
            ("[]", "as in [224, 224]"),
            ("[8, 8.5]", "as in [224, 224]"),
            ("[8, -8]", "height and width"),
            ("\"224x224\"", "height and width"),
            ("null", "height and width"),
        ] {
            let text = format!("{{\"size\": {size}}}");
            let error = serde_json::from_str::<InputFile>(&text).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("line 1"), "{size}: {error}");
        }
    }

    #[test]
    fn what_is_written_for_pixels_is_refused_with_the_right_numbers() {
        for (text, words) in [
            (
                r#"{"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}"#,
                r#""mean": [0.4850, 0.4560, 0.4060], "std": [0.2290, 0.2240, 0.2250]"#,
            ),
            (r#"{"mean": [127.5]}"#, r#""mean": [0.5000], "std": [0.00392157]"#),
            (r#"{"std": [255, 255, 255]}"#, r#""mean": [0, 0, 0], "std": [1.0000, 1.0000, 1.0000]"#),
        ] {
            let error = file(text).check_units().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("on 0 to 1"), "{text}: {error}");
        }
        file(r#"{"mean": [1], "std": [0.00392]}"#).check_units().unwrap();
    }
}
