//! Where the time of a run goes: each kernel's run on the device, and what the host did meanwhile.
//!
//! A device that was opened with a [`Profile`] reports every kernel to it; the command line adds
//! the library's `tracing` spans. [`Profile::summary`] has the totals, [`Profile::trace`] the
//! events, in the format that `chrome://tracing` and Perfetto open. Totals count everything; the
//! trace keeps the first [`MOST_EVENTS`] events, so memory does not grow with the number of images.

mod trace;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

/// Events that a trace holds at most: about 30 MB of JSON.
pub const MOST_EVENTS: usize = 200_000;

/// What a device and the host report of one run.
#[derive(Debug)]
pub struct Profile {
    start: Instant,
    most_events: usize,
    kept: Mutex<Kept>,
}

/// One run of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRun {
    /// Its name.
    pub kernel: &'static str,
    /// The layer it was run for; empty where that is not known.
    pub layer: Arc<str>,
    /// Its multiplications; 0 where they are not counted.
    pub multiplications: u64,
}

#[derive(Debug, Default)]
struct Kept {
    totals: BTreeMap<(&'static str, Arc<str>), Total>,
    kernels: Vec<(KernelRun, Interval)>,
    spans: Vec<Span>,
    left_out: u64,
    /// Seconds from the zero of the device's clock to the start of the profile.
    device_zero: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Total {
    calls: u64,
    seconds: f64,
    multiplications: u64,
}

#[derive(Debug, Clone, Copy)]
struct Interval {
    begin: f64,
    seconds: f64,
}

#[derive(Debug)]
struct Span {
    name: String,
    thread: String,
    interval: Interval,
}

/// The time of all runs of a kernel, or of those of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The kernel.
    pub kernel: &'static str,
    /// The layer; none in a row of the whole kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// How often it ran.
    pub calls: u64,
    /// Its time on the device.
    pub milliseconds: f64,
    /// That time as a fraction of the time of all kernels.
    pub share: f64,
    /// 10^9 operations a second, a multiplication and its addition counted as two; none where they
    /// are not counted.
    pub gops: Option<f64>,
}

/// The totals of a profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Time of all kernels on the device.
    pub milliseconds: f64,
    /// One row for each kernel, the slowest first.
    pub kernels: Vec<Row>,
    /// One row for each kernel of each layer, the slowest first.
    pub layers: Vec<Row>,
    /// Events that the trace has no room for; the totals count them.
    pub events_left_out: u64,
}

impl Default for Profile {
    fn default() -> Self {
        Self::new()
    }
}

impl Profile {
    /// Begins now.
    pub fn new() -> Self {
        Self { start: Instant::now(), most_events: MOST_EVENTS, kept: Mutex::default() }
    }

    /// Seconds since the beginning.
    pub fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Takes one run of a kernel, which began at `begin` and took `seconds`. A device with a clock
    /// of its own gives `begin` on that clock, and says with [`Profile::submitted`] how the clocks
    /// lie to each other.
    pub fn kernel(&self, run: KernelRun, begin: f64, seconds: f64) {
        let mut kept = self.kept();
        let total = kept.totals.entry((run.kernel, run.layer.clone())).or_default();
        total.calls += 1;
        total.seconds += seconds;
        total.multiplications += run.multiplications;
        if self.has_room(&mut kept) {
            kept.kernels.push((run, Interval { begin, seconds }));
        }
    }

    /// Tells that kernels were submitted at `host` ([`Profile::now`]) and the first of them began
    /// at `device` on the device's clock. No kernel begins before it was submitted, and one that
    /// finds the device idle begins at once: of all pairs the one that moves the device's clock
    /// farthest ahead is taken.
    pub fn submitted(&self, host: f64, device: f64) {
        let mut kept = self.kept();
        kept.device_zero = Some(kept.device_zero.map_or(host - device, |zero| zero.max(host - device)));
    }

    /// Takes what a thread of the host did from `begin` on ([`Profile::now`]), for `seconds`.
    pub fn span(&self, name: &str, thread: &str, begin: f64, seconds: f64) {
        let mut kept = self.kept();
        if self.has_room(&mut kept) {
            let interval = Interval { begin, seconds };
            kept.spans.push(Span { name: name.to_owned(), thread: thread.to_owned(), interval });
        }
    }

