//! One layer's weights from the sums over its patches.
//!
//! With H the covariance of the levels q, C that of u and q ([`Moments`]), and h the mean of H's
//! diagonal over the values that vary:
//!
//! 1. the target `T = W + W·(C/64 − H)·(H + 0.05·h·I)⁻¹`: what the weights should be, given that the
//!    levels they read are off already;
//! 2. the scale and shift with the least `Σ H_jj·(T_j − T'_j)²` ([`search_weighted`]);
//! 3. levels in the order of falling `H_jj`, each the nearest to its target and to what undoes the
//!    errors made so far. With `H + 0.01·h·I = L·Lᵀ`, L lower triangular and the values in ascending
//!    order, `e_m = T_m − T'_m` and m from the last to the first, that is
//!    `T_j + Σ_{m>j} L_mj·e_m/L_jj`: the nearest plane of a lattice, which is GPTQ's order of
//!    operations (arXiv 2210.17323, 2507.18553) without the inverse;
//! 4. the bias that gives each output channel, before its `ReLU`, the mean of the float network.
//!
//! A value whose level never varies has no part in 1 to 3 and is rounded to the nearest; the bias has
//! its share.

use rayon::prelude::*;

use super::cholesky::{LANES, Lane, Lower};
use super::moments::{Moments, STEPS, Sums};
use crate::quantize::scale::qmax;
use crate::quantize::search::{clamp_round, largest, nearest, search_weighted};
use crate::quantize::split::{SplitForm, published, published_scales};
use crate::quantize::strategy::{Nearest, Scales, Strategy, Unit};
use crate::quantize::weights::Layer;

/// λ of the target, in means of H's diagonal.
const TARGET_DAMPING: f64 = 0.05;

/// What is added to H before levels are chosen, in means of its diagonal.
const ROUNDING_DAMPING: f64 = 0.01;

/// Rounds the weights of a layer by the sums over its patches.
pub(super) struct SecondOrder {
    /// Of one output channel.
    length: usize,
    outputs_per_group: usize,
    input_scale: f64,
    zero_point: i64,
    patches: u64,
    /// T, output channel by output channel.
    targets: Vec<f32>,
    groups: Vec<Group>,
}

/// What the output channels of a group share.
struct Group {
    /// `H_jj` of each value.
    importance: Vec<f64>,
    /// Σq of each value.
    q: Vec<i64>,
    /// Σu of each value.
    u: Vec<i64>,
    blocks: Vec<Block>,
}

/// Values of a patch whose products are known.
struct Block {
    /// Those that vary, by ascending `H_jj`, of equal ones the later first.
    order: Vec<usize>,
    /// L of `H + 0.01·h·I` in that order.
    factor: Lower,
}

impl SecondOrder {
    /// Of a layer and the sums over its patches, of which there must be some.
    pub(super) fn new(layer: &Layer<'_>, moments: &Moments) -> Self {
        let (out_channels, per_group, kh, kw) = layer.weight.dim();
        let length = per_group * kh * kw;
        let outputs_per_group = out_channels / layer.groups.max(1);
        let mut targets: Vec<f32> = layer.weight.iter().copied().collect();
        let blocks = moments.geometry().blocks();
        let parts = moments.parts.par_chunks(blocks.len().max(1));
        let groups = parts.zip(targets.par_chunks_mut((outputs_per_group * length).max(1)));
        let groups = groups.map(|(parts, targets)| {
            let mut group = Group { importance: vec![], q: vec![], u: vec![], blocks: vec![] };
            for (sums, range) in parts.iter().zip(blocks) {
                group.importance.extend((0..sums.len()).map(|i| sums.covariance(moments.patches, i, i)));
                group.q.extend(&sums.q);
                group.u.extend(&sums.u);
                group.blocks.extend(solve(sums, moments.patches, range.start, targets, length));
            }
            group
        });
        let groups = groups.collect();
        let (scale, zero_point) = (f64::from(layer.input.params.scale), i64::from(layer.input.params.zero_point));
        Self { length, outputs_per_group, input_scale: scale, zero_point, patches: moments.patches, targets, groups }
    }

    /// How many values of a patch vary, over all groups.
    pub(super) fn varying(&self) -> usize {
        self.groups.iter().flat_map(|group| &group.blocks).map(|block| block.order.len()).sum()
    }

