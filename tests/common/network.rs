//! A small network with every kind of layer, and statistics made up for it.

use ndarray::{Array1, Array2, Array4, s};
use repquant::internals::Random;
use repquant::internals::calibrate::Calibration;
use repquant::internals::model::{
    Color, Conv, Decode, Fit, Graph, GraphOutput, Interpolation, Node, Op, Preprocessing, QuantizedGraph, Shape,
};
use repquant::internals::quantize::{QuantizeOptions, quantize};
use repquant::internals::threshold::{ActivationMode, ActivationRanges, Method, RangeOptions, choose};

/// A convolution whose centre is much wider than its neighbours, that of the own channel widest of
/// all.
pub(crate) fn conv(
    random: &mut Random,
    out: usize,
    per_group: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
) -> Conv {
    let center = kernel / 2;
    let weight = Array4::from_shape_fn((out, per_group, kernel, kernel), |(o, i, y, x)| {
        let middle = (y, x) == (center, center);
        let own = if middle && i == o % per_group && stride == 1 { 0.7 } else { 0.0 };
        (own + random.between(-1.0, 1.0) * if middle { 0.2 } else { 0.03 }) as f32
    });
    let bias = Array1::from_shape_fn(out, |_| (random.between(-1.0, 1.0) * 0.3) as f32);
    Conv { weight, bias, stride: [stride; 2], padding: [center; 2], groups }
}

/// Stem, grouped, depthwise, pointwise, plain 3×3, pooling, classifier; 16×16 input.
pub(crate) fn network() -> Graph {
    let mut random = Random::new(7);
    let mut nodes =
        vec![Node { name: "input".into(), op: Op::Input(Shape::new(3, 16, 16)), inputs: vec![], relu: false }];
    let convs = [
        ("stage0", conv(&mut random, 8, 3, 3, 2, 1)),
        ("stage1.0", conv(&mut random, 8, 4, 3, 1, 2)),
        ("stage1.1.depthwise", conv(&mut random, 8, 1, 3, 1, 8)),
        ("stage1.1.pointwise", conv(&mut random, 12, 8, 1, 1, 1)),
        ("stage2.0", conv(&mut random, 12, 12, 3, 1, 1)),
    ];
    for (name, conv) in convs {
        nodes.push(Node { name: name.into(), op: Op::Conv(conv), inputs: vec![nodes.len() - 1], relu: true });
    }
    nodes.push(Node { name: "pool".into(), op: Op::GlobalAveragePool, inputs: vec![nodes.len() - 1], relu: false });
    let weight = Array2::from_shape_fn((5, 12), |_| random.between(-1.0, 1.0) as f32);
    let linear = Conv::linear(weight, Array1::from_shape_fn(5, |_| random.between(-1.0, 1.0) as f32));
    nodes.push(Node { name: "linear".into(), op: Op::Linear(linear), inputs: vec![nodes.len() - 1], relu: false });
    Graph {
        name: "small".into(),
        input: Preprocessing {
            size: [16, 16],
            resize: None,
            interpolation: Interpolation::Bilinear,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            fit: Fit::Crop,
            color: Color::Rgb,
            decode: Decode::Full,
        },
        classes: Some((0..5).map(|i| format!("class {i}")).collect()),
        outputs: vec![GraphOutput { name: "logits".into(), node: nodes.len() - 1, sides: vec![5], one_image: false }],
        nodes,
        notes: Vec::new(),
    }
}

/// [`network`] for gray images.
pub(crate) fn gray_network() -> Graph {
    let mut graph = network();
    graph.nodes[0].op = Op::Input(Shape::new(1, 16, 16));
    if let Op::Conv(conv) = &mut graph.nodes[1].op {
        conv.weight = conv.weight.slice(s![.., ..1, .., ..]).to_owned();
    }
    graph.input = Preprocessing { mean: vec![0.45], std: vec![0.22], color: Color::Gray, ..graph.input };
    graph
}

/// Statistics of made-up activations, non-negative after a `ReLU` and in the pooled features.
pub(crate) fn statistics(graph: &Graph) -> Calibration {
    let mut random = Random::new(11);
    let mut calibration = Calibration::new(graph);
    calibration.images = 4;
    for (stats, node) in calibration.activations.iter_mut().zip(&graph.nodes) {
        let channels = stats.channels();
        let positive = !matches!(node.op, Op::Input(_));
        let values: Vec<f32> = (0..channels * 4000)
            .map(|i| {
                let x = (1.0 + (i % channels) as f64) * 0.3 * random.between(-1.0, 1.0);
                (if positive { x.max(0.0) } else { x }) as f32
            })
            .collect();
        stats.add(&values, channels).unwrap();
    }
    calibration
}

/// Ranges by the largest value, symmetric or affine.
pub(crate) fn ranges(calibration: &Calibration, mode: ActivationMode) -> ActivationRanges {
    choose(calibration, &RangeOptions { method: Method::MinMax, bits: 8, mode }).unwrap()
}

/// The small network under `options`.
pub(crate) fn quantized(options: &QuantizeOptions, mode: ActivationMode) -> QuantizedGraph {
    let graph = network();
    let calibration = statistics(&graph);
    quantize(&graph, &ranges(&calibration, mode), &calibration, options).unwrap()
}
