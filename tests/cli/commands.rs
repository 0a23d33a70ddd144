//! The commands on a small model: what they print and write.

use std::path::Path;

use super::Bench;
use super::common::adapter_required;
use super::common::checkpoints::description_json;

const QUANTIZE: &str = "quantize m.safetensors --images calib --eval val";

#[test]
fn quantize_then_evaluate_gives_the_same_figures_and_bytes() {
    let bench = Bench::new();
    let first = bench.run(&format!("{QUANTIZE} -o a.safetensors --json")).ok().json();
    bench.run(&format!("{QUANTIZE} -o b.safetensors --batch-size 5")).ok();
    let bytes = |name: &str| std::fs::read(bench.path(name)).unwrap();
    assert_eq!(bytes("a.safetensors"), bytes("b.safetensors"));

    let names: Vec<&str> = first["results"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["float32", "unsplit", "quantized"]);
    assert_eq!(first["images"]["calibration"], 12);
    assert_eq!(first["images"]["evaluation"], 12);
    assert_eq!(first["device"]["backend"], "native");
    let again = bench.run("evaluate a.safetensors --images val --baseline m.safetensors --json").ok().json();
    for field in ["name", "top1", "top5", "agreement", "logit_sqnr_db", "weight_bytes", "macs", "overhead"] {
        assert_eq!(again["results"][0][field], first["results"][2][field], "{field}");
    }
    assert_eq!(again["layers"][1]["sqnr_db"], first["layers"][1]["sqnr_db"]);
    let float = bench.run("evaluate m.safetensors --images val --json").ok().json();
    assert_eq!(float["results"][0]["top1"], first["results"][0]["top1"]);
}

#[test]
fn every_option_runs_and_loads_back() {
    let bench = Bench::new();
    for options in [
        "--split none",
        "--split paper",
        "--split paper --split-support full --activations affine",
        "--split paper --split-support diagonal --granularity tensor",
        "--split aligned --split-support full --weight-bits 4",
        "--split aligned --split-support diagonal --activation-bits 6",
        "--split aligned --granularity tensor --weight-bits 2 --first-last-bits 8",
        "--split auto --max-overhead 0.05",
        "--rounding second-order --weight-bits 4 --batch-size 5",
        "--bias-correction --activation-memory 64K --channel-equalization off",
        "--rounding second-order --split paper --granularity tensor --weight-bits 3",
        "--keep-float stage1.0 --keep-float linear",
        "--weight-bits 4 --layer stage0=8 --layer stage1.*=6,full --layer linear=float",
        "--threshold minmax",
        "--threshold percentile:99.9",
        "--threshold mse --activations affine --activation-bits 4",
        "--threshold kl",
    ] {
        let run = bench.run(&format!("{QUANTIZE} -o o.safetensors --force --json {options}")).ok();
        let again = bench.run("evaluate o.safetensors --images val --baseline m.safetensors --json").ok();
        assert_eq!(again.json()["results"][0]["top1"], run.json()["results"][2]["top1"], "{options}");
        bench.run("inspect o.safetensors").ok();
    }
}

#[test]
fn merged_statistics_are_those_of_one_run() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("half0")).unwrap();
    std::fs::create_dir_all(bench.path("half1")).unwrap();
    for i in 0..12 {
        let (from, to) = (format!("calib/{i:02}.png"), format!("half{}/{i:02}.png", i % 2));
        std::fs::copy(bench.path(&from), bench.path(&to)).unwrap();
    }
    bench.run("calibrate m.safetensors --images calib -o all.safetensors").ok();
    bench.run("calibrate m.safetensors --images half0 -o h0.safetensors").ok();
    bench.run("calibrate m.safetensors --images half1 -o h1.safetensors --batch-size 1").ok();
    bench.run("merge h1.safetensors h0.safetensors -o sum.safetensors").ok();
    std::fs::copy(bench.path("h0.safetensors"), bench.path("copy.safetensors")).unwrap();
    let twice = "merge h0.safetensors h1.safetensors h0.safetensors -o twice.safetensors";
    bench.fails(twice, 2, &["h0.safetensors: is given twice"]);
    let copied = "merge h0.safetensors copy.safetensors -o twice.safetensors";
    bench.fails(copied, 2, &["copy.safetensors: holds the same statistics as h0.safetensors"]);
    let bytes = |name: &str| std::fs::read(bench.path(name)).unwrap();
    assert_eq!(bytes("all.safetensors"), bytes("sum.safetensors"));
    bench.run("quantize m.safetensors --images calib --threshold mse --rounding nearest -o q0.safetensors").ok();
    bench.run("quantize m.safetensors --stats sum.safetensors -o q1.safetensors").ok();
    assert_eq!(bytes("q0.safetensors"), bytes("q1.safetensors"));
}