    fn group(&self, unit: &Unit<'_>, index: usize) -> &Group {
        &self.groups[(unit.first_channel + index) / self.outputs_per_group.max(1)]
    }

    /// T of a unit's weights.
    fn targets(&self, unit: &Unit<'_>) -> &[f32] {
        let first = unit.first_channel * self.length;
        &self.targets[first..first + unit.weights.len()]
    }
}

impl Group {
    /// The levels of all values of a channel with these targets, `(Q_f, Q_c)`; `level` gives those
    /// nearest to a target of a value, and what they stand for.
    fn round(&self, targets: &[f32], level: impl Fn(usize, f64) -> ([f64; 2], f64)) -> Vec<[f64; 2]> {
        let alone = targets.iter().enumerate().map(|(at, &target)| level(at, f64::from(target)).0);
        let mut levels: Vec<[f64; 2]> = alone.collect();
        for Block { order, factor } in &self.blocks {
            // Σ L_mj·e_m of what is rounded already.
            let mut pulls = vec![0f64; order.len()];
            for (m, &at) in order.iter().enumerate().rev() {
                let Some((diagonal, row)) = factor.row(m).split_last() else { break };
                let target = f64::from(targets[at]);
                let (found, real) = level(at, target + pulls[m] / diagonal);
                levels[at] = found;
                let error = target - real;
                pulls.iter_mut().zip(row).for_each(|(pull, factor)| *pull += factor * error);
            }
        }
        levels
    }
}

/// Moves the targets of a group's block, whose first value is number `first`, away from the weights;
/// none where nothing varies.
fn solve(sums: &Sums, patches: u64, first: usize, targets: &mut [f32], length: usize) -> Option<Block> {
    let diagonal: Vec<f64> = (0..sums.len()).map(|i| sums.covariance(patches, i, i)).collect();
    let mut order: Vec<usize> = (0..sums.len()).filter(|&i| diagonal[i] > 0.0).collect();
    order.sort_by(|&a, &b| diagonal[a].total_cmp(&diagonal[b]).then(b.cmp(&a)));
    let side = order.len();
    let mean = order.iter().map(|&i| diagonal[i]).sum::<f64>() / side.max(1) as f64;
    let damped = |damping: f64| {
        let mut matrix = vec![0f64; side * side];
        matrix.par_chunks_mut(side.max(1)).enumerate().for_each(|(i, row)| {
            for (j, value) in row.iter_mut().enumerate().take(i + 1) {
                *value = sums.covariance(patches, order[i], order[j]);
            }
            row[i] += damping * mean;
        });
        Lower::of(matrix, side)
    };
    let (target, factor) = (damped(TARGET_DAMPING)?, damped(ROUNDING_DAMPING)?);
    if side == 0 {
        return None;
    }
    let mut difference = vec![0f64; sums.len() * side];
    difference.par_chunks_mut(side).enumerate().for_each(|(i, row)| {
        row.iter_mut().zip(&order).for_each(|(value, &j)| *value = sums.difference(patches, i, j));
    });
    targets.par_chunks_mut(LANES * length).for_each(|targets| {
        let channels = targets.len() / length;
        let mut moves: Vec<Lane> = vec![[0f64; LANES]; side];
        for (i, row) in difference.chunks_exact(side).enumerate() {
            let weight = |lane| if lane < channels { f64::from(targets[lane * length + first + i]) } else { 0.0 };
            let weights: Lane = std::array::from_fn(weight);
            for (moved, factor) in moves.iter_mut().zip(row) {
                moved.iter_mut().zip(&weights).for_each(|(moved, weight)| *moved += factor * weight);
            }
        }
        target.solve(&mut moves);
        for (moved, &at) in moves.iter().zip(&order) {
            for (lane, moved) in moved.iter().enumerate().take(channels) {
                let weight = &mut targets[lane * length + first + at];
                let to = (f64::from(*weight) + moved) as f32;
                if to.is_finite() {
                    *weight = to;
                }
            }
        }
    });
    for at in &mut order {
        *at += first;
    }
    Some(Block { order, factor })
}

