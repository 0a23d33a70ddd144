//! Whole graphs: what each layer becomes, and that its integers mean what the float layer computes.

use ndarray::Axis;
use repquant::ErrorKind;
use repquant::internals::Random;
use repquant::internals::model::{
    CoarseScale, Computed, Constants, Graph, Multiplier, Op, QConv, QParams, QuantizedGraph, Support, Weights,
};
use repquant::internals::quantize::{Granularity, QuantizeOptions, SplitMode, dequantize, qmax, quantize};
use repquant::internals::threshold::ActivationMode;

use crate::common::network::{network, quantized, ranges, statistics};

fn options(split: SplitMode, support: Option<Support>) -> QuantizeOptions {
    QuantizeOptions { split, support, ..Default::default() }
}

/// Every mode, support, width and granularity that makes a difference.
pub(crate) fn variants() -> Vec<(QuantizeOptions, ActivationMode)> {
    let mut all = Vec::new();
    for split in [SplitMode::None, SplitMode::Paper, SplitMode::Aligned, SplitMode::Auto] {
        for support in [None, Some(Support::Center), Some(Support::Diagonal), Some(Support::Full)] {
            for (granularity, mode) in
                [(Granularity::Channel, ActivationMode::Affine), (Granularity::Tensor, ActivationMode::Symmetric)]
            {
                for weight_bits in [2, 4, 8] {
                    all.push((QuantizeOptions { granularity, weight_bits, ..options(split, support) }, mode));
                }
            }
        }
    }
    all
}

fn layer<'a>(graph: &'a QuantizedGraph, name: &str) -> (&'a QConv, usize) {
    let id = graph.nodes.iter().position(|node| node.name == name).unwrap();
    let computed = &graph.nodes[id].computed;
    (computed.int8_weights().unwrap_or_else(|| panic!("{name} is {computed:?}")), id)
}

fn splits(graph: &QuantizedGraph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.split.split.as_str()).collect()
}

#[test]
fn supports_follow_mode_and_kernel() {
    let of = |split, support| quantized(&options(split, support), ActivationMode::Symmetric);
    let aligned = of(SplitMode::Aligned, None);
    let center = "aligned/center";
    assert_eq!(splits(&aligned), ["none", center, center, center, "none", center, "none", "none"]);
    assert!(aligned.nodes[4].split.notes[0].contains("pointwise"));
    let center = "paper/center";
    assert_eq!(
        splits(&of(SplitMode::Paper, None)),
        ["none", center, center, center, "paper/full", center, "none", "none"]
    );
    // Stride 2 and 3 → 8 channels; 8 → 12 channels.
    let diagonal = "aligned/diagonal";
    let graph = of(SplitMode::Aligned, Some(Support::Diagonal));
    assert_eq!(splits(&graph), ["none", "none", diagonal, diagonal, "none", diagonal, "none", "none"]);
    assert!(graph.nodes[1].split.notes[0].contains("stride 2"));
    assert!(splits(&of(SplitMode::None, Some(Support::Full))).iter().all(|&split| split == "none"));
}

#[test]
fn shapes_lengths_and_limits() {
    for (options, mode) in variants() {
        let graph = quantized(&options, mode);
        for (node, float) in graph.nodes.iter().zip(&network().nodes) {
            let Some(conv) = node.computed.int8_weights() else { continue };
            let out = conv.out_channels();
            let is_conv = matches!(node.computed.as_integer().unwrap().op(), Op::Conv(_));
            let requantized = if is_conv { out } else { 0 };
            assert_eq!((conv.scale.len(), conv.bias.len()), (out, out));
            assert_eq!((conv.multiplier.len(), conv.right_shift.len()), (requantized, requantized));
            let limit = qmax(options.weight_bits);
            assert!(conv.fine.iter().all(|&q| i32::from(q).abs() <= limit));
            if options.granularity == Granularity::Tensor {
                assert!(conv.scale.iter().all(|&s| s == conv.scale[0]));
            }
            if let Some(coarse) = &conv.coarse {
                let [kh, kw] = conv.kernel();
                assert_eq!(coarse.weights.shape(), coarse.support.shape(out, conv.fine.dim().1, [kh, kw]));
                assert!(coarse.weights.iter().all(|&q| i32::from(q).abs() <= limit));
                if let CoarseScale::Shift(shift) = &coarse.scale {
                    assert!(shift.iter().all(|&k| k <= options.weight_bits + 1));
                    assert_eq!(shift.iter().max(), Some(&node.split.shift_max));
                    assert!(node.split.shift_max > 0);
                }
            }
            assert_eq!(node.relu, float.relu);
        }
    }
}

