//! What a tensor of a file is: a constant, or an activation seen in some shape and order of axes.

use std::rc::Rc;

use super::tensors::{Tensor, product};
use crate::model::Shape;
use crate::{Error, Result};

/// What a name of the file stands for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Known numbers.
    Constant(Rc<Tensor>),
    /// Computed from the image.
    Active(Active),
}

/// An activation of the draft, seen as an array. The batch is left out everywhere: axis i of the
/// array is axis i + 1 in the file.
///
/// Reshapes and transposes only change how an activation is seen; a [`crate::model::Rearrange`] is
/// made where an operation needs the values in another order. So transposes that cancel disappear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Active {
    /// The node of the draft.
    pub node: usize,
    /// Sides of an array in the row-major order of the node's values.
    pub sides: Vec<usize>,
    /// The axes of that array in the order in which they are seen; none: as they are.
    pub order: Option<Vec<usize>>,
    /// The last operation of the file that changed how it is seen.
    pub seen_by: String,
}

impl Active {
    /// A node as it is.
    pub(super) fn new(node: usize, sides: Vec<usize>, seen_by: &str) -> Self {
        Self { node, sides, order: None, seen_by: seen_by.to_owned() }
    }

    /// Sides as they are seen.
    pub(super) fn dims(&self) -> Vec<usize> {
        match &self.order {
            None => self.sides.clone(),
            Some(order) => order.iter().map(|&axis| self.sides[axis]).collect(),
        }
    }

    /// The axis of `sides` that is seen as `axis`.
    pub(super) fn base(&self, axis: usize) -> usize {
        self.order.as_ref().map_or(axis, |order| order[axis])
    }

    /// Seen with its axes in another order: axis i of the result is axis `order[i]`.
    pub(super) fn permuted(&self, order: &[usize], seen_by: &str) -> Self {
        let order: Vec<usize> = order.iter().map(|&axis| self.base(axis)).collect();
        let dims: Vec<usize> = order.iter().map(|&axis| self.sides[axis]).collect();
        // Axes of side 1 can be anywhere: the values stay in order where the others do.
        let moved = order.iter().filter(|&&axis| self.sides[axis] != 1);
        let (sides, order) = if moved.is_sorted() { (dims, None) } else { (self.sides.clone(), Some(order)) };
        Self { node: self.node, sides, order, seen_by: seen_by.to_owned() }
    }

    /// Another node whose values lie as this one's.
    pub(super) fn with_node(&self, node: usize) -> Self {
        Self { node, ..self.clone() }
    }
}

/// The shape under which an array of these sides is stored: up to three as channels, rows and
/// columns; more with those between the first and the last taken together. The row-major order is
/// the same.
pub(super) fn stored(sides: &[usize]) -> Shape {
    match *sides {
        [] => Shape::new(1, 1, 1),
        [channels] => Shape::new(channels, 1, 1),
        [channels, height] => Shape::new(channels, height, 1),
        [channels, ref between @ .., width] => Shape::new(channels, between.iter().product(), width),
    }
}

/// Sides of the result of a `Reshape` to `target`, for values of `dims`; `batch` is the number of
/// images that the file is made for, where it says one. The batch stays the first axis.
pub(super) fn reshaped(dims: &[usize], target: &[i64], allow_zero: bool, batch: Option<usize>) -> Result<Vec<usize>> {
    let wrong = || Error::bad(format!("values of 1, {dims:?} do not fit the shape {target:?}"));
    let batch_first = Error::bad(format!("the shape {target:?} does not keep the batch as the first axis"));
    let Some((&first, rest)) = target.split_first() else { return Err(batch_first) };
    let total = product(dims).ok_or_else(wrong)?;
    let mut sides = Vec::with_capacity(rest.len());
    let mut open = None;
    for (axis, &side) in rest.iter().enumerate() {
        sides.push(match side {
            0 if !allow_zero => *dims.get(axis).ok_or_else(wrong)?,
            -1 if open.is_none() && first != -1 => {
                open = Some(axis);
                1
            }
            side => usize::try_from(side).ok().filter(|&side| side > 0).ok_or_else(wrong)?,
        });
    }
    let keeps = match first {
        0 => !allow_zero,
        -1 | 1 => true,
        first => usize::try_from(first).ok() == batch,
    };
    if !keeps {
        return Err(batch_first);
    }
    let known = product(&sides).ok_or_else(wrong)?;
    if let Some(open) = open {
        sides[open] = total / known;
    }
    if product(&sides) != Some(total) {
        // A batch of -1 takes what is left: more than one image's would make several rows of one
        // image.
        return Err(if first == -1 && total.is_multiple_of(known) { batch_first } else { wrong() });
    }
    Ok(sides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_cancel() {
        let x = Active::new(3, vec![3, 4, 5], "x");
        let nhwc = x.permuted(&[1, 2, 0], "t");
        assert_eq!((nhwc.dims(), nhwc.base(2), nhwc.seen_by.as_str()), (vec![4, 5, 3], 0, "t"));
        let back = nhwc.permuted(&[2, 0, 1], "u");
        assert_eq!((back.sides, back.order), (vec![3, 4, 5], None));
        // Where the sides that move are 1, it is a reshape.
        let vector = Active::new(0, vec![7, 1, 1], "x").permuted(&[1, 2, 0], "t");
        assert_eq!((vector.sides, vector.order), (vec![1, 1, 7], None));
    }

    #[test]
    fn reshapes_keep_the_batch() {
        let x = [6, 2, 2];
        assert_eq!(reshaped(&x, &[0, -1], false, None).unwrap(), [24]);
        assert_eq!(reshaped(&x, &[-1, 24], false, None).unwrap(), [24]);
        assert_eq!(reshaped(&x, &[1, 3, -1, 0], false, None).unwrap(), [3, 4, 2]);
        assert_eq!(reshaped(&x, &[1, 3, 0, 4], false, None).unwrap(), [3, 2, 4]);
        assert_eq!(reshaped(&x, &[8, 3, 2, 2, 2], false, Some(8)).unwrap(), [3, 2, 2, 2]);
        assert_eq!(reshaped(&[1], &[-1], false, None).unwrap(), [0usize; 0]);
        for (target, allow_zero, batch, words) in [
            (&[8i64, 24][..], false, None, "batch"),
            (&[4, 6], false, Some(8), "batch"),
            (&[-1, 6], false, None, "batch"),
            (&[0, 24], true, None, "batch"),
            (&[], false, None, "batch"),
            (&[-1, -1], false, None, "fit"),
            (&[1, -1, -1], false, None, "fit"),
            (&[1, 5, -1], false, None, "fit"),
            (&[1, -2], false, None, "fit"),
            (&[1, 0, 1], true, None, "fit"),
            (&[1, i64::MAX, i64::MAX], false, None, "fit"),
            (&[1, 6, 2, 2, 0], false, None, "fit"),
        ] {
            let error = reshaped(&x, target, allow_zero, batch).unwrap_err().to_string();
            assert!(error.contains(words), "{target:?}: {error}");
        }
    }

    #[test]
    fn many_sides_are_stored_as_three() {
        assert_eq!(stored(&[]), Shape::new(1, 1, 1));
        assert_eq!(stored(&[5, 4]), Shape::new(5, 4, 1));
        assert_eq!(stored(&[2, 3, 4, 5]), Shape::new(2, 12, 5));
    }
}
