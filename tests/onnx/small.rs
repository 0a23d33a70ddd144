//! A small network with every kind of layer.

use repquant::Device;
use repquant::internals::Random;
use repquant::internals::exec::{FloatNet, Int8Net, Keep};
use repquant::internals::export::onnx::{Format, InputForm, float, quantized};
use repquant::internals::images::{Batch, Content};
use repquant::internals::model::{Graph, Interpolation, Op, Preprocessing, QuantizedGraph, Support, Weights};
use repquant::internals::quantize::{Granularity, QuantizeOptions, SplitMode, quantize};
use repquant::internals::threshold::{ActivationMode, Method, RangeOptions, choose};

use crate::common::network::{gray_network, network, statistics};
use crate::compare::{assert_same_integers, levels, planes};
use crate::runtime::Runtime;

/// Pictures of noise.
fn batch(count: usize) -> Batch {
    let mut random = Random::new(5);
    let mut batch = Batch::empty([16, 16]);
    for i in 0..count {
        let pixels: Vec<u32> = (0..256).map(|_| random.below(1 << 24) as u32).collect();
        batch.push(format!("image {i}"), None, &pixels).unwrap();
    }
    batch
}

/// The small network on levels of `bits`.
fn made(weights: &QuantizeOptions, mode: ActivationMode, bits: u8) -> QuantizedGraph {
    made_of(&network(), weights, mode, bits)
}

fn made_of(graph: &Graph, weights: &QuantizeOptions, mode: ActivationMode, bits: u8) -> QuantizedGraph {
    let calibration = statistics(graph);
    let ranges = choose(&calibration, &RangeOptions { method: Method::MinMax, bits, mode }).unwrap();
    quantize(graph, &ranges, &calibration, weights).unwrap()
}

#[test]
fn a_gray_network_computes_the_same_integers() {
    let Some(mut runtime) = Runtime::start() else { return };
    let gray = Content::Pixels(batch(20).pixels().iter().map(|pixel| pixel & 0xFF).collect());
    let batch = Batch { content: gray, ..batch(20) };
    for mode in [ActivationMode::Symmetric, ActivationMode::Affine] {
        let graph = made_of(&gray_network(), &QuantizeOptions::default(), mode, 8);
        assert_same_integers(&format!("gray {mode}"), &graph, &batch, &mut runtime);
    }
}

#[test]
fn the_integer_form_computes_the_same_integers() {
    let Some(mut runtime) = Runtime::start() else { return };
    let batch = batch(20);
    for split in [SplitMode::None, SplitMode::Paper, SplitMode::Aligned, SplitMode::Auto] {
        for support in [None, Some(Support::Center), Some(Support::Diagonal), Some(Support::Full)] {
            for (granularity, mode) in
                [(Granularity::Channel, ActivationMode::Affine), (Granularity::Tensor, ActivationMode::Symmetric)]
            {
                for (weight_bits, bits) in [(2, 8), (4, 3), (8, 8)] {
                    let options = QuantizeOptions { granularity, weight_bits, split, support, ..Default::default() };
                    let what = format!("{split} {support:?} {granularity} {mode} W{weight_bits}A{bits}");
                    assert_same_integers(&what, &made(&options, mode, bits), &batch, &mut runtime);
                }
            }
        }
    }
}

/// Factors so small that one multiplication of doubles would not do.
#[test]
fn large_shifts_compute_the_same_integers() {
    let Some(mut runtime) = Runtime::start() else { return };
    for (split, layer) in
        [(SplitMode::Aligned, "stage1.0"), (SplitMode::Paper, "stage2.0"), (SplitMode::None, "stage0")]
    {
        let mut graph = made(&QuantizeOptions { split, ..Default::default() }, ActivationMode::Affine, 8);
        let node = graph.nodes.iter_mut().find(|node| node.name == layer).unwrap();
        let conv = node.computed.int8_weights_mut().unwrap();
        for (o, n) in conv.right_shift.iter_mut().enumerate() {
            *n = [44, 47, 62][o % 3];
        }
        // Larger sums to go with the smaller factors.
        conv.bias.mapv_inplace(|b| b.wrapping_mul(1000) % (1 << 29));
        let answer = assert_same_integers(layer, &graph, &batch(20), &mut runtime);
        assert!(answer.names.contains(&format!("{layer}/carry")), "{:?}", answer.names);
    }
}

#[test]
fn the_first_and_last_layers_may_have_another_width() {
    let Some(mut runtime) = Runtime::start() else { return };
    let options = QuantizeOptions { weight_bits: 4, first_last_bits: Some(8), ..Default::default() };
    assert_same_integers("W4, ends W8", &made(&options, ActivationMode::Affine, 4), &batch(5), &mut runtime);
}

