//! Quantized graphs of every integer operation, made by hand: each activation, on the Cpu device
//! and on every adapter, is to the bit that of a plain executor.

mod build;
mod reference;

use std::collections::BTreeSet;

use ndarray::Array3;
use repquant::Device;
use repquant::internals::Random;
use repquant::internals::exec::{Int8Net, Keep};
use repquant::internals::images::Batch;
use repquant::internals::model::{
    Activation, Axis, Binary, Computed, Constants, Multiplier, NodeId, Op, Pool, PoolKind, QParams, QuantizedGraph,
    Rearrange, RearrangeKind, Shape,
};

use crate::common::devices;
use build::{Build, q};
use reference::{Value, words};

const IMAGES: usize = 3;

/// Runs a graph on every device, in memory of its own for each activation and in memory that is
/// used again, and compares every activation and every output.
fn compare(graph: &QuantizedGraph) {
    let (shapes, [height, width]) = (graph.shapes(), graph.input.size);
    let mut random = Random::new(77);
    let mut batch = Batch::empty([height, width]);
    for image in 0..IMAGES {
        let pixels: Vec<u32> = (0..height * width).map(|_| random.next_u64() as u32 & 0x00ff_ffff).collect();
        batch.push(format!("image {image}"), None, &pixels).unwrap();
    }
    let expected: Vec<Vec<Value>> =
        batch.pixels().chunks(height * width).map(|pixels| reference::run(graph, pixels)).collect();
    for (id, node) in graph.nodes.iter().enumerate() {
        if let Value::Levels(levels) = &expected[0][id] {
            let distinct: BTreeSet<_> = levels.iter().collect();
            assert!(
                distinct.len() >= (levels.len() / 2).clamp(1, 5),
                "{}: only the levels {distinct:?} occur",
                node.name
            );
        }
    }
    for device in devices() {
        let place = &device.info().name;
        // Made for more images than there are: nothing may depend on it.
        let kept = run(device, graph, &batch, Keep::All);
        for (id, node) in graph.nodes.iter().enumerate() {
            let values: Vec<&Value> = expected.iter().map(|values| &values[id]).collect();
            let mut got = kept.read(id, IMAGES).unwrap();
            if let Value::Real(_) = values[0] {
                // Devices may give either zero.
                for word in &mut got {
                    *word = (f32::from_bits(*word) + 0.0).to_bits();
                }
            }
            let expected = words(node, shapes[id], &values);
            assert_eq!(got.len(), expected.len(), "{}: words on {place}", node.name);
            if let Some(at) = (0..got.len()).find(|&at| got[at] != expected[at]) {
                let (got, expected) = (got[at], expected[at]);
                let kind = format!("{:?}", node.computed).chars().take(60).collect::<String>();
                panic!("{}, {kind}: word {at} on {place}: expected {expected:#x}, got {got:#x}", node.name);
            }
        }
        for net in [kept, run(device, graph, &batch, Keep::Last)] {
            let outputs = net.outputs(IMAGES).unwrap();
            assert_eq!(outputs.len(), graph.outputs.len());
            for (output, rows) in graph.outputs.iter().zip(&outputs) {
                let real = |values: &Vec<Value>| reference::real(graph, output.node, &shapes, &values[output.node]);
                let expected: Vec<Vec<f64>> = expected.iter().map(real).collect();
                assert_eq!(*rows, expected, "{} on {place}", output.name);
            }
            assert_eq!(net.logits(IMAGES).unwrap(), outputs[0]);
        }
    }
}

fn run<'d>(device: &'d Device, graph: &QuantizedGraph, batch: &Batch, keep: Keep) -> Int8Net<'d> {
    let net = Int8Net::new(device, graph, IMAGES + 1, keep).unwrap();
    // Twice, so that what the first run left in the buffers could show.
    for _ in 0..2 {
        net.run(batch).unwrap();
    }
    net
}

fn symmetric() -> QParams {
    q(-5, 0, -127, 127)
}

fn affine(zero_point: i32) -> QParams {
    q(-6, zero_point, -128, 127)
}

