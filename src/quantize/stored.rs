//! Activations as levels: how they are stored, and which levels occur.

use crate::model::{Computed, Constants, QParams, Table};

/// An activation that is stored as levels, as the integer arithmetic that reads it sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stored {
    /// How it is stored.
    pub params: QParams,
    /// The lowest level that occurs.
    pub low: i32,
    /// The highest level that occurs.
    pub high: i32,
}

impl Stored {
    /// Where no more is known than whether a `ReLU` is fused: every level, or those from the zero
    /// point up.
    pub(crate) fn new(params: QParams, relu: bool) -> Self {
        let low = if relu { params.zero_point.max(params.qmin) } else { params.qmin };
        Self { params, low, high: params.qmax }
    }

    /// The output of an operation on `inputs`, stored as `params`. What only moves levels gives
    /// those of its inputs, what looks them up gives entries of its table.
    pub(crate) fn of(computed: &Computed, relu: bool, params: QParams, inputs: &[Self]) -> Self {
        let Computed::Integer(integer) = computed else { return Self::new(params, relu) };
        let range = match (integer.constants(), inputs) {
            (Constants::Table(table), [x]) => Some(x.through(Some(table))),
            (Constants::ChannelTables(tables), [x]) => {
                let parts = tables.iter().map(|table| x.through(Some(table)));
                parts.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
            }
            (Constants::Tables(tables), inputs) => {
                let parts = inputs.iter().zip(tables).map(|(x, table)| x.through(table.as_ref()));
                parts.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
            }
            (_, [x]) if integer.op().passes_values() => Some((x.low, x.high)),
            _ => None,
        };
        range.map_or(Self::new(params, relu), |(low, high)| Self { params, low, high })
    }

    /// The lowest and highest level after a table.
    fn through(&self, table: Option<&Table>) -> (i32, i32) {
        let Some(table) = table else { return (self.low, self.high) };
        let levels = (self.low..=self.high).map(|q| i32::from(table.get(q as i8)));
        levels.fold((i32::MAX, i32::MIN), |(low, high), q| (low.min(q), high.max(q)))
    }

    /// The largest |q − z| that occurs.
    pub(crate) fn reach(&self) -> i64 {
        let QParams { zero_point, .. } = self.params;
        // A bias holds −z·ΣQ, so partial sums reach |z| too; after calibration it is never the
        // larger of the two.
        let reach = (self.high - zero_point).max(zero_point - self.low).max(zero_point.abs());
        i64::from(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Activation, Axis, Op, Pool, PoolKind};

    #[test]
    fn levels_follow_tables_joins_and_moves() {
        let affine = QParams::affine(-1.0, 3.0, 8);
        let all = Stored::new(affine, false);
        assert_eq!((all.low, all.high, all.reach()), (-128, 127, 191));
        let relu = Stored::new(affine, true);
        assert_eq!((relu.low, relu.high, relu.reach()), (-64, 127, 191));
        let y = QParams::symmetric(1.0, 8);
        let of = |op, constants| Computed::integer(op, constants).unwrap();
        let table = |table| of(Op::Activation(Activation::Sigmoid), Constants::Table(table));
        let sigmoid = Table::of(&affine, &y, |x| 1.0 / (1.0 + (-x).exp()));
        let after = Stored::of(&table(sigmoid.clone()), false, y, &[all]);
        // 1/(1 + e) = 0.269 and 1/(1 + e^−3) = 0.953, in steps of 1/127.
        assert_eq!((after.low, after.high, after.reach()), (34, 121, 121));
        assert_eq!(Stored::of(&table(sigmoid.clone()), false, y, &[relu]).low, 64);
        let concat = of(Op::Concat(Axis::Channels), Constants::Tables(vec![None, Some(sigmoid)]));
        let narrow = Stored { params: y, low: -3, high: 50 };
        let joined = Stored::of(&concat, false, y, &[narrow, all]);
        assert_eq!((joined.low, joined.high), (-3, 121));
        let pool = |kind| Op::Pool(Pool { kind, kernel: [2; 2], stride: [2; 2], padding: [0; 4], ceil: false });
        let max = of(pool(PoolKind::Max), Constants::None);
        assert_eq!(Stored::of(&max, false, y, &[narrow]), narrow);
        let mean = of(pool(PoolKind::Average), Constants::Multipliers(vec![]));
        assert_eq!(Stored::of(&mean, false, y, &[narrow]), Stored::new(y, false));
    }
}
