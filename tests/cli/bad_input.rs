//! Bad input is normal: one clear message, the right exit code, no panic, nothing half-written.

use super::Bench;
use super::common::checkpoints::{Checkpoint, description_json};

const QUANTIZE: &str = "quantize m.safetensors --images calib -o out.safetensors";

#[test]
fn broken_checkpoints() {
    let bench = Bench::new();
    let good = Checkpoint::repvgg().bytes();
    bench.write("m.safetensors", &good[..good.len() - 7]);
    bench.fails(QUANTIZE, 3, &["m.safetensors"]);
    bench.write("m.safetensors", &good[..4]);
    bench.fails(QUANTIZE, 3, &["m.safetensors"]);
    bench.write("m.safetensors", &[&u64::MAX.to_le_bytes(), &good[8..]].concat());
    bench.fails(QUANTIZE, 3, &["m.safetensors"]);
    bench.write("m.safetensors", b"");
    bench.fails(QUANTIZE, 3, &["m.safetensors"]);
    bench.fails("quantize gone.safetensors --images calib -o out.safetensors", 3, &["gone.safetensors"]);

    let mut missing = Checkpoint::repvgg();
    missing.tensors.remove("stage1.0.rbr_1x1.bn.running_mean");
    bench.write("m.safetensors", &missing.bytes());
    bench.fails(QUANTIZE, 3, &["stage1.0.rbr_1x1.bn.running_mean"]);

    let mut left_over = Checkpoint::repvgg();
    left_over.tensors.insert("stage9.extra".into(), left_over.tensors["linear.bias"].clone());
    bench.write("m.safetensors", &left_over.bytes());
    bench.fails(QUANTIZE, 3, &["stage9.extra"]);

    let mut shape = Checkpoint::repvgg();
    shape.reshape("stage1.0.rbr_dense.bn.bias", &[7]);
    bench.write("m.safetensors", &shape.bytes());
    bench.fails(QUANTIZE, 3, &["stage1.0.rbr_dense.bn.bias", "7"]);

    for value in [f32::NAN, f32::INFINITY] {
        let mut bad = Checkpoint::repvgg();
        bad.set("stage1.1.rbr_dense.conv.weight", 3, value);
        bench.write("m.safetensors", &bad.bytes());
        bench.fails(QUANTIZE, 3, &["stage1.1.rbr_dense.conv.weight"]);
    }
    let mut negative = Checkpoint::repvgg();
    negative.set("stage1.1.rbr_dense.bn.running_var", 1, -0.5);
    bench.write("m.safetensors", &negative.bytes());
    bench.fails(QUANTIZE, 3, &["stage1.1.rbr_dense.bn.running_var", "-0.5"]);
}

#[test]
fn descriptions_that_contradict_the_weights() {
    let bench = Bench::new();
    for (json, part) in [
        (description_json("mobileone", "[1, 2, 1]"), "description says MobileOne"),
        (description_json("repvgg", "[1, 2]"), "strides"),
        (description_json("repvgg", "[1, 2, 1]").replace(r#"["cat", "dog"]"#, r#"["cat"]"#), "classes"),
        (description_json("repvgg", "[1, 2, 1]").replace("bn_eps", "epsilon"), "epsilon"),
        ("{".into(), "m.json"),
    ] {
        bench.write("m.json", json.as_bytes());
        bench.fails(QUANTIZE, 3, &[part]);
    }
    std::fs::remove_file(bench.path("m.json")).unwrap();
    bench.fails(QUANTIZE, 3, &["m.json"]);
    bench.fails(&format!("{QUANTIZE} --arch repvgg-z9"), 2, &["repvgg-z9", "repvgg-a0"]);
}

#[test]
fn bad_images() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("empty")).unwrap();
    bench.fails("quantize m.safetensors --images empty -o out.safetensors", 3, &["empty"]);
    bench.fails("quantize m.safetensors --images gone -o out.safetensors", 3, &["gone"]);
    bench.fails("quantize m.safetensors --images m.json -o out.safetensors", 3, &["m.json"]);

    bench.write("calib/05a.jpg", b"this is a text");
    bench.fails(QUANTIZE, 3, &["05a.jpg"]);
    let skipping = bench.run(&format!("{QUANTIZE} --skip-bad-images --json")).ok();
    assert_eq!(skipping.json()["images"]["skipped"], 1);
    assert_eq!(skipping.json()["images"]["calibration"], 12);
    assert!(skipping.stderr.contains("05a.jpg"));
    std::fs::remove_file(bench.path("calib/05a.jpg")).unwrap();

    // A JPEG cut in the middle.
    let mut jpeg = Vec::new();
    let picture = image::RgbImage::from_fn(40, 40, |x, y| image::Rgb([(x * 6) as u8, (y * 6) as u8, 90]));
    picture.write_to(&mut std::io::Cursor::new(&mut jpeg), image::ImageFormat::Jpeg).unwrap();
    bench.write("calib/05b.jpg", &jpeg[..jpeg.len() / 2]);
    bench.fails(&format!("{QUANTIZE} --force"), 3, &["05b.jpg"]);
    bench.run(&format!("{QUANTIZE} --force --skip-bad-images")).ok();
    std::fs::remove_file(bench.path("calib/05b.jpg")).unwrap();

    // All of them bad.
    bench.write("bad/a.png", b"no");
    bench.fails("calibrate m.safetensors --images bad -o stats.safetensors --skip-bad-images", 3, &["bad"]);
}

