//! The examples run as their comments say.

use super::Bench;

#[path = "../../examples/evaluate.rs"]
mod evaluate;
#[path = "../../examples/merge_statistics.rs"]
mod merge_statistics;
#[path = "../../examples/quantize_checkpoint.rs"]
mod quantize_checkpoint;
#[path = "../../examples/quantize_onnx_tensors.rs"]
mod quantize_onnx_tensors;

impl Bench {
    /// These paths in the folder.
    fn paths<const N: usize>(&self, names: [&str; N]) -> [String; N] {
        names.map(|name| self.path(name).display().to_string())
    }
}

#[test]
fn a_checkpoint_is_quantized_and_evaluated() {
    let bench = Bench::new();
    quantize_checkpoint::run(&bench.paths(["m.safetensors", "calib", "m-int8.onnx"])).unwrap();
    assert!(bench.path("m-int8.onnx").is_file());
    // The command writes the same file.
    bench.run("quantize m.safetensors --images calib -o own.onnx").ok();
    if !quantize_checkpoint_uses_a_gpu() {
        assert_eq!(std::fs::read(bench.path("m-int8.onnx")).unwrap(), std::fs::read(bench.path("own.onnx")).unwrap());
    }
    bench.run("quantize m.safetensors --images calib -o q.safetensors").ok();
    evaluate::run(&bench.paths(["m.safetensors", "q.safetensors", "val"])).unwrap();
    assert!(quantize_checkpoint::run(&[]).is_err() && evaluate::run(&[]).is_err());
}

/// Its statistics, and so its file, are those of another device then.
fn quantize_checkpoint_uses_a_gpu() -> bool {
    !repquant::Device::open(&repquant::options::DeviceOptions::default()).unwrap().is_native()
}

#[test]
fn merged_statistics_are_those_of_all_images() {
    let bench = Bench::new();
    merge_statistics::run(&bench.paths(["m.safetensors", "val/cat", "val/dog", "both.safetensors"])).unwrap();
    bench.run("calibrate m.safetensors --images val -o all.safetensors").ok();
    assert_eq!(
        std::fs::read(bench.path("both.safetensors")).unwrap(),
        std::fs::read(bench.path("all.safetensors")).unwrap()
    );
    assert!(merge_statistics::run(&bench.paths(["m.safetensors", "x.safetensors"])).is_err());
}

#[test]
fn an_onnx_file_is_quantized_on_tensors() {
    let bench = Bench::new();
    bench.run("fuse m.safetensors -o m.onnx").ok();
    let values: Vec<u8> = (0..4 * 192).flat_map(|i| ((i % 37) as f32 / 10.0 - 1.8).to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![4, 3, 8, 8], &values).unwrap();
    bench.write("inputs.safetensors", &safetensors::serialize([("inputs", view)], None).unwrap());
    quantize_onnx_tensors::run(&bench.paths(["m.onnx", "inputs.safetensors", "q.safetensors"])).unwrap();
    bench.run("inspect q.safetensors").ok();
    bench.run("evaluate q.safetensors --images val --baseline m.onnx").ok();
}
