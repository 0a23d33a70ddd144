//! Operations over lines of an activation: reductions and standardization.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Axis, Shape};

/// Which values make up a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Along {
    /// The channels of a pixel.
    Channels,
    /// A column: the rows of a channel.
    Height,
    /// A row: the columns of a channel.
    Width,
    /// All pixels of a channel, row by row.
    Pixels,
}

impl Along {
    /// How many values a line has.
    pub fn count(self, shape: Shape) -> usize {
        match self {
            Self::Channels => shape.channels,
            Self::Height => shape.height,
            Self::Width => shape.width,
            Self::Pixels => shape.pixels(),
        }
    }

    /// The shape where each line is one value.
    pub fn reduced(self, shape: Shape) -> Shape {
        match self {
            Self::Channels => Shape { channels: 1, ..shape },
            Self::Height => Shape { height: 1, ..shape },
            Self::Width => Shape { width: 1, ..shape },
            Self::Pixels => Shape::new(shape.channels, 1, 1),
        }
    }

    /// Its axes in the order batch, channels, rows, columns.
    pub fn axes(self) -> &'static [usize] {
        match self {
            Self::Channels => &[1],
            Self::Height => &[2],
            Self::Width => &[3],
            Self::Pixels => &[2, 3],
        }
    }
}

impl From<Axis> for Along {
    fn from(axis: Axis) -> Self {
        match axis {
            Axis::Channels => Self::Channels,
            Axis::Height => Self::Height,
            Axis::Width => Self::Width,
        }
    }
}

impl fmt::Display for Along {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Channels => "channels",
            Self::Height => "height",
            Self::Width => "width",
            Self::Pixels => "pixels",
        })
    }
}

/// One value for each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduce {
    /// What becomes of a line.
    pub kind: ReduceKind,
    /// Which lines.
    pub along: Along,
}

/// What a [`Reduce`] computes of the values x of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReduceKind {
    /// `Σx`.
    Sum,
    /// `Σx / n`.
    Mean,
    /// `Σ|x|`.
    SumOfMagnitudes,
    /// `Σx²`.
    SumOfSquares,
    /// `sqrt(Σx²)`.
    Norm,
    /// `ln Σx`.
    LogOfSum,
    /// `ln Σe^x`, as `m + ln Σe^(x − m)` with the largest value m.
    LogOfSumOfExponentials,
    /// `Πx`.
    Product,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Where the largest is, counted from 0; of equal ones the first.
    ArgMax,
    /// As [`Self::ArgMax`]; of equal ones the last.
    ArgMaxLast,
    /// Where the smallest is, counted from 0; of equal ones the first.
    ArgMin,
    /// As [`Self::ArgMin`]; of equal ones the last.
    ArgMinLast,
}

impl ReduceKind {
    /// All of them, in the order of their numbers in `reduce_f32.wgsl`.
    pub(crate) const ALL: [Self; 14] = [
        Self::Sum,
        Self::Mean,
        Self::SumOfMagnitudes,
        Self::SumOfSquares,
        Self::Norm,
        Self::LogOfSum,
        Self::LogOfSumOfExponentials,
        Self::Product,
        Self::Min,
        Self::Max,
        Self::ArgMax,
        Self::ArgMaxLast,
        Self::ArgMin,
        Self::ArgMinLast,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::SumOfMagnitudes => "sum of magnitudes",
            Self::SumOfSquares => "sum of squares",
            Self::Norm => "norm",
            Self::LogOfSum => "log of sum",
            Self::LogOfSumOfExponentials => "log of sum of exponentials",
            Self::Product => "product",
            Self::Min => "minimum",
            Self::Max => "maximum",
            Self::ArgMax | Self::ArgMaxLast => "argmax",
            Self::ArgMin | Self::ArgMinLast => "argmin",
        }
    }

    /// Of the values of a line, in f64; NaN of none.
    pub fn apply(self, line: &[f64]) -> f64 {
        let largest = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let place = |of: fn(f64, f64) -> bool, last: bool| {
            let mut best = 0;
            for (at, &value) in line.iter().enumerate().skip(1) {
                if of(value, line[best]) || (last && value == line[best]) {
                    best = at;
                }
            }
            best as f64
        };
        if line.is_empty() {
            return f64::NAN;
        }
        match self {
            Self::Sum => line.iter().sum(),
            Self::Mean => line.iter().sum::<f64>() / line.len() as f64,
            Self::SumOfMagnitudes => line.iter().map(|x| x.abs()).sum(),
            Self::SumOfSquares => line.iter().map(|x| x * x).sum(),
            Self::Norm => line.iter().map(|x| x * x).sum::<f64>().sqrt(),
            Self::LogOfSum => line.iter().sum::<f64>().ln(),
            Self::LogOfSumOfExponentials => largest + line.iter().map(|x| (x - largest).exp()).sum::<f64>().ln(),
            Self::Product => line.iter().product(),
            Self::Min => line.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Max => largest,
            Self::ArgMax => place(|a, b| a > b, false),
            Self::ArgMaxLast => place(|a, b| a > b, true),
            Self::ArgMin => place(|a, b| a < b, false),
            Self::ArgMinLast => place(|a, b| a < b, true),
        }
    }
}

