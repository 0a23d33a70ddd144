//! What each layer costs, beside an f64 twin; what is said to help does.

use std::cell::RefCell;

use ndarray::{Array1, Array3};
use repquant::internals::Random;
use repquant::internals::analyze::costs;
use repquant::internals::calibrate::{Calibration, calibrate};
use repquant::internals::images::{Batch, Content};
use repquant::internals::model::{CoarseScale, Computed, Graph, Op, QConv, QParams, QuantizedGraph, Weights};
use repquant::internals::quantize::{Granularity, LayerChoice, QuantizeOptions, SplitMode, quantize};
use repquant::internals::threshold::{ActivationMode, ActivationRanges, Method, RangeOptions, choose};
use repquant::progress::{Event, Silent, Stage};
use repquant::report::{Cost, CureRow, LayerCost};
use repquant::{Device, ErrorKind, Progress};

use super::branched::{branched, id, image};
use super::plain::{apply, convolve, run_float};
use crate::common::devices;
use crate::common::network::network;

/// A network, images for it, and how it is quantized.
struct Bench {
    graph: Graph,
    images: Vec<Array3<f64>>,
    calibration: Calibration,
    options: QuantizeOptions,
    ranges: RangeOptions,
}

impl Bench {
    fn new(graph: Graph, options: QuantizeOptions, ranges: RangeOptions) -> Self {
        let mut random = Random::new(77);
        let images: Vec<Array3<f64>> = (0..6).map(|_| image(&mut random, &graph)).collect();
        let all = batches(&graph, &images, 6);
        let calibration = calibrate(&Device::cpu(), &graph, &mut all.into_iter().map(Ok), 6, None, &Silent).unwrap();
        Self { graph, images, calibration, options, ranges }
    }

    fn chosen(&self) -> ActivationRanges {
        choose(&self.calibration, &self.ranges).unwrap()
    }

    fn quantized(&self) -> QuantizedGraph {
        quantize(&self.graph, &self.chosen(), &self.calibration, &self.options).unwrap()
    }

    fn costs_on(&self, device: &Device, batch: usize) -> Vec<LayerCost> {
        let made = (&self.options, &self.ranges, &self.calibration);
        costs(device, &self.graph, &self.quantized(), made, &batches(&self.graph, &self.images, batch), &Silent)
            .unwrap()
    }

    fn costs(&self) -> Vec<LayerCost> {
        self.costs_on(&Device::cpu(), 4)
    }

    /// SQNR of each output in decibels with a node changed so, in f64.
    fn twin(&self, changed: usize, weights: Option<(&QConv, QParams)>, inputs: &[Option<QParams>]) -> Vec<Option<f64>> {
        let mut sums = vec![[0.0; 2]; self.graph.outputs.len()];
        for image in &self.images {
            let float = run_float(&self.graph, image);
            let mut values = float.clone();
            for (id, node) in self.graph.nodes.iter().enumerate().skip(changed.max(1)) {
                let mut read: Vec<Array3<f64>> = node.inputs.iter().map(|&input| values[input].clone()).collect();
                if id == changed {
                    for (x, q) in read.iter_mut().zip(inputs) {
                        if let Some(q) = q {
                            x.mapv_inplace(|x| q.dequantize(q.quantize(x)));
                        }
                    }
                }
                let read: Vec<&Array3<f64>> = read.iter().collect();
                values[id] = match weights.filter(|_| id == changed) {
                    Some((conv, x)) => layer(conv, x, node.relu, read[0]),
                    None => apply(&node.op, node.relu, &read),
                };
            }
            for (sums, output) in sums.iter_mut().zip(&self.graph.outputs) {
                for (y, q) in float[output.node].iter().zip(&values[output.node]) {
                    sums[0] += y * y;
                    sums[1] += (y - q).powi(2);
                }
            }
        }
        sums.iter().map(|[signal, noise]| (*noise > 0.0).then(|| 10.0 * (signal / noise).log10())).collect()
    }
}