#[test]
fn statistics_remember_how_images_were_decoded() {
    let bench = Bench::new();
    for i in 0..6 {
        bench.image(&format!("photos/{i}.jpg"), 90 + i, 100, i);
    }
    let bytes = |name: &str| std::fs::read(bench.path(name)).unwrap();
    let calibrate = "calibrate m.safetensors --images photos";
    bench.run(&format!("{calibrate} -o plain.safetensors")).ok();
    bench.run(&format!("{calibrate} -o full.safetensors --decode full")).ok();
    bench.run(&format!("{calibrate} -o scaled.safetensors --decode scaled")).ok();
    assert_eq!(bytes("plain.safetensors"), bytes("full.safetensors"));
    assert!(bytes("full.safetensors") != bytes("scaled.safetensors"));

    let differs = ["scaled.safetensors", "decoded differently (scaled, not full)", "--decode"];
    bench.fails("quantize m.safetensors --stats scaled.safetensors -o q.safetensors", 3, &differs);
    let differs = ["decoded differently (full, not scaled)", "--decode"];
    bench.fails("merge full.safetensors scaled.safetensors -o sum.safetensors", 3, &differs);
    bench.run("quantize m.safetensors --stats scaled.safetensors --decode scaled -o q0.safetensors").ok();
    bench.run("quantize m.safetensors --images photos --threshold mse --rounding nearest --decode scaled -o q1.safetensors").ok();
    assert_eq!(bytes("q0.safetensors"), bytes("q1.safetensors"));

    std::fs::create_dir_all(bench.path("classes")).unwrap();
    std::fs::rename(bench.path("photos"), bench.path("classes/cat")).unwrap();
    let evaluate = "evaluate q0.safetensors --images classes --baseline m.safetensors --json";
    let sqnr =
        |words: &str| bench.run(&format!("{evaluate} {words}")).ok().json()["results"][0]["logit_sqnr_db"].clone();
    assert_eq!(sqnr(""), sqnr("--decode scaled"));
    assert!(sqnr("") != sqnr("--decode full"));
    bench.fails(&format!("{evaluate} --decode half"), 2, &["images cannot be decoded `half`", "full or scaled"]);
}

#[test]
fn a_fused_file_computes_the_same() {
    let bench = Bench::new();
    bench.run("fuse m.safetensors -o fused.safetensors").ok();
    let plain = bench.run("evaluate m.safetensors --images val --json").ok().json();
    let fused = bench.run("evaluate fused.safetensors --images val --json").ok().json();
    assert_eq!(plain["results"][0]["top1"], fused["results"][0]["top1"]);
    bench.run("calibrate m.safetensors --images calib -o stats.safetensors").ok();
    bench.run("quantize fused.safetensors --stats stats.safetensors -o q.safetensors").ok();
    assert!(bench.run("inspect fused.safetensors").ok().stdout.contains("fused 3×3"));
}

#[test]
fn files_of_torch_save_are_read() {
    let bench = Bench::new();
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch").join(name);
    let bytes = |name: &str| std::fs::read(bench.path(name)).unwrap();
    for (from, to) in [("zip.pth", "m.pth"), ("legacy.pth", "legacy.pth"), ("training.pth.tar", "t.pth.tar")] {
        std::fs::copy(fixture(from), bench.path(to)).unwrap();
    }
    std::fs::copy(fixture("weights.safetensors"), bench.path("w.safetensors")).unwrap();
    for name in ["m", "legacy", "t", "w"] {
        bench.write(&format!("{name}.json"), description_json("repvgg", "[1, 2]").as_bytes());
    }
    bench.run("quantize w.safetensors --images calib -o w-int8.safetensors").ok();
    for (file, name) in [("m.pth", "m"), ("legacy.pth", "legacy"), ("t.pth.tar", "t")] {
        bench.run(&format!("quantize {file} --images calib -o {name}-int8.safetensors")).ok();
        let baseline = format!("evaluate {name}-int8.safetensors --images val --baseline w.safetensors --json");
        let row = bench.run(&baseline).ok().json()["results"][0].clone();
        assert!(row["agreement"].is_f64(), "{file}: the same network as w.safetensors: {row}");
    }
    bench.run("fuse m.pth -o fused.safetensors").ok();
    bench.run("quantize fused.safetensors --images calib -o fused-int8.safetensors").ok();
    assert!(bench.run("inspect t.pth.tar").ok().stdout.contains("`state_dict` of the file"));
    let torn = bytes("m.pth");
    bench.write("torn.pth", &torn[..torn.len() / 2]);
    bench.fails("fuse torn.pth -o f.safetensors --describe m.json", 3, &["torn.pth"]);
}

