//! What the benches share: the device, timing by criterion, tables.

#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod data;
pub(crate) mod networks;
pub(crate) mod peaks;
pub(crate) mod table;

use std::time::{Duration, Instant};

use criterion::Criterion;
use repquant::Device;
use repquant::Result;
use repquant::internals::Recorder;
use repquant::options::{DeviceChoice, DeviceOptions};
use repquant::report::DeviceKind;

/// Names the device that a bench runs on: what `--device` takes, or `adapter`. Default: the Cpu
/// device.
const DEVICE_VARIABLE: &str = "REPQUANT_BENCH_DEVICE";

/// Samples of each bench.
const SAMPLES: usize = 10;

/// How much work a device can do within a short bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speed {
    /// The Cpu device.
    Native,
    /// WGSL on processor cores.
    Software,
    /// A GPU.
    Gpu,
}

/// How fast `device` is.
pub(crate) fn speed(device: &Device) -> Speed {
    match device.info().kind {
        _ if device.is_native() => Speed::Native,
        DeviceKind::Cpu => Speed::Software,
        DeviceKind::Gpu => Speed::Gpu,
    }
}

/// The device that the environment names. `adapter`: a GPU where there is one, else a software
/// adapter; none where there is neither, after saying so.
pub(crate) fn device() -> Option<Device> {
    let name = std::env::var(DEVICE_VARIABLE).unwrap_or_else(|_| "cpu".into());
    let open = |choice: DeviceChoice| Device::open(&DeviceOptions { choice, ..DeviceOptions::default() });
    let device = match name.as_str() {
        "adapter" => {
            let best = open(DeviceChoice::Auto).expect("auto falls back to the Cpu device");
            if best.is_native() { open(DeviceChoice::Software).ok() } else { Some(best) }
        }
        name => {
            let choice = name.parse().expect("any text is a choice");
            Some(open(choice).unwrap_or_else(|e| panic!("{DEVICE_VARIABLE}={name}: {e}")))
        }
    };
    if device.is_none() {
        println!("There is no adapter: left out.");
    }
    device
}

/// Runs what `record` records `times` times, a few at a time, and waits for the device.
pub(crate) fn repeat(device: &Device, times: u64, record: impl Fn(&mut Recorder<'_>) -> Result<()>) {
    const TOGETHER: u64 = 64;
    let mut left = times;
    while left > 0 {
        let now = left.min(TOGETHER);
        let mut rec = device.recorder();
        for _ in 0..now {
            record(&mut rec).expect("the device works");
        }
        rec.submit().expect("the device works");
        left -= now;
    }
    device.wait().expect("the device works");
}

/// Times benches with criterion and keeps their medians for the tables.
pub(crate) struct Timer {
    criterion: Criterion,
}

impl Timer {
    /// Short runs, with criterion's flags from the command line.
    pub(crate) fn new() -> Self {
        let criterion = Criterion::default()
            .sample_size(SAMPLES)
            .nresamples(1001)
            .warm_up_time(Duration::from_millis(150))
            .measurement_time(Duration::from_millis(600))
            .without_plots()
            .configure_from_args();
        Self { criterion }
    }

    /// Times `run`, which does its work as often as it is told. Gives the median of the seconds for
    /// once; none where the command line leaves this bench out.
    pub(crate) fn time(&mut self, name: &str, run: impl Fn(u64)) -> Option<f64> {
        let mut samples = Vec::new();
        self.criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let start = Instant::now();
                run(times);
                let elapsed = start.elapsed();
                samples.push(elapsed.as_secs_f64() / times as f64);
                elapsed
            });
        });
        // What comes before are the runs to warm up.
        median(samples.split_off(samples.len().saturating_sub(SAMPLES)))
    }

    /// [`Timer::time`] of what `record` records.
    pub(crate) fn kernel(
        &mut self,
        device: &Device,
        name: &str,
        record: impl Fn(&mut Recorder<'_>) -> Result<()>,
    ) -> Option<f64> {
        self.time(name, |times| repeat(device, times, &record))
    }

    /// Ends criterion's output.
    pub(crate) fn finish(self) {
        self.criterion.final_summary();
    }
}

/// The median; of an even number the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The median seconds of `times` runs, for work that takes too long for criterion's ten samples and
/// more.
pub(crate) fn seconds(times: usize, mut run: impl FnMut()) -> f64 {
    let each = (0..times).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    median(each.collect()).expect("at least one run")
}
