//! The split mode `auto`: which layers to split, and where, under a budget of added
//! multiplications.
//!
//! Starting with no layer split, the (layer, support) step with the largest drop of
//! `Σ E[x²]·(W − W')²/s_y²` for each added multiplication is taken again and again, until no step
//! that still fits the budget gains. A step gains where the error falls by at least that of rounding
//! the layer's output to its levels, 1/12 for each channel: below that a split is not worth its
//! multiplications. A step may also widen a support chosen before; it then costs the difference.
//! Steps that no longer fit are passed over. Source: docs/quantization.md, "`--split auto`". A
//! convolution whose result is not stored has no `s_y` and stays whole.

use std::collections::HashMap;

use rayon::prelude::*;

use super::plan::{Choice, Plan};
use super::split::{SplitForm, has_diagonal};
use super::strategy::Nearest;
use super::weights::{Layer, quantize_layer, weighted_error};
use crate::calibrate::{ActivationStats, Calibration};
use crate::model::{Conv, NodeId, Op, QParams, Support, Weights};
use crate::{Error, Result};

/// One support for one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    support: Support,
    /// Multiplications that it adds to the unsplit layer, for one image.
    added: u64,
    /// What remains of the objective in this layer.
    error: f64,
}

/// What a layer offers; the cheapest candidate first.
#[derive(Debug, Clone, PartialEq)]
struct Offer {
    unsplit: f64,
    /// The least fall of the objective that is worth a step.
    least: f64,
    candidates: Vec<Candidate>,
}

impl Offer {
    /// Whether a fall of the objective is worth a step.
    fn is_worth(&self, fall: f64) -> bool {
        fall > 0.0 && fall >= self.least
    }
}

/// The form of every node. A pure function of weights, statistics and options.
pub(super) fn choose(plan: &Plan<'_>, calibration: &Calibration) -> Result<Vec<Choice>> {
    let nodes = &plan.graph.nodes;
    let statistics: HashMap<&str, &ActivationStats> =
        calibration.activations.iter().map(|stats| (stats.name.as_str(), stats)).collect();
    // A layer whose split is chosen by itself is neither weighed nor counted.
    let own = |id: NodeId| plan.options.choice(&nodes[id].name).split.is_some();
    let offers = (0..nodes.len()).into_par_iter().map(|id| match (&nodes[id].op, &plan.made[id], plan.stored[id]) {
        _ if own(id) => Ok(None),
        (Op::Conv(conv), None, Some(stored)) => {
            let statistics = nodes[id].inputs.first().and_then(|&from| statistics.get(nodes[from].name.as_str()));
            let statistics = statistics.ok_or_else(|| Error::bad("there are no statistics of its input"));
            let found = statistics.and_then(|statistics| offer(plan, id, conv, stored.params, statistics));
            found.map(Some).map_err(|e| e.at(&nodes[id].name))
        }
        _ => Ok(None),
    });
    // Collected before errors are looked at: the first in order is reported, not the first in time.
    let offers: Vec<Option<Offer>> = offers.collect::<Vec<_>>().into_iter().collect::<Result<_>>()?;
    let layers: Vec<&Offer> = offers.iter().flatten().collect();
    let mut taken = take(&layers, plan.options.max_overhead * plan.graph.macs() as f64).into_iter();
    Ok(offers
        .iter()
        .enumerate()
        .map(|(id, offer)| offer.as_ref().map_or_else(|| plan.form(id), |o| describe(o, taken.next().flatten())))
        .collect())
}

/// The errors and costs of one layer, its output stored as `output`; `statistics` are those of its
/// input.
fn offer(plan: &Plan<'_>, id: NodeId, conv: &Conv, output: QParams, statistics: &ActivationStats) -> Result<Offer> {
    let Some(layer) = plan.layer(id) else { unreachable!("a layer in integers") };
    let objective = |form| objective(plan, &layer, form, output, statistics);
    let per_group = conv.weight.dim().1;
    let pixels = (conv.out_channels() * plan.shapes[id].pixels()) as u64;
    let mut candidates: Vec<Candidate> = Vec::new();
    for support in supports(conv, plan.options.support) {
        let (error, split) = objective(SplitForm::Aligned(support))?;
        if split {
            candidates.push(Candidate { support, added: support.len(per_group, conv.kernel()) as u64 * pixels, error });
        }
    }
    Ok(Offer { unsplit: objective(SplitForm::Plain)?.0, least: rounded(conv.out_channels()), candidates })
}

