//! What is chosen for single layers in place of what the options say of all.

use std::fmt;
use std::str::FromStr;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::Support;
use crate::{Error, Result};

/// What is chosen for a layer; what is none is as the options say of all layers.
///
/// It is written as words with commas between them (`FromStr`, `Display`, JSON): bits of the weights
/// from `2` to `8`, or `float`; `whole` or a support, `center`, `diagonal` or `full`.
///
/// ```
/// use repquant::options::{LayerChoice, LayerSplit, Support};
///
/// let choice: LayerChoice = "6,full".parse()?;
/// assert_eq!((choice.bits, choice.split), (Some(6), Some(LayerSplit::Aligned(Support::Full))));
/// assert_eq!(choice.to_string(), "6,full");
/// assert!("float".parse::<LayerChoice>()?.float && "9".parse::<LayerChoice>().is_err());
/// # Ok::<(), repquant::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerChoice {
    /// It stays float: nothing else may be chosen for it then.
    pub float: bool,
    /// Bits of its weights, 2 to 8.
    pub bits: Option<u8>,
    /// How its kernel is split.
    pub split: Option<LayerSplit>,
}

/// How a single layer is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerSplit {
    /// Not at all.
    Whole,
    /// The coarse scale is the fine scale shifted; the coarse part may touch these weights.
    Aligned(Support),
}

impl LayerChoice {
    /// Whether it says something, and nothing that contradicts itself.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage).
    pub(super) fn check(self) -> Result<()> {
        let more = self.bits.is_some() || self.split.is_some();
        match self {
            Self { bits: Some(bits), .. } if !(2..=8).contains(&bits) => {
                Err(Error::usage(format!("{bits} is not a width of 2 to 8 bits")))
            }
            Self { float: true, .. } if more => Err(Error::usage("a layer in float has neither bits nor a split")),
            Self { float: false, .. } if !more => Err(Error::usage("nothing is chosen for it").hint(WORDS)),
            _ => Ok(()),
        }
    }
}

/// Choices for layers by name or pattern (`head.*`), in order: of several that are a layer's the last
/// counts. As JSON an object, `{"head.*": "6", "stage0": "8,full", "linear": "float"}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayerChoices(pub Vec<(String, LayerChoice)>);

impl LayerChoices {
    /// From JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) where it is no such object.
    pub fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|e| Error::bad("these are no choices for layers").because(e).hint(WORDS))
    }
}

impl Serialize for LayerChoices {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, choice)| (name, choice)))
    }
}

impl<'de> Deserialize<'de> for LayerChoices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        /// Keeps the order of the file.
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = LayerChoices;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of layers and what is chosen for each")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<LayerChoices, A::Error> {
                let mut choices = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    choices.push(entry);
                }
                Ok(LayerChoices(choices))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// What a choice may be made of.
const WORDS: &str = "a choice is bits (2 to 8) or float, whole or a support (center, diagonal, full), or both: 6,full";

impl fmt::Display for LayerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let split = self.split.map(|split| match split {
            LayerSplit::Whole => "whole".to_owned(),
            LayerSplit::Aligned(support) => support.to_string(),
        });
        let words = self.float.then(|| "float".to_owned()).into_iter().chain(self.bits.map(|b| b.to_string()));
        f.pad(&words.chain(split).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for LayerChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut choice = Self::default();
        for word in text.split(',').map(str::trim) {
            let twice = match word {
                "float" => std::mem::replace(&mut choice.float, true),
                "whole" => choice.split.replace(LayerSplit::Whole).is_some(),
                _ => match (word.parse::<u8>(), word.parse::<Support>()) {
                    (Ok(bits), _) => choice.bits.replace(bits).is_some(),
                    (_, Ok(support)) => choice.split.replace(LayerSplit::Aligned(support)).is_some(),
                    _ => return Err(Error::usage(format!("{word:?} cannot be chosen for a layer")).hint(WORDS)),
                },
            };
            if twice {
                return Err(Error::usage(format!("{text:?} chooses twice")).hint(WORDS));
            }
        }
        choice.check()?;
        Ok(choice)
    }
}

impl Serialize for LayerChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        // A number alone is bits.
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_both_ways() {
        for text in ["4", "float", "whole", "full", "6,center", "8,whole", "2,diagonal"] {
            let choice: LayerChoice = text.parse().unwrap();
            assert_eq!(choice.to_string(), text);
            let json = serde_json::to_string(&choice).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<LayerChoice>(&json).unwrap(), choice);
        }
        assert_eq!("full, 3".parse::<LayerChoice>().unwrap().to_string(), "3,full");
        assert_eq!(serde_json::from_str::<LayerChoice>("5").unwrap().bits, Some(5));
    }

    #[test]
    fn choices_keep_the_order_of_the_file() {
        let json = r#"{"z.*":"4","a":"8,full","z.0":"float"}"#;
        let choices = LayerChoices::from_json(json).unwrap();
        assert_eq!(choices.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["z.*", "a", "z.0"]);
        assert_eq!(serde_json::to_string(&choices).unwrap(), json);
        for (json, why) in [(r#"["a"]"#, "an object of layers"), (r#"{"a": 9}"#, "9 is not a width"), ("{", "EOF")] {
            let error = LayerChoices::from_json(json).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("center, diagonal, full"), "{json}: {error}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (text, why) in [
            ("", "cannot be chosen"),
            ("9", "9 is not a width"),
            ("1", "1 is not a width"),
            ("4,8", "twice"),
            ("full,whole", "twice"),
            ("float,8", "neither bits nor a split"),
            ("4,wide", "\"wide\" cannot be chosen"),
        ] {
            let error = text.parse::<LayerChoice>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(LayerChoice::default().check().is_err());
    }
}
