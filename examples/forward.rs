//! Times the forward pass of a network: in float, in int8, and in int8 with the centre split.
//!
//! `cargo run --release --example forward -- MODEL BATCH SECONDS ROUNDS [ARCHITECTURE]` loads a
//! float checkpoint, quantizes it on random images, runs the three in turn on random images, ROUNDS
//! rounds of about SECONDS each, and prints images/s of each round as JSON. `REPQUANT_BENCH_DEVICE`
//! names the device (default `cpu`).

#[path = "../benches/common/networks.rs"]
#[allow(dead_code, reason = "the benches use the rest")]
mod networks;

use std::path::Path;
use std::process::ExitCode;

use networks::{Ready, alternate, calibration, images, int8};
use repquant::Device;
use repquant::internals::exec::{FloatNet, Int8Net, Keep};
use repquant::internals::fuse::fuse;
use repquant::internals::load::{LoadOptions, load};
use repquant::internals::quantize::SplitMode;
use repquant::options::{DeviceChoice, DeviceOptions};
use repquant::{Error, Result};
use serde_json::json;

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::usage(format!("{text}: is not such a number")))
}

fn run(arguments: &[String]) -> Result<()> {
    let (model, batch, seconds, rounds, arch) = match arguments {
        [model, batch, seconds, rounds] => (model, batch, seconds, rounds, None),
        [model, batch, seconds, rounds, arch] => (model, batch, seconds, rounds, Some(arch.clone())),
        _ => {
            return Err(Error::usage("four or five arguments are needed: MODEL BATCH SECONDS ROUNDS [ARCHITECTURE]")
                .hint("for example: forward repvgg.safetensors 8 1 5 repvgg-a0"));
        }
    };
    let (batch, seconds, rounds): (usize, f64, usize) = (number(batch)?, number(seconds)?, number(rounds)?);
    let choice: DeviceChoice = std::env::var("REPQUANT_BENCH_DEVICE")
        .unwrap_or_else(|_| "cpu".into())
        .parse()
        .unwrap_or_else(|never| match never {});
    let device = Device::open(&DeviceOptions { choice, ..DeviceOptions::default() })?;
    let graph = fuse(&load(Path::new(model), &LoadOptions { arch, ..Default::default() })?)?;
    let statistics = calibration(&graph);
    let input = images(&graph, batch);
    let float = FloatNet::new(&device, &graph, batch, Keep::Last)?;
    float.upload(&input)?;
    let mut forms = vec![Ready::Float(float)];
    for split in [SplitMode::None, SplitMode::Aligned] {
        let net = Int8Net::new(&device, &int8(&graph, &statistics, split), batch, Keep::Last)?;
        net.upload(&input)?;
        forms.push(Ready::Int8(net));
    }
    let rates = alternate(&device, &forms, batch, seconds, rounds);
    let document = json!({
        "model": graph.name,
        "device": device.info().name,
        "batch": batch,
        "f32": rates[0],
        "int8": rates[1],
        "int8_split": rates[2],
    });
    println!("{document}");
    Ok(())
}

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
