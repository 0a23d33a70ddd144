//! The node cases of the onnx package, as networks of images (`nodes.py`): each is read and gives
//! the case's outputs on every device, or is refused and listed with the reason in `nodes.md`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use repquant::Device;
use repquant::internals::exec::{FloatNet, Keep};
use repquant::internals::export::onnx::{self, InputForm};
use repquant::internals::load::onnx::read_bytes;
use repquant::internals::model::{Graph, Shape};
use repquant::internals::write;
use serde::Deserialize;

use crate::common::{devices, reference, skipped};

/// How far a result may be from the expected one, as a part of the largest.
const TOLERANCE: f64 = 1e-5;

/// A form of a case.
#[derive(Deserialize)]
struct Entry {
    case: String,
    form: String,
    /// Why there is no network.
    cannot: Option<String>,
    file: Option<String>,
    #[serde(default)]
    images: usize,
    /// What gives the case's outputs for the network, too.
    checked: Option<String>,
    image: Option<Tensor>,
    #[serde(default)]
    outputs: Vec<Tensor>,
}

/// Where the values of a tensor begin, and its sides without the batch.
#[derive(Deserialize)]
struct Tensor {
    begin: usize,
    sides: Vec<usize>,
}

impl Tensor {
    /// The values for each image.
    fn rows<'a>(&self, values: &'a [f32], images: usize) -> Vec<&'a [f32]> {
        let size: usize = self.sides.iter().product();
        values[self.begin..self.begin + images * size].chunks_exact(size).collect()
    }
}

/// What `nodes.md` lists: the reason for each form of a case.
fn listed() -> BTreeMap<(String, String), String> {
    let mut reasons = BTreeMap::new();
    let mut reason = String::new();
    for line in include_str!("nodes.md").lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut reason);
        }
        let Some((form, names)) = line.strip_prefix("- ").and_then(|line| line.split_once(": ")) else { continue };
        for name in names.split_whitespace() {
            let before = reasons.insert((name.to_owned(), form.to_owned()), reason.clone());
            assert!(before.is_none(), "{name} ({form}) is listed twice");
        }
    }
    reasons
}

