//! Runs a quantized network and the float one it was made from side by side over images, and says
//! what was lost.
//!
//!     cargo run --release --example evaluate -- repvgg.safetensors repvgg-int8.safetensors val/
//!
//! A classifier's images lie in folders named after their classes.

use std::process::ExitCode;

use repquant::options::DeviceOptions;
use repquant::{Device, Error, Evaluation, Images, Model, Quantized, Result};

/// The layers that are listed.
const WORST: usize = 5;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [model, quantized, images] = arguments else {
        return Err(Error::usage("three arguments are needed: MODEL QUANTIZED IMAGES"));
    };
    let (model, quantized) = (Model::load(model)?, Quantized::load(quantized)?);
    // Without classes the outputs are compared alone.
    let images = match model.classes() {
        Some(classes) => Images::labelled(images, &classes)?,
        None => Images::folder(images)?,
    };
    let device = Device::open(&DeviceOptions::default())?;
    let evaluation = Evaluation::compare(&device, &model, &quantized, images.skip_bad(true))?;
    println!("{}", evaluation.report());

    // Where the loss comes from: the layers whose activations are farthest from the float
    // network's.
    let mut layers: Vec<(&str, f64)> =
        evaluation.layers().iter().filter_map(|layer| Some((layer.name.as_str(), layer.sqnr_db?))).collect();
    layers.sort_by(|a, b| a.1.total_cmp(&b.1));
    for (name, sqnr) in layers.iter().take(WORST) {
        println!("{name}: {sqnr:.1} dB");
    }
    for skipped in &evaluation.run().skipped {
        println!("left out: {}: {}", skipped.path.display(), skipped.reason);
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
