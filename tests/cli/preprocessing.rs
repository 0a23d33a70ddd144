//! Flags that take the place of a description's preprocessing.

use repquant::internals::export::safetensors::read;
use repquant::internals::load::{LoadOptions, load};
use repquant::internals::model::{Color, Fit, Interpolation};

use super::Bench;

#[test]
fn each_flag_takes_the_place_of_one_field() {
    let bench = Bench::new();
    bench.run("fuse m.safetensors -o as-described.safetensors").ok();
    let of = |name: &str| load(&bench.path(name), &LoadOptions::default()).unwrap().input;
    let described = of("as-described.safetensors");
    assert_eq!((described.size, described.resize), ([8, 8], Some(10)));
    let flags =
        "--input-size 6x9 --resize 12 --crop center --interpolation bicubic --mean 0.1,-0.2,0.3 --std 1,0.5,0.2";
    bench.run(&format!("fuse m.safetensors -o all.safetensors {flags}")).ok();
    let all = of("all.safetensors");
    assert_eq!((all.size, all.resize, all.interpolation), ([6, 9], Some(12), Interpolation::Bicubic));
    assert_eq!((all.mean, all.std), (vec![0.1, -0.2, 0.3], vec![1.0, 0.5, 0.2]));
    bench.run("fuse m.safetensors -o one.safetensors --resize none").ok();
    let one = of("one.safetensors");
    assert_eq!((one.size, one.resize, one.mean, one.std), ([8, 8], None, described.mean, described.std.clone()));

    bench.run("fuse m.safetensors -o box.safetensors --fit letterbox --color bgr").ok();
    let boxed = of("box.safetensors");
    assert_eq!((boxed.fit, boxed.resize, boxed.color), (Fit::Letterbox(114), None, Color::Bgr));

    // A quantized model keeps what it was calibrated with.
    bench.run("quantize m.safetensors --images calib --threshold mse --rounding nearest -o q.safetensors --mean 0.5,0.5,0.5 --device cpu").ok();
    let quantized = read(&bench.path("q.safetensors")).unwrap().input;
    assert_eq!((quantized.mean, quantized.std, quantized.size), (vec![0.5; 3], described.std, [8, 8]));
    bench.run("calibrate m.safetensors --images calib -o s.safetensors --mean 0.5 --device cpu").ok();
    bench.run("quantize m.safetensors --stats s.safetensors -o same.safetensors --mean 0.5,0.5,0.5").ok();
    assert_eq!(
        std::fs::read(bench.path("q.safetensors")).unwrap(),
        std::fs::read(bench.path("same.safetensors")).unwrap()
    );
    for (command, flag) in [
        ("evaluate q.safetensors --images val --mean 0,0,0", "--mean"),
        ("evaluate q.safetensors --images val --input-size 8x8", "--input-size"),
        ("inspect q.safetensors --resize none", "--resize"),
        ("inspect q.safetensors --crop center", "--crop"),
        ("inspect q.safetensors --color bgr", "--color"),
        ("inspect q.safetensors --preprocess yolo", "--preprocess"),
    ] {
        bench.fails(command, 2, &[flag, "a part of a quantized model"]);
    }
}

#[test]
fn what_makes_no_sense_is_wrong_use() {
    let bench = Bench::new();
    for (flags, words) in [
        ("--input-size 8", ["--input-size", "224x224"]),
        ("--input-size 0x8", ["--input-size", "from 1 to"]),
        ("--input-size 16x8", ["resized to 10", "--resize"]),
        ("--resize 7", ["resized to 7", "from 8 to"]),
        ("--resize half", ["--resize", "or none"]),
        ("--crop top", ["--crop", "center"]),
        ("--interpolation nearest", ["--interpolation", "bilinear or bicubic"]),
        ("--mean 0.5,0.5", ["--mean: 2 numbers", "3 channels"]),
        ("--mean 0.5,0.5,nan", ["--mean", "expected numbers"]),
        ("--fit pad", ["--fit", "letterbox:FILL"]),
        ("--fit letterbox --resize 10", ["--resize and --fit letterbox:114", "contradict"]),
        ("--fit stretch --crop center", ["--crop and --fit stretch", "contradict"]),
        ("--color gray", ["--color gray", "3 channels"]),
        ("--color cmyk", ["--color", "rgb, bgr or gray"]),
        ("--mean 0.5,,0.5", ["--mean", "expected numbers"]),
        ("--std 1,1,0", ["--std", "positive"]),
        ("--mean 123.675,116.28,103.53", ["on 0 to 1", "--mean 0.4850,0.4560,0.4060 and --std 0.0039"]),
    ] {
        bench.fails(&format!("inspect m.safetensors {flags}"), 2, &words);
    }
    let onnx = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/resnet18.onnx");
    bench.write("resnet18.onnx", &std::fs::read(onnx).unwrap());
    bench.fails("inspect resnet18.onnx --input-size 13x17", 2, &["--input-size", "[13, 17]", "the network has"]);
}

