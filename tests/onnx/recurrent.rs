//! A text recognizer in small: convolutions, recurrent layers, a matrix for each step.

use ndarray::{Array2, Array3};
use repquant::Device;
use repquant::internals::Random;
use repquant::internals::calibrate::calibrate;
use repquant::internals::exec::{FloatNet, Keep};
use repquant::internals::export::onnx::{Format, InputForm, float, quantized};
use repquant::internals::images::Batch;
use repquant::internals::model::{
    Cell, Computed, Direction, Graph, GraphOutput, Node, NodeId, Op, QNode, Rearrange, RearrangeKind, Recurrent, Shape,
};
use repquant::internals::quantize::{QuantizeOptions, quantize};
use repquant::internals::threshold::{ActivationMode, RangeOptions, choose};
use repquant::progress::Silent;

use crate::common::network::{conv, network};
use crate::common::recurrent::cells;
use crate::compare::{assert_same_integers, planes};
use crate::runtime::Runtime;

/// Columns as steps through LSTM and GRU; and rows as sequences of their own, of which one output
/// has the memory.
fn recognizer() -> Graph {
    let mut random = Random::new(13);
    let mut graph = network();
    graph.nodes.truncate(1);
    graph.input.size = [4, 6];
    graph.nodes[0].op = Op::Input(Shape::new(3, 4, 6));
    graph.classes = None;
    let mut push = |name: &str, op: Op, input: NodeId| {
        graph.nodes.push(Node { name: name.into(), op, inputs: vec![input], relu: false });
        graph.nodes.len() - 1
    };
    let seen = |channels, height, width| {
        let shape = Shape::new(channels, height, width);
        Op::Rearrange(Rearrange { kind: RearrangeKind::Reshape, shape })
    };
    let recurrent = |recurrent| Op::Recurrent(Box::new(recurrent));
    let x = push("stem", Op::Conv(conv(&mut random, 5, 3, 3, 1, 1)), 0);
    let columns = push("columns", seen(20, 6, 1), x);
    let mut lstm = cells(&mut random, Cell::Lstm, Direction::Bidirectional, [20, 5]);
    lstm.initial_state = Some(Array3::from_elem((2, 1, 5), 0.25));
    let lstm = push("lstm", recurrent(lstm), columns);
    let gru = cells(&mut random, Cell::Gru { reset_after: true }, Direction::Forward, [10, 7]);
    let gru = push("gru", recurrent(gru), lstm);
    let scores = push("scores", Op::Conv(conv(&mut random, 4, 7, 1, 1, 1)), gru);
    let turned = RearrangeKind::Transpose { sides: vec![5, 4, 6], order: vec![0, 2, 1] };
    let rows = push("rows", Op::Rearrange(Rearrange { kind: turned, shape: Shape::new(5, 6, 4) }), x);
    let mut lines = cells(&mut random, Cell::Lstm, Direction::Reverse, [5, 6]);
    lines.peepholes = Some(Array2::from_elem((1, 18), -0.5));
    lines.initial_memory = Some(Array3::from_shape_fn((1, 4, 6), |(_, row, unit)| 0.1 * (row + unit) as f32));
    let memory = push("memory", recurrent(Recurrent { gives_memory: true, ..lines.clone() }), rows);
    let lines = push("lines", recurrent(lines), rows);
    let simple = push("simple", recurrent(cells(&mut random, Cell::Relu, Direction::Bidirectional, [6, 3])), lines);
    let more = push("more", Op::Conv(conv(&mut random, 2, 6, 1, 1, 1)), simple);
    let output = |name: &str, node, sides: &[usize]| GraphOutput {
        name: name.into(),
        node,
        sides: sides.to_vec(),
        one_image: false,
    };
    graph.outputs = vec![output("a", scores, &[4, 6]), output("b", memory, &[6, 4]), output("c", more, &[2, 6, 4])];
    graph.check().unwrap();
    graph
}

fn batch(count: usize) -> Batch {
    let (mut random, mut batch) = (Random::new(6), Batch::empty([4, 6]));
    for image in 0..count {
        let pixels: Vec<u32> = (0..24).map(|_| random.below(1 << 24) as u32).collect();
        batch.push(format!("image {image}"), None, &pixels).unwrap();
    }
    batch
}

#[test]
fn a_recognizer_computes_the_same_in_every_form() {
    let Some(mut runtime) = Runtime::start() else { return };
    let (graph, batch, device) = (recognizer(), batch(3), Device::cpu());
    let names: Vec<String> = graph.outputs.iter().map(|output| output.name.clone()).collect();
    let net = FloatNet::new(&device, &graph, batch.count, Keep::Last).unwrap();
    net.run(&batch).unwrap();
    let own = net.outputs(batch.count).unwrap();
    let file = float(&graph, InputForm::Pixels).unwrap();
    let answer = runtime.run(&file, InputForm::Pixels, &planes(&batch, graph.input.channels()), batch.count, &names);
    let apart = |own: &[Vec<f64>], theirs: &[f32]| {
        let own = own.concat();
        assert_eq!(own.len(), theirs.len());
        let largest = own.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        own.iter().zip(theirs).fold(0.0, |m: f64, (a, b)| m.max((a - f64::from(*b)).abs())) / largest
    };
    for (name, own) in names.iter().zip(&own) {
        let apart = apart(own, &answer.floats(name));
        assert!(apart < 1e-5, "{name} is off by {apart:e}");
    }
    let statistics = calibrate(&device, &graph, &mut [Ok(batch.clone())].into_iter(), 3, None, &Silent).unwrap();
    for mode in [ActivationMode::Symmetric, ActivationMode::Affine] {
        let ranges = choose(&statistics, &RangeOptions { mode, ..Default::default() }).unwrap();
        let made = quantize(&graph, &ranges, &statistics, &QuantizeOptions::default()).unwrap();
        let in_float = |node: &&QNode| matches!(node.computed, Computed::Float(Op::Recurrent(_)));
        assert_eq!(made.nodes.iter().filter(in_float).count(), 5);
        assert_same_integers(&format!("{mode}"), &made, &batch, &mut runtime);
        let qdq = quantized(&made, Format::Qdq, InputForm::Pixels).unwrap();
        let answer = runtime.run(&qdq, InputForm::Pixels, &planes(&batch, graph.input.channels()), batch.count, &names);
        for (name, own) in names.iter().zip(&own) {
            let apart = apart(own, &answer.floats(name));
            assert!(apart < 0.1, "{name} of {mode} is off by {apart:e}");
        }
    }
}