/// A residual block, a difference, squeeze and excitation, a mask of one channel, and a classifier.
#[test]
fn sums_and_products() {
    let mut net = Build::new(1, 7, 9);
    let stem = net.conv(0, 6, 3, 1, true, Some(symmetric()));
    let inner = net.conv(stem, 6, 3, 2, true, Some(affine(-128)));
    let inner = net.conv(inner, 6, 3, 1, false, Some(affine(9)));
    let residual = net.sum([stem, inner], [0.71, 0.33], true, affine(-100));
    let difference = net.sum([residual, stem], [1.3, -0.9], false, symmetric());
    let twice = net.sum([difference, difference], [0.25, 0.25], false, affine(3));
    let squeezed = net.average(twice, affine(-4));
    let excited = net.conv(squeezed, 6, 1, 1, false, Some(symmetric()));
    let gate = net.table(excited, q(-8, -128, -128, 127), |x| 1.0 / (1.0 + (-x).exp()));
    let scaled = net.product([twice, gate], 0.011, affine(-20));
    let scaled = net.product([gate, scaled], 0.013, symmetric());
    let mask = net.conv(scaled, 1, 1, 1, false, Some(affine(-60)));
    let masked = net.product([mask, scaled], 0.02, q(-4, 1, -8, 7));
    let pooled = net.average(masked, symmetric());
    let logits = net.linear(pooled, 5);
    compare(&net.outputs(&[logits]));
}

/// Inputs whose channels share words, with tables and without, along every axis.
#[test]
fn concatenations() {
    let mut net = Build::new(2, 5, 6);
    let y = affine(-30);
    let a = net.conv(0, 3, 3, 1, false, Some(symmetric()));
    let b = net.conv(0, 6, 3, 1, true, Some(y));
    let c = net.conv(b, 1, 3, 1, false, Some(affine(90)));
    let table = |net: &Build, x: NodeId| Some(repquant::internals::model::Table::of(&net.stored(x), &y, |x| x));
    let tables = vec![table(&net, a), None, table(&net, c), table(&net, 0)];
    let channels = net.with(Op::Concat(Axis::Channels), Constants::Tables(tables), &[a, b, c, 0], y);
    let tables = vec![None, None];
    let rows = net.with(Op::Concat(Axis::Height), Constants::Tables(tables), &[channels, channels], y);
    let negative = net.table(rows, symmetric(), |x| -x);
    let tables = vec![None, table(&net, negative)];
    let columns = net.with(Op::Concat(Axis::Width), Constants::Tables(tables), &[rows, negative], y);
    let d = net.conv(columns, 8, 1, 1, false, Some(symmetric()));
    let e = net.conv(columns, 4, 1, 1, false, Some(symmetric()));
    let whole = net.with(Op::Concat(Axis::Channels), Constants::Tables(vec![None; 2]), &[d, e], symmetric());
    let last = net.conv(whole, 3, 3, 1, false, None);
    compare(&net.outputs(&[last]));
}

/// Windows of every kind that reach into the padding and beyond it.
#[test]
fn pools() {
    let mut net = Build::new(3, 11, 10);
    let mut x = net.conv(0, 7, 3, 1, true, Some(affine(-50)));
    let mut ends = Vec::new();
    let windows = [
        (PoolKind::Max, [3, 3], [2, 2], [1; 4], true, None),
        (PoolKind::Average, [3, 2], [1, 1], [1, 0, 1, 1], false, Some(symmetric())),
        (PoolKind::AverageWithPadding, [3, 3], [1, 2], [1; 4], true, Some(affine(17))),
        (PoolKind::Max, [2, 2], [1, 1], [0, 1, 0, 1], false, None),
        (PoolKind::AverageWithPadding, [2, 2], [2, 2], [0; 4], true, Some(affine(-128))),
    ];
    for (kind, kernel, stride, padding, ceil, output) in windows {
        let pool = Pool { kind, kernel, stride, padding, ceil };
        let divisors = if kind == PoolKind::Max { 0 } else { kernel[0] * kernel[1] };
        let multipliers = (1..=divisors).map(|d| Multiplier::new(1.5 / d as f64).unwrap()).collect();
        let constants = if divisors == 0 { Constants::None } else { Constants::Multipliers(multipliers) };
        let output = output.unwrap_or(net.stored(x));
        x = net.with(Op::Pool(pool), constants, &[x], output);
        ends.push(x);
    }
    let largest = net.with(Op::GlobalMaxPool, Constants::None, &[x], net.stored(x));
    let last = net.conv(x, 4, 1, 1, false, None);
    ends.extend([largest, last]);
    compare(&net.outputs(&ends));
}

