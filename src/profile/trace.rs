//! The Trace Event Format of Chrome, which `chrome://tracing` and Perfetto open: complete events
//! (`"ph": "X"`), times in microseconds. Source: the "Trace Event Format" document of the Chromium
//! project.

use serde::Serialize;

use super::{Interval, Profile};
use crate::{Error, Result};

/// The one process of a trace.
const PROCESS: u32 = 1;

/// The track of the device; those of the host's threads follow.
const DEVICE_TRACK: usize = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    trace_events: Vec<Event<'a>>,
    display_time_unit: &'static str,
}

/// One event; which fields there are depends on `ph`.
#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'static str>,
    ph: &'static str,
    /// Microseconds from the beginning of the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    /// Microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: u32,
    tid: usize,
    args: Args<'a>,
}

#[derive(Serialize, Default)]
struct Args<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiplications: Option<u64>,
}

impl Profile {
    /// The events as a JSON document: one track for the kernels of `device`, one for each thread of
    /// the host.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn trace(&self, device: &str) -> Result<Vec<u8>> {
        let kept = self.kept();
        let mut threads: Vec<&str> = Vec::new();
        for span in &kept.spans {
            if !threads.contains(&span.thread.as_str()) {
                threads.push(&span.thread);
            }
        }
        let tracks: Vec<String> = threads.iter().map(|thread| format!("host: {thread}")).collect();
        let mut events =
            vec![named("process_name", DEVICE_TRACK, "repquant"), named("thread_name", DEVICE_TRACK, device)];
        events.extend(tracks.iter().enumerate().map(|(i, track)| named("thread_name", DEVICE_TRACK + 1 + i, track)));
        let zero = kept.device_zero.unwrap_or(0.0);
        events.extend(kept.kernels.iter().map(|(run, interval)| {
            let multiplications = (run.multiplications > 0).then_some(run.multiplications);
            let args = Args { layer: Some(&run.layer), multiplications, name: None };
            let interval = Interval { begin: interval.begin + zero, ..*interval };
            complete(run.kernel, "kernel", DEVICE_TRACK, interval, args)
        }));
        events.extend(kept.spans.iter().map(|span| {
            let thread = threads.iter().position(|t| *t == span.thread).unwrap_or_default();
            complete(&span.name, "host", DEVICE_TRACK + 1 + thread, span.interval, Args::default())
        }));
        serde_json::to_vec(&Document { trace_events: events, display_time_unit: "ms" })
            .map_err(|e| Error::check("the profile could not be written as JSON").because(e))
    }
}

/// An event that names a process or a track.
fn named<'a>(name: &'a str, tid: usize, value: &'a str) -> Event<'a> {
    let args = Args { name: Some(value), ..Args::default() };
    Event { name, cat: None, ph: "M", ts: None, dur: None, pid: PROCESS, tid, args }
}

fn complete<'a>(name: &'a str, cat: &'static str, tid: usize, interval: Interval, args: Args<'a>) -> Event<'a> {
    let (ts, dur) = (Some(1e6 * interval.begin), Some(1e6 * interval.seconds));
    Event { name, cat: Some(cat), ph: "X", ts, dur, pid: PROCESS, tid, args }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::run;
    use super::*;

    #[test]
    fn the_device_and_each_thread_have_a_track() {
        let profile = Profile::new();
        // The device's clock began 10 s before the profile, or more: the second pair says so.
        profile.submitted(0.5, 10.75);
        profile.submitted(1.0, 11.0);
        profile.kernel(run("conv", "stage1.0", 7), 11.0, 0.25);
        profile.span("load", "main", 0.0, 0.5);
        profile.span("decode", "decode", 0.125, 0.25);
        profile.span("calibrate", "main", 0.5, 1.0);
        let document: Value = serde_json::from_slice(&profile.trace("a GPU").unwrap()).unwrap();
        let events = document["traceEvents"].as_array().unwrap();
        let named: Vec<_> = events.iter().filter(|e| e["ph"] == "M").map(|e| (&e["tid"], &e["args"]["name"])).collect();
        let value = |text: &str| Value::from(text);
        assert_eq!(
            named,
            [
                (&1.into(), &value("repquant")),
                (&1.into(), &value("a GPU")),
                (&2.into(), &value("host: main")),
                (&3.into(), &value("host: decode"))
            ]
        );
        let complete: Vec<_> = events
            .iter()
            .filter(|e| e["ph"] == "X")
            .map(|e| (e["name"].as_str().unwrap(), e["tid"].as_u64().unwrap(), e["ts"].as_f64(), e["dur"].as_f64()))
            .collect();
        assert_eq!(
            complete,
            [
                ("conv", 1, Some(1e6), Some(0.25e6)),
                ("load", 2, Some(0.0), Some(0.5e6)),
                ("decode", 3, Some(0.125e6), Some(0.25e6)),
                ("calibrate", 2, Some(0.5e6), Some(1e6))
            ]
        );
        assert_eq!(events[4]["args"], json!({ "layer": "stage1.0", "multiplications": 7 }));
    }
}
