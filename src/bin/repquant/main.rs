//! The `repquant` command: one file for each subcommand. It uses the library's public names alone.

mod analyze;
mod args;
mod bars;
mod calibrate;
mod completions;
mod demo;
mod devices;
mod drawings;
mod evaluate;
mod export;
mod fuse;
mod image_sets;
mod input_args;
mod inspect;
mod merge;
mod method_args;
mod model_output;
mod profiling;
mod quantize;
mod session;
mod terms;
mod values;
mod verify;
mod warnings;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use repquant::Result;

use args::{Cli, Command};
use session::Session;

/// Reads the arguments, runs the command, prints its error, and returns its exit code.
fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever read stderr may have gone away; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "error: {}", terms::message(&error));
            ExitCode::from(terms::exit_code(error.kind()))
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let session = Session::new(cli.common, cli.command.device());
    match cli.command {
        Command::Demo(args) => demo::run(&session, &args),
        Command::Quantize(args) => quantize::run(&session, &args),
        Command::Calibrate(args) => calibrate::run(&session, &args),
        Command::Merge(args) => merge::run(&session, &args),
        Command::Evaluate(args) => evaluate::run(&session, &args),
        Command::Analyze(args) => analyze::run(&session, &args),
        Command::Fuse(args) => fuse::run(&session, &args),
        Command::Export(args) => export::run(&session, &args),
        Command::Inspect(args) => inspect::run(&session, &args),
        Command::Devices(_) => devices::run(&session),
        Command::Verify(_) => verify::run(&session),
        Command::Completions { shell } => completions::run(shell),
    }
}
