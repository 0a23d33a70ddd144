//! `analyze`, and what is chosen for single layers.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Bench;

const ANALYZE: &str = "analyze m.safetensors --images calib --weight-bits 4 --first-last-bits 8 --rounding nearest \
                       --threshold kl-reparam --activations symmetric --split aligned";

fn rows(document: &Value) -> &Vec<Value> {
    document["layers"].as_array().unwrap()
}

fn names(document: &Value) -> Vec<&str> {
    rows(document).iter().map(|row| row["name"].as_str().unwrap()).collect()
}

#[test]
fn the_worst_layer_comes_first_with_what_helps_it() {
    let bench = Bench::new();
    let json = bench.run(&format!("{ANALYZE} --json")).ok().json();
    assert_eq!((&json["weight_bits"], &json["activation_bits"]), (&4.into(), &8.into()));
    assert_eq!((&json["images"]["calibration"], &json["images"]["evaluation"]), (&12.into(), &12.into()));
    let whole = json["quantized"]["least_db"].as_f64().unwrap();
    let least: Vec<f64> = rows(&json).iter().map(|row| row["both"]["least_db"].as_f64().unwrap()).collect();
    assert!(least.is_sorted() && whole < least[0] + 6.0, "{whole} {least:?}");
    for row in rows(&json) {
        assert!(row["both"]["agreement"].as_f64().unwrap() <= 1.0 && row["activation"]["least_db"].is_f64(), "{row}");
        assert_eq!(row["both"]["outputs"].as_array().unwrap().len(), 1);
        assert_eq!(row["weights"].is_null(), row["weight_bits"].is_null(), "{row}");
    }
    // The flags are flags: what the best one says is left is left.
    let worst = &rows(&json)[0];
    let name = worst["name"].as_str().unwrap();
    let cure = &worst["cures"][0];
    let flag = cure["flag"].as_str().unwrap();
    assert!(flag.starts_with("--layer ") || flag.starts_with("--keep-float "), "{cure}");
    let again = bench.run(&format!("{ANALYZE} {flag} --json")).ok().json();
    let row = rows(&again).iter().find(|row| row["name"] == name);
    let found = row.and_then(|row| row["both"]["least_db"].as_f64());
    assert_eq!(found, cure["least_db"].as_f64(), "{flag}");
    let bytes = |json: &Value| json["weight_bytes"].as_i64().unwrap();
    assert_eq!(bytes(&again) - bytes(&json), cure["bytes"].as_i64().unwrap(), "{flag}");

    let text = bench.run(ANALYZE).ok().stdout;
    let line = text.lines().find(|line| line.starts_with("layer ")).unwrap();
    assert!(line.contains("weights  ") && line.contains("share") && line.contains("what helps"), "{text}");
    assert!(text.contains(name) && text.contains(flag), "{text}");
    assert!(text.starts_with("small W4A8: ") || text.contains(" W4A8: "), "{text}");
    let all = bench.run(&format!("{ANALYZE} -v")).ok().stdout;
    assert!(all.contains("All that helps:"), "{all}");
    assert!(fs::read_dir(bench.path("")).unwrap().count() == 4, "it writes nothing");
}

#[test]
fn the_options_of_quantize_mean_the_same() {
    let bench = Bench::new();
    bench.run("calibrate m.safetensors --images calib -o s.safetensors").ok();
    let of = |words: &str| {
        let mut json = bench.run(&format!("analyze m.safetensors --images calib {words} --json")).ok().json();
        for time in ["seconds", "layer_seconds", "evaluations", "peak_memory_bytes"] {
            json[time] = Value::Null;
        }
        json
    };
    assert_eq!(of("--stats s.safetensors"), of(""));
    assert_eq!(of("--batch-size 5"), of(""));
    for words in [
        "--split paper --granularity tensor",
        "--split auto --max-overhead 0.3",
        "--threshold mse --activations affine --activation-bits 5",
        "--rounding second-order --weight-bits 3",
        "--layer stage1.0=3",
    ] {
        let other = of(words);
        assert!(other["layers"] != of("")["layers"], "{words}");
        bench.run(&format!("quantize m.safetensors --images calib {words} -o q.safetensors --force")).ok();
        let measured = bench.run("evaluate q.safetensors --baseline m.safetensors --images calib --json").ok().json();
        let (found, expected) =
            (&other["quantized"]["outputs"][0]["sqnr_db"], &measured["results"][0]["logit_sqnr_db"]);
        assert_eq!(found, expected, "{words}");
    }
    let kept = of("--keep-float stage1.*");
    assert!(names(&kept).iter().all(|name| !name.starts_with("stage1")), "{kept}");
    assert_eq!(of("--eval-limit 3")["images"]["evaluation"], 3);
}