/// Makes the networks; None (and a word about it) where `REPQUANT_PYTHON` names no Python.
fn made(folder: &Path) -> Option<(Vec<Entry>, Vec<f32>)> {
    let Some(python) = std::env::var_os("REPQUANT_PYTHON") else {
        skipped("REPQUANT_PYTHON is not set; `make test` makes one with the onnx package");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/nodes.py");
    let done = Command::new(python).arg(script).arg(folder).output().expect("the Python of REPQUANT_PYTHON starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let values = std::fs::read(folder.join("values")).unwrap();
    let values = values.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Some((serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap(), values))
}

/// The words of activations on a device: NHWC with channels in fours.
fn words(x: &[f32], shape: Shape) -> Vec<u32> {
    let channels = shape.padded_channels();
    let mut words = vec![0; shape.pixels() * channels];
    for (at, value) in x.iter().enumerate() {
        words[at % shape.pixels() * channels + at / shape.pixels()] = value.to_bits();
    }
    words
}

/// The outputs for one image; its values are written where the input's normalization would leave
/// them.
fn run(device: &Device, graph: &Graph, x: &[f32]) -> repquant::Result<Vec<Vec<f64>>> {
    let net = FloatNet::new(device, graph, 1, Keep::Last)?;
    write(device, net.activation(0), &words(x, graph.shapes()[0])).unwrap();
    let mut rec = device.recorder();
    for node in 1..net.len() {
        net.record(&mut rec, 1, node)?;
    }
    rec.submit()?;
    Ok(net.outputs(1)?.into_iter().map(|mut rows| rows.remove(0)).collect())
}

/// What is wrong with the outputs of one image.
fn wrong(place: &str, found: &[Vec<f64>], expected: &[&[f32]]) -> Option<String> {
    found.iter().zip(expected).enumerate().find_map(|(index, (found, expected))| {
        let most = expected.iter().fold(1e-3, |m, v| f64::max(m, f64::from(v.abs())));
        let differs = |(f, e): (&f64, &f32)| (f - f64::from(*e)).abs();
        let error = found.iter().zip(*expected).map(differs).fold(0.0, f64::max) / most;
        let fits = found.len() == expected.len() && error <= TOLERANCE;
        (!fits).then(|| format!("{place}, output {index}: off by {error:e} of the largest"))
    })
}

/// Reads and runs a form of a case.
///
/// # Errors
/// Why it is refused; a wrong result is no error but a failure, told in `failures`.
fn outcome(
    entry: &Entry,
    values: &[f32],
    folder: &Path,
    devices: &[Device],
    failures: &mut Vec<String>,
) -> Result<(), String> {
    let (Some(file_name), Some(image)) = (&entry.file, &entry.image) else {
        return Err(entry.cannot.clone().unwrap_or_default());
    };
    let graph = read_bytes(file_name, &std::fs::read(folder.join(file_name)).unwrap()).map_err(|e| e.to_string())?;
    let name = format!("{} ({})", entry.case, entry.form);
    if entry.checked.is_none() {
        failures.push(format!("{name}: its network was not checked"));
    }
    let sides: Vec<&[usize]> = graph.outputs.iter().map(|output| output.sides.as_slice()).collect();
    let expected: Vec<&[usize]> = entry.outputs.iter().map(|output| output.sides.as_slice()).collect();
    if sides != expected {
        failures.push(format!("{name}: expected outputs of {expected:?}, got {sides:?}"));
        return Ok(());
    }
    // What is written of it is the same network again.
    let written = onnx::float(&graph, InputForm::Normalized).and_then(|file| read_bytes(file_name, &file.bytes));
    let written = written.map_err(|e| failures.push(format!("{name}, written: {e}"))).ok();
    let expected: Vec<Vec<&[f32]>> = entry.outputs.iter().map(|output| output.rows(values, entry.images)).collect();
    for (row, x) in image.rows(values, entry.images).into_iter().enumerate() {
        let expected: Vec<&[f32]> = expected.iter().map(|rows| rows[row]).collect();
        let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let plain = |graph| reference::outputs(graph, &wide);
        failures.extend(wrong(&format!("{name}, image {row}, in f64"), &plain(&graph), &expected));
        if let Some(written) = &written {
            failures.extend(wrong(&format!("{name}, image {row}, written and read"), &plain(written), &expected));
        }
        for device in devices {
            let place = format!("{name}, image {row}, {}", device.info().name);
            match run(device, &graph, x) {
                Ok(found) => failures.extend(wrong(&place, &found, &expected)),
                Err(error) => failures.push(format!("{place}: {error}")),
            }
        }
    }
    Ok(())
}

#[test]
fn node_cases_pass_or_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let Some((entries, values)) = made(folder.path()) else { return };
    let (mut reasons, devices, mut failures) = (listed(), devices(), Vec::new());
    let mut passed = 0;
    for entry in &entries {
        let key = (entry.case.clone(), entry.form.clone());
        let outcome = outcome(entry, &values, folder.path(), devices, &mut failures);
        match (outcome, reasons.remove(&key)) {
            (Ok(()), None) => passed += 1,
            (Err(_), Some(_)) => {}
            (Ok(()), Some(reason)) => {
                failures.push(format!("{} ({}) is read now, but listed: {reason}", entry.case, entry.form));
            }
            (Err(error), None) => failures.push(format!("{} ({}) is refused: {error}", entry.case, entry.form)),
        }
    }
    failures.extend(reasons.keys().map(|(case, form)| format!("{case} ({form}) is listed, but there is no such case")));
    assert!(failures.is_empty(), "{passed} of {} pass, but:\n{}", entries.len(), failures.join("\n"));
    assert!(passed > 300, "{passed} of {} pass", entries.len());
}
