//! The description: what a checkpoint does not say of its network. Read strictly and checked for
//! sense.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::InputOverrides;
use super::input::{InputDescription, bad};
use super::input_file::InputFile;
use crate::error::{Term, text};
use crate::{Error, Result};

/// ε of `PyTorch`'s batch norm, where nothing else is said.
pub(crate) const DEFAULT_BN_EPS: f64 = 1e-5;

/// The kind of blocks a network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// `BN(conv3x3) + BN(conv1x1) + BN(identity)`, arXiv 2101.03697.
    RepVgg,
    /// Depthwise, then pointwise blocks of several branches, arXiv 2206.04040.
    MobileOne,
    /// timm's, without attention, arXiv 2303.14189.
    FastVit,
    /// timm's, arXiv 2211.06088.
    RepGhost,
    /// timm's, arXiv 2307.09283.
    RepVit,
}

impl Family {
    /// Whether the network is a chain of blocks, whose strides a description has to say.
    pub(crate) fn is_chain(self) -> bool {
        matches!(self, Self::RepVgg | Self::MobileOne)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RepVgg => "RepVGG",
            Self::MobileOne => "MobileOne",
            Self::FastVit => "FastViT",
            Self::RepGhost => "RepGhostNet",
            Self::RepVit => "RepViT",
        })
    }
}

/// The largest stride that is taken for one.
const MAX_STRIDE: usize = 64;

/// What a checkpoint does not say. The JSON form is strict: an unknown key is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The kind of blocks.
    pub family: Family,
    /// Stride of each stage's first block, the stem first; none of a network that is no `RepVGG` or
    /// `MobileOne`, whose strides are those of its architecture.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strides: Vec<usize>,
    /// Groups of a `RepVGG`'s grouped layers (4 in the g4 models, 1: none is grouped); none:
    /// whatever the weight shapes say.
    #[serde(default)]
    pub groups: Option<usize>,
    /// ε of every batch norm; 1e-5 where it is not said.
    #[serde(default = "default_bn_eps")]
    pub bn_eps: f64,
    /// How an image becomes the input.
    pub input: InputDescription,
    /// Class names in the order of the logits.
    #[serde(default)]
    pub classes: Option<Vec<String>>,
}

fn default_bn_eps() -> f64 {
    DEFAULT_BN_EPS
}

/// A text without the byte order mark that some editors put in front.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Names of classes must differ.
pub(crate) fn check_classes(classes: Option<&[String]>) -> Result<()> {
    let mut seen = BTreeSet::new();
    match classes.unwrap_or_default().iter().find(|class| !seen.insert(class.as_str())) {
        Some(twice) => bad(
            "classes",
            format!("the class \"{twice}\" is there twice; names must differ (ImageNet: use synset ids)"),
        ),
        None => Ok(()),
    }
}

impl Description {
    /// Reads and checks the JSON form.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where it is not such JSON, has an unknown key,
    /// lacks some (all are named), or makes no sense.
    pub fn from_json(text: &str) -> Result<Self> {
        DescriptionFile::parse(text)?.complete(None, &InputOverrides::default())
    }

    /// Checks what can be checked without the weights.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input), naming the key that makes no sense.
    pub fn check(&self) -> Result<()> {
        if !self.family.is_chain() {
            if !self.strides.is_empty() || self.groups.is_some() {
                let what = format!("the strides and groups of a {} follow from its keys; leave them out", self.family);
                return bad("strides", what);
            }
        } else if self.strides.is_empty() || !self.strides.iter().all(|stride| (1..=MAX_STRIDE).contains(stride)) {
            let what = format!("one stride from 1 to {MAX_STRIDE} for each stage is expected; got {:?}", self.strides);
            return bad("strides", what);
        }
        if self.groups == Some(0) {
            return bad("groups", "must be 1 or more, or null".into());
        }
        if !(self.bn_eps.is_finite() && self.bn_eps > 0.0) {
            return bad("bn_eps", format!("must be a positive number; got {}", self.bn_eps));
        }
        self.input.check()?;
        check_classes(self.classes.as_deref())
    }
}

