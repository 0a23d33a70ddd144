//! The report as people and programs read it: its tables and its JSON, letter by letter.

use std::time::Duration;

use repquant::report::{DeviceInfo, DeviceKind};
use repquant::report::{
    Images, LayerRow, OutputRow, Pace, PartRow, Report, ResultRow, SecondDevice, Seconds, Throughput, layer_table,
    output_table, result_table, throughput_lines,
};

fn row(name: &str, bits: (u8, u8), top1: Option<f64>, sqnr: Option<f64>, overhead: Option<f64>) -> ResultRow {
    ResultRow {
        name: name.into(),
        weight_bits: bits.0,
        activation_bits: bits.1,
        top1,
        top5: top1.map(|_| 0.99),
        one_more: None,
        agreement: top1.map(|t| t + 0.125),
        logit_sqnr_db: sqnr,
        logit_cosine: sqnr.map(|_| 0.75),
        outputs: Vec::new(),
        weight_bytes: 999 * u64::from(bits.0).pow(2),
        macs: 12_340_000,
        overhead,
    }
}

fn layer(name: &str, split: &str, known: bool) -> LayerRow {
    LayerRow {
        name: name.into(),
        split: split.into(),
        shift_max: 5,
        threshold: known.then_some(6.25),
        scale: known.then_some(0.03125),
        zero_point: known.then_some(-128),
        sqnr_db: known.then_some(31.625),
        cosine: known.then_some(0.999_511_718_75),
        notes: if known { vec!["kept whole: the split gains nothing".into()] } else { Vec::new() },
        weight_bits: known.then_some(8),
        is_float: false,
    }
}

fn device(name: &str, kind: DeviceKind) -> DeviceInfo {
    DeviceInfo { name: name.into(), backend: "vulkan".into(), kind, reason: "not in the document".into() }
}

fn report() -> Report {
    Report {
        model: "small".into(),
        device: device("Big GPU", DeviceKind::Gpu),
        images: Images { calibration: 512, evaluation: 2000, skipped: 1 },
        results: vec![
            row("float32", (32, 32), Some(0.8645), None, None),
            row("unsplit", (8, 8), Some(0.5), Some(3.5), Some(0.0)),
            row("quantized-w4", (4, 8), None, Some(-1.625), Some(0.125)),
        ],
        layers: vec![
            layer("stage0", "none", true),
            layer("stage1.0", "aligned/center", true),
            layer("linear", "", false),
        ],
        seconds: Seconds { load: 0.25, calibrate: 1.5, threshold: 0.0, quantize: 2.0, evaluate: 4.0, total: 8.0 },
        throughput: Throughput {
            calibrate: Some(Pace { decoding_waited: Some(0.75), ..Pace::new(512, 1.6, Duration::from_millis(250)) }),
            evaluate: None,
        },
        second_device: Some(SecondDevice { device: device("llvmpipe", DeviceKind::Cpu), images: 64, identical: true }),
        profile: None,
        peak_memory_bytes: None,
    }
}

#[test]
fn results_as_a_table() {
    let expected = "\
\x20              bits    top-1    top-5  agreement  logit SQNR  weights   multiplications
float32       float  86.45 %  99.00 %    98.95 %           -  1.02 MB            12.3 M
unsplit        W8A8  50.00 %  99.00 %    62.50 %      3.5 dB  63.9 kB            12.3 M
quantized-w4   W4A8        -        -          -     -1.6 dB  16.0 kB  12.3 M (+12.5 %)
";
    assert_eq!(result_table(&report()), expected);
}

