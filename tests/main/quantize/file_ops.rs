//! Files of networks with every operation and several outputs.

use ndarray::{Array2, Array3};
use repquant::internals::Random;
use repquant::internals::export::safetensors::{from_bytes, to_bytes};
use repquant::internals::model::{
    Activation, Axis, Binary, Cell, CoarseScale, Computed, Constants, Direction, GraphOutput, Multiplier, Op, Pool,
    PoolKind, QBinary, QNode, QuantizedGraph, Recurrent, Shape, Table,
};
use repquant::internals::quantize::{QuantizeOptions, SplitMode};
use repquant::internals::threshold::ActivationMode;
use serde_json::{Value, json};

use super::branched::{branched, made};
use super::file::{refused, with_entry, with_header};
use crate::common::network::quantized;
use crate::common::recurrent::cells;

fn model(split: SplitMode) -> QuantizedGraph {
    let options = QuantizeOptions { split, keep_float: vec!["thumb.stem".into()], ..Default::default() };
    made(&branched(), &options, ActivationMode::Affine, 8)
}

#[test]
fn every_operation_loads_back_equal() {
    for split in [SplitMode::None, SplitMode::Paper, SplitMode::Aligned, SplitMode::Auto] {
        for (mode, bits) in [(ActivationMode::Symmetric, 8), (ActivationMode::Affine, 8), (ActivationMode::Affine, 2)] {
            let keep_float = ["left", "boxes"].map(String::from).to_vec();
            for keep_float in [vec![], keep_float] {
                let graph = made(&branched(), &QuantizeOptions { split, keep_float, ..Default::default() }, mode, bits);
                let bytes = to_bytes(&graph).unwrap();
                let back = from_bytes(&bytes).unwrap();
                assert_eq!(back, graph);
                assert_eq!(to_bytes(&back).unwrap(), bytes);
            }
        }
    }
}

/// Every parameter of every operation that can follow the last convolution.
#[test]
fn parameters_of_float_operations_load_back_equal() {
    let clip = |low, high| Activation::Clip { low, high };
    for activation in [
        clip(f32::NEG_INFINITY, f32::INFINITY),
        clip(-0.25, f32::INFINITY),
        clip(f32::NEG_INFINITY, 1e-30),
        Activation::LeakyRelu { slope: 0.1 },
        Activation::HardSigmoid { slope: 0.2, offset: 0.5 },
        Activation::Sigmoid,
        Activation::HardSwish,
        Activation::Silu,
    ] {
        let mut graph = model(SplitMode::None);
        find(&mut graph, "kept").computed = Computed::Float(Op::Activation(activation));
        assert_eq!(from_bytes(&to_bytes(&graph).unwrap()).unwrap(), graph);
    }
    for (low, high) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (0.0, f32::NEG_INFINITY), (0.0, f32::NAN)] {
        let mut graph = model(SplitMode::None);
        find(&mut graph, "kept").computed = Computed::Float(Op::Activation(clip(low, high)));
        assert!(to_bytes(&graph).is_err(), "{low} {high}");
    }
}

/// With all tensors that recurrent cells may have, and with those that they must have.
#[test]
fn recurrent_cells_load_back_equal() {
    let mut graph = model(SplitMode::None);
    let id = graph.nodes.iter().position(|node| node.name == "kept").unwrap();
    let shape = graph.shapes()[id];
    let sides = [shape.channels, shape.channels];
    let lstm = cells(&mut Random::new(1), Cell::Lstm, Direction::Reverse, sides);
    let full = Recurrent {
        peepholes: Some(Array2::from_elem((1, 3 * sides[1]), 0.5)),
        initial_state: Some(Array3::from_elem((1, shape.width, sides[1]), -0.5)),
        initial_memory: Some(Array3::from_elem((1, shape.width, sides[1]), 1.5)),
        ..lstm.clone()
    };
    for recurrent in [lstm.clone(), full.clone()] {
        graph.nodes[id].computed = Computed::Float(Op::Recurrent(Box::new(recurrent)));
        assert_eq!(from_bytes(&to_bytes(&graph).unwrap()).unwrap(), graph);
    }
    let too_many = Recurrent { initial_state: Some(Array3::zeros((1, shape.width + 1, sides[1]))), ..full.clone() };
    for wrong in
        [too_many, Recurrent { cell: Cell::Tanh, ..full }, Recurrent { gives_memory: true, cell: Cell::Relu, ..lstm }]
    {
        graph.nodes[id].computed = Computed::Float(Op::Recurrent(Box::new(wrong)));
        assert!(to_bytes(&graph).is_err());
    }
}

