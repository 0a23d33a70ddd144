//! What every command needs: the common flags, the device, printing, image sets.

use std::cell::OnceCell;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::args::{Common, OutputArgs, ProfileArgs};
use super::bars::Bars;
use super::profiling::{Files, Profiling};
use repquant::device::Device;
use repquant::images::{BatchOptions, Batches, Dataset, Skipped};
use repquant::model::Preprocessing;
use repquant::output::Output;
use repquant::profile::Summary;
use repquant::report::{self, Images, Pace, Report};
use repquant::{Error, Result};

/// One run of a command.
pub(super) struct Session {
    /// Flags of every command.
    pub common: Common,
    /// Progress bars and notes.
    pub bars: Bars,
    profiling: OnceCell<Profiling>,
    start: Instant,
}

/// How a command reads its images.
pub(super) struct Reading {
    /// Count and list bad images instead of stopping.
    pub skip_bad: bool,
    /// Images in a batch.
    pub batch_size: usize,
}

impl Session {
    /// Takes the common flags.
    pub(super) fn new(common: Common) -> Self {
        let draw = !common.no_progress && !common.json && std::io::stderr().is_terminal();
        let bars = Bars::new(draw, common.quiet);
        Self { common, bars, profiling: OnceCell::new(), start: Instant::now() }
    }

    /// Seconds since the command began.
    pub(super) fn elapsed(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Opens the device asked for and says which it is and why.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn device(&self) -> Result<Device> {
        let (choice, backends) = (&self.common.device, self.common.backends());
        let device = match self.profiling.get() {
            None => Device::open(choice, backends)?,
            Some(profiling) => Device::open_profiled(choice, backends, Arc::clone(&profiling.profile))?,
        };
        let info = device.info();
        self.bars.note(&format!("device: {} ({}): {}", info.name, info.backend, info.reason));
        Ok(device)
    }

    /// Begins to take time, where that is asked for: before anything else, so that every stage is seen.
    ///
    /// # Errors
    /// If the trace cannot be written where it should go.
    pub(super) fn begin_profile(&self, args: &ProfileArgs, files: &Files) -> Result<()> {
        if let Some(path) = &args.profile {
            let profiling = Profiling::begin(path, files)?;
            self.profiling.get_or_init(|| profiling);
        }
        Ok(())
    }

    /// Writes the trace and returns the totals, where time was taken.
    ///
    /// # Errors
    /// If the device failed or the trace cannot be written.
    pub(super) fn finish_profile(&self, device: &Device) -> Result<Option<Summary>> {
        self.profiling.get().map(|profiling| profiling.finish(device)).transpose()
    }

    /// Prints the tables of a profile on stderr, where there is one; with --json the document has it.
    pub(super) fn print_profile(&self, profile: Option<&Summary>) {
        if let (Some(profile), Some(profiling), false) = (profile, self.profiling.get(), self.common.json) {
            let tables = report::profile_tables(profile);
            self.bars.note(&format!("\n{tables}trace written to {}", profiling.path().display()));
        }
    }

    /// Prints a report as the flags ask: JSON, or the table (with -v the layers too).
    ///
    /// # Errors
    /// As [`print`].
    pub(super) fn print_report(&self, report: &Report) -> Result<()> {
        if self.common.json {
            return print_json(report);
        }
        let Images { calibration, evaluation, skipped } = report.images;
        let layers = (self.common.verbose && !report.layers.is_empty()).then(|| report::layer_table(report));
        let outputs = report::output_table(report);
        print(&format!(
            "{}{}{outputs}{}{}\n{calibration} images calibrated on, {evaluation} evaluated, {skipped} skipped; {:.1} s\n{}",
            report::result_table(report),
            if outputs.is_empty() { "" } else { "\n" },
            if layers.is_some() { "\n" } else { "" },
            layers.unwrap_or_default(),
            report.seconds.total,
            report::throughput_lines(&report.throughput)
        ))?;
        let noted = || report.layers.iter().filter(|layer| !layer.notes.is_empty());
        if self.common.verbose {
            for layer in noted() {
                self.bars.note(&format!("{}: {}", layer.name, layer.notes.join("; ")));
            }
        } else if noted().next().is_some() {
            self.bars.note(&format!("{} layers have notes (refusals, changes): -v shows them", noted().count()));
        }
        self.print_profile(report.profile.as_ref());
        Ok(())
    }

    /// Lists the images that were skipped.
    pub(super) fn list_skipped(&self, skipped: &[Skipped]) {
        const MOST: usize = 20;
        if skipped.is_empty() {
            return;
        }
        self.bars.note(&format!("skipped {} bad images:", skipped.len()));
        for bad in skipped.iter().take(MOST) {
            self.bars.note(&format!("  {}: {}", bad.path.display(), bad.reason));
        }
        if skipped.len() > MOST {
            self.bars.note(&format!("  and {} more", skipped.len() - MOST));
        }
    }
}

/// Checks that the output can be written and is none of the files that the command reads.
///
/// # Errors
/// Those of [`Output::check`].
pub(super) fn checked_output(args: &OutputArgs, inputs: impl IntoIterator<Item = PathBuf>) -> Result<Output> {
    let inputs: Vec<PathBuf> = inputs.into_iter().collect();
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    Output::check(&args.output, args.force, &inputs)
}

/// Prints text on stdout.
///
/// # Errors
/// If stdout cannot be written; a reader that has gone away is no error.
pub(super) fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::output("stdout", "could not be written").because(e))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON document on stdout.
///
/// # Errors
/// As [`print`].
pub(super) fn print_json(document: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|e| Error::output("stdout", "the result could not be written as JSON").because(e))?;
    print(&(text + "\n"))
}

