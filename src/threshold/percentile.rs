//! `percentile:P`: clip the tail above P % of all values.

/// How many bins are kept: up to the first bin at or below which at least `percent` % of all values
/// lie, `zeros` included. `counts` holds at least one value, `percent` is in (0, 100].
///
/// With each sign on its own (affine) the zeros belong to both, so an activation after a `ReLU`
/// gets the same threshold in both modes.
pub(super) fn bins(counts: &[u64], zeros: u64, percent: f64) -> usize {
    let total = zeros as f64 + counts.iter().sum::<u64>() as f64;
    let mut below = zeros;
    for (bin, count) in counts.iter().enumerate() {
        below += count;
        // Multiplied rather than divided by 100, so that 99.9 % of 1000 is 999 and not a rounding
        // more.
        if below as f64 * 100.0 >= percent * total {
            return bin + 1;
        }
    }
    counts.len() // every value lies in a bin, so this is only reached when f64 rounds totals beyond 2^53
}