#[test]
fn odd_but_good_images() {
    let bench = Bench::new();
    bench.image("odd/one.png", 1, 1, 3);
    bench.image("odd/long.png", 10_000, 10, 4);
    bench.image("odd/tall.png", 10, 10_000, 5);
    let run = bench.run("quantize m.safetensors --images odd -o out.safetensors --json").ok();
    assert_eq!(run.json()["images"]["calibration"], 3);
    bench.image("single/a.png", 9, 9, 3);
    bench.run("quantize m.safetensors --images single -o out1.safetensors").ok();
}

#[test]
fn labels_and_classes() {
    let bench = Bench::new();
    bench.image("val/zebra/1.png", 9, 9, 1);
    let eval = "evaluate m.safetensors --images val";
    bench.fails(eval, 3, &["zebra"]);
    std::fs::remove_dir_all(bench.path("val/zebra")).unwrap();
    bench.write("labels.txt", b"cat/00.png cat\nno/such.png dog\n");
    bench.fails(&format!("{eval} --labels labels.txt"), 3, &["no/such.png"]);
    bench.write("labels.txt", b"cat/00.png cat\ndog/01.png wolf\n");
    bench.fails(&format!("{eval} --labels labels.txt"), 3, &["wolf"]);
    bench.write("labels.txt", b"cat/00.png,dog\ndog/01.png 1\n");
    let run = bench.run(&format!("{eval} --labels labels.txt --json")).ok();
    assert_eq!(run.json()["images"]["evaluation"], 2);
}

/// Without class names the sorted folders are the classes, so there must be one for each output.
#[test]
fn class_folders_without_class_names() {
    let bench = Bench::new();
    let nameless =
        description_json("repvgg", "[1, 2, 1]").replace(",\n            \"classes\": [\"cat\", \"dog\"]", "");
    assert!(!nameless.contains("classes"));
    bench.write("m.json", nameless.as_bytes());
    bench.run("evaluate m.safetensors --images val").ok();
    let eval = ["evaluate m.safetensors --images val", &format!("{QUANTIZE} --eval val")];
    bench.image("val/zebra/1.png", 9, 9, 1);
    for command in eval {
        bench.fails(command, 3, &["val", "3 class folders", "2 outputs"]);
    }
    std::fs::remove_dir_all(bench.path("val/zebra")).unwrap();
    std::fs::remove_dir_all(bench.path("val/dog")).unwrap();
    for command in eval {
        bench.fails(command, 3, &["val", "1 class folders", "2 outputs"]);
    }
}

#[test]
fn statistics_of_another_model() {
    let bench = Bench::new();
    bench.run("calibrate m.safetensors --images calib -o stats.safetensors").ok();
    let mut other = Checkpoint::repvgg();
    other.set("stage1.1.rbr_dense.conv.weight", 3, 0.75);
    bench.model("other", &other);
    bench.fails("quantize other.safetensors --stats stats.safetensors -o out.safetensors", 3, &["stats.safetensors"]);
    bench.run("calibrate other.safetensors --images calib -o stats2.safetensors").ok();
    bench.fails("merge stats.safetensors stats2.safetensors -o sum.safetensors", 3, &["stats2.safetensors"]);
    bench.fails("quantize m.safetensors --stats m.safetensors -o out.safetensors", 3, &["m.safetensors"]);
    // What second-order rounding sums, statistics do not have.
    let command = "quantize m.safetensors --stats stats.safetensors -o out.safetensors --rounding";
    let biases = "quantize m.safetensors --stats stats.safetensors -o out.safetensors --bias-correction";
    bench.fails(biases, 2, &["--bias-correction", "--images"]);
    bench.fails(&format!("{biases} --activation-memory 3X"), 2, &["--activation-memory", "units"]);
    bench.fails(&format!("{command} second-order"), 2, &["--rounding second-order", "--images"]);
    bench.fails(&format!("{command} best"), 2, &["second-order"]);
    bench.run(&format!("{command} nearest")).ok();
}