/// The text without the times in it: the seconds after the last `; `, and the lines on how fast the
/// stages went.
fn without_time(stdout: &str) -> String {
    let lines = stdout.lines().filter(|line| !line.contains(" images/s, waited "));
    let text = lines.map(|line| line.to_owned() + "\n").collect::<String>();
    match text.rsplit_once("; ") {
        Some((text, time)) if time.ends_with(" s\n") => text.to_owned(),
        _ => text,
    }
}

#[test]
fn the_summary_says_how_fast_it_went() {
    let bench = Bench::new();
    let run = bench.run(&format!("{QUANTIZE} -o a.safetensors")).ok();
    let lines: Vec<&str> = run.stdout.lines().filter(|line| line.contains(" images/s, waited ")).collect();
    assert_eq!(lines.len(), 2, "{}", run.stdout);
    assert!(lines[0].starts_with("calibration: ") && lines[1].starts_with("evaluation: "), "{}", run.stdout);
    let check = |pace: &serde_json::Value| {
        for field in ["images_per_second", "waiting_for_images", "decoding_waited"] {
            assert!(pace[field].as_f64().unwrap() >= 0.0, "{field}: {pace}");
        }
        assert!(pace["images_per_second"].as_f64().unwrap() > 0.0, "{pace}");
    };
    let json = |words: &str| bench.run(&format!("{words} --json")).ok().json()["throughput"].clone();
    let both = json(&format!("{QUANTIZE} -o b.safetensors"));
    check(&both["calibrate"]);
    check(&both["evaluate"]);
    let one = json("calibrate m.safetensors --images calib -o s.safetensors");
    check(&one["calibrate"]);
    assert_eq!(one.get("evaluate"), None);
    check(&json("evaluate a.safetensors --images val")["evaluate"]);
    assert_eq!(json("quantize m.safetensors --stats s.safetensors -o c.safetensors"), serde_json::json!({}));
}

#[test]
fn quiet_leaves_stdout_alone() {
    let bench = Bench::new();
    bench.write("calib/05a.jpg", b"this is a text");
    for (command, has_notes) in [
        ("quantize m.safetensors --images calib --skip-bad-images --eval val -o a.safetensors --force", true),
        ("calibrate m.safetensors --images calib --skip-bad-images -o s.safetensors --force", true),
        ("analyze m.safetensors --images calib --skip-bad-images", true),
        ("quantize m.safetensors --stats s.safetensors -o a.safetensors --force", true),
        ("evaluate a.safetensors --images val --baseline m.safetensors", true),
        ("fuse m.safetensors -o f.safetensors --force", false),
        ("inspect m.safetensors", false),
    ] {
        let plain = bench.run(command).ok();
        assert_eq!(!plain.stderr.is_empty(), has_notes, "{command}: {}", plain.stderr);
        assert!(!plain.stdout.is_empty(), "{command}");
        for flag in ["-q", "--quiet"] {
            let quiet = bench.run(&format!("{command} {flag}")).ok();
            assert_eq!(quiet.stderr, "", "{command}");
            assert_eq!(without_time(&quiet.stdout), without_time(&plain.stdout), "{command}");
        }
    }
    // An error is still told.
    bench.fails("quantize m.safetensors --images calib -o a.safetensors --force -q", 3, &["05a.jpg"]);
}

#[test]
fn inspect_shows_branches() {
    let bench = Bench::new();
    let text = bench.run("inspect m.safetensors").ok().stdout;
    assert!(text.contains("3×3 + 1×1 + identity"), "{text}");
    let json = bench.run("inspect m.safetensors --json").ok().json();
    assert_eq!(json["layers"].as_array().unwrap().len(), 6);
    assert!(json["layers"][0]["center_to_neighbours"].as_f64().unwrap() > 0.0);
}

