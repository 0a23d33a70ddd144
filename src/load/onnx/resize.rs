//! `Resize`.

use super::draft::Draft;
use super::operation::{self, Operation};
use super::shape_ops::picked;
use super::values::{Active, stored};
use crate::model::{Coordinates, Op, Rearrange, RearrangeKind, Resize};
use crate::{Error, Result};

/// The longest side whose pixels are looked at one by one.
const MOST_PIXELS: usize = 1 << 20;

/// An axis of the image and of the result.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Side {
    from: usize,
    to: usize,
    /// What the file scales by, where that is not `to/from`.
    scale: Option<f32>,
}

/// Where pixels lie, and how the nearest neighbour of a position is found.
#[derive(Debug, Clone, Copy)]
struct Places {
    coordinates: Coordinates,
    /// Whether the position is that of the pixel's middle, half a pixel further.
    middle: bool,
    /// Whether the file's formula has the side itself in it, which means something else to each
    /// runtime where a scale does not give a whole one.
    whole: bool,
    rounding: &'static str,
}

/// `Resize`: to the nearest neighbour, or bilinear.
pub(super) fn resize(op: &Operation<'_>, draft: &mut Draft) -> Result<Active> {
    op.at_most(4)?;
    let x = op.active(0)?.clone();
    let rank = x.sides.len() + 1;
    if rank != 4 {
        return Err(Error::bad(format!("reads an activation of {rank} axes; 4 are expected")));
    }
    // Upsample knew it by another name once.
    let nearest = op.word("mode", &["nearest", "linear", "bilinear"])? == "nearest";
    let places = places(op)?;
    if op.flag("antialias", false)? {
        return Err(Error::bad("with `antialias` is not supported"));
    }
    // These matter to cubic filters and to regions alone.
    op.float("cubic_coeff_a", -0.75)?;
    op.flag("exclude_outside", false)?;
    op.float("extrapolation_value", 0.0)?;
    let dims = x.dims();
    let mut along = [Side { from: 1, to: 1, scale: None }; 2];
    for (axis, side) in sides(op, &dims)?.into_iter().enumerate() {
        match x.base(axis) {
            0 if side.from != side.to => return Err(Error::bad("of channels is not supported; rows and columns are")),
            0 => {}
            base => along[base - 1] = side,
        }
    }
    let x = draft.image(&x)?;
    let size = along.map(|side| side.to);
    if along.iter().all(|side| side.from == side.to && side.scale.is_none()) {
        return Ok(x);
    }
    if let Some(side) = along.iter().find(|side| places.whole && side.scale.is_some()) {
        return Err(Error::bad(format!("scales {} to what is not whole", side.from))
            .hint("export the network with sizes instead of scales"));
    }
    if nearest {
        return neighbours(op, draft, x, places, along);
    }
    if places.middle {
        return Err(Error::bad("its attribute `coordinate_transformation_mode` is for mode `nearest` alone"));
    }
    let ratio = |side: Side| side.scale.unwrap_or(super::tensors::narrowed(whole(side.to) / whole(side.from)));
    let scaled = along.iter().any(|side| side.scale.is_some());
    let scale = scaled.then(|| along.map(ratio));
    let resize = Resize { size, coordinates: places.coordinates, scale };
    let node = draft.operation(op.name, Op::Resize(resize), vec![x.node])?;
    let mut sides = x.sides.clone();
    (sides[1], sides[2]) = (size[0], size[1]);
    Ok(Active { node, sides, seen_by: op.name.to_owned(), ..x })
}

/// A side as a number.
#[allow(clippy::cast_precision_loss, reason = "sides are small")]
fn whole(side: usize) -> f64 {
    side as f64
}

fn places(op: &Operation<'_>) -> Result<Places> {
    if op.opset < 11 {
        // Before it could be said.
        return Ok(Places { coordinates: Coordinates::Asymmetric, middle: false, whole: false, rounding: "simple" });
    }
    let words = [
        "half_pixel",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "half_pixel_symmetric",
        "tf_half_pixel_for_nn",
    ];
    let said = op.word("coordinate_transformation_mode", &words)?;
    let coordinates = match said {
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        // The symmetric one differs where a scale does not give a whole side alone.
        _ => Coordinates::HalfPixel,
    };
    let rounding = op.word("nearest_mode", &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])?;
    let whole = matches!(said, "align_corners" | "half_pixel_symmetric");
    Ok(Places { coordinates, middle: said == "tf_half_pixel_for_nn", whole, rounding })
}