/// `Σ E[x²]·(W − W')²/s_y²` of a layer in a form, its output stored as `output` and the statistics
/// of its input given, and whether it is split then.
pub(super) fn objective(
    plan: &Plan<'_>,
    layer: &Layer<'_>,
    form: SplitForm,
    output: QParams,
    statistics: &ActivationStats,
) -> Result<(f64, bool)> {
    let power: Vec<f64> = (0..statistics.channels()).map(|c| statistics.mean_square(c)).collect();
    let (quantized, _) = quantize_layer(layer, form, plan.options.granularity, &Nearest)?;
    let error = weighted_error(&layer.weight, &quantized, &power) / f64::from(output.scale).powi(2);
    Ok((error, quantized.coarse.is_some()))
}

/// The same for what rounding to levels does to an output of so many channels.
pub(super) fn rounded(channels: usize) -> f64 {
    channels as f64 / 12.0
}

/// The supports worth weighing, the cheapest first: each holds more weights than the one before.
pub(super) fn supports(conv: &Conv, only: Option<Support>) -> Vec<Support> {
    let (per_group, kernel) = (conv.weight.dim().1, conv.kernel());
    let mut held = 0;
    let possible = [Support::Diagonal, Support::Center, Support::Full].into_iter();
    let possible = possible.filter(|&s| only.is_none_or(|only| only == s));
    let possible = possible.filter(|&s| s != Support::Diagonal || has_diagonal(conv));
    // A pointwise kernel has no neighbours of its centre; `full` stands for all of it.
    let possible = possible.filter(|&s| s != Support::Center || kernel != [1, 1]);
    // With one input channel for each group the diagonal is the centre, and goes by that name.
    let possible = possible.filter(|&s| s != Support::Diagonal || per_group > 1 || only == Some(s));
    possible.filter(|&s| s.len(per_group, kernel) > std::mem::replace(&mut held, s.len(per_group, kernel))).collect()
}

/// The greedy choice: for each layer the candidate taken. On equal gains the earlier layer, then
/// the cheaper support.
fn take(layers: &[&Offer], budget: f64) -> Vec<Option<usize>> {
    let mut taken: Vec<Option<usize>> = vec![None; layers.len()];
    let mut spent = 0u64;
    loop {
        let mut best: Option<(f64, usize, usize, u64)> = None;
        for (l, offer) in layers.iter().enumerate() {
            let (error, added) =
                taken[l].map_or((offer.unsplit, 0), |c| (offer.candidates[c].error, offer.candidates[c].added));
            for (c, candidate) in offer.candidates.iter().enumerate() {
                let cost = candidate.added.saturating_sub(added);
                let fall = error - candidate.error;
                let gain = fall / cost as f64;
                let fits = cost > 0 && (spent + cost) as f64 <= budget;
                if fits && offer.is_worth(fall) && best.is_none_or(|b| gain > b.0) {
                    best = Some((gain, l, c, cost));
                }
            }
        }
        let Some((_, l, c, cost)) = best else { return taken };
        taken[l] = Some(c);
        spent += cost;
    }
}

