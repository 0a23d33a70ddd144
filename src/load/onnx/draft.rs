//! The network while it is read: as the file has it, before anything is fused.

use std::collections::HashMap;

use ndarray::Array4;

use super::values::{Active, stored};
use crate::model::{Note, NoteKind, Op, Rearrange, RearrangeKind, Shape, View};
use crate::{Error, Result};

/// The most values of an activation that is taken for one.
const MOST_VALUES: usize = 1 << 36;

/// An operation of the draft.
#[derive(Debug, Clone)]
pub(super) enum DraftOp {
    /// One that is in its last form.
    Op(Op),
    /// A convolution.
    Conv(DraftConv),
    /// `scale·x + shift` for each channel; one value serves all channels.
    Affine {
        /// Factors.
        scale: Vec<f64>,
        /// Offsets.
        shift: Vec<f64>,
    },
    /// Zeros around the rows and columns: above, left, below, right.
    Pad([usize; 4]),
}

/// A convolution whose weights are not rounded yet: `scale[o]·(W∗x)[o] + shift[o]`.
#[derive(Debug, Clone)]
pub(super) struct DraftConv {
    /// `O × I/groups × kh × kw`.
    pub weight: Array4<f32>,
    /// Factor of each output channel.
    pub scale: Vec<f64>,
    /// Bias of each output channel.
    pub shift: Vec<f64>,
    /// Vertical and horizontal.
    pub stride: [usize; 2],
    /// Zeros above, left, below, right.
    pub pads: [usize; 4],
    /// Distance of the kernel's rows and columns.
    pub dilation: [usize; 2],
    /// Groups.
    pub groups: usize,
    /// Whether it is a matrix product in the file.
    pub dense: bool,
}

/// A node of the draft; the draft's nodes are in execution order.
#[derive(Debug, Clone)]
pub(super) struct DraftNode {
    /// Name of the operation in the file.
    pub name: String,
    /// What is computed.
    pub op: DraftOp,
    /// What it reads.
    pub inputs: Vec<usize>,
    /// Whether a `ReLU` follows.
    pub relu: bool,
    /// Shape of the result.
    pub shape: Shape,
    /// A convolution whose values these are, moved, each channel from so many channels of it, one
    /// behind the other.
    pub source: Option<(usize, usize)>,
}

/// A node, sides, and an order of axes.
type Seen = (usize, Vec<usize>, Option<Vec<usize>>);

/// The network while it is read.
#[derive(Default)]
pub(super) struct Draft {
    /// Its operations.
    pub nodes: Vec<DraftNode>,
    /// What was changed, and why.
    pub notes: Vec<Note>,
    /// Rearrangements that were made already.
    made: HashMap<Seen, usize>,
    /// How many numbers may still be made that are not in the file.
    budget: usize,
}

