//! Networks put together at random: whatever fits together can be quantized, means what the float
//! network computes, and is written and read.

use ndarray::Array3;
use repquant::internals::Random;
use repquant::internals::export::safetensors::{from_bytes, to_bytes};
use repquant::internals::model::{
    Activation, Along, Axis, Binary, Coordinates, Function, Graph, Node, Op, Operand, Operator, Pool, PoolKind,
    Rearrange, RearrangeKind, Reduce, ReduceKind, Resize, Shape, Standardize, Step,
};
use repquant::internals::quantize::{QuantizeOptions, SplitMode};
use repquant::internals::threshold::ActivationMode;

use super::branched::{empty, made};
use super::decisions::compare;
use crate::common::network::conv;

const AXES: [Axis; 3] = [Axis::Channels, Axis::Height, Axis::Width];

/// An operation that reads an activation of shape `x`.
fn unary(random: &mut Random, x: Shape) -> Op {
    let kernel = [1 + random.below(x.height.min(3)), 1 + random.below(x.width.min(3))];
    match random.below(15) {
        0..4 => {
            let (out, kernel, stride) = (1 + random.below(9), [1, 3][random.below(2)], 1 + random.below(2));
            Op::Conv(conv(random, out, x.channels, kernel, stride, 1))
        }
        4 => Op::Conv(conv(random, x.channels, 1, 3, 1, x.channels)),
        5 => Op::Activation(Activation::Clip { low: -0.5 * random.below(2) as f32, high: 0.4 }),
        6 => {
            let hard = Activation::HardSigmoid { slope: 0.2, offset: 0.5 };
            let others = [Activation::Sigmoid, Activation::Silu, Activation::HardSwish, hard];
            Op::Activation(others[random.below(4)])
        }
        7 if random.below(2) == 0 => Op::Function(function(random, x.channels)),
        7 => Op::Activation(Activation::LeakyRelu { slope: 0.1 }),
        8 | 9 => {
            let kinds = [PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding];
            let padding = [0, 1, 2, 3].map(|side: usize| random.below(kernel[side % 2]));
            let stride = [1 + random.below(2), 1 + random.below(3)];
            Op::Pool(Pool { kind: kinds[random.below(3)], kernel, stride, padding, ceil: random.below(2) == 0 })
        }
        10 => [Op::GlobalAveragePool, Op::GlobalMaxPool][random.below(2)].clone(),
        11 => {
            let size = [1 + random.below(9), 1 + random.below(9)];
            let coordinates = [Coordinates::HalfPixel, Coordinates::AlignCorners, Coordinates::Asymmetric];
            Op::Resize(Resize { size, coordinates: coordinates[random.below(3)], scale: None })
        }
        12 => Op::Softmax(AXES[random.below(3)]),
        13 => {
            let along = [Along::Channels, Along::Height, Along::Width, Along::Pixels][random.below(4)];
            let kinds = [ReduceKind::Norm, ReduceKind::Sum, ReduceKind::Min, ReduceKind::LogOfSumOfExponentials];
            let reduce = Reduce { kind: kinds[random.below(4)], along };
            [Op::Reduce(reduce), Op::Standardize(Standardize { along, epsilon: 0.01 })][random.below(2)].clone()
        }
        _ => Op::Rearrange(rearrange(random, x)),
    }
}

/// `erf(a·x) + b`, `a` and `b` for all channels or for each.
fn function(random: &mut Random, channels: usize) -> Function {
    let constant = |random: &mut Random| {
        let count = [1, channels][random.below(2)];
        Operand::Constant((0..count).map(|_| random.between(0.2, 2.0) as f32).collect())
    };
    let (a, b) = (constant(random), constant(random));
    let step = |operator, operands: &[Operand]| Step { operator, operands: operands.to_vec() };
    Function {
        steps: vec![
            step(Operator::Mul, &[Operand::Input(0), a]),
            step(Operator::Erf, &[Operand::Step(0)]),
            step(Operator::Add, &[Operand::Step(1), b]),
        ],
    }
}

