//! `repquant merge`.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use repquant::{Calibration, Error, Result};

use super::args::MergeArgs;
use super::session::{Session, statistics_output};

/// Adds statistics files exactly.
pub(super) fn run(session: &Session, args: &MergeArgs) -> Result<()> {
    let output = statistics_output(&args.output, args.inputs.iter().cloned())?;
    let mut known = Known::default();
    let mut sum = Calibration::load(&args.inputs[0])?;
    known.check_new(&args.inputs[0], &sum)?;
    for path in &args.inputs[1..] {
        let next = Calibration::load(path)?;
        known.check_new(path, &next)?;
        sum.merge(&next).map_err(|e| e.at(path.display()))?;
    }
    output.write(&sum.to_bytes()?)?;
    super::calibrate::summarize(session, &sum, output.path(), None)
}

/// The statistics that were added already, by a hash of what is in them.
#[derive(Default)]
struct Known(HashMap<u64, PathBuf>);

impl Known {
    /// Whether a file was not added before, under this name or as a copy: its images would count
    /// twice.
    ///
    /// # Errors
    /// Where it was.
    fn check_new(&mut self, path: &Path, statistics: &Calibration) -> Result<()> {
        let bytes = statistics.to_bytes()?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let Some(other) = self.0.insert(hasher.finish(), path.to_owned()) else { return Ok(()) };
        if Calibration::load(&other)?.to_bytes()? != bytes {
            return Ok(());
        }
        let what = if other == path {
            format!("{}: is given twice", path.display())
        } else {
            format!("{}: holds the same statistics as {}", path.display(), other.display())
        };
        Err(Error::usage(what).hint("the same images would count twice: name each file once"))
    }
}
