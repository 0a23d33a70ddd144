//! What becomes of each operation: integers, float between levels, or real values behind the last
//! convolution.

use ndarray::Array3;
use repquant::ErrorKind;
use repquant::internals::Random;
use repquant::internals::model::{
    Activation, Binary, Computed, Constants, Graph, Multiplier, Op, PoolKind, QBinary, QNode, QParams, QuantizedGraph,
    Rearrange, RearrangeKind, Shape, Table,
};
use repquant::internals::quantize::{QuantizeOptions, SplitMode, quantize};
use repquant::internals::threshold::ActivationMode;

use super::branched::{add, branched, empty, id, image, made, output, pool, ranges, statistics};
use super::plain::{Value, meant, step};
use crate::common::network::{self, conv, network};

const MODES: [(ActivationMode, u8); 4] = [
    (ActivationMode::Symmetric, 8),
    (ActivationMode::Affine, 8),
    (ActivationMode::Symmetric, 4),
    (ActivationMode::Affine, 3),
];

fn plain(graph: &Graph, mode: ActivationMode) -> QuantizedGraph {
    made(graph, &QuantizeOptions::default(), mode, 8)
}

fn constants<'a>(graph: &'a QuantizedGraph, name: &str) -> &'a Constants {
    node(graph, name).computed.as_integer().unwrap_or_else(|| panic!("{name} is float")).constants()
}

fn node<'a>(graph: &'a QuantizedGraph, name: &str) -> &'a QNode {
    graph.nodes.iter().find(|node| node.name == name).unwrap()
}

fn stored(graph: &QuantizedGraph, name: &str) -> QParams {
    node(graph, name).output.unwrap()
}

/// The range that calibration gives an activation by itself.
fn own_range(graph: &Graph, mode: ActivationMode, name: &str) -> QParams {
    let ranges = ranges(&statistics(graph), mode, 8);
    ranges.ranges.iter().find(|range| range.name == name).unwrap().qparams
}

/// One line for each node that gives no levels of integers: computed in float, or sums.
fn kinds(graph: &QuantizedGraph) -> Vec<(&str, &str)> {
    let kind = |node: &QNode| match (&node.computed, node.output) {
        (Computed::Float(_), Some(_)) => "float, stored",
        (Computed::Float(_), None) => "float",
        (_, None) => "sums",
        (_, Some(_)) => "levels",
    };
    graph.nodes.iter().map(|node| (node.name.as_str(), kind(node))).filter(|(_, kind)| *kind != "levels").collect()
}

#[test]
fn what_stays_float_says_why() {
    for (mode, _) in MODES {
        let graph = plain(&branched(), mode);
        assert_eq!(
            kinds(&graph),
            [
                ("resized", "float"),
                ("mask", "float"),
                ("masked", "float, stored"),
                ("boxes", "sums"),
                ("scores", "sums"),
                ("probabilities", "float"),
                ("average", "float"),
                ("kept", "float")
            ]
        );
        let note = |name: &str| node(&graph, name).split.notes.join("; ");
        assert_eq!(note("resized"), "in float: resize has no integer form");
        assert_eq!(note("mask"), "real: the same for every image");
        assert_eq!(note("masked"), "in float: it reads constants");
        assert_eq!(note("probabilities"), "real: no convolution follows");
        assert_eq!(note("kept"), "real: no convolution follows");
        assert_eq!(note("sum"), "");
        assert_eq!(graph.outputs, branched().outputs);
        let (Some(boxes), true) = (node(&graph, "boxes").computed.int8_weights(), node(&graph, "scores").relu) else {
            panic!()
        };
        assert!(boxes.multiplier.is_empty() && boxes.right_shift.is_empty() && boxes.coarse.is_some());
        assert_eq!(graph.shapes(), branched().shapes());
    }
}