#[test]
fn version_1_is_read() {
    for keep_float in [vec![], vec!["linear".to_owned()]] {
        let graph = quantized(&QuantizeOptions { keep_float, ..Default::default() }, ActivationMode::Affine);
        let first = with_entry(&to_bytes(&graph).unwrap(), |entry| {
            entry["version"] = json!(1);
            entry.as_object_mut().unwrap().remove("outputs");
        });
        assert_eq!(from_bytes(&first).unwrap(), graph);
    }
    let bytes = to_bytes(&model(SplitMode::None)).unwrap();
    let without = |version: u64| {
        with_entry(&bytes, |entry| {
            entry["version"] = json!(version);
            entry.as_object_mut().unwrap().remove("outputs");
        })
    };
    refused(&without(1), "version 1 without a classifier");
    refused(&without(2), "version 2 without outputs");
}

fn find<'a>(graph: &'a mut QuantizedGraph, name: &str) -> &'a mut QNode {
    graph.nodes.iter_mut().find(|node| node.name == name).unwrap()
}

/// A node, a place in it, and what to put there.
#[allow(clippy::too_many_lines)] // a table
fn contradictions() -> Vec<(&'static str, &'static str, Value)> {
    let huge = json!(18_446_744_073_709_551_615u64);
    let half = json!(1u64 << 63);
    let params = json!({"scale": 1.0, "zero_point": 0, "qmin": -127, "qmax": 127});
    vec![
        ("left.clip", "/relu", json!(true)),
        ("left.clip", "/inputs", json!([])),
        ("left.clip", "/inputs", json!([1, 1])),
        ("left.clip", "/output", json!(null)),
        ("left.clip", "/output/qmax", json!(7)),
        ("left.clip", "/op", json!({"float": "constant"})),
        ("gate", "/op", json!({"float": {"activation": {"clip": {"low": 1e300, "high": null}}}})),
        ("gate", "/op", json!({"float": {"activation": {"leaky_relu": {"slope": 1e300}}}})),
        ("gate", "/op", json!({"float": {"activation": "relu"}})),
        ("gate", "/op", json!({"input": {"channels": 3, "height": 8, "width": 8}})),
        ("sum", "/inputs", json!([1])),
        ("sum", "/inputs", json!([1, 2, 3])),
        ("sum", "/inputs", json!([1, 7])),
        ("sum", "/inputs", json!([6, huge])),
        ("sum", "/output", json!(null)),
        ("sum", "/op/binary/sum/right_shift", json!(0)),
        ("sum", "/op/binary/sum/right_shift", json!(63)),
        ("sum", "/op/binary/sum/multipliers", json!([5, 5])),
        ("sum", "/op/binary/sum/multipliers", json!([-1_500_000_000, 5])),
        ("sum", "/op/binary/sum/multipliers", json!([1 << 30, i32::MIN])),
        ("sum", "/op/binary", json!({"quotient": 1})),
        ("scaled", "/op/binary/product/multiplier", json!(-1)),
        ("scaled", "/op/binary/product/multiplier", json!(1)),
        ("scaled", "/op/binary/product/right_shift", json!(77)),
        ("mean", "/relu", json!(true)),
        ("mean", "/op/pool/kernel", json!([0, 3])),
        ("mean", "/op/pool/kernel", json!([4, 3])),
        ("mean", "/op/pool/kernel", json!([3, huge])),
        ("mean", "/op/pool/stride", json!([0, 1])),
        ("mean", "/op/pool/stride", json!([huge, 1])),
        ("mean", "/op/pool/padding", json!([3, 1, 1, 1])),
        ("mean", "/op/pool/padding", json!([1, 1, 1, huge])),
        ("mean", "/op/pool/padding", json!([0, 0, 0, 0])),
        ("mean", "/op/pool/kind", json!("max")),
        ("mean", "/op/pool/kind", json!("least")),
        ("stem.pool", "/op/pool/kind", json!("average")),
        ("stem.pool", "/output/scale", json!(0.5)),
        ("stem.pool", "/output/zero_point", json!(-3)),
        ("shuffle", "/output/scale", json!(0.5)),
        ("shuffle", "/op/rearrange/shape/channels", json!(4)),
        ("shuffle", "/op/rearrange/shape/channels", half),
        ("shuffle", "/op/rearrange/shape", json!({"channels": huge, "height": huge, "width": huge})),
        ("shuffle", "/op/rearrange/kind/transpose/order", json!([1, 0, 1])),
        ("shuffle", "/op/rearrange/kind/transpose/order", json!([1, 0])),
        ("shuffle", "/op/rearrange/kind/transpose/order", json!([1, 0, huge])),
        ("shuffle", "/op/rearrange/kind/transpose/sides", json!([2, 4, 15])),
        ("shuffle", "/op/rearrange/kind/transpose/sides", json!([2, huge, 16])),
        ("shuffle", "/op/rearrange/kind/transpose/sides", json!([])),
        ("shuffle", "/op/rearrange/kind", json!({"upsample": {"factor": [huge, 1]}})),
        ("shuffle", "/op/rearrange/kind", json!({"upsample": {"factor": [0, 1]}})),
        (
            "shuffle",
            "/op/rearrange/kind",
            json!({"slice": {"sides": [128], "axis": 3, "start": 0, "step": 1, "count": 128}}),
        ),
        (
            "shuffle",
            "/op/rearrange/kind",
            json!({"slice": {"sides": [128], "axis": 0, "start": 1, "step": huge, "count": 128}}),
        ),
        ("joined", "/op/concat/axis", json!("height")),
        ("joined", "/op/concat/axis", json!("depth")),
        ("joined", "/op/concat/tables", json!([true, true])),
        ("joined", "/op/concat/tables", json!([false, false, false])),
        ("joined", "/inputs", json!([1])),
        ("squeeze", "/op/global_average_pool/multiplier", json!(3)),
        ("resized", "/op/float/resize/size", json!([huge, 6])),
        ("resized", "/op/float/resize/size", json!([0, 6])),
        ("resized", "/op/float/resize/size", json!([16_384, 16_384])),
        ("resized", "/op/float/resize/coordinates", json!("other")),
        ("resized", "/inputs", json!([])),
        ("mask", "/output", params.clone()),
        ("mask", "/inputs", json!([0])),
        ("masked", "/output", json!(null)),
        ("boxes", "/output", params),
        ("boxes", "/op/conv/coarse/scale", json!("paper")),
        ("reduce", "/output", json!(null)),
        // What is real, in integers.
        ("average", "/op", json!({"global_average_pool": {"multiplier": 1 << 30, "right_shift": 35}})),
        ("kept", "/op/float/activation/clip", json!({"low": 0.0})),
        ("kept", "/op/float", json!("softmax")),
    ]
}

