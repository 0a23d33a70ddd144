//! Values on the command line.

/// A value parser from `FromStr`, so that the library's own parsers and messages serve the command
/// line.
pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| e.to_string())
}
