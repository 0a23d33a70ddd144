//! `repquant quantize`.

use std::path::PathBuf;

use repquant::options::{Contender, DeviceChoice, DeviceOptions, Method, Rounding, SplitMode};
use repquant::{Calibration, Device, Error, Evaluation, Images, Result};

use super::args::QuantizeArgs;
use super::image_sets::{Reading, evaluation_images, limited, named, plain_images, tell_preprocessing};
use super::model_output::ModelOutput;
use super::profiling::Files;
use super::session::{Session, load_statistics};
use super::warnings::warn;

/// The network that is written.
const CHOSEN: &str = "quantized";
/// The same without a split and rounded to nearest, for comparison.
const UNSPLIT: &str = "unsplit";

/// Without images to evaluate on, the networks are compared on so many of the calibration images.
const MEASURED: usize = 64;

/// Where the statistics come from.
enum Statistics {
    Saved(Calibration),
    Images(Images<'static>),
}

/// Quantizes a model, writes it, and compares it where `--eval` is given.
pub(super) fn run(session: &Session, args: &QuantizeArgs) -> Result<()> {
    let read = [&args.stats, &args.dataset.labels, &args.dataset.classes].into_iter().flatten().cloned();
    let inputs: Vec<PathBuf> = args.model.inputs().into_iter().chain(args.method.inputs()).chain(read).collect();
    let output = ModelOutput::quantized(&args.output, &args.onnx, inputs.clone())?;
    let files = Files { inputs, output: Some(output.path().to_owned()), force: Some(args.output.force) };
    session.begin_profile(&args.profile, &files)?;
    if args.dataset.labels.is_some() && args.eval.is_none() {
        return Err(
            Error::usage("--labels names the classes of evaluation images, and there are none").hint("add --eval DIR")
        );
    }
    if args.stats.is_some() && args.method.rounding.0 == Some(Rounding::SecondOrder) {
        return Err(Error::usage("--rounding second-order needs images, statistics do not have what it sums")
            .hint("give --images DIR in place of --stats, or round to nearest"));
    }
    if args.stats.is_some() && args.method.bias_correction {
        return Err(Error::usage("--bias-correction needs images, statistics do not have what layers give")
            .hint("give --images DIR in place of --stats, or leave biases as they are"));
    }
    let model = session.load(&args.model.model, &args.model.options())?;
    let model = named(model, args.dataset.classes.as_deref())?.with_decode(args.dataset.decode.unwrap_or_default());
    tell_preprocessing(session, &model);
    // Everything that can be found wrong with the inputs is found before the long work begins.
    let quantizer = args.method.quantizer()?;
    quantizer.check_for(&model)?;
    let statistics = match (&args.images, &args.stats) {
        (Some(folder), _) => Statistics::Images(plain_images(session, folder, args.limit)?),
        (None, Some(path)) => Statistics::Saved(load_statistics(path, &model)?),
        (None, None) => return Err(Error::usage("neither --images nor --stats was given")),
    };
    let labels = args.dataset.labels.as_deref();
    let evaluated = match &args.eval {
        Some(folder) => Some(evaluation_images(session, folder, labels, model.classes().as_ref(), args.eval_limit)?),
        None => None,
    };
    let images = match &statistics {
        Statistics::Images(images) => Some(images),
        Statistics::Saved(_) => None,
    };
    images.into_iter().chain(&evaluated).try_for_each(|images| output.check_apart_from(images))?;
    let needed = evaluated.is_some() || matches!(statistics, Statistics::Images(_));
    let device = open(session, needed)?;
    let reading = Reading { skip_bad: args.dataset.skip_bad_images, batch_size: args.dataset.batch_size };
    let calibration = match statistics {
        Statistics::Saved(calibration) => calibration,
        Statistics::Images(images) => Calibration::collect_with(&device, &model, reading.of(images), session)?,
    };
    session.list_skipped(calibration.run());

    let chosen = match &args.images {
        Some(folder) => {
            let images = reading.of(limited(Images::folder(folder)?, args.limit));
            quantizer.quantize_on(&device, &model, &calibration, images, session)?
        }
        None => quantizer.quantize_with(&model, &calibration, session)?,
    };
    chosen.decisions().iter().for_each(|decision| session.bars.note(decision));
    let unsplit = match evaluated {
        Some(_) => {
            let plain = quantizer.clone().split(SplitMode::None).split_support(None).rounding(Rounding::Nearest);
            let plain = plain.bias_correction(false);
            let method = chosen.options()["threshold"].as_str().and_then(|method| method.parse::<Method>().ok());
            Some(plain.threshold(method).quantize_with(&model, &calibration, session)?)
        }
        None => None,
    };
    output.write_quantized(&chosen)?;

    let mut contenders: Vec<Contender<'_>> =
        unsplit.iter().map(|network| Contender { name: UNSPLIT, network, layers: false }).collect();
    contenders.push(Contender { name: CHOSEN, network: &chosen, layers: true });
    let mut report = match (evaluated, &args.images) {
        (Some(images), _) => {
            let evaluation = Evaluation::of(&device, Some(&model), &contenders, reading.of(images), session)?;
            session.list_skipped(Some(evaluation.run()));
            evaluation.report()
        }
        // So that a broken result is not written without a word.
        (None, Some(folder)) => {
            let images = limited(Images::folder(folder)?, args.limit).limit(MEASURED);
            let mut report = Evaluation::of(&device, Some(&model), &contenders, reading.of(images), session)?.report();
            session.bars.note(&format!(
                "without --eval: compared with the float network on {} of the calibration images",
                report.images.evaluation
            ));
            // They were counted when they were calibrated on.
            report.images.skipped = 0;
            report
        }
        (None, None) => {
            session.bars.note("not measured: statistics alone have no images; --eval DIR compares the networks");
            repquant::Report::of(&device, Some(&model), &contenders)?
        }
    };
    report.add_calibration(&calibration);
    session.finish_report(&mut report, &device)?;
    session.print_report(&report)?;
    warn(session, &report);
    if !session.common.json {
        session.bars.note(&format!("written to {}", output.path().display()));
    }
    Ok(())
}

/// The device asked for; statistics alone need none, so the Cpu device serves unless another was
/// named.
fn open(session: &Session, needed: bool) -> Result<Device> {
    if needed || session.device.device != DeviceChoice::Auto {
        session.device()
    } else {
        Device::open(&DeviceOptions { choice: DeviceChoice::Cpu, ..session.device_options()? })
    }
}
