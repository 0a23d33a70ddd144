//! timm's `config.json`, as it lies in a Hugging Face folder.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::arch::{self, Architecture};
use super::input_file::InputFile;
use super::{Crop, Description, Family, InputDescription};
use crate::error::{Term, text};
use crate::model::{Fit, Interpolation};
use crate::{Error, Result};

/// What such a file says.
#[derive(Debug)]
pub(super) struct TimmConfig {
    pub(super) architecture: &'static Architecture,
    /// timm's name of it.
    pub(super) name: String,
    pub(super) description: Description,
    /// Number of logits, where it is stated.
    pub(super) num_classes: Option<usize>,
}

/// Whether this JSON is timm's and not a description.
pub(super) fn is_timm(json: &Value) -> bool {
    json.get("architecture").is_some()
}

/// The keys that are read. Older files have the preprocessing at the top, newer ones in
/// `pretrained_cfg`. All other keys (licence, tags, URLs) say nothing about what is computed.
#[derive(Deserialize)]
struct Outer {
    architecture: String,
    num_classes: Option<usize>,
    global_pool: Option<String>,
    model_args: Option<Map<String, Value>>,
    label_names: Option<LabelNames>,
    pretrained_cfg: Option<Preset>,
    #[serde(flatten)]
    top: Preset,
}

/// Class names: a list, or the name of each index.
#[derive(Deserialize)]
#[serde(untagged)]
enum LabelNames {
    List(Vec<String>),
    Map(BTreeMap<String, String>),
}

impl LabelNames {
    /// In the order of the logits.
    fn list(self) -> Result<Vec<String>> {
        let map = match self {
            Self::List(names) => return Ok(names),
            Self::Map(map) => map,
        };
        let count = map.len();
        let mut names = vec![None; count];
        for (index, name) in map {
            let place = index.parse().ok().and_then(|index: usize| names.get_mut(index));
            let Some(place @ None) = place else {
                let what = format!("timm's config.json: label_names names the class {index:?} of {count}");
                return Err(Error::bad(what).hint("each class from 0 on needs one name"));
            };
            *place = Some(name);
        }
        Ok(names.into_iter().flatten().collect())
    }
}

#[derive(Deserialize)]
struct Preset {
    input_size: Option<[usize; 3]>,
    interpolation: Option<String>,
    crop_pct: Option<f64>,
    crop_mode: Option<String>,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
}

/// Reads it. Where timm has a default of its own (crop 0.875 from the centre, `ImageNet`'s mean and
/// deviation), so has this.
pub(super) fn read(json: Value) -> Result<TimmConfig> {
    let outer: Outer =
        serde_json::from_value(json).map_err(|e| Error::bad("timm's config.json cannot be read").because(e))?;
    let Outer { architecture: name, num_classes, global_pool, model_args, label_names, pretrained_cfg, top } = outer;
    let architecture = arch::find(&name, Error::bad)?;
    let unsupported = |key: &str, value: &str| {
        Error::bad(format!("timm's config.json: {key} \"{value}\" is not supported"))
            .hint(text!["describe the network in a JSON file of its own and pass it with ", Term::Describe])
    };
    if let Some(pool) = global_pool.filter(|pool| pool != "avg") {
        return Err(unsupported("global_pool", &pool));
    }
    let family = architecture.description().family;
    for (key, value) in model_args.iter().flatten() {
        if !changes_nothing(key, value, family) {
            return Err(unsupported("model_args", &format!("{key}\": \"{}", shown(value))));
        }
    }
    let argument = model_args.as_ref().and_then(|arguments| counted(arguments.get("num_classes")?));
    if let (Some(said), Some(argument)) = (num_classes, argument)
        && said != argument
    {
        return Err(Error::bad(format!("timm's config.json: num_classes is {said}, and {argument} in model_args")));
    }
    let num_classes = num_classes.or(argument);
    let preset = pretrained_cfg.unwrap_or(top);
    if let Some(mode) = preset.crop_mode.filter(|mode| mode != "center") {
        return Err(unsupported("crop_mode", &mode));
    }
    let usual = InputDescription::imagenet();
    let interpolation = match preset.interpolation.as_deref() {
        None | Some("bilinear") => Interpolation::Bilinear,
        Some("bicubic") => Interpolation::Bicubic,
        Some(other) => return Err(unsupported("interpolation", other)),
    };
    let [channels, height, width] = preset.input_size.unwrap_or([3, 224, 224]);
    if channels != 3 || height != width {
        return Err(unsupported("input_size", &format!("{channels}×{height}×{width}")));
    }
    let resize = resized(height, preset.crop_pct.unwrap_or(0.875))?;
    let input = InputDescription {
        size: [height, width],
        fit: Fit::Crop,
        resize: Some(resize),
        crop: Crop::Center,
        interpolation,
        mean: preset.mean.unwrap_or(usual.mean),
        std: preset.std.unwrap_or(usual.std),
        color: None,
    };
    let classes = label_names.map(LabelNames::list).transpose()?;
    let description = Description { input, classes, ..architecture.description() };
    InputFile::from(description.input.clone()).check_units()?;
    description.check()?;
    Ok(TimmConfig { architecture, name, description, num_classes })
}

