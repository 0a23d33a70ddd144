//! `repquant demo`.

mod network;

use ndarray::ArrayD;
use repquant::options::{Backends, Contender, DeviceOptions, Method, Rounding, SplitMode};
use repquant::report::SecondDevice;
use repquant::{Calibration, Device, Error, Evaluation, Images, Model, Quantized, Quantizer, Result};

use super::args::DemoArgs;
use super::profiling::Files;
use super::session::{Session, print};
use crate::drawings::{self, CLASSES, Split};
use crate::terms;

/// Images that are run on a second device.
const REPEATED: usize = 64;

/// The network that is shown layer by layer, and repeated on the second device.
const CHOSEN: &str = "quantized";

/// Quantizes the embedded network on drawn images and shows what the split buys.
pub(super) fn run(session: &Session, args: &DemoArgs) -> Result<()> {
    session.begin_profile(&args.profile, &Files { inputs: Vec::new(), output: None, force: None })?;
    let model = session
        .loading(|| Model::from_checkpoint("repvgg-demo", network::checkpoint(), Some(network::description())))?;
    let device = session.device()?;
    if device.is_native() && Device::adapters(session.device.adapters.backends()).is_empty() {
        session.bars.note(
            "no Vulkan, Metal or Direct3D 12 driver was found: install your GPU's, or software Vulkan (Debian, Ubuntu: apt-get install mesa-vulkan-drivers)",
        );
    }
    let drawn = Images::decoded(drawings::images(Split::Calibration, args.limit as usize));
    let calibration = Calibration::collect_with(&device, &model, drawn, session)?;
    let mut made: Vec<(&str, Quantized)> = Vec::new();
    for (name, bits, split) in [
        ("unsplit", 8, SplitMode::None),
        (CHOSEN, 8, SplitMode::Aligned),
        ("unsplit-w4", 4, SplitMode::None),
        ("quantized-w4", 4, SplitMode::Aligned),
        ("unsplit-w3", 3, SplitMode::None),
        ("quantized-w3", 3, SplitMode::Aligned),
    ] {
        let quantizer = Quantizer::new().weight_bits(bits).split(split).threshold(Method::Mse);
        let drawn = Images::decoded(drawings::images(Split::Calibration, args.limit as usize));
        let quantizer = quantizer.rounding(Rounding::SecondOrder);
        made.push((name, quantizer.quantize_on(&device, &model, &calibration, drawn, session)?));
    }
    let contenders: Vec<Contender<'_>> =
        made.iter().map(|(name, network)| Contender { name, network, layers: *name == CHOSEN }).collect();
    let drawn = Images::decoded(drawings::images(Split::Evaluation, args.eval_limit as usize));
    let mut report = Evaluation::of(&device, Some(&model), &contenders, drawn, session)?.report();
    report.add_calibration(&calibration);
    // The table must not be lost to a second device that fails.
    let chosen = contenders.iter().find(|c| c.layers).map(|c| c.network);
    report.second_device = chosen
        .map_or(Ok(None), |chosen| repeat(&device, session.device.adapters.backends(), chosen))
        .unwrap_or_else(|e| {
            session.bars.note(&format!("the second device could not be used: {}", terms::message(&e)));
            None
        });
    session.finish_report(&mut report, &device)?;
    if !session.common.json {
        print(&format!(
            "A RepVGG of {} blocks, trained on pictures that this program draws ({} classes), quantized on {} of them\nand evaluated on {} others.\n\n",
            // All layers but pooling and the classifier.
            model.layers().len() - 2,
            CLASSES.len(),
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

/// Runs the chosen network on the first images on another device, where there is one: an adapter
/// beside the Cpu device, the Cpu device beside an adapter.
fn repeat(device: &Device, backends: Backends, chosen: &Quantized) -> Result<Option<SecondDevice>> {
    let second = if device.is_native() {
        match Device::all(&DeviceOptions { backends, ..DeviceOptions::default() })
            .into_iter()
            .flatten()
            .find(|device| !device.is_native())
        {
            Some(adapter) => adapter,
            None => return Ok(None),
        }
    } else {
        Device::cpu()
    };
    let identical = logits(device, chosen)? == logits(&second, chosen)?;
    Ok(Some(SecondDevice { device: second.info().clone(), images: REPEATED as u64, identical }))
}

fn logits(device: &Device, network: &Quantized) -> Result<Vec<Vec<ArrayD<f64>>>> {
    let images = Images::decoded(drawings::images(Split::Evaluation, REPEATED)).batch_size(REPEATED);
    network.run(device, images)?.collect()
}
