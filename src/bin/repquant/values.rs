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
