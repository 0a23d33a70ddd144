//! Convolutions and classifiers: geometry, levels, scales, multipliers, and sums that cannot
//! overflow.

use ndarray::ArrayBase;

use super::value::{Value, is_scale};
use crate::model::{
    Coarse, CoarseScale, Computed, Conv, MAX_SIDE, Multiplier, Op, QConv, QNode, Shape, Support, Weights, on_op,
};
use crate::quantize::qmax;
use crate::quantize::requantize::check_overflow;
use crate::quantize::stored::Stored;
use crate::{Error, Result};

/// A convolution or classifier and its output's shape.
pub(super) fn check(node: &QNode, inputs: &[Value]) -> Result<Shape> {
    let [Value { shape: x, stored, .. }] = *inputs else {
        return Err(Error::bad(format!("its inputs {:?} are not one layer", node.inputs)));
    };
    let shape = on_op!(&node.computed, op => match op {
        Op::Conv(weights) => check_geometry(weights, x)?,
        Op::Linear(weights) => check_classifier(weights, x)?,
        _ => return Err(Error::bad("this operation has no weights")),
    });
    match &node.computed {
        Computed::Float(op) => op.weights().map_or(Ok(()), check_float)?,
        Computed::Integer(integer) => {
            let levels = || stored.ok_or_else(|| Error::bad("it does not read levels"));
            match integer.op() {
                Op::Linear(conv) if conv.coarse.is_some() => return Err(Error::bad(CLASSIFIER)),
                Op::Linear(conv) => check_conv(conv, levels()?, false)?,
                op => op.weights().map_or(Ok(()), |conv| check_conv(conv, levels()?, node.output.is_some()))?,
            }
        }
    }
    Ok(shape)
}

/// What a classifier must be.
const CLASSIFIER: &str = "a classifier is one unsplit 1×1 kernel";

fn check_float(conv: &Conv) -> Result<()> {
    if conv.bias.len() == conv.out_channels() && conv.weight.iter().chain(&conv.bias).all(|v| v.is_finite()) {
        return Ok(());
    }
    Err(Error::bad("a weight or bias is missing or not a finite number"))
}

/// A classifier's kernel and input; gives the output's shape.
fn check_classifier(weights: &impl Weights, x: Shape) -> Result<Shape> {
    let shape = check_geometry(weights, x)?;
    if x.pixels() != 1 {
        return Err(Error::bad(format!("a classifier of {} features reads {x}", weights.in_channels())));
    }
    if weights.is_matrix() { Ok(shape) } else { Err(Error::bad(CLASSIFIER)) }
}

/// Kernel, stride, padding and groups against the input; gives the output's shape.
fn check_geometry(weights: &impl Weights, x: Shape) -> Result<Shape> {
    let (out, per_group, kh, kw) = weights.dim();
    let (stride, padding, groups) = (weights.stride(), weights.padding(), weights.groups());
    let sides = [out, per_group, kh, kw, groups, stride[0], stride[1]];
    if sides.contains(&0) || stride.iter().any(|&s| s > MAX_SIDE) || padding[0] >= kh || padding[1] >= kw {
        return Err(Error::bad("its kernel, stride, padding or groups are out of range"));
    }
    if !out.is_multiple_of(groups) || per_group.checked_mul(groups) != Some(x.channels) {
        return Err(Error::bad(format!("{out}×{per_group} filters in {groups} groups do not fit an input of {x}")));
    }
    if kh > MAX_SIDE || kw > MAX_SIDE {
        return Err(Error::bad(format!("its kernel of {kh}×{kw} is too large")));
    }
    Ok(weights.output(x))
}

