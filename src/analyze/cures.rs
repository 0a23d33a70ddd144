//! What would help the layers that cost the most, tried one at a time, and what that costs.

use std::cell::OnceCell;

use super::bench::Bench;
use super::effect::Effect;
use super::found::{Analyzed, Cure, Setting, Sources};
use super::parts::{Part, real};
use crate::error::Result;
use crate::exec::Change;
use crate::model::{Graph, NodeId, Op, QParams};
use crate::quantize::{Alternatives, LayerChoice};
use crate::threshold::{ActivationMode, Method, RangeOptions, choose};

/// A layer that has less of all noise than this is left alone.
const LEAST_SHARE: f64 = 0.01;

/// A cure is one where it takes the noise of its layer down to this part: by 6 dB. Else it is the
/// best of those that take as much as [`LEAST_HELP`] leaves.
const CURED: f64 = 0.25;
const LEAST_HELP: f64 = 0.8;

/// A setting that is to be tried.
struct Trial {
    /// Its layer's place.
    layer: usize,
    cure: Cure,
    change: Change,
}

/// Finds what helps the layers, those that cost most first, until what it takes to try it is as much
/// as running the network once for each layer. The best cure of a layer comes first: of those that
/// cure it the one that costs least, else the one that helps most; then the others.
///
/// # Errors
/// Those of quantizing a layer, or a device that failed.
pub(super) fn cures(
    bench: &Bench<'_>,
    sources: &Sources<'_>,
    parts: &[Part],
    layers: &mut [Analyzed],
    mut begin: impl FnMut(usize),
    done: impl FnMut(),
) -> Result<()> {
    let all: f64 = layers.iter().map(|layer| layer.all.noise()).sum();
    let mut order: Vec<usize> = (0..layers.len()).filter(|&i| layers[i].all.noise() > LEAST_SHARE * all).collect();
    order.sort_by(|&a, &b| layers[b].all.noise().total_cmp(&layers[a].all.noise()));
    let behind = costs_behind(bench.graph);
    let mut room = bench.graph.macs() as f64 * layers.len() as f64;
    let finder = Finder { bench, sources, ranges: OnceCell::new() };
    let mut trials: Vec<Trial> = Vec::new();
    for place in order {
        let cost = behind[parts[place].node] as f64;
        let found = finder.trials(&parts[place], place, &mut layers[place], room >= cost)?;
        room -= cost * found.len() as f64;
        trials.extend(found);
    }
    begin(trials.len());
    let mut tried = Vec::new();
    let changes = trials.into_iter().map(|trial| {
        tried.push((trial.layer, trial.cure));
        vec![trial.change]
    });
    let changes: Vec<Vec<Change>> = changes.collect();
    let effects = bench.measure(&changes, done)?;
    for ((layer, cure), effect) in tried.into_iter().zip(effects.into_iter().flatten()) {
        layers[layer].cures.push(Cure { left: Some(effect), ..cure });
    }
    let total = (sources.quantized.weight_bytes().max(1) as f64, bench.graph.macs().max(1) as f64);
    for layer in layers {
        sort(layer, total);
    }
    Ok(())
}

/// The best first, without those that do not help.
fn sort(layer: &mut Analyzed, (bytes, macs): (f64, f64)) {
    let noise = layer.all.noise();
    layer.cures.retain(|cure| cure.noise() < LEAST_HELP * noise);
    let price =
        |cure: &Cure| cure.bytes.max(0) as f64 / bytes + (cure.macs.max(0) as f64 + cure.float_macs as f64) / macs;
    // Of equal ones the order of trying stays.
    layer.cures.sort_by(|a, b| {
        let cured = |cure: &Cure| cure.noise() <= CURED * noise;
        match (cured(a), cured(b)) {
            (true, true) => price(a).total_cmp(&price(b)),
            (false, false) => a.noise().total_cmp(&b.noise()),
            (a, b) => b.cmp(&a),
        }
    });
}

/// Multiplications of each node and of all that it reaches.
fn costs_behind(graph: &Graph) -> Vec<u64> {
    let shapes = graph.shapes();
    let own: Vec<u64> = graph.nodes.iter().zip(&shapes).map(|(node, shape)| node.op.macs(*shape)).collect();
    let behind = |first: NodeId| {
        let mut reached = vec![false; own.len()];
        reached[first] = true;
        for id in first + 1..own.len() {
            reached[id] = graph.nodes[id].inputs.iter().any(|&input| reached[input]);
        }
        own.iter().zip(&reached).filter(|(_, reached)| **reached).map(|(macs, _)| macs).sum()
    };
    (0..own.len()).map(behind).collect()
}

/// How each activation is stored if ranges are chosen so.
type OtherRanges = Vec<(RangeOptions, Vec<Option<QParams>>)>;

