//! Classes as people have them: label files of many forms, class names, folders, and images
//! without any.

use super::Bench;

const EVALUATE: &str = "evaluate m.safetensors --images val --json";

/// The top-1 of the class folders, and of a labels file with this content.
fn top1(bench: &Bench, flags: &str) -> f64 {
    bench.run(&format!("{EVALUATE} {flags}")).ok().json()["results"][0]["top1"].as_f64().unwrap()
}

/// The 12 images of `val` and the class of each, by name and by number.
fn listed(line: impl Fn(&str, &str, usize) -> String) -> String {
    let name = |i: usize| ["cat", "dog"][i % 2];
    (0..12).map(|i| line(&format!("{}/{i:02}.png", name(i)), name(i), i % 2) + "\n").collect()
}

#[test]
fn every_form_gives_what_the_folders_give() {
    let bench = Bench::new();
    let expected = top1(&bench, "");
    let numbered = |line: &dyn Fn(&str, usize) -> String| listed(|file, _, index| line(file, index));
    let forms = [
        listed(|file, name, _| format!("{file} {name}")),
        numbered(&|file, i| format!("{file}\t{i}")),
        String::from("filename,label\r\n") + &numbered(&|file, i| format!("{file},{i}")),
        String::from("\u{feff}\"filename\",\"label\"\n") + &listed(|file, name, _| format!("\"{file}\",\"{name}\"")),
        listed(|file, name, _| format!("\"{file}\",\"{name}\"")),
        // As pandas writes a frame, and with whole numbers as floats.
        String::from(",label,width,file\n") + &numbered(&|file, i| format!("7,{i}.0,32,{file}")),
        String::from("file;class\n") + &numbered(&|file, i| format!("{file};{i}")),
        // Kaggle's solution: no ending, a class in front of each box.
        String::from("ImageId,PredictionString\n")
            + &listed(|file, name, _| format!("{},{name} 85 16 499 272 {name} 1 2 3 4 ", &file[4..6])),
        // Folders in front.
        listed(|file, name, _| format!("val/{file} {name}")),
        listed(|file, name, _| format!("./some/where/{file},{name}")),
        // The classes alone, in the order of the files: six cats, six dogs.
        "0\n".repeat(6) + &"1\n".repeat(6),
        "cat\n".repeat(6) + &"dog\n".repeat(6),
    ];
    for text in forms {
        bench.write("labels.txt", text.as_bytes());
        assert_eq!(top1(&bench, "--labels labels.txt"), expected, "{text}");
    }
    let path = bench.path("val");
    bench.write("labels.txt", listed(|file, _, i| format!("{}/{file} {i}", path.display())).as_bytes());
    assert_eq!(top1(&bench, "--labels labels.txt"), expected);
}

#[test]
fn what_was_assumed_is_said() {
    let bench = Bench::new();
    let says = |text: &str, words: &str| {
        bench.write("labels.txt", text.as_bytes());
        let run = bench.run(&format!("{EVALUATE} --labels labels.txt")).ok();
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    };
    says("file,label\ncat/00.png,0\n", "labels.txt:1 is a header");
    says("a/cat/00.png 0\na/dog/01.png 1\n", "without `a/` before their names");
    says(&("0\n".repeat(6) + &"1\n".repeat(6)), "in the order of their paths");
}

#[test]
fn what_is_not_certain_is_refused() {
    let bench = Bench::new();
    for (text, words) in [
        ("cat/00.png 1\ndog/01.png 2\n", "counted from 1"),
        ("train/cat/00.png 1\ntest/dog/01.png 0\n", "no file `test/dog/01.png`"),
        ("0\n1\n", "lists 2 classes without files"),
        ("file,a,b\ncat/00.png,1,0\n", "none is certainly the class"),
        ("ImageId,PredictionString\n00,cat 1 2 3 4 dog 1 2 3 4\n", "several classes"),
        ("{\"cat/00.png\": 0}", "is JSON"),
    ] {
        bench.write("labels.txt", text.as_bytes());
        bench.fails("evaluate m.safetensors --images val --labels labels.txt", 3, &["labels.txt", words]);
    }
}

/// Numbers that are all classes may be counted from 1 all the same: what comes of them tells.
#[test]
fn classes_that_seem_to_be_counted_from_one_are_said() {
    let bench = Bench::new();
    let says = |text: &str| {
        bench.write("labels.txt", text.as_bytes());
        let run = bench.run(&format!("{EVALUATE} --labels labels.txt")).ok();
        let top1 = run.json()["results"][0]["top1"].as_f64().unwrap();
        (top1, run.stderr.contains("seem to be counted from 1"))
    };
    // Which images the network takes for cats, its class 0.
    let name = |i: usize| format!("{}/{i:02}.png", ["cat", "dog"][i % 2]);
    let (cats, dogs): (Vec<usize>, Vec<usize>) = (0..12).partition(|&i| says(&format!("{} 0\n", name(i))).0 == 1.0);
    let lines = |images: &[usize], class: usize| {
        images.iter().map(|&i| format!("{} {class}", name(i))).collect::<Vec<_>>().join("\n")
    };
    if !cats.is_empty() {
        assert_eq!(says(&lines(&cats, 1)), (0.0, true));
        assert_eq!(says(&lines(&cats, 0)), (1.0, false));
    }
    if !dogs.is_empty() {
        assert_eq!(says(&lines(&dogs, 1)), (1.0, false));
        assert_eq!(says(&lines(&dogs, 0)), (0.0, false));
    }
}

