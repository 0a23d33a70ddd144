//! `Resize` and `Softmax`.

use super::draft::Draft;
use super::operation::{self, Operation};
use super::shape_ops::{Cut, kept};
use super::tensors::product;
use super::values::{Active, stored};
use crate::model::{Axis, Coordinates, Op, Rearrange, RearrangeKind, Resize};
use crate::{Error, Result};

/// The longest side whose pixels are looked at one by one.
const MOST_PIXELS: usize = 1 << 20;

/// `Resize`: nearest by whole factors, up or down, or bilinear.
pub(super) fn resize(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(4)?;
    let x = op.active(0)?.clone();
    let dims = x.dims();
    let rank = dims.len() + 1;
    if rank != 4 {
        return Err(Error::bad(format!("reads an activation of {rank} axes; 4 are expected")));
    }
    let nearest = op.word("mode", &["nearest", "linear"])? == "nearest";
    let words = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"];
    let coordinates = match op.word("coordinate_transformation_mode", &words)? {
        "half_pixel" => Coordinates::HalfPixel,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        _ => Coordinates::Asymmetric,
    };
    let rounding = op.word("nearest_mode", &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])?;
    if op.flag("antialias", false)? {
        return Err(Error::bad("with `antialias` is not supported"));
    }
    // These matter to cubic filters and to regions alone.
    op.float("cubic_coeff_a", -0.75)?;
    op.flag("exclude_outside", false)?;
    op.float("extrapolation_value", 0.0)?;
    op.word("keep_aspect_ratio_policy", &["stretch"])?;
    let target = sizes(op, &dims)?;
    let mut factors: [Vec<Scaling>; 2] = [vec![], vec![]];
    let mut size = [0; 2];
    for (axis, (&from, &to)) in dims.iter().zip(&target).enumerate() {
        let base = x.base(axis);
        if base == 0 {
            if from != to {
                return Err(Error::bad("of channels is not supported; rows and columns are"));
            }
            continue;
        }
        size[base - 1] = to;
        if nearest {
            factors[base - 1].push(scaling(coordinates, rounding, from, to)?);
        }
    }
    let x = draft.image(&x)?;
    let shape = draft.shape(x.node);
    if size == [shape.height, shape.width] {
        return Ok(x);
    }
    let mut sides = x.sides.clone();
    (sides[1], sides[2]) = (size[0], size[1]);
    if !nearest {
        let node = draft.operation(op.name, Op::Resize(Resize { size, coordinates }), vec![x.node])?;
        return Ok(Active { node, sides, seen_by: op.name.to_owned(), ..x });
    }
    // Rows and columns that are left out first, then blocks.
    let order = x.order.clone();
    let mut part = Active { order: None, ..x };
    let mut factor = [1; 2];
    for (axis, scalings) in factors.iter().flatten().enumerate() {
        match *scalings {
            Scaling::Up(times) => factor[axis] = times,
            Scaling::Down { start, step } => {
                let cut = Cut { axis: axis + 1, start, step, count: size[axis] };
                part = kept(draft, &part, cut, &format!("{}/rows", op.name))?;
            }
        }
    }
    if factor != [1; 2] {
        let kind = RearrangeKind::Upsample { factor };
        let node =
            draft.operation(op.name, Op::Rearrange(Rearrange { kind, shape: stored(&sides) }), vec![part.node])?;
        part = part.with_node(node);
    }
    Ok(Active { node: part.node, sides, order, seen_by: op.name.to_owned() })
}

/// The sides that `Resize` asks for, without the batch.
fn sizes(op: &Operation<'_>, dims: &[usize]) -> Result<Vec<usize>> {
    let rank = dims.len() + 1;
    let axes = match op.ints("axes")? {
        None => (0..rank).collect(),
        Some(given) => given.iter().map(|&axis| operation::axis(axis, rank)).collect::<Result<Vec<_>>>()?,
    };
    let wrong = |what: &str| Error::bad(format!("{what} that do not fit {} axes", axes.len()));
    let mut target = dims.to_vec();
    // An input of no values stands for one that is left out.
    let given = |index| op.constant(index).map(|tensor| tensor.filter(|tensor| tensor.values.len() > 0));
    match (given(2)?, given(3)?) {
        (None, Some(sizes)) => {
            let sizes = sizes.as_ints()?;
            if sizes.len() != axes.len() {
                return Err(wrong("has sizes"));
            }
            for (&axis, &size) in axes.iter().zip(sizes) {
                let size = operation::size(size, 1).ok_or_else(|| Error::bad(format!("has the size {size}")))?;
                // The size of the batch says nothing.
                if let Some(axis) = axis.checked_sub(1) {
                    target[axis] = size;
                }
            }
        }
        (Some(scales), None) => {
            let scales = scales.as_floats()?;
            if scales.len() != axes.len() {
                return Err(wrong("has scales"));
            }
            for (&axis, &scale) in axes.iter().zip(scales) {
                let Some(axis) = axis.checked_sub(1) else {
                    if scale == 1.0 {
                        continue;
                    }
                    return Err(Error::bad("scales the batch"));
                };
                // In f32, as runtimes do it.
                #[allow(clippy::cast_precision_loss, reason = "sides are small")]
                let side = dims[axis] as f32 * scale;
                if !(1.0..16_777_216.0).contains(&side) {
                    return Err(Error::bad(format!("scales {} by {scale}", dims[axis])));
                }
                if side.fract() > 1e-3 {
                    return Err(Error::bad(format!("scales {} by {scale}, to {side}, which is not whole", dims[axis]))
                        .hint("export the network with sizes instead of scales"));
                }
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bounds were checked")]
                let whole = side.floor() as usize;
                target[axis] = whole;
            }
        }
        _ => return Err(Error::bad("either scales or sizes are expected")),
    }
    Ok(target)
}

