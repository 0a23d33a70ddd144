//! How an image is brought to the size of the input.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The gray around an image in a letterbox where nothing else is said, as `YOLO` has it.
const USUAL_FILL: u8 = 114;

/// How an image is brought to the size of the input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fit {
    /// The shorter side is resized, the centre cropped.
    #[default]
    Crop,
    /// The whole image is scaled until it fits, and framed with this value in every channel.
    Letterbox(u8),
    /// The whole image is resized to the size, each side by itself.
    Stretch,
}

impl Fit {
    /// The letterbox that `YOLO` has.
    pub(crate) fn default_letterbox() -> Self {
        Self::Letterbox(USUAL_FILL)
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crop => f.write_str("crop"),
            Self::Letterbox(fill) => write!(f, "letterbox:{fill}"),
            Self::Stretch => f.write_str("stretch"),
        }
    }
}

impl FromStr for Fit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fill = |text: &str| text.parse().ok().map(Self::Letterbox);
        let fit = match text.split_once(':') {
            Some(("letterbox", value)) => fill(value),
            None if text == "crop" => Some(Self::Crop),
            None if text == "letterbox" => Some(Self::default_letterbox()),
            None if text == "stretch" => Some(Self::Stretch),
            _ => None,
        };
        fit.ok_or_else(|| {
            Error::usage(format!("images cannot be fitted `{}`", text.escape_debug()))
                .hint("choose crop, letterbox, letterbox:FILL (0 to 255) or stretch")
        })
    }
}

impl TryFrom<String> for Fit {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Fit> for String {
    fn from(fit: Fit) -> Self {
        fit.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for (text, fit) in [
            ("crop", Fit::Crop),
            ("letterbox:0", Fit::Letterbox(0)),
            ("letterbox:255", Fit::Letterbox(255)),
            ("stretch", Fit::Stretch),
        ] {
            assert_eq!((text.parse::<Fit>().unwrap(), fit.to_string().as_str()), (fit, text));
            assert_eq!(serde_json::from_str::<Fit>(&serde_json::to_string(&fit).unwrap()).unwrap(), fit);
        }
        assert_eq!("letterbox".parse::<Fit>().unwrap(), Fit::Letterbox(114));
        for text in ["", "letterbox:256", "letterbox:", "crop:1", "stretch:0", "pad"] {
            assert!(text.parse::<Fit>().unwrap_err().to_string().contains("letterbox:FILL"), "{text}");
        }
    }
}