#[test]
fn layers_may_stay_float_anywhere() {
    let keep_float = ["left", "boxes", "reduce"].map(String::from).to_vec();
    let graph = made(&branched(), &QuantizeOptions { keep_float, ..Default::default() }, ActivationMode::Affine, 8);
    for (name, is_stored) in [("left", true), ("boxes", false), ("reduce", true)] {
        let node = node(&graph, name);
        assert!(matches!(node.computed, Computed::Float(Op::Conv(_))) && node.output.is_some() == is_stored, "{name}");
        assert_eq!(node.split.notes, ["kept in float"]);
    }
    // The clip that follows is left to the saturation here, too.
    assert!(node(&graph, "left").relu && stored(&graph, "left") == stored(&graph, "left.clip"));
}

#[test]
fn moved_levels_are_stored_as_they_were() {
    for (mode, _) in MODES {
        let graph = plain(&branched(), mode);
        assert_eq!(stored(&graph, "stem.pool"), stored(&graph, "stem"));
        assert_eq!(stored(&graph, "thumb"), stored(&graph, "input"));
        assert_eq!(stored(&graph, "shuffle"), stored(&graph, "mean"));
        assert!(matches!(constants(&graph, "stem.pool"), Constants::None));
    }
    // Through several, one after the other.
    let mut float = branched();
    let shuffle = id(&float, "shuffle");
    let kind = RearrangeKind::Reshape;
    add(&mut float, "flat", Op::Rearrange(Rearrange { kind, shape: Shape::new(128, 1, 1) }), &["shuffle"], false);
    add(&mut float, "again", Op::Conv(conv(&mut Random::new(3), 2, 128, 1, 1, 1)), &["flat"], false);
    output(&mut float, "more", "again", &[2]);
    float.nodes[shuffle].inputs = vec![id(&float, "mean")];
    let graph = plain(&float, ActivationMode::Affine);
    assert_eq!(stored(&graph, "flat"), stored(&graph, "mean"));
}

#[test]
fn a_clip_is_left_to_the_saturation_before_it() {
    for (mode, _) in MODES {
        let float = branched();
        let graph = plain(&float, mode);
        let clip = own_range(&float, mode, "left.clip");
        assert!(clip.scale < own_range(&float, mode, "left").scale);
        assert_eq!((stored(&graph, "left"), stored(&graph, "left.clip")), (clip, clip));
        assert!(node(&graph, "left").relu && !node(&graph, "right").relu);
        let Constants::Table(table) = constants(&graph, "left.clip") else { panic!("no table") };
        assert!((clip.zero_point..=clip.qmax).all(|q| i32::from(table.get(q as i8)) == q));

        // An output, or a second reader, must not be cut off.
        let mut seen = branched();
        output(&mut seen, "left", "left", &[8, 4, 4]);
        let mut read = branched();
        let (right, left) = (id(&read, "right"), id(&read, "left"));
        read.nodes[right].inputs = vec![left];
        for float in [seen, read] {
            let graph = plain(&float, mode);
            assert_eq!(stored(&graph, "left"), own_range(&float, mode, "left"));
            assert_ne!(stored(&graph, "left"), stored(&graph, "left.clip"));
            assert!(!node(&graph, "left").relu);
        }
    }
}

/// A network of one operation between convolutions, followed by a clip that nothing else reads.
fn before_a_clip(op: Op, inputs: &[&str], between: &[Op], low: f32) -> Graph {
    let mut random = Random::new(41);
    let mut float = empty();
    add(&mut float, "a", Op::Conv(conv(&mut random, 4, 3, 3, 1, 1)), &["input"], false);
    add(&mut float, "b", Op::Conv(conv(&mut random, 4, 3, 3, 1, 1)), &["input"], false);
    add(&mut float, "op", op, inputs, false);
    let mut last = "op".to_owned();
    for (i, op) in between.iter().enumerate() {
        let name = format!("between{i}");
        add(&mut float, &name, op.clone(), &[&last], false);
        last = name;
    }
    add(&mut float, "clip", Op::Activation(Activation::Clip { low, high: 0.3 }), &[&last], false);
    let shape = float.shapes()[id(&float, "clip")];
    add(&mut float, "end", Op::Conv(conv(&mut random, 2, shape.channels, 1, 1, 1)), &["clip"], false);
    output(&mut float, "y", "end", &[2, shape.height, shape.width]);
    float
}

