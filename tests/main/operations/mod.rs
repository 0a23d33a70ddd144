//! Every operation of a float network, in small graphs on every device, against a plain f64
//! executor.

mod build;
mod random;

use ndarray::{Array1, Array2, Array3};
use repquant::Device;
use repquant::internals::Random;
use repquant::internals::exec::{FloatNet, Keep};
use repquant::internals::model::{
    Activation, Along, Axis, Binary, Cell, Conv, Coordinates, Direction, GraphOutput, NodeId, Op, Pool, PoolKind,
    Rearrange, RearrangeKind, Recurrent, Reduce, ReduceKind, Resize, Shape, Standardize,
};

use crate::common::devices;
use crate::common::recurrent::cells;
use build::{Builder, batch, compare};

/// Compares the graph that gives the nodes that none reads, and these.
fn check(builder: Builder, more: &[NodeId]) {
    let outputs = [builder.unread().as_slice(), more].concat();
    compare(devices(), &builder.graph(&outputs), &mut Random::new(1));
}

fn rearrange(b: &mut Builder, x: NodeId, kind: RearrangeKind, [channels, height, width]: [usize; 3]) -> NodeId {
    b.push(Op::Rearrange(Rearrange { kind, shape: Shape::new(channels, height, width) }), &[x])
}

fn clip(low: f32, high: f32) -> Op {
    Op::Activation(Activation::Clip { low, high })
}

#[test]
fn residual_blocks_with_several_outputs() {
    let mut b = Builder::new(1, [7, 9]);
    let stem = b.conv(0, 5, 3, 1, 1);
    b.relu();
    let mut x = stem;
    for _ in 0..3 {
        let inner = b.conv(x, 5, 3, 1, 5);
        b.relu();
        let inner = b.conv(inner, 5, 1, 1, 1);
        x = b.push(Op::Binary(Binary::Add), &[x, inner]);
        b.relu();
    }
    let small = b.conv(x, 6, 3, 2, 1);
    b.push(Op::GlobalAveragePool, &[small]);
    let difference = b.push(Op::Binary(Binary::Sub), &[x, stem]);
    b.push(clip(-0.25, 0.5), &[difference]);
    // Outputs that are read later, the input among them, and one twice.
    check(b, &[stem, 0, x, stem]);
}

#[test]
fn a_classifier() {
    let mut b = Builder::new(2, [5, 6]);
    let x = b.conv(0, 7, 3, 2, 1);
    let x = b.push(Op::GlobalAveragePool, &[x]);
    let weight = Array2::from_shape_simple_fn((10, 7), || b.random.float());
    let last = b.push(Op::Linear(Conv::linear(weight, Array1::linspace(-1.0, 1.0, 10))), &[x]);
    let mut graph = b.graph(&[last]);
    graph.outputs = vec![GraphOutput { name: "logits".into(), node: last, sides: vec![10], one_image: false }];
    compare(devices(), &graph, &mut Random::new(1));
}

#[test]
fn squeeze_and_excitation() {
    let mut b = Builder::new(3, [6, 5]);
    for (channels, gate) in [
        (6, Activation::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 }),
        (8, Activation::Sigmoid),
        (1, Activation::Silu),
    ] {
        let x = b.conv(0, channels, 3, 1, 1);
        let x = b.push(Op::Activation(Activation::HardSwish), &[x]);
        let mean = b.push(Op::GlobalAveragePool, &[x]);
        let mean = b.conv(mean, 3, 1, 1, 1);
        b.relu();
        let mean = b.conv(mean, channels, 1, 1, 1);
        let factor = b.push(Op::Activation(gate), &[mean]);
        b.push(Op::Binary(Binary::Mul), &[x, factor]);
        b.push(Op::Binary(Binary::Mul), &[factor, x]);
        b.relu();
    }
    check(b, &[]);
}

#[test]
fn operands_of_every_shape() {
    let mut b = Builder::new(4, [4, 5]);
    let x = b.conv(0, 6, 3, 1, 1);
    let plane = b.conv(0, 1, 1, 1, 1);
    let shapes = [[6, 4, 5], [6, 1, 1], [1, 4, 5], [1, 1, 5], [6, 4, 1], [1, 1, 1]];
    for (i, [channels, height, width]) in shapes.into_iter().enumerate() {
        let constant = b.constant(Shape::new(channels, height, width));
        for kind in [Binary::Add, Binary::Sub, Binary::Mul] {
            b.push(Op::Binary(kind), &if i % 2 == 0 { [x, constant] } else { [constant, x] });
        }
    }
    // Each operand has sides that the other lacks.
    let channels = b.constant(Shape::new(7, 1, 1));
    b.push(Op::Binary(Binary::Mul), &[plane, channels]);
    let (row, column) = (b.constant(Shape::new(3, 1, 5)), b.constant(Shape::new(3, 6, 1)));
    b.push(Op::Binary(Binary::Sub), &[row, column]);
    b.relu();
    b.push(Op::Binary(Binary::Mul), &[x, x]);
    check(b, &[row]);
}