/// Two outputs, boxes among them; an ONNX file.
#[test]
fn outputs_of_a_detector_are_told_apart() {
    let bench = Bench::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/yolov6.onnx");
    bench.write("yolov6.onnx", &fs::read(file).unwrap());
    let json = bench.run("analyze yolov6.onnx --images calib --json").ok().json();
    for row in rows(&json) {
        assert!(row["both"]["agreement"].is_null());
        let outputs = row["both"]["outputs"].as_array().unwrap();
        assert_eq!(outputs.iter().map(|o| o["name"].as_str().unwrap()).collect::<Vec<_>>(), ["scores", "boxes"]);
        let least = outputs.iter().filter_map(|o| o["least_db"].as_f64()).fold(f64::INFINITY, f64::min);
        assert_eq!(row["both"]["least_db"].as_f64().unwrap(), least, "{row}");
        for output in outputs.iter().filter(|o| o["mean_db"].is_f64()) {
            assert!(output["least_db"].as_f64() <= output["mean_db"].as_f64(), "{output}");
        }
    }
    // The head of one output does not touch the other.
    assert!(rows(&json).iter().any(|row| row["both"]["outputs"][0]["sqnr_db"].is_null()));
    let text = bench.run("analyze yolov6.onnx --images calib").ok().stdout;
    assert!(text.contains(" mean ") && !text.contains("agreement"), "{text}");
}

#[test]
fn what_is_wrong_is_said() {
    let bench = Bench::new();
    bench.fails("analyze m.safetensors", 2, &["--images"]);
    bench.fails("analyze gone.safetensors --images calib", 3, &["gone.safetensors"]);
    bench.fails("analyze m.safetensors --images calib --keep-float no", 2, &["--keep-float no", "stage1.0"]);
    bench.fails("analyze m.safetensors --images calib --weight-bits 9", 2, &["9"]);
    let others = "--mean 0.1,0.2,0.3 --std 0.5,0.5,0.5";
    bench.run(&format!("calibrate m.safetensors --images calib {others} -o other.safetensors")).ok();
    bench.fails("analyze m.safetensors --images calib --stats other.safetensors", 3, &["other.safetensors"]);
    bench.run("quantize m.safetensors --images calib -o q.safetensors").ok();
    bench.fails("analyze q.safetensors --images calib", 3, &["q.safetensors"]);
}

#[test]
fn layers_are_chosen_for_by_flags_and_files() {
    let bench = Bench::new();
    bench.write("layers.json", br#"{"*": "3", "stage0": "8,full", "linear": "float"}"#);
    let quantize = "quantize m.safetensors --images calib --force";
    bench.run(&format!("{quantize} -o a.safetensors --layers layers.json --layer stage1.0=6,whole")).ok();
    bench.run(&format!("{quantize} -o b.safetensors --layer *=3 --layer stage0=8,full --layer linear=float --layer stage1.0=6,whole")).ok();
    let bytes = |name: &str| fs::read(bench.path(name)).unwrap();
    assert!(bytes("a.safetensors") == bytes("b.safetensors"));
    let text = bench.run("inspect a.safetensors").ok().stdout;
    let line =
        |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(line("stage0")[1..3], ["8", "aligned/full"]);
    assert_eq!(line("stage1.0")[1..3], ["6", "none"]);
    assert_eq!(line("stage1.1")[1], "3");
    assert_eq!(line("linear")[1], "float");
    let options = bench.run("inspect a.safetensors --json").ok().json()["options"]["layers"].clone();
    assert_eq!(options[0], serde_json::json!(["*", "3"]));

    for (words, code, parts) in [
        ("--layer stage9=4", 2, &["--layer stage9", "has no such layer", "stage1.0"][..]),
        ("--layer stage1.0=9", 2, &["9 is not a width"]),
        ("--layer stage1.0=wide", 2, &["\"wide\" cannot be chosen", "center, diagonal, full"]),
        ("--layer stage1.0", 2, &["LAYER=CHOICE"]),
        ("--layer pool=4", 2, &["--layer pool=4", "no weights", "linear"]),
        ("--layers gone.json", 3, &["gone.json"]),
        ("--layers bad.json", 3, &["bad.json", "no choices for layers"]),
        ("--layers typo.json", 2, &["stge0", "has no such layer"]),
    ] {
        bench.write("bad.json", b"[1]");
        bench.write("typo.json", br#"{"stge0": "8"}"#);
        bench.fails(&format!("{quantize} -o c.safetensors {words}"), code, parts);
    }
    bench.fails(
        "quantize m.safetensors --images calib --layers layers.json --force -o layers.json",
        2,
        &["layers.json"],
    );
}
