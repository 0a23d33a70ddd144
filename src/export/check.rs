//! What a quantized model must fulfil before any device runs it.

use std::collections::HashSet;

use ndarray::ArrayBase;

use crate::model::{
    Coarse, CoarseScale, MAX_SIDE, Multiplier, Op, Preprocessing, QConv, QNode, QOp, QParams, QuantizedGraph, Shape,
    Support, conv_output,
};
use crate::quantize::qmax;
use crate::quantize::requantize::{Input, check_overflow, check_pool};
use crate::{Error, Result};

/// The most values of one image's activation.
const MAX_VALUES: usize = 1 << 30;

/// Checks a whole model.
///
/// # Errors
/// The first contradiction, naming the node.
pub(super) fn check(graph: &QuantizedGraph) -> Result<()> {
    check_preprocessing(&graph.input).map_err(|e| e.at("input"))?;
    let mut names = HashSet::new();
    let mut shapes: Vec<Shape> = Vec::with_capacity(graph.nodes.len());
    let last = graph.nodes.len().checked_sub(1).ok_or_else(|| Error::bad("the model has no layers"))?;
    for (id, node) in graph.nodes.iter().enumerate() {
        let named = |e: Error| e.at(node.name.escape_debug());
        if !names.insert(node.name.as_str()) {
            return Err(named(Error::bad("two layers have this name")));
        }
        check_order(node, id, last).map_err(named)?;
        let from = node.inputs.first().map(|&i| (&graph.nodes[i], shapes[i]));
        let shape = match (&node.op, from) {
            (QOp::Input(shape), None) => check_input(*shape, &graph.input),
            (_, Some((from, x))) => check_layer(node, from, x),
            (_, None) => Err(Error::bad("the layer has no input")),
        };
        shapes.push(shape.and_then(check_size).map_err(named)?);
    }
    match &graph.classes {
        Some(classes) if classes.len() != shapes[last].channels => {
            Err(Error::bad(format!("{} class names for {} logits", classes.len(), shapes[last].channels)))
        }
        _ => Ok(()),
    }
}

fn check_preprocessing(input: &Preprocessing) -> Result<()> {
    let sides = input.size.iter().chain(&input.resize);
    let in_range = sides.into_iter().all(|side| (1..=MAX_SIDE).contains(side));
    let finite = input.mean.iter().chain(&input.std).all(|v| v.is_finite()) && input.std.iter().all(|&v| v > 0.0);
    if in_range && finite {
        Ok(())
    } else {
        Err(Error::bad("sizes, mean or std of the preprocessing are out of range"))
    }
}

/// The place of a node in the graph: the input first, the classifier last, what is read before what reads it.
fn check_order(node: &QNode, id: usize, last: usize) -> Result<()> {
    let is_input = matches!(node.op, QOp::Input(_));
    let is_classifier = matches!(node.op, QOp::Linear(_) | QOp::Float(Op::Linear(_)));
    let may_relu = matches!(node.op, QOp::Conv(_) | QOp::Float(Op::Conv(_)));
    if is_input != (id == 0) || is_classifier != (id == last) {
        return Err(Error::bad("a model begins with its input and ends with its classifier"));
    }
    if node.inputs.len() != usize::from(!is_input) || node.inputs.iter().any(|&i| i >= id) {
        return Err(Error::bad(format!("its inputs {:?} are not one layer before it", node.inputs)));
    }
    if node.relu && !may_relu {
        return Err(Error::bad("only a convolution is followed by a ReLU"));
    }
    match (&node.output, is_classifier) {
        (Some(params), false) => check_params(params),
        (None, true) => Ok(()),
        _ => Err(Error::bad("every activation but the logits has a scale")),
    }
}

fn check_params(p: &QParams) -> Result<()> {
    // A width of 2 to 8 bits, symmetric or affine.
    let width = (2..=8).any(|bits| p.qmax == (1 << (bits - 1)) - 1);
    let levels = width && [-p.qmax, -p.qmax - 1].contains(&p.qmin) && (p.qmin..=p.qmax).contains(&p.zero_point);
    if levels && is_scale(p.scale) {
        Ok(())
    } else {
        Err(Error::bad("the scale or levels of its output are out of range"))
    }
}

fn is_scale(scale: f32) -> bool {
    scale.is_finite() && scale > 0.0
}

fn check_input(shape: Shape, preprocessing: &Preprocessing) -> Result<Shape> {
    if shape.channels == 3 && [shape.height, shape.width] == preprocessing.size {
        return Ok(shape);
    }
    Err(Error::bad(format!("an input of {shape} for images of 3×{}×{}", preprocessing.size[0], preprocessing.size[1])))
}

/// The shape, if a device could hold it.
fn check_size(shape: Shape) -> Result<Shape> {
    let sides = [shape.channels, shape.height, shape.width];
    let values = sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    match values {
        Some(1..=MAX_VALUES) => Ok(shape),
        _ => Err(Error::bad(format!("its output {shape} is empty or too large"))),
    }
}

/// A layer and its output's shape; `x` is that of its input, the output of `from`.
fn check_layer(node: &QNode, from: &QNode, x: Shape) -> Result<Shape> {
    let params = from.output.ok_or_else(|| Error::bad("it reads the classifier's output"))?;
    let input = Input::new(params, from.relu);
    let classifier_input = |channels: usize| {
        if (x.channels, x.pixels()) == (channels, 1) {
            return Ok(());
        }
        Err(Error::bad(format!("a classifier of {channels} features reads {x}")))
    };
    match &node.op {
        QOp::Conv(conv) => {
            let shape = check_geometry(conv.fine.dim(), x, conv.stride, conv.padding, conv.groups)?;
            check_conv(conv, input, true)?;
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
            check_conv(conv, input, false)?;
            Ok(shape)
        }
        QOp::GlobalAveragePool(multiplier) => {
            check_multiplier(*multiplier, multiplier.multiplier)?;
            check_pool(input, x.pixels())?;
            Ok(Shape::new(x.channels, 1, 1))
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
        _ => Err(Error::bad("this operation does not belong here")),
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
fn check_conv(conv: &QConv, input: Input, requantized: bool) -> Result<()> {
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
fn check_multiplier(m: Multiplier, larger: i32) -> Result<()> {
    let normalized = larger >= 1 << 30 || m.right_shift == Multiplier::MAX_SHIFT;
    if m.multiplier >= 0 && (1..=Multiplier::MAX_SHIFT).contains(&m.right_shift) && normalized {
        return Ok(());
    }
    Err(bad_multiplier())
}

fn bad_multiplier() -> Error {
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