/// The largest level of an image goes into the classifier as it is.
#[test]
fn the_largest_of_an_image_is_the_same_level() {
    let Some(mut runtime) = Runtime::start() else { return };
    let mut graph = network();
    let mean = graph.nodes.iter_mut().find(|node| node.op == Op::GlobalAveragePool).unwrap();
    mean.op = Op::GlobalMaxPool;
    let calibration = statistics(&graph);
    for mode in [ActivationMode::Affine, ActivationMode::Symmetric] {
        let ranges = choose(&calibration, &RangeOptions { mode, ..Default::default() }).unwrap();
        let quantized = quantize(&graph, &ranges, &calibration, &QuantizeOptions::default()).unwrap();
        assert_same_integers("largest", &quantized, &batch(7), &mut runtime);
    }
}

/// A coarse part whose window has padding of its own, or cannot be a 1×1 convolution.
#[test]
fn uncommon_paddings_compute_the_same_integers() {
    let Some(mut runtime) = Runtime::start() else { return };
    for padding in [0, 2] {
        for support in [Support::Center, Support::Diagonal] {
            for split in [SplitMode::Aligned, SplitMode::Paper] {
                let mut graph = network();
                for node in &mut graph.nodes {
                    if let Op::Conv(conv) = &mut node.op
                        && conv.kernel() == [3, 3]
                    {
                        conv.padding = [padding, 1];
                    }
                }
                let calibration = statistics(&graph);
                let ranges =
                    RangeOptions { method: Method::MinMax, mode: ActivationMode::Affine, ..Default::default() };
                let options = QuantizeOptions { split, support: Some(support), ..Default::default() };
                let ranges = choose(&calibration, &ranges).unwrap();
                let graph = quantize(&graph, &ranges, &calibration, &options).unwrap();
                assert_same_integers(&format!("padding {padding}"), &graph, &batch(3), &mut runtime);
            }
        }
    }
}

/// Size of the difference relative to the size of the logits, both as root mean squares.
fn difference(a: &[Vec<f64>], b: &[Vec<f32>]) -> f64 {
    let pairs = || a.iter().flatten().zip(b.iter().flatten());
    let error: f64 = pairs().map(|(a, b)| (a - f64::from(*b)).powi(2)).sum();
    (error / pairs().map(|(a, _)| a.powi(2)).sum::<f64>()).sqrt()
}

/// How far a form's levels are from this program's: the part of them that differ, and the largest
/// difference.
fn level_differences(graph: &QuantizedGraph, format: Format, input: InputForm, runtime: &mut Runtime) -> (f64, i32) {
    let batch = batch(20);
    let device = Device::cpu();
    let net = Int8Net::new(&device, graph, batch.count, Keep::All).unwrap();
    net.run(&batch).unwrap();
    let stored = graph.nodes.iter().enumerate().filter(|(_, node)| node.output.is_some());
    let stored: Vec<(usize, String)> = stored.map(|(id, node)| (id, format!("{}/quantized", node.name))).collect();
    let names: Vec<String> = stored.iter().map(|(_, name)| name.clone()).collect();
    let file = quantized(graph, format, input).unwrap();
    let answer = runtime.run(&file, input, &planes(&batch, 3), batch.count, &names);
    let (mut differ, mut largest, mut values) = (0, 0, 0);
    for (id, name) in stored {
        let zero_point = graph.nodes[id].output.unwrap().zero_point;
        let bytes = format == Format::Integer || zero_point != 0;
        let (kind, offset) = if bytes { ("uint8", 128) } else { ("int8", 0) };
        assert_eq!(answer.types[&name], kind);
        let own = levels(&net, id, batch.count);
        assert_eq!(own.len(), answer.tensors[&name].len());
        for (own, theirs) in own.iter().zip(&answer.tensors[&name]) {
            let difference = (i32::from(*own) - i32::from(theirs.wrapping_sub(offset).cast_signed())).abs();
            differ += usize::from(difference > 0);
            largest = largest.max(difference);
            values += 1;
        }
    }
    (differ as f64 / values as f64, largest)
}

/// Floats are rounded here and there: a value beside a tie may take the neighbouring level, hardly
/// ever.
#[track_caller]
fn assert_close(what: &str, (differ, largest): (f64, i32)) {
    assert!(differ < 0.001 && largest <= 1, "{what}: {:.3} % of the levels differ, by up to {largest}", 100.0 * differ);
}

#[test]
fn layers_kept_in_float_come_close() {
    let Some(mut runtime) = Runtime::start() else { return };
    for keep in [vec!["stage0"], vec!["stage1.0", "linear"], vec!["stage2.0"]] {
        let keep_float = keep.iter().map(|&name| name.to_owned()).collect();
        let options = QuantizeOptions { keep_float, ..Default::default() };
        for (mode, bits) in
            [(ActivationMode::Affine, 8), (ActivationMode::Symmetric, 8), (ActivationMode::Symmetric, 4)]
        {
            let graph = made(&options, mode, bits);
            for format in [Format::Integer, Format::Qdq] {
                let found = level_differences(&graph, format, InputForm::Normalized, &mut runtime);
                assert_close(&format!("{keep:?} {mode} A{bits} {format}"), found);
            }
        }
    }
}