#[test]
fn activations_near_and_far() {
    let mut b = Builder::new(5, [5, 5]);
    let x = b.conv(0, 7, 3, 1, 1);
    for factor in [1.0, 30.0, 3000.0] {
        let factor = b.push(Op::Constant(Array3::from_elem((1, 1, 1), factor)), &[]);
        let x = b.push(Op::Binary(Binary::Mul), &[x, factor]);
        for function in [
            Activation::Clip { low: 0.0, high: 6.0 },
            Activation::Clip { low: 0.0, high: f32::INFINITY },
            Activation::LeakyRelu { slope: 0.01 },
            Activation::Sigmoid,
            Activation::HardSigmoid { slope: 0.2, offset: 0.5 },
            Activation::HardSwish,
            Activation::Silu,
        ] {
            b.push(Op::Activation(function), &[x]);
        }
    }
    check(b, &[]);
}

#[test]
fn concat_of_odd_sides() {
    let mut b = Builder::new(6, [4, 3]);
    let parts: Vec<NodeId> = [3, 1, 5, 2, 4].into_iter().map(|channels| b.conv(0, channels, 3, 1, 1)).collect();
    b.push(Op::Concat(Axis::Channels), &parts);
    b.push(Op::Concat(Axis::Channels), &parts[1..3]);
    b.push(Op::Concat(Axis::Channels), &[parts[4], parts[4], parts[3]]);
    let smaller = b.conv(parts[2], 5, 3, 2, 1);
    let (wide, high) = (b.constant(Shape::new(5, 2, 1)), b.constant(Shape::new(5, 3, 2)));
    let row = b.push(Op::Concat(Axis::Width), &[smaller, wide, smaller]);
    assert_eq!(b.shape(row), Shape::new(5, 2, 5));
    let column = b.push(Op::Concat(Axis::Height), &[high, smaller]);
    assert_eq!(b.shape(column), Shape::new(5, 5, 2));
    check(b, &parts[..1]);
}

#[test]
fn rearranging() {
    let mut b = Builder::new(7, [4, 6]);
    let x = b.conv(0, 12, 3, 1, 1);
    let slice = |axis, start, step, count| RearrangeKind::Slice { sides: vec![12, 4, 6], axis, start, step, count };
    let transpose =
        |sides: &[usize], order: &[usize]| RearrangeKind::Transpose { sides: sides.to_vec(), order: order.to_vec() };
    // Depth to space, then one row and column less, as a transposed convolution ends.
    let blocks = rearrange(&mut b, x, transpose(&[3, 2, 2, 4, 6], &[0, 3, 1, 4, 2]), [3, 8, 12]);
    let cut = RearrangeKind::Slice { sides: vec![3, 8, 12], axis: 1, start: 1, step: 1, count: 7 };
    rearrange(&mut b, blocks, cut, [3, 7, 12]);
    // Space to depth, as a focus layer begins.
    rearrange(&mut b, x, transpose(&[12, 2, 2, 3, 2], &[2, 4, 0, 1, 3]), [48, 2, 3]);
    // A channel shuffle, and the halves of a split.
    let shuffled = rearrange(&mut b, x, transpose(&[2, 6, 24], &[1, 0, 2]), [12, 4, 6]);
    let left = rearrange(&mut b, shuffled, slice(0, 0, 1, 5), [5, 4, 6]);
    let right = rearrange(&mut b, shuffled, slice(0, 5, 1, 7), [7, 4, 6]);
    b.push(Op::Concat(Axis::Channels), &[right, left]);
    rearrange(&mut b, x, slice(2, 1, 2, 3), [12, 4, 3]);
    rearrange(&mut b, left, RearrangeKind::Upsample { factor: [2, 3] }, [5, 8, 18]);
    let mean = b.push(Op::GlobalAveragePool, &[x]);
    for shape in [[1, 1, 12], [1, 12, 1], [3, 2, 2]] {
        rearrange(&mut b, mean, RearrangeKind::Reshape, shape);
    }
    let flat = rearrange(&mut b, left, RearrangeKind::Reshape, [120, 1, 1]);
    b.conv(flat, 4, 1, 1, 1);
    check(b, &[shuffled]);
}

