//! One row for each layer, of a float network and of a quantized one.

use serde::Serialize;

use crate::evaluate::{Evaluation as Measured, Fidelity};
use crate::model::{Computed, Conv, Graph, Note, NoteKind, Op, QNode, QuantizedGraph, Support, Weights};
use crate::quantize::predicted_gain_db;

/// One layer of a float network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FloatLayer {
    /// Its name.
    pub name: String,
    /// `3×3 + 1×1 + identity`, `fused 3×3` …; the operation, where it is no convolution.
    pub branches: String,
    /// Shape of the output.
    pub output: String,
    /// Stride, vertically; none where it is no convolution.
    pub stride: Option<usize>,
    /// Groups; none where it is no convolution.
    pub groups: Option<usize>,
    /// Number of weights and biases.
    pub parameters: u64,
    /// Multiplications for one image.
    pub macs: u64,
    /// Largest weight on the centre tap over the largest off it; none without such weights.
    pub center_to_neighbours: Option<f64>,
    /// Decibels that the aligned split takes off the weights' error, at 8 and at 4 bits; none for
    /// kernels of one weight.
    pub gain_db: Option<[f64; 2]>,
}

/// Something about a layer that is no figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NoteRow {
    /// The layer.
    pub layer: String,
    /// `not merged`, `replaced` or `assumed`.
    pub kind: &'static str,
    /// In words.
    pub text: String,
}

/// One activation of the chosen network, and the layer that makes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerRow {
    /// Name of the layer.
    pub name: String,
    /// What was done to its kernel.
    pub split: String,
    /// The largest shift in the layer.
    pub shift_max: u8,
    /// The largest value represented; null for the classifier.
    pub threshold: Option<f64>,
    /// Scale of the activation.
    pub scale: Option<f32>,
    /// Zero point of the activation.
    pub zero_point: Option<i32>,
    /// SQNR against the float activation; null where it was not measured.
    pub sqnr_db: Option<f64>,
    /// Cosine with the float activation; null where it was not measured.
    pub cosine: Option<f64>,
    /// Refusals and changes, with their reasons.
    pub notes: Vec<String>,
    /// Bits of its weights; none where it has none in integers.
    #[serde(skip)]
    pub weight_bits: Option<u8>,
    /// Whether it is computed in f32.
    #[serde(skip)]
    pub is_float: bool,
}

/// One row for each node of `graph`; `measured` adds SQNR and cosine.
pub(crate) fn layer_rows(graph: &QuantizedGraph, measured: Option<&Measured>) -> Vec<LayerRow> {
    let row = |node: &QNode| {
        let fidelity = measured.and_then(|e| e.layers.iter().find(|(name, _)| *name == node.name)).map(|(_, f)| f);
        LayerRow {
            name: node.name.clone(),
            split: node.split.split.clone(),
            shift_max: node.split.shift_max,
            threshold: node.output.map(|q| q.dequantize(q.qmax)),
            scale: node.output.map(|q| q.scale),
            zero_point: node.output.map(|q| q.zero_point),
            sqnr_db: fidelity.and_then(Fidelity::sqnr_db),
            cosine: fidelity.and_then(Fidelity::cosine),
            notes: node.split.notes.clone(),
            weight_bits: node.computed.int8_weights().map(|conv| conv.bits),
            is_float: matches!(node.computed, Computed::Float(_)),
        }
    };
    graph.nodes.iter().map(row).collect()
}

/// One row for each node of `graph` but the input.
pub(crate) fn float_layers(graph: &Graph) -> Vec<FloatLayer> {
    let shapes = graph.shapes();
    let rows = graph.nodes.iter().zip(&shapes).skip(1).map(|(node, shape)| {
        let merged = graph.notes.iter().find(|note| note.kind == NoteKind::Merged && note.layer == node.name);
        match &node.op {
            Op::Conv(conv) => FloatLayer {
                name: node.name.clone(),
                branches: merged.map_or_else(
                    || format!("fused {}×{}", conv.kernel()[0], conv.kernel()[1]),
                    |note| note.text.clone(),
                ),
                output: shape.to_string(),
                stride: Some(conv.stride[0]),
                groups: Some(conv.groups),
                parameters: node.op.parameters(),
                macs: node.op.macs(*shape),
                center_to_neighbours: center_ratio(conv),
                gain_db: predicted_gain_db(conv, Support::Center, 8)
                    .zip(predicted_gain_db(conv, Support::Center, 4))
                    .map(<[f64; 2]>::from),
            },
            op => FloatLayer {
                name: node.name.clone(),
                branches: op.kind().into(),
                output: shape.to_string(),
                stride: None,
                groups: None,
                parameters: op.parameters(),
                macs: op.macs(*shape),
                center_to_neighbours: None,
                gain_db: None,
            },
        }
    });
    rows.collect()
}

/// What was decided about layers beyond merging them.
pub(crate) fn note_rows(graph: &Graph) -> Vec<NoteRow> {
    let kind = |note: &Note| match note.kind {
        NoteKind::Merged => None,
        NoteKind::NotMerged => Some("not merged"),
        NoteKind::Replaced => Some("replaced"),
        NoteKind::Assumed => Some("assumed"),
    };
    let rows = graph
        .notes
        .iter()
        .filter_map(|note| Some(NoteRow { layer: note.layer.clone(), kind: kind(note)?, text: note.text.clone() }));
    rows.collect()
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