/// The form of a layer, and the figures behind it.
fn describe(offer: &Offer, taken: Option<usize>) -> Choice {
    match taken.map(|c| offer.candidates[c]) {
        Some(Candidate { support, added, error }) => (
            SplitForm::Aligned(support),
            Some(format!(
                "auto: the weight error falls from {:.3e} to {error:.3e} for {added} multiplications an image",
                offer.unsplit
            )),
        ),
        None if offer.candidates.iter().any(|c| offer.is_worth(offer.unsplit - c.error)) => {
            (SplitForm::Plain, Some("auto: not split, the budget of multiplications goes further elsewhere".into()))
        }
        None if offer.candidates.iter().any(|c| c.error < offer.unsplit) => {
            (SplitForm::Plain, Some("auto: not split, its levels make more error than a split would save".into()))
        }
        None => (SplitForm::Plain, Some("auto: not split, no support gains".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array4};
    use proptest::prelude::*;

    fn conv(out: usize, per_group: usize, kernel: usize, stride: usize, groups: usize) -> Conv {
        Conv {
            weight: Array4::zeros((out, per_group, kernel, kernel)),
            bias: Array1::zeros(out),
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            groups,
        }
    }

    #[test]
    fn candidates_follow_the_kernel() {
        use Support::{Center, Diagonal, Full};
        assert_eq!(supports(&conv(8, 8, 3, 1, 1), None), [Diagonal, Center, Full]);
        assert_eq!(supports(&conv(8, 8, 3, 2, 1), None), [Center, Full]);
        assert_eq!(supports(&conv(8, 4, 3, 1, 1), None), [Center, Full]);
        assert_eq!(supports(&conv(8, 8, 1, 1, 1), None), [Diagonal, Full]);
        assert_eq!(supports(&conv(8, 4, 1, 1, 1), None), [Full]);
        assert_eq!(supports(&conv(8, 1, 3, 1, 8), None), [Center, Full]);
        assert_eq!(supports(&conv(8, 1, 3, 1, 8), Some(Diagonal)), [Diagonal]);
        assert_eq!(supports(&conv(8, 8, 3, 1, 1), Some(Center)), [Center]);
        assert_eq!(supports(&conv(8, 8, 3, 2, 1), Some(Diagonal)), []);
    }

    fn layer(unsplit: f64, candidates: &[(u64, f64)]) -> Offer {
        let candidates = candidates.iter().map(|&(added, error)| Candidate { support: Support::Center, added, error });
        Offer { unsplit, least: 0.0, candidates: candidates.collect() }
    }

    #[test]
    fn steps_are_taken_by_gain_for_each_multiplication() {
        let a = layer(10.0, &[(1, 8.0), (10, 1.0), (100, 0.0)]);
        let b = layer(5.0, &[(10, 0.0)]);
        // Gains: a0 2, a1 0.9 (then 7/9 from a0), b0 0.5.
        assert_eq!(take(&[&a, &b], 0.0), [None, None]);
        assert_eq!(take(&[&a, &b], 1.0), [Some(0), None]);
        assert_eq!(take(&[&a, &b], 10.0), [Some(1), None]);
        // The step of a to 10 does not fit beside b, and is passed over for nothing cheaper.
        assert_eq!(take(&[&a, &b], 19.9), [Some(1), None]);
        assert_eq!(take(&[&a, &b], 20.0), [Some(1), Some(0)]);
        assert_eq!(take(&[&a, &b], 1000.0), [Some(2), Some(0)]);
        // Equal gains: the earlier layer.
        assert_eq!(take(&[&b, &b], 10.0), [Some(0), None]);
        // What gains too little is not: from 10 to 8, and, the rest of b taken, from 1 to 0 of a.
        let [a, b] = [a, b].map(|offer| Offer { least: 2.5, ..offer });
        assert_eq!(take(&[&a, &b], 1.0), [None, None]);
        assert_eq!(take(&[&a, &b], 1000.0), [Some(1), Some(0)]);
        // What does not gain is never taken.
        assert_eq!(take(&[&layer(1.0, &[(1, 1.0), (2, 2.0)])], 100.0), [None]);
    }

    proptest! {
        #[test]
        fn the_budget_holds_and_nothing_that_gains_is_left(
            seed in prop::collection::vec((0.0..10.0f64, prop::collection::vec((1u64..50, 0.0..10.0f64), 0..4)), 1..8),
            budget in 0.0..200.0f64,
            least in 0.0..2.0f64,
        ) {
            let offer = |(unsplit, candidates): &(f64, Vec<(u64, f64)>)| Offer { least, ..layer(*unsplit, candidates) };
            let layers: Vec<Offer> = seed.iter().map(offer).collect();
            let layers: Vec<&Offer> = layers.iter().collect();
            let taken = take(&layers, budget);
            let chosen = |l: usize| taken[l].map(|c| layers[l].candidates[c]);
            let spent: u64 = (0..layers.len()).filter_map(chosen).map(|c| c.added).sum();
            prop_assert!(spent as f64 <= budget);
            for (l, offer) in layers.iter().enumerate() {
                let (error, added) = chosen(l).map_or((offer.unsplit, 0), |c| (c.error, c.added));
                // Every step gained, and every one that gains and costs does not fit any more.
                prop_assert!(error <= offer.unsplit);
                let gains = |c: &&Candidate| c.added > added && c.error < error && error - c.error >= least;
                for c in offer.candidates.iter().filter(gains) {
                    prop_assert!((spent + c.added - added) as f64 > budget);
                }
            }
            prop_assert_eq!(&taken, &take(&layers, budget));
        }
    }
}
