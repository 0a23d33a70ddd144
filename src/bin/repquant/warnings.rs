//! What is said of a result that is too far from the float network's.

use repquant::Report;
use repquant::report::{OutputRow, ResultRow};

use super::session::Session;

/// A lower SQNR is worth a warning, in decibels.
const LEAST_SQNR: f64 = 15.0;
/// A lower agreement is worth a warning.
const LEAST_AGREEMENT: f64 = 0.9;

/// Warns where the last network of a report, the chosen one, is far from the float network.
pub(super) fn warn(session: &Session, report: &Report) {
    let Some(found) = report.results.last().and_then(doubt) else { return };
    session.bars.note(&format!(
        "warning: {found}\n  try more calibration images, --threshold mse, --activations affine, \
         --split-support full, or --keep-float for the layers with the least SQNR, which -v shows; \
         check --mean and --std"
    ));
}

/// What is doubtful about a network.
fn doubt(row: &ResultRow) -> Option<String> {
    let mut found = Vec::new();
    if let Some(agreement) = row.agreement.filter(|agreement| *agreement < LEAST_AGREEMENT) {
        found.push(format!("it agrees with the float network on {:.1} % of the images only", 100.0 * agreement));
    }
    // Of several things in one output the worst counts.
    let low = |output: &OutputRow| {
        let part =
            output.worst.first().map(|part| (part.sqnr_db, format!("entry {} of axis {} of ", part.entry, part.axis)));
        let whole = output.sqnr_db.map(|db| (db, String::new()));
        let (db, place) = part.into_iter().chain(whole).min_by(|a, b| a.0.total_cmp(&b.0))?;
        (db < LEAST_SQNR).then(|| (db, place + &output.name))
    };
    if let Some((db, name)) = row.outputs.iter().filter_map(low).min_by(|a, b| a.0.total_cmp(&b.0)) {
        found.push(format!("the SQNR of {name} is {db:.1} dB only"));
    }
    (!found.is_empty()).then(|| format!("{}: {}", row.name, found.join("; ")))
}
