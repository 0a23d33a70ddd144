//! ONNX files from the command line; `tests/onnx` runs them.

use super::Bench;

const QUANTIZE: &str = "quantize m.safetensors --images calib";

#[test]
fn the_file_name_decides_the_form() {
    let bench = Bench::new();
    let bytes = |name: &str| std::fs::read(bench.path(name)).unwrap();
    bench.run(&format!("{QUANTIZE} -o q.safetensors")).ok();
    for flags in ["", "--format qdq", "--format integer", "--format integer --input pixels", "--input normalized"] {
        bench.run(&format!("{QUANTIZE} -o direct.onnx --force {flags}")).ok();
        let document = bench.run(&format!("export q.safetensors -o later.onnx --force --json {flags}")).ok().json();
        assert_eq!(bytes("direct.onnx"), bytes("later.onnx"), "{flags}");
        assert_eq!(document["bytes"], bytes("later.onnx").len());
        assert_eq!(document["format"], if flags.contains("integer") { "integer" } else { "qdq" });
    }
    assert_ne!(bytes("direct.onnx"), bytes("q.safetensors"));
    let said = bench.run("export q.safetensors -o Shouted.ONNX").ok().stdout;
    assert!(said.contains("qdq") && said.contains("Shouted.ONNX"), "{said}");
    bench.run("fuse m.safetensors -o float.onnx").ok();
    bench.run("fuse m.safetensors -o pixels.onnx --input pixels").ok();
    assert_ne!(bytes("float.onnx"), bytes("pixels.onnx"));
}

#[test]
fn quantizing_to_onnx_still_evaluates() {
    let bench = Bench::new();
    let report = bench.run(&format!("{QUANTIZE} --eval val -o q.onnx --json")).ok().json();
    assert_eq!(report["results"][2]["name"], "quantized");
    assert!(bench.path("q.onnx").exists());
}

#[test]
fn wrong_use_and_bad_files() {
    let bench = Bench::new();
    bench.run(&format!("{QUANTIZE} -o q.safetensors")).ok();
    bench.run("calibrate m.safetensors --images calib -o stats.safetensors").ok();
    bench.write("broken.safetensors", b"nothing of the kind");
    let whole = std::fs::read(bench.path("q.safetensors")).unwrap();
    bench.write("cut.safetensors", &whole[..whole.len() - 10]);
    bench.write("there.onnx", b"precious");
    for (words, code, parts) in [
        // Forms and endings.
        ("export q.safetensors -o q.pb", 2, &["q.pb", ".onnx"][..]),
        ("export q.safetensors -o q2.safetensors", 2, &["q2.safetensors", "ONNX"]),
        ("export q.safetensors -o q.onnx --format qlinear", 2, &["qlinear", "qdq", "integer"]),
        ("export q.safetensors -o q.onnx --input bgr", 2, &["bgr", "pixels"]),
        ("fuse m.safetensors -o f.pt", 2, &["f.pt", ".safetensors", ".onnx"]),
        ("fuse m.safetensors -o f", 2, &[".safetensors", ".onnx"]),
        ("fuse m.safetensors -o f.safetensors --input pixels", 2, &["--input", "f.safetensors"]),
        ("quantize m.safetensors --images calib -o f.onxx", 2, &["f.onxx", ".onnx"]),
        ("quantize m.safetensors --images calib -o f.safetensors --format qdq", 2, &["--format", "f.safetensors"]),
        // Outputs.
        ("export q.safetensors -o there.onnx", 2, &["there.onnx", "--force"]),
        ("export q.safetensors -o no/such/q.onnx", 5, &["no/such"]),
        ("export q.safetensors -o calib", 2, &["calib", "folder"]),
        // Inputs.
        ("export gone.safetensors -o q.onnx", 3, &["gone.safetensors"]),
        ("export m.safetensors -o q.onnx", 3, &["not a quantized model", "repquant fuse m.safetensors"]),
        ("export stats.safetensors -o q.onnx", 3, &["not a quantized model"]),
        ("export calib -o q.onnx", 3, &["calib", "not a quantized model"]),
        ("export broken.safetensors -o q.onnx", 3, &["broken.safetensors"]),
        ("export cut.safetensors -o q.onnx", 3, &["cut.safetensors"]),
    ] {
        bench.fails(words, code, parts);
    }
    bench.run("export q.safetensors -o there.onnx --force").ok();
}
