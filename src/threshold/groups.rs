//! Merging the kept bins to a few levels, which both divergences do for every candidate.

use std::ops::Range;

/// Prefix sums of a histogram: the mass and the occupied bins of any run of bins. Integers, so
/// exact.
pub(super) struct Groups {
    mass: Vec<u64>,
    occupied: Vec<u64>,
}

/// A group of neighbouring bins.
pub(super) struct Group {
    /// Its bins.
    pub(super) bins: Range<usize>,
    /// What each occupied one of them holds when the group's mass is spread over them evenly.
    pub(super) each: f64,
}

impl Groups {
    pub(super) fn new(counts: &[u64]) -> Self {
        let (mut mass, mut occupied) = (vec![0], vec![0]);
        let (mut m, mut o) = (0, 0);
        for &count in counts {
            m += count;
            o += u64::from(count > 0);
            mass.push(m);
            occupied.push(o);
        }
        Self { mass, occupied }
    }

    /// Number of values in the first `kept` bins.
    pub(super) fn mass(&self, kept: usize) -> u64 {
        self.mass[kept]
    }

    /// The groups that hold anything, when the first `kept` bins are merged to `levels`: bin j is
    /// in group `floor(j·levels/kept)`.
    pub(super) fn of(&self, kept: usize, levels: usize) -> impl Iterator<Item = Group> {
        let first = move |group: usize| (group * kept).div_ceil(levels);
        (0..levels).filter_map(move |group| {
            let bins = first(group)..first(group + 1);
            let occupied = self.occupied[bins.end] - self.occupied[bins.start];
            let mass = self.mass[bins.end] - self.mass[bins.start];
            (occupied > 0).then(|| Group { bins, each: mass as f64 / occupied as f64 })
        })
    }
}

/// The candidate with the least divergence, the last of equal ones.
pub(super) fn last_least(divergences: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
    let best = divergences.reduce(|best, next| if next.1 <= best.1 { next } else { best });
    best.map(|(kept, _)| kept)
}
