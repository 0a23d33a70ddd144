//! What a quantized model must fulfil before any device runs it.
//!
//! | what | file |
//! | --- | --- |
//! | the graph: order, names, what is stored and what reads it, outputs | `mod.rs` |
//! | convolutions and classifiers | `layers.rs` |
//! | operations without weights | `ops.rs` |

mod layers;
mod ops;
mod value;

use std::collections::HashSet;

use self::value::{Value, is_scale};
use crate::model::{
    Computed, Fit, GraphOutput, MAX_SIDE, Op, Preprocessing, QNode, QParams, QuantizedGraph, Shape, on_op,
};
use crate::quantize::stored::Stored;
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
    let mut values: Vec<Value> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let unique = names.insert(node.name.as_str());
        let value = if unique { check_node(graph, id, &values) } else { Err(Error::bad("two layers have this name")) };
        values.push(value.map_err(|e| e.at(node.name.escape_debug()))?);
    }
    check_outputs(&graph.outputs, &values)?;
    match (&graph.classes, graph.outputs.as_slice()) {
        (Some(classes), [GraphOutput { sides, .. }]) if sides.len() == 1 && classes.len() != sides[0] => {
            Err(Error::bad(format!("{} class names for {} logits", classes.len(), sides[0])))
        }
        _ => Ok(()),
    }
}

fn check_preprocessing(input: &Preprocessing) -> Result<()> {
    let sides = input.size.iter().chain(&input.resize);
    let in_range = sides.into_iter().all(|side| (1..=MAX_SIDE).contains(side));
    let finite = input.mean.iter().chain(&input.std).all(|v| v.is_finite()) && input.std.iter().all(|&v| v > 0.0);
    let fitted = input.fit == Fit::Crop || input.resize.is_none();
    if in_range && finite && fitted && input.mean.len() == input.std.len() {
        Ok(())
    } else {
        Err(Error::bad("sizes, mean or std of the preprocessing are out of range"))
    }
}

/// A node after those it reads.
fn check_node(graph: &QuantizedGraph, id: usize, values: &[Value]) -> Result<Value> {
    let node = &graph.nodes[id];
    let inputs: Option<Vec<Value>> = node.inputs.iter().map(|&i| values.get(i).copied()).collect();
    let inputs =
        inputs.ok_or_else(|| Error::bad(format!("its inputs {:?} are not all layers before it", node.inputs)))?;
    if on_op!(&node.computed, op => matches!(op, Op::Input(_))) != (id == 0) {
        return Err(Error::bad("a model has one input, its first layer"));
    }
    if node.relu && !on_op!(&node.computed, op => op.holds_relu()) {
        return Err(Error::bad("only a convolution or binary operation is followed by a ReLU"));
    }
    let is_classifier = on_op!(&node.computed, op => matches!(op, Op::Linear(_)));
    if is_classifier && !matches!(graph.outputs.as_slice(), [only] if only.node == id) {
        return Err(Error::bad("a classifier is the only output"));
    }
    check_storage(node, &inputs)?;
    let shape = on_op!(&node.computed, op => match op {
        Op::Input(shape) => check_input(*shape, node, &graph.input)?,
        Op::Conv(_) | Op::Linear(_) => layers::check(node, &inputs)?,
        _ => ops::check(node, &inputs)?,
    });
    if !node.exponents.is_empty() && node.exponents.len() != shape.channels {
        return Err(Error::bad(format!("{} exponents for {} channels", node.exponents.len(), shape.channels)));
    }
    let levels: Vec<Stored> = inputs.iter().filter_map(|input| input.stored).collect();
    Ok(Value {
        shape: check_size(shape)?,
        stored: node.output.map(|params| Stored::of(&node.computed, node.relu, params, &levels)),
    })
}

/// Levels or not: what is computed in integers reads levels.
fn check_storage(node: &QNode, inputs: &[Value]) -> Result<()> {
    let is_float = matches!(node.computed, Computed::Float(_));
    let has_weights = on_op!(&node.computed, op => op.weights().is_some());
    let never = on_op!(&node.computed, op => matches!(op, Op::Linear(_) | Op::Constant(_)));
    match &node.output {
        Some(_) if never => return Err(Error::bad("the output of a classifier or constant is not stored as levels")),
        Some(params) => check_params(params)?,
        None if !is_float && !has_weights => return Err(Error::bad("its output has no scale")),
        None => {}
    }
    if !is_float && inputs.iter().any(|input| input.stored.is_none()) {
        return Err(Error::bad("it reads real values or accumulators, and only what is computed in float may"));
    }
    Ok(())
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

fn check_input(shape: Shape, node: &QNode, preprocessing: &Preprocessing) -> Result<Shape> {
    if !node.inputs.is_empty() {
        return Err(Error::bad("an input reads no other layer"));
    }
    let (channels, [height, width]) = (preprocessing.channels(), preprocessing.size);
    if shape == Shape::new(channels, height, width) {
        return Ok(shape);
    }
    Err(Error::bad(format!("an input of {shape} for images of {channels}×{height}×{width}")))
}

/// The shape, if a device could hold it.
fn check_size(shape: Shape) -> Result<Shape> {
    match shape.checked_len() {
        Some(1..=MAX_VALUES) => Ok(shape),
        _ => Err(Error::bad(format!("its output {shape} is empty or too large"))),
    }
}

fn check_outputs(outputs: &[GraphOutput], values: &[Value]) -> Result<()> {
    if outputs.is_empty() {
        return Err(Error::bad("the model has no output"));
    }
    let mut names = HashSet::new();
    for GraphOutput { name, node, sides, .. } in outputs {
        let wrong = |what: String| Err(Error::bad(what).at(format!("output {}", name.escape_debug())));
        if !names.insert(name.as_str()) {
            return wrong("two outputs have this name".into());
        }
        let Some(value) = values.get(*node) else { return wrong(format!("there is no layer {node}")) };
        let count = sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        if count != Some(value.shape.len()) {
            return wrong(format!("sides {sides:?} of an activation of {}", value.shape));
        }
    }
    Ok(())
}
