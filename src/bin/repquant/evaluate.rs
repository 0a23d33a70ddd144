//! `repquant evaluate`.

use repquant::files::{self, FileKind, class_names};
use repquant::options::{Classes, Contender, Decode};
use repquant::{Error, Evaluation, Model, Quantized, Result};

use super::args::EvaluateArgs;
use super::image_sets::{Reading, evaluation_images, named, tell_preprocessing};
use super::profiling::Files;
use super::session::{Session, has_ending};
use super::warnings::warn;

/// What is measured.
enum Measured {
    Float(Box<Model>),
    Quantized { network: Box<Quantized>, baseline: Option<Box<Model>> },
}

/// Measures one model.
pub(super) fn run(session: &Session, args: &EvaluateArgs) -> Result<()> {
    let read = [&args.baseline, &args.dataset.labels, &args.dataset.classes].into_iter().flatten().cloned();
    let inputs = args.model.inputs().into_iter().chain(read).collect();
    session.begin_profile(&args.profile, &Files { inputs, output: None, force: None })?;
    let measured = load(session, args)?.for_decode(args.dataset.decode);
    let labels = args.dataset.labels.as_deref();
    let images = evaluation_images(session, &args.images, labels, measured.classes().as_ref(), args.limit)?;
    let device = session.device()?;
    let reading = Reading { skip_bad: args.dataset.skip_bad_images, batch_size: args.dataset.batch_size };
    let (model, network) = match &measured {
        Measured::Float(model) => (Some(&**model), None),
        Measured::Quantized { network, baseline } => (baseline.as_deref(), Some(&**network)),
    };
    let contenders: Vec<Contender<'_>> =
        network.map(|network| Contender { name: "quantized", network, layers: true }).into_iter().collect();
    let evaluation = Evaluation::of(&device, model, &contenders, reading.of(images), session)?;
    session.list_skipped(Some(evaluation.run()));
    let mut report = evaluation.report();
    if network.is_some() {
        // The float network is what the other is compared with; its own row is that of another
        // command.
        report.results.drain(..report.results.len() - 1);
        report.model = network.map_or_else(String::new, |network| network.name().to_owned());
    }
    session.finish_report(&mut report, &device)?;
    session.print_report(&report)?;
    warn(session, &report);
    Ok(())
}

fn load(session: &Session, args: &EvaluateArgs) -> Result<Measured> {
    let (path, classes) = (&args.model.model, args.dataset.classes.as_deref());
    if path.is_dir() || has_ending(path, "onnx") || files::kind(path)? != FileKind::Quantized {
        if args.baseline.is_some() {
            return Err(Error::usage(format!(
                "{}: is a float model, so --baseline has nothing to add",
                path.display()
            ))
            .hint("--baseline compares a quantized model with the float one it was made from"));
        }
        let model = session.load(path, &args.model.options())?;
        tell_preprocessing(session, &model);
        return Ok(Measured::Float(Box::new(named(model, classes)?)));
    }
    if args.baseline.is_none() && (args.model.describe.is_some() || args.model.arch.is_some()) {
        return Err(Error::usage(format!("{}: a quantized model describes itself", path.display()))
            .hint("--describe and --arch describe the float model given with --baseline"));
    }
    if args.baseline.is_none() {
        args.model.input.refuse(path)?;
    }
    let network = session.loading(|| Quantized::load(path))?;
    let network = Box::new(match classes {
        Some(file) => network.with_classes(class_names(file)?).map_err(|e| e.at(file.display()))?,
        None => network,
    });
    // `--describe`, `--arch` and the flags for its input describe the float model.
    let options = args.model.options();
    let baseline = args.baseline.as_deref().map(|path| session.load(path, &options)).transpose()?.map(Box::new);
    Ok(Measured::Quantized { network, baseline })
}

impl Measured {
    fn classes(&self) -> Option<Classes> {
        match self {
            Self::Float(model) => model.classes(),
            Self::Quantized { network, .. } => network.classes(),
        }
    }

    /// Sets how images are decoded: as asked for, else as the quantized model says.
    fn for_decode(self, choice: Option<Decode>) -> Self {
        match self {
            Self::Float(model) => Self::Float(Box::new(model.with_decode(choice.unwrap_or_default()))),
            Self::Quantized { network, baseline } => {
                let decode = choice.unwrap_or(network.input().decode);
                Self::Quantized {
                    network: Box::new(network.with_decode(decode)),
                    baseline: baseline.map(|model| Box::new(model.with_decode(decode))),
                }
            }
        }
    }
}
