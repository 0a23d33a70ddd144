//! What the device can do at most: the yardstick of the other benches.
//!
//! `REPQUANT_BENCH_DEVICE` names the device; see `benches/README.md`.

mod common;

use common::table::{Table, milliseconds, number};
use common::{Timer, device, peaks};

fn main() {
    let Some(device) = device() else { return };
    let mut timer = Timer::new();
    let mut table = Table::new(format!("Peaks of {}", device.info().name), &["load", "ms", "GOP/s", "GB/s"]);
    for load in peaks::loads(&device) {
        if let Some(seconds) = timer.time(load.name, &load.run) {
            let rate = number(load.work / seconds / 1e9);
            let (operations, bytes) = if load.is_memory { (String::new(), rate) } else { (rate, String::new()) };
            table.row([load.name.into(), milliseconds(seconds), operations, bytes]);
        }
    }
    table.finish();
    timer.finish();
}
