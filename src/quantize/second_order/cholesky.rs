//! The Cholesky decomposition, and what is done with it.
//!
//! In f64; each value is computed by the same operations in the same order on every machine and with
//! any number of threads.

use rayon::prelude::*;

/// Columns that are eliminated together.
const PANEL: usize = 32;

/// Right-hand sides that are solved for side by side.
pub(super) const LANES: usize = 8;

/// One value for each of the right-hand sides.
pub(super) type Lane = [f64; LANES];

/// A lower triangular matrix L.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lower {
    side: usize,
    /// Row by row; what is above the diagonal means nothing.
    values: Vec<f64>,
}

impl Lower {
    /// L with `L·Lᵀ = A`, of A's lower triangle, row by row; none where A is not positive definite.
    pub(super) fn of(mut a: Vec<f64>, side: usize) -> Option<Self> {
        for first in (0..side).step_by(PANEL) {
            let end = side.min(first + PANEL);
            // The panel's own rows, each from those before it.
            for i in first..end {
                for j in first..=i {
                    let dot = (first..j).fold(a[i * side + j], |sum, k| sum - a[i * side + k] * a[j * side + k]);
                    if i > j {
                        a[i * side + j] = dot / a[j * side + j];
                    } else if dot > 0.0 && dot.is_finite() {
                        a[i * side + i] = dot.sqrt();
                    } else {
                        return None;
                    }
                }
            }
            let (panel, below) = a.split_at_mut(end * side);
            let own = |j: usize| &panel[j * side + first..j * side + end];
            below.par_chunks_mut(side).for_each(|row| {
                for j in first..end {
                    let dot = (first..j).fold(row[j], |sum, k| sum - row[k] * own(j)[k - first]);
                    row[j] = dot / own(j)[j - first];
                }
            });
            // What is left, less the panel's share. Its columns lie side by side for that.
            let rows = side - end;
            let mut columns = vec![0f64; (end - first) * rows];
            for (i, row) in below.chunks_exact(side).enumerate() {
                for (k, value) in row[first..end].iter().enumerate() {
                    columns[k * rows + i] = *value;
                }
            }
            below.par_chunks_mut(side).enumerate().for_each(|(i, row)| {
                let (done, rest) = row.split_at_mut(end);
                for (k, &factor) in done[first..].iter().enumerate() {
                    subtract(&mut rest[..=i], factor, &columns[k * rows..=k * rows + i]);
                }
            });
        }
        Some(Self { side, values: a })
    }

    /// Row i up to the diagonal, which is its last value.
    pub(super) fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.side..=i * self.side + i]
    }

    /// Replaces right-hand sides r by the x with `L·Lᵀ·x = r`.
    pub(super) fn solve(&self, rhs: &mut [Lane]) {
        for i in 0..self.side {
            let (before, after) = rhs.split_at_mut(i);
            let Some((diagonal, row)) = self.row(i).split_last() else { return };
            for (factor, known) in row.iter().zip(before) {
                each(&mut after[0], |lane, value| value - factor * known[lane]);
            }
            each(&mut after[0], |_, value| value / diagonal);
        }
        for i in (0..self.side).rev() {
            let (before, after) = rhs.split_at_mut(i);
            let Some((diagonal, row)) = self.row(i).split_last() else { return };
            each(&mut after[0], |_, value| value / diagonal);
            for (factor, open) in row.iter().zip(before) {
                each(open, |lane, value| value - factor * after[0][lane]);
            }
        }
    }
}

fn subtract(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to -= factor * from);
}

fn each(to: &mut Lane, f: impl Fn(usize, f64) -> f64) {
    to.iter_mut().enumerate().for_each(|(lane, value)| *value = f(lane, *value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn products_of_the_factor_are_the_matrix_and_solutions_solve() {
        for side in [0, 1, 5, PANEL, 2 * PANEL + 3] {
            let mut random = Random::new(side as u64 + 1);
            let factors: Vec<f64> = (0..side * side).map(|_| random.between(-1.0, 1.0)).collect();
            let at = |i: usize, j: usize| {
                let dot: f64 = (0..side).map(|k| factors[i * side + k] * factors[j * side + k]).sum();
                dot + if i == j { 0.1 } else { 0.0 }
            };
            let a: Vec<f64> = (0..side * side).map(|p| at(p / side, p % side)).collect();
            let lower = Lower::of(a.clone(), side).expect("positive definite");
            for i in 0..side {
                for j in 0..=i {
                    let product: f64 = lower.row(i).iter().zip(lower.row(j)).map(|(a, b)| a * b).sum();
                    assert!((product - a[i * side + j]).abs() < 1e-10 * side as f64, "{i} {j}");
                }
            }
            let x: Vec<Lane> = (0..side).map(|i| std::array::from_fn(|lane| (i * 3 + lane) as f64 * 0.1)).collect();
            let mut rhs: Vec<Lane> = (0..side)
                .map(|i| std::array::from_fn(|lane| (0..side).map(|j| a[i * side + j] * x[j][lane]).sum()))
                .collect();
            lower.solve(&mut rhs);
            let off = rhs.iter().flatten().zip(x.iter().flatten()).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f64::max) < 1e-7);
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_has_none() {
        assert_eq!(Lower::of(vec![1.0, 0.0, 2.0, 1.0], 2), None);
        assert_eq!(Lower::of(vec![f64::NAN], 1), None);
        assert_eq!(Lower::of(vec![0.0], 1), None);
    }
}
