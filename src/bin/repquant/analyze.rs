//! `repquant analyze`.

use repquant::report::{AnalysisReport, CureSetting, cost_table};
use repquant::{Analysis, Calibration, Images, Result};

use super::args::AnalyzeArgs;
use super::image_sets::{Reading, limited, plain_images, tell_preprocessing};
use super::profiling::Files;
use super::session::{Session, load_statistics, print, print_json};

/// Quantizes a model, says what each layer costs and what would help, and writes nothing.
pub(super) fn run(session: &Session, args: &AnalyzeArgs) -> Result<()> {
    let inputs = args.model.inputs().into_iter().chain(args.stats.clone()).chain(args.method.inputs()).collect();
    session.begin_profile(&args.profile, &Files { inputs, output: None, force: None })?;
    let model = session.load(&args.model.model, &args.model.options())?.with_decode(args.decode.unwrap_or_default());
    tell_preprocessing(session, &model);
    let quantizer = args.method.quantizer()?;
    quantizer.check_for(&model)?;
    let saved = args.stats.as_deref().map(|path| load_statistics(path, &model)).transpose()?;
    let images = plain_images(session, &args.images, args.limit)?;
    let reading = Reading { skip_bad: args.skip_bad_images, batch_size: args.batch_size };
    // Those calibrated on, or what is measured on of them.
    let again = |limit| Ok(reading.of(limited(limited(Images::folder(&args.images)?, args.limit), limit)));
    let device = session.device()?;
    let calibration = match saved {
        Some(calibration) => calibration,
        None => Calibration::collect_with(&device, &model, reading.of(images), session)?,
    };
    session.list_skipped(calibration.run());
    let quantized = quantizer.quantize_on(&device, &model, &calibration, again(None)?, session)?;
    quantized.decisions().iter().for_each(|decision| session.bars.note(decision));
    let made = (&quantizer, &calibration);
    let analysis = Analysis::of(&device, &model, &quantized, made, again(Some(args.eval_limit))?, session)?;
    let mut report = analysis.report();
    if calibration.run().is_some() {
        // They were counted when they were calibrated on.
        report.images.skipped = 0;
    }
    report.add_calibration(&calibration);
    for layer in &mut report.layers {
        for cure in &mut layer.cures {
            cure.flag = Some(flag(&layer.name, &cure.setting));
        }
    }
    report.profile = session.finish_profile(&device)?;
    session.add_seconds(&mut report.seconds);
    if session.common.json {
        return print_json(&report);
    }
    print(&text(&report, session.common.verbose))?;
    session.bars.note(&format!(
        "{} layers in {:.1} s, {:.1} times what running both networks once took; {:.1} s in all",
        report.layers.len(),
        report.layer_seconds,
        report.evaluations,
        report.seconds.total
    ));
    session.print_profile(report.profile.as_ref());
    Ok(())
}

/// A setting as flags of this program.
fn flag(layer: &str, setting: &CureSetting) -> String {
    // Such names are quoted, for shells.
    let plain = layer.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:+@".contains(c));
    let quoted = |word: String| if plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) };
    let flags = [
        setting.layer.map(|choice| {
            if choice.float {
                format!("--keep-float {}", quoted(layer.to_owned()))
            } else {
                format!("--layer {}", quoted(format!("{layer}={choice}")))
            }
        }),
        setting.threshold.as_ref().map(|method| format!("--threshold {method}")),
        setting.activations.as_ref().map(|mode| format!("--activations {mode}")),
        setting.activation_bits.map(|bits| format!("--activation-bits {bits}")),
    ];
    flags.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The tables, and what their columns are.
fn text(report: &AnalysisReport, verbose: bool) -> String {
    /// Layers that cost less are not listed, but with -v.
    const LEAST_SHARE: f64 = 0.001;
    /// So many are listed in any case.
    const LISTED: usize = 10;
    let mut shown = report.clone();
    let listed = report.layers.iter().filter(|row| row.share >= LEAST_SHARE).count().max(LISTED);
    if !verbose {
        shown.layers.truncate(listed);
    }
    let left_out = report.layers.len() - shown.layers.len();
    let more = match left_out {
        0 => String::new(),
        _ => format!("and {left_out} more, with less than 0.1 % of the noise each: -v lists them\n"),
    };
    let cures = if verbose { all_cures(report) } else { String::new() };
    format!(
        "{shown}{more}{cures}\n\
         Each layer alone in the float network: the least SQNR of the outputs with its weights quantized, what it reads,\n\
         and both; share: its part of the noise of all. What helps leaves so much, and costs so much of the file and so\n\
         many multiplications an image{}.\n",
        if verbose { "" } else { "; -v lists all that was tried and helps" },
    )
}

/// All that helps each layer, one line each.
fn all_cures(report: &AnalysisReport) -> String {
    // The table of a report whose layers have one cure each.
    let mut each = report.clone();
    let one = |row: &repquant::report::LayerCost| {
        let row = row.clone();
        let cures = row.cures.clone().into_iter();
        cures.map(move |cure| repquant::report::LayerCost { cures: vec![cure], ..row.clone() })
    };
    each.layers = report.layers.iter().flat_map(one).collect();
    if each.layers.is_empty() { String::new() } else { format!("\nAll that helps:\n\n{}", cost_table(&each)) }
}