/// Every way to rearrange, whole words and single channels; what changes nothing; a table that only
/// states levels that the layer before already kept to.
#[test]
fn rearranged_levels() {
    let mut net = Build::new(4, 4, 6);
    let s = symmetric();
    let x = net.conv(0, 8, 3, 1, false, Some(s));
    let rearrange = |net: &mut Build, x: NodeId, kind: RearrangeKind, [c, h, w]: [usize; 3]| {
        let stored = net.stored(x);
        net.plain(Op::Rearrange(Rearrange { kind, shape: Shape::new(c, h, w) }), &[x], false, Some(stored))
    };
    let sides = |sides: &[usize]| sides.to_vec();
    let shuffle = RearrangeKind::Transpose { sides: sides(&[2, 4, 24]), order: vec![1, 0, 2] };
    let shuffled = rearrange(&mut net, x, shuffle, [8, 4, 6]);
    let turn = RearrangeKind::Transpose { sides: sides(&[8, 4, 6]), order: vec![0, 2, 1] };
    let turned = rearrange(&mut net, shuffled, turn, [8, 6, 4]);
    let halves = |start| RearrangeKind::Slice { sides: sides(&[8, 24]), axis: 0, start, step: 1, count: 4 };
    let (first, second) =
        (rearrange(&mut net, turned, halves(0), [4, 6, 4]), rearrange(&mut net, turned, halves(4), [4, 6, 4]));
    let odd = RearrangeKind::Slice { sides: sides(&[8, 24]), axis: 0, start: 1, step: 3, count: 3 };
    let odd = rearrange(&mut net, turned, odd, [3, 6, 4]);
    let columns = RearrangeKind::Slice { sides: sides(&[8, 6, 4]), axis: 2, start: 1, step: 2, count: 2 };
    let columns = rearrange(&mut net, turned, columns, [8, 6, 2]);
    let wide = rearrange(&mut net, columns, RearrangeKind::Upsample { factor: [1, 2] }, [8, 6, 4]);
    let sum = net.sum([first, second], [0.6, 0.4], false, affine(8));
    let space = RearrangeKind::Transpose { sides: sides(&[1, 2, 2, 6, 4]), order: vec![0, 3, 1, 4, 2] };
    let deep = rearrange(&mut net, sum, space, [1, 12, 8]);
    let tables = vec![None; 2];
    let joined = net.with(Op::Concat(Axis::Channels), Constants::Tables(tables), &[odd, wide], s);
    let pooled = net.average(joined, s);
    let same = rearrange(&mut net, pooled, RearrangeKind::Reshape, [11, 1, 1]);
    let clipped = net.table(same, s, |x| x.clamp(-1000.0, 1000.0));
    let narrow = net.conv(clipped, 11, 1, 11, false, Some(affine(5)));
    // Reads what shares its buffer with the pooled levels, after another has been written.
    let again = net.sum([clipped, narrow], [0.5, 0.5], false, s);
    let flat = rearrange(&mut net, joined, RearrangeKind::Reshape, [11 * 24, 1, 1]);
    let logits = net.conv(flat, 3, 1, 1, false, None);
    compare(&net.outputs(&[logits, again, deep, same]));
}

/// Outputs of every form: accumulators of dense and depthwise layers, with and without `ReLU`,
/// levels that other layers read on, and real values.
#[test]
fn several_outputs() {
    let mut net = Build::new(5, 6, 5);
    let x = net.conv(0, 5, 3, 1, true, Some(affine(-128)));
    let y = net.conv(x, 5, 3, 5, false, Some(symmetric()));
    let dense = net.conv(x, 7, 1, 1, true, None);
    let depthwise = net.conv(y, 5, 3, 5, false, None);
    let rectified = net.conv(x, 5, 3, 5, true, None);
    let z = net.sum([x, y], [0.5, 0.5], true, symmetric());
    let mean = net.float(Op::GlobalAveragePool, &[z], false, Some(affine(0)));
    let logits = net.conv(mean, 4, 1, 1, false, None);
    compare(&net.outputs(&[dense, x, logits, depthwise, y, rectified]));
}

