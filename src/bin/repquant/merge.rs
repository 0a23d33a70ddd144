//! `repquant merge`.

use super::args::MergeArgs;
use super::session::{Session, checked_output};
use repquant::Result;
use repquant::calibrate::stats_file;

/// Adds statistics files exactly.
pub(super) fn run(session: &Session, args: &MergeArgs) -> Result<()> {
    let output = checked_output(&args.output, args.inputs.iter().cloned())?;
    let mut sum = stats_file::read(&args.inputs[0])?;
    for path in &args.inputs[1..] {
        sum.merge(&stats_file::read(path)?).map_err(|e| e.at(path.display()))?;
    }
    output.write(&stats_file::to_bytes(&sum)?)?;
    super::calibrate::summarize(session, &sum, 0, output.path(), None)
}
