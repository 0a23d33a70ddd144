//! A profile as text, in columns.

use super::table::columns;
use crate::profile::{Row, Summary};

/// Layers that are listed.
const MOST_LAYERS: usize = 10;

/// The kernels, and the slowest layers: two tables.
pub fn profile_tables(summary: &Summary) -> String {
    let header = ["kernel", "calls", "total", "share", "GOP/s"];
    let kernels: Vec<Vec<String>> = summary.kernels.iter().map(|row| cells(vec![row.kernel.into()], row)).collect();
    let layer = |row: &Row| cells(vec![row.layer.clone().unwrap_or_default(), row.kernel.into()], row);
    let layers: Vec<Vec<String>> = summary.layers.iter().take(MOST_LAYERS).map(layer).collect();
    let left_out = match summary.events_left_out {
        0 => String::new(),
        n => format!("the trace has no room for {n} more events; the totals count them\n"),
    };
    format!(
        "{}\n{}kernels: {:.1} ms on the device\n{left_out}",
        columns(&header, &kernels),
        columns(&["slowest layers", "kernel", "calls", "total", "share", "GOP/s"], &layers),
        summary.milliseconds,
    )
}

fn cells(mut cells: Vec<String>, row: &Row) -> Vec<String> {
    cells.extend([
        row.calls.to_string(),
        format!("{:.3} ms", row.milliseconds),
        format!("{:.1} %", 100.0 * row.share),
        row.gops.map_or_else(|| "-".into(), |gops| format!("{gops:.1}")),
    ]);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tables_the_second_of_ten_layers() {
        let row = |layer: Option<String>, gops| Row {
            kernel: "conv_i8",
            layer,
            calls: 12,
            milliseconds: 1.5,
            share: 0.25,
            gops,
        };
        let summary = Summary {
            milliseconds: 6.0,
            kernels: vec![row(None, Some(123.45))],
            layers: (0..12).map(|i| row(Some(format!("stage{i}")), None)).collect(),
            events_left_out: 3,
        };
        let text = profile_tables(&summary);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "kernel   calls     total   share  GOP/s");
        assert_eq!(lines[1], "conv_i8     12  1.500 ms  25.0 %  123.5");
        assert_eq!(lines[3], "slowest layers   kernel  calls     total   share  GOP/s");
        assert_eq!(lines[4], "stage0          conv_i8     12  1.500 ms  25.0 %      -");
        assert_eq!((lines.len(), lines[14]), (16, "kernels: 6.0 ms on the device"));
        assert!(lines[15].contains("no room for 3"));
    }
}
