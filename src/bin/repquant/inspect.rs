//! `repquant inspect`.

use serde::Serialize;

use super::args::InspectArgs;
use super::model_output::has_ending;
use super::session::{Session, print, print_json};
use repquant::Result;
use repquant::export::{self, FileKind};

use repquant::model::{Conv, Graph, Note, NoteKind, Op, QOp, QuantizedGraph, Support};
use repquant::pipeline::load_and_fuse;
use repquant::quantize::predicted_gain_db;
use repquant::report::{LayerRow, Seconds, columns, layer_rows};

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
    layers: Vec<FloatRow>,
    /// Branches that were not merged, and why; operations that others stand in for.
    notes: Vec<NoteRow>,
}

/// One layer of a float model.
#[derive(Serialize)]
struct FloatRow {
    name: String,
    /// `3×3 + 1×1 + identity`, `fused 3×3` …; the operation, where it is no convolution.
    branches: String,
    /// Shape of the output.
    output: String,
    stride: Option<usize>,
    groups: Option<usize>,
    parameters: u64,
    macs: u64,
    /// Largest weight on the centre tap over the largest off it.
    center_to_neighbours: Option<f64>,
    /// Decibels that the aligned split takes off the weights' error, at 8 and at 4 bits.
    gain_db: Option<[f64; 2]>,
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

/// Something about a layer that is no figure.
#[derive(Serialize)]
struct NoteRow {
    layer: String,
    /// `not merged`, `replaced` or `assumed`.
    kind: &'static str,
    text: String,
}

/// Shows what a model is made of.
pub(super) fn run(session: &Session, args: &InspectArgs) -> Result<()> {
    let path = &args.model.model;
    if path.is_file() && !has_ending(path, "onnx") && export::kind(path)? == FileKind::Quantized {
        args.model.input.refuse(path)?;
        return quantized(session, &export::safetensors::read(path)?);
    }
    float(session, &load_and_fuse(path, &args.model.options(), &mut Seconds::default())?)
}

fn float(session: &Session, graph: &Graph) -> Result<()> {
    let shapes = graph.shapes();
    let layers = graph.nodes.iter().zip(&shapes).skip(1).map(|(node, shape)| {
        let merged = graph.notes.iter().find(|note| note.kind == NoteKind::Merged && note.layer == node.name);
        match &node.op {
            Op::Conv(conv) => FloatRow {
                name: node.name.clone(),
                branches: merged.map_or_else(
                    || format!("fused {}×{}", conv.kernel()[0], conv.kernel()[1]),
                    |note| note.text.clone(),
                ),
                output: shape.to_string(),
                stride: Some(conv.stride[0]),
                groups: Some(conv.groups),
                parameters: (conv.weight.len() + conv.bias.len()) as u64,
                macs: (conv.weight.len() * shape.pixels()) as u64,
                center_to_neighbours: center_ratio(conv),
                gain_db: predicted_gain_db(conv, Support::Center, 8)
                    .zip(predicted_gain_db(conv, Support::Center, 4))
                    .map(<[f64; 2]>::from),
            },
            op => FloatRow {
                name: node.name.clone(),
                branches: op.kind().into(),
                output: shape.to_string(),
                stride: None,
                groups: None,
                parameters: match op {
                    Op::Linear(linear) => (linear.weight.len() + linear.bias.len()) as u64,
                    Op::Constant(values) => values.len() as u64,
                    _ => 0,
                },
                macs: if let Op::Linear(linear) = op { linear.weight.len() as u64 } else { 0 },
                center_to_neighbours: None,
                gain_db: None,
            },
        }
    });
    let kind = |note: &Note| match note.kind {
        NoteKind::Merged => None,
        NoteKind::NotMerged => Some("not merged"),
        NoteKind::Replaced => Some("replaced"),
        NoteKind::Assumed => Some("assumed"),
    };
    let notes = graph
        .notes
        .iter()
        .filter_map(|note| Some(NoteRow { layer: note.layer.clone(), kind: kind(note)?, text: note.text.clone() }));
    let outputs = graph.outputs.iter().map(|output| {
        let sides: Vec<String> = output.sides.iter().map(usize::to_string).collect();
        format!("{} {}", output.name, sides.join("×"))
    });
    let document = FloatDocument {
        model: graph.name.clone(),
        input: shapes[0].to_string(),
        classes: graph.class_count(),
        outputs: outputs.collect(),
        parameters: graph.parameters(),
        macs: graph.macs(),
        layers: layers.collect(),
        notes: notes.collect(),
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
fn float_table(layers: &[FloatRow]) -> String {
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

fn quantized(session: &Session, graph: &QuantizedGraph) -> Result<()> {
    let (plain, added) = graph.macs();
    let document = QuantizedDocument {
        model: graph.name.clone(),
        weight_bytes: graph.weight_bytes(),
        macs: plain + added,
        overhead: added as f64 / plain.max(1) as f64,
        options: graph.options.clone(),
        calibration: graph.calibration.clone(),
        layers: layer_rows(graph, None),
    };
    if session.common.json {
        return print_json(&document);
    }
    let header = ["layer", "bits", "split", "shift", "scale", "zero point"];
    let rows: Vec<Vec<String>> = graph
        .nodes
        .iter()
        .zip(&document.layers)
        .map(|(node, row)| {
            let bits = match &node.op {
                QOp::Conv(c) | QOp::Linear(c) => c.bits.to_string(),
                QOp::Float(_) => "float".into(),
                _ => "-".into(),
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

/// Largest magnitude on the centre tap over the largest off it; none for pointwise kernels.
fn center_ratio(conv: &Conv) -> Option<f64> {
    let [kh, kw] = conv.kernel();
    let (mut center, mut rest) = (0f32, 0f32);
    for ((_, _, y, x), w) in conv.weight.indexed_iter() {
        let side = if (y, x) == (kh / 2, kw / 2) { &mut center } else { &mut rest };
        *side = side.max(w.abs());
    }
    (rest > 0.0).then(|| f64::from(center) / f64::from(rest))
}