/// Output levels of one channel by integers, with the same arithmetic as a device: one accumulator
/// for each part, `levels` being one receptive field.
pub(crate) fn integer_output(
    conv: &QConv,
    o: usize,
    levels: &[i32],
    output: Option<&QParams>,
    relu: bool,
) -> (i64, Option<i8>) {
    let (_, per_group, kh, kw) = conv.fine.dim();
    let fine = conv.fine.index_axis(Axis(0), o);
    let acc_f =
        i64::from(conv.bias[o]) + fine.iter().zip(levels).map(|(&w, &q)| i64::from(w) * i64::from(q)).sum::<i64>();
    let mut acc_c = 0;
    if let Some(coarse) = &conv.coarse {
        let weights = coarse.weights.index_axis(Axis(0), o);
        for (position, &w) in coarse.support.positions(o, per_group, [kh, kw]).zip(&weights) {
            acc_c += i64::from(w) * i64::from(levels[position]);
        }
    }
    let requantize = |y: &QParams, acc: i64, other: Option<(i64, i32)>| {
        let m = Multiplier { multiplier: conv.multiplier[o], right_shift: conv.right_shift[o] };
        let low = if relu { y.zero_point } else { y.qmin };
        let acc = i32::try_from(acc).unwrap();
        match other {
            None => m.requantize(acc, y.zero_point, low, y.qmax),
            Some((c, m_c)) => m.requantize_sum(acc, i32::try_from(c).unwrap(), m_c, y.zero_point, low, y.qmax),
        }
    };
    match conv.coarse.as_ref().map(|c| &c.scale) {
        None => (acc_f, output.map(|y| requantize(y, acc_f, None))),
        Some(CoarseScale::Shift(shift)) => {
            let acc = acc_f + (acc_c << shift[o]);
            (acc, output.map(|y| requantize(y, acc, None)))
        }
        Some(CoarseScale::Own { multiplier, bias, .. }) => {
            let acc_c = acc_c + i64::from(bias[o]);
            (acc_f, output.map(|y| requantize(y, acc_f, Some((acc_c, multiplier[o])))))
        }
    }
}

/// For random inputs, the integers give the level nearest to the real output of the dequantized
/// layer, within what rounding the bias to a step of `s_x·s_f` can change.
#[test]
fn integers_mean_what_the_dequantized_layer_computes() {
    let mut random = Random::new(3);
    for (options, mode) in variants() {
        let graph = quantized(&options, mode);
        for (id, node) in graph.nodes.iter().enumerate() {
            let Some(conv) = node.computed.int8_weights() else { continue };
            let x = graph.nodes[node.inputs[0]].output.unwrap();
            let bias = match &network().nodes[id].op {
                Op::Conv(conv) | Op::Linear(conv) => conv.bias.clone(),
                _ => unreachable!(),
            };
            let real = dequantize(conv);
            for o in 0..conv.out_channels() {
                let kernel = real.index_axis(Axis(0), o);
                let low = if graph.nodes[node.inputs[0]].relu { x.zero_point } else { x.qmin };
                let levels: Vec<i32> =
                    kernel.iter().map(|_| low + random.below((x.qmax - low + 1) as usize) as i32).collect();
                let sum: f64 = kernel.iter().zip(&levels).map(|(w, &q)| w * x.dequantize(q)).sum();
                let want = sum + f64::from(bias[o]);
                let step = f64::from(x.scale) * f64::from(conv.scale[o]);
                let (acc, level) = integer_output(conv, o, &levels, node.output.as_ref(), node.relu);
                let Some(y) = node.output else {
                    let logit = acc as f64 * step;
                    assert!((logit - want).abs() <= step * 0.5001, "{} {o}: {logit} for {want}", node.name);
                    continue;
                };
                let exact = want / f64::from(y.scale) + f64::from(y.zero_point);
                let floor = if node.relu { y.zero_point } else { y.qmin };
                let exact = exact.clamp(f64::from(floor), f64::from(y.qmax));
                let slack = 0.5 + 0.5 * step / f64::from(y.scale) + 1e-4;
                let got = f64::from(level.unwrap());
                assert!((got - exact).abs() <= slack, "{} {o} {options:?}: {got} for {exact}", node.name);
            }
        }
    }
}

#[test]
fn first_and_last_layer_may_have_bits_of_their_own() {
    let options = QuantizeOptions { weight_bits: 4, first_last_bits: Some(8), ..Default::default() };
    let graph = quantized(&options, ActivationMode::Symmetric);
    let bits = |name| layer(&graph, name).0.bits;
    assert_eq!((bits("stage0"), bits("stage1.0"), bits("stage2.0"), bits("linear")), (8, 4, 4, 8));
    assert_eq!(graph.options["first_last_bits"], 8);
    assert_eq!(graph.options["threshold"], "minmax");
}

