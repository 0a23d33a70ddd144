//! `repquant demo`.

mod network;

use super::args::DemoArgs;
use super::profiling::Files;
use super::quantize::report;
use super::session::{Session, print};
use crate::drawings::{self, Split};
use repquant::device::{Backends, Device, adapters};
use repquant::exec::{Int8Net, Keep};
use repquant::fuse::fuse;
use repquant::images::Batch;
use repquant::load::{self, Description};
use repquant::model::QuantizedGraph;
use repquant::pipeline::{Made, Pipeline, Variant, timed};
use repquant::quantize::{QuantizeOptions, SplitMode};
use repquant::report::{Images, SecondDevice, Seconds};
use repquant::threshold::RangeOptions;
use repquant::{Error, Result};

/// Images that are run on a second device.
const REPEATED: usize = 64;

/// Quantizes the embedded network on drawn images and shows what the split buys.
pub(super) fn run(session: &Session, args: &DemoArgs) -> Result<()> {
    session.begin_profile(&args.profile, &Files { inputs: Vec::new(), output: None, force: None })?;
    let mut seconds = Seconds::default();
    let graph = timed("load", &mut seconds.load, || {
        let description = Description::from_json(network::description())?;
        fuse(&load::from_bytes("repvgg-demo", network::checkpoint(), &description)?)
    })?;
    let device = session.device()?;
    if device.is_native() && adapters(session.common.backends()).is_empty() {
        session.bars.note(
            "no Vulkan, Metal or Direct3D 12 driver was found: install your GPU's, or software Vulkan (Debian, Ubuntu: apt-get install mesa-vulkan-drivers)",
        );
    }
    let mut pipeline = Pipeline::new(&device, &graph, None, seconds, &session.bars)?;
    let batch_size = pipeline.batch_size;

    let mut drawn = drawings::batches(Split::Calibration, args.limit as usize, batch_size);
    let calibration = pipeline.calibrate(&mut drawn, Some(args.limit.into()))?;
    let mut made = Vec::new();
    for (name, bits, split) in [
        ("unsplit", 8, SplitMode::None),
        ("quantized", 8, SplitMode::Aligned),
        ("unsplit-w4", 4, SplitMode::None),
        ("quantized-w4", 4, SplitMode::Aligned),
    ] {
        let weights = QuantizeOptions { weight_bits: bits, split, ..QuantizeOptions::default() };
        let variant = Variant { name: name.into(), ranges: RangeOptions::default(), weights };
        made.push(pipeline.quantize(&calibration, variant)?);
    }
    let mut drawn = drawings::batches(Split::Evaluation, args.eval_limit as usize, batch_size);
    let evaluations = pipeline.evaluate(&made, "quantized", &mut drawn, Some(args.eval_limit.into()))?;

    let counts = Images { calibration: calibration.images, evaluation: args.eval_limit.into(), skipped: 0 };
    let mut report = report(session, &pipeline, &made, &evaluations, counts);
    // The table must not be lost to a second device that fails.
    report.second_device = repeat(&device, session.common.backends(), &made).unwrap_or_else(|e| {
        session.bars.note(&format!("the second device could not be used: {e}"));
        None
    });
    report.profile = session.finish_profile(&device)?;
    report.seconds.total = session.elapsed();
    if !session.common.json {
        print(&format!(
            "A RepVGG of {} blocks, trained on pictures that this program draws ({} classes), quantized on {} of them\nand evaluated on {} others.\n\n",
            graph.nodes.len() - 3,
            drawings::CLASSES.len(),
            args.limit,
            args.eval_limit
        ))?;
    }
    session.print_report(&report)?;
    if !session.common.json {
        print(&match &report.second_device {
            None => {
                "\nOne device only; with a second (software Vulkan, say) the int8 logits are compared across devices.\n"
                    .to_owned()
            }
            Some(second) => format!(
                "\nThe int8 network on {} images gives {} logits on {} and on {}.\n",
                second.images,
                if second.identical { "identical" } else { "DIFFERENT" },
                device.info().name,
                second.device.name
            ),
        })?;
    }
    match &report.second_device {
        Some(second) if !second.identical => Err(Error::check("the int8 logits differ between two devices")
            .hint("run `repquant verify` and report what it prints")),
        _ => Ok(()),
    }
}

/// Runs the chosen network on the first images on another device, where there is one: an adapter beside the Cpu device, the
/// Cpu device beside an adapter.
fn repeat(device: &Device, backends: Backends, made: &[Made]) -> Result<Option<SecondDevice>> {
    let second = if device.is_native() {
        match Device::all(backends).into_iter().flatten().find(|device| !device.is_native()) {
            Some(adapter) => adapter,
            None => return Ok(None),
        }
    } else {
        Device::cpu()
    };
    let Some(batch) = drawings::batches(Split::Evaluation, REPEATED, REPEATED).next().transpose()? else {
        return Ok(None);
    };
    let Some(chosen) = made.iter().find(|m| m.variant.name == "quantized") else { return Ok(None) };
    let identical = logits(device, &chosen.graph, &batch)? == logits(&second, &chosen.graph, &batch)?;
    Ok(Some(SecondDevice { device: second.info().clone(), images: batch.count as u64, identical }))
}

fn logits(device: &Device, graph: &QuantizedGraph, batch: &Batch) -> Result<Vec<Vec<f64>>> {
    Int8Net::new(device, graph, batch.count, Keep::Last)?.run(batch)
}
