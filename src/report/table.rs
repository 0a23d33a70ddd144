//! The report as text, in columns.

use std::fmt;

use super::{LayerRow, OutputRow, PartRow, Report, ResultRow, Throughput};

impl fmt::Display for Report {
    /// The table of networks, and that of outputs where there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outputs = output_table(self);
        let gap = if outputs.is_empty() { "" } else { "\n" };
        write!(f, "{}{gap}{outputs}", result_table(self))
    }
}

/// The table of networks, one line each.
pub fn result_table(report: &Report) -> String {
    let header = ["", "bits", "top-1", "top-5", "agreement", "logit SQNR", "weights", "multiplications"];
    let rows: Vec<Vec<String>> = report.results.iter().map(result_row).collect();
    columns(&header, &rows)
}

/// The outputs of networks that are no classifiers, and of those whose images have no classes, one
/// line each; empty where there are none. What an output of several things does worst stands beside
/// the figure for all of it, and the worst of them below the table.
pub fn output_table(report: &Report) -> String {
    let compared = report.results.iter().filter(|row| row.agreement.is_none() || row.top1.is_none());
    let outputs: Vec<(&str, &OutputRow)> =
        compared.flat_map(|row| row.outputs.iter().map(|output| (row.name.as_str(), output))).collect();
    if outputs.is_empty() {
        return String::new();
    }
    let in_parts = outputs.iter().any(|(_, output)| !output.worst.is_empty());
    let chosen = |cells: Vec<String>| -> Vec<String> {
        cells.into_iter().enumerate().filter(|(column, _)| *column != 3 || in_parts).map(|(_, cell)| cell).collect()
    };
    let header = ["", "output", "SQNR", "worst part", "cosine", "largest difference", "largest value"];
    let header = chosen(header.map(String::from).to_vec());
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let line = |(name, output): &(&str, &OutputRow)| {
        chosen(vec![
            (*name).to_owned(),
            output.name.clone(),
            or_dash(output.sqnr_db.map(|db| format!("{db:.1} dB"))),
            or_dash(output.worst.first().map(|part| format!("{:.1} dB ({})", part.sqnr_db, place(part)))),
            or_dash(output.cosine.map(|c| format!("{c:.5}"))),
            format!("{:.4}", output.largest_difference),
            format!("{:.4}", output.largest),
        ])
    };
    let rows: Vec<Vec<String>> = outputs.iter().map(line).collect();
    columns(&header, &rows) + &outputs.iter().map(|(name, output)| worst_parts(name, output)).collect::<String>()
}

/// Where an entry lies.
fn place(part: &PartRow) -> String {
    format!("{} of axis {}", part.entry, part.axis)
}

/// The entries of an output that are the least close, in one line; nothing where it holds one thing.
fn worst_parts(name: &str, output: &OutputRow) -> String {
    let [first, _, ..] = output.worst.as_slice() else { return String::new() };
    let parts: Vec<String> =
        output.worst.iter().map(|part| format!("{} ({:.1} dB)", part.entry, part.sqnr_db)).collect();
    format!("{name}: the worst of {} along axis {}: {}\n", output.name, first.axis, parts.join(", "))
}

/// The table of layers, one line each.
pub fn layer_table(report: &Report) -> String {
    let header = ["layer", "split", "shift", "threshold", "scale", "zero point", "SQNR", "cosine"];
    let rows: Vec<Vec<String>> = report.layers.iter().map(layer_row).collect();
    columns(&header, &rows)
}

/// How fast each stage went and who waited, one line each.
pub fn throughput_lines(throughput: &Throughput) -> String {
    let stages = [("calibration", throughput.calibrate), ("evaluation", throughput.evaluate)];
    let line = |(name, pace): (&str, Option<super::Pace>)| {
        let pace = pace?;
        let decoding = pace.decoding_waited.map(|s| format!(", decoding waited {s:.1} s for the device"));
        Some(format!(
            "{name}: {:.0} images/s, waited {:.1} s for images{}\n",
            pace.images_per_second,
            pace.waiting_for_images,
            decoding.unwrap_or_default()
        ))
    };
    stages.into_iter().filter_map(line).collect()
}

fn result_row(row: &ResultRow) -> Vec<String> {
    let overhead = row.overhead.filter(|o| *o > 0.0).map_or(String::new(), |o| format!(" (+{:.1} %)", 100.0 * o));
    vec![
        row.name.clone(),
        if row.weight_bits == 32 { "float".into() } else { format!("W{}A{}", row.weight_bits, row.activation_bits) },
        percent(row.top1),
        percent(row.top5),
        percent(row.agreement),
        row.logit_sqnr_db.map_or_else(|| "-".into(), |db| format!("{db:.1} dB")),
        bytes(row.weight_bytes),
        format!("{:.1} M{overhead}", row.macs as f64 / 1e6),
    ]
}

fn layer_row(row: &LayerRow) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    vec![
        row.name.clone(),
        row.split.clone(),
        if row.split == "none" || row.split.is_empty() { "-".into() } else { row.shift_max.to_string() },
        or_dash(row.threshold.map(|t| format!("{t:.4}"))),
        or_dash(row.scale.map(|s| format!("{s:.3e}"))),
        or_dash(row.zero_point.map(|z| z.to_string())),
        or_dash(row.sqnr_db.map(|db| format!("{db:.1} dB"))),
        or_dash(row.cosine.map(|c| format!("{c:.5}"))),
    ]
}

fn percent(fraction: Option<f64>) -> String {
    fraction.map_or_else(|| "-".into(), |f| format!("{:.2} %", 100.0 * f))
}

/// A size in bytes, kB or MB (powers of 1000).
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.2} MB", count as f64 / 1e6),
    }
}

/// Text in columns: the first flush left, the others flush right, two spaces between.
pub fn columns(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |c: usize| {
        let cells = rows.iter().map(|row| row[c].chars().count());
        cells.chain([header[c].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.enumerate().map(|(c, cell)| {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            if c == 0 { format!("{cell}{pad}") } else { format!("  {pad}{cell}") }
        });
        padded.collect::<String>().trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["float32".into(), "86.45 %".into()], vec!["a".into(), "–".into()]];
        assert_eq!(columns(&["", "top-1"], &rows), "           top-1\nfloat32  86.45 %\na              –\n");
        assert_eq!((bytes(12), bytes(2500), bytes(2_600_000)), ("12 B".into(), "2.5 kB".into(), "2.60 MB".into()));
    }
}