struct Finder<'a> {
    bench: &'a Bench<'a>,
    sources: &'a Sources<'a>,
    ranges: OnceCell<OtherRanges>,
}

impl Finder<'_> {
    /// What is to be tried for a layer, where something `may` be; what is known of it without trying
    /// is added to it.
    fn trials(&self, part: &Part, place: usize, layer: &mut Analyzed, may: bool) -> Result<Vec<Trial>> {
        let Sources { graph, alternatives, quantized, .. } = self.sources;
        let (node, weights) = (&graph.nodes[part.node], quantized.nodes[part.node].computed.int8_weights());
        let mut trials = Vec::new();
        let mut add = |cure: Cure, op: Option<&Op>, inputs: Vec<Option<QParams>>| -> Result<()> {
            if !may {
                return Ok(());
            }
            let change = Change::new(self.bench.device, graph, part.node, op, inputs)?;
            trials.push(Trial { layer: place, cure, change });
            Ok(())
        };
        let free = |setting| Cure { setting, left: None, bytes: 0, macs: 0, float_macs: 0 };
        let (by_weights, by_inputs) = (noise(layer.weights.as_ref()), noise(layer.activation.as_ref()));
        let read = part.inputs.first().copied().flatten();
        if let Some((now, input)) = weights.zip(read).filter(|_| may && by_weights >= by_inputs) {
            let shape = self.sources.shapes[part.node];
            for (choice, conv) in alternatives.weights(part.node, now)? {
                let cure = Cure {
                    bytes: conv.weight_bytes() as i64 - now.weight_bytes() as i64,
                    macs: conv.added_macs(shape) as i64 - now.added_macs(shape) as i64,
                    ..free(Setting::Layer(choice))
                };
                let real = real(&conv, input);
                let op = if matches!(node.op, Op::Linear(_)) { Op::Linear(real) } else { Op::Conv(real) };
                add(cure, Some(&op), part.inputs.clone())?;
            }
        }
        if may && by_inputs > by_weights {
            let mut seen = vec![part.inputs.clone()];
            for (options, stored) in self.other_ranges()? {
                let inputs: Vec<Option<QParams>> = node.inputs.iter().map(|&input| stored[input]).collect();
                if !seen.contains(&inputs) {
                    seen.push(inputs.clone());
                    add(free(Setting::Ranges(options.clone())), part.weights.as_ref(), inputs)?;
                }
            }
        }
        // In float it costs what it still reads as levels, for others.
        let still = alternatives.stored_if_kept(part.node);
        let left: Vec<Option<QParams>> =
            part.inputs.iter().zip(&still).map(|(input, &still)| input.filter(|_| still)).collect();
        let float = LayerChoice { float: true, ..LayerChoice::default() };
        let mut cure = free(Setting::Layer(float));
        if let Some(now) = weights {
            let shape = self.sources.shapes[part.node];
            cure.bytes = 4 * node.op.parameters() as i64 - now.weight_bytes() as i64;
            cure.macs = -(now.added_macs(shape) as i64);
            cure.float_macs = node.op.macs(shape);
        }
        match &layer.activation {
            _ if left.iter().all(Option::is_none) => layer.cures.push(cure),
            Some(effect) if left == part.inputs => layer.cures.push(Cure { left: Some(effect.clone()), ..cure }),
            _ => add(cure, None, left)?,
        }
        Ok(trials)
    }

    /// How activations would be stored with other ranges.
    fn other_ranges(&self) -> Result<&OtherRanges> {
        if let Some(found) = self.ranges.get() {
            return Ok(found);
        }
        let Sources { graph, options, calibration, ranges, .. } = self.sources;
        let mut tried: Vec<RangeOptions> = Vec::new();
        for mode in [ranges.mode, ActivationMode::Symmetric, ActivationMode::Affine] {
            for method in [ranges.method, Method::KlReparam, Method::Mse, Method::MinMax] {
                let other = RangeOptions { method, mode, ..(*ranges).clone() };
                if other != **ranges && !tried.contains(&other) {
                    tried.push(other);
                }
            }
        }
        if ranges.bits < 8 {
            tried.push(RangeOptions { bits: 8, ..(*ranges).clone() });
        }
        let stored = tried.into_iter().map(|ranges| {
            let chosen = choose(calibration, &ranges)?;
            Ok((ranges, Alternatives::new(graph, &chosen, options)?.stored()))
        });
        let stored: OtherRanges = stored.collect::<Result<_>>()?;
        Ok(self.ranges.get_or_init(|| stored))
    }
}

fn noise(effect: Option<&Effect>) -> f64 {
    effect.map_or(0.0, Effect::noise)
}
