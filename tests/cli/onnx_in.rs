//! ONNX files in place of checkpoints, a detector among them.

use std::fs;
use std::path::Path;

use super::Bench;

/// A bench with the small networks of `tests/data/onnx`.
fn bench() -> Bench {
    let bench = Bench::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx");
    for name in ["yolov6.onnx", "branches.onnx", "resnet18.onnx"] {
        bench.write(name, &fs::read(folder.join(name)).unwrap());
    }
    bench
}

#[test]
fn a_detector_is_compared_output_by_output_on_images_without_labels() {
    let bench = bench();
    let quantize = "quantize yolov6.onnx --images calib --eval calib --threshold mse --rounding nearest -o y.safetensors --force --device cpu";
    let json = bench.run(&format!("{quantize} --json")).ok().json();
    for row in json["results"].as_array().unwrap() {
        assert!(row["top1"].is_null() && row["agreement"].is_null() && row["logit_sqnr_db"].is_null(), "{row}");
    }
    assert!(json["results"][0].get("outputs").is_none());
    let outputs = json["results"][2]["outputs"].as_array().unwrap();
    assert_eq!(outputs.iter().map(|o| o["name"].as_str().unwrap()).collect::<Vec<_>>(), ["scores", "boxes"]);
    for output in outputs {
        assert!(output["sqnr_db"].as_f64().unwrap() > 10.0 && output["cosine"].as_f64().unwrap() > 0.95, "{output}");
        let (difference, largest) =
            (output["largest_difference"].as_f64().unwrap(), output["largest"].as_f64().unwrap());
        assert!(0.0 < difference && difference < largest, "{output}");
    }
    let text = bench.run(quantize).ok().stdout;
    assert!(text.contains("largest difference") && text.contains("scores") && text.contains("boxes"), "{text}");

    // From statistics the same file, and the same figures from it.
    bench.run("calibrate yolov6.onnx --images calib -o stats.safetensors --device cpu").ok();
    bench.run("quantize yolov6.onnx --stats stats.safetensors -o again.safetensors").ok();
    assert_eq!(fs::read(bench.path("y.safetensors")).unwrap(), fs::read(bench.path("again.safetensors")).unwrap());
    let evaluate = "evaluate y.safetensors --baseline yolov6.onnx --images calib --json --device cpu";
    assert_eq!(bench.run(evaluate).ok().json()["results"][0]["outputs"], json["results"][2]["outputs"]);
    bench.fails("evaluate y.safetensors --images calib --labels l.csv", 2, &["--labels", "no classifier"]);
}

#[test]
fn inspect_shows_what_was_merged_and_what_was_not() {
    let bench = bench();
    let text = bench.run("inspect branches.onnx").ok().stdout;
    assert!(text.contains("3×3 + 3×1 + 1×3") && text.contains("crop then crop then 1×1"), "{text}");
    let json = bench.run("inspect resnet18.onnx --json").ok().json();
    let notes = json["notes"].as_array().unwrap();
    let kept = notes.iter().filter(|note| note["kind"] == "not merged").collect::<Vec<_>>();
    assert_eq!(kept.len(), 8);
    assert!(kept[0]["text"].as_str().unwrap().contains("different activations"), "{}", kept[0]);
    let json = bench.run("inspect yolov6.onnx --json").ok().json();
    assert!(json["classes"].is_null());
    assert_eq!(json["outputs"], serde_json::json!(["scores 84×5", "boxes 84×4"]));
}

#[test]
fn every_form_is_written_from_an_onnx_file() {
    let bench = bench();
    bench.run("fuse yolov6.onnx -o float.onnx").ok();
    bench.run("quantize float.onnx --images calib -o q.onnx --format integer").ok();
    bench.run("quantize yolov6.onnx --images calib -o q.safetensors").ok();
    bench.run("export q.safetensors -o qdq.onnx").ok();
    bench.fails("fuse yolov6.onnx -o f.safetensors", 3, &["chain"]);
    bench.fails("quantize q.onnx --images calib -o again.safetensors", 3, &["q.onnx"]);
}

#[test]
fn broken_files_have_one_clear_message() {
    let bench = bench();
    let whole = fs::read(bench.path("resnet18.onnx")).unwrap();
    bench.write("cut.onnx", &whole[..whole.len() / 2]);
    bench.write("text.onnx", b"not a network");
    bench.write("empty.onnx", b"");
    for name in ["cut.onnx", "text.onnx", "empty.onnx", "gone.onnx"] {
        bench.fails(&format!("inspect {name}"), 3, &[name]);
        bench.fails(&format!("quantize {name} --images calib -o o.safetensors"), 3, &[name]);
        assert!(!bench.path("o.safetensors").exists());
    }
}
