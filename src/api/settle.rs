//! What the options leave open is decided by measuring. Source: docs/quantization.md, "What is chosen
//! by measuring".

use crate::Result;
use crate::calibrate::Calibration;
use crate::device::Device;
use crate::evaluate::{self, Contender, Evaluation};
use crate::images::Batch;
use crate::model::Graph;
use crate::progress::Silent;
use crate::quantize::{self, QuantizeOptions, Rounding};
use crate::threshold::{self, Method, RangeOptions};

/// On how many images methods are tried.
pub(super) const TRIED: usize = 32;

/// What is tried; of those that are alike the first is taken.
const METHODS: [Method; 4] = [Method::Mse, Method::KlReparam, Method::MinMax, Method::Percentile(99.99)];

/// What is taken where nothing can be tried.
pub(super) const UNTRIED: Method = Method::Mse;

/// Decibels that are no difference.
const ALIKE: f64 = 0.1;

/// The error of the weights, as a multiple of that of the activations, from which second-order
/// rounding is worth its time whatever the bits are: with less, no rounding could gain a decibel.
const WORTH: f64 = 0.2;

/// A method, and how close it came, in decibels: the least part of the outputs, and their mean.
struct Tried {
    method: Method,
    least: f64,
    mean: f64,
}

/// What methods are tried with.
pub(super) struct Trial<'a> {
    pub(super) device: &'a Device,
    /// The float network, and its statistics.
    pub(super) graph: &'a Graph,
    pub(super) statistics: &'a Calibration,
}

impl Trial<'_> {
    /// The method whose outputs are the closest to the float network's over `batches`, and why, in a
    /// sentence. The weights have 8 bits and are rounded to nearest, so that the ranges are what is
    /// seen.
    ///
    /// # Errors
    /// Those of [`quantize::quantize`] and [`evaluate::evaluate`].
    pub(super) fn method(
        &self,
        weights: &QuantizeOptions,
        ranges: &RangeOptions,
        batches: Vec<Batch>,
    ) -> Result<(Method, String)> {
        let (weight_bits, first_last_bits, rounding) = (8, None, Rounding::Nearest);
        let weights = QuantizeOptions { weight_bits, first_last_bits, rounding, ..weights.clone() };
        let images: usize = batches.iter().map(|batch| batch.count).sum();
        let largest = batches.iter().map(|batch| batch.count).max().unwrap_or(1);
        let mut networks = Vec::with_capacity(METHODS.len());
        for method in METHODS {
            let ranges = threshold::choose(self.statistics, &RangeOptions { method, ..ranges.clone() })?;
            networks.push(quantize::quantize(self.graph, &ranges, self.statistics, &weights)?);
        }
        let contenders: Vec<Contender<'_>> =
            networks.iter().map(|graph| Contender { name: "tried", graph, layers: false }).collect();
        let mut batches = batches.into_iter().map(Ok);
        let (device, float) = (self.device, Some(self.graph));
        let found = evaluate::evaluate(device, float, &contenders, &mut batches, largest, None, &Silent)?;
        let tried: Vec<Tried> =
            METHODS.into_iter().zip(&found[1..]).map(|(method, found)| Tried::new(method, found)).collect();
        let best = best(&tried);
        let figures = |tried: &Tried| {
            let least = if tried.mean - tried.least > ALIKE {
                format!(", its least part {:.1}", tried.least)
            } else {
                String::new()
            };
            format!("{} {:.1} dB{least}", tried.method, tried.mean)
        };
        let others: Vec<String> = tried.iter().filter(|other| other.method != best.method).map(figures).collect();
        let why = format!("threshold {} on {images} images; {}", figures(best), others.join("; "));
        Ok((best.method, why))
    }
}

impl Tried {
    fn new(method: Method, found: &Evaluation) -> Self {
        let mut parts = Vec::new();
        for output in &found.outputs {
            let worst = output.parts.worst();
            match output.fidelity.sqnr_db() {
                _ if !worst.is_empty() => parts.extend(worst.iter().map(|part| part.sqnr_db)),
                whole => parts.extend(whole),
            }
        }
        // Where there is no error at all, or no signal, there is nothing to tell methods apart by.
        let least = parts.iter().copied().reduce(f64::min).unwrap_or_default();
        let mean = parts.iter().sum::<f64>() / parts.len().max(1) as f64;
        Self { method, least, mean }
    }