#[test]
fn presets_stand_for_several_flags() {
    let bench = Bench::new();
    let of = |flags: &str| {
        bench.run(&format!("fuse m.safetensors -o f.safetensors --force {flags}")).ok();
        load(&bench.path("f.safetensors"), &LoadOptions::default()).unwrap().input
    };
    assert_eq!(of("--preprocess yolo"), of("--mean 0 --std 1 --fit letterbox:114 --color rgb"));
    assert_eq!(of("--preprocess none"), of("--mean 0 --std 0.00392156862745098 --fit stretch"));
    let imagenet = "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --fit crop --color rgb --resize";
    assert_eq!(of("--preprocess imagenet"), of(&format!("{imagenet} 9")));
    assert_eq!(of("--preprocess imagenet --resize 12"), of(&format!("{imagenet} 12")));
    assert_eq!(of("--preprocess none --fit letterbox --color bgr").fit, Fit::Letterbox(114));
    for (flags, words) in [
        ("--preprocess caffe", ["--preprocess", "imagenet, yolo or none"]),
        ("--preprocess imagenet --mean 0.5", ["--preprocess imagenet and --mean", "contradict"]),
        ("--preprocess yolo --std 0.229", ["--preprocess yolo and --std", "contradict"]),
        ("--preprocess yolo --fit stretch", ["--preprocess yolo and --fit", "--fit letterbox:114"]),
        ("--preprocess yolo --color bgr", ["--preprocess yolo and --color", "contradict"]),
    ] {
        bench.fails(&format!("inspect m.safetensors {flags}"), 2, &words);
    }
    // What is asked for is not assumed.
    let onnx = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/resnet18.onnx");
    bench.write("r.onnx", &std::fs::read(onnx).unwrap());
    for preset in ["imagenet", "yolo", "none"] {
        let run = bench.run(&format!("fuse r.onnx -o f.onnx --force --preprocess {preset}")).ok();
        assert!(!run.stderr.contains("assumed"), "{}", run.stderr);
    }
    let run = bench.run("fuse r.onnx -o f.onnx --force").ok();
    assert!(run.stderr.contains("as for ImageNet") && run.stderr.contains("--preprocess yolo"), "{}", run.stderr);
}

/// What a description lacks is all named, and what is known otherwise need not be in it.
#[test]
fn a_description_may_be_a_part() {
    let bench = Bench::new();
    let whole = std::fs::read_to_string(bench.path("m.json")).unwrap();
    for (json, words) in [
        (r#"{"classes": ["cat", "dog"]}"#.to_owned(), [r#""family", "strides", "input.size""#, "--arch NAME"]),
        (whole.replace("[8, 8]", "[3, 8, 8]"), ["m.json", "write [8, 8]"]),
        (
            r#"{"family": "repvgg", "strides": [1], "input": {"mean": [127.5]}}"#.into(),
            ["m.json", "\"mean\": [0.5000]"],
        ),
    ] {
        bench.write("m.json", json.as_bytes());
        bench.fails("inspect m.safetensors", 3, &words);
    }
    // Flags say the rest.
    bench.write("m.json", br#"{"family": "repvgg", "strides": [1, 2, 1]}"#);
    bench.fails("inspect m.safetensors", 3, &[r#"lacks "input.size", "input.mean", "input.std""#, "--preprocess"]);
    bench.run("fuse m.safetensors -o f.safetensors --input-size 8x8 --preprocess none").ok();
    // Beside a file that describes itself, and an ONNX file.
    bench.write("f.json", br#"{"input": {"mean": [0.25, 0.25, 0.25]}, "classes": ["cat", "dog"]}"#);
    bench.run("fuse f.safetensors -o g.safetensors").ok();
    let input = load(&bench.path("g.safetensors"), &LoadOptions::default()).unwrap().input;
    assert_eq!((input.mean, input.std, input.fit), (vec![0.25; 3], vec![1.0 / 255.0; 3], Fit::Stretch));
    let onnx = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/resnet18.onnx");
    bench.write("r.onnx", &std::fs::read(onnx).unwrap());
    bench.write("r.json", br#"{"input": {"mean": [0, 0, 0]}}"#);
    let run = bench.run("fuse r.onnx -o s.onnx").ok();
    assert!(run.stderr.contains(": deviation, size and crop are as for ImageNet"), "{}", run.stderr);
    bench.write("r.json", br#"{"input": {"std": [255, 255, 255]}}"#);
    bench.fails("inspect r.onnx", 3, &["r.json", "on 0 to 1", "\"std\": [1.0000"]);
}

#[test]
fn what_is_assumed_of_the_input_is_said() {
    let bench = Bench::new();
    let onnx = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/resnet18.onnx");
    bench.write("r.onnx", &std::fs::read(onnx).unwrap());
    for command in ["calibrate r.onnx -o s.safetensors", "quantize r.onnx -o q.safetensors"] {
        let run = bench.run(&format!("{command} --images calib")).ok();
        assert!(run.stderr.contains("as for ImageNet") && run.stderr.contains("--mean 0,0,0"), "{}", run.stderr);
    }
    let run = bench.run("calibrate m.safetensors --images calib -o t.safetensors").ok();
    assert!(!run.stderr.contains("ImageNet"), "{}", run.stderr);
}

#[test]
fn a_network_that_is_quantized_is_recognised() {
    let bench = Bench::new();
    bench.run("quantize m.safetensors --images calib -o q.onnx").ok();
    bench.fails("export q.onnx -o z.onnx", 3, &["q.onnx", "is an ONNX file already", ".safetensors"]);
    for command in ["evaluate q.onnx --images val", "quantize q.onnx --images calib -o z.onnx", "inspect q.onnx"] {
        bench.fails(command, 3, &["q.onnx", "is a quantized network", ".safetensors"]);
    }
    bench.run("quantize m.safetensors --images calib -o q.safetensors").ok();
    bench.fails("quantize q.safetensors --images calib -o z.onnx", 3, &["quantized", "float"]);
}