fn rearrange(random: &mut Random, x: Shape) -> Rearrange {
    let sides = vec![x.channels, x.height, x.width];
    match random.below(5) {
        0 => Rearrange { kind: RearrangeKind::Reshape, shape: Shape::new(x.len(), 1, 1) },
        1 => Rearrange {
            kind: RearrangeKind::Transpose { sides, order: vec![1, 2, 0] },
            shape: Shape::new(x.height, x.width, x.channels),
        },
        2 => {
            let axis = random.below(3);
            let start = random.below(sides[axis]);
            let count = (sides[axis] - start).div_ceil(2);
            let kind = RearrangeKind::Slice { sides, axis, start, step: 2, count };
            Rearrange { kind, shape: AXES[axis].with(x, count) }
        }
        3 => {
            let axis = random.below(3);
            let entries: Vec<usize> = (0..=random.below(6)).map(|_| random.below(sides[axis])).collect();
            let shape = AXES[axis].with(x, entries.len());
            Rearrange { kind: RearrangeKind::Pick { sides, axis, entries }, shape }
        }
        _ => {
            let factor = [1 + random.below(2), 1 + random.below(2)];
            let shape = Shape::new(x.channels, x.height * factor[0], x.width * factor[1]);
            Rearrange { kind: RearrangeKind::Upsample { factor }, shape }
        }
    }
}

/// A network of `count` operations, each of what came before; what nothing reads is an output.
fn network(random: &mut Random, count: usize) -> Graph {
    let mut graph = empty();
    while graph.nodes.len() < count {
        let shapes = graph.shapes();
        let recent = |random: &mut Random| shapes.len() - 1 - random.below(shapes.len().min(4));
        let (a, b) = (recent(random), recent(random));
        let (op, inputs) = match random.below(8) {
            0 => (Op::Binary([Binary::Add, Binary::Sub, Binary::Mul][random.below(3)]), vec![a, b]),
            1 => (Op::Concat(AXES[random.below(3)]), vec![a, b, a]),
            2 if random.below(4) == 0 => (
                Op::Constant(Array3::from_shape_fn((shapes[a].channels, 1, 1), |_| random.between(-1.0, 1.0) as f32)),
                vec![],
            ),
            _ => (unary(random, shapes[a]), vec![a]),
        };
        let read: Vec<Shape> = inputs.iter().map(|&i| shapes[i]).collect();
        // Small, so that the plain executor stays quick.
        if op.output(&read).is_none_or(|shape| shape.is_empty() || shape.len() > 2000) {
            continue;
        }
        let relu = matches!(op, Op::Conv(_) | Op::Binary(_)) && random.below(2) == 0;
        graph.nodes.push(Node { name: format!("node{}", graph.nodes.len()), op, inputs, relu });
    }
    for id in 1..graph.nodes.len() {
        if !graph.nodes.iter().any(|node| node.inputs.contains(&id)) || random.below(10) == 0 {
            let (name, sides) = (graph.nodes[id].name.clone(), vec![graph.shapes()[id].len()]);
            graph.outputs.push(repquant::internals::model::GraphOutput { name, node: id, sides, one_image: false });
        }
    }
    graph
}

#[test]
fn whatever_fits_together_is_quantized() {
    let mut random = Random::new(101);
    let (mut quantized, mut operations) = (0, std::collections::BTreeMap::new());
    for seed in 0..150 {
        let float = network(&mut random, 6 + seed % 14);
        float.check().unwrap();
        if !float.stored()[0] {
            continue;
        }
        let split = [SplitMode::None, SplitMode::Paper, SplitMode::Aligned, SplitMode::Auto][seed % 4];
        let (mode, bits) =
            [(ActivationMode::Symmetric, 8), (ActivationMode::Affine, 8), (ActivationMode::Affine, 4)][seed % 3];
        let graph = made(&float, &QuantizeOptions { split, ..Default::default() }, mode, bits);
        compare(&graph, &float, &mut random);
        assert_eq!(from_bytes(&to_bytes(&graph).unwrap()).unwrap(), graph);
        assert_eq!(graph.shapes(), float.shapes());
        quantized += 1;
        for (node, float) in graph.nodes.iter().zip(&float.nodes) {
            let is_float = matches!(node.computed, repquant::internals::model::Computed::Float(_));
            *operations.entry((float.op.kind(), is_float, node.output.is_some())).or_insert(0) += 1;
        }
    }
    // Each operation was met in integers and behind the last convolution.
    assert!(quantized > 100, "{quantized}");
    for kind in
        ["add", "subtract", "multiply", "concat", "max pool", "average pool", "clip", "silu", "slice", "transpose"]
    {
        for key in [(kind, false, true), (kind, true, false)] {
            assert!(operations.contains_key(&key), "{key:?} in {operations:?}");
        }
    }
    for key in [("conv", false, false), ("softmax", true, true), ("resize", true, true), ("constant", true, false)] {
        assert!(operations.contains_key(&key), "{key:?} in {operations:?}");
    }
}
