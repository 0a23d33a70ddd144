//! What every command needs: the common flags, the device, printing, image sets.

use std::cell::{Cell, OnceCell};
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use repquant::files::OutputFile;
use repquant::options::{DeviceOptions, Instructions, LoadOptions};
use repquant::profile::Summary;
use repquant::progress::{Event, Progress, Stage};
use repquant::report::{self, Report, Run, Seconds};
use repquant::{Calibration, Device, Error, Model, Result};
use serde::Serialize;

use super::args::{Common, DeviceArgs, OutputArgs, ProfileArgs};
use super::bars::Bars;
use super::profiling::{Files, Profiling};

/// Names the best instruction set that the Cpu device may use, where the processor has it.
const CPU_VARIABLE: &str = "REPQUANT_CPU";

/// Set to 1, shaders keep wgpu's bounds checks, loop bounding and zeroed workgroup memory.
const CHECKS_VARIABLE: &str = "REPQUANT_SHADER_CHECKS";

/// The instruction set that [`CPU_VARIABLE`] names.
fn instructions(value: &OsStr) -> Result<Instructions> {
    let set = value.to_str().and_then(|text| text.parse().ok());
    set.ok_or_else(|| {
        let names = Instructions::ALL.map(|set| set.to_string()).join(", ");
        Error::usage(format!("{CPU_VARIABLE} is `{}`", value.display())).hint(format!("it can be {names}"))
    })
}

/// One run of a command.
pub(super) struct Session {
    /// Flags of every command.
    pub common: Common,
    /// Where to run.
    pub device: DeviceArgs,
    /// Progress bars and notes.
    pub bars: Bars,
    profiling: OnceCell<Profiling>,
    start: Instant,
    /// When the stage that runs began.
    stage: Cell<Instant>,
    /// Where the time went that no run over images knows.
    seconds: Cell<Seconds>,
}

impl Progress for Session {
    fn event(&self, event: Event) {
        let now = Instant::now();
        let mut seconds = self.seconds.get();
        match event {
            Event::Begin { .. } => self.stage.set(now),
            Event::End { stage: Stage::Threshold } => seconds.threshold += (now - self.stage.get()).as_secs_f64(),
            Event::End { stage: Stage::Quantize } => seconds.quantize += (now - self.stage.get()).as_secs_f64(),
            _ => {}
        }
        self.seconds.set(seconds);
        self.bars.event(event);
    }
}

impl Session {
    /// Takes the common flags, and those that say where to run.
    pub(super) fn new(common: Common, device: DeviceArgs) -> Self {
        let draw = !common.no_progress && !common.json && std::io::stderr().is_terminal();
        let bars = Bars::new(draw, common.quiet);
        let start = Instant::now();
        let (stage, seconds) = (Cell::new(start), Cell::default());
        Self { common, device, bars, profiling: OnceCell::new(), start, stage, seconds }
    }

    /// Reads a float model, and takes the time.
    ///
    /// # Errors
    /// Those of [`Model::load_with`].
    pub(super) fn load(&self, path: &Path, options: &LoadOptions) -> Result<Model> {
        self.loading(|| Model::load_with(path, options))
    }

    /// Takes the time of something that loads a model.
    pub(super) fn loading<T>(&self, load: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let loaded = load();
        let mut seconds = self.seconds.get();
        seconds.load += start.elapsed().as_secs_f64();
        self.seconds.set(seconds);
        loaded
    }

    /// The device asked for, as flags and environment say.
    ///
    /// # Errors
    /// If [`CPU_VARIABLE`] names no instruction set.
    pub(super) fn device_options(&self) -> Result<DeviceOptions> {
        let instructions = match std::env::var_os(CPU_VARIABLE) {
            None => None,
            Some(value) => Some(instructions(&value)?),
        };
        Ok(DeviceOptions {
            choice: self.device.device.clone(),
            backends: self.device.adapters.backends(),
            instructions,
            checks: std::env::var(CHECKS_VARIABLE).is_ok_and(|value| value == "1"),
            profile: self.profiling.get().map(|profiling| Arc::clone(&profiling.profile)),
        })
    }