#[test]
fn outputs_as_a_table() {
    assert_eq!(output_table(&report()), "");
    let mut detector = report();
    for row in &mut detector.results[1..] {
        (row.agreement, row.logit_sqnr_db) = (None, None);
        row.outputs = vec![OutputRow {
            name: "boxes".into(),
            sqnr_db: Some(23.25),
            cosine: None,
            largest_difference: 0.5,
            largest: 25.069,
            worst: vec![],
        }];
    }
    let expected = "\
\x20             output     SQNR  cosine  largest difference  largest value
unsplit        boxes  23.2 dB       -              0.5000        25.0690
quantized-w4   boxes  23.2 dB       -              0.5000        25.0690
";
    assert_eq!(output_table(&detector), expected);
    // Boxes and scores in one tensor.
    let part = |entry, sqnr_db| PartRow { axis: 1, entry, sqnr_db };
    detector.results[1].outputs[0].worst = vec![part(7, 5.75), part(4, 12.0)];
    let expected = "\
\x20             output     SQNR            worst part  cosine  largest difference  largest value
unsplit        boxes  23.2 dB  5.8 dB (7 of axis 1)       -              0.5000        25.0690
quantized-w4   boxes  23.2 dB                     -       -              0.5000        25.0690
unsplit: the worst of boxes along axis 1: 7 (5.8 dB), 4 (12.0 dB)
";
    assert_eq!(output_table(&detector), expected);
}

#[test]
fn layers_as_a_table() {
    let expected = "\
layer              split  shift  threshold     scale  zero point     SQNR   cosine
stage0              none      -     6.2500  3.125e-2        -128  31.6 dB  0.99951
stage1.0  aligned/center      5     6.2500  3.125e-2        -128  31.6 dB  0.99951
linear                        -          -         -           -        -        -
";
    assert_eq!(layer_table(&report()), expected);
}

#[test]
fn throughput_as_lines() {
    let mut throughput = report().throughput;
    throughput.evaluate = Some(Pace::new(9, 0.0, Duration::ZERO));
    let expected = "\
calibration: 320 images/s, waited 0.2 s for images, decoding waited 0.8 s for the device
evaluation: 0 images/s, waited 0.0 s for images
";
    assert_eq!(throughput_lines(&throughput), expected);
}

/// Programs read these names: a change here breaks them.
#[test]
fn the_json_document() {
    let mut report = report();
    report.results.remove(0);
    report.results.remove(0);
    report.layers.remove(0);
    report.layers.remove(1);
    let expected = r#"{
  "model": "small",
  "device": {
    "name": "Big GPU",
    "backend": "vulkan",
    "type": "gpu"
  },
  "images": {
    "calibration": 512,
    "evaluation": 2000,
    "skipped": 1
  },
  "results": [
    {
      "name": "quantized-w4",
      "weight_bits": 4,
      "activation_bits": 8,
      "top1": null,
      "top5": null,
      "agreement": null,
      "logit_sqnr_db": -1.625,
      "logit_cosine": 0.75,
      "weight_bytes": 15984,
      "macs": 12340000,
      "overhead": 0.125
    }
  ],
  "layers": [
    {
      "name": "stage1.0",
      "split": "aligned/center",
      "shift_max": 5,
      "threshold": 6.25,
      "scale": 0.03125,
      "zero_point": -128,
      "sqnr_db": 31.625,
      "cosine": 0.99951171875,
      "notes": [
        "kept whole: the split gains nothing"
      ]
    }
  ],
  "seconds": {
    "load": 0.25,
    "calibrate": 1.5,
    "threshold": 0.0,
    "quantize": 2.0,
    "evaluate": 4.0,
    "total": 8.0
  },
  "throughput": {
    "calibrate": {
      "images_per_second": 320.0,
      "waiting_for_images": 0.25,
      "decoding_waited": 0.75
    }
  },
  "second_device": {
    "device": {
      "name": "llvmpipe",
      "backend": "vulkan",
      "type": "cpu"
    },
    "images": 64,
    "identical": true
  },
  "peak_memory_bytes": null
}"#;
    assert_eq!(serde_json::to_string_pretty(&report).unwrap(), expected);
}

/// Fields that are left out where there is nothing to say, and those that are null.
#[test]
fn absent_fields() {
    let mut report = report();
    report.second_device = None;
    let document = serde_json::to_value(&report).unwrap();
    assert!(document.get("second_device").is_none());
    assert!(document["results"][0].get("overhead").is_none());
    assert_eq!(document["results"][0]["top5"], 0.99);
    for field in ["top1", "top5", "agreement"] {
        assert!(document["results"][2][field].is_null(), "{field}");
    }
    for field in ["threshold", "scale", "zero_point", "sqnr_db", "cosine"] {
        assert!(document["layers"][2][field].is_null(), "{field}");
    }
    assert!(document["peak_memory_bytes"].is_null());
}
