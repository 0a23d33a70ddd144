//! `repquant calibrate`.

use std::path::Path;

use serde::Serialize;

use super::args::CalibrateArgs;
use super::profiling::Files;
use super::session::{Reading, Session, batches, calibration_set, checked_output, note_decoding, print, print_json};
use repquant::Result;
use repquant::calibrate::{Calibration, stats_file};
use repquant::pipeline::{Pipeline, load_and_fuse};
use repquant::profile::Summary;
use repquant::report::{Seconds, Throughput, columns, throughput_lines};

#[derive(Serialize)]
struct Document {
    images: u64,
    skipped: usize,
    activations: Vec<Row>,
    output: String,
    #[serde(flatten)]
    run: Option<Run>,
}

/// How a run went.
#[derive(Serialize)]
pub(super) struct Run {
    throughput: Throughput,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Summary>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    exponent: i32,
    zeros: u64,
    min: f32,
    max: f32,
}

/// Collects histograms and writes them.
pub(super) fn run(session: &Session, args: &CalibrateArgs) -> Result<()> {
    let output = checked_output(&args.output, args.model.inputs())?;
    let files =
        Files { inputs: args.model.inputs(), output: Some(output.path().to_owned()), force: Some(args.output.force) };
    session.begin_profile(&args.profile, &files)?;
    let mut seconds = Seconds::default();
    let mut graph = load_and_fuse(&args.model.model, &args.model.options(), &mut seconds)?;
    graph.input.decode = args.decode.unwrap_or_default();
    let dataset = calibration_set(&args.images, args.limit)?;
    let device = session.device()?;
    let mut pipeline = Pipeline::new(&device, &graph, args.batch_size.map(usize::from), seconds, &session.bars)?;
    let total = dataset.items.len() as u64;
    let reading = Reading { skip_bad: args.skip_bad_images, batch_size: pipeline.batch_size };
    let mut batches = batches(dataset, &graph.input, &reading);
    let calibration = pipeline.calibrate(&mut batches, Some(total))?;
    note_decoding(&mut pipeline.throughput.calibrate, &batches);
    session.list_skipped(batches.skipped());
    output.write(&stats_file::to_bytes(&calibration)?)?;
    let run = Run { throughput: pipeline.throughput, profile: session.finish_profile(&device)? };
    summarize(session, &calibration, batches.skipped().len(), output.path(), Some(run))
}

/// Prints what statistics hold, and how the run went that made them.
pub(super) fn summarize(
    session: &Session,
    calibration: &Calibration,
    skipped: usize,
    path: &Path,
    run: Option<Run>,
) -> Result<()> {
    let rows = calibration.activations.iter().map(|a| Row {
        name: a.name.clone(),
        exponent: a.exponent,
        zeros: a.zeros,
        min: a.min,
        max: a.max,
    });
    let document = Document {
        images: calibration.images,
        skipped,
        activations: rows.collect(),
        output: path.display().to_string(),
        run,
    };
    if session.common.json {
        return print_json(&document);
    }
    if session.common.verbose {
        let rows: Vec<Vec<String>> = document
            .activations
            .iter()
            .map(|a| {
                vec![
                    a.name.clone(),
                    format!("2^{}", a.exponent),
                    a.zeros.to_string(),
                    format!("{:.4}", a.min),
                    format!("{:.4}", a.max),
                ]
            })
            .collect();
        print(&columns(&["activation", "bin width", "zeros", "min", "max"], &rows))?;
    }
    print(&format!(
        "{} images, {} activations, written to {}\n{}",
        document.images,
        document.activations.len(),
        document.output,
        document.run.as_ref().map_or_else(String::new, |run| throughput_lines(&run.throughput))
    ))?;
    session.print_profile(document.run.as_ref().and_then(|run| run.profile.as_ref()));
    Ok(())
}