#[test]
fn float_layers_are_kept_and_unknown_ones_refused() {
    let keep = |names: &[&str]| QuantizeOptions {
        keep_float: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let graph = quantized(&keep(&["stage1.0", "linear"]), ActivationMode::Symmetric);
    assert!(matches!(&graph.nodes[2].computed, Computed::Float(Op::Conv(_))));
    assert!(graph.nodes[2].output.is_some());
    assert!(matches!(&graph.nodes[7].computed, Computed::Float(Op::Linear(_))));
    assert_eq!(graph.nodes[7].output, None);
    assert_eq!(graph.nodes[2].split.notes, ["kept in float"]);
    let (float, calibration) = (network(), statistics(&network()));
    let ranges = ranges(&calibration, ActivationMode::Symmetric);
    // The pooling is read by the classifier alone: kept with it, it gives what it computes.
    let graph = quantized(&keep(&["linear", "po*"]), ActivationMode::Symmetric);
    assert!(matches!(&graph.nodes[6].computed, Computed::Float(Op::GlobalAveragePool)));
    assert_eq!((graph.nodes[6].output, graph.nodes[5].output), (None, None));
    // All of them: nothing is quantized at all.
    let graph = quantized(&keep(&["*"]), ActivationMode::Symmetric);
    assert!(graph.nodes.iter().all(|node| matches!(node.computed, Computed::Float(_)) && node.output.is_none()));
    for name in ["stage9", "input"] {
        let error = quantize(&float, &ranges, &calibration, &keep(&[name])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("stage0, stage1.0, stage1.1.depthwise"), "{error}");
    }
}

#[test]
fn pooling_divides_by_the_area() {
    let graph = quantized(&QuantizeOptions::default(), ActivationMode::Symmetric);
    let (x, y) = (graph.nodes[5].output.unwrap(), graph.nodes[6].output.unwrap());
    let factor = f64::from(x.scale) / (f64::from(y.scale) * 64.0);
    let mean = Constants::Multiplier(Multiplier::new(factor).unwrap());
    assert_eq!(graph.nodes[6].computed, Computed::integer(Op::GlobalAveragePool, mean).unwrap());
}

/// The float graph changed by `edit`, quantized with the statistics of the unchanged one.
fn edited(edit: impl Fn(&mut Graph), options: &QuantizeOptions) -> repquant::Result<QuantizedGraph> {
    let mut graph = network();
    edit(&mut graph);
    let calibration = statistics(&graph);
    quantize(&graph, &ranges(&calibration, ActivationMode::Affine), &calibration, options)
}

fn edit_conv(graph: &mut Graph, id: usize, edit: impl Fn(&mut repquant::internals::model::Conv)) {
    let Op::Conv(conv) = &mut graph.nodes[id].op else { panic!("not a convolution") };
    edit(conv);
}

#[test]
fn a_dead_channel_has_scale_one() {
    for (options, _) in variants().into_iter().filter(|v| v.0.granularity == Granularity::Channel) {
        let zero = |graph: &mut Graph| edit_conv(graph, 5, |c| c.weight.index_axis_mut(Axis(0), 3).fill(0.0));
        let graph = edited(zero, &options).unwrap();
        let (conv, _) = layer(&graph, "stage2.0");
        assert_eq!(conv.scale[3], 1.0, "{options:?}");
        assert!(conv.fine.index_axis(Axis(0), 3).iter().all(|&q| q == 0));
        if let Some(coarse) = &conv.coarse {
            assert!(coarse.weights.index_axis(Axis(0), 3).iter().all(|&q| q == 0));
        }
    }
    // All of a layer, with one scale for it.
    let zero = |graph: &mut Graph| edit_conv(graph, 5, |c| c.weight.fill(0.0));
    let graph = edited(zero, &QuantizeOptions { granularity: Granularity::Tensor, ..Default::default() }).unwrap();
    assert!(layer(&graph, "stage2.0").0.scale.iter().all(|&s| s == 1.0));
}

/// A nearly dead channel: its scale would leave the bias 2^31 times too large.
#[test]
fn scales_are_raised_until_the_bias_fits() {
    for (options, _) in variants() {
        let shrink = |graph: &mut Graph| {
            edit_conv(graph, 5, |c| {
                c.weight.index_axis_mut(Axis(0), 3).mapv_inplace(|w| w * 1e-20);
                if options.granularity == Granularity::Tensor {
                    c.weight.mapv_inplace(|w| w * 1e-20);
                }
                c.bias[3] = 2.0;
            });
        };
        let graph = edited(shrink, &options).unwrap();
        let (conv, id) = layer(&graph, "stage2.0");
        let x = graph.nodes[id - 1].output.unwrap();
        let bias = f64::from(conv.bias[3]) * f64::from(x.scale) * f64::from(conv.scale[3]);
        // Close to the limit, so that no precision is given away; the weights have become 0.
        assert!((bias - 2.0).abs() < 1e-8 && conv.bias[3] > 1 << 30, "{options:?} {bias}");
        assert!(conv.fine.index_axis(Axis(0), 3).iter().all(|&q| q == 0));
        assert!(graph.nodes[id].split.notes.iter().any(|note| note.contains("1 scale was raised")), "{options:?}");
    }
}

/// Many inputs, all of them large in the centre, few large outer ones: the shifted coarse part
/// alone passes 2^31.
#[test]
fn scales_are_raised_until_the_sum_fits() {
    let widen = |graph: &mut Graph| {
        edit_conv(graph, 5, |c| {
            // 8 → 12 channels before it: as a kernel of 91×91 there are taps enough.
            let taps = 91;
            c.weight = ndarray::Array4::from_shape_fn(
                (12, 12, taps, taps),
                |(_, _, y, x)| {
                    if (y, x) == (0, 0) { 1e-3 } else { 1.0 }
                },
            );
            c.padding = [taps / 2; 2];
        });
    };
    for split in [SplitMode::None, SplitMode::Paper, SplitMode::Aligned] {
        let graph = edited(widen, &options(split, Some(Support::Full))).unwrap();
        let (conv, id) = layer(&graph, "stage2.0");
        let x = graph.nodes[id - 1].output.unwrap();
        let sum = |levels: ndarray::ArrayView3<i8>| levels.iter().map(|&q| i64::from(q).abs()).sum::<i64>();
        let raised = graph.nodes[id].split.notes.iter().any(|note| note.contains("raised"));
        let worst = match &conv.coarse {
            None => sum(conv.fine.index_axis(Axis(0), 0)),
            Some(coarse) => {
                let coarse_sum = sum(coarse.weights.index_axis(Axis(0), 0));
                match &coarse.scale {
                    CoarseScale::Own { .. } => coarse_sum.max(sum(conv.fine.index_axis(Axis(0), 0))),
                    CoarseScale::Shift(shift) => {
                        let levels = conv.fine.index_axis(Axis(0), 0);
                        let coarse = coarse.weights.index_axis(Axis(0), 0);
                        levels
                            .iter()
                            .zip(coarse)
                            .map(|(&f, &c)| (i64::from(f) + (i64::from(c) << shift[0])).abs())
                            .sum()
                    }
                }
            }
        };
        let bound = worst * x.reach(true) + 1;
        assert!(raised && bound < 1 << 31 && bound > 1 << 30, "{split}: {bound}");
    }
}

#[test]
fn errors_name_the_layer() {
    let text = |edit: &dyn Fn(&mut Graph)| edited(edit, &QuantizeOptions::default()).unwrap_err().to_string();
    let nan = text(&|graph| edit_conv(graph, 2, |c| c.weight[[1, 2, 0, 0]] = f32::NAN));
    assert!(nan.starts_with("stage1.0: ") && nan.contains("not a finite number"), "{nan}");
    let huge = text(&|graph| edit_conv(graph, 5, |c| c.weight.mapv_inplace(|w| w * 1e20)));
    assert!(huge.starts_with("stage2.0: output channel") && huge.contains("requantization factor"), "{huge}");
}

#[test]
fn statistics_and_ranges_must_be_of_the_graph() {
    let graph = network();
    let calibration = statistics(&graph);
    let ranges = ranges(&calibration, ActivationMode::Symmetric);
    let mut other = graph.clone();
    edit_conv(&mut other, 1, |c| c.bias[0] += 1.0);
    let error = quantize(&other, &ranges, &calibration, &QuantizeOptions::default()).unwrap_err();
    assert!(error.to_string().contains("another model"), "{error}");
    let mut fewer = ranges.clone();
    fewer.ranges.remove(3);
    let error = quantize(&graph, &fewer, &calibration, &QuantizeOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("stage1.1.depthwise: "), "{error}");
    let bad = QuantizeOptions { weight_bits: 9, ..Default::default() };
    assert_eq!(quantize(&graph, &ranges, &calibration, &bad).unwrap_err().kind(), ErrorKind::Usage);
}

/// An activation that is always zero has scale 1 and quantizes like any other.
#[test]
fn an_activation_that_is_always_zero() {
    let graph = network();
    let mut calibration = statistics(&graph);
    let mut silent = repquant::internals::calibrate::ActivationStats::new("stage1.0", 8);
    silent.add(&vec![0.0; 8 * 4000], 8).unwrap();
    calibration.activations[2] = silent;
    let ranges = ranges(&calibration, ActivationMode::Symmetric);
    for split in [SplitMode::Aligned, SplitMode::Auto] {
        let found = quantize(&graph, &ranges, &calibration, &options(split, None)).unwrap();
        assert_eq!(found.nodes[2].output.unwrap().scale, 1.0);
    }
}