/// Begins to decode a data set.
pub(super) fn batches(dataset: Dataset, preprocessing: &Preprocessing, reading: &Reading) -> Batches {
    let options = BatchOptions { batch_size: reading.batch_size, skip_bad: reading.skip_bad, threads: None };
    Batches::new(dataset.items, preprocessing, options)
}

/// Adds how long decoding waited to the pace of the stage that took the images.
pub(super) fn note_decoding(pace: &mut Option<Pace>, batches: &Batches) {
    if let Some(pace) = pace {
        pace.decoding_waited = Some(batches.decoding_waited().as_secs_f64());
    }
}

/// The images to calibrate on.
///
/// # Errors
/// If the folder is missing or has no images.
pub(super) fn calibration_set(folder: &Path, limit: Option<u32>) -> Result<Dataset> {
    Ok(limited(Dataset::unlabelled(folder)?, limit))
}

/// The images to evaluate on; for a network that is no classifier (`outputs` none) they have no labels.
///
/// # Errors
/// If the folder is missing or has no images, or classes do not match.
pub(super) fn evaluation_set(
    folder: &Path,
    labels: Option<&Path>,
    classes: Option<&[String]>,
    outputs: Option<usize>,
    limit: Option<u32>,
) -> Result<Dataset> {
    let Some(outputs) = outputs else {
        return match labels {
            None => Ok(limited(Dataset::unlabelled(folder)?, limit)),
            Some(labels) => Err(Error::usage(format!("--labels {}: the network is no classifier", labels.display()))
                .hint("without labels its outputs are compared with the float network's")),
        };
    };
    let dataset = Dataset::labelled(folder, labels, classes)?;
    // Without names of its own the network's classes are those of the folders: then the numbers must agree.
    let (folders, known) = (dataset.classes.as_ref().map_or(outputs, Vec::len), classes.is_some() || labels.is_some());
    if !known && folders != outputs {
        return Err(Error::input(folder, format!("{folders} class folders for a network with {outputs} outputs"))
            .hint("name the classes in the description, in the order of the outputs"));
    }
    if let Some(item) = dataset.items.iter().find(|item| item.label.is_some_and(|label| label >= outputs)) {
        let label = item.label.unwrap_or_default();
        return Err(Error::input(&item.path, format!("class number {label}; the network has {outputs} outputs")));
    }
    Ok(limited(dataset, limit))
}

fn limited(dataset: Dataset, limit: Option<u32>) -> Dataset {
    match limit {
        Some(n) => dataset.limit(n as usize),
        None => dataset,
    }
}