/// The real function of a layer's integers.
fn layer(conv: &QConv, x: QParams, relu: bool, values: &Array3<f64>) -> Array3<f64> {
    let (_, per_group, kh, kw) = conv.fine.dim();
    let mut weight = conv.fine.mapv(f64::from);
    let mut bias = Array1::zeros(conv.out_channels());
    for o in 0..conv.out_channels() {
        let s_f = f64::from(conv.scale[o]);
        let mut kernel = weight.index_axis_mut(ndarray::Axis(0), o);
        let mut levels = kernel.sum();
        kernel.mapv_inplace(|q| q * s_f);
        if let Some(coarse) = &conv.coarse {
            let of_channel = coarse.weights.index_axis(ndarray::Axis(0), o);
            let step = match &coarse.scale {
                CoarseScale::Shift(k) => {
                    levels += of_channel.iter().map(|&q| f64::from(q) * f64::from(1 << k[o])).sum::<f64>();
                    s_f * f64::from(1 << k[o])
                }
                CoarseScale::Own { scale, .. } => f64::from(scale[o]),
            };
            let taps: Vec<usize> = coarse.support.positions(o, per_group, [kh, kw]).collect();
            for (at, &q) in taps.into_iter().zip(&of_channel) {
                kernel[[at / (kh * kw), at / kw % kh, at % kw]] += step * f64::from(q);
            }
        }
        let steps = f64::from(conv.bias[o]) + f64::from(x.zero_point) * levels;
        bias[o] = (steps * s_f * f64::from(x.scale)) as f32;
    }
    let y = convolve(&weight, &bias, conv.stride, conv.padding, conv.groups, values);
    if relu { y.mapv(|v| v.max(0.0)) } else { y }
}

fn batches(graph: &Graph, images: &[Array3<f64>], batch: usize) -> Vec<Batch> {
    let [height, width] = graph.input.size;
    let mut all = Batch { content: Content::Values(Vec::new()), ..Batch::empty([height, width]) };
    for (index, image) in images.iter().enumerate() {
        let mut words = Vec::new();
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            words.extend((0..3).map(|c| (image[[c, y, x]] as f32).to_bits()).chain([0]));
        }
        all.push_values(format!("image {index}"), None, &words).unwrap();
    }
    all.split(batch).collect()
}

fn ranges(method: Method, mode: ActivationMode, bits: u8) -> RangeOptions {
    RangeOptions { method, bits, mode }
}

/// Within a thousandth of a decibel: floats differ by the rounding of their sums.
fn close(found: Option<f64>, expected: Option<f64>, what: &str) {
    match (found, expected) {
        // What is far below all noise there is: sums in another order.
        (None | Some(120.0..), None | Some(120.0..)) => {}
        (Some(found), Some(expected)) => assert!((found - expected).abs() < 0.02, "{what}: {found}, not {expected}"),
        _ => panic!("{what}: {found:?}, not {expected:?}"),
    }
}

/// Every operation, several outputs, kept layers; grouped and depthwise layers and a classifier.
#[test]
fn each_layer_costs_what_a_twin_in_f64_says() {
    let kept = vec!["mix".to_owned(), "sum".to_owned()];
    let cases = [
        (branched(), QuantizeOptions::default(), ranges(Method::MinMax, ActivationMode::Symmetric, 8)),
        (
            branched(),
            QuantizeOptions { weight_bits: 4, keep_float: kept, ..Default::default() },
            ranges(Method::MinMax, ActivationMode::Affine, 5),
        ),
        (
            network(),
            QuantizeOptions { weight_bits: 4, ..Default::default() },
            ranges(Method::Mse, ActivationMode::Affine, 6),
        ),
        (
            network(),
            QuantizeOptions {
                weight_bits: 5,
                split: SplitMode::Paper,
                granularity: Granularity::Tensor,
                ..Default::default()
            },
            ranges(Method::MinMax, ActivationMode::Symmetric, 8),
        ),
    ];
    for (graph, options, ranges) in cases {
        let bench = Bench::new(graph, options, ranges);
        let quantized = bench.quantized();
        for device in devices() {
            let rows = bench.costs_on(device, 4);
            check(&bench, &quantized, &rows, &device.info().name);
        }
    }
}

