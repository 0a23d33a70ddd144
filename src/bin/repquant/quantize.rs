//! `repquant quantize`.

use std::path::{Path, PathBuf};

use super::args::QuantizeArgs;
use super::model_output::ModelOutput;
use super::profiling::Files;
use super::session::{Reading, Session, batches, calibration_set, evaluation_set, note_decoding};
use repquant::calibrate::{Calibration, stats_file};
use repquant::device::{Device, DeviceChoice};
use repquant::evaluate::Evaluation;
use repquant::images::Dataset;
use repquant::model::Graph;
use repquant::pipeline::{Made, Pipeline, Variant, load_and_fuse};
use repquant::quantize::{QuantizeOptions, SplitMode};
use repquant::report::{Images, Report, ResultRow, Seconds, layer_rows, peak_memory_bytes};
use repquant::{Error, Result};

/// The network that is written.
const CHOSEN: &str = "quantized";
/// The same without a split, for comparison.
const UNSPLIT: &str = "unsplit";

/// Quantizes a model, writes it, and compares it where `--eval` is given.
pub(super) fn run(session: &Session, args: &QuantizeArgs) -> Result<()> {
    let read = [&args.stats, &args.dataset.labels].into_iter().flatten().cloned();
    let inputs: Vec<PathBuf> = args.model.inputs().into_iter().chain(read).collect();
    let output = ModelOutput::quantized(&args.output, &args.onnx, inputs.clone())?;
    let files = Files { inputs, output: Some(output.path().to_owned()), force: Some(args.output.force) };
    session.begin_profile(&args.profile, &files)?;
    if args.dataset.labels.is_some() && args.eval.is_none() {
        return Err(
            Error::usage("--labels names the classes of evaluation images, and there are none").hint("add --eval DIR")
        );
    }
    let mut seconds = Seconds::default();
    let mut graph = load_and_fuse(&args.model.model, &args.model.options(), &mut seconds)?;
    graph.input.decode = args.dataset.decode.unwrap_or_default();
    // Everything that can be found wrong with the inputs is found before the long work begins.
    let weights = args.method.weights();
    weights.check()?;
    weights.check_layers(&graph)?;
    let calibration_images = args.images.as_deref().map(|folder| calibration_set(folder, args.limit)).transpose()?;
    let saved = args.stats.as_deref().map(|path| load_statistics(path, &graph)).transpose()?;
    let labels = args.dataset.labels.as_deref();
    let evaluation_images = match &args.eval {
        Some(folder) => {
            Some(evaluation_set(folder, labels, graph.classes.as_deref(), graph.class_count(), args.eval_limit)?)
        }
        None => None,
    };
    let device = open(session, calibration_images.is_some() || evaluation_images.is_some())?;
    let batch_size = args.dataset.batch_size.map(usize::from);
    let mut pipeline = Pipeline::new(&device, &graph, batch_size, seconds, &session.bars)?;
    let reading = Reading { skip_bad: args.dataset.skip_bad_images, batch_size: pipeline.batch_size };

    let mut images = Images::default();
    let calibration = match (saved, calibration_images) {
        (Some(calibration), _) => calibration,
        (None, Some(dataset)) => calibrate(session, &mut pipeline, dataset, &reading, &mut images)?,
        (None, None) => return Err(Error::usage("neither --images nor --stats was given")),
    };
    images.calibration = calibration.images;
    let ranges = args.method.ranges();
    let variant = |name: &str, weights: QuantizeOptions| Variant { name: name.into(), ranges: ranges.clone(), weights };
    let mut made = Vec::new();
    if evaluation_images.is_some() {
        let plain = QuantizeOptions { split: SplitMode::None, support: None, ..weights.clone() };
        made.push(pipeline.quantize(&calibration, variant(UNSPLIT, plain))?);
    }
    made.push(pipeline.quantize(&calibration, variant(CHOSEN, weights))?);
    let chosen = &made[made.len() - 1];
    output.write_quantized(&chosen.graph)?;

    let evaluations = match evaluation_images {
        Some(dataset) => evaluate(session, &mut pipeline, dataset, &reading, &made, &mut images)?,
        None => Vec::new(),
    };
    let mut report = report(session, &pipeline, &made, &evaluations, images);
    report.profile = session.finish_profile(&device)?;
    session.print_report(&report)?;
    if !session.common.json {
        session.bars.note(&format!("written to {}", output.path().display()));
    }
    Ok(())
}

/// The device asked for; statistics alone need none, so the Cpu device serves unless another was named.
fn open(session: &Session, needed: bool) -> Result<Device> {
    if needed || session.common.device != DeviceChoice::Auto {
        session.device()
    } else {
        Device::open(&DeviceChoice::Cpu, session.common.backends())
    }
}

fn load_statistics(path: &Path, graph: &Graph) -> Result<Calibration> {
    let calibration = stats_file::read(path)?;
    calibration.check_graph(graph).map_err(|e| e.at(path.display()))?;
    Ok(calibration)
}

fn calibrate(
    session: &Session,
    pipeline: &mut Pipeline<'_>,
    dataset: Dataset,
    reading: &Reading,
    images: &mut Images,
) -> Result<Calibration> {
    let total = dataset.items.len() as u64;
    let mut batches = batches(dataset, &pipeline.graph.input, reading);
    let calibration = pipeline.calibrate(&mut batches, Some(total))?;
    note_decoding(&mut pipeline.throughput.calibrate, &batches);
    session.list_skipped(batches.skipped());
    images.skipped += batches.skipped().len() as u64;
    Ok(calibration)
}

fn evaluate(
    session: &Session,
    pipeline: &mut Pipeline<'_>,
    dataset: Dataset,
    reading: &Reading,
    made: &[Made],
    images: &mut Images,
) -> Result<Vec<Evaluation>> {
    let total = dataset.items.len() as u64;
    let mut batches = batches(dataset, &pipeline.graph.input, reading);
    let evaluations = pipeline.evaluate(made, CHOSEN, &mut batches, Some(total))?;
    note_decoding(&mut pipeline.throughput.evaluate, &batches);
    session.list_skipped(batches.skipped());
    images.skipped += batches.skipped().len() as u64;
    images.evaluation = evaluations.first().map_or(0, |e| e.images);
    Ok(evaluations)
}

/// The report of a run; `evaluations` holds the float network first, then one entry for each of `made`, or nothing.
pub(super) fn report(
    session: &Session,
    pipeline: &Pipeline<'_>,
    made: &[Made],
    evaluations: &[Evaluation],
    images: Images,
) -> Report {
    let mut results = vec![ResultRow::float(pipeline.graph, evaluations.first())];
    for (i, m) in made.iter().enumerate() {
        let bits = (m.variant.weights.weight_bits, m.variant.ranges.bits);
        results.push(ResultRow::quantized(&m.variant.name, &m.graph, bits, evaluations.get(i + 1)));
    }
    let chosen = made.iter().position(|m| m.variant.name == CHOSEN);
    let layers = chosen.map_or_else(Vec::new, |i| layer_rows(&made[i].graph, evaluations.get(i + 1)));
    let seconds = Seconds { total: session.elapsed(), ..pipeline.seconds };
    Report {
        model: pipeline.graph.name.clone(),
        device: pipeline.device.info().clone(),
        images,
        results,
        layers,
        seconds,
        throughput: pipeline.throughput,
        second_device: None,
        profile: None,
        peak_memory_bytes: peak_memory_bytes(),
    }
}