#[test]
fn wrong_models_for_a_command() {
    let bench = Bench::new();
    bench.run(QUANTIZE).ok();
    bench.fails("fuse out.safetensors -o f.safetensors", 3, &["quantized"]);
    bench.fails("evaluate m.safetensors --images val --baseline m.safetensors", 2, &["--baseline"]);
    let mut other = Checkpoint::repvgg();
    other.set("stage1.1.rbr_dense.conv.weight", 3, 0.75);
    bench.model("other", &other);
    bench.fails("evaluate out.safetensors --images val --baseline other.safetensors", 3, &["other"]);
    bench.fails(&format!("{QUANTIZE} --force --keep-float stage7"), 2, &["stage7", "stage1.0"]);
    bench.fails(&format!("{QUANTIZE} --force --weight-bits 9"), 2, &["--weight-bits"]);
    bench.fails(&format!("{QUANTIZE} --force --threshold magic"), 2, &["magic"]);
    bench.fails(&format!("{QUANTIZE} --force --split auto --max-overhead=-1"), 2, &["--max-overhead"]);
}

#[test]
fn weights_and_activations_that_are_all_zero() {
    let bench = Bench::new();
    let mut dead = Checkpoint::repvgg();
    // Output channel 2 of stage1.0: both branches' weights and the shifts of both norms.
    for (name, per_channel) in [("rbr_dense.conv.weight", 4 * 9), ("rbr_1x1.conv.weight", 4)] {
        for i in 0..per_channel {
            dead.set(&format!("stage1.0.{name}"), 2 * per_channel + i, 0.0);
        }
    }
    bench.model("dead", &dead);
    bench.run("quantize dead.safetensors --images calib --eval val -o dead-int8.safetensors").ok();
    // A whole layer that is always zero: its norms scale by 0 and shift below 0.
    let mut silent = Checkpoint::repvgg();
    for branch in ["rbr_dense.bn", "rbr_1x1.bn"] {
        for c in 0..8 {
            silent.set(&format!("stage2.0.{branch}.weight"), c, 0.0);
            silent.set(&format!("stage2.0.{branch}.bias"), c, -1.0);
        }
    }
    bench.model("silent", &silent);
    for split in ["none", "paper", "aligned", "auto"] {
        for activations in ["symmetric", "affine"] {
            bench
                .run(&format!(
                    "quantize silent.safetensors --images calib --eval val -o silent-int8.safetensors --force --split {split} --activations {activations}"
                ))
                .ok();
        }
    }
}

#[test]
fn devices_that_are_not_there() {
    let bench = Bench::new();
    bench.fails(&format!("{QUANTIZE} --device Voodoo"), 4, &["Voodoo", "repquant devices"]);
    bench.fails(&format!("{QUANTIZE} --device 99"), 4, &["99"]);
    // Statistics alone need no device; one that is named must be there all the same.
    bench.run("calibrate m.safetensors --images calib -o stats.safetensors").ok();
    bench.fails("quantize m.safetensors --stats stats.safetensors -o out.safetensors --device Voodoo", 4, &["Voodoo"]);
    // No driver at all: the loader is pointed at a file that is not there.
    let run = |words: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_repquant"));
        command.current_dir(bench.folder.path()).args(words.split_whitespace());
        command.env("VK_DRIVER_FILES", "/nonexistent.json").env("VK_ICD_FILENAMES", "/nonexistent.json");
        command.output().unwrap()
    };
    if cfg!(target_os = "linux") {
        let auto = run(&format!("{QUANTIZE} --device auto"));
        assert!(auto.status.success(), "{}", String::from_utf8_lossy(&auto.stderr));
        assert!(String::from_utf8_lossy(&auto.stderr).contains("no GPU adapter was found"));
        let software = run(&format!("{QUANTIZE} --force --device software"));
        assert_eq!(software.status.code(), Some(4), "{}", String::from_utf8_lossy(&software.stderr));
    }
}