/// What becomes of each axis but the batch.
fn sides(op: &Operation<'_>, dims: &[usize]) -> Result<Vec<Side>> {
    let rank = dims.len() + 1;
    let axes = match op.ints("axes")? {
        None => (0..rank).collect(),
        Some(given) => given.iter().map(|&axis| operation::axis(axis, rank)).collect::<Result<Vec<_>>>()?,
    };
    let wrong = |what: &str| Error::bad(format!("{what} that do not fit {} axes", axes.len()));
    let mut made: Vec<Side> = dims.iter().map(|&from| Side { from, to: from, scale: None }).collect();
    let policy = op.word("keep_aspect_ratio_policy", &["stretch", "not_larger", "not_smaller"])?;
    // An input of no values stands for one that is left out.
    let given = |index| op.constant(index).map(|tensor| tensor.filter(|tensor| tensor.values.len() > 0));
    match (given(2)?, given(3)?) {
        (None, Some(sizes)) => {
            let sizes = sizes.as_ints()?;
            if sizes.len() != axes.len() {
                return Err(wrong("has sizes"));
            }
            // The size of the batch says nothing.
            let named = axes.iter().zip(sizes).filter_map(|(axis, &size)| Some((axis.checked_sub(1)?, size)));
            for (axis, size) in named.clone() {
                made[axis].to = operation::size(size, 1).ok_or_else(|| Error::bad(format!("has the size {size}")))?;
            }
            if policy != "stretch" {
                keep_ratio(&mut made, &named.map(|(axis, _)| axis).collect::<Vec<_>>(), policy == "not_larger")?;
            }
        }
        (Some(scales), None) => {
            let scales = scales.as_floats()?;
            if scales.len() != axes.len() {
                return Err(wrong("has scales"));
            }
            if policy != "stretch" {
                return Err(Error::bad("its attribute `keep_aspect_ratio_policy` goes with sizes, not with scales"));
            }
            for (&axis, &scale) in axes.iter().zip(scales) {
                match axis.checked_sub(1) {
                    Some(axis) => made[axis] = scaled(dims[axis], scale)?,
                    None if scale == 1.0 => {}
                    None => return Err(Error::bad("scales the batch")),
                }
            }
        }
        _ => return Err(Error::bad("either scales or sizes are expected")),
    }
    Ok(made)
}

