//! Which units an activation's channels are held in, and its statistics in them.
//!
//! Statistics know of each channel how many magnitudes lie in each half octave, and of all channels
//! together a fine histogram for each sign. So a channel's range is known to a half octave, and its
//! values within one are taken to lie, and to have signs, as all channels' values there do.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::calibrate::{ActivationStats, BINS, POWER_BINS, class_edges};

/// The largest exponent: a channel that is narrower yet counts as one that is 2^16 times narrower.
pub(super) const MOST: usize = 16;

/// k of each channel: with the most that leaves its half octave at or below the widest channel's, and
/// below `limit` where one is given; empty where that is 0 for all.
pub(super) fn exponents(stats: &ActivationStats, limit: Option<f32>) -> Vec<u8> {
    let top = |row: ndarray::ArrayView1<'_, u64>| row.iter().rposition(|&count| count > 0);
    let tops: Vec<Option<usize>> = stats.power.rows().into_iter().map(top).collect();
    // Beyond the last class nothing is known of how wide a channel is.
    let Some(widest) = tops.iter().flatten().max().copied().filter(|&widest| widest < POWER_BINS - 1) else {
        return Vec::new();
    };
    let beyond = limit.is_some_and(|limit| class_edges(widest).1 > f64::from(limit));
    let exponent = |top: &Option<usize>| {
        let Some(top) = *top else { return 0 };
        let k = ((widest - top) / 2).min(MOST);
        (if beyond && top + 2 * k == widest { k.saturating_sub(1) } else { k }) as u8
    };
    let exponents: Vec<u8> = tops.iter().map(exponent).collect();
    if exponents.iter().all(|&k| k == 0) { Vec::new() } else { exponents }
}

/// The smaller exponent of each channel, of two activations that are held alike.
pub(super) fn least(a: &[u8], b: &[u8]) -> Vec<u8> {
    let least: Vec<u8> = a.iter().zip(b).map(|(a, b)| *a.min(b)).collect();
    if least.iter().all(|&k| k == 0) { Vec::new() } else { least }
}

/// The statistics of an activation whose channels are held times `2^k`.
pub(super) fn rescaled(stats: &ActivationStats, exponents: &[u8]) -> ActivationStats {
    let mut result = ActivationStats::new(&stats.name, stats.channels());
    (result.exponent, result.zeros) = (stats.exponent, stats.zeros);
    // How many values of each half octave are multiplied by each factor.
    let mut counts: BTreeMap<(u8, usize), u64> = BTreeMap::new();
    for ((channel, class), &count) in stats.power.indexed_iter().filter(|(_, count)| **count > 0) {
        let k = exponents.get(channel).copied().unwrap_or(0);
        *counts.entry((k, class)).or_default() += count;
        result.power[[channel, (class + 2 * usize::from(k)).min(POWER_BINS - 1)]] += count;
    }
    let width = f64::exp2(f64::from(stats.exponent));
    // The largest magnitude of each sign, in bins.
    let (mut high, mut low) = (0f64, 0f64);
    for ((k, class), count) in counts {
        let factor = f64::from(1u32 << k);
        for (piece, count) in shared(&pieces(stats, class), count) {
            let (lo, hi) = (piece.range.start * factor, piece.range.end * factor);
            let (side, most) =
                if piece.positive { (&mut result.positive, &mut high) } else { (&mut result.negative, &mut low) };
            *most = most.max(hi);
            spread(side, lo..hi, count);
        }
    }
    // A bin's end does not belong to it, an extreme that was seen does.
    let extreme = |bins: f64, seen: f32| {
        let value = (bins * width) as f32;
        if value == seen || value == 0.0 { value } else { f32::from_bits(value.to_bits() - 1) }
    };
    let any_zero = stats.zeros > 0;
    result.max = if high > 0.0 { extreme(high, stats.max.max(0.0)) } else { stats.max.min(0.0) };
    result.min = if low > 0.0 { -extreme(low, (-stats.min).max(0.0)) } else { stats.min.max(0.0) };
    // Of values of one sign the other end is not that of the widest channel any more.
    if stats.min > 0.0 || (any_zero && low == 0.0) {
        result.min = if any_zero { 0.0 } else { stats.min };
    }
    if stats.max < 0.0 || (any_zero && high == 0.0) {
        result.max = if any_zero { 0.0 } else { stats.max };
    }
    result
}

/// Values of one sign that lie in a range of bins, and how many of a half octave's there are.
struct Piece {
    range: Range<f64>,
    positive: bool,
    weight: u64,
}

/// How the values of a half octave lie.
fn pieces(stats: &ActivationStats, class: usize) -> Vec<Piece> {
    let width = f64::exp2(f64::from(stats.exponent));
    let (a, b) = class_edges(class);
    let (a, b) = (a / width, (b / width).min(BINS as f64));
    let bins = (a.floor() as usize).min(BINS - 1)..(b.ceil() as usize).clamp(1, BINS);
    let sides = [(true, &stats.positive, stats.max), (false, &stats.negative, -stats.min)];
    let mut found: Vec<Piece> = Vec::new();
    for (positive, side, limit) in sides {
        let limit = f64::from(limit) / width;
        // From the second bin on, a half octave begins and ends with a bin.
        if a >= 2.0 {
            let occupied = bins.clone().filter(|&bin| side[bin] > 0);
            found.extend(occupied.map(|bin| {
                let range = bin as f64..(bin as f64 + 1.0).min(limit);
                Piece { range, positive, weight: side[bin] }
            }));
        } else {
            let weight = side[bins.clone()].iter().sum();
            if weight > 0 {
                found.push(Piece { range: a..b.min(limit).max(a), positive, weight });
            }
        }
    }
    found
}

/// Shares a number out by the pieces' weights.
fn shared(pieces: &[Piece], count: u64) -> impl Iterator<Item = (&Piece, u64)> {
    let total: u128 = pieces.iter().map(|piece| u128::from(piece.weight)).sum();
    let mut sum = 0u128;
    pieces.iter().filter_map(move |piece| {
        let before = sum * u128::from(count) / total.max(1);
        sum += u128::from(piece.weight);
        let share = (sum * u128::from(count) / total.max(1) - before) as u64;
        (share > 0).then_some((piece, share))
    })
}

/// Adds values that lie evenly in a range of bins.
fn spread(side: &mut [u64], range: Range<f64>, count: u64) {
    let first = (range.start.floor() as usize).min(BINS - 1);
    let last = (range.end.ceil() as usize).clamp(first + 1, BINS);
    let length = range.end - range.start;
    let mut given = 0;
    for (bin, counter) in side.iter_mut().enumerate().take(last).skip(first) {
        let until = if bin + 1 == last || length <= 0.0 {
            count
        } else {
            ((bin as f64 + 1.0 - range.start) / length * count as f64).floor() as u64
        };
        let until = until.clamp(given, count);
        *counter += until - given;
        given = until;
    }
}
