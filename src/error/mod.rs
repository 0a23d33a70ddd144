//! The one error type: what failed, where (file, tensor, layer), and what to do about it.
//!
//! An error is made where the facts are known, passed up with `?`, and handled once, by whoever
//! called the library.

mod text;

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

pub(crate) use text::{Part, text};
pub use text::{Term, Text};

/// What sort of failure it is: what a caller should do follows from it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The work ran to its end and its check failed.
    Check,
    /// The request cannot be met as it stands: an option out of range, a file that exists and may
    /// not be replaced.
    Usage,
    /// An input (file, folder, tensor) is missing, broken or contradicts another.
    Input,
    /// No usable device, an unknown adapter, or the device failed.
    Device,
    /// A file could not be written.
    Output,
}

/// A failure, ready to be shown: `place: what: cause`, and on a line of its own what to do.
///
/// ```
/// use repquant::{ErrorKind, Model};
///
/// let error = Model::load("no/such.safetensors").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Input);
/// assert!(error.to_string().starts_with("no/such.safetensors: "));
/// ```
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    place: Option<String>,
    what: Text,
    hint: Option<Text>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn new(kind: ErrorKind, place: Option<String>, what: impl Into<Text>) -> Self {
        Self { kind, place, what: what.into(), hint: None, source: None }
    }

    /// The work ran and its check failed.
    pub fn check(what: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Check, None, what)
    }

    /// A request that cannot be met as it stands.
    pub fn usage(what: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Usage, None, what)
    }

    /// A bad input file or folder.
    pub fn input(path: impl AsRef<Path>, what: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Input, Some(path.as_ref().display().to_string()), what)
    }

    /// Bad input found where the file is not known; the caller adds it with [`Error::at`].
    pub fn bad(what: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Input, None, what)
    }

    /// A device that is missing or failed.
    pub fn device(what: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Device, None, what)
    }

    /// A file that could not be written.
    pub fn output(path: impl AsRef<Path>, what: impl Into<Text>) -> Self {
        Self::new(ErrorKind::Output, Some(path.as_ref().display().to_string()), what)
    }

    /// Adds the place (file, layer, tensor) in front of the one already there.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(match self.place {
            Some(inner) => format!("{place}: {inner}"),
            None => place.to_string(),
        });
        self
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Text>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the underlying cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message as `Display` writes it, with `name` for each setting that it speaks of: a
    /// command's flags, say.
    pub fn message<'a, N: Into<Cow<'a, str>>>(&self, name: impl Fn(Term) -> N) -> String {
        self.written(&|term| name(term).into())
    }

    fn written<'a>(&self, name: &dyn Fn(Term) -> Cow<'a, str>) -> String {
        let mut message = self.place.as_ref().map_or_else(String::new, |place| format!("{place}: "));
        message += &self.what.written(name);
        if let Some(source) = &self.source {
            // An error that is the cause of another speaks the same language.
            let source = source.downcast_ref::<Self>().map_or_else(|| source.to_string(), |e| e.written(name));
            message += ": ";
            message += &source;
        }
        if let Some(hint) = &self.hint {
            message += "\n  ";
            message += &hint.written(name);
        }
        message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(|term| term.to_string()))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_place_what_cause_and_hint() {
        let error =
            Error::bad("shape is [3]").because("expected 4 dimensions").at("tensor a.weight").at("m.safetensors");
        let error = error.hint("export it again");
        assert_eq!(
            error.to_string(),
            "m.safetensors: tensor a.weight: shape is [3]: expected 4 dimensions\n  export it again"
        );
        assert_eq!(error.kind(), ErrorKind::Input);
    }

    #[test]
    fn a_program_puts_its_own_names_for_settings() {
        let error = Error::usage(text![Term::WeightBits, " 9 is not a width"]).hint(text![
            "a smaller ",
            Term::BatchSize,
            format!(" than {}", 3)
        ]);
        assert_eq!(error.to_string(), "`weight_bits` 9 is not a width\n  a smaller `batch_size` than 3");
        let flags = |term| format!("--{term:?}").to_lowercase();
        assert_eq!(error.message(flags), "--weightbits 9 is not a width\n  a smaller --batchsize than 3");
        let outer = Error::bad("not read").because(error);
        assert!(outer.message(flags).contains(": --weightbits 9"));
    }
}
