//! A small network with every operation, several inputs to a node and several outputs; calibrated
//! by running it.

use ndarray::Array3;
use repquant::internals::Random;
use repquant::internals::calibrate::Calibration;
use repquant::internals::model::{
    Activation, Axis, Binary, Coordinates, Graph, GraphOutput, Node, Op, Pool, PoolKind, QuantizedGraph, Rearrange,
    RearrangeKind, Resize, Shape,
};
use repquant::internals::quantize::{QuantizeOptions, quantize};
use repquant::internals::threshold::{ActivationMode, ActivationRanges, Method, RangeOptions, choose};

use super::plain::run_float;
use crate::common::network::{conv, network};

pub(crate) fn id(graph: &Graph, name: &str) -> usize {
    graph.nodes.iter().position(|node| node.name == name).unwrap_or_else(|| panic!("{name}"))
}

/// Adds a node that reads those of these names.
pub(crate) fn add(graph: &mut Graph, name: &str, op: Op, inputs: &[&str], relu: bool) {
    let inputs = inputs.iter().map(|input| id(graph, input)).collect();
    graph.nodes.push(Node { name: name.into(), op, inputs, relu });
}

pub(crate) fn output(graph: &mut Graph, name: &str, node: &str, sides: &[usize]) {
    let node = id(graph, node);
    graph.outputs.push(GraphOutput { name: name.into(), node, sides: sides.to_vec(), one_image: false });
}

/// An input of 3×8×8 and nothing else.
pub(crate) fn empty() -> Graph {
    let mut graph = network();
    graph.name = "branched".into();
    graph.input.size = [8, 8];
    graph.classes = None;
    graph.outputs.clear();
    graph.nodes.truncate(1);
    graph.nodes[0].op = Op::Input(Shape::new(3, 8, 8));
    graph
}

pub(crate) fn pool(kind: PoolKind, kernel: usize, stride: usize, padding: usize) -> Op {
    Op::Pool(Pool { kind, kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4], ceil: false })
}

/// A stem and one beside it on the pooled input; a residual sum; squeeze and excitation; pools, a
/// shuffle, a difference, a concatenation; resizing and a mask in float; two heads without a
/// classifier.
pub(crate) fn branched() -> Graph {
    let mut random = Random::new(23);
    let mut graph = empty();
    let g = &mut graph;
    let mut layer = |g: &mut Graph, name: &str, sizes: [usize; 3], from: &str, relu: bool| {
        add(g, name, Op::Conv(conv(&mut random, sizes[0], sizes[1], sizes[2], 1, 1)), &[from], relu);
    };
    layer(g, "stem", [8, 3, 3], "input", true);
    add(g, "stem.pool", pool(PoolKind::Max, 3, 2, 1), &["stem"], false);
    add(g, "thumb", pool(PoolKind::Max, 2, 2, 0), &["input"], false);
    layer(g, "thumb.stem", [4, 3, 1], "thumb", true);
    layer(g, "left", [8, 8, 3], "stem.pool", false);
    add(g, "left.clip", Op::Activation(Activation::Clip { low: 0.0, high: 0.9 }), &["left"], false);
    layer(g, "right", [8, 8, 1], "stem.pool", false);
    add(g, "sum", Op::Binary(Binary::Add), &["left.clip", "right"], true);
    add(g, "squeeze", Op::GlobalAveragePool, &["sum"], false);
    layer(g, "reduce", [4, 8, 1], "squeeze", true);
    layer(g, "expand", [8, 4, 1], "reduce", false);
    add(g, "gate", Op::Activation(Activation::Sigmoid), &["expand"], false);
    add(g, "scaled", Op::Binary(Binary::Mul), &["sum", "gate"], false);
    add(g, "mean", pool(PoolKind::Average, 3, 1, 1), &["scaled"], false);
    let kind = RearrangeKind::Transpose { sides: vec![2, 4, 16], order: vec![1, 0, 2] };
    add(g, "shuffle", Op::Rearrange(Rearrange { kind, shape: Shape::new(8, 4, 4) }), &["mean"], false);
    layer(g, "mix", [8, 8, 3], "shuffle", false);
    add(g, "difference", Op::Binary(Binary::Sub), &["mix", "shuffle"], false);
    add(g, "swish", Op::Activation(Activation::HardSwish), &["difference"], false);
    add(g, "joined", Op::Concat(Axis::Channels), &["swish", "thumb.stem", "shuffle"], false);
    let resize = Resize { size: [6, 6], coordinates: Coordinates::HalfPixel, scale: None };
    add(g, "resized", Op::Resize(resize), &["joined"], false);
    let mask = Array3::from_shape_fn((1, 6, 6), |(_, y, x)| if (y + x) % 3 == 0 { 0.5 } else { 1.0 });
    add(g, "mask", Op::Constant(mask), &[], false);
    add(g, "masked", Op::Binary(Binary::Mul), &["resized", "mask"], false);
    layer(g, "boxes", [6, 20, 3], "masked", false);
    layer(g, "scores", [5, 20, 1], "masked", true);
    add(g, "probabilities", Op::Softmax(Axis::Channels), &["scores"], false);
    add(g, "average", Op::GlobalAveragePool, &["boxes"], false);
    add(g, "kept", Op::Activation(Activation::Clip { low: 0.0, high: f32::INFINITY }), &["average"], false);
    output(g, "classes", "probabilities", &[5, 36]);
    output(g, "features", "shuffle", &[8, 4, 4]);
    output(g, "boxes", "boxes", &[6, 6, 6]);
    output(g, "sizes", "kept", &[6]);
    graph
}

pub(crate) fn image(random: &mut Random, graph: &Graph) -> Array3<f64> {
    let [height, width] = graph.input.size;
    Array3::from_shape_fn((3, height, width), |_| f64::from((2.0 * random.between(-1.0, 1.0)) as f32))
}

/// Statistics of the network on a few random images.
pub(crate) fn statistics(graph: &Graph) -> Calibration {
    let mut random = Random::new(31);
    let mut calibration = Calibration::new(graph);
    for _ in 0..4 {
        let values = run_float(graph, &image(&mut random, graph));
        for stats in &mut calibration.activations {
            let value = values[id(graph, &stats.name)].view().permuted_axes([1, 2, 0]);
            let value: Vec<f32> = value.iter().map(|&v| v as f32).collect();
            let channels = stats.channels();
            stats.add(&value, channels).unwrap();
        }
        calibration.images += 1;
    }
    calibration
}

pub(crate) fn ranges(calibration: &Calibration, mode: ActivationMode, bits: u8) -> ActivationRanges {
    choose(calibration, &RangeOptions { method: Method::MinMax, bits, mode }).unwrap()
}

pub(crate) fn made(graph: &Graph, options: &QuantizeOptions, mode: ActivationMode, bits: u8) -> QuantizedGraph {
    let calibration = statistics(graph);
    quantize(graph, &ranges(&calibration, mode, bits), &calibration, options).unwrap()
}