    /// What is maximized: the least part counts as much as all.
    fn score(&self) -> f64 {
        f64::midpoint(self.least, self.mean)
    }
}

/// The first of those that are as good as the best.
fn best(tried: &[Tried]) -> &Tried {
    let most = tried.iter().map(Tried::score).fold(f64::NEG_INFINITY, f64::max);
    tried.iter().find(|tried| tried.score() >= most - ALIKE).unwrap_or(&tried[0])
}

/// How the weights are rounded where that is left open, and why: together where they have fewer than
/// 8 bits, or lose much even so.
///
/// # Errors
/// Those of [`quantize::quantize`].
pub(super) fn rounding(
    graph: &Graph,
    statistics: &Calibration,
    weights: &QuantizeOptions,
    ranges: &RangeOptions,
) -> Result<(Rounding, String)> {
    let bits = weights.first_last_bits.map_or(weights.weight_bits, |ends| ends.min(weights.weight_bits));
    if bits < 8 {
        return Ok((Rounding::SecondOrder, format!("rounding second-order: weights have {bits} bits")));
    }
    let ranges = threshold::choose(statistics, ranges)?;
    let share = quantize::weight_share(graph, &ranges, statistics, weights)?;
    let rounding = if share >= WORTH { Rounding::SecondOrder } else { Rounding::Nearest };
    Ok((rounding, format!("rounding {rounding}: the weights' error is {share:.2} of that of the activations' levels")))
}

/// About `count` of the images of all batches, evenly spread.
pub(super) fn spread(batches: &[Batch], count: usize) -> Vec<Batch> {
    let all: usize = batches.iter().map(|batch| batch.count).sum();
    let count = count.min(all);
    let mut first = 0;
    let picked = batches.iter().map(|batch| {
        let own = first..first + batch.count;
        first = own.end;
        let wanted = (0..count).map(|i| i * all / count).filter(|i| own.contains(i)).map(|i| i - own.start);
        batch.pick(&wanted.collect::<Vec<usize>>())
    });
    picked.filter(|batch| batch.count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(figures: &[(Method, f64, f64)]) -> Vec<Tried> {
        figures.iter().map(|&(method, least, mean)| Tried { method, least, mean }).collect()
    }

    #[test]
    fn the_least_part_counts_and_what_is_alike_goes_by_order() {
        let [mse, kl, minmax] = [Method::Mse, Method::KlReparam, Method::MinMax];
        assert_eq!(best(&tried(&[(mse, 5.0, 30.0), (kl, 12.0, 24.0), (minmax, 1.0, 31.0)])).method, kl);
        assert_eq!(best(&tried(&[(mse, 30.0, 30.0), (kl, 30.1, 30.05), (minmax, 30.0, 30.1)])).method, mse);
        assert_eq!(best(&tried(&[(mse, f64::NAN, f64::NAN), (kl, 1.0, 1.0)])).method, kl);
    }

    #[test]
    fn images_are_spread_over_all_batches() {
        let mut all = Batch::empty([1, 1]);
        for i in 0..10u32 {
            all.push(i.to_string(), Some(i as usize), &[i]).unwrap();
        }
        let batches: Vec<Batch> = all.split(3).collect();
        let names = |count| spread(&batches, count).iter().flat_map(|batch| batch.names.clone()).collect::<Vec<_>>();
        assert_eq!(names(5), ["0", "2", "4", "6", "8"]);
        assert_eq!(names(1), ["0"]);
        assert_eq!(names(99).len(), 10);
        let picked = spread(&batches, 4);
        assert_eq!(picked.iter().map(|batch| batch.count).sum::<usize>(), 4);
        assert_eq!(picked[1].pixels(), [5]);
        assert_eq!(picked[1].labels, [Some(5)]);
        assert!(spread(&[], 3).is_empty());
    }
}