/// Levels, scales, multipliers and bounds of a quantized layer whose geometry is right.
fn check_conv(conv: &QConv, input: Stored, requantized: bool) -> Result<()> {
    if !(2..=8).contains(&conv.bits) {
        return Err(Error::bad(format!("weights of {} bits", conv.bits)));
    }
    let out = conv.out_channels();
    let constants = if requantized { out } else { 0 };
    let lengths = [
        (conv.scale.len(), out),
        (conv.bias.len(), out),
        (conv.multiplier.len(), constants),
        (conv.right_shift.len(), constants),
    ];
    if lengths.iter().any(|(have, want)| have != want) {
        return Err(Error::bad(format!("scales, biases or multipliers are not one for each of {out} channels")));
    }
    check_levels(&conv.fine, conv.bits)?;
    check_scales(conv.scale.iter())?;
    if let Some(coarse) = &conv.coarse {
        if !requantized && matches!(coarse.scale, CoarseScale::Own { .. }) {
            return Err(Error::bad("sums that are not requantized have no second grid"));
        }
        check_coarse(conv, coarse).map_err(|e| e.at("coarse part"))?;
    }
    for (o, (&multiplier, &right_shift)) in conv.multiplier.iter().zip(&conv.right_shift).enumerate() {
        let m = Multiplier { multiplier, right_shift };
        let larger = match conv.coarse.as_ref().map(|c| &c.scale) {
            Some(CoarseScale::Own { multiplier: coarse, .. }) if coarse[o] < 0 => return Err(bad_multiplier()),
            Some(CoarseScale::Own { multiplier: coarse, .. }) => multiplier.max(coarse[o]),
            _ => multiplier,
        };
        check_multiplier(m, larger).map_err(|e| e.at(format!("output channel {o}")))?;
    }
    check_overflow(conv, input)
}

/// n in 1 … 62, M not negative, and the larger M of a pair normalized.
pub(super) fn check_multiplier(m: Multiplier, larger: i32) -> Result<()> {
    let normalized = larger >= 1 << 30 || m.right_shift == Multiplier::MAX_SHIFT;
    if m.multiplier >= 0 && (1..=Multiplier::MAX_SHIFT).contains(&m.right_shift) && normalized {
        return Ok(());
    }
    Err(bad_multiplier())
}

pub(super) fn bad_multiplier() -> Error {
    Error::bad("a multiplier or right shift is out of range")
}

fn check_coarse(conv: &QConv, coarse: &Coarse) -> Result<()> {
    let (out, per_group, ..) = conv.fine.dim();
    let kernel = conv.kernel();
    let diagonal = coarse.support == Support::Diagonal;
    if diagonal && (conv.in_channels() != out || conv.stride != [1, 1]) {
        return Err(Error::bad("the diagonal needs as many outputs as inputs and stride 1"));
    }
    let shape = coarse.support.shape(out, per_group, kernel);
    if coarse.weights.shape() != shape {
        return Err(Error::bad(format!("weights of {:?} where {shape:?} are held", coarse.weights.shape())));
    }
    check_levels(&coarse.weights, conv.bits)?;
    let one_each = |lengths: &[usize]| {
        if lengths.iter().all(|&n| n == out) {
            return Ok(());
        }
        Err(Error::bad(format!("shifts or scales are not one for each of {out} channels")))
    };
    match &coarse.scale {
        CoarseScale::Shift(shift) => {
            one_each(&[shift.len()])?;
            if shift.iter().any(|&k| k > conv.bits + 1) {
                return Err(Error::bad(format!("a shift is above {}", conv.bits + 1)));
            }
            Ok(())
        }
        CoarseScale::Own { scale, multiplier, bias } => {
            one_each(&[scale.len(), multiplier.len(), bias.len()])?;
            check_scales(scale.iter())
        }
    }
}

fn check_scales<'a>(mut scales: impl Iterator<Item = &'a f32>) -> Result<()> {
    if scales.all(|&s| is_scale(s)) { Ok(()) } else { Err(Error::bad("a scale is not a positive number")) }
}

fn check_levels<S: ndarray::Data<Elem = i8>, D: ndarray::Dimension>(levels: &ArrayBase<S, D>, bits: u8) -> Result<()> {
    let limit = qmax(bits);
    match levels.iter().find(|&&q| i32::from(q).abs() > limit) {
        None => Ok(()),
        Some(q) => Err(Error::bad(format!("a weight of {q} does not fit {bits} bits"))),
    }
}
