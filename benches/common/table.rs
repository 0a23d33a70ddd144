//! Markdown tables: on stdout, and at the end of the file that `REPQUANT_BENCH_TABLES` names. Rows
//! of the table of targets: at the end of the one in `REPQUANT_BENCH_TARGETS`.

use std::fmt::Write as _;
use std::io::Write as _;

/// Adds text to the file that an environment variable names, if it does.
fn add(variable: &str, text: &str) {
    if let Some(path) = std::env::var_os(variable) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.unwrap_or_else(|e| panic!("{variable}={}: {e}", path.display()));
    }
}

/// States a figure that the project has a target for: what, on which device, the target, what was
/// measured, and whether it is met (none: this machine cannot tell). `benches/README.md` has the
/// list.
pub(crate) fn target(what: &str, device: &str, wanted: &str, measured: &str, met: impl Into<Option<bool>>) {
    let met = match met.into() {
        None => "not judged",
        Some(true) => "yes",
        Some(false) => "no",
    };
    add("REPQUANT_BENCH_TARGETS", &format!("| {what} | {device} | {wanted} | {measured} | {met} |\n"));
}

/// A table with a title.
pub(crate) struct Table {
    title: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    note: String,
}

impl Table {
    /// A table without rows; every column but the first holds numbers.
    pub(crate) fn new(title: impl Into<String>, head: &[&'static str]) -> Self {
        Self { title: title.into(), head: head.to_vec(), rows: Vec::new(), note: String::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Says something below the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.note = text.into();
    }

    /// Writes the table, if it has rows.
    pub(crate) fn finish(self) {
        if self.rows.is_empty() {
            return;
        }
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let head: Vec<String> = self.head.iter().map(|&cell| cell.into()).collect();
        let rule: Vec<String> = (0..head.len()).map(|i| if i == 0 { "---" } else { "---:" }.into()).collect();
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(text, "\n**{}**\n\n{}{}", self.title, line(&head), line(&rule));
        text.extend(self.rows.iter().map(|row| line(row)));
        if !self.note.is_empty() {
            let _ = writeln!(text, "\n{}", self.note);
        }
        println!("{text}");
        add("REPQUANT_BENCH_TABLES", &text);
    }
}

/// Three significant digits at least: `1234`, `123`, `12.3`, `1.23`, `0.123`.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.01 => 3,
        _ => 5,
    };
    format!("{value:.digits$}")
}

/// Milliseconds.
pub(crate) fn milliseconds(seconds: f64) -> String {
    number(1e3 * seconds)
}

/// A fraction as a percentage.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.0} %", 100.0 * fraction)
}