/// Nearest neighbours by a whole factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scaling {
    /// Each pixel so many times.
    Up(usize),
    /// Some pixels.
    Down { start: usize, step: usize },
}

/// What nearest neighbours are of a side `from` at a size `to`: the pixels are compared one by one.
fn scaling(coordinates: Coordinates, rounding: &str, from: usize, to: usize) -> Result<Scaling> {
    if from == to {
        return Ok(Scaling::Up(1));
    }
    if from.max(to) > MOST_PIXELS {
        return Err(Error::bad(format!("from {from} to {to} is not supported")));
    }
    let pixel = |i: usize| {
        let position = coordinates.position(i, from, to);
        let whole = match rounding {
            "floor" => position.floor(),
            "ceil" => position.ceil(),
            "round_prefer_floor" => (position - 0.5).ceil(),
            _ => (position + 0.5).floor(),
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
        let whole = whole as usize;
        whole.min(from - 1)
    };
    if to.is_multiple_of(from) && (0..to).all(|i| pixel(i) == i / (to / from)) {
        return Ok(Scaling::Up(to / from));
    }
    let (start, step) = (pixel(0), if to > 1 { pixel(1).saturating_sub(pixel(0)) } else { 1 });
    if to < from && step > 0 && (0..to).all(|i| pixel(i) == start + i * step) {
        return Ok(Scaling::Down { start, step });
    }
    Err(Error::bad(format!("to the nearest neighbour from {from} to {to} is not by a whole factor"))
        .hint("whole factors are supported, and mode `linear`"))
}

/// `Softmax`: along one axis since opset 13, before that along all from one on, as one.
pub(super) fn softmax(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    let x = op.active(0)?.clone();
    let dims = x.dims();
    let given = op.int("axis")?.unwrap_or(if op.opset < 13 { 1 } else { -1 });
    let axis = operation::axis(given, dims.len() + 1)?;
    let axis = axis.checked_sub(1).ok_or_else(|| Error::bad("is over the batch"))?;
    let all = op.opset < 13 && dims[axis + 1..].iter().any(|&side| side != 1);
    if !all && stored(&x.sides) == draft.shape(x.node) && x.sides.len() <= 3 {
        let along = [Axis::Channels, Axis::Height, Axis::Width][x.base(axis)];
        let node = draft.operation(op.name, Op::Softmax(along), vec![x.node])?;
        return Ok(x.with_node(node));
    }
    let node = if x.order.is_some() { draft.realize(&x)? } else { x.node };
    let part = |sides: &[usize]| product(sides).unwrap_or(usize::MAX);
    let (before, after) = (part(&dims[..axis]), part(&dims[axis + 1..]));
    let sides = if all { vec![before, dims[axis] * after, 1] } else { vec![before, dims[axis], after] };
    let node = draft.realize(&Active::new(node, sides, op.name))?;
    let node = draft.operation(op.name, Op::Softmax(Axis::Height), vec![node])?;
    Ok(Active::new(node, dims, op.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_neighbours_by_whole_factors() {
        use Coordinates::{AlignCorners, Asymmetric, HalfPixel};
        for (mode, rounding, from, to, expected) in [
            (Asymmetric, "floor", 5, 10, Some(Scaling::Up(2))),
            (HalfPixel, "round_prefer_floor", 5, 15, Some(Scaling::Up(3))),
            (HalfPixel, "round_prefer_ceil", 4, 8, Some(Scaling::Up(2))),
            // The position of pixel 1 of 10 is 0.5, and a half goes down: pixel 0; of pixel 3 it is 1.5: pixel 1.
            (Asymmetric, "round_prefer_floor", 5, 10, Some(Scaling::Up(2))),
            (Asymmetric, "round_prefer_ceil", 5, 10, None),
            (Asymmetric, "ceil", 5, 10, None),
            (AlignCorners, "floor", 3, 6, None),
            (Asymmetric, "floor", 10, 5, Some(Scaling::Down { start: 0, step: 2 })),
            (HalfPixel, "round_prefer_ceil", 10, 5, Some(Scaling::Down { start: 1, step: 2 })),
            (Asymmetric, "floor", 5, 7, None),
            (Asymmetric, "floor", 5, 1, Some(Scaling::Down { start: 0, step: 1 })),
        ] {
            let found = scaling(mode, rounding, from, to).ok();
            assert_eq!(found, expected, "{mode:?} {rounding} {from} {to}");
        }
    }
}