#[test]
fn the_quantize_dequantize_form_comes_close() {
    let Some(mut runtime) = Runtime::start() else { return };
    for split in [SplitMode::None, SplitMode::Paper, SplitMode::Aligned] {
        for support in [Support::Center, Support::Diagonal, Support::Full] {
            for (mode, bits) in
                [(ActivationMode::Affine, 8), (ActivationMode::Symmetric, 8), (ActivationMode::Affine, 5)]
            {
                let options = QuantizeOptions { split, support: Some(support), ..Default::default() };
                let graph = made(&options, mode, bits);
                for input in [InputForm::Pixels, InputForm::Normalized] {
                    let found = level_differences(&graph, Format::Qdq, input, &mut runtime);
                    assert_close(&format!("{split} {support} {mode} A{bits} {input:?}"), found);
                }
            }
        }
    }
}

/// ONNX Runtime knows the pattern: without a split, and with zero points that make a `ReLU` the end
/// of the range, every convolution becomes its integer one.
#[test]
fn onnx_runtime_recognises_the_pattern() {
    let Some(mut runtime) = Runtime::start() else { return };
    let options = QuantizeOptions { split: SplitMode::None, ..Default::default() };
    let file = quantized(&made(&options, ActivationMode::Affine, 8), Format::Qdq, InputForm::Normalized).unwrap();
    let answer = runtime.run(&file, InputForm::Normalized, &planes(&batch(2), 3), 2, &["logits".into()]);
    let count = |operators: &[String], operator: &str| operators.iter().filter(|o| *o == operator).count();
    assert_eq!(count(&answer.operators, "Conv"), 5);
    assert_eq!(count(&answer.optimized, "QLinearConv"), 5, "{:?}", answer.optimized);
}

#[test]
fn the_float_form_computes_the_float_network() {
    let Some(mut runtime) = Runtime::start() else { return };
    let (graph, batch) = (network(), batch(20));
    let device = Device::cpu();
    let net = FloatNet::new(&device, &graph, 20, Keep::Last).unwrap();
    let own = net.run(&batch).unwrap();
    for input in [InputForm::Pixels, InputForm::Normalized] {
        let file = float(&graph, input).unwrap();
        let answer = runtime.run(&file, input, &planes(&batch, 3), batch.count, &["logits".into(), "stage1.0".into()]);
        let worst = difference(&own, &answer.logits(5));
        assert!(worst < 1e-5, "{input:?}: {worst}");
        // The layer's name is that of its activation, after the ReLU.
        assert_eq!(answer.tensors["stage1.0"].len(), 4 * 20 * 8 * 8 * 8);
        assert_eq!(answer.metadata["repquant.form"], "float");
        assert_eq!(answer.metadata["repquant.source_digest"], graph.digest());
    }
}

#[test]
fn the_file_says_what_it_is() {
    let Some(mut runtime) = Runtime::start() else { return };
    let graph = made(&QuantizeOptions::default(), ActivationMode::Symmetric, 8);
    for format in [Format::Qdq, Format::Integer] {
        let file = quantized(&graph, format, InputForm::Normalized).unwrap();
        assert_eq!(file, quantized(&graph, format, InputForm::Normalized).unwrap());
        let answer = runtime.run(&file, InputForm::Normalized, &planes(&batch(1), 3), 1, &["logits".into()]);
        assert_eq!(answer.operators.len(), file.operations);
        let said = |key: &str| answer.metadata[&format!("repquant.{key}")].as_str();
        let json = |key: &str| serde_json::from_str::<serde_json::Value>(said(key)).unwrap();
        assert_eq!(said("version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(said("form"), format.to_string());
        assert_eq!(said("source_digest"), graph.source_digest);
        assert_eq!((json("options"), json("calibration")), (graph.options.clone(), graph.calibration.clone()));
        assert_eq!(json("classes")[4], "class 4");
        let preprocessing: Preprocessing = serde_json::from_str(said("preprocessing")).unwrap();
        assert_eq!((preprocessing.interpolation, &preprocessing), (Interpolation::Bilinear, &graph.input));
        // Every operation leads back to a layer, and every layer has some.
        let layer = |name: &String| name.split('/').next().unwrap().to_owned();
        let mut layers: Vec<String> = answer.names.iter().map(layer).collect();
        layers.dedup();
        assert_eq!(layers, graph.nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>(), "{:?}", answer.names);
    }
}