impl Strategy for SecondOrder {
    fn scales(&self, unit: &Unit<'_>) -> Scales {
        let channels = 0..unit.biases.len();
        let importance: Vec<f64> =
            channels.flat_map(|index| self.group(unit, index).importance.iter().copied()).collect();
        if importance.iter().all(|&h| h == 0.0) {
            return Nearest.scales(unit);
        }
        let targets = self.targets(unit);
        let none = vec![false; targets.len()];
        match unit.form {
            SplitForm::Plain => {
                let found = search_weighted(targets, &importance, &none, unit.bits);
                Scales { fine: found.scale, shift: 0, coarse: None }
            }
            SplitForm::Aligned(_) => {
                let found = search_weighted(targets, &importance, &unit.support, unit.bits);
                Scales { fine: found.scale, shift: found.shift, coarse: None }
            }
            SplitForm::Paper(_) => {
                let (g, fine) = published_scales(unit.weights, &unit.support, unit.bits, 0.0);
                let (_, coarse) = published(unit.weights, &unit.support, unit.bits, g, fine);
                let coarse = spread(&unit.support, &coarse);
                let rest = |(&target, &q_c): (&f32, &i8)| (f64::from(target) - f64::from(g) * f64::from(q_c)) as f32;
                let rest: Vec<f32> = targets.iter().zip(&coarse).map(rest).collect();
                if largest(&rest) == 0.0 {
                    return Scales { fine, shift: 0, coarse: Some(g) };
                }
                let found = search_weighted(&rest, &importance, &none, unit.bits);
                Scales { fine: found.scale, shift: 0, coarse: Some(g) }
            }
        }
    }

    fn levels(&self, unit: &Unit<'_>, scales: Scales) -> (Vec<i8>, Vec<i8>) {
        let (qmax, length) = (f64::from(qmax(unit.bits)), unit.length());
        let s = f64::from(scales.fine);
        let power = f64::from(1u32 << scales.shift);
        // As published; none of its levels is chosen here.
        let published = scales.coarse.map(|g| {
            let (_, coarse) = published(unit.weights, &unit.support, unit.bits, g, scales.fine);
            (f64::from(g), spread(&unit.support, &coarse))
        });
        let (mut fine, mut coarse) = (Vec::with_capacity(unit.weights.len()), Vec::new());
        for (index, targets) in self.targets(unit).chunks_exact(length).enumerate() {
            let first = index * length;
            let levels = self.group(unit, index).round(targets, |at, target| {
                if let Some((g, levels)) = &published {
                    let q_c = f64::from(levels[first + at]);
                    let q_f = clamp_round((target - g * q_c) / s, qmax);
                    return ([q_f, q_c], g * q_c + s * q_f);
                }
                let (q_f, q_c) = nearest(target, unit.support[first + at], s, scales.shift, qmax);
                ([q_f, q_c], s * (q_f + power * q_c))
            });
            fine.extend(levels.iter().map(|[q_f, _]| *q_f as i8));
            let on = levels.iter().zip(&unit.support[first..]).filter(|(_, on)| **on);
            coarse.extend(on.map(|([_, q_c], _)| *q_c as i8));
        }
        (fine, coarse)
    }

    fn bias(&self, unit: &Unit<'_>, scales: Scales, index: usize, fine: &[i8], coarse: &[i8]) -> f64 {
        let (group, length) = (self.group(unit, index), unit.length());
        let channel = index * length..(index + 1) * length;
        let bias = f64::from(unit.biases[index]);
        let patches = i128::from(self.patches);
        // Both are exact.
        let moved = |at: usize| i128::from(group.q[at]) - patches * i128::from(self.zero_point);
        let total = |levels: &[i8]| -> f64 {
            levels.iter().enumerate().map(|(at, &level)| i128::from(level) * moved(at)).sum::<i128>() as f64
        };
        let step = match scales.coarse {
            Some(g) => f64::from(g),
            None => f64::from(scales.fine) * f64::from(1u32 << scales.shift),
        };
        let coarse = spread(&unit.support[channel.clone()], coarse);
        let stored = f64::from(scales.fine) * total(fine) + step * total(&coarse);
        let weights = unit.weights[channel].iter().zip(&group.u);
        let float: f64 = weights.map(|(&weight, &u)| f64::from(weight) * u as f64).sum();
        let matched = bias + self.input_scale * (float / STEPS as f64 - stored) / self.patches as f64;
        if matched.is_finite() { matched } else { bias }
    }
}

/// Levels of the weights on the support as levels of all weights, 0 off it.
fn spread(support: &[bool], coarse: &[i8]) -> Vec<i8> {
    let mut levels = coarse.iter();
    support.iter().map(|&on| if on { levels.next().copied().unwrap_or(0) } else { 0 }).collect()
}
