//! The trained reference model and its images, through the command.

use super::Bench;
use super::common::{skipped, test_data};

/// Peak memory of an evaluation must not depend on the number of images.
#[test]
fn memory_does_not_grow_with_the_images() {
    let Some(data) = test_data() else { return };
    let bench = Bench::new();
    let model = data.join("models/repvgg-cifar10.safetensors");
    let images = data.join("data/cifar10/val");
    let peak = |limit: u32| {
        let words = format!("evaluate {} --images {} --limit {limit} --json", model.display(), images.display());
        let report = bench.run(&words).ok().json();
        assert_eq!(report["images"]["evaluation"], limit);
        report["peak_memory_bytes"].as_u64()
    };
    let (Some(few), Some(many)) = (peak(200), peak(2000)) else {
        skipped("this system does not tell a process's peak memory");
        return;
    };
    println!("peak memory: {} MB with 200 images, {} MB with 2000", few / 1_000_000, many / 1_000_000);
    assert!(many <= few + 50_000_000, "{few} bytes with 200 images, {many} with 2000");
}

/// The same command twice writes the same bytes; the saved model evaluates to the same figures.
#[test]
fn runs_repeat_to_the_byte() {
    let Some(data) = test_data() else { return };
    let bench = Bench::new();
    let model = data.join("models/repvgg-cifar10.safetensors").display().to_string();
    let (calib, val) = (data.join("data/cifar10/calib"), data.join("data/cifar10/val"));
    let quantize = |out: &str| {
        let words = format!(
            "quantize {model} --images {} --limit 64 --eval {} --eval-limit 100 -o {out} --json",
            calib.display(),
            val.display()
        );
        bench.run(&words).ok().json()
    };
    let first = quantize("a.safetensors");
    quantize("b.safetensors");
    assert_eq!(
        std::fs::read(bench.path("a.safetensors")).unwrap(),
        std::fs::read(bench.path("b.safetensors")).unwrap()
    );
    let words = format!("evaluate a.safetensors --images {} --limit 100 --baseline {model} --json", val.display());
    let again = bench.run(&words).ok().json();
    for field in ["top1", "top5", "agreement", "logit_sqnr_db"] {
        assert_eq!(again["results"][0][field], first["results"][2][field], "{field}");
    }
}