impl Draft {
    /// A draft that may make so many numbers that are not in the file.
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Asks for so many numbers that are not in the file: a small file must not make large
    /// networks.
    ///
    /// # Errors
    /// Where that is more than the file's size justifies.
    pub(super) fn allocate(&mut self, count: usize) -> Result<()> {
        match self.budget.checked_sub(count) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(Error::bad(format!(
                "would make {count} numbers that are not in the file, more than its size justifies"
            ))),
        }
    }

    /// Allows so many more.
    pub(super) fn grant(&mut self, count: usize) {
        self.budget = self.budget.saturating_add(count);
    }

    /// Adds an operation whose result has this shape.
    ///
    /// # Errors
    /// Where the shape is empty or absurd.
    pub(super) fn push(&mut self, name: &str, op: DraftOp, inputs: Vec<usize>, shape: Shape) -> Result<usize> {
        let pixels = shape.height.checked_mul(shape.width);
        let values = pixels.and_then(|pixels| pixels.checked_mul(shape.channels));
        if !values.is_some_and(|values| (1..=MOST_VALUES).contains(&values)) {
            return Err(Error::bad(format!("its result would be {shape}")));
        }
        self.nodes.push(DraftNode { name: name.to_owned(), op, inputs, relu: false, shape, source: None });
        Ok(self.nodes.len() - 1)
    }

    /// Adds an operation that is in its last form.
    ///
    /// # Errors
    /// Where it does not fit its inputs.
    pub(super) fn operation(&mut self, name: &str, op: Op, inputs: Vec<usize>) -> Result<usize> {
        let shapes: Vec<Shape> = inputs.iter().map(|&input| self.nodes[input].shape).collect();
        let shape = op.output(&shapes).ok_or_else(|| {
            let shapes: Vec<String> = shapes.iter().map(Shape::to_string).collect();
            Error::bad(format!("does not fit inputs of {}", shapes.join(", ")))
        })?;
        self.push(name, DraftOp::Op(op), inputs, shape)
    }

    /// Shape of a node's result.
    pub(super) fn shape(&self, node: usize) -> Shape {
        self.nodes[node].shape
    }

    /// A node whose values are in the order in which `x` sees them, in the shape that its sides are
    /// stored under.
    ///
    /// # Errors
    /// A transpose of more axes than are supported.
    pub(super) fn realize(&mut self, x: &Active) -> Result<usize> {
        let shape = stored(&x.dims());
        if x.order.is_none() && self.shape(x.node) == shape {
            return Ok(x.node);
        }
        let (sides, order) = match &x.order {
            None => (x.dims(), None),
            Some(order) => {
                let (sides, order) = joined_axes(&x.sides, order);
                (sides, Some(order))
            }
        };
        let key = (
            x.node,
            if order.is_none() { vec![shape.channels, shape.height, shape.width] } else { sides.clone() },
            order.clone(),
        );
        if let Some(&node) = self.made.get(&key).filter(|&&node| self.shape(node) == shape) {
            return Ok(node);
        }
        let kind = match order {
            None => RearrangeKind::Reshape,
            Some(_) if sides.len() > View::MOST_AXES => {
                return Err(Error::bad(format!("moves more than {} axes", View::MOST_AXES)).at(&x.seen_by));
            }
            Some(order) => RearrangeKind::Transpose { sides, order },
        };
        let source = self.nodes[x.node].source;
        let node = self.operation(&x.seen_by, Op::Rearrange(Rearrange { kind, shape }), vec![x.node])?;
        self.nodes[node].source = source.filter(|_| x.order.is_none() && shape.channels == self.shape(x.node).channels);
        self.made.insert(key, node);
        Ok(node)
    }

    /// A node that holds `x` as channels, rows and columns, and how it is seen from there: the
    /// order of its axes stays where it is channels, rows and columns already, moved or not.
    ///
    /// # Errors
    /// As [`Self::realize`].
    pub(super) fn image(&mut self, x: &Active) -> Result<Active> {
        if stored(&x.sides) == self.shape(x.node) && x.sides.len() <= 3 {
            return Ok(x.clone());
        }
        let node = self.realize(x)?;
        Ok(Active::new(node, x.dims(), &x.seen_by))
    }

    /// Tells a node that an operation called `name` of the file only changed how it is seen: files
    /// of this program call the last operation of a layer NAME and the others NAME/….
    pub(super) fn rename(&mut self, node: usize, name: &str) {
        let own = &mut self.nodes[node].name;
        if !name.is_empty() && own.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')) {
            name.clone_into(own);
        }
    }

    /// Says something about a layer.
    pub(super) fn note(&mut self, layer: &str, kind: NoteKind, text: impl Into<String>) {
        self.notes.push(Note { layer: layer.to_owned(), kind, text: text.into() });
    }
}

/// Which nodes the outputs need.
pub(super) fn live(nodes: &[DraftNode], outputs: &[usize]) -> Vec<bool> {
    let mut live = vec![false; nodes.len()];
    for &output in outputs {
        live[output] = true;
    }
    for id in (0..nodes.len()).rev() {
        if live[id] {
            for &input in &nodes[id].inputs {
                live[input] = true;
            }
        }
    }
    live
}

/// The same transpose with as few axes as can be: those of side 1 left out, those that stay side by
/// side taken together.
fn joined_axes(sides: &[usize], order: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let kept: Vec<usize> = (0..sides.len()).filter(|&axis| sides[axis] != 1).collect();
    let follows =
        |a: usize, b: usize| kept.iter().position(|&k| k == a).map(|i| i + 1) == kept.iter().position(|&k| k == b);
    for &axis in order.iter().filter(|&&axis| sides[axis] != 1) {
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|&last| follows(last, axis)) => run.push(axis),
            _ => runs.push(vec![axis]),
        }
    }
    // The runs in the order of the array, and where each of them goes.
    let mut array: Vec<usize> = (0..runs.len()).collect();
    array.sort_by_key(|&run| runs[run][0]);
    let sides = array.iter().map(|&run| runs[run].iter().map(|&axis| sides[axis]).product()).collect();
    let order = (0..runs.len()).map(|run| array.iter().position(|&a| a == run).unwrap_or(run)).collect();
    (sides, order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_stay_together_are_one() {
        assert_eq!(joined_axes(&[2, 3, 4, 5], &[1, 0, 2, 3]), (vec![2, 3, 20], vec![1, 0, 2]));
        assert_eq!(joined_axes(&[3, 1, 4, 5], &[2, 3, 1, 0]), (vec![3, 20], vec![1, 0]));
        assert_eq!(joined_axes(&[2, 3, 4], &[2, 1, 0]), (vec![2, 3, 4], vec![2, 1, 0]));
    }
}