fn check(bench: &Bench, quantized: &QuantizedGraph, rows: &[LayerCost], device: &str) {
    let graph = &bench.graph;
    let mut expected = 0;
    for (node, int8) in graph.nodes.iter().zip(&quantized.nodes) {
        let inputs: Vec<Option<QParams>> = node.inputs.iter().map(|&input| quantized.nodes[input].output).collect();
        let conv = int8.computed.int8_weights();
        let moves = node.op.passes_values() && matches!(int8.computed, Computed::Integer(_));
        let reads = inputs.iter().any(Option::is_some) && !moves;
        let row = rows.iter().find(|row| row.name == node.name);
        assert_eq!(row.is_some(), reads, "{}: a layer that reads levels has a row", node.name);
        let Some(row) = row else { continue };
        expected += 1;
        let id = id(graph, &node.name);
        let none = vec![None; inputs.len()];
        let weights = conv.map(|conv| (conv, inputs[0].unwrap()));
        let parts = [
            ("weights", row.weights.as_ref(), weights.map(|weights| bench.twin(id, Some(weights), &none))),
            ("input", row.activation.as_ref(), Some(bench.twin(id, None, &inputs))),
            ("both", Some(&row.both), Some(bench.twin(id, weights, &inputs))),
        ];
        for (part, found, twin) in parts {
            assert_eq!(found.is_some(), twin.is_some(), "{} {part}", node.name);
            for (output, twin) in found.iter().flat_map(|found| &found.outputs).zip(twin.iter().flatten()) {
                close(output.sqnr_db, *twin, &format!("{device}: {} {part} {}", node.name, output.name));
                assert!(output.least_db.is_none_or(|least| least <= output.sqnr_db.unwrap_or(f64::INFINITY)));
            }
        }
        assert_eq!(row.both.agreement.is_some(), graph.class_count().is_some());
        assert_eq!(row.weight_bits, conv.map(|conv| conv.bits));
    }
    assert_eq!(rows.len(), expected);
    // The worst first; shares of all noise.
    let noise: Vec<f64> = rows.iter().map(|row| row.both.least_db.map_or(0.0, |db| 10f64.powf(-db / 10.0))).collect();
    assert!(noise.is_sorted_by(|a, b| a >= b), "{noise:?}");
    let shares: f64 = rows.iter().map(|row| row.share).sum();
    assert!((shares - 1.0).abs() < 1e-9);
    assert!((rows[0].share - noise[0] / noise.iter().sum::<f64>()).abs() < 1e-9);
}

/// One weight of every kernel, off the centre, is far wider than the others: four bits keep little else.
fn with_outliers(name: &str) -> Graph {
    let mut graph = network();
    let at = id(&graph, name);
    let Op::Conv(conv) = &mut graph.nodes[at].op else { panic!("{name}") };
    for mut kernel in conv.weight.outer_iter_mut() {
        kernel[[0, 0, 0]] = 12.0;
    }
    graph
}

#[test]
fn the_layer_to_blame_is_first_and_what_helps_it_does() {
    let name = "stage1.0";
    let layers = vec![(name.to_owned(), "4".parse().unwrap())];
    let options = QuantizeOptions { layers, ..Default::default() };
    let mut bench = Bench::new(with_outliers(name), options, ranges(Method::Mse, ActivationMode::Affine, 8));
    let before = bench.quantized();
    let rows = bench.costs();
    assert_eq!(rows[0].name, name, "{:?}", rows.iter().map(|row| (&row.name, row.share)).collect::<Vec<_>>());
    let db = |cost: Option<&Cost>| cost.unwrap().least_db.unwrap();
    assert!(db(rows[0].weights.as_ref()) + 6.0 < db(rows[0].activation.as_ref()));
    let choices: Vec<LayerChoice> = rows[0].cures.iter().filter_map(|cure| cure.setting.layer).collect();
    for choice in ["6", "4,full", "float"] {
        assert!(choices.contains(&choice.parse().unwrap()), "{name} {choice}: {choices:?}");
    }
    for cure in rows[0].cures.clone() {
        let choice = cure.setting.layer.unwrap();
        bench.options.layers = vec![(name.to_owned(), choice)];
        let after = bench.quantized();
        costs_as_said(&cure, &before, &after);
        let again = bench.costs();
        let row = again.iter().find(|row| row.name == name);
        match (row.and_then(|row| row.both.least_db), cure.least_db) {
            (Some(found), Some(said)) => assert!((found - said).abs() < 1e-6, "{choice}: {found}, not {said}"),
            (found, said) => assert_eq!(found, said, "{choice}"),
        }
    }
}

/// The bytes and multiplications that a cure adds are those that the network gets.
fn costs_as_said(cure: &CureRow, before: &QuantizedGraph, after: &QuantizedGraph) {
    let macs = |graph: &QuantizedGraph| (graph.macs().0 + graph.macs().1) as i64;
    assert_eq!(cure.bytes, after.weight_bytes() as i64 - before.weight_bytes() as i64, "{cure:?}");
    assert_eq!(cure.macs, macs(after) - macs(before), "{cure:?}");
}

