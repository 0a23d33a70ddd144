//! Quantizes a checkpoint on a folder of images, and writes it as ONNX.
//!
//!     cargo run --release --example quantize_checkpoint -- repvgg.safetensors calib/ repvgg-int8.onnx
//!
//! What the checkpoint does not say is in a description beside it (`repvgg.json`) or in timm's
//! `config.json`.

use std::process::ExitCode;

use repquant::options::{DeviceOptions, Format, InputForm};
use repquant::progress::Silent;
use repquant::{Calibration, Device, Error, Images, Model, Quantizer, Result};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [checkpoint, images, output] = arguments else {
        return Err(Error::usage("three arguments are needed: CHECKPOINT IMAGES OUTPUT.onnx"));
    };
    // Branches and batch norms become plain convolutions here.
    let model = Model::load(checkpoint)?;
    println!("{}: {} layers, {} parameters", model.name(), model.layers().len(), model.parameters());

    // The range of every activation, on a GPU where there is one. 512 images are plenty.
    let device = Device::open(&DeviceOptions::default())?;
    println!("on {}", device.info().name);
    let few = || Ok::<_, Error>(Images::folder(images)?.limit(512));
    let calibration = Calibration::collect(&device, &model, few()?)?;

    // 8 bits, kernels split where it gains, how ranges are chosen measured on the images; see
    // `Quantizer` for the other options.
    let quantized = Quantizer::new().quantize_on(&device, &model, &calibration, few()?, &Silent)?;
    for decision in quantized.decisions() {
        println!("{decision}");
    }
    for layer in quantized.layers().iter().filter(|layer| !layer.notes.is_empty()) {
        println!("{}: {}", layer.name, layer.notes.join("; "));
    }

    // QuantizeLinear and DequantizeLinear around float operators: what TensorRT, OpenVINO and ONNX
    // Runtime expect.
    quantized.save_onnx(output, Format::Qdq, InputForm::Normalized)?;
    println!("{} kB of weights, written to {output}", quantized.weight_bytes() / 1000);
    Ok(())
}

#[allow(dead_code, reason = "a test calls `run`")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
