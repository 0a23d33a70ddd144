//! An output that holds several things, such as boxes and scores, compared part by part.
//!
//! One sum over all of it would be that of the largest values. So the sums are kept for every entry
//! along every axis, and the axis is chosen afterwards whose entries differ the most in power: that
//! of what the things are, not of where they are.

use super::fidelity::Fidelity;

/// The longest axis that is looked at.
const MOST_ENTRIES: usize = 4096;

/// An entry counts where its largest value is at least this part of the largest of all: a class that
/// never shows has an error, but no signal. Scores beside boxes of hundreds of pixels count.
const LEAST_SHARE: f64 = 1e-5;

/// An axis whose entries differ less than this in power holds one thing.
const LEAST_RATIO: f64 = 4.0;

/// The sums of one output, by entries of its axes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Parts {
    axes: Vec<AxisSums>,
}

/// The entries of one axis.
#[derive(Debug, Clone, PartialEq)]
struct AxisSums {
    axis: usize,
    /// Values from one entry to the next.
    inner: usize,
    entries: Vec<Entry>,
}

/// What was seen of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Entry {
    fidelity: Fidelity,
    largest: f64,
}

/// An entry of an axis, and how close it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    /// The axis, counted from 1: the batch is axis 0.
    pub(crate) axis: usize,
    /// The entry.
    pub(crate) entry: usize,
    /// Its SQNR in decibels.
    pub(crate) sqnr_db: f64,
}

impl Parts {
    /// Nothing seen yet of an output of these sides. One of a single axis holds one thing: logits,
    /// or an embedding.
    pub(crate) fn new(sides: &[usize]) -> Self {
        let axes = (0..sides.len()).filter(|&axis| sides.len() > 1 && (2..=MOST_ENTRIES).contains(&sides[axis]));
        let sums = |axis: usize| AxisSums {
            axis,
            inner: sides[axis + 1..].iter().product(),
            entries: vec![Entry::default(); sides[axis]],
        };
        Self { axes: axes.map(sums).collect() }
    }

    /// Adds an image: float values and their quantized counterparts, in row-major order.
    pub(crate) fn add(&mut self, y: &[f64], quantized: &[f64]) {
        for AxisSums { inner, entries, .. } in &mut self.axes {
            let lines = y.chunks(*inner).zip(quantized.chunks(*inner));
            let count = entries.len();
            for (line, (y, q)) in lines.enumerate() {
                let entry = &mut entries[line % count];
                entry.fidelity.add(y, q);
                entry.largest = y.iter().fold(entry.largest, |largest, v| largest.max(v.abs()));
            }
        }
    }

    /// The entries of the axis that tells things apart, the least close first; none where no axis
    /// does.
    pub(crate) fn worst(&self) -> Vec<Part> {
        let ratio = |sums: &AxisSums| {
            let powers = || sums.entries.iter().map(|entry| entry.fidelity.signal).filter(|&power| power > 0.0);
            powers().fold(0.0, f64::max) / powers().fold(f64::INFINITY, f64::min)
        };
        // Of axes that differ as much, the first.
        let best = self.axes.iter().rev().max_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        let Some(sums) = best.filter(|sums| ratio(sums) >= LEAST_RATIO) else { return Vec::new() };
        let least = LEAST_SHARE * sums.entries.iter().map(|entry| entry.largest).fold(0.0, f64::max);
        let part = |(entry, seen): (usize, &Entry)| {
            let sqnr_db = seen.fidelity.sqnr_db().filter(|_| seen.largest >= least)?;
            Some(Part { axis: sums.axis + 1, entry, sqnr_db })
        };
        let mut parts: Vec<Part> = sums.entries.iter().enumerate().filter_map(part).collect();
        parts.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two boxes of hundreds, off by a hundredth, and a score below 1, off by a half.
    fn output(boxes_first: bool) -> Parts {
        let sides = if boxes_first { [3, 4] } else { [4, 3] };
        let mut parts = Parts::new(&sides);
        let value = |thing: usize, place: usize| [200.0, 300.0, 0.5][thing] + 0.1 * place as f64;
        let at = |i: usize| if boxes_first { (i / 4, i % 4) } else { (i % 3, i / 3) };
        let y: Vec<f64> = (0..12).map(|i| value(at(i).0, at(i).1)).collect();
        let q: Vec<f64> = (0..12).map(|i| y[i] * [1.01, 1.01, 1.5][at(i).0]).collect();
        parts.add(&y, &q);
        parts
    }

    #[test]
    fn scores_show_beside_boxes_on_either_axis() {
        for (boxes_first, axis) in [(true, 1), (false, 2)] {
            let worst = output(boxes_first).worst();
            assert_eq!((worst.len(), worst[0].axis, worst[0].entry), (3, axis, 2));
            assert!((worst[0].sqnr_db - 20.0 * 2f64.log10()).abs() < 1e-9 && (worst[1].sqnr_db - 40.0).abs() < 1e-9);
        }
    }

    #[test]
    fn one_thing_has_no_parts_and_what_never_shows_does_not_count() {
        let mut alike = Parts::new(&[2, 2]);
        alike.add(&[1.0, 1.1, 0.9, 1.0], &[1.1, 1.1, 0.9, 1.0]);
        assert_eq!(alike.worst(), []);
        let mut vector = Parts::new(&[3]);
        vector.add(&[1.0, 100.0, 1.0], &[2.0, 100.0, 1.0]);
        assert_eq!(vector.worst(), []);
        let mut dead = Parts::new(&[3, 1]);
        dead.add(&[100.0, 10.0, 1e-6], &[101.0, 10.5, 1e-3]);
        assert_eq!(dead.worst().iter().map(|part| part.entry).collect::<Vec<_>>(), [1, 0]);
    }
}
