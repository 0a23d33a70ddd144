//! `repquant inspect`.

use serde::Serialize;

use super::args::InspectArgs;
use super::session::{Session, print, print_json};
use crate::Result;
use crate::export::{self, FileKind};
use crate::fuse::fuse;
use crate::load::{self, Branch, TrainedNet};
use crate::model::{Conv, Graph, Op, QOp, QuantizedGraph, Support};
use crate::quantize::predicted_gain_db;
use crate::report::{LayerRow, columns, layer_rows};

#[derive(Serialize)]
struct FloatDocument {
    model: String,
    input: String,
    classes: usize,
    parameters: u64,
    macs: u64,
    layers: Vec<FloatRow>,
}

/// One layer of a float model.
#[derive(Serialize)]
struct FloatRow {
    name: String,
    /// `3×3 + 1×1 + identity`, `fused 3×3` …
    branches: String,
    /// Shape of the output.
    output: String,
    stride: usize,
    groups: usize,
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

/// Shows what a model is made of.
pub(super) fn run(session: &Session, args: &InspectArgs) -> Result<()> {
    let path = &args.model.model;
    if path.is_file() && export::kind(path)? == FileKind::Quantized {
        return quantized(session, &export::safetensors::read(path)?);
    }
    let net = load::load(path, &args.model.options())?;
    let graph = fuse(&net).map_err(|e| e.at(path.display()))?;
    float(session, &net, &graph)
}

fn float(session: &Session, net: &TrainedNet, graph: &Graph) -> Result<()> {
    let shapes = graph.shapes();
    let convs = graph.nodes.iter().zip(&shapes).filter_map(|(node, shape)| match &node.op {
        Op::Conv(conv) => Some((node, conv, shape)),
        _ => None,
    });
    let layers = net.blocks.iter().zip(convs).map(|(block, (node, conv, shape))| FloatRow {
        name: node.name.clone(),
        branches: branches(&block.branches),
        output: shape.to_string(),
        stride: block.stride,
        groups: conv.groups,
        parameters: (conv.weight.len() + conv.bias.len()) as u64,
        macs: (conv.weight.len() * shape.pixels()) as u64,
        center_to_neighbours: center_ratio(conv),
        gain_db: predicted_gain_db(conv, Support::Center, 8)
            .zip(predicted_gain_db(conv, Support::Center, 4))
            .map(<[f64; 2]>::from),
    });
    let document = FloatDocument {
        model: graph.name.clone(),
        input: shapes[0].to_string(),
        classes: shapes[shapes.len() - 1].channels,
        parameters: graph.parameters(),
        macs: graph.macs(),
        layers: layers.collect(),
    };
    if session.common.json {
        return print_json(&document);
    }
    let header =
        ["layer", "branches", "output", "stride", "groups", "parameters", "MMACs", "centre/rest", "gain W8", "gain W4"];
    let db = |gain: Option<[f64; 2]>, i: usize| gain.map_or_else(|| "-".into(), |g| format!("{:.1} dB", g[i]));
    let rows: Vec<Vec<String>> = document
        .layers
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                row.branches.clone(),
                row.output.clone(),
                row.stride.to_string(),
                row.groups.to_string(),
                row.parameters.to_string(),
                format!("{:.2}", row.macs as f64 / 1e6),
                row.center_to_neighbours.map_or_else(|| "-".into(), |r| format!("{r:.1}")),
                db(row.gain_db, 0),
                db(row.gain_db, 1),
            ]
        })
        .collect();
    print(&format!(
        "{}: input {}, {} classes, {} parameters fused, {:.1} M multiplications\n\n{}",
        document.model,
        document.input,
        document.classes,
        document.parameters,
        document.macs as f64 / 1e6,
        columns(&header, &rows)
    ))?;
    print(
        "\ncentre/rest: largest weight on the centre tap over the largest off it; gain: how much less the aligned split's\nweight error is, at 8 and at 4 bits\n",
    )
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

fn branches(branches: &[Branch]) -> String {
    let fused = matches!(branches, [Branch::Conv { norm: None, .. }]);
    let names: Vec<String> = branches
        .iter()
        .map(|branch| match branch {
            Branch::Conv { weight, .. } => format!("{}×{}", weight.dim().2, weight.dim().3),
            Branch::Identity(_) => "identity".into(),
        })
        .collect();
    if fused { format!("fused {}", names.join(" + ")) } else { names.join(" + ") }
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