/// Whether an argument of timm's constructors leaves the network what its architecture says: it
/// repeats a default, or has a say in training alone, or in the form that the keys show anyway.
fn changes_nothing(key: &str, value: &Value, family: Family) -> bool {
    let text = value.as_str().map(str::to_ascii_lowercase);
    let is = |names: &[&str]| text.as_deref().is_some_and(|text| names.contains(&text));
    if value.is_null() {
        return true;
    }
    match key {
        "num_classes" => counted(value).is_some(),
        "in_chans" => counted(value) == Some(3),
        "output_stride" => counted(value) == Some(32),
        "global_pool" => is(&["avg"]),
        "act_layer" => is(&[if matches!(family, Family::RepVit | Family::FastVit) { "gelu" } else { "relu" }]),
        "norm_layer" => is(&["batchnorm", "batchnorm2d"]),
        "features_only" | "no_jit" => *value == Value::Bool(false),
        "drop_rate" | "drop_path_rate" | "drop_block_rate" | "exportable" | "inference_mode" | "img_size"
        | "pretrained" | "scriptable" | "zero_init_last" => true,
        _ => false,
    }
}

/// A number of things.
fn counted(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|count| usize::try_from(count).ok())
}

/// A value as a message shows it.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `floor(side / crop_pct)`, as timm computes it.
fn resized(side: usize, crop_pct: f64) -> Result<usize> {
    if !(crop_pct > 0.0 && crop_pct <= 1.0) {
        return Err(Error::bad(format!("timm's config.json: crop_pct must be above 0 and at most 1; got {crop_pct}")));
    }
    let side =
        u32::try_from(side).map_err(|_| Error::bad(format!("timm's config.json: input_size {side} is too large")))?;
    let resized = (f64::from(side) / crop_pct).floor();
    // The cast saturates, and `Description::check` refuses what is too large.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // positive and finite: side and crop_pct are
    Ok(resized as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<TimmConfig> {
        read(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn both_forms_give_the_same_preprocessing() {
        let values = r#""input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center",
            "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "license": "mit""#;
        let new = format!(
            r#"{{"architecture": "mobileone_s1", "num_classes": 1000, "global_pool": "avg", "pretrained_cfg": {{{values}}}}}"#
        );
        let old = format!(r#"{{"architecture": "mobileone_s1", "num_classes": 1000, {values}}}"#);
        let (new, old) = (read_text(&new).unwrap(), read_text(&old).unwrap());
        assert_eq!(new.description, old.description);
        let input = &new.description.input;
        assert_eq!((input.resize, input.interpolation), (Some(248), Interpolation::Bicubic));
        assert_eq!((input.mean[0], input.std[0], new.num_classes), (0.5, 0.25, Some(1000)));
        assert_eq!(read_text(r#"{"architecture": "repvgg_a0"}"#).unwrap().description.input.resize, Some(256));
    }

    #[test]
    fn arguments_that_repeat_what_the_architecture_says_are_accepted() {
        let arguments = r#""in_chans": 3, "num_classes": 12, "global_pool": "avg", "drop_rate": 0.2, "act_layer": null,
            "inference_mode": true"#;
        let text = format!(
            r#"{{"architecture": "repvgg_a0", "num_classes": 12, "global_pool": "avg", "model_args": {{{arguments}}}}}"#
        );
        assert_eq!(read_text(&text).unwrap().num_classes, Some(12));
        let without = text.replacen(r#""num_classes": 12, "#, "", 1);
        assert_eq!(read_text(&without).unwrap().num_classes, Some(12));
        for (name, activation) in [("fastvit_t8", "gelu"), ("repvit_m0_9", "gelu"), ("repghostnet_100", "relu")] {
            let said = |activation| {
                read_text(&format!(r#"{{"architecture": "{name}", "model_args": {{"act_layer": "{activation}"}}}}"#))
            };
            assert!(said(activation).is_ok() && said("silu").is_err(), "{name}");
        }
    }

    #[test]
    fn names_of_classes_may_be_listed_by_index() {
        for names in [r#"["a", "b"]"#, r#"{"1": "b", "0": "a"}"#] {
            let config = read_text(&format!(r#"{{"architecture": "repvgg_a0", "label_names": {names}}}"#)).unwrap();
            assert_eq!(config.description.classes.unwrap(), ["a", "b"]);
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let cases = [
            (r#"{"architecture": "resnet50"}"#, "resnet50"),
            (r#"{"architecture": "repvgg_z9"}"#, "repvgg_z9"),
            (r#"{"architecture": "repvgg_a0", "crop_mode": "squash"}"#, "squash"),
            (r#"{"architecture": "repvgg_a0", "crop_pct": 0}"#, "crop_pct"),
            (r#"{"architecture": "repvgg_a0", "crop_pct": 1e-300}"#, "resize"),
            (r#"{"architecture": "repvgg_a0", "interpolation": "lanczos"}"#, "lanczos"),
            (r#"{"architecture": "repvgg_a0", "input_size": [1, 28, 28]}"#, "1×28×28"),
            (r#"{"architecture": "repvgg_a0", "global_pool": "max"}"#, "max"),
            (r#"{"architecture": "repvgg_a0", "model_args": {"act_layer": "silu"}}"#, "act_layer\": \"silu"),
            (r#"{"architecture": "repvgg_a0", "model_args": {"in_chans": 1}}"#, "in_chans\": \"1"),
            (r#"{"architecture": "repvgg_a0", "model_args": {"global_pool": "max"}}"#, "global_pool\": \"max"),
            (r#"{"architecture": "repvgg_a0", "model_args": {"stem_type": "deep"}}"#, "stem_type"),
            (
                r#"{"architecture": "repvgg_a0", "num_classes": 9, "model_args": {"num_classes": 10}}"#,
                "10 in model_args",
            ),
            (r#"{"architecture": "repvgg_a0", "label_names": {"0": "a", "2": "b"}}"#, "\"2\" of 2"),
            (r#"{"architecture": "repvgg_a0", "label_names": {"0": "a", "00": "b"}}"#, "of 2"),
            (r#"{"architecture": 3}"#, "config.json"),
        ];
        for (text, named) in cases {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