/// The JSON form of a [`Description`], of which anything may be missing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DescriptionFile {
    #[serde(default)]
    family: Option<Family>,
    #[serde(default)]
    strides: Option<Vec<usize>>,
    #[serde(default)]
    groups: Option<usize>,
    #[serde(default)]
    bn_eps: Option<f64>,
    #[serde(default)]
    input: InputFile,
    #[serde(default)]
    classes: Option<Vec<String>>,
}

impl DescriptionFile {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// What is not such JSON, or has an unknown key.
    pub(super) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(without_mark(text)).map_err(|e| Error::bad("the description cannot be read").because(e))
    }

    /// Whether it only adds to what is known of the network otherwise.
    pub(super) fn is_part(&self) -> bool {
        self.family.is_none()
    }

    /// The description: this, and of a part the rest of `base`. What `asked` says of the input may be
    /// missing.
    ///
    /// # Errors
    /// All keys that are missing, in one message; what makes no sense.
    pub(super) fn complete(self, base: Option<&Description>, asked: &InputOverrides) -> Result<Description> {
        self.input.check_units()?;
        let base = base.filter(|_| self.is_part());
        let Self { family, strides, groups, bn_eps, input, classes } = self;
        let preset = asked.preset.is_some();
        let of_input = [
            ("input.size", input.size.is_some() || asked.size.is_some()),
            ("input.mean", input.mean.is_some() || asked.mean.is_some() || preset),
            ("input.std", input.std.is_some() || asked.std.is_some() || preset),
        ];
        let chain = family.is_none_or(Family::is_chain);
        let known = [("family", family.is_some()), ("strides", strides.is_some() || !chain)];
        let missing = known.into_iter().chain(of_input).filter(|(_, known)| base.is_none() && !known);
        let missing: Vec<String> = missing.map(|(key, _)| format!("\"{key}\"")).collect();
        // Without a base a family is there where nothing is missing.
        let Some(family) = family.or(base.map(|base| base.family)).filter(|_| missing.is_empty()) else {
            return Err(Error::bad(format!("the description lacks {}", missing.join(", "))).hint(text![
                Term::Arch,
                " says what a published network is; ",
                Term::InputSize,
                ", ",
                Term::Mean,
                " and ",
                Term::Std,
                ", or ",
                Term::Preprocess,
                ", say what its input is",
            ]));
        };
        let input = if let Some(base) = base {
            input.over(&base.input)
        } else {
            // What is asked for takes the place of these later.
            let said = [&input.mean, &input.std, &asked.mean, &asked.std].into_iter().flatten().map(Vec::len);
            let channels = said.clone().find(|count| *count > 1).or(input.mean.as_ref().map(Vec::len));
            let channels = channels.unwrap_or(InputDescription::imagenet().channels());
            let whole = InputFile {
                size: input.size.or(asked.size),
                mean: input.mean.clone().or_else(|| Some(vec![0.0; channels])),
                std: input.std.clone().or_else(|| Some(vec![1.0; channels])),
                ..input
            };
            whole.over(&InputDescription::imagenet())
        };
        let description = Description {
            family,
            strides: strides.or_else(|| base.map(|base| base.strides.clone())).unwrap_or_default(),
            groups: groups.or(base.and_then(|base| base.groups)),
            bn_eps: bn_eps.or(base.map(|base| base.bn_eps)).unwrap_or(DEFAULT_BN_EPS),
            input,
            classes: classes.or_else(|| base.and_then(|base| base.classes.clone())),
        };
        description.check()?;
        Ok(description)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Interpolation;

    const GOOD: &str = r#"{"family": "repvgg", "strides": [1, 2],
        "input": {"size": [8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}"#;

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let d = Description::from_json(GOOD).unwrap();
        assert_eq!((d.groups, d.bn_eps, &d.classes), (None, 1e-5, &None));
        assert_eq!((d.input.resize, d.input.interpolation), (None, Interpolation::Bilinear));
        let again = Description::from_json(&serde_json::to_string(&d).unwrap()).unwrap();
        assert_eq!(d, again);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let cases = [
            ("\"family\"", "\"familie\"", "familie"),
            ("repvgg", "resnet", "resnet"),
            ("[1, 2]", "[]", "strides"),
            ("[1, 2]", "[1, 0]", "strides"),
            ("[1, 2]", "[1, -2]", "invalid value"),
            ("[1, 2]", "[1, 4294967296]", "strides"),
            ("[8, 8]", "[0, 8]", "input.size"),
            ("[8, 8]", "[8, 8], \"resize\": 7", "input.resize"),
            ("[8, 8]", "[8, 8], \"crop\": \"corner\"", "corner"),
            ("[8, 8]", "[8, 8], \"sise\": 7", "sise"),
            ("[0.25, ", "[0.0, ", "input.std"),
            ("[0.25, 0.25, 0.25]", "[0.25]", "there are 3 and 1"),
            ("[0.5, 0.5, 0.5], \"std\": [0.25, 0.25, 0.25]", "[], \"std\": []", "input.mean and input.std"),
            ("\"strides\"", "\"bn_eps\": 0, \"strides\"", "bn_eps"),
            ("\"strides\"", "\"groups\": 0, \"strides\"", "groups"),
            ("\"strides\"", "\"classes\": [\"a\", \"a\"], \"strides\"", "twice"),
            ("[8, 8]", "[3, 8, 8]", "write [8, 8]"),
            ("[0.5, 0.5, 0.5]", "[127.5, 127.5, 127.5]", "\"mean\": [0.5000, 0.5000, 0.5000]"),
            ("0.25, 0.25, 0.25", "64, 64, 64", "key \"input.std\""),
        ];
        for (from, to, named) in cases {
            assert!(GOOD.contains(from));
            let error = Description::from_json(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(named), "{to}: {error}");
        }
    }
    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let none = InputOverrides::default();
        let complete = |text: &str, asked: &InputOverrides| DescriptionFile::parse(text).unwrap().complete(None, asked);
        for (text, lacks) in [
            ("{}", r#"lacks "family", "strides", "input.size", "input.mean", "input.std""#),
            (r#"{"classes": ["a"], "input": {"std": [1]}}"#, r#""family", "strides", "input.size", "input.mean""#),
            (r#"{"family": "repvit"}"#, r#"lacks "input.size", "input.mean", "input.std""#),
            (r#"{"family": "mobileone", "input": {"size": [8, 8]}}"#, r#"lacks "strides", "input.mean", "input.std""#),
        ] {
            let error = complete(text, &none).unwrap_err().to_string();
            assert!(error.contains(lacks), "{text}: {error}");
        }
        // What is asked for need not be there.
        let asked = InputOverrides {
            size: Some([8, 8]),
            mean: Some(vec![0.5; 3]),
            std: Some(vec![0.25; 3]),
            ..InputOverrides::default()
        };
        let part = complete(r#"{"family": "repvgg", "strides": [1, 2]}"#, &asked).unwrap();
        assert_eq!(asked.over(&part.input).unwrap(), Description::from_json(GOOD).unwrap().input);
    }

    #[test]
    fn a_part_adds_to_what_is_known() {
        let base = Description::from_json(GOOD).unwrap();
        let part = |text: &str| {
            DescriptionFile::parse(text).unwrap().complete(Some(&base), &InputOverrides::default()).unwrap()
        };
        let classes = Some(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(part(r#"{"classes": ["a", "b"]}"#), Description { classes, ..base.clone() });
        let input = InputDescription { std: vec![0.5; 3], ..base.input.clone() };
        assert_eq!(part(r#"{"input": {"std": [0.5]}}"#), Description { input, ..base.clone() });
        // One that names the family is whole.
        let whole = DescriptionFile::parse(r#"{"family": "repvgg", "classes": ["a"]}"#).unwrap();
        assert!(whole.complete(Some(&base), &InputOverrides::default()).is_err());
    }
}
