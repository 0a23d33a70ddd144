//! Channels made equal before depthwise convolutions: the same function, and better integers.

use repquant::internals::Random;
use repquant::internals::calibrate::{Calibration, calibrate};
use repquant::internals::evaluate::{Contender, evaluate};
use repquant::internals::exec::{FloatNet, Int8Net, Keep};
use repquant::internals::export::safetensors::{from_bytes, to_bytes};
use repquant::internals::images::Batch;
use repquant::internals::model::{Activation, Conv, Function, Graph, Op, Operand, Operator, QuantizedGraph, Step};
use repquant::internals::quantize::{
    CalibrationImages, ChannelEqualization, Equalized, Granularity, QuantizeOptions, Rounding, equalize, quantize,
    quantize_on,
};
use repquant::internals::threshold::{ActivationMode, Method, RangeOptions, choose};
use repquant::progress::Silent;
use repquant::{Device, Result};

use super::branched::{add, empty, id, output};
use super::second_order::images;
use crate::common::devices;
use crate::common::network::conv;

/// What lies between the convolutions, and the depthwise ones that read it.
const FUNCTIONS: [&str; 5] = ["relu", "identity", "prelu", "clip", "swish"];

/// Blocks of a pointwise convolution, one of [`FUNCTIONS`] and a depthwise one, in which the channels
/// between are up to a thousand times apart.
fn uneven(functions: &[&str]) -> Graph {
    let mut random = Random::new(77);
    let mut graph = empty();
    let g = &mut graph;
    let mut from = "input".to_owned();
    let mut channels = 3;
    for (block, &function) in functions.iter().enumerate() {
        let name = |part: &str| format!("{block}.{part}");
        let mut wide = conv(&mut random, 12, channels, 1, 1, 1);
        let mut depthwise = conv(&mut random, 12, 1, 3, 1, 12);
        let widest = if function == "clip" { 4.0 } else { 2.0 };
        for c in 0..12 {
            let factor = (widest * 2f64.powf(-10.0 * f64::from(c) / 11.0)) as f32;
            wide.weight.index_axis_mut(ndarray::Axis(0), c as usize).mapv_inplace(|w| w * factor);
            wide.bias[c as usize] *= factor;
            depthwise.weight.index_axis_mut(ndarray::Axis(0), c as usize).mapv_inplace(|w| w / factor);
        }
        add(g, &name("wide"), Op::Conv(wide), &[&from], function == "relu");
        let mut read = name("wide");
        let between = match function {
            "prelu" => Some(prelu()),
            "clip" => Some(Op::Activation(Activation::Clip { low: 0.0, high: 1.5 })),
            "swish" => Some(Op::Activation(Activation::HardSwish)),
            _ => None,
        };
        if let Some(op) = between {
            add(g, &name("function"), op, &[&read], false);
            read = name("function");
        }
        add(g, &name("depthwise"), Op::Conv(depthwise), &[&read], true);
        (from, channels) = (name("depthwise"), 12);
    }
    add(g, "head", Op::Conv(conv(&mut random, 4, 12, 1, 1, 1)), &[&from], false);
    output(g, "head", "head", &[4, 8, 8]);
    graph
}

fn prelu() -> Op {
    let slopes = (0..12).map(|c| 0.05 * (1 + c) as f32).collect();
    let step = |operator, operands: &[Operand]| Step { operator, operands: operands.to_vec() };
    let x = Operand::Input(0);
    Op::Function(Function {
        steps: vec![
            step(Operator::Less, &[x.clone(), Operand::Constant(vec![0.0])]),
            step(Operator::Mul, &[x.clone(), Operand::Constant(slopes)]),
            step(Operator::Select, &[Operand::Step(0), Operand::Step(1), x]),
        ],
    })
}

struct Bench {
    graph: Graph,
    images: Batch,
    calibration: Calibration,
}

impl Bench {
    fn new(functions: &[&str]) -> Self {
        let graph = uneven(functions);
        graph.check().unwrap();
        let images = images(&graph, 24);
        let calibration = calibrate(&Device::cpu(), &graph, &mut images.split(10).map(Ok), 10, None, &Silent).unwrap();
        Self { graph, images, calibration }
    }

