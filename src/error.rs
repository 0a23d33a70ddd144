//! The one error type: what failed, where (file, tensor, layer), and what to do about it.
//!
//! An error is made where the facts are known, passed up with `?`, and handled once: the command line prints it and
//! turns its [`ErrorKind`] into the exit code.

use std::fmt;
use std::path::Path;

/// What sort of failure it is; the exit code follows from it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The work ran to its end and its check failed (exit code 1).
    Check,
    /// The request cannot be met as it stands: a wrong flag, an existing output without `--force` (exit code 2).
    Usage,
    /// An input file or folder is missing, broken or contradicts another (exit code 3).
    Input,
    /// No usable device, an unknown adapter, or the device failed (exit code 4).
    Device,
    /// A file could not be written (exit code 5).
    Output,
}

impl ErrorKind {
    /// The process exit code for this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Check => 1,
            Self::Usage => 2,
            Self::Input => 3,
            Self::Device => 4,
            Self::Output => 5,
        }
    }
}

/// A failure, ready to be shown: `place: what: cause`, and on a line of its own what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    place: Option<String>,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn new(kind: ErrorKind, place: Option<String>, what: impl Into<String>) -> Self {
        Self { kind, place, what: what.into(), hint: None, source: None }
    }

    /// The work ran and its check failed.
    pub fn check(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Check, None, what)
    }

    /// A request that cannot be met as it stands.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, None, what)
    }

    /// A bad input file or folder.
    pub fn input(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, Some(path.as_ref().display().to_string()), what)
    }

    /// Bad input found where the file is not known; the caller adds it with [`Error::at`].
    pub fn bad(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, None, what)
    }

    /// A device that is missing or failed.
    pub fn device(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Device, None, what)
    }

    /// A file that could not be written.
    pub fn output(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
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
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
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
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.what)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
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
        assert_eq!(error.kind().exit_code(), 3);
    }
}