#[test]
fn pooling() {
    let mut b = Builder::new(8, [8, 7]);
    let x = b.conv(0, 5, 3, 1, 1);
    // Kernel, stride, padding, ceil, and the sides by hand.
    let cases = [
        ([2, 2], [2, 2], [0; 4], false, [4, 3]),
        ([2, 2], [2, 2], [0; 4], true, [4, 4]),
        ([3, 3], [2, 2], [1; 4], true, [5, 4]),
        ([5, 5], [1, 1], [2; 4], false, [8, 7]),
        ([3, 2], [2, 3], [0, 1, 2, 0], false, [4, 3]),
        ([3, 2], [3, 3], [2, 1, 0, 1], true, [4, 3]),
        ([8, 7], [1, 1], [0; 4], false, [1, 1]),
    ];
    for (kernel, stride, padding, ceil, sides) in cases {
        for kind in [PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding] {
            let pool = Pool { kind, kernel, stride, padding, ceil };
            let y = b.push(Op::Pool(pool), &[x]);
            assert_eq!(b.shape(y), Shape::new(5, sides[0], sides[1]), "{pool:?}");
        }
    }
    b.push(Op::GlobalMaxPool, &[x]);
    check(b, &[]);
}

#[test]
fn resizing_and_softmax() {
    let mut b = Builder::new(9, [4, 7]);
    let x = b.conv(0, 6, 3, 1, 1);
    for coordinates in
        [Coordinates::HalfPixel, Coordinates::PytorchHalfPixel, Coordinates::AlignCorners, Coordinates::Asymmetric]
    {
        for size in [[8, 14], [3, 5], [1, 1], [4, 9]] {
            b.push(Op::Resize(Resize { size, coordinates, scale: None }), &[x]);
        }
    }
    for axis in [Axis::Channels, Axis::Height, Axis::Width] {
        b.push(Op::Softmax(axis), &[x]);
    }
    // Of vectors, with values whose powers overflow.
    let mean = b.push(Op::GlobalAveragePool, &[x]);
    let large = b.push(Op::Constant(Array3::from_elem((1, 1, 1), 2000.0)), &[]);
    let large = b.push(Op::Binary(Binary::Add), &[mean, large]);
    b.push(Op::Softmax(Axis::Height), &[large]);
    let large = b.push(Op::Constant(Array3::from_shape_fn((6, 1, 1), |(c, ..)| 100.0 * c as f32)), &[]);
    b.push(Op::Softmax(Axis::Channels), &[large]);
    check(b, &[]);
}

#[test]
fn lines_and_matrix_products() {
    let mut b = Builder::new(11, [4, 7]);
    let x = b.conv(0, 6, 3, 1, 1);
    // Away from 0, for the logarithm of a sum.
    let positive = b.push(Op::Activation(Activation::Clip { low: 0.125, high: 2.0 }), &[x]);
    for along in [Along::Channels, Along::Height, Along::Width, Along::Pixels] {
        for kind in KINDS {
            b.push(Op::Reduce(Reduce { kind, along }), &[positive]);
        }
        b.push(Op::Standardize(Standardize { along, epsilon: 0.01 }), &[x]);
    }
    // 6×4×7 by 6×7×4, and by one matrix for all channels.
    let kind = RearrangeKind::Transpose { sides: vec![6, 4, 7], order: vec![0, 2, 1] };
    let turned = rearrange(&mut b, x, kind, [6, 7, 4]);
    let one = b.push(Op::Reduce(Reduce { kind: ReduceKind::Mean, along: Along::Channels }), &[turned]);
    b.push(Op::MatMul, &[x, turned]);
    b.push(Op::MatMul, &[x, one]);
    b.push(Op::MatMul, &[one, x]);
    check(b, &[]);
}

#[test]
fn recurrent_cells() {
    let mut b = Builder::new(12, [4, 7]);
    let x = b.conv(0, 6, 3, 1, 1);
    let kinds = [Cell::Tanh, Cell::Relu, Cell::Gru { reset_after: false }, Cell::Gru { reset_after: true }, Cell::Lstm];
    for cell in kinds {
        for direction in [Direction::Forward, Direction::Reverse, Direction::Bidirectional] {
            let cells = cells(&mut b.random, cell, direction, [6, 5]);
            b.push(Op::Recurrent(Box::new(cells)), &[x]);
        }
    }
    // 4 steps of 7 sequences.
    let mut lstm = cells(&mut b.random, Cell::Lstm, Direction::Bidirectional, [6, 3]);
    lstm.peepholes = Some(Array2::from_shape_fn((2, 9), |(d, unit)| 0.1 * (d + unit) as f32 - 0.4));
    lstm.initial_state = Some(Array3::from_elem((2, 7, 3), 0.5));
    lstm.initial_memory = Some(Array3::from_shape_fn((2, 7, 3), |(d, s, unit)| 0.1 * (d + s + unit) as f32));
    b.push(Op::Recurrent(Box::new(Recurrent { gives_memory: true, ..lstm.clone() })), &[x]);
    b.push(Op::Recurrent(Box::new(lstm)), &[x]);
    check(b, &[]);
}