/// Operations in f32 among levels, and a tail in f32 that reads levels, accumulators, floats and
/// constants.
#[test]
fn operations_and_tails_in_float() {
    let mut net = Build::new(6, 4, 8);
    let x = net.conv(0, 3, 3, 1, true, Some(affine(-128)));
    let float = net.float_conv(x, 6, 3, true, Some(q(-2, -128, -128, 127)));
    let totals = net.conv(float, 6, 1, 1, true, None);
    let mean = net.float(Op::GlobalAveragePool, &[totals], false, None);
    let logits = net.float_linear(mean, 5);
    let of_levels = net.float_conv(float, 2, 1, false, None);
    let values = Array3::from_shape_fn((5, 2, 4), |(c, y, x)| (c * 8 + y * 4 + x) as f32 - 16.5);
    let constant = net.float(Op::Constant(values), &[], false, None);
    let of_constant = net.float(Op::GlobalAveragePool, &[constant], false, None);
    let of_real = net.float_conv(of_levels, 3, 1, true, None);
    let other = net.conv(float, 6, 1, 2, false, None);
    let sum = net.float(Op::Binary(Binary::Add), &[totals, other], true, None);
    let square = net.float(Op::Binary(Binary::Mul), &[of_levels, of_levels], false, None);
    let leaky = net.float(Op::Activation(Activation::LeakyRelu { slope: 0.25 }), &[other], false, None);
    let kind = RearrangeKind::Transpose { sides: vec![6, 32], order: vec![1, 0] };
    let rearrange = Rearrange { kind, shape: Shape::new(32, 6, 1) };
    let turned = net.float(Op::Rearrange(rearrange), &[leaky], false, None);
    compare(&net.outputs(&[logits, of_real, of_constant, sum, square, turned]));
}

/// Constants in the middle of the network: the operations that read them are computed in f32.
#[test]
fn constants_among_levels() {
    let mut net = Build::new(8, 5, 3);
    let x = net.conv(0, 5, 3, 1, false, Some(affine(4)));
    let factors = Array3::from_shape_fn((5, 1, 1), |(c, ..)| c as f32 * 0.5 - 0.75);
    let factors = net.float(Op::Constant(factors), &[], false, None);
    let scaled = net.float(Op::Binary(Binary::Mul), &[x, factors], false, Some(symmetric()));
    let offsets = Array3::from_shape_fn((5, 5, 3), |(c, y, x)| (c + 2 * y + 3 * x) as f32 / 8.0 - 1.0);
    let offsets = net.float(Op::Constant(offsets), &[], false, None);
    let moved = net.float(Op::Binary(Binary::Sub), &[offsets, scaled], true, Some(affine(-128)));
    let again = net.sum([moved, x], [0.4, 0.6], false, symmetric());
    // Reads a constant again, after others have used what its buffer might have been.
    let last = net.float(Op::Binary(Binary::Add), &[again, offsets], false, Some(q(-4, 2, -100, 100)));
    let logits = net.conv(last, 4, 3, 1, false, None);
    compare(&net.outputs(&[logits]));
}

/// Graphs that contradict themselves are refused with the layer's name.
#[test]
fn contradictions_are_refused() {
    let refusal = |build: &dyn Fn(&mut Build) -> NodeId| {
        let mut net = Build::new(7, 2, 2);
        let last = build(&mut net);
        let device = Device::cpu();
        let result = Int8Net::new(&device, &net.outputs(&[last]), 1, Keep::Last);
        result.err().expect("a refusal").to_string()
    };
    let totals = |net: &mut Build| net.conv(0, 2, 1, 1, false, None);
    let of_totals = refusal(&|net| {
        let x = totals(net);
        net.with(Op::Concat(Axis::Channels), Constants::Tables(vec![None; 2]), &[0, x], symmetric())
    });
    assert!(of_totals.contains("layer node 2") && of_totals.contains("node 1 is not stored as levels"), "{of_totals}");
    let other_levels = refusal(&|net| {
        let shape = Shape::new(12, 1, 1);
        let kind = RearrangeKind::Reshape;
        net.plain(Op::Rearrange(Rearrange { kind, shape }), &[0], false, Some(symmetric()))
    });
    assert!(other_levels.contains("its levels are its input's"), "{other_levels}");
    let unstored = refusal(&|net| {
        let mean = Constants::Multiplier(Multiplier::new(0.3).unwrap());
        net.add(Computed::integer(Op::GlobalAveragePool, mean).unwrap(), &[0], false, None)
    });
    let one_table =
        refusal(&|net| net.with(Op::Concat(Axis::Channels), Constants::Tables(vec![None]), &[0, 0], symmetric()));
    assert!(one_table.contains("1 tables for 2 inputs"), "{one_table}");
    assert!(unstored.contains("no quantization parameters"), "{unstored}");
    let unscaled = refusal(&|net| {
        let layer = net.layer(0, 2, 1, 1, false);
        net.plain(Op::Conv(layer), &[0], false, Some(symmetric()))
    });
    assert!(unscaled.contains("no multipliers"), "{unscaled}");
}