/// The sides `axes` all by the smallest of their scales, or the largest, rounded to the nearest
/// (halves up).
fn keep_ratio(sides: &mut [Side], axes: &[usize], smallest: bool) -> Result<()> {
    let scales = axes.iter().map(|&axis| whole(sides[axis].to) / whole(sides[axis].from));
    let scale = scales.reduce(|a, b| if smallest { a.min(b) } else { a.max(b) }).unwrap_or(1.0);
    for &axis in axes {
        let Side { from, to, .. } = sides[axis];
        let side = (scale * whole(from) + 0.5).floor();
        if !(1.0..16_777_216.0).contains(&side) {
            return Err(Error::bad(format!("to {to} with the ratio of the sides kept leaves {side} of {from}")));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bounds were checked")]
        let to = side as usize;
        let exact = (scale * whole(from) - whole(to)).abs() <= 1e-9 * whole(to);
        sides[axis] = Side { from, to, scale: (!exact).then(|| super::tensors::narrowed(scale)) };
    }
    Ok(())
}

/// A side times a scale, rounded down.
fn scaled(from: usize, scale: f32) -> Result<Side> {
    // In f32, as runtimes do it.
    let side = super::tensors::narrowed(whole(from)) * scale;
    if !(1.0..16_777_216.0).contains(&side) {
        return Err(Error::bad(format!("scales {from} by {scale}")));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bounds were checked")]
    let to = side.floor() as usize;
    Ok(Side { from, to, scale: (side.fract() > 1e-3).then_some(scale) })
}

/// To the nearest neighbours: each pixel so many times where that is what they are, else a list.
fn neighbours(op: &Operation<'_>, draft: &mut Draft, x: Active, places: Places, along: [Side; 2]) -> Result<Active> {
    let mut sides = x.sides.clone();
    (sides[1], sides[2]) = (along[0].to, along[1].to);
    // Rows and columns that are left out or picked first, then blocks.
    let order = x.order.clone();
    let mut part = Active { order: None, ..x };
    let mut factor = [1; 2];
    for (axis, &side) in along.iter().enumerate() {
        if side == (Side { from: side.from, to: side.from, scale: None }) {
            continue;
        }
        match scaling(places, side)? {
            Scaling::Up(times) => factor[axis] = times,
            Scaling::Pixels(entries) => {
                part = picked(draft, &part, axis + 1, entries, &format!("{}/nearest", op.name))?;
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

/// Nearest neighbours of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scaling {
    /// Each pixel so many times.
    Up(usize),
    /// These pixels.
    Pixels(Vec<usize>),
}

/// The nearest neighbour of each pixel.
///
/// # Errors
/// Where it depends on how positions are rounded, unless the factor is whole.
fn scaling(places: Places, side: Side) -> Result<Scaling> {
    let Side { from, to, scale } = side;
    // As ONNX Runtime has it where nothing is said: an image that becomes smaller is rounded up.
    let places = match places.rounding {
        "simple" => Places { rounding: if to < from { "ceil" } else { "floor" }, ..places },
        _ => places,
    };
    if from.max(to) > MOST_PIXELS {
        return Err(Error::bad(format!("from {from} to {to} is not supported")));
    }
    let entries: Vec<usize> = (0..to).map(|i| nearest(places.rounding, exact(places, side, i), from)).collect();
    if scale.is_none() {
        if to.is_multiple_of(from) && entries.iter().enumerate().all(|(i, &pixel)| pixel == i / (to / from)) {
            return Ok(Scaling::Up(to / from));
        }
        if from.is_multiple_of(to) && entries.iter().enumerate().all(|(i, &p)| p == entries[0] + i * (from / to)) {
            return Ok(Scaling::Pixels(entries));
        }
    }
    let close = |(i, &pixel): (usize, &usize)| nearest(places.rounding, single(places, side, i), from) != pixel;
    match entries.iter().enumerate().find(|&at| close(at)) {
        None => Ok(Scaling::Pixels(entries)),
        Some((i, _)) => Err(Error::bad(format!(
            "from {from} to {to}: the nearest neighbour of pixel {i} depends on how a runtime rounds its position"
        ))
        .hint("whole factors are supported, and mode `linear`")),
    }
}

/// The pixel at a position, or at its nearest end.
fn nearest(rounding: &str, position: f64, from: usize) -> usize {
    let whole = match rounding {
        "floor" => position.floor(),
        "ceil" => position.ceil(),
        "round_prefer_floor" => (position - 0.5).ceil(),
        _ => (position + 0.5).floor(),
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    let whole = whole as usize;
    whole.min(from - 1)
}

/// The position of a pixel.
fn exact(places: Places, side: Side, i: usize) -> f64 {
    let Side { from, to, scale } = side;
    let ratio = scale.map_or([whole(from), whole(to)], |scale| [1.0, f64::from(scale)]);
    if places.middle {
        return (whole(i) + 0.5) * ratio[0] / ratio[1];
    }
    places.coordinates.position(i, from, to, ratio)
}

/// The same in f32, in the order in which ONNX Runtime computes it.
fn single(places: Places, side: Side, i: usize) -> f64 {
    let narrow = |value: usize| super::tensors::narrowed(whole(value));
    let (i, from, to) = (narrow(i), narrow(side.from), narrow(side.to));
    let scale = side.scale.unwrap_or(to / from);
    f64::from(match places.coordinates {
        _ if places.middle => (i + 0.5) / scale,
        Coordinates::PytorchHalfPixel | Coordinates::AlignCorners if to <= 1.0 => 0.0,
        Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => (i + 0.5) / scale - 0.5,
        Coordinates::AlignCorners => i * (from - 1.0) / (to - 1.0),
        Coordinates::Asymmetric => i / scale,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_neighbours() {
        use Coordinates::{AlignCorners, Asymmetric, HalfPixel};
        let pixels = |pixels: &[usize]| Some(Scaling::Pixels(pixels.to_vec()));
        for (coordinates, rounding, from, to, expected) in [
            (Asymmetric, "floor", 5, 10, Some(Scaling::Up(2))),
            (HalfPixel, "round_prefer_floor", 5, 15, Some(Scaling::Up(3))),
            (HalfPixel, "round_prefer_ceil", 4, 8, Some(Scaling::Up(2))),
            // The position of pixel 1 of 10 is 0.5, and a half goes down: pixel 0; of pixel 3 it is
            // 1.5: pixel 1.
            (Asymmetric, "round_prefer_floor", 5, 10, Some(Scaling::Up(2))),
            (Asymmetric, "round_prefer_ceil", 2, 4, pixels(&[0, 1, 1, 1])),
            (Asymmetric, "ceil", 2, 4, pixels(&[0, 1, 1, 1])),
            (AlignCorners, "floor", 3, 6, pixels(&[0, 0, 0, 1, 1, 2])),
            (Asymmetric, "floor", 6, 3, pixels(&[0, 2, 4])),
            (HalfPixel, "round_prefer_ceil", 6, 3, pixels(&[1, 3, 5])),
            (Asymmetric, "floor", 5, 7, pixels(&[0, 0, 1, 2, 2, 3, 4])),
            (Asymmetric, "floor", 5, 1, pixels(&[0])),
        ] {
            let places = Places { coordinates, middle: false, whole: false, rounding };
            let found = scaling(places, Side { from, to, scale: None }).ok();
            assert_eq!(found, expected, "{coordinates:?} {rounding} {from} {to}");
        }
        let places = Places { coordinates: HalfPixel, middle: true, whole: false, rounding: "floor" };
        assert_eq!(scaling(places, Side { from: 2, to: 5, scale: None }).ok(), pixels(&[0, 0, 1, 1, 1]));
        // 0.5/0.6 − 0.5 and 1.5/0.6 − 0.5 are 0.33 and 2.
        let places = Places { coordinates: HalfPixel, middle: false, whole: false, rounding: "round_prefer_floor" };
        assert_eq!(scaling(places, Side { from: 4, to: 2, scale: Some(0.6) }).ok(), pixels(&[0, 2]));
    }
}
