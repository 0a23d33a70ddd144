//! Values on the command line.

/// A value, or none where the word is `auto`; a type of its own, for clap takes an `Option` for a
/// flag that may be missing.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrAuto<T>(pub Option<T>);

/// A value parser for [`OrAuto`].
pub(super) fn or_auto<T: std::str::FromStr>(text: &str) -> Result<OrAuto<T>, String>
where
    T::Err: std::fmt::Display,
{
    match text {
        "auto" => Ok(OrAuto(None)),
        text => match parse(text) {
            Ok(value) => Ok(OrAuto(Some(value))),
            Err(error) => Err(format!("{error}, or auto")),
        },
    }
}

/// A value parser from `FromStr`, so that the library's own parsers and messages serve the command
/// line.
pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| e.to_string())
}

/// A number of bytes, as 4096, 64K, 512M or 2G (powers of 1024).
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, unit)) if !unit.is_ascii_digit() => {
            let shift = match unit.to_ascii_uppercase() {
                'K' => 10,
                'M' => 20,
                'G' => 30,
                'T' => 40,
                _ => return Err(format!("{unit} is none of the units K, M, G and T")),
            };
            (&text[..at], shift)
        }
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "pass a number of bytes, as 512M or 2G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than there can be".into())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_have_units() {
        for (text, expected) in [("0", 0), ("4096", 4096), ("64K", 65536), ("3m", 3 << 20), ("2G", 2 << 30)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "G", "1.5G", "-1", "2X", "99999999999T", "1GB", "1é"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