#[test]
fn which_results_take_the_range_of_a_clip() {
    let resize = repquant::internals::model::Resize {
        size: [5, 9],
        coordinates: repquant::internals::model::Coordinates::AlignCorners,
        scale: None,
    };
    let takes: [(Op, &[&str], bool); 6] = [
        (Op::Binary(Binary::Sub), &["a", "b"], true),
        (Op::GlobalAveragePool, &["a"], false),
        (pool(PoolKind::AverageWithPadding, 3, 2, 1), &["a"], false),
        (Op::Resize(resize), &["a"], false),
        (Op::Concat(repquant::internals::model::Axis::Height), &["a", "b"], false),
        (Op::Conv(conv(&mut Random::new(1), 4, 4, 1, 1, 1)), &["a"], true),
    ];
    for (op, inputs, may_relu) in takes {
        for (low, mode) in [(0.0, ActivationMode::Symmetric), (-0.1, ActivationMode::Affine)] {
            let float = before_a_clip(op.clone(), inputs, &[], low);
            let graph = plain(&float, mode);
            assert_eq!(stored(&graph, "op"), own_range(&float, mode, "clip"), "{}", op.kind());
            assert_eq!(node(&graph, "op").relu, may_relu && low == 0.0, "{}", op.kind());
        }
    }
    // A table has levels of its own; the largest of a window passes those of its input, which the
    // clip then reaches.
    let float = before_a_clip(Op::Activation(Activation::Silu), &["a"], &[], 0.0);
    let graph = plain(&float, ActivationMode::Symmetric);
    assert_eq!(stored(&graph, "op"), own_range(&float, ActivationMode::Symmetric, "op"));
    let kind = RearrangeKind::Upsample { factor: [2, 1] };
    let up = Op::Rearrange(Rearrange { kind, shape: Shape::new(4, 16, 8) });
    let between = [up, pool(PoolKind::Max, 2, 2, 0)];
    let float = before_a_clip(Op::Binary(Binary::Add), &["a", "b"], &between, 0.0);
    let graph = plain(&float, ActivationMode::Symmetric);
    for name in ["op", "between0", "between1", "clip"] {
        assert_eq!(stored(&graph, name), own_range(&float, ActivationMode::Symmetric, "clip"), "{name}");
    }
    assert!(node(&graph, "op").relu);
}

#[test]
fn multipliers_are_those_of_the_scales() {
    for (mode, _) in MODES {
        let graph = plain(&branched(), mode);
        let scale = |name: &str| f64::from(stored(&graph, name).scale);
        let exact = |m: i32, n: u8| f64::from(m) * 2f64.powi(-i32::from(n));
        let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 1e-6, "{got} for {want}");
        for (name, a, b, sign) in [("sum", "left.clip", "right", 1.0), ("difference", "mix", "shuffle", -1.0)] {
            let Constants::Binary(QBinary::Sum { multipliers: [m_a, m_b], right_shift }) = *constants(&graph, name)
            else {
                panic!("{name} is no sum");
            };
            near(exact(m_a, right_shift), scale(a) / scale(name));
            near(exact(m_b, right_shift), sign * scale(b) / scale(name));
            assert!(m_a.max(m_b.abs()) >= 1 << 30 && m_a > 0);
        }
        let factor = scale("sum") * scale("gate") / scale("scaled");
        let want = Constants::Binary(QBinary::Product(Multiplier::new(factor).unwrap()));
        assert_eq!(node(&graph, "scaled").computed, Computed::integer(Op::Binary(Binary::Mul), want).unwrap());
        let Constants::Multipliers(multipliers) = constants(&graph, "mean") else { panic!("no pool") };
        let each: Vec<Multiplier> =
            (1..=9).map(|d| Multiplier::new(scale("scaled") / (scale("mean") * f64::from(d))).unwrap()).collect();
        assert_eq!(*multipliers, each);
        let mean = Multiplier::new(scale("sum") / (scale("squeeze") * 16.0)).unwrap();
        let want = Computed::integer(Op::GlobalAveragePool, Constants::Multiplier(mean)).unwrap();
        assert_eq!(node(&graph, "squeeze").computed, want);
    }
}

