//! `kl`: the published entropy calibration, as in pytorch-quantization and modelopt
//! (`calib/histogram.py`), over power-of-two bins.
//!
//! `bins[0] = bins[1]`, which also replaces the exact zeros that belong to bin 0. For every i from
//! 128 to the last occupied bin (the last bin, in the original, is the one that holds the maximum):
//! P is bins[0..i] with the clipped tail added to its last bin, Q is bins[0..i] merged to 2^(b−1)
//! levels and spread back over the occupied bins, both are normalised, `D = Σ P·ln(P/Q)`, infinite
//! where P > 0 and Q = 0. The last least D wins.
//!
//! ln(P/Q) is taken as ln P − ln Q: ln P is tabulated once and ln Q once for each group, where the
//! plain form takes eight million logarithms.

use super::groups::{Groups, last_least};

/// The first candidate of the original, whatever the bit width.
const FIRST: usize = 128;

/// How many bins are kept, with `levels` levels above 0; none where fewer bins than the first
/// candidate are in use.
pub(super) fn bins(counts: &[u64], levels: usize) -> Option<usize> {
    let mut counts = counts.to_vec();
    counts[0] = counts[1];
    let last = counts.iter().rposition(|&n| n > 0)? + 1;
    let groups = Groups::new(&counts);
    let total = groups.mass(last) as f64;
    let p: Vec<f64> = counts.iter().map(|&n| n as f64 / total).collect();
    let ln_p: Vec<f64> = p.iter().map(|&p| if p > 0.0 { p.ln() } else { 0.0 }).collect();
    last_least((FIRST.max(levels)..=last).map(|kept| {
        let tail = groups.mass(last) - groups.mass(kept);
        if counts[kept - 1] == 0 && tail > 0 {
            return (kept, f64::INFINITY);
        }
        let mass = groups.mass(kept) as f64;
        let end = (counts[kept - 1] + tail) as f64 / total;
        let mut divergence = 0.0;
        for group in groups.of(kept, levels) {
            let ln_q = (group.each / mass).ln();
            let is_last = group.bins.end == kept;
            let bins = group.bins.start..group.bins.end - usize::from(is_last);
            for (p, ln_p) in p[bins.clone()].iter().zip(&ln_p[bins]) {
                divergence += p * (ln_p - ln_q); // an empty bin adds 0
            }
            if is_last && end > 0.0 {
                divergence += end * (end.ln() - ln_q);
            }
        }
        (kept, divergence)
    }))
}
