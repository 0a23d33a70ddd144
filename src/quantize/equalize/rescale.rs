//! A network whose activations are held in other units.

use super::scaling::{Scaling, clip_function, scaling};
use crate::model::{Activation, Conv, Expression, Function, Graph, Op, Operand, Operator, Weights, number};
use crate::{Error, Result};

/// `2^exponent`, for exponents of normal numbers.
fn power(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent) as u32) << 23)
}

/// The same function as `graph`, the activation of each node times `2^k` of its channels; empty where
/// it is as before.
///
/// # Errors
/// Where a node cannot be written so: it is neither a convolution nor a function of one activation, a
/// number of channels is another, or a weight would not be finite. The node is named.
pub(crate) fn rescaled(graph: &Graph, exponents: &[Vec<u8>]) -> Result<Graph> {
    let mut graph = graph.clone();
    let shapes = graph.shapes();
    let of = |id: usize| exponents.get(id).map_or(&[][..], Vec::as_slice);
    for (id, node) in graph.nodes.iter_mut().enumerate() {
        if of(id).is_empty() && node.inputs.iter().all(|&input| of(input).is_empty()) {
            continue;
        }
        let at = |what: &str| Error::bad(what).at(&node.name);
        let fits = |id: usize| of(id).is_empty() || of(id).len() == shapes[id].channels;
        let small = of(id).iter().all(|&k| k < 100);
        if !small || !fits(id) || !node.inputs.iter().all(|&input| fits(input)) {
            return Err(at("the units of its channels are not those of this network"));
        }
        let read = node.inputs.first().map_or(&[][..], |&input| of(input));
        let changed = match &mut node.op {
            Op::Conv(conv) => scale(conv, read, of(id)),
            op if node.inputs.len() == 1 => match function(op, read, of(id)) {
                Some(changed) => {
                    *op = changed;
                    true
                }
                None => false,
            },
            _ => false,
        };
        if !changed {
            return Err(at("it cannot be computed with channels in units of their own"));
        }
    }
    Ok(graph)
}

/// Makes a convolution read and give other units; whether all weights stay finite.
fn scale(conv: &mut Conv, read: &[u8], own: &[u8]) -> bool {
    let exponent = |exponents: &[u8], channel: usize| exponents.get(channel).copied().map_or(0, i32::from);
    let (per_group, outputs) = (conv.weight.dim().1, conv.out_channels() / conv.groups.max(1));
    for ((o, i, _, _), weight) in conv.weight.indexed_iter_mut() {
        *weight *= power(exponent(own, o) - exponent(read, o / outputs.max(1) * per_group + i));
    }
    for (o, bias) in conv.bias.iter_mut().enumerate() {
        *bias *= power(exponent(own, o));
    }
    conv.weight.iter().chain(&conv.bias).all(|value| value.is_finite())
}

/// A function that reads and gives other units.
fn function(op: &Op, read: &[u8], own: &[u8]) -> Option<Op> {
    let units = |sign: i32, exponents: &[u8]| {
        Operand::Constant(exponents.iter().map(|&k| power(sign * i32::from(k))).collect())
    };
    if read == own {
        match scaling(op)? {
            Scaling::WithInput => return Some(op.clone()),
            Scaling::Clip(high) => return Some(clip_function(own.iter().map(|&k| high * power(k.into())).collect())),
            Scaling::Other => {}
        }
    }
    let mut e = Expression::default();
    let mut x = Operand::Input(0);
    if !read.is_empty() {
        x = e.push(Operator::Mul, &[x, units(-1, read)]);
    }
    let mut y = match op {
        Op::Activation(activation) => spelled(&mut e, *activation, &x),
        Op::Function(function) if function.inputs() == 1 => e.insert(function, &[x]),
        _ => return None,
    };
    if !own.is_empty() {
        y = e.push(Operator::Mul, &[y, units(1, own)]);
    }
    let function = e.finish(&y).filter(|function: &Function| function.check().is_ok())?;
    Some(Op::Function(function))
}

/// The steps of a named function, as its kernel computes them.
fn spelled(e: &mut Expression, activation: Activation, x: &Operand) -> Operand {
    let clip = |e: &mut Expression, x: Operand, low: f32, high: f32| {
        let mut y = x;
        if low.is_finite() {
            y = e.push(Operator::Max, &[number(low), y]);
        }
        if high.is_finite() {
            y = e.push(Operator::Min, &[number(high), y]);
        }
        y
    };
    match activation {
        Activation::Clip { low, high } => clip(e, x.clone(), low, high),
        Activation::LeakyRelu { slope } => {
            let less = e.push(Operator::Less, &[x.clone(), number(0.0)]);
            let below = e.push(Operator::Mul, &[number(slope), x.clone()]);
            e.push(Operator::Select, &[less, below, x.clone()])
        }
        Activation::Sigmoid => e.push(Operator::Sigmoid, std::slice::from_ref(x)),
        Activation::HardSigmoid { slope, offset } => {
            let product = e.push(Operator::Mul, &[number(slope), x.clone()]);
            let sum = e.push(Operator::Add, &[product, number(offset)]);
            clip(e, sum, 0.0, 1.0)
        }
        Activation::HardSwish => {
            let product = e.push(Operator::Mul, &[x.clone(), number(1.0 / 6.0)]);
            let sum = e.push(Operator::Add, &[product, number(0.5)]);
            let gate = clip(e, sum, 0.0, 1.0);
            e.push(Operator::Mul, &[x.clone(), gate])
        }
        Activation::Silu => {
            let negative = e.push(Operator::Neg, std::slice::from_ref(x));
            let power = e.push(Operator::Exp, &[negative]);
            let sum = e.push(Operator::Add, &[power, number(1.0)]);
            e.push(Operator::Div, &[x.clone(), sum])
        }
    }
}