#[test]
fn entries_that_contradict_are_refused() {
    let bytes = to_bytes(&model(SplitMode::Aligned)).unwrap();
    for (name, pointer, value) in contradictions() {
        let edited = with_entry(&bytes, |entry| {
            let nodes = entry["nodes"].as_array_mut().unwrap();
            let node = nodes.iter_mut().find(|node| node["name"] == name).unwrap();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            node.pointer_mut(parent).unwrap()[key] = value.clone();
        });
        refused(&edited, &format!("{name} {pointer} = {value}"));
    }
    let huge = json!(18_446_744_073_709_551_615u64);
    let outputs = [
        json!([]),
        json!([{"name": "a", "node": 1, "sides": [3]}]),
        json!([{"name": "a", "node": 99, "sides": [3]}]),
        json!([{"name": "a", "node": huge, "sides": [3]}]),
        json!([{"name": "a", "node": 1, "sides": [huge, huge, 512]}]),
        json!([{"name": "a", "node": 1, "sides": [512]}, {"name": "a", "node": 1, "sides": [512]}]),
        json!([{"name": "a", "node": 1, "sides": [512], "more": 1}]),
    ];
    for value in outputs {
        refused(&with_entry(&bytes, |entry| entry["outputs"] = value.clone()), &format!("outputs {value}"));
    }
    let fine = json!([{"name": "a", "node": 1, "sides": [8, 64]}, {"name": "b", "node": 1, "sides": [512]}]);
    assert_eq!(from_bytes(&with_entry(&bytes, |entry| entry["outputs"] = fine.clone())).unwrap().outputs.len(), 2);
}

