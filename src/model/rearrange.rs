//! The operation that moves values and computes nothing.

use serde::{Deserialize, Serialize};

use super::Shape;

/// The same values in another order or shape, or some of them, or some of them several times: no
/// arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rearrange {
    /// What is done.
    pub kind: RearrangeKind,
    /// Shape of the result.
    pub shape: Shape,
}

/// What a [`Rearrange`] does to the values in their order channels, rows, columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RearrangeKind {
    /// Nothing: they get another shape.
    Reshape,
    /// Seen as an array of `sides`, its axes are put in this `order`: axis i of the result is axis
    /// `order[i]`.
    Transpose {
        /// Sides of the array, at most 6.
        sides: Vec<usize>,
        /// A permutation of the axes.
        order: Vec<usize>,
    },
    /// Seen as an array of `sides`, along `axis` only `count` entries are kept, `step` apart from
    /// `start` on.
    Slice {
        /// Sides of the array, at most 6.
        sides: Vec<usize>,
        /// Axis that is cut.
        axis: usize,
        /// First entry.
        start: usize,
        /// Distance of entries.
        step: usize,
        /// Number of entries.
        count: usize,
    },
    /// Seen as an array of `sides`, along `axis` these `entries` follow one another, some perhaps
    /// several times.
    Pick {
        /// Sides of the array, at most 6.
        sides: Vec<usize>,
        /// Axis along which they are picked.
        axis: usize,
        /// The entries, each below the axis's side.
        entries: Vec<usize>,
    },
    /// Each pixel becomes a block of `factor` rows and columns.
    Upsample {
        /// Rows and columns of a block.
        factor: [usize; 2],
    },
}

/// A strided look at values in the order channels, rows, columns: the value at position
/// `(i₀, i₁, …)` of an array of `sides`, in its own row-major order, is that at
/// `offset + Σ i·stride`, where along the axis of a list the list's entry stands for `i`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Sides of the array, at most [`View::MOST_AXES`]; their product is the number of values of
    /// the result.
    pub sides: Vec<usize>,
    /// Step in the source for each axis.
    pub strides: Vec<usize>,
    /// The first value.
    pub offset: usize,
    /// An axis and a list of as many entries as its side.
    pub list: Option<(usize, Vec<usize>)>,
}

impl View {
    /// The most axes of a view.
    pub const MOST_AXES: usize = 6;

    /// The position in the source of each value of the result, in order.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        let count = self.sides.iter().product::<usize>();
        (0..count).map(|index| self.position(index))
    }

    /// The position in the source of value `index` of the result.
    pub fn position(&self, mut index: usize) -> usize {
        let mut at = self.offset;
        for (axis, (&side, &stride)) in self.sides.iter().zip(&self.strides).enumerate().rev() {
            let i = index % side;
            let entry = match &self.list {
                Some((listed, entries)) if *listed == axis => entries[i],
                _ => i,
            };
            at += entry * stride;
            index /= side;
        }
        at
    }
}

