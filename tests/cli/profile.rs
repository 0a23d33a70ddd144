//! `--profile`: the table and the trace.

use std::collections::BTreeSet;

use repquant::internals::kernel_names;
use serde_json::Value;

use super::Bench;
use super::common::adapter;

/// The complete events of a trace, after a check of what Chrome's format asks of them.
fn events(bench: &Bench, name: &str) -> Vec<Value> {
    let trace: Value = serde_json::from_slice(&std::fs::read(bench.path(name)).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let complete: Vec<Value> = events.iter().filter(|e| e["ph"] == "X").cloned().collect();
    for event in &complete {
        let number = |field: &str| event[field].as_f64().unwrap_or_else(|| panic!("{field}: {event}"));
        assert!(number("dur") >= 0.0 && number("pid") > 0.0 && number("tid") > 0.0 && number("ts").is_finite());
    }
    let tracks = |kind: &str| {
        let found = complete.iter().filter(|e| e["cat"] == kind);
        found.map(|e| e["tid"].as_u64().unwrap()).collect::<BTreeSet<u64>>()
    };
    assert_eq!(tracks("kernel").len(), 1);
    assert!(tracks("kernel").is_disjoint(&tracks("host")));
    complete
}

/// Checks the trace and the JSON of a `quantize --eval` run of the small model with
/// `--profile p.json`.
fn check(bench: &Bench, report: &Value) {
    let events = events(bench, "p.json");
    let of = |kind: &str| events.iter().filter(|e| e["cat"] == kind).collect::<Vec<_>>();
    let (runs, host) = (of("kernel"), of("host"));
    // Every layer runs as float in both stages and as int8, and is counted and compared.
    let layers: Vec<&str> =
        report["layers"].as_array().unwrap().iter().map(|layer| layer["name"].as_str().unwrap()).collect();
    let ran = |kernels: &[&str], layer: &str| {
        let name = |e: &&&Value| kernels.contains(&e["name"].as_str().unwrap()) && e["args"]["layer"] == layer;
        runs.iter().filter(name).count()
    };
    for layer in &layers {
        let last = layer == layers.last().unwrap();
        assert!(ran(&["normalize", "conv_f32", "global_pool_f32"], layer) >= 1, "{layer}");
        assert!(ran(&["quantize_input", "conv_i8", "global_pool_i8"], layer) >= 2, "{layer}");
        for kernel in ["coarsen", "histogram", "magnitudes", "error_sums"] {
            assert_eq!(ran(&[kernel], layer) >= 1, !last, "{kernel}, {layer}");
        }
        // Convolutions find their own.
        assert_eq!(ran(&["range"], layer) >= 1, ran(&["conv_f32"], layer) == 0, "range, {layer}");
    }
    let known: BTreeSet<&str> = kernel_names().collect();
    for run in &runs {
        assert!(known.contains(run["name"].as_str().unwrap()), "{run}");
        let counted = run["args"]["multiplications"].as_u64().is_some();
        assert_eq!(counted, run["name"].as_str().unwrap().starts_with("conv"), "{run}");
    }
    for stage in ["load", "calibrate", "threshold", "quantize", "evaluate", "wait for images", "decode"] {
        assert!(host.iter().any(|e| e["name"] == stage), "{stage}");
    }
    // The totals are those of the events.
    let profile = &report["profile"];
    for row in profile["kernels"].as_array().unwrap() {
        let own: Vec<&&Value> = runs.iter().filter(|e| e["name"] == row["kernel"]).collect();
        assert_eq!(row["calls"], own.len(), "{row}");
        let sum: f64 = own.iter().map(|e| e["dur"].as_f64().unwrap()).sum();
        assert!((sum / 1e3 - row["milliseconds"].as_f64().unwrap()).abs() <= 1e-9 * sum.max(1.0), "{row}");
    }
    let shares: f64 = profile["kernels"].as_array().unwrap().iter().map(|r| r["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    // A kernel runs within the stage that asked for it: clocks of a device and the host are brought
    // together.
    let span = |e: &Value| (e["ts"].as_f64().unwrap(), e["ts"].as_f64().unwrap() + e["dur"].as_f64().unwrap());
    let stage = |name: &str| span(host.iter().find(|e| e["name"] == name).unwrap());
    for (kernel, name) in [("histogram", "calibrate"), ("conv_i8", "evaluate")] {
        let (begin, end) = stage(name);
        for run in runs.iter().filter(|e| e["name"] == kernel) {
            assert!(span(run).0 >= begin && span(run).0 <= end, "{name}, {begin} to {end}: {run}");
        }
    }
}

const QUANTIZE: &str = "quantize m.safetensors --images calib --eval val --threshold mse --rounding nearest \
                        -o q.safetensors --profile p.json";

#[test]
fn a_trace_of_the_cpu_covers_every_layer() {
    let bench = Bench::new();
    let report = bench.run(&format!("{QUANTIZE} --json")).ok().json();
    check(&bench, &report);
    // The profile changes no result.
    let plain = "quantize m.safetensors --images calib --threshold mse --rounding nearest -o plain.safetensors --json";
    let plain = bench.run(plain).ok().json();
    assert_eq!(plain.get("profile"), None);
    assert_eq!(
        std::fs::read(bench.path("q.safetensors")).unwrap(),
        std::fs::read(bench.path("plain.safetensors")).unwrap()
    );
}

#[test]
fn a_trace_of_an_adapter_covers_every_layer() {
    let Some(device) = adapter() else { return };
    let bench = Bench::new();
    let run = bench.run(&format!("{QUANTIZE} --json --device {device}"));
    if run.stderr.contains("no timestamp queries") {
        assert_eq!(run.code, 4);
        return;
    }
    check(&bench, &run.ok().json());
}

#[test]
fn every_command_that_runs_a_network_prints_the_tables() {
    let bench = Bench::new();
    let commands = [
        ("demo --limit 8 --eval-limit 8", "conv_i8"),
        ("quantize m.safetensors --images calib -o q.safetensors", "histogram"),
        ("calibrate m.safetensors --images calib -o s.safetensors", "histogram"),
        ("evaluate q.safetensors --images val --baseline m.safetensors", "error_sums"),
    ];
    for (i, (command, kernel)) in commands.iter().enumerate() {
        let run = bench.run(&format!("{command} --profile {i}.json")).ok();
        for part in ["kernel ", "slowest layers", "GOP/s", kernel, "trace written to"] {
            assert!(run.stderr.contains(part), "{command}: no `{part}` in\n{}", run.stderr);
        }
        assert!(!run.stdout.contains("slowest layers"), "{command}");
        assert!(events(&bench, &format!("{i}.json")).iter().any(|e| e["name"] == *kernel), "{command}");
    }
    // An older trace is kept.
    for command in [commands[0].0, commands[3].0, "calibrate m.safetensors --images calib -o other.safetensors"] {
        bench.fails(&format!("{command} --profile 0.json"), 2, &["0.json: already exists", "--profile"]);
    }
    let calibrate = "calibrate m.safetensors --images calib -o s.safetensors --force";
    assert!(bench.run(&format!("{calibrate} --profile 0.json --json")).ok().json()["profile"]["kernels"].is_array());
    bench.fails(&format!("{calibrate} --profile m.safetensors"), 2, &["one of the inputs"]);
    bench.fails(&format!("{calibrate} --profile ./s.safetensors"), 2, &["one file"]);
    bench.fails(&format!("{calibrate} --profile no/such/p.json"), 5, &["--profile"]);
    bench.fails("inspect m.safetensors --profile i.json", 2, &["--profile"]);
}