#[test]
fn tensors_that_contradict_are_refused() {
    let bytes = to_bytes(&model(SplitMode::Aligned)).unwrap();
    let edits = [
        ("gate.table", "dtype", json!("U8")),
        ("gate.table", "shape", json!([16, 16])),
        ("gate.table", "shape", json!([255])),
        ("joined.table0", "shape", json!([1u64 << 63])),
        ("mean.multiplier", "shape", json!([3, 3])),
        ("mean.right_shift", "dtype", json!("I8")),
        ("mask.value", "shape", json!([36])),
        ("mask.value", "shape", json!([1, 36, 1])),
        ("mask.value", "shape", json!([0, 1u64 << 62, 1u64 << 62])),
    ];
    for (tensor, field, value) in edits {
        let edited = with_header(&bytes, |header| header[tensor][field] = value.clone());
        refused(&edited, &format!("{tensor} {field} = {value}"));
    }
    for tensor in ["gate.table", "joined.table0", "mean.multiplier", "mean.right_shift", "mask.value"] {
        let renamed = with_header(&bytes, |header| {
            let moved = header.as_object_mut().unwrap().remove(tensor).unwrap();
            header[format!("{tensor}.other")] = moved;
        });
        refused(&renamed, tensor);
    }
}

/// A node changed by `edit` can neither be written nor, had something else written it, be read.
fn broken(what: &str, split: SplitMode, name: &str, edit: impl Fn(&mut QNode)) {
    let mut graph = model(split);
    edit(find(&mut graph, name));
    let error = to_bytes(&graph).expect_err(what);
    assert!(error.to_string().starts_with(name), "{what}: {error}");
}