    /// Opens the device asked for and says which it is and why.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn device(&self) -> Result<Device> {
        let device = Device::open(&self.device_options()?)?;
        let info = device.info();
        self.bars.note(&format!("device: {} ({}): {}", info.name, info.backend, info.reason));
        Ok(device)
    }

    /// Begins to take time, where that is asked for: before anything else, so that every stage is
    /// seen.
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

    /// Adds to a report what the command alone knows: the time of other stages, and the profile,
    /// which is written.
    ///
    /// # Errors
    /// Those of [`Session::finish_profile`].
    pub(super) fn finish_report(&self, report: &mut Report, device: &Device) -> Result<()> {
        report.profile = self.finish_profile(device)?;
        self.add_seconds(&mut report.seconds);
        Ok(())
    }

    /// Adds the time of the stages that no run over images knows, and of all of it.
    pub(super) fn add_seconds(&self, seconds: &mut Seconds) {
        let own = self.seconds.get();
        seconds.load += own.load;
        seconds.threshold += own.threshold;
        seconds.quantize += own.quantize;
        seconds.total = self.start.elapsed().as_secs_f64();
    }

    /// Prints the tables of a profile on stderr, where there is one; with --json the document has
    /// it.
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
        let report::Images { calibration, evaluation, skipped } = report.images;
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

    /// Lists the images that a run skipped.
    pub(super) fn list_skipped(&self, run: Option<&Run>) {
        const MOST: usize = 20;
        let Some(Run { skipped, .. }) = run.filter(|run| !run.skipped.is_empty()) else { return };
        self.bars.note(&format!("skipped {} bad images:", skipped.len()));
        for bad in skipped.iter().take(MOST) {
            self.bars.note(&format!("  {}: {}", bad.path.display(), bad.reason));
        }
        if skipped.len() > MOST {
            self.bars.note(&format!("  and {} more", skipped.len() - MOST));
        }
    }
}

/// Statistics of a file, which must be those of the model.
///
/// # Errors
/// If they cannot be read, or are of another model.
pub(super) fn load_statistics(path: &Path, model: &Model) -> Result<Calibration> {
    let calibration = Calibration::load(path)?;
    calibration.check(model).map_err(|e| e.at(path.display()))?;
    Ok(calibration)
}

/// Checks that the output can be written and is none of the files that the command reads.
///
/// # Errors
/// Those of [`OutputFile::check`].
pub(super) fn checked_output(args: &OutputArgs, inputs: impl IntoIterator<Item = PathBuf>) -> Result<OutputFile> {
    let inputs: Vec<PathBuf> = inputs.into_iter().collect();
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    OutputFile::check(&args.output, args.force, &inputs)
}

/// As [`checked_output`], for a statistics file.
///
/// # Errors
/// As [`checked_output`], or an ending that is not `.safetensors`.
pub(super) fn statistics_output(args: &OutputArgs, inputs: impl IntoIterator<Item = PathBuf>) -> Result<OutputFile> {
    let output = checked_output(args, inputs)?;
    if has_ending(output.path(), "safetensors") {
        return Ok(output);
    }
    Err(Error::usage(format!("{}: statistics are written as .safetensors", output.path().display()))
        .hint("end the name after -o in .safetensors"))
}

/// Whether a file name ends in `.ending`, in small or capital letters.
pub(super) fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_a_name_or_an_error() {
        for set in Instructions::ALL {
            assert_eq!(instructions(set.to_string().as_ref()).unwrap(), set);
        }
        let error = instructions("AVX-512".as_ref()).unwrap_err();
        assert_eq!(error.to_string(), "REPQUANT_CPU is `AVX-512`\n  it can be avx512, avx2, plain");
    }
}
