//! Writes the demo's pictures as PNG files in class folders.
//!
//! `cargo run --release --example draw_images -- DIR train|calibration|evaluation COUNT`

#[path = "../src/bin/repquant/drawings/mod.rs"]
#[allow(dead_code, reason = "the command uses the rest")]
mod drawings;

use std::path::Path;
use std::process::ExitCode;

use drawings::folder::{split_of, write_folder};
use repquant::{Error, Result};

fn run(arguments: &[String]) -> Result<()> {
    let [dir, split, count] = arguments else {
        return Err(Error::usage("three arguments are needed: DIR SPLIT COUNT")
            .hint("for example: draw_images /tmp/drawings evaluation 100"));
    };
    let count = count.parse().map_err(|e| Error::usage(format!("{count}: is not a count")).because(e))?;
    write_folder(Path::new(dir), split_of(split)?, count)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