/// Half to even, in f64.
fn plain_table(x: QParams, y: QParams, f: impl Fn(f64) -> f64) -> Table {
    let level = |q: i32| {
        let real = f64::from(q - x.zero_point) * f64::from(x.scale);
        let steps = (f(real) / f64::from(y.scale)).round_ties_even() + f64::from(y.zero_point);
        steps.max(f64::from(y.qmin)).min(f64::from(y.qmax)) as i8
    };
    Table(Box::new(std::array::from_fn(|i| level(i as i32 - 128))))
}

#[test]
fn tables_are_those_of_a_plain_computation() {
    for (mode, bits) in MODES {
        let graph = made(&branched(), &QuantizeOptions::default(), mode, bits);
        let of =
            |name: &str, from: &str, f: &dyn Fn(f64) -> f64| plain_table(stored(&graph, from), stored(&graph, name), f);
        let sigmoid = of("gate", "expand", &|x| 1.0 / (1.0 + (-x).exp()));
        let looked_up = |f, table| Computed::integer(Op::Activation(f), Constants::Table(table)).unwrap();
        assert_eq!(node(&graph, "gate").computed, looked_up(Activation::Sigmoid, sigmoid));
        let swish = of("swish", "difference", &|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
        assert_eq!(node(&graph, "swish").computed, looked_up(Activation::HardSwish, swish));
        let Constants::Tables(tables) = constants(&graph, "joined") else { panic!("no concat") };
        for (name, table) in ["swish", "thumb.stem", "shuffle"].into_iter().zip(tables) {
            let equal = stored(&graph, name) == stored(&graph, "joined");
            let want = (!equal).then(|| of("joined", name, &|x| x));
            assert_eq!(*table, want, "{name}");
        }
        assert!(tables.iter().any(Option::is_some));
    }
    // Inputs that are stored as the output need none.
    let mut float = branched();
    let joined = id(&float, "joined");
    let thumb = id(&float, "thumb.stem");
    float.nodes[joined].inputs = vec![thumb; 5];
    let graph = plain(&float, ActivationMode::Affine);
    let Constants::Tables(tables) = constants(&graph, "joined") else { panic!("no concat") };
    assert_eq!(*tables, vec![None; 5]);
}

/// Every operation in integers gives the level nearest to the real function of its inputs as they
/// are stored, within half a step (a convolution's bias is rounded to a step of its sums, too).
#[test]
fn integers_mean_the_real_functions() {
    let float = branched();
    let mut random = Random::new(77);
    for (mode, bits) in MODES {
        for split in [SplitMode::None, SplitMode::Paper, SplitMode::Aligned, SplitMode::Auto] {
            let graph = made(&float, &QuantizeOptions { split, ..Default::default() }, mode, bits);
            compare(&graph, &float, &mut random);
        }
    }
}

/// Runs an image through the integers and compares each operation with what it means.
pub(crate) fn compare(graph: &QuantizedGraph, float: &Graph, random: &mut Random) {
    let x = graph.nodes[0].output.unwrap();
    let levels = image(random, float).mapv(|v| x.quantize(v));
    let mut values = vec![Value { real: levels.mapv(|q| x.dequantize(q)), levels: Some(levels) }];
    for (id, node) in graph.nodes.iter().enumerate().skip(1) {
        let (got, want) = (step(graph, id, &values), meant(graph, float, id, &values));
        let step_of_sums = match (node.computed.int8_weights(), node.inputs.first()) {
            (Some(conv), Some(&from)) => {
                let s_x = f64::from(graph.nodes[from].output.unwrap().scale);
                conv.scale.iter().fold(0f64, |most, &s| most.max(f64::from(s) * s_x))
            }
            _ => 0.0,
        };
        let name = &node.name;
        match node.output {
            None => near(&got.real, &want, 0.5001 * step_of_sums + 1e-9, name),
            Some(y) => {
                let low = if node.relu { y.zero_point } else { y.qmin };
                let level = |x: f64| x / f64::from(y.scale) + f64::from(y.zero_point);
                let want = want.mapv(|x| level(x).clamp(f64::from(low), f64::from(y.qmax)));
                let slack = 0.5 + 0.5 * step_of_sums / f64::from(y.scale) + 1e-4;
                near(&got.levels.as_ref().unwrap().mapv(f64::from), &want, slack, name);
            }
        }
        values.push(got);
    }
}

fn near(got: &Array3<f64>, want: &Array3<f64>, slack: f64, name: &str) {
    assert_eq!(got.dim(), want.dim(), "{name}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= slack, "{name}: {got} for {want}, within {slack}");
    }
}

#[test]
fn the_ends_may_have_bits_of_their_own() {
    let options = QuantizeOptions { weight_bits: 4, first_last_bits: Some(8), ..Default::default() };
    let graph = made(&branched(), &options, ActivationMode::Symmetric, 8);
    let wide: Vec<&str> = graph
        .nodes
        .iter()
        .filter(|node| node.computed.int8_weights().is_some_and(|conv| conv.bits == 8))
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(wide, ["stem", "thumb.stem", "boxes", "scores"]);
}

#[test]
fn a_budget_serves_networks_that_are_no_chain() {
    let float = branched();
    let of = |max_overhead: f64| {
        let options = QuantizeOptions { split: SplitMode::Auto, max_overhead, weight_bits: 4, ..Default::default() };
        made(&float, &options, ActivationMode::Affine, 8)
    };
    for budget in [0.0, 0.05, 0.2, 1.0] {
        let (macs, added) = of(budget).macs();
        assert_eq!(macs, float.macs());
        assert!(added as f64 <= budget * macs as f64 && (added > 0) == (budget > 0.0), "{added} of {macs}");
    }
    let graph = of(4.0);
    assert_ne!(node(&graph, "mix").split.split, "none");
    let boxes = node(&graph, "boxes");
    assert_eq!(boxes.split.split, "none");
    assert!(boxes.split.notes[0].contains("its result is not stored"), "{:?}", boxes.split.notes);
}

#[test]
fn sums_have_no_second_grid() {
    let options = QuantizeOptions { split: SplitMode::Paper, ..Default::default() };
    let graph = made(&branched(), &options, ActivationMode::Symmetric, 8);
    assert_eq!(node(&graph, "mix").split.split, "paper/center");
    assert_eq!(node(&graph, "boxes").split.split, "none");
    assert!(node(&graph, "boxes").split.notes[0].contains("32-bit sums"));
}

/// A step of an input that spans 2^30 steps of the output has no multiplier.
#[test]
fn scales_too_far_apart_are_left_to_float() {
    let float = before_a_clip(Op::Binary(Binary::Add), &["a", "b"], &[], -0.1);
    let calibration = statistics(&float);
    let mut ranges = ranges(&calibration, ActivationMode::Symmetric, 8);
    ranges.ranges.iter_mut().find(|range| range.name == "clip").unwrap().qparams.scale = 1e-20;
    // The range of the clip is that of the sum.
    let made = quantize(&float, &ranges, &calibration, &QuantizeOptions::default());
    // The convolution behind it has the same trouble only where its output is stored, and it is
    // not.
    let graph = made.unwrap();
    let sum = node(&graph, "op");
    assert!(matches!(sum.computed, Computed::Float(Op::Binary(Binary::Add))) && sum.output.is_some());
    assert!(sum.split.notes[0].starts_with("in float: the requantization factor"), "{:?}", sum.split.notes);
    assert!(!sum.split.notes[0].contains('\n'));
}

#[test]
fn networks_that_cannot_be_quantized_are_errors() {
    let mut float = empty();
    add(&mut float, "pool", Op::GlobalAveragePool, &["input"], false);
    output(&mut float, "y", "pool", &[3]);
    let calibration = statistics(&float);
    let ranges = ranges(&calibration, ActivationMode::Symmetric, 8);
    let error = quantize(&float, &ranges, &calibration, &QuantizeOptions::default()).unwrap_err();
    assert!(error.kind() == ErrorKind::Input && error.to_string().contains("nothing to quantize"), "{error}");
    // A graph that contradicts itself is not looked at further.
    let float = branched();
    let calibration = statistics(&float);
    let ranges = super::branched::ranges(&calibration, ActivationMode::Symmetric, 8);
    let mut wrong = float.clone();
    wrong.outputs[0].sides = vec![4];
    let error = quantize(&wrong, &ranges, &calibration, &QuantizeOptions::default()).unwrap_err();
    assert!(error.to_string().contains("sides of an output"), "{error}");
}

/// The result is a function of the network alone, whatever runs at the same time.
#[test]
fn the_same_network_gives_the_same_integers() {
    let options = QuantizeOptions { split: SplitMode::Auto, ..Default::default() };
    let first = made(&branched(), &options, ActivationMode::Affine, 8);
    assert_eq!(first, made(&branched(), &options, ActivationMode::Affine, 8));
    assert_eq!(first.source_digest, branched().digest());
}

/// Bits, splits and float for single layers; the last choice for a layer counts, and `auto` leaves it
/// alone.
#[test]
fn single_layers_are_chosen_for() {
    let graph = network();
    let calibration = network::statistics(&graph);
    let ranges = network::ranges(&calibration, ActivationMode::Symmetric);
    let layers =
        [("*", "3"), ("stage1.*", "5,full"), ("stage1.1.pointwise", "whole"), ("stage2.0", "float"), ("linear", "7")];
    let layers: Vec<_> = layers.iter().map(|(name, choice)| ((*name).to_owned(), choice.parse().unwrap())).collect();
    for split in [SplitMode::None, SplitMode::Paper, SplitMode::Aligned, SplitMode::Auto] {
        let options = QuantizeOptions { weight_bits: 8, split, layers: layers.clone(), ..Default::default() };
        let made = quantize(&graph, &ranges, &calibration, &options).unwrap();
        let bits = |name: &str| node(&made, name).computed.int8_weights().map(|conv| conv.bits);
        let how = |name: &str| node(&made, name).split.split.as_str();
        assert_eq!((bits("stage0"), bits("linear"), bits("stage2.0")), (Some(3), Some(7), None));
        assert_eq!((bits("stage1.0"), how("stage1.0")), (Some(5), "aligned/full"));
        assert_eq!((bits("stage1.1.depthwise"), how("stage1.1.depthwise")), (Some(5), "aligned/full"));
        // The last one alone: its bits are those of all.
        assert_eq!((bits("stage1.1.pointwise"), how("stage1.1.pointwise")), (Some(8), "none"));
        assert!(split == SplitMode::Auto || (how("stage0") == "none") == (split == SplitMode::None), "{split}");
        assert_eq!(made.options["layers"][1], serde_json::json!(["stage1.*", "5,full"]));
        let without = QuantizeOptions { layers: Vec::new(), ..options };
        let made = quantize(&graph, &ranges, &calibration, &without).unwrap();
        assert!(made.options.get("layers").is_none(), "files stay as they were");
    }
    let of = |name: &str, choice: &str| {
        let layers = vec![(name.to_owned(), choice.parse().unwrap())];
        QuantizeOptions { layers, ..Default::default() }.check_layers(&graph)
    };
    assert!(of("pool", "float").is_ok() && of("*", "4").is_ok());
    for (name, choice, why) in [("stage3", "4", "no such layer"), ("pool", "4", "no weights to be rounded")] {
        let error = of(name, choice).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(why) && error.to_string().contains("stage1.0, "), "{error}");
    }
}