/// `(x − μ) / sqrt(σ² + ε)` for the mean μ and the variance σ² (of all, not of a sample) of each
/// line: what layer, instance and group normalization share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardize {
    /// Which lines.
    pub along: Along,
    /// ε, 0 or more.
    pub epsilon: f32,
}

impl Standardize {
    /// A line, in f64.
    pub fn apply(&self, line: &[f64]) -> Vec<f64> {
        let count = line.len() as f64;
        let mean = line.iter().sum::<f64>() / count;
        let variance = line.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        let deviation = (variance + f64::from(self.epsilon)).sqrt();
        line.iter().map(|x| (x - mean) / deviation).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_of_known_lines() {
        let line = [3.0, -4.0, 3.0, -4.0];
        let of = |kind: ReduceKind| kind.apply(&line);
        assert_eq!((of(ReduceKind::Sum), of(ReduceKind::Mean), of(ReduceKind::Product)), (-2.0, -0.5, 144.0));
        assert_eq!((of(ReduceKind::SumOfMagnitudes), of(ReduceKind::SumOfSquares)), (14.0, 50.0));
        assert_eq!((of(ReduceKind::Norm), of(ReduceKind::Min), of(ReduceKind::Max)), (50f64.sqrt(), -4.0, 3.0));
        assert_eq!((of(ReduceKind::ArgMax), of(ReduceKind::ArgMaxLast)), (0.0, 2.0));
        assert_eq!((of(ReduceKind::ArgMin), of(ReduceKind::ArgMinLast)), (1.0, 3.0));
        assert_eq!(ReduceKind::LogOfSum.apply(&[1.0, 1.0]), 2f64.ln());
        assert_eq!(ReduceKind::LogOfSumOfExponentials.apply(&[1000.0, 1000.0]), 1000.0 + 2f64.ln());
        assert!(ReduceKind::Max.apply(&[]).is_nan());
    }

    #[test]
    fn a_standardized_line_has_mean_0_and_variance_1() {
        let line = Standardize { along: Along::Pixels, epsilon: 0.0 }.apply(&[1.0, 3.0]);
        assert_eq!(line, [-1.0, 1.0]);
        let damped = Standardize { along: Along::Pixels, epsilon: 3.0 }.apply(&[1.0, 3.0]);
        assert_eq!(damped, [-0.5, 0.5]);
    }

    #[test]
    fn lines_of_a_shape() {
        let shape = Shape::new(2, 3, 5);
        let counts = [Along::Channels, Along::Height, Along::Width, Along::Pixels].map(|along| along.count(shape));
        assert_eq!(counts, [2, 3, 5, 15]);
        for along in [Along::Channels, Along::Height, Along::Width, Along::Pixels] {
            assert_eq!(along.reduced(shape).len() * along.count(shape), shape.len());
        }
    }
}
