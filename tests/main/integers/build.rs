//! Quantized graphs made by hand.

use ndarray::{Array1, Array2, Array4};
use repquant::internals::Random;
use repquant::internals::model::{
    Activation, Binary, Color, Computed, Constants, Conv, Decode, Fit, GraphOutput, Interpolation, Multiplier, NodeId,
    Op, Preprocessing, QBinary, QConv, QNode, QParams, QuantizedGraph, Shape, SplitReport, Table,
};

/// A graph that grows node by node.
pub(crate) struct Build {
    graph: QuantizedGraph,
    random: Random,
}

/// How an activation is stored: a power of two as scale.
pub(crate) fn q(exponent: i32, zero_point: i32, qmin: i32, qmax: i32) -> QParams {
    QParams { scale: 2f32.powi(exponent), zero_point, qmin, qmax }
}

impl Build {
    /// Begins with an input of 3 colours, whose levels are the pixels' less 128.
    pub(crate) fn new(seed: u64, height: usize, width: usize) -> Self {
        let input = Preprocessing {
            size: [height, width],
            resize: None,
            interpolation: Interpolation::Bilinear,
            mean: vec![0.0; 3],
            // 256/255, so that a colour's 255 levels are 255 steps of 2^−8.
            std: vec![256.0 / 255.0; 3],
            fit: Fit::Crop,
            color: Color::Rgb,
            decode: Decode::Full,
        };
        let graph = QuantizedGraph {
            name: "by hand".into(),
            input,
            classes: None,
            source_digest: String::new(),
            options: serde_json::Value::Null,
            calibration: serde_json::Value::Null,
            nodes: Vec::new(),
            outputs: Vec::new(),
        };
        let mut build = Self { graph, random: Random::new(seed) };
        build.plain(Op::Input(Shape::new(3, height, width)), &[], false, Some(q(-8, -128, -128, 127)));
        build
    }

    pub(crate) fn add(&mut self, computed: Computed, inputs: &[NodeId], relu: bool, output: Option<QParams>) -> NodeId {
        let name = format!("node {}", self.graph.nodes.len());
        let (exponents, split) = (Vec::new(), SplitReport::default());
        self.graph.nodes.push(QNode { name, computed, inputs: inputs.to_vec(), relu, output, exponents, split });
        self.graph.nodes.len() - 1
    }

    /// An operation in integers that needs no constants.
    pub(crate) fn plain(&mut self, op: Op<QConv>, inputs: &[NodeId], relu: bool, output: Option<QParams>) -> NodeId {
        self.add(Computed::plain(op).unwrap(), inputs, relu, output)
    }

    /// An operation in integers that stores its output.
    pub(crate) fn with(&mut self, op: Op<QConv>, constants: Constants, inputs: &[NodeId], output: QParams) -> NodeId {
        self.add(Computed::integer(op, constants).unwrap(), inputs, false, Some(output))
    }

    /// An operation in f32 of one or more inputs.
    pub(crate) fn float(&mut self, op: Op, inputs: &[NodeId], relu: bool, output: Option<QParams>) -> NodeId {
        self.add(Computed::Float(op), inputs, relu, output)
    }

    pub(crate) fn shape(&self, node: NodeId) -> Shape {
        self.graph.shapes()[node]
    }

    pub(crate) fn stored(&self, node: NodeId) -> QParams {
        self.graph.nodes[node].output.unwrap()
    }

    /// A convolution to `out` channels, its kernel odd and padded so that the size stays; levels
    /// where there is an output.
    pub(crate) fn conv(
        &mut self,
        x: NodeId,
        out: usize,
        kernel: usize,
        groups: usize,
        relu: bool,
        output: Option<QParams>,
    ) -> NodeId {
        let conv = self.layer(x, out, kernel, groups, output.is_some());
        self.plain(Op::Conv(conv), &[x], relu, output)
    }