const KINDS: [ReduceKind; 10] = [
    ReduceKind::Sum,
    ReduceKind::Mean,
    ReduceKind::SumOfMagnitudes,
    ReduceKind::SumOfSquares,
    ReduceKind::Norm,
    ReduceKind::LogOfSum,
    ReduceKind::LogOfSumOfExponentials,
    ReduceKind::Product,
    ReduceKind::Min,
    ReduceKind::Max,
];

#[test]
fn random_graphs() {
    let devices = devices();
    for seed in 0..60 {
        let mut b = Builder::new(100 + seed, [5 + seed as usize % 4, 4 + seed as usize % 5]);
        while b.nodes() < 14 {
            b.grow();
        }
        // Some outputs are read within the network, too.
        let inner = b.nodes() / 2;
        let outputs = [b.unread(), vec![inner]].concat();
        compare(devices, &b.graph(&outputs), &mut Random::new(seed));
    }
}

/// A calibration finds the layer where NaN arises by it, so nothing may swallow it. WGSL lets an
/// adapter assume that there is none; the Cpu device keeps it.
#[test]
fn nan_is_not_swallowed() {
    let (height, width) = (6, 5);
    let device = Device::cpu();
    let mut random = Random::new(5);
    let image: Vec<u8> = (0..3 * height * width).map(|_| random.next_u64() as u8).collect();
    let pool = |kind| Pool { kind, kernel: [3; 2], stride: [1; 2], padding: [1; 4], ceil: false };
    let function = |function| (Op::Activation(function), false, 1);
    let up = RearrangeKind::Upsample { factor: [2, 3] };
    // An operation, whether a ReLU follows, and how many values become NaN by one in the middle of
    // the image.
    let cases = [
        function(Activation::Clip { low: 0.0, high: 6.0 }),
        function(Activation::LeakyRelu { slope: 0.1 }),
        function(Activation::Sigmoid),
        function(Activation::HardSigmoid { slope: 0.2, offset: 0.5 }),
        function(Activation::HardSwish),
        function(Activation::Silu),
        (Op::Binary(Binary::Add), true, 1),
        (Op::Binary(Binary::Sub), true, 1),
        (Op::Binary(Binary::Mul), true, 1),
        (Op::Pool(pool(PoolKind::Max)), false, 9),
        (Op::Pool(pool(PoolKind::Average)), false, 9),
        (Op::Pool(pool(PoolKind::AverageWithPadding)), false, 9),
        (Op::GlobalAveragePool, false, 1),
        (Op::GlobalMaxPool, false, 1),
        (Op::Rearrange(Rearrange { kind: up, shape: Shape::new(3, 2 * height, 3 * width) }), false, 6),
        (Op::Concat(Axis::Channels), false, 2),
        (Op::Softmax(Axis::Channels), false, 3),
        (Op::Softmax(Axis::Height), false, height),
        (Op::Softmax(Axis::Width), false, width),
        (Op::Reduce(Reduce { kind: ReduceKind::Max, along: Along::Pixels }), false, 1),
        (Op::Reduce(Reduce { kind: ReduceKind::Norm, along: Along::Width }), false, 1),
        (Op::Standardize(Standardize { along: Along::Pixels, epsilon: 0.0 }), false, height * width),
        (Op::Resize(Resize { size: [1, 1], coordinates: Coordinates::HalfPixel, scale: None }), false, 1),
    ];
    for (op, relu, count) in cases {
        let mut b = Builder::new(10, [height, width]);
        let place = if matches!(op, Op::Resize(_)) { [1, 3, 2] } else { [1, 2, 2] };
        let mut values = Array3::zeros((3, height, width));
        values[place] = f32::NAN;
        let constant = b.push(Op::Constant(values), &[]);
        let x = b.push(Op::Binary(Binary::Add), &[0, constant]);
        let name = op.kind();
        let inputs = vec![x; op.arity().unwrap_or(2)];
        let y = b.push(op, &inputs);
        if relu {
            b.relu();
        }
        let graph = b.graph(&[y]);
        let net = FloatNet::new(&device, &graph, 1, Keep::Last).unwrap();
        let rows = net.run(&batch([height, width], std::slice::from_ref(&image))).unwrap();
        assert_eq!(rows[0].iter().filter(|v| v.is_nan()).count(), count, "{name}");
    }
}