impl Rearrange {
    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        match self.kind {
            RearrangeKind::Reshape => "reshape",
            RearrangeKind::Transpose { .. } => "transpose",
            RearrangeKind::Slice { .. } => "slice",
            RearrangeKind::Pick { .. } => "pick",
            RearrangeKind::Upsample { .. } => "upsample",
        }
    }

    /// Where each value of the result comes from, for an input of shape `x`.
    pub fn view(&self, x: Shape) -> View {
        let row_major = |sides: &[usize]| {
            let mut strides = vec![1; sides.len()];
            for axis in (1..sides.len()).rev() {
                strides[axis - 1] = strides[axis] * sides[axis];
            }
            strides
        };
        match &self.kind {
            RearrangeKind::Reshape => View { sides: vec![self.shape.len()], strides: vec![1], ..View::default() },
            RearrangeKind::Transpose { sides, order } => {
                let strides = row_major(sides);
                View {
                    sides: order.iter().map(|&axis| sides[axis]).collect(),
                    strides: order.iter().map(|&axis| strides[axis]).collect(),
                    ..View::default()
                }
            }
            RearrangeKind::Slice { sides, axis, start, step, count } => {
                let mut strides = row_major(sides);
                let offset = start * strides[*axis];
                let mut kept = sides.clone();
                kept[*axis] = *count;
                strides[*axis] *= step;
                View { sides: kept, strides, offset, list: None }
            }
            RearrangeKind::Pick { sides, axis, entries } => {
                let mut picked = sides.clone();
                picked[*axis] = entries.len();
                View { sides: picked, strides: row_major(sides), offset: 0, list: Some((*axis, entries.clone())) }
            }
            RearrangeKind::Upsample { factor: [rows, columns] } => View {
                sides: vec![x.channels, x.height, *rows, x.width, *columns],
                strides: vec![x.pixels(), x.width, 0, 1, 0],
                ..View::default()
            },
        }
    }

    /// Whether it fits an input of shape `x`: sides that make up its values, a permutation, a slice
    /// within, and a result of as many values as its shape says.
    pub fn fits(&self, x: Shape) -> bool {
        let array = |sides: &[usize]| {
            (1..=View::MOST_AXES).contains(&sides.len())
                && sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side)) == Some(x.len())
        };
        let results = match &self.kind {
            RearrangeKind::Reshape => Some(x.len()),
            RearrangeKind::Transpose { sides, order } => {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                (array(sides) && sorted.iter().copied().eq(0..sides.len())).then(|| x.len())
            }
            RearrangeKind::Slice { sides, axis, start, step, count } => {
                let last = count.checked_sub(1).and_then(|n| n.checked_mul(*step)).and_then(|n| n.checked_add(*start));
                let inside = array(sides) && *step > 0 && sides.get(*axis).zip(last).is_some_and(|(&s, l)| l < s);
                inside.then(|| x.len() / sides[*axis] * count)
            }
            RearrangeKind::Pick { sides, axis, entries } => {
                let inside = |&side: &usize| !entries.is_empty() && entries.iter().all(|&entry| entry < side);
                let fits = array(sides) && sides.get(*axis).is_some_and(inside);
                if fits { (x.len() / sides[*axis]).checked_mul(entries.len()) } else { None }
            }
            RearrangeKind::Upsample { factor } => {
                let fits = self.shape.channels == x.channels
                    && x.height.checked_mul(factor[0]) == Some(self.shape.height)
                    && x.width.checked_mul(factor[1]) == Some(self.shape.width);
                if fits { self.shape.checked_len() } else { None }
            }
        };
        !x.is_empty() && results.is_some() && results == self.shape.checked_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_transposes_slices_and_blocks() {
        let x = Shape::new(4, 2, 3);
        let values: Vec<usize> = (0..24).collect();
        let look = |r: &Rearrange| r.view(x).positions().map(|p| values[p]).collect::<Vec<_>>();
        // Two groups of two channels, interleaved: channels 0, 2, 1, 3.
        let kind = RearrangeKind::Transpose { sides: vec![2, 2, 6], order: vec![1, 0, 2] };
        let shuffle = Rearrange { kind, shape: x };
        assert!(shuffle.fits(x));
        assert_eq!(look(&shuffle)[6..12], [12, 13, 14, 15, 16, 17]);
        let kind = RearrangeKind::Slice { sides: vec![4, 2, 3], axis: 2, start: 0, step: 2, count: 2 };
        let slice = Rearrange { kind, shape: Shape::new(4, 2, 2) };
        assert!(slice.fits(x) && !slice.fits(Shape::new(4, 2, 2)));
        assert_eq!(look(&slice)[..5], [0, 2, 3, 5, 6]);
        let up = Rearrange { kind: RearrangeKind::Upsample { factor: [2, 1] }, shape: Shape::new(4, 4, 3) };
        assert!(up.fits(x));
        assert_eq!(look(&up)[..9], [0, 1, 2, 0, 1, 2, 3, 4, 5]);
        let kind = RearrangeKind::Pick { sides: vec![4, 2, 3], axis: 2, entries: vec![2, 2, 0, 1] };
        let pick = Rearrange { kind, shape: Shape::new(4, 2, 4) };
        assert!(pick.fits(x));
        assert_eq!(look(&pick)[..8], [2, 2, 0, 1, 5, 5, 3, 4]);
        for (axis, entries) in [(2, vec![3]), (3, vec![0]), (2, vec![])] {
            let kind = RearrangeKind::Pick { sides: vec![4, 2, 3], axis, entries };
            assert!(!Rearrange { kind, shape: Shape::new(4, 2, 1) }.fits(x));
        }
        let outside = RearrangeKind::Slice { sides: vec![4, 6], axis: 1, start: 5, step: 1, count: 2 };
        assert!(!Rearrange { kind: outside, shape: Shape::new(4, 2, 1) }.fits(x));
        let huge = RearrangeKind::Slice { sides: vec![4, 6], axis: 1, start: 1, step: usize::MAX, count: 3 };
        assert!(!Rearrange { kind: huge, shape: Shape::new(4, 3, 1) }.fits(x));
    }
}