/// Where nothing is run, a device is not offered.
#[test]
fn device_flags_are_offered_where_something_runs() {
    let bench = Bench::new();
    for command in ["merge a.safetensors -o b.safetensors", "export a.safetensors -o b.onnx", "completions bash"] {
        for flag in ["--device cpu", "--backend vulkan"] {
            let name = flag.split(' ').next().unwrap();
            bench.fails(&format!("{command} {flag}"), 2, &["unexpected argument", name]);
        }
    }
    for (command, device, backend) in [
        ("quantize", true, true),
        ("calibrate", true, true),
        ("evaluate", true, true),
        ("analyze", true, true),
        ("demo", true, true),
        ("verify", true, true),
        ("devices", false, true),
        ("merge", false, false),
        ("fuse", false, false),
        ("export", false, false),
        ("inspect", false, false),
        ("completions", false, false),
    ] {
        let help = bench.run(&format!("{command} --help")).ok().stdout;
        assert_eq!((help.contains("--device <"), help.contains("--backend <")), (device, backend), "{help}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let bench = Bench::new();
    for command in [
        "demo",
        "quantize",
        "calibrate",
        "merge",
        "evaluate",
        "analyze",
        "fuse",
        "export",
        "inspect",
        "devices",
        "verify",
        "completions",
    ] {
        let help = bench.run(&format!("{command} --help")).ok().stdout;
        assert!(help.contains(&format!("repquant {command}")), "{help}");
        assert!(help.contains("Example:") || help.contains("Examples:"), "{command}");
    }
    assert!(bench.run("completions bash").ok().stdout.contains("repquant"));
    assert_eq!(bench.run("quantise").code, 2);
}

#[test]
fn devices_and_verify_tell_in_json() {
    let bench = Bench::new();
    assert!(bench.run("devices --json").ok().json()["adapters"].is_array());
    let verified = bench.run("verify --json --device cpu").ok().json();
    assert_eq!(verified["passed"], true);
    assert!(verified["devices"][0]["kernels"].as_array().unwrap().len() > 10);
}

#[test]
fn the_instruction_set_can_be_limited() {
    let bench = Bench::new();
    let plain = bench.run_with(&[("REPQUANT_CPU", "plain")], "devices --json").ok().json();
    assert!(plain["cpu"]["name"].as_str().unwrap().starts_with("native code on "));
    for words in ["devices", "verify", "demo"] {
        let wrong = bench.run_with(&[("REPQUANT_CPU", "sse9")], words);
        assert_eq!(wrong.code, 2, "{words}: {}", wrong.stderr);
        assert!(wrong.stderr.contains("REPQUANT_CPU is `sse9`"), "{words}: {}", wrong.stderr);
    }
}

#[test]
fn demo_shows_the_effect() {
    let bench = Bench::new();
    let report = bench.run("demo --limit 64 --eval-limit 200 --json").ok().json();
    let row = |name: &str| {
        let rows = report["results"].as_array().unwrap();
        rows.iter().find(|r| r["name"] == name).unwrap_or_else(|| panic!("{name} in {rows:?}")).clone()
    };
    let top1 = |name: &str| row(name)["top1"].as_f64().unwrap();
    let sqnr = |name: &str| row(name)["logit_sqnr_db"].as_f64().unwrap();
    assert!(top1("float32") > 0.9);
    assert!(top1("float32") - top1("quantized") < 0.02);
    assert!(sqnr("quantized") > sqnr("unsplit") && sqnr("unsplit") > 25.0);
    for bits in [4, 3] {
        let [split, unsplit] = ["quantized", "unsplit"].map(|name| sqnr(&format!("{name}-w{bits}")));
        assert!(split - unsplit > 5.0, "W{bits}: {unsplit} dB, split {split} dB");
        assert!(top1("float32") - top1(&format!("quantized-w{bits}")) < [0.06, 0.02][bits - 3], "W{bits}");
    }
    for name in ["unsplit", "quantized", "unsplit-w4", "quantized-w4", "unsplit-w3", "quantized-w3"] {
        assert_eq!(row(name)["activation_bits"], 8);
    }
    match report.get("second_device") {
        Some(second) => assert_eq!(second["identical"], true),
        None => assert!(!adapter_required(), "no second device was found"),
    }
}
