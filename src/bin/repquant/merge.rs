//! `repquant merge`.

use repquant::{Calibration, Result};

use super::args::MergeArgs;
use super::session::{Session, checked_output};

/// Adds statistics files exactly.
pub(super) fn run(session: &Session, args: &MergeArgs) -> Result<()> {
    let output = checked_output(&args.output, args.inputs.iter().cloned())?;
    let mut sum = Calibration::load(&args.inputs[0])?;
    for path in &args.inputs[1..] {
        sum.merge(&Calibration::load(path)?).map_err(|e| e.at(path.display()))?;
    }
    output.write(&sum.to_bytes()?)?;
    super::calibrate::summarize(session, &sum, output.path(), None)
}
