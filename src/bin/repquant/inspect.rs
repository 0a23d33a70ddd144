//! `repquant inspect`.

use repquant::files::{self, FileKind};
use repquant::report::{FloatLayer, LayerRow, NoteRow, columns};
use repquant::{Model, Quantized, Result};
use serde::Serialize;

use super::args::InspectArgs;
use super::session::{Session, has_ending, print, print_json};

#[derive(Serialize)]
struct FloatDocument {
    model: String,
    input: String,
    /// Null for a network that is no classifier.
    classes: Option<usize>,
    /// Name and sides of each output.
    outputs: Vec<String>,
    parameters: u64,
    macs: u64,
    layers: Vec<FloatLayer>,
    /// Branches that were not merged, and why; operations that others stand in for.
    notes: Vec<NoteRow>,
}

#[derive(Serialize)]
struct QuantizedDocument {
    model: String,
    weight_bytes: u64,
    macs: u64,
    overhead: f64,
    options: serde_json::Value,
    calibration: serde_json::Value,
    layers: Vec<LayerRow>,
}

/// Shows what a model is made of.
pub(super) fn run(session: &Session, args: &InspectArgs) -> Result<()> {
    let path = &args.model.model;
    if path.is_file() && !has_ending(path, "onnx") && files::kind(path)? == FileKind::Quantized {
        args.model.input.refuse(path)?;
        return quantized(session, &Quantized::load(path)?);
    }
    float(session, &session.load(path, &args.model.options())?)
}

fn float(session: &Session, model: &Model) -> Result<()> {
    let outputs = model.outputs().into_iter().map(|output| {
        let sides: Vec<String> = output.sides.iter().map(usize::to_string).collect();
        format!("{} {}", output.name, sides.join("×"))
    });
    let [height, width] = model.input().size;
    let document = FloatDocument {
        model: model.name().to_owned(),
        input: format!("{}×{height}×{width}", model.input().channels()),
        classes: model.classes().map(|classes| classes.count),
        outputs: outputs.collect(),
        parameters: model.parameters(),
        macs: model.macs(),
        layers: model.layers(),
        notes: model.notes(),
    };
    if session.common.json {
        return print_json(&document);
    }
    let gives = document.classes.map_or_else(|| document.outputs.join(", "), |classes| format!("{classes} classes"));
    print(&format!(
        "{}: input {}, {gives}, {} parameters fused, {:.1} M multiplications\n\n{}",
        document.model,
        document.input,
        document.parameters,
        document.macs as f64 / 1e6,
        float_table(&document.layers)
    ))?;
    print(
        "\ncentre/rest: largest weight on the centre tap over the largest off it; gain: how much less the aligned split's\nweight error is, at 8 and at 4 bits\n",
    )?;
    if document.notes.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> =
        document.notes.iter().map(|note| vec![format!("{}: {}: {}", note.layer, note.kind, note.text)]).collect();
    print(&format!("\n{}", columns(&["notes"], &rows)))
}

/// One line for each layer.
fn float_table(layers: &[FloatLayer]) -> String {
    let header =
        ["layer", "branches", "output", "stride", "groups", "parameters", "MMACs", "centre/rest", "gain W8", "gain W4"];
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let db = |gain: Option<[f64; 2]>, i: usize| dash(gain.map(|g| format!("{:.1} dB", g[i])));
    let rows: Vec<Vec<String>> = layers
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                row.branches.clone(),
                row.output.clone(),
                dash(row.stride.map(|n| n.to_string())),
                dash(row.groups.map(|n| n.to_string())),
                row.parameters.to_string(),
                format!("{:.2}", row.macs as f64 / 1e6),
                dash(row.center_to_neighbours.map(|r| format!("{r:.1}"))),
                db(row.gain_db, 0),
                db(row.gain_db, 1),
            ]
        })
        .collect();
    columns(&header, &rows)
}

fn quantized(session: &Session, network: &Quantized) -> Result<()> {
    let (plain, added) = network.macs();
    let document = QuantizedDocument {
        model: network.name().to_owned(),
        weight_bytes: network.weight_bytes(),
        macs: plain + added,
        overhead: added as f64 / plain.max(1) as f64,
        options: network.options().clone(),
        calibration: network.calibration().clone(),
        layers: network.layers(),
    };
    if session.common.json {
        return print_json(&document);
    }
    let header = ["layer", "bits", "split", "shift", "scale", "zero point"];
    let rows: Vec<Vec<String>> = document
        .layers
        .iter()
        .map(|row| {
            let bits = match row.weight_bits {
                Some(bits) => bits.to_string(),
                None if row.is_float => "float".into(),
                None => "-".into(),
            };
            let dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            vec![
                row.name.clone(),
                bits,
                row.split.clone(),
                row.shift_max.to_string(),
                dash(row.scale.map(|s| format!("{s:.4e}"))),
                dash(row.zero_point.map(|z| z.to_string())),
            ]
        })
        .collect();
    print(&format!(
        "{}: quantized, {} bytes of weights, {:.1} M multiplications (+{:.1} % for the split)\n\n{}",
        document.model,
        document.weight_bytes,
        document.macs as f64 / 1e6,
        100.0 * document.overhead,
        columns(&header, &rows)
    ))
}