    fn equal(&self, options: &QuantizeOptions) -> Option<Equalized> {
        equalize(&self.graph, &self.calibration, options).unwrap()
    }

    fn quantized(&self, options: &QuantizeOptions, mode: ActivationMode) -> QuantizedGraph {
        let ranges = RangeOptions { method: Method::MinMax, bits: 8, mode };
        let make = |graph: &Graph, calibration: &Calibration| -> Result<QuantizedGraph> {
            let ranges = choose(calibration, &ranges)?;
            if options.rounding == Rounding::Nearest {
                return quantize(graph, &ranges, calibration, options);
            }
            let mut batches = self.images.split(8).map(Ok);
            let device = Device::cpu();
            let images = CalibrationImages { device: &device, batches: &mut batches, max_images: 8, memory: 1 << 30 };
            quantize_on(graph, &ranges, calibration, options, images, &Silent)
        };
        match self.equal(options) {
            None => make(&self.graph, &self.calibration).unwrap(),
            Some(equal) => {
                let mut quantized = make(&equal.graph, &equal.calibration).unwrap();
                equal.note(&mut quantized);
                quantized
            }
        }
    }

    /// SQNR of the output, and of every layer that is compared.
    fn sqnr(&self, quantized: &QuantizedGraph) -> (f64, Vec<(String, f64)>) {
        let contenders = [Contender { name: "it", graph: quantized, layers: true }];
        let mut batches = self.images.split(8).map(Ok);
        let found = evaluate(&Device::cpu(), Some(&self.graph), &contenders, &mut batches, 8, None, &Silent).unwrap();
        let layers = found[1].layers.iter().map(|(name, fidelity)| (name.clone(), fidelity.sqnr_db().unwrap()));
        (found[1].outputs[0].fidelity.sqnr_db().unwrap(), layers.collect())
    }
}

fn off(options: &QuantizeOptions) -> QuantizeOptions {
    QuantizeOptions { channel_equalization: ChannelEqualization::Off, ..options.clone() }
}

/// Powers of two are exact: every output has the bits that it had.
#[test]
fn the_network_stays_the_same_to_the_bit() {
    for functions in [&FUNCTIONS[..4], &["clip", "clip"], &["relu", "relu"]] {
        let bench = Bench::new(functions);
        let equal = bench.equal(&QuantizeOptions::default()).unwrap();
        equal.graph.check().unwrap();
        for device in devices() {
            let run = |graph: &Graph| FloatNet::new(device, graph, 24, Keep::Last).unwrap().run(&bench.images).unwrap();
            assert!(run(&bench.graph) == run(&equal.graph), "{functions:?} on {}", device.info().name);
        }
    }
    // A function that is spelled out is as near as its steps are.
    let bench = Bench::new(&["swish"]);
    let equal = bench.equal(&QuantizeOptions::default()).unwrap();
    for device in devices() {
        let run = |graph: &Graph| FloatNet::new(device, graph, 24, Keep::Last).unwrap().run(&bench.images).unwrap();
        for (a, b) in run(&bench.graph).iter().flatten().zip(run(&equal.graph).iter().flatten()) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{a} {b} on {}", device.info().name);
        }
    }
}

#[test]
fn integers_gain_with_every_function_and_range() {
    for function in FUNCTIONS {
        let bench = Bench::new(&[function]);
        for mode in [ActivationMode::Symmetric, ActivationMode::Affine] {
            for rounding in [Rounding::Nearest, Rounding::SecondOrder] {
                let options = QuantizeOptions { rounding, ..Default::default() };
                let (before, after) = (bench.quantized(&off(&options), mode), bench.quantized(&options, mode));
                let (old, new) = (bench.sqnr(&before), bench.sqnr(&after));
                assert!(new.0 > old.0 + 6.0, "{function} {mode} {rounding}: {} dB, {} dB", old.0, new.0);
                // Layers are compared in the units in which they are held.
                assert_eq!(old.1.len(), new.1.len());
                for (name, db) in new.1 {
                    assert!(db > 20.0, "{function} {mode}, {name}: {db} dB");
                }
                let noted = |graph: &QuantizedGraph| {
                    graph.nodes.iter().flat_map(|node| &node.split.notes).filter(|n| n.contains("made equal")).count()
                };
                assert!(noted(&after) > 0 && noted(&before) == 0);
                assert_eq!(after.options["channel_equalization"], "auto");
                assert!(before.options.get("channel_equalization").is_none());
                assert_eq!(before.source_digest, after.source_digest);
            }
        }
    }
}

