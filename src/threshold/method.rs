//! The options of range selection, and how they are written on the command line.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// How a range is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// The largest value seen.
    MinMax,
    /// The smallest edge with this per cent of the mass below it, more than 0 and at most 100.
    Percentile(f64),
    /// Least squared error over bin centres.
    Mse,
    /// The published entropy calibration.
    Kl,
    /// The improved metric for re-parameterized networks.
    KlReparam,
}

/// Where the levels lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationMode {
    /// z = 0, ±threshold.
    Symmetric,
    /// `[lo, hi]` from the data.
    Affine,
}

/// How the range of each activation is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeOptions {
    /// How a range is chosen; default kl-reparam.
    pub method: Method,
    /// Bit width of activations, 2 to 8; default 8. The network input is always 8-bit and
    /// symmetric.
    pub bits: u8,
    /// Where the levels lie; default symmetric.
    pub mode: ActivationMode,
}

impl Default for RangeOptions {
    fn default() -> Self {
        Self { method: Method::KlReparam, bits: 8, mode: ActivationMode::Symmetric }
    }
}

impl RangeOptions {
    /// Whether the options can be met.
    ///
    /// # Errors
    /// A bit width outside 2 to 8, a percentile outside (0, 100].
    pub fn check(&self) -> Result<()> {
        if !(2..=8).contains(&self.bits) {
            return Err(Error::usage(format!("activations of {} bits", self.bits)).hint("pass 2 to 8 bits"));
        }
        self.method.check()
    }
}

impl Method {
    fn check(self) -> Result<()> {
        match self {
            Self::Percentile(p) if !(p > 0.0 && p <= 100.0) => {
                Err(Error::usage(format!("a percentile of {p}")).hint("pass more than 0 and at most 100, say 99.99"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax => f.write_str("minmax"),
            Self::Percentile(p) => write!(f, "percentile:{p}"),
            Self::Mse => f.write_str("mse"),
            Self::Kl => f.write_str("kl"),
            Self::KlReparam => f.write_str("kl-reparam"),
        }
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let method = match text.split_once(':') {
            Some(("percentile", p)) => Self::Percentile(p.parse().map_err(|_| {
                Error::usage(format!("the percentile `{p}` is not a number")).hint("write it as percentile:99.99")
            })?),
            None if text == "percentile" => {
                return Err(Error::usage("`percentile` needs a number").hint("write it as percentile:99.99"));
            }
            None if text == "minmax" => Self::MinMax,
            None if text == "mse" => Self::Mse,
            None if text == "kl" => Self::Kl,
            None if text == "kl-reparam" => Self::KlReparam,
            _ => {
                return Err(Error::usage(format!("no threshold method is called `{text}`"))
                    .hint("choose minmax, percentile:P, mse, kl or kl-reparam"));
            }
        };
        method.check()?;
        Ok(method)
    }
}

impl fmt::Display for ActivationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symmetric => "symmetric",
            Self::Affine => "affine",
        })
    }
}

impl FromStr for ActivationMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "symmetric" => Ok(Self::Symmetric),
            "affine" => Ok(Self::Affine),
            _ => Err(Error::usage(format!("activations cannot be `{text}`")).hint("choose symmetric or affine")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in ["minmax", "percentile:99.99", "percentile:100", "mse", "kl", "kl-reparam"] {
            assert_eq!(name.parse::<Method>().unwrap().to_string(), name);
        }
        for name in ["symmetric", "affine"] {
            assert_eq!(name.parse::<ActivationMode>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn wrong_names_say_what_is_right() {
        for (name, says) in [
            ("entropy", "kl-reparam"),
            ("", "minmax"),
            ("kl:3", "minmax"),
            ("percentile", "percentile:99.99"),
            ("percentile:x", "`x` is not a number"),
            ("percentile:0", "more than 0"),
            ("percentile:100.1", "at most 100"),
            ("percentile:-1", "more than 0"),
            ("percentile:NaN", "more than 0"),
            ("percentile:inf", "at most 100"),
        ] {
            let error = name.parse::<Method>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage);
            assert!(error.to_string().contains(says), "{name}: {error}");
        }
        assert!("asymmetric".parse::<ActivationMode>().unwrap_err().to_string().contains("affine"));
        for bits in [0, 1, 9, 255] {
            assert!(RangeOptions { bits, ..RangeOptions::default() }.check().is_err());
        }
    }
}