    /// The totals so far.
    pub fn summary(&self) -> Summary {
        let kept = self.kept();
        let all: f64 = kept.totals.values().map(|t| t.seconds).sum();
        let row = |kernel, layer, total: &Total| Row {
            kernel,
            layer,
            calls: total.calls,
            milliseconds: 1e3 * total.seconds,
            share: if all > 0.0 { total.seconds / all } else { 0.0 },
            gops: (total.multiplications > 0 && total.seconds > 0.0)
                .then(|| 2e-9 * total.multiplications as f64 / total.seconds),
        };
        let mut of_kernel: BTreeMap<&'static str, Total> = BTreeMap::new();
        for ((kernel, _), total) in &kept.totals {
            let sum = of_kernel.entry(kernel).or_default();
            sum.calls += total.calls;
            sum.seconds += total.seconds;
            sum.multiplications += total.multiplications;
        }
        let slowest_first = |rows: &mut Vec<Row>| rows.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
        let mut kernels = of_kernel.iter().map(|(kernel, total)| row(kernel, None, total)).collect();
        slowest_first(&mut kernels);
        let named = kept.totals.iter().filter(|((_, layer), _)| !layer.is_empty());
        let mut layers = named.map(|((kernel, layer), total)| row(kernel, Some(layer.to_string()), total)).collect();
        slowest_first(&mut layers);
        Summary { milliseconds: 1e3 * all, kernels, layers, events_left_out: kept.left_out }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the trace takes one more event; counts it where not.
    fn has_room(&self, kept: &mut Kept) -> bool {
        let room = kept.kernels.len() + kept.spans.len() < self.most_events;
        kept.left_out += u64::from(!room);
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn run(kernel: &'static str, layer: &str, multiplications: u64) -> KernelRun {
        KernelRun { kernel, layer: layer.into(), multiplications }
    }

    #[test]
    fn totals_are_sums_by_kernel_and_by_layer_the_slowest_first() {
        let profile = Profile::new();
        profile.kernel(run("conv", "a", 1_000_000), 0.0, 0.001);
        profile.kernel(run("conv", "b", 3_000_000), 0.001, 0.003);
        profile.kernel(run("conv", "a", 1_000_000), 0.004, 0.001);
        profile.kernel(run("pool", "c", 0), 0.005, 0.003);
        profile.kernel(run("sums", "", 0), 0.008, 0.002);
        let summary = profile.summary();
        let row = |r: &Row| (r.kernel, r.layer.clone().unwrap_or_default(), r.calls, (1e3 * r.milliseconds).round());
        let text = |s: &str| s.to_owned();
        assert_eq!(
            summary.kernels.iter().map(row).collect::<Vec<_>>(),
            [("conv", text(""), 3, 5000.0), ("pool", text(""), 1, 3000.0), ("sums", text(""), 1, 2000.0)]
        );
        assert_eq!(
            summary.layers.iter().map(row).collect::<Vec<_>>(),
            [("conv", text("b"), 1, 3000.0), ("pool", text("c"), 1, 3000.0), ("conv", text("a"), 2, 2000.0)]
        );
        assert!((summary.milliseconds - 10.0).abs() < 1e-9 && (summary.kernels[0].share - 0.5).abs() < 1e-9);
        // 5 million multiplications in 5 ms.
        assert!((summary.kernels[0].gops.unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(summary.kernels[1].gops, None);
    }

    #[test]
    fn a_full_trace_goes_on_counting() {
        let profile = Profile { most_events: 2, ..Profile::new() };
        for _ in 0..5 {
            profile.kernel(run("conv", "a", 0), 0.0, 0.5);
        }
        profile.span("load", "main", 0.0, 1.0);
        let summary = profile.summary();
        assert_eq!((summary.kernels[0].calls, summary.events_left_out), (5, 4));
        assert_eq!(profile.kept().kernels.len(), 2);
    }

    #[test]
    fn nothing_ran() {
        let summary = Profile::new().summary();
        assert_eq!((summary.milliseconds, summary.kernels.len(), summary.layers.len()), (0.0, 0, 0));
    }
}
