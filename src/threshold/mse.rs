//! `mse`: the threshold with the least squared error of quantization.
//!
//! For a threshold of `i` bins and `L` steps below it, one step is `i/L` bins wide and a value at a
//! bin's centre `x = j + 1/2` becomes `m·i/L` with `m = min(round(x·L/i), L)`. The error, times
//! `(2L)²`, is the integer
//!
//! `Σ count·(L·(2j + 1) − 2i·m)² = L²·Σ count·(2j + 1)² − 4·L·i·m·Σ count·(2j + 1) + 4·(i·m)²·Σ count`
//!
//! summed over the runs of bins that share a level m. Prefix sums give each run at once, and as
//! everything is an integer they change nothing: candidates are compared without any rounding. (A
//! value half-way between two levels has the same error with either, so the direction of rounding
//! does not matter.)

/// Σ count, Σ count·(2j+1) and Σ count·(2j+1)² of the bins before each bin.
///
/// Counts add up to less than 2^64 and 2j+1 is below 2^13, so the terms of the error, at most
/// 2^64·(2^13·2^8)²·2 and so below 2^108, fit i128 by far.
pub(super) struct Prefix {
    moments: Vec<[i128; 3]>,
}

impl Prefix {
    pub(super) fn new(counts: &[u64]) -> Self {
        let mut sum = [0; 3];
        let mut moments = vec![sum];
        for (bin, &count) in counts.iter().enumerate() {
            let (x, count) = (2 * bin as i128 + 1, i128::from(count));
            sum = [sum[0] + count, sum[1] + count * x, sum[2] + count * x * x];
            moments.push(sum);
        }
        Self { moments }
    }

    /// Σ count·(2j+1)²: four times the energy, in squared bins, of values at the bins' centres.
    pub(super) fn energy(&self) -> i128 {
        self.moments[self.moments.len() - 1][2]
    }

    /// Σ count·(2j+1 − 2·kept)² of the bins from `kept` on: four times the squared error of
    /// clipping there.
    pub(super) fn clipped(&self, kept: usize) -> i128 {
        let (all, i) = (self.moments[self.moments.len() - 1], 2 * kept as i128);
        let [n, x, xx] = std::array::from_fn(|k| all[k] - self.moments[kept][k]);
        xx - 2 * i * x + i * i * n
    }

    /// The error of `kept` bins and `steps` levels, times `(2·steps)²`.
    fn error(&self, kept: usize, steps: u32) -> i128 {
        let (i, l) = (kept as i128, i128::from(steps));
        let end = self.moments.len() - 1;
        let mut error = 0;
        let mut first = 0;
        for m in 0..=l {
            // The first bin that rounds to m + 1: 2·(2j + 1)·L ≥ (2m + 1)·2i, that is j ≥ ((2m +
            // 1)·i − L) / 2L.
            let next = if m == l { end } else { (((2 * m + 1) * i - l).max(0) as usize).div_ceil(2 * steps as usize) };
            let next = next.min(end);
            let [n, x, xx] = std::array::from_fn(|k| self.moments[next][k] - self.moments[first][k]);
            error += l * l * xx - 4 * l * i * m * x + 4 * i * i * m * m * n;
            first = next;
        }
        error
    }
}

/// How many bins are kept, with `steps` levels above 0: the least squared error over bin centres,
/// among all upper edges up to the last occupied bin, the larger on a tie. `counts` holds at least
/// one value.
pub(super) fn bins(counts: &[u64], steps: u32) -> usize {
    let last = counts.iter().rposition(|&n| n > 0).map_or(1, |bin| bin + 1);
    let prefix = Prefix::new(counts);
    let candidates = (1..=last).map(|kept| (prefix.error(kept, steps), kept));
    candidates.reduce(|best, next| if next.0 <= best.0 { next } else { best }).map_or(last, |(_, kept)| kept)
}
