//! Quantizes an ONNX file on tensors of one's own: f32 arrays as the network takes them, no image
//! files.
//!
//!     cargo run --release --example quantize_onnx_tensors -- net.onnx inputs.safetensors net-int8.safetensors
//!
//! In Python, `safetensors.numpy.save_file({"inputs": array}, "inputs.safetensors")` writes such a
//! file; each array is float32, images × 3 × height × width, normalized as for the float network.

use std::process::ExitCode;

use ndarray::Array4;
use repquant::progress::Silent;
use repquant::{Calibration, Device, Error, Images, Model, Quantizer, Result};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [network, tensors, output] = arguments else {
        return Err(Error::usage("three arguments are needed: NETWORK.onnx INPUTS.safetensors OUTPUT.safetensors"));
    };
    let model = Model::load(network)?;
    let device = Device::cpu();
    let calibration = Calibration::collect(&device, &model, Images::tensor_file(tensors)?)?;
    println!("{}: {} images", model.name(), calibration.images());
    let tensors = Images::tensor_file(tensors)?;
    let quantized = Quantizer::new().quantize_on(&device, &model, &calibration, tensors, &Silent)?;
    quantized.save(output)?;

    // Arrays need not come from a file: any iterator of them will do. Here one black image, through
    // both networks.
    let [height, width] = model.input().size;
    let black = || Images::tensors([Array4::<f32>::zeros([1, 3, height, width])]);
    for (form, batches) in [
        ("float", model.run(&device, black())?.collect::<Result<Vec<_>>>()?),
        ("int8", quantized.run(&device, black())?.collect::<Result<Vec<_>>>()?),
    ] {
        for (output, values) in model.outputs().iter().zip(&batches[0]) {
            let largest = values.iter().fold(0f64, |largest, value| largest.max(value.abs()));
            println!("{form}: {}, an array of {:?}, the largest value is {largest:.4}", output.name, values.shape());
        }
    }
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
