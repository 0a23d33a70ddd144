//! The integers that operations compute with, beside their weights.

use std::fmt;

use super::{ConstantsKind, Multiplier, QParams};

/// The integers that an operation computes with. Which of them suit an operation,
/// [`Op::constants`](super::Op::constants) says; `>>` rounds to the nearest, halves upwards.
#[derive(Debug, Clone, PartialEq)]
pub enum Constants {
    /// None. What passes levels on is stored as its input is; a [`QConv`](super::QConv) has its
    /// own.
    None,
    /// `q_y = clamp(z_y + ((Σ(q − z_x)·M + 2^(n−1)) >> n))`, the sum over an image:
    /// `s_x / (s_y·H·W)`.
    Multiplier(Multiplier),
    /// The same for sums over windows: for a divisor of d entry d − 1, `s_x / (s_y·d)`. One for
    /// each divisor from 1 to [`Pool::largest_divisor`](super::Pool::largest_divisor).
    Multipliers(Vec<Multiplier>),
    /// A sum, difference or product of two activations.
    Binary(QBinary),
    /// What becomes of each level.
    Table(Table),
    /// What becomes of each level of each channel.
    ChannelTables(Vec<Table>),
    /// What becomes of the levels of each input; none where they are those of the output.
    Tables(Vec<Option<Table>>),
}

impl Constants {
    /// Whether they are of this kind.
    pub fn are(&self, kind: ConstantsKind) -> bool {
        match (self, kind) {
            (Self::None, ConstantsKind::None)
            | (Self::Multiplier(_), ConstantsKind::Multiplier)
            | (Self::Multipliers(_), ConstantsKind::Multipliers)
            | (Self::Binary(QBinary::Product(_)), ConstantsKind::Product)
            | (Self::Table(_), ConstantsKind::Table)
            | (Self::ChannelTables(_), ConstantsKind::ChannelTables)
            | (Self::Tables(_), ConstantsKind::Tables) => true,
            (Self::Binary(QBinary::Sum { multipliers: [a, b], .. }), ConstantsKind::Sum) => *a >= 0 && *b >= 0,
            (Self::Binary(QBinary::Sum { multipliers: [a, b], .. }), ConstantsKind::Difference) => *a >= 0 && *b <= 0,
            _ => false,
        }
    }
}

/// A function of two activations in integers; `>>` rounds to the nearest, halves upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QBinary {
    /// `q_y = clamp(z_y + (((q_a − z_a)·M_a + (q_b − z_b)·M_b + 2^(n−1)) >> n))`; a difference has
    /// a negative `M_b`.
    Sum {
        /// `M_a` and `M_b`, `s_a/s_y` and `±s_b/s_y` times 2^n.
        multipliers: [i32; 2],
        /// n, 1 to 62.
        right_shift: u8,
    },
    /// `q_y = clamp(z_y + (((q_a − z_a)·(q_b − z_b)·M + 2^(n−1)) >> n))`, `M·2^(−n) = s_a·s_b/s_y`.
    Product(Multiplier),
}

/// The level that becomes of each level: entry q + 128.
#[derive(Clone, PartialEq, Eq)]
pub struct Table(pub Box<[i8; 256]>);

impl Table {
    /// `q_y = clamp(round(f(x)/s_y) + z_y, low, high)` of the real value x of each level, in f64,
    /// half to even.
    pub fn of(x: &QParams, y: &QParams, f: impl Fn(f64) -> f64) -> Self {
        let level = |q: i32| y.quantize(f(x.dequantize(q))) as i8;
        Self(Box::new(std::array::from_fn(|i| level(i as i32 - 128))))
    }

    /// The same for a function that may not be defined everywhere: an infinite value is the lowest
    /// or the highest level, and where there is no value, the level is that of the nearest one
    /// below that has one, else above. Calibration refuses a network in which an image reaches such
    /// a level.
    pub fn of_partial(x: &QParams, y: &QParams, f: impl Fn(f64) -> f64) -> Self {
        let levels: Vec<Option<i8>> = (-128..128)
            .map(|q| match f(x.dequantize(q)) {
                value if value.is_nan() => None,
                value if value == f64::INFINITY => Some(y.qmax as i8),
                value if value == f64::NEG_INFINITY => Some(y.qmin as i8),
                value => Some(y.quantize(value) as i8),
            })
            .collect();
        let defined = |place: usize| {
            let below = levels[..=place].iter().rev().flatten().next();
            below.or_else(|| levels[place..].iter().flatten().next()).copied().unwrap_or(y.zero_point as i8)
        };
        Self(Box::new(std::array::from_fn(defined)))
    }

    /// What becomes of a level.
    pub fn get(&self, level: i8) -> i8 {
        self.0[(i32::from(level) + 128) as usize]
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_defined_is_what_is_nearest() {
        let (x, y) = (QParams::affine(-1.0, 1.0, 8), QParams::affine(-4.0, 1.0, 8));
        let log = Table::of_partial(&x, &y, f64::ln);
        let zero = x.zero_point as i8;
        // ln 0 is infinite, of what is negative there is none; nothing lies below that is defined.
        assert_eq!((log.get(zero), log.get(zero - 1), log.get(-128)), (y.qmin as i8, y.qmin as i8, y.qmin as i8));
        assert_eq!(log.get(127), y.quantize(x.dequantize(127).ln()) as i8);
        let root = Table::of_partial(&x, &y, |x| (0.5 - x).sqrt());
        let end = (-128..=127).rev().find(|&q| x.dequantize(q.into()) <= 0.5).unwrap();
        assert_eq!((root.get(127), root.get(end + 1)), (root.get(end), root.get(end)));
        let nothing = Table::of_partial(&x, &y, |_| f64::NAN);
        assert_eq!(nothing.get(5), y.zero_point as i8);
    }

    #[test]
    fn a_difference_has_a_second_multiplier_that_is_not_positive() {
        let of = |multipliers| Constants::Binary(QBinary::Sum { multipliers, right_shift: 30 });
        let kinds =
            |multipliers| (of(multipliers).are(ConstantsKind::Sum), of(multipliers).are(ConstantsKind::Difference));
        assert_eq!(kinds([5, 3]), (true, false));
        assert_eq!(kinds([5, -3]), (false, true));
        // A factor that rounds to 0 is both.
        assert_eq!(kinds([5, 0]), (true, true));
        assert_eq!(kinds([-5, 3]), (false, false));
        assert!(!of([5, 3]).are(ConstantsKind::Product));
    }
}
