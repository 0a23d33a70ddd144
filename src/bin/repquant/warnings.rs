//! What is said of a result that is too far from the float network's.

use repquant::Report;
use repquant::report::{OutputRow, ResultRow};

use super::session::Session;

/// A lower SQNR is worth a warning, in decibels.
const LEAST_SQNR: f64 = 15.0;
/// A lower agreement is worth a warning.
const LEAST_AGREEMENT: f64 = 0.9;

/// The top-1 of classes one less that is worth a warning, and by how much it must exceed the top-1.
const LEAST_SHIFTED: f64 = 0.25;
const MUCH_MORE: f64 = 3.0;

/// Warns where the last network of a report, the chosen one, is far from the float network.
/// Also where the classes look as if they were counted from 1.
pub(super) fn warn(session: &Session, report: &Report) {
    if let Some((first, one_more)) = report.results.first().and_then(counted_from_one) {
        session.bars.note(&format!(
            "warning: top-1 is {:.1} %, and would be {:.1} % if each class were one less: the classes seem to be \
             counted from 1\n  take 1 from each, or write their names",
            100.0 * first,
            100.0 * one_more
        ));
    }
    let Some(found) = report.results.last().and_then(doubt) else { return };
    session.bars.note(&format!(
        "warning: {found}\n  `repquant analyze` with the same flags says which layers lose it, and which setting \
         helps each; more calibration images may help, too; check --mean and --std"
    ));
}

/// Top-1, and what it would be if each class were one less, where that is much more.
fn counted_from_one(row: &ResultRow) -> Option<(f64, f64)> {
    let (first, one_more) = row.top1.zip(row.one_more)?;
    (one_more > LEAST_SHIFTED + MUCH_MORE * first).then_some((first, one_more))
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
