//! Operations without weights, in float32.

use super::builder::{Builder, integer, integers, number, text};
use super::moves::{concat, max_pool, padding, rearrange, sides};
use super::real::{Real, before_relu, rectified};
use crate::model::{Activation, Axis, Binary, Coordinates, Op, Pool, PoolKind, Resize, Shape};
use crate::{Error, Result};

/// One operation, the tensor called as the layer. `inputs` are batch × channels × height × width, of these shapes.
///
/// # Errors
/// An operation that has weights, or inputs that it has no place for.
pub(super) fn operation(
    builder: &mut Builder,
    name: &str,
    op: &Op,
    relu: bool,
    inputs: &[(&Real, Shape)],
) -> Result<Real> {
    let tensors: Vec<&str> = inputs.iter().map(|(real, _)| real.tensor.as_str()).collect();
    let tensor = match (op, inputs, tensors.as_slice()) {
        (Op::Activation(function), _, [x]) => activation(builder, name, *function, x),
        (Op::Binary(kind), _, [_, _]) => {
            let operator = match kind {
                Binary::Add => "Add",
                Binary::Sub => "Sub",
                Binary::Mul => "Mul",
            };
            let y = builder.node(operator, before_relu(name, "both", relu), &tensors, vec![]);
            rectified(builder, name, y, relu)
        }
        (Op::Pool(pool), [(_, shape)], [x]) => match pool.kind {
            PoolKind::Max => max_pool(builder, name, x, *shape, pool, name),
            PoolKind::Average | PoolKind::AverageWithPadding => mean(builder, name, x, *shape, pool),
        },
        (Op::Rearrange(how), [(_, shape)], [x]) => rearrange(builder, name, x, *shape, how, name),
        (Op::Concat(axis), _, [_, _, ..]) => concat(builder, name, &tensors, axis.index(), name),
        (Op::Resize(resize), [(_, shape)], [x]) => bilinear(builder, name, x, *shape, resize)?,
        (Op::Softmax(axis), _, [x]) => builder.node("Softmax", name, &[x], vec![axis_of(*axis)]),
        (Op::Constant(values), [], []) => {
            let (channels, height, width) = values.dim();
            builder.constant(name, &[1, channels, height, width], values.iter().copied())
        }
        _ => return Err(Error::bad(format!("{} cannot be written with {} inputs", op.kind(), inputs.len()))),
    };
    Ok(Real::image(tensor))
}

fn axis_of(axis: Axis) -> crate::onnx_proto::AttributeProto {
    integer("axis", axis.index())
}

/// A function of one value.
pub(super) fn activation(builder: &mut Builder, name: &str, function: Activation, x: &str) -> String {
    let gate = |builder: &mut Builder, operator: &str, attributes| {
        let gate = builder.node(operator, format!("{name}/gate"), &[x], attributes);
        builder.node("Mul", name, &[x, &gate], vec![])
    };
    match function {
        Activation::Clip { low: 0.0, high: f32::INFINITY } => builder.node("Relu", name, &[x], vec![]),
        Activation::Clip { low, high } => {
            // An infinite end is left out.
            let mut end = |part: &str, value: f32| {
                if value.is_finite() { builder.scalar(format!("{name}.{part}"), value) } else { String::new() }
            };
            let (low, high) = (end("low", low), end("high", high));
            let inputs = [x, &low, &high];
            builder.node("Clip", name, if high.is_empty() { &inputs[..2] } else { &inputs }, vec![])
        }
        Activation::LeakyRelu { slope } => builder.node("LeakyRelu", name, &[x], vec![number("alpha", slope)]),
        Activation::Sigmoid => builder.node("Sigmoid", name, &[x], vec![]),
        Activation::HardSigmoid { slope, offset } => {
            builder.node("HardSigmoid", name, &[x], vec![number("alpha", slope), number("beta", offset)])
        }
        // HardSwish itself is of a later version.
        Activation::HardSwish => gate(builder, "HardSigmoid", vec![number("alpha", 1.0 / 6.0), number("beta", 0.5)]),
        Activation::Silu => gate(builder, "Sigmoid", vec![]),
    }
}

/// The mean of each window. Windows are counted by rounding down, with padding at the end that makes them those of `pool`;
/// it is not counted. Where declared padding is, it becomes zeros of the image first.
fn mean(builder: &mut Builder, name: &str, x: &str, shape: Shape, pool: &Pool) -> String {
    let mut pads = padding(pool, shape);
    let mut image = x.to_owned();
    if pool.kind == PoolKind::AverageWithPadding && pool.padding != [0; 4] {
        let [top, left, bottom, right] = pool.padding.map(|side| side as i64);
        let amounts = builder.constant(format!("{name}.padding"), &[8], [0, 0, top, left, 0, 0, bottom, right]);
        image = builder.node("Pad", format!("{name}/padded"), &[x, &amounts], vec![text("mode", "constant")]);
        for (pad, declared) in pads.iter_mut().zip(pool.padding) {
            *pad = pad.saturating_sub(declared);
        }
    }
    let window = vec![
        integers("kernel_shape", &pool.kernel),
        integers("strides", &pool.stride),
        integers("pads", &pads),
        integer("count_include_pad", 0),
    ];
    builder.node("AveragePool", name, &[&image], window)
}

fn bilinear(builder: &mut Builder, name: &str, x: &str, shape: Shape, resize: &Resize) -> Result<String> {
    let [_, height, width] = sides(shape);
    let scale = |from: usize, to: usize| {
        let exact = to as f32 / from as f32;
        // A runtime rounds side·scale down, in floats or doubles: the scale must not be a little too small.
        [exact, exact.next_up()].into_iter().find(|&scale| {
            (from as f32 * scale).floor() == to as f32 && (from as f64 * f64::from(scale)).floor() == to as f64
        })
    };
    let of = |axis: usize, from: usize| match resize.scale {
        Some(scale) => Some(scale[axis]),
        None => scale(from, resize.size[axis]),
    };
    let (Some(down), Some(across)) = (of(0, height), of(1, width)) else {
        return Err(Error::bad(format!(
            "no scale of ONNX takes {height}×{width} to {}×{}",
            resize.size[0], resize.size[1]
        )));
    };
    let scales = builder.constant(format!("{name}.scales"), &[4], [1.0, 1.0, down, across]);
    let coordinates = match resize.coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::AlignCorners => "align_corners",
        Coordinates::Asymmetric => "asymmetric",
    };
    let how = vec![text("mode", "linear"), text("coordinate_transformation_mode", coordinates)];
    Ok(builder.node("Resize", name, &[x, "", &scales], how))
}

/// A constant repeated for every image of the batch, for what does not do that itself.
pub(super) fn for_each_image(builder: &mut Builder, name: &str, constant: &str, input: &str, shape: Shape) -> String {
    let all = builder.node("Shape", format!("{name}/input_shape"), &[input], vec![]);
    let [zero, one] = [0i64, 1].map(|n| builder.constant(format!("{name}.{n}"), &[1], [n]));
    let batch = builder.node("Slice", format!("{name}/batch"), &[&all, &zero, &one], vec![]);
    let rest = builder.constant(format!("{name}.sides"), &[3], sides(shape).map(|side| side as i64));
    let whole = builder.node("Concat", format!("{name}/shape"), &[&batch, &rest], vec![integer("axis", 0)]);
    builder.node("Expand", format!("{name}/repeated"), &[constant, &whole], vec![])
}