/// A layer that reads an activation with one channel far wider than the others: other ranges help.
#[test]
fn ranges_help_where_what_is_read_is_to_blame() {
    let mut graph = network();
    let at = id(&graph, "stage1.1.pointwise");
    if let Op::Conv(conv) = &mut graph.nodes[at].op {
        conv.bias[0] = 40.0;
    }
    let mut bench = Bench::new(graph, QuantizeOptions::default(), ranges(Method::MinMax, ActivationMode::Symmetric, 5));
    let rows = bench.costs();
    let name = rows[0].name.clone();
    let db = |cost: Option<&Cost>| cost.and_then(|cost| cost.least_db).unwrap_or(f64::INFINITY);
    assert!(db(rows[0].weights.as_ref()) > 10.0 + db(rows[0].activation.as_ref()), "{:?}", rows[0]);
    let others: Vec<CureRow> = rows[0].cures.iter().filter(|cure| cure.setting.layer.is_none()).cloned().collect();
    let wider = others.iter().find(|cure| cure.setting.activation_bits == Some(8)).expect("more bits help");
    assert!(wider.least_db > rows[0].both.least_db && (wider.bytes, wider.macs) == (0, 0));
    for cure in others {
        let setting = &cure.setting;
        let before = bench.ranges.clone();
        if let Some(method) = &setting.threshold {
            bench.ranges.method = method.parse().unwrap();
        }
        if let Some(mode) = &setting.activations {
            bench.ranges.mode = mode.parse().unwrap();
        }
        bench.ranges.bits = setting.activation_bits.unwrap_or(before.bits);
        let row = bench.costs().into_iter().find(|row| row.name == name).unwrap();
        // Biases are held in other steps then.
        close(row.both.least_db, cure.least_db, &setting.to_string());
        bench.ranges = before;
    }
}

#[test]
fn batches_do_not_matter_and_every_layer_is_told() {
    struct Told(RefCell<Vec<Event>>);
    impl Progress for Told {
        fn event(&self, event: Event) {
            self.0.borrow_mut().push(event);
        }
    }
    let bench = Bench::new(branched(), QuantizeOptions::default(), ranges(Method::Mse, ActivationMode::Affine, 8));
    let rows = bench.costs_on(&Device::cpu(), 6);
    assert_eq!(bench.costs_on(&Device::cpu(), 1), rows);
    let told = Told(RefCell::default());
    let made = (&bench.options, &bench.ranges, &bench.calibration);
    let split = batches(&bench.graph, &bench.images, 2);
    costs(&Device::cpu(), &bench.graph, &bench.quantized(), made, &split, &told).unwrap();
    let told = told.0.into_inner();
    let begun = Event::Begin { stage: Stage::Analyze, total: Some(3 * rows.len() as u64) };
    assert_eq!(told[0], begun);
    assert_eq!(told[1..=3 * rows.len()], vec![Event::Advance { stage: Stage::Analyze, items: 1 }; 3 * rows.len()]);
    assert_eq!(told[3 * rows.len() + 1], Event::End { stage: Stage::Analyze });
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let bench = Bench::new(network(), QuantizeOptions::default(), ranges(Method::Mse, ActivationMode::Affine, 8));
    let quantized = bench.quantized();
    let images = batches(&bench.graph, &bench.images, 6);
    let on = |graph: &Graph, options: &QuantizeOptions, ranges: &RangeOptions, images: &[Batch]| {
        let made = (options, ranges, &bench.calibration);
        costs(&Device::cpu(), graph, &quantized, made, images, &Silent).unwrap_err()
    };
    let other = QuantizeOptions { weight_bits: 4, ..Default::default() };
    assert_eq!(on(&bench.graph, &other, &bench.ranges, &images).kind(), ErrorKind::Usage);
    let other = ranges(Method::Kl, ActivationMode::Affine, 8);
    assert_eq!(on(&bench.graph, &bench.options, &other, &images).kind(), ErrorKind::Usage);
    assert_eq!(on(&branched(), &bench.options, &bench.ranges, &images).kind(), ErrorKind::Input);
    let none = on(&bench.graph, &bench.options, &bench.ranges, &[]);
    assert!(none.to_string().contains("no images"), "{none}");
}
