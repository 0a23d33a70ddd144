//! Output files: checked before any work starts, written under a temporary name, renamed when
//! whole.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Term, text};
use crate::{Error, Result};

/// A file that will be written.
#[derive(Debug, Clone)]
pub struct OutputFile {
    path: PathBuf,
}

impl OutputFile {
    /// Checks that `path` can be written: its folder exists and takes a new file, and the file is
    /// not there yet or `replace` is set.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where the file exists or is one of `inputs`,
    /// [`ErrorKind::Output`](crate::ErrorKind::Output) where it cannot be written.
    pub fn check(path: &Path, replace: bool, inputs: &[&Path]) -> Result<Self> {
        let output = Self { path: path.to_owned() };
        output.check_apart_from(inputs.iter().copied())?;
        if path.is_dir() {
            return Err(
                Error::usage(format!("{}: is a folder", path.display())).hint(text!["name a file ", Term::Output])
            );
        }
        if path.exists() && !replace {
            return Err(Error::usage(format!("{}: already exists", path.display())).hint(text![
                "choose another name, or ",
                Term::Replace,
                " to replace it"
            ]));
        }
        output.temporary().map(drop)?;
        Ok(output)
    }

    /// Checks that the file is none of `inputs`, for those that are known only after the output was
    /// checked: images, say.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where it is one.
    pub fn check_apart_from<'a>(&self, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        let Ok(canonical) = self.path.canonicalize() else { return Ok(()) };
        if inputs.into_iter().any(|input| input.canonicalize().is_ok_and(|input| input == canonical)) {
            return Err(Error::usage(format!("{}: the output is one of the inputs", self.path.display()))
                .hint(text!["choose another name ", Term::Output]));
        }
        Ok(())
    }

    /// As [`OutputFile::check`], for a file that is replaced where it exists.
    ///
    /// # Errors
    /// As [`OutputFile::check`].
    pub fn replace(path: &Path) -> Result<Self> {
        Self::check(path, true, &[])
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `bytes` under a temporary name in the same folder, then renames: no half-written file
    /// is ever seen.
    ///
    /// # Errors
    /// [`ErrorKind::Output`](crate::ErrorKind::Output), with nothing left behind.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let failed = |e: std::io::Error| Error::output(&self.path, "could not be written").because(e);
        let mut file = self.temporary()?;
        file.write_all(bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&self.path).map(drop).map_err(|e| failed(e.error))
    }

    fn temporary(&self) -> Result<tempfile::NamedTempFile> {
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            return Err(Error::output(&self.path, format!("the folder {} does not exist", folder.display()))
                .hint(text!["create it, or choose another path ", Term::Output]));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".repquant-");
        // A temporary file is private by default; the result should be readable as any new file is.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(folder).map_err(|e| {
            Error::output(&self.path, format!("the folder {} cannot be written", folder.display())).because(e)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn refuses_what_would_be_lost_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let output = OutputFile::check(&path, false, &[]).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        output.write(b"one").unwrap();
        assert_eq!(OutputFile::check(&path, false, &[]).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(OutputFile::check(&path, true, &[&path]).unwrap_err().kind(), ErrorKind::Usage);
        OutputFile::check(&path, true, &[]).unwrap().write(b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        let missing = dir.path().join("no/such/a.bin");
        assert_eq!(OutputFile::check(&missing, false, &[]).unwrap_err().kind(), ErrorKind::Output);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