#[test]
fn values_out_of_range_are_refused() {
    use SplitMode::{Aligned, None as Unsplit, Paper};
    let mean = |edit: &dyn Fn(&mut Vec<Multiplier>)| {
        broken("a multiplier of a mean", Unsplit, "mean", |node| {
            let integer = node.computed.as_integer().unwrap();
            let Constants::Multipliers(mut multipliers) = integer.constants().clone() else { panic!("no means") };
            edit(&mut multipliers);
            node.computed = Computed::integer(integer.op().clone(), Constants::Multipliers(multipliers)).unwrap();
        });
    };
    mean(&|m| m.truncate(8));
    mean(&|m| m.push(m[0]));
    mean(&|m| m[8].multiplier = 1);
    mean(&|m| m[3].right_shift = 0);
    broken("a level beyond 7 bits", Unsplit, "gate", |node| {
        node.output.as_mut().unwrap().qmin = -64;
        node.output.as_mut().unwrap().qmax = 63;
        node.output.as_mut().unwrap().zero_point = 0;
    });
    broken("an infinite constant", Unsplit, "mask", |node| {
        node.computed = Computed::Float(Op::Constant(Array3::from_elem((1, 6, 6), f32::INFINITY)));
    });
    broken("an empty constant", Unsplit, "mask", |node| {
        node.computed = Computed::Float(Op::Constant(Array3::zeros((0, 6, 6))));
    });
    broken("an input in float", Unsplit, "mask", |node| {
        node.computed = Computed::Float(Op::Input(Shape::new(1, 6, 6)));
    });
    broken("a window of padding alone", Unsplit, "stem.pool", |node| {
        let pool = Pool { kind: PoolKind::Max, kernel: [1; 2], stride: [1; 2], padding: [1; 4], ceil: true };
        node.computed = Computed::plain(Op::Pool(pool)).unwrap();
    });
    broken("multipliers of sums", Aligned, "boxes", |node| {
        let conv = node.computed.int8_weights_mut().unwrap();
        conv.multiplier = ndarray::Array1::from_elem(6, 1 << 30);
        conv.right_shift = ndarray::Array1::from_elem(6, 31);
    });
    broken("a second grid of sums", Aligned, "boxes", |node| {
        let conv = node.computed.int8_weights_mut().unwrap();
        conv.coarse.as_mut().unwrap().scale = CoarseScale::Own {
            scale: ndarray::Array1::ones(6),
            multiplier: ndarray::Array1::zeros(6),
            bias: ndarray::Array1::zeros(6),
        };
    });
    broken("no multipliers of levels", Paper, "mix", |node| {
        let conv = node.computed.int8_weights_mut().unwrap();
        conv.multiplier = ndarray::Array1::default(0);
        conv.right_shift = ndarray::Array1::default(0);
    });
    broken("levels of which there are none", Unsplit, "sum", |node| node.output = None);
    broken("a lesser multiplier that is out of range", Unsplit, "difference", |node| {
        let sum = QBinary::Sum { multipliers: [1 << 30, i32::MIN], right_shift: 31 };
        node.computed = Computed::integer(Op::Binary(Binary::Sub), Constants::Binary(sum)).unwrap();
    });
    broken("a bias", Unsplit, "expand", |node| {
        let conv = node.computed.int8_weights_mut().unwrap();
        conv.bias[0] = i32::MAX;
    });
}

/// Files say which of their sums are differences; older ones do not, there the sign of the
/// multiplier says it.
#[test]
fn a_difference_is_written_and_older_files_are_read() {
    let graph = model(SplitMode::None);
    let bytes = to_bytes(&graph).unwrap();
    let edited = |name: &str, edit: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        with_entry(&bytes, |entry| {
            let nodes = entry["nodes"].as_array_mut().unwrap();
            let node = nodes.iter_mut().find(|node| node["name"] == name).unwrap();
            edit(node["op"]["binary"]["sum"].as_object_mut().unwrap());
        })
    };
    let older = edited("difference", &|sum| assert_eq!(sum.remove("difference"), Some(json!(true))));
    assert_eq!(from_bytes(&older).unwrap(), graph);
    let of = |name: &str| graph.nodes.iter().find(|node| node.name == name).unwrap().computed.as_integer().unwrap();
    assert_eq!((of("difference").op(), of("sum").op()), (&Op::Binary(Binary::Sub), &Op::Binary(Binary::Add)));
    // A sum says nothing; that it is none may be said, and must be true.
    let said = edited("sum", &|sum| assert_eq!(sum.insert("difference".into(), json!(false)), None));
    assert_eq!(from_bytes(&said).unwrap(), graph);
    for (name, lie) in [("difference", false), ("sum", true)] {
        let lying = edited(name, &|sum| drop(sum.insert("difference".into(), json!(lie))));
        refused(&lying, &format!("{name} as {lie}"));
    }
    refused(&edited("sum", &|sum| drop(sum.insert("difference".into(), json!(1)))), "a number");
    // A factor of 0 has no sign: only the field tells a difference from a sum.
    let mut zero = model(SplitMode::None);
    let nothing = Constants::Binary(QBinary::Sum { multipliers: [1 << 30, 0], right_shift: 31 });
    find(&mut zero, "difference").computed = Computed::integer(Op::Binary(Binary::Sub), nothing).unwrap();
    assert_eq!(from_bytes(&to_bytes(&zero).unwrap()).unwrap(), zero);
}