/// All kinds together; a file of it is read again, and devices agree.
#[test]
fn files_hold_the_units() {
    let bench = Bench::new(&FUNCTIONS);
    let quantized = bench.quantized(&QuantizeOptions::default(), ActivationMode::Affine);
    let bytes = to_bytes(&quantized).unwrap();
    let read = from_bytes(&bytes).unwrap();
    assert_eq!(read, quantized);
    let exponents = |name: &str| read.nodes[id(&bench.graph, name)].exponents.clone();
    // The clip and the PReLU are those of their convolutions, the function has units of its own.
    assert_eq!(exponents("3.wide"), exponents("3.function"));
    assert_eq!(exponents("2.wide"), exponents("2.function"));
    for name in ["0.wide", "1.wide", "2.wide", "3.wide", "4.function"] {
        let found = exponents(name);
        assert!(found.len() == 12 && found.contains(&0) && found.iter().any(|&k| k >= 5), "{name}: {found:?}");
    }
    assert!(exponents("head").is_empty() && exponents("0.depthwise").is_empty());
    let outputs: Vec<_> = devices()
        .iter()
        .map(|device| Int8Net::new(device, &read, 24, Keep::Last).unwrap().run(&bench.images).unwrap())
        .collect();
    assert!(outputs.iter().all(|found| *found == outputs[0]));
    // A clip is left to saturation as ever: its table changes nothing.
    let clip = &read.nodes[id(&bench.graph, "3.function")];
    assert_eq!(clip.output, read.nodes[id(&bench.graph, "3.wide")].output);
    assert!(matches!(clip.computed.as_integer().unwrap().op(), Op::Activation(Activation::Clip { .. })));
    let mut wrong = quantized.clone();
    wrong.nodes[1].exponents.pop();
    assert!(to_bytes(&wrong).unwrap_err().to_string().contains("11 exponents for 12 channels"));
}

#[test]
fn what_gains_nothing_stays_as_it_was() {
    // No depthwise convolution; one weight scale for a layer; nothing asked for; another reader.
    let bench = Bench::new(&["relu"]);
    for options in [
        off(&QuantizeOptions::default()),
        QuantizeOptions { granularity: Granularity::Tensor, ..Default::default() },
        QuantizeOptions { keep_float: vec!["0.depthwise".into()], ..Default::default() },
    ] {
        assert!(bench.equal(&options).is_none());
    }
    let dense = |graph: &mut Graph| {
        let mut random = Random::new(1);
        let other: Conv = conv(&mut random, 2, 12, 1, 1, 1);
        add(graph, "other", Op::Conv(other), &["0.wide"], false);
        output(graph, "other", "other", &[2, 8, 8]);
    };
    let shown = |graph: &mut Graph| output(graph, "shown", "0.wide", &[12, 8, 8]);
    for change in [&dense as &dyn Fn(&mut Graph), &shown] {
        let mut graph = bench.graph.clone();
        change(&mut graph);
        graph.check().unwrap();
        let mut batches = bench.images.split(8).map(Ok);
        let calibration = calibrate(&Device::cpu(), &graph, &mut batches, 8, None, &Silent).unwrap();
        assert!(equalize(&graph, &calibration, &QuantizeOptions::default()).unwrap().is_none());
    }
    // Channels that are as wide as each other.
    let mut graph = bench.graph.clone();
    if let Op::Conv(wide) = &mut graph.nodes[1].op {
        let (first, bias) = (wide.weight.index_axis(ndarray::Axis(0), 0).to_owned(), wide.bias[0]);
        wide.weight.outer_iter_mut().for_each(|mut row| row.assign(&first));
        wide.bias.fill(bias);
    }
    let mut batches = bench.images.split(8).map(Ok);
    let calibration = calibrate(&Device::cpu(), &graph, &mut batches, 8, None, &Silent).unwrap();
    assert!(equalize(&graph, &calibration, &QuantizeOptions::default()).unwrap().is_none());
}