#[cfg(unix)]
#[test]
fn labels_are_read_from_regular_files() {
    let bench = Bench::new();
    assert!(std::process::Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    for file in ["pipe", "/dev/zero"] {
        for flag in ["--labels", "--classes"] {
            let run = bench.run(&format!("evaluate m.safetensors --images val {flag} {file}"));
            assert_eq!(run.code, 3, "{}", run.stderr);
            assert!(run.stderr.contains(file) && run.stderr.contains("not a file"), "{}", run.stderr);
        }
    }
}

#[test]
fn classes_are_named_by_a_file() {
    let bench = Bench::new();
    let expected = top1(&bench, "");
    bench.write("names.txt", b"\xef\xbb\xbfn00000001 cat, house cat\r\nn00000002 dog\r\n");
    bench.write("labels.txt", listed(|file, _, i| format!("{file},n0000000{}", i + 1)).as_bytes());
    assert_eq!(top1(&bench, "--labels labels.txt --classes names.txt"), expected);
    bench.write("names.txt", b"dog\ncat\n");
    assert_eq!(top1(&bench, "--classes names.txt"), 1.0 - expected);
    bench.write("names.txt", b"dog\n");
    bench.fails("evaluate m.safetensors --images val --classes names.txt", 3, &["names.txt", "1 class names"]);
}

/// Folders whose names are numbers are those indices, and the others a guess that is said.
#[test]
fn folders_are_classes() {
    let bench = Bench::new();
    let run = bench.run(&format!("{EVALUATE} -v")).ok();
    assert!(run.stderr.contains("folder cat: class 0") && run.stderr.contains("folder dog: class 1"), "{}", run.stderr);
    assert!(!run.stderr.contains("assumed"), "{}", run.stderr);
    let expected = run.json()["results"][0]["top1"].as_f64().unwrap();
    let json = std::fs::read_to_string(bench.path("m.json")).unwrap();
    let nameless = json.replace(",\n            \"classes\": [\"cat\", \"dog\"]", "");
    bench.write("m.json", nameless.as_bytes());
    let run = bench.run(EVALUATE).ok();
    assert!(run.stderr.contains("nothing names the classes"), "{}", run.stderr);
    for i in 0..12 {
        // The other way round in the order of the names.
        bench.image(&format!("numbers/{}/{i:02}.png", ["01", "0"][i as usize % 2]), 12, 10 + i, 100 + i);
    }
    let top1 = |folder: &str| {
        let run = bench.run(&format!("evaluate m.safetensors --images {folder} --json -v")).ok();
        assert!(!run.stderr.contains("assumed"), "{}", run.stderr);
        run.json()["results"][0]["top1"].as_f64().unwrap()
    };
    assert_eq!(top1("numbers"), 1.0 - expected);
    std::fs::rename(bench.path("numbers/0"), bench.path("numbers/2")).unwrap();
    bench.fails("evaluate m.safetensors --images numbers", 3, &["numbers", "class 2 does not exist", "counted from 1"]);
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_description() {
    let bench = Bench::new();
    let json = std::fs::read(bench.path("m.json")).unwrap();
    bench.write("m.json", &[b"\xef\xbb\xbf", json.as_slice()].concat());
    bench.run("inspect m.safetensors").ok();
    let onnx = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/resnet18.onnx");
    bench.write("r.onnx", &std::fs::read(onnx).unwrap());
    let classes: u64 = bench.run("inspect r.onnx --json").ok().json()["classes"].as_u64().unwrap();
    let names: Vec<String> = (0..classes).map(|i| format!("\"class {i}\"")).collect();
    // Classes alone describe a network that says the rest itself.
    bench.write("r.json", format!("\u{feff}{{\"classes\": [{}]}}", names.join(",")).as_bytes());
    bench.run("inspect r.onnx").ok();
    bench.write("r.json", b"{\"classes\": [\"one\"]}");
    bench.fails("inspect r.onnx", 3, &["names 1 classes"]);
}

#[test]
fn a_classifier_is_compared_without_labels() {
    let bench = Bench::new();
    let measured = |words: &str| {
        let run = bench.run(words).ok();
        let row = run.json()["results"].as_array().unwrap().last().unwrap().clone();
        assert!(row["top1"].is_null(), "{row}");
        assert!(row["agreement"].is_f64() && row["logit_cosine"].as_f64().unwrap() > 0.9, "{row}");
        assert!(row["outputs"][0]["largest_difference"].is_f64(), "{row}");
        run
    };
    let run = measured("quantize m.safetensors --images calib --eval calib -o a.safetensors --json");
    assert!(run.stderr.contains("top-1 is not measured"), "{}", run.stderr);
    measured("evaluate a.safetensors --images calib --baseline m.safetensors --json");
    measured("evaluate a.safetensors --images val --labels none --baseline m.safetensors --json");
    // Without --eval: the calibration images.
    let run = measured("quantize m.safetensors --images calib --limit 5 -o b.safetensors --json");
    assert!(run.stderr.contains("on 5 of the calibration images"), "{}", run.stderr);
    let run = bench.run("quantize m.safetensors --images calib -o c.safetensors").ok();
    assert!(run.stdout.contains("largest difference"), "{}", run.stdout);
    bench.run("calibrate m.safetensors --images calib -o s.safetensors").ok();
    let run = bench.run("quantize m.safetensors --stats s.safetensors -o d.safetensors").ok();
    assert!(run.stderr.contains("not measured"), "{}", run.stderr);
    // What is far off is said.
    let bad =
        "quantize m.safetensors --images calib --weight-bits 2 --activation-bits 2 --rounding nearest -o e.safetensors";
    let run = bench.run(bad).ok();
    assert!(run.stderr.contains("warning: quantized") && run.stderr.contains("dB only"), "{}", run.stderr);
}