/// A bias leaves room for the levels that a table gives, and not for those that it never gives.
#[test]
fn sums_are_bounded_by_the_levels_that_occur() {
    let mut graph = model(SplitMode::None);
    let joined = graph.nodes.iter().position(|node| node.name == "joined").unwrap();
    let (inputs, y) = (graph.nodes[joined].inputs.clone(), graph.nodes[joined].output.unwrap());
    // The network up to here, then a pointwise layer of one weight.
    graph.nodes.truncate(joined + 1);
    let mut random = Random::new(2);
    let mut end = made(&branched(), &QuantizeOptions::default(), ActivationMode::Affine, 8);
    let mut layer = find(&mut end, "right").clone();
    let conv = layer.computed.int8_weights_mut().unwrap();
    conv.fine = ndarray::Array4::from_shape_fn((1, 20, 1, 1), |_| random.below(100) as i8);
    let total: i64 = conv.fine.iter().map(|&q| i64::from(q)).sum();
    conv.coarse = None;
    (conv.multiplier, conv.right_shift) = (ndarray::Array1::default(0), ndarray::Array1::default(0));
    (conv.scale, conv.bias) = (ndarray::Array1::ones(1), ndarray::Array1::zeros(1));
    (layer.name, layer.inputs, layer.output, layer.relu) = ("end".into(), vec![joined], None, false);
    graph.nodes.push(layer);
    graph.outputs = vec![GraphOutput { name: "y".into(), node: joined + 1, sides: vec![16], one_image: false }];
    // Every table of the concatenation gives this level alone, so |q − z| is known.
    let mut fits = |level: i32, bias: i64| {
        let tables = Constants::Tables(vec![Some(Table(Box::new([level as i8; 256]))); inputs.len()]);
        graph.nodes[joined].computed = Computed::integer(Op::Concat(Axis::Channels), tables).unwrap();
        let conv = graph.nodes[joined + 1].computed.int8_weights_mut().unwrap();
        conv.bias[0] = i32::try_from(bias - i64::from(y.zero_point) * total).unwrap();
        to_bytes(&graph).is_ok()
    };
    let reach = |level: i32| i64::from((level - y.zero_point).abs().max(y.zero_point.abs()));
    let most = |level: i32| i64::from(i32::MAX) - total * reach(level);
    assert!(most(y.zero_point) > most(y.qmax));
    assert!(fits(y.zero_point, most(y.zero_point)) && !fits(y.qmax, most(y.zero_point)));
    assert!(fits(y.qmax, most(y.qmax)) && !fits(y.qmax, most(y.qmax) + 1));
}

#[test]
fn cut_and_flipped_files_never_panic() {
    let bytes = to_bytes(&model(SplitMode::Paper)).unwrap();
    let mut random = Random::new(19);
    for _ in 0..500 {
        let length = random.below(bytes.len());
        assert!(from_bytes(&bytes[..length]).is_err(), "cut to {length}");
    }
    let accepted = |bytes: &[u8]| {
        // What is accepted is whole: it can be written again, and its shapes are known.
        if let Ok(graph) = from_bytes(bytes) {
            graph.shapes();
            graph.macs();
            to_bytes(&graph).unwrap();
        }
    };
    for _ in 0..4000 {
        let mut flipped = bytes.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(flipped.len());
            flipped[at] ^= 1 << random.below(8);
        }
        accepted(&flipped);
    }
    // Numbers of the entry, one at a time: extreme ones where ordinary ones were.
    let extremes = [json!(0), json!(1), json!(-1), json!(255), json!(16_384), json!(1u64 << 31), json!(u64::MAX)];
    for _ in 0..3000 {
        let extreme = &extremes[random.below(extremes.len())];
        let place = random.below(900);
        accepted(&with_entry(&bytes, |entry| replace_number(&mut entry["nodes"], extreme, &mut place.clone())));
    }
}

/// Replaces the number of this `place` among those of a value.
fn replace_number(value: &mut Value, by: &Value, place: &mut usize) {
    match value {
        Value::Number(_) if *place == 0 => {
            *value = by.clone();
            *place = usize::MAX;
        }
        Value::Number(_) => *place -= 1,
        Value::Array(values) => values.iter_mut().for_each(|value| replace_number(value, by, place)),
        Value::Object(fields) => fields.values_mut().for_each(|value| replace_number(value, by, place)),
        _ => {}
    }
}
