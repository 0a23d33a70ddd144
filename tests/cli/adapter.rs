//! The same commands on an adapter and on the Cpu device.

use serde_json::Value;

use super::Bench;
use super::common::adapter;
use super::overflow::{infinite_activation, infinite_logits};

/// Figures that may differ by the rounding of float sums: one image of 12, half a decibel.
#[track_caller]
fn assert_close(case: &str, gpu: &Value, cpu: &Value) {
    let rows = |report: &Value| report["results"].as_array().unwrap().clone();
    assert_eq!(rows(gpu).len(), 3, "{case}");
    for (gpu, cpu) in rows(gpu).iter().zip(&rows(cpu)) {
        let place = format!("{case}, {}:\n{gpu}\n{cpu}", cpu["name"]);
        for field in ["name", "weight_bits", "activation_bits", "weight_bytes", "macs", "overhead"] {
            assert_eq!(gpu[field], cpu[field], "{field}: {place}");
        }
        let difference = |field: &str| (gpu[field].as_f64().unwrap() - cpu[field].as_f64().unwrap()).abs();
        for field in ["top1", "agreement"] {
            assert!(difference(field) <= 1.0 / 12.0 + 1e-9, "{field}: {place}");
        }
        if cpu["name"] == "float32" {
            assert_eq!(gpu["logit_sqnr_db"], cpu["logit_sqnr_db"], "{place}");
        } else {
            assert!(difference("logit_sqnr_db") <= 0.5, "logit_sqnr_db: {place}");
        }
    }
}

#[test]
fn quantize_gives_the_figures_of_the_cpu() {
    let Some(device) = adapter() else { return };
    let bench = Bench::new();
    for keep in ["", "--keep-float stage1.0"] {
        let report = |device: &str| {
            let words = format!(
                "quantize m.safetensors --images calib --eval val {keep} --threshold mse --rounding nearest --json --device {device} -o out.safetensors --force"
            );
            bench.run(&words).ok().json()
        };
        let (gpu, cpu) = (report(&device), report("cpu"));
        assert_ne!(gpu["device"]["backend"], "native");
        assert_eq!(cpu["device"]["backend"], "native");
        assert_close(keep, &gpu, &cpu);
        let layers = |report: &Value| report["layers"].as_array().unwrap().clone();
        assert_eq!(layers(&gpu).len(), layers(&cpu).len());
        for (gpu, cpu) in layers(&gpu).iter().zip(&layers(&cpu)) {
            for field in ["name", "split"] {
                assert_eq!(gpu[field], cpu[field], "{keep} {field}: {gpu}");
            }
            assert_eq!(gpu["sqnr_db"].is_number(), cpu["sqnr_db"].is_number(), "{keep}:\n{gpu}\n{cpu}");
        }
    }
}

#[test]
fn statistics_from_an_adapter_serve_the_cpu() {
    let Some(device) = adapter() else { return };
    let bench = Bench::new();
    let calibrate = |device: &str, out: &str| {
        let words = format!("calibrate m.safetensors --images calib -o {out} --json --device {device}");
        bench.run(&words).ok().json()
    };
    let (gpu, cpu) = (calibrate(&device, "gpu.safetensors"), calibrate("cpu", "cpu.safetensors"));
    for report in [&gpu, &cpu] {
        assert_eq!((&report["images"], &report["skipped"]), (&12.into(), &0.into()));
    }
    for (gpu, cpu) in gpu["activations"].as_array().unwrap().iter().zip(cpu["activations"].as_array().unwrap()) {
        assert_eq!(gpu["name"], cpu["name"]);
        // Float sums on another device round otherwise; the input is rounded the same everywhere.
        let bound = if cpu["name"] == "input" { 0.0 } else { 1e-5 };
        for field in ["min", "max"] {
            let (gpu, cpu) = (gpu[field].as_f64().unwrap(), cpu[field].as_f64().unwrap());
            assert!((gpu - cpu).abs() <= bound * cpu.abs(), "{field}: {gpu} and {cpu}");
        }
    }
    let quantize = |stats: &str| {
        let words =
            format!("quantize m.safetensors --stats {stats} --eval val --json --device cpu -o out.safetensors --force");
        bench.run(&words).ok().json()
    };
    assert_close("statistics", &quantize("gpu.safetensors"), &quantize("cpu.safetensors"));
}

/// With small batches one is on its way while the one before is read back.
#[test]
fn batches_in_flight_change_no_figure() {
    let Some(device) = adapter() else { return };
    let bench = Bench::new();
    bench.run("quantize m.safetensors --images calib -o q.safetensors").ok();
    let evaluate = |batch: usize| {
        let words = "evaluate q.safetensors --images val --baseline m.safetensors --json";
        bench.run(&format!("{words} --device {device} --batch-size {batch}")).ok().json()
    };
    let whole = evaluate(12);
    for batch in [1, 5] {
        let report = evaluate(batch);
        let (row, expected) = (&report["results"][0], &whole["results"][0]);
        for field in ["top1", "top5", "agreement"] {
            assert_eq!(row[field], expected[field], "{field}, batches of {batch}");
        }
        let close = |a: &Value, b: &Value| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-3,
            (a, b) => a == b,
        };
        assert!(close(&row["logit_sqnr_db"], &expected["logit_sqnr_db"]), "batches of {batch}: {row} {expected}");
        let layers = |report: &Value| report["layers"].as_array().unwrap().clone();
        for (layer, expected) in layers(&report).iter().zip(&layers(&whole)) {
            assert!(close(&layer["sqnr_db"], &expected["sqnr_db"]), "batches of {batch}: {layer} {expected}");
        }
    }
}

/// What went wrong first is told, though the next batch was asked for before it was known.
#[test]
fn an_earlier_batch_fails_before_a_later_one() {
    let Some(device) = adapter() else { return };
    let bench = Bench::new();
    bench.model("huge", &infinite_logits());
    bench.write("val/cat/02.png", b"this is a text");
    let evaluate = format!("evaluate huge.safetensors --images val --batch-size 1 --device {device}");
    bench.fails(&evaluate, 3, &["val/cat/00.png: float32: a logit is NaN"]);
    bench.model("huge", &infinite_activation());
    bench.write("calib/01.png", b"this is a text");
    let calibrate =
        format!("calibrate huge.safetensors --images calib -o s.safetensors --batch-size 1 --device {device}");
    bench.fails(&calibrate, 3, &["calib/00.png: layer stage2.0: an activation is NaN"]);
}
