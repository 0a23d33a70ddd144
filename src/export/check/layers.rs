//! Convolutions and classifiers: geometry, levels, scales, multipliers, and sums that cannot overflow.

use ndarray::ArrayBase;

use super::{Value, is_scale};
use crate::model::{Coarse, CoarseScale, MAX_SIDE, Multiplier, Op, QConv, QNode, QOp, Shape, Support, conv_output};
use crate::quantize::qmax;
use crate::quantize::requantize::check_overflow;
use crate::quantize::stored::Stored;
use crate::{Error, Result};

/// A convolution or classifier and its output's shape.
pub(super) fn check(node: &QNode, inputs: &[Value]) -> Result<Shape> {
    let [Value { shape: x, stored, .. }] = *inputs else {
        return Err(Error::bad(format!("its inputs {:?} are not one layer", node.inputs)));
    };
    let levels = || stored.ok_or_else(|| Error::bad("it does not read levels"));
    let classifier_input = |channels: usize| {
        if (x.channels, x.pixels()) == (channels, 1) {
            return Ok(());
        }
        Err(Error::bad(format!("a classifier of {channels} features reads {x}")))
    };
    match &node.op {
        QOp::Conv(conv) => {
            let shape = check_geometry(conv.fine.dim(), x, conv.stride, conv.padding, conv.groups)?;
            check_conv(conv, levels()?, node.output.is_some())?;
            Ok(shape)
        }
        QOp::Linear(conv) => {
            let shape = check_geometry(conv.fine.dim(), x, conv.stride, conv.padding, conv.groups)?;
            classifier_input(conv.in_channels())?;
            if conv.coarse.is_some()
                || conv.groups != 1
                || (conv.kernel(), conv.stride, conv.padding) != ([1; 2], [1; 2], [0; 2])
            {
                return Err(Error::bad("a classifier is one unsplit 1×1 kernel"));
            }
            check_conv(conv, levels()?, false)?;
            Ok(shape)
        }
        QOp::Float(Op::Conv(conv)) => {
            let shape = check_geometry(conv.weight.dim(), x, conv.stride, conv.padding, conv.groups)?;
            check_float(conv.weight.iter().chain(&conv.bias), conv.bias.len(), shape)?;
            Ok(shape)
        }
        QOp::Float(Op::Linear(linear)) => {
            let (out, features) = linear.weight.dim();
            classifier_input(features)?;
            let shape = Shape::new(out, 1, 1);
            check_float(linear.weight.iter().chain(&linear.bias), linear.bias.len(), shape)?;
            Ok(shape)
        }
        _ => Err(Error::bad("this operation has no weights")),
    }
}

fn check_float<'a>(mut values: impl Iterator<Item = &'a f32>, biases: usize, shape: Shape) -> Result<()> {
    if biases == shape.channels && values.all(|v| v.is_finite()) {
        return Ok(());
    }
    Err(Error::bad("a weight or bias is missing or not a finite number"))
}

/// Kernel, stride, padding and groups against the input; gives the output's shape.
fn check_geometry(
    (out, per_group, kh, kw): (usize, usize, usize, usize),
    x: Shape,
    stride: [usize; 2],
    padding: [usize; 2],
    groups: usize,
) -> Result<Shape> {
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
    Ok(conv_output(x, out, [kh, kw], stride, padding))
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