    /// Its weights are small, its multipliers such that the levels spread.
    pub(crate) fn layer(&mut self, x: NodeId, out: usize, kernel: usize, groups: usize, requantizes: bool) -> QConv {
        let inputs = self.shape(x).channels / groups;
        let zero = i64::from(self.stored(x).zero_point);
        let random = &mut self.random;
        let fine = Array4::from_shape_simple_fn((out, inputs, kernel, kernel), || random.integer(-7, 7) as i8);
        let sums = fine.outer_iter().map(|w| w.iter().map(|&w| i64::from(w)).sum::<i64>());
        let bias = sums.map(|sum| (random.integer(-900, 900) - zero * sum) as i32).collect();
        let count = if requantizes { out } else { 0 };
        let spread = 4.0 * ((inputs * kernel * kernel) as f64).sqrt();
        let factors: Vec<Multiplier> =
            (0..count).map(|_| Multiplier::new(random.integer(5, 20) as f64 / 10.0 / spread).unwrap()).collect();
        QConv {
            bits: 8,
            fine,
            coarse: None,
            scale: Array1::from_shape_simple_fn(out, || 2f32.powi(random.integer(-3, 0) as i32)),
            bias,
            multiplier: factors.iter().map(|m| m.multiplier).collect(),
            right_shift: factors.iter().map(|m| m.right_shift).collect(),
            stride: [1, 1],
            padding: [kernel / 2; 2],
            groups,
        }
    }

    /// A classifier over C×1×1.
    pub(crate) fn linear(&mut self, x: NodeId, out: usize) -> NodeId {
        let layer = self.layer(x, out, 1, 1, false);
        self.plain(Op::Linear(layer), &[x], false, None)
    }

    /// `a·f_a + b·f_b`; the second factor may be negative.
    pub(crate) fn sum(&mut self, [a, b]: [NodeId; 2], factors: [f64; 2], relu: bool, output: QParams) -> NodeId {
        let multipliers = factors.map(|factor| (factor * 2f64.powi(30)) as i32);
        let function = if multipliers[1] < 0 { Binary::Sub } else { Binary::Add };
        let constants = Constants::Binary(QBinary::Sum { multipliers, right_shift: 30 });
        self.add(Computed::integer(Op::Binary(function), constants).unwrap(), &[a, b], relu, Some(output))
    }

    /// `a·b·factor`.
    pub(crate) fn product(&mut self, inputs: [NodeId; 2], factor: f64, output: QParams) -> NodeId {
        let constants = Constants::Binary(QBinary::Product(Multiplier::new(factor).unwrap()));
        self.with(Op::Binary(Binary::Mul), constants, &inputs, output)
    }

    /// The mean of each channel.
    pub(crate) fn average(&mut self, x: NodeId, output: QParams) -> NodeId {
        let multiplier = Multiplier::new(1.7 / self.shape(x).pixels() as f64).unwrap();
        self.with(Op::GlobalAveragePool, Constants::Multiplier(multiplier), &[x], output)
    }

    /// A function of each value.
    pub(crate) fn table(&mut self, x: NodeId, output: QParams, f: impl Fn(f64) -> f64) -> NodeId {
        let table = Table::of(&self.stored(x), &output, f);
        // Only what a file says of it.
        let function = Activation::Sigmoid;
        self.with(Op::Activation(function), Constants::Table(table), &[x], output)
    }

    /// A convolution in f32 whose values are exact: weights of eighths.
    pub(crate) fn float_conv(
        &mut self,
        x: NodeId,
        out: usize,
        kernel: usize,
        relu: bool,
        output: Option<QParams>,
    ) -> NodeId {
        let inputs = self.shape(x).channels;
        let mut eighths = || self.random.integer(-7, 7) as f32 / 8.0;
        let weight = Array4::from_shape_simple_fn((out, inputs, kernel, kernel), &mut eighths);
        let bias = Array1::from_shape_simple_fn(out, &mut eighths);
        let conv = Conv { weight, bias, stride: [1, 1], padding: [kernel / 2; 2], groups: 1 };
        self.float(Op::Conv(conv), &[x], relu, output)
    }

    /// A classifier in f32, its weights whole.
    pub(crate) fn float_linear(&mut self, x: NodeId, out: usize) -> NodeId {
        let inputs = self.shape(x).channels;
        let mut whole = || self.random.integer(-3, 3) as f32;
        let weight = Array2::from_shape_simple_fn((out, inputs), &mut whole);
        let bias = Array1::from_shape_simple_fn(out, &mut whole);
        self.float(Op::Linear(Conv::linear(weight, bias)), &[x], false, None)
    }

    /// The graph that gives these nodes.
    pub(crate) fn outputs(mut self, nodes: &[NodeId]) -> QuantizedGraph {
        for &node in nodes {
            let Shape { channels, height, width } = self.shape(node);
            let name = format!("output {node}");
            self.graph.outputs.push(GraphOutput { name, node, sides: vec![channels, height, width], one_image: false });
        }
        self.graph
    }
}
