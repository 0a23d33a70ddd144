//! Calibrates on several folders at once, each in a thread and on a device of its own, and adds the
//! statistics: the sum is that of one run over all images, to the bit.
//!
//!     cargo run --release --example merge_statistics -- repvgg.safetensors monday/ tuesday/ both.safetensors
//!
//! The threads could be machines: what each writes with `Calibration::save` the next reads with
//! `Calibration::load`.

use std::process::ExitCode;
use std::thread;

use repquant::{Calibration, Device, Error, Images, Model, Result};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [model, folders @ .., output] = arguments else {
        return Err(Error::usage("arguments are needed: MODEL IMAGES IMAGES … OUTPUT.safetensors"));
    };
    let model = Model::load(model)?;
    let collect = |folder: &String| Calibration::collect(&Device::cpu(), &model, Images::folder(folder)?);
    let runs: Vec<Result<Calibration>> = thread::scope(|scope| {
        let threads: Vec<_> = folders.iter().map(|folder| scope.spawn(move || collect(folder))).collect();
        let failed = || Err(Error::check("a thread panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| failed())).collect()
    });
    let mut runs = runs.into_iter();
    let Some(mut all) = runs.next().transpose()? else {
        return Err(Error::usage("no folder of images is named"));
    };
    for run in runs {
        all.merge(&run?)?;
    }
    all.save(output)?;
    println!("{} images in {} folders, written to {output}", all.images(), folders.len());
    Ok(())
}

#[allow(dead_code, reason = "a test calls `run`")]
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
