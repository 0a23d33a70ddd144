//! `repquant calibrate`.

use std::path::Path;

use repquant::profile::Summary;
use repquant::report::{ActivationRow, Run, Throughput, columns, throughput_lines};
use repquant::{Calibration, Result};
use serde::Serialize;

use super::args::CalibrateArgs;
use super::image_sets::{Reading, plain_images, tell_preprocessing};
use super::profiling::Files;
use super::session::{Session, print, print_json, statistics_output};

#[derive(Serialize)]
struct Document {
    images: u64,
    skipped: usize,
    activations: Vec<ActivationRow>,
    output: String,
    #[serde(flatten)]
    run: Option<RunDocument>,
}

/// How a run went.
#[derive(Serialize)]
struct RunDocument {
    throughput: Throughput,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Summary>,
}

/// Collects histograms and writes them.
pub(super) fn run(session: &Session, args: &CalibrateArgs) -> Result<()> {
    let output = statistics_output(&args.output, args.model.inputs())?;
    let files =
        Files { inputs: args.model.inputs(), output: Some(output.path().to_owned()), force: Some(args.output.force) };
    session.begin_profile(&args.profile, &files)?;
    let model = session.load(&args.model.model, &args.model.options())?.with_decode(args.decode.unwrap_or_default());
    tell_preprocessing(session, &model);
    let images = plain_images(session, &args.images, args.limit)?;
    output.check_apart_from(images.files())?;
    let device = session.device()?;
    let images = Reading { skip_bad: args.skip_bad_images, batch_size: args.batch_size }.of(images);
    let calibration = Calibration::collect_with(&device, &model, images, session)?;
    session.list_skipped(calibration.run());
    output.write(&calibration.to_bytes()?)?;
    let profile = session.finish_profile(&device)?;
    summarize(session, &calibration, output.path(), profile.as_ref())
}

/// Prints what statistics hold, and how the run went that made them.
pub(super) fn summarize(
    session: &Session,
    calibration: &Calibration,
    path: &Path,
    profile: Option<&Summary>,
) -> Result<()> {
    let run = |run: &Run| RunDocument {
        throughput: Throughput { calibrate: Some(run.pace), evaluate: None },
        profile: profile.cloned(),
    };
    let document = Document {
        images: calibration.images(),
        skipped: calibration.run().map_or(0, |run| run.skipped.len()),
        activations: calibration.activations(),
        output: path.display().to_string(),
        run: calibration.run().map(run),
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
    session.print_profile(profile);
    Ok(())
}
