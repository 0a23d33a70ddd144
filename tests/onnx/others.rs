//! Networks that others made (`tests/networks/networks.py`), from the folder that
//! `REPQUANT_NETWORKS` names: each is read, compared with ONNX Runtime, quantized, and written in
//! both forms. What is found is printed as the rows of docs/networks.md.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use repquant::Device;
use repquant::internals::Random;
use repquant::internals::calibrate::calibrate;
use repquant::internals::evaluate::{Contender, Fidelity, evaluate};
use repquant::internals::exec::{FloatNet, Keep};
use repquant::internals::export::onnx::{Format, InputForm, quantized};
use repquant::internals::fuse;
use repquant::internals::images::{Batch, BatchOptions, Batches, Dataset};
use repquant::internals::load::LoadOptions;
use repquant::internals::model::Graph;
use repquant::internals::quantize::{QuantizeOptions, quantize};
use repquant::internals::threshold::{RangeOptions, choose};
use repquant::progress::Silent;

use crate::common::{skipped, test_data};
use crate::compare::{assert_same_integers, normalized, planes};
use crate::runtime::Runtime;

/// How far a value may be from ONNX Runtime's, as a part of the largest.
const TOLERANCE: f64 = 1e-4;

/// Images, preprocessed as the network wants them: those of a folder, or noise where there is none.
fn images(graph: &Graph, folder: Option<&Path>, skip: usize, count: usize) -> Batch {
    let Some(folder) = folder else {
        let (mut random, mut noise) = (Random::new(skip as u64), Batch::empty(graph.input.size));
        let colours = if graph.input.mean.len() == 1 { 0xFF } else { 0x00FF_FFFF };
        for image in 0..count {
            let pixels = noise.size[0] * noise.size[1];
            let pixels: Vec<u32> = (0..pixels).map(|_| random.next_u64() as u32 & colours).collect();
            noise.push(format!("noise {image}"), None, &pixels).unwrap();
        }
        return noise;
    };
    let items = Dataset::unlabelled(folder).unwrap().items.into_iter().skip(skip).take(count).collect();
    let options = BatchOptions { batch_size: count, skip_bad: false, threads: None };
    Batches::new(items, &graph.input, options).next().unwrap().unwrap()
}

/// One network: what the table says of it, or what went wrong.
fn tried(path: &Path, photos: Option<&Path>, runtime: &mut Runtime) -> Result<String, String> {
    let graph = fuse::read(path, &LoadOptions::default()).map_err(|e| format!("not read: {e}"))?;
    let (device, names): (_, Vec<String>) = (Device::cpu(), graph.outputs.iter().map(|o| o.name.clone()).collect());
    let test = images(&graph, photos, 24, 2);
    let answer = runtime.run_floats(path, &normalized(&graph, &test), test.count, &names);
    let net = FloatNet::new(&device, &graph, test.count, Keep::Last).map_err(|e| e.to_string())?;
    net.run(&test).map_err(|e| e.to_string())?;
    let own = net.outputs(test.count).map_err(|e| e.to_string())?;
    let mut apart: f64 = 0.0;
    for (output, own) in names.iter().zip(&own) {
        // Places are int64 in the file.
        let (own, theirs) = (own.concat(), answer.numbers(output));
        if own.len() != theirs.len() {
            return Err(format!("{output} has {} values, {} in ONNX Runtime", own.len(), theirs.len()));
        }
        let largest = theirs.iter().fold(1e-30, |m: f64, v| m.max(v.abs()));
        let worst = own.iter().zip(&theirs).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
        apart = apart.max(worst / largest);
    }
    // A few at a time, so that large networks fit.
    let calibration: Vec<Batch> = images(&graph, photos, 0, 24).split(8).collect();
    let mut batches = calibration.into_iter().map(Ok);
    let calibration = calibrate(&device, &graph, &mut batches, 8, None, &Silent).map_err(|e| e.to_string())?;
    let ranges = choose(&calibration, &RangeOptions::default()).map_err(|e| e.to_string())?;
    let made = quantize(&graph, &ranges, &calibration, &QuantizeOptions::default()).map_err(|e| e.to_string())?;
    let contender = Contender { name: "quantized", graph: &made, layers: false };
    let mut batches = images(&graph, photos, 24, 16).split(8).map(Ok).collect::<Vec<_>>().into_iter();
    let found = evaluate(&device, Some(&graph), &[contender], &mut batches, 8, None, &Silent);
    let found = found.map_err(|e| e.to_string())?;
    let decibels = |fidelity: &Fidelity| fidelity.sqnr_db().map_or_else(|| "-".into(), |db| format!("{db:.1}"));
    let outputs: Vec<String> = found[1].outputs.iter().map(|output| decibels(&output.fidelity)).collect();
    // The QDQ form loads and gives outputs of the same sizes; the integer form gives the same bits.
    let qdq = quantized(&made, Format::Qdq, InputForm::Pixels).map_err(|e| format!("QDQ: {e}"))?;
    runtime.run(&qdq, InputForm::Pixels, &planes(&test, graph.input.channels()), test.count, &names);
    assert_same_integers(&graph.name, &made, &test, runtime);
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let row = format!("| {name} | {} | {apart:.0e} | {} | yes |", graph.nodes.len(), outputs.join(", "));
    if apart <= TOLERANCE { Ok(row) } else { Err(format!("{row} off by {apart:e}")) }
}

#[test]
fn networks_of_others() {
    let Some(folder) = std::env::var_os("REPQUANT_NETWORKS").map(PathBuf::from) else {
        return skipped("REPQUANT_NETWORKS is not set; `make test-networks` makes the networks");
    };
    let Some(mut runtime) = Runtime::start() else { return };
    let photos = test_data().map(|data| data.join("data/photos"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "onnx"));
    files.sort();
    assert!(!files.is_empty(), "{} holds no networks", folder.display());
    println!("| network | nodes | float, off by | W8A8, dB | the same integers |\n| --- | --- | --- | --- | --- |");
    let mut wrong = Vec::new();
    for path in &files {
        // Pictures for this network alone lie beside it, in a folder of its name.
        let own = Some(path.with_extension("")).filter(|own| own.is_dir());
        let pictures = own.as_deref().or(photos.as_deref());
        let run = catch_unwind(AssertUnwindSafe(|| tried(path, pictures, &mut runtime)));
        match run.unwrap_or_else(|panic| Err(said(&*panic))) {
            Ok(row) => println!("{row}"),
            Err(error) => {
                println!("{}: {error}", path.display());
                wrong.push(format!("{}: {error}", path.display()));
                // A process that stopped in the middle of an answer has no more to give.
                runtime = Runtime::start().unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), files.len());
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").to_owned()
}
