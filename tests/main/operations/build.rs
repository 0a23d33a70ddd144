//! Small graphs in the making, and their comparison with the plain executor.

use ndarray::{Array1, Array3, Array4};
use repquant::Device;
use repquant::internals::Random;
use repquant::internals::exec::{FloatNet, Keep};
use repquant::internals::images::{Batch, Content};
use repquant::internals::model::{
    Color, Conv, Decode, Fit, Graph, GraphOutput, Interpolation, Node, NodeId, Op, Preprocessing, Shape,
};

use crate::common::reference;

/// A graph that begins with an input of three channels, node 0.
pub(crate) struct Builder {
    pub(crate) random: Random,
    graph: Graph,
}

impl Builder {
    pub(crate) fn new(seed: u64, size: [usize; 2]) -> Self {
        let interpolation = Interpolation::Bilinear;
        let input = Preprocessing {
            size,
            resize: None,
            interpolation,
            decode: Decode::Full,
            mean: vec![0.5; 3],
            std: vec![0.25, 0.3, 0.35],
            fit: Fit::Crop,
            color: Color::Rgb,
        };
        let graph = Graph { name: "small".into(), input, classes: None, nodes: vec![], outputs: vec![], notes: vec![] };
        let mut builder = Self { random: Random::new(seed), graph };
        builder.push(Op::Input(Shape::new(3, size[0], size[1])), &[]);
        builder
    }

    pub(crate) fn shape(&self, node: NodeId) -> Shape {
        self.graph.shapes()[node]
    }

    pub(crate) fn nodes(&self) -> usize {
        self.graph.nodes.len()
    }

    pub(crate) fn push(&mut self, op: Op, inputs: &[NodeId]) -> NodeId {
        let id = self.graph.nodes.len();
        self.graph.nodes.push(Node { name: format!("n{id}"), op, inputs: inputs.to_vec(), relu: false });
        id
    }

    /// A `ReLU` follows the last node.
    pub(crate) fn relu(&mut self) {
        self.graph.nodes.last_mut().unwrap().relu = true;
    }

    /// A square kernel of an odd side over an image padded to keep its size, with weights that keep
    /// the size of values.
    pub(crate) fn conv(&mut self, x: NodeId, out: usize, side: usize, stride: usize, groups: usize) -> NodeId {
        let inputs = self.shape(x).channels / groups;
        let factor = 4.0 / ((inputs * side * side) as f32).sqrt();
        let weight = Array4::from_shape_simple_fn((out, inputs, side, side), || factor * self.random.float());
        let bias = Array1::from_shape_simple_fn(out, || self.random.float());
        let conv = Conv { weight, bias, stride: [stride; 2], padding: [side / 2; 2], groups };
        self.push(Op::Conv(conv), &[x])
    }

    pub(crate) fn constant(&mut self, shape: Shape) -> NodeId {
        let dims = (shape.channels, shape.height, shape.width);
        let values = Array3::from_shape_simple_fn(dims, || 2.0 * self.random.float());
        self.push(Op::Constant(values), &[])
    }

    /// The nodes that none reads.
    pub(crate) fn unread(&self) -> Vec<NodeId> {
        let read = |id: &NodeId| self.graph.nodes.iter().any(|node| node.inputs.contains(id));
        (0..self.graph.nodes.len()).filter(|id| !read(id)).collect()
    }

    /// The graph that gives these nodes.
    pub(crate) fn graph(mut self, outputs: &[NodeId]) -> Graph {
        let shapes = self.graph.shapes();
        let output = |&node: &NodeId| {
            let Shape { channels, height, width } = shapes[node];
            GraphOutput { name: format!("y{node}"), node, sides: vec![channels, height, width], one_image: false }
        };
        self.graph.outputs = outputs.iter().map(output).collect();
        self.graph.check().unwrap();
        self.graph
    }
}

/// Runs the graph on each device for three random images, and compares every output with plain
/// code: no value is further off than 1e-5 of the largest. An image alone must have the same bits
/// as among others.
pub(crate) fn compare(devices: &[Device], graph: &Graph, random: &mut Random) {
    let values = 3 * graph.input.size[0] * graph.input.size[1];
    let images: Vec<Vec<u8>> = (0..3).map(|_| (0..values).map(|_| random.next_u64() as u8).collect()).collect();
    let levels = graph.input.levels();
    let expected = images.iter().map(|image| {
        let value = |(i, &v): (usize, &u8)| levels[3 * i / values][usize::from(v)];
        reference::outputs(graph, &image.iter().enumerate().map(value).collect::<Vec<_>>())
    });
    let expected: Vec<Vec<Vec<f64>>> = expected.collect();
    for device in devices {
        let net = FloatNet::new(device, graph, images.len() + 1, Keep::Last).unwrap();
        let run = |images: &[Vec<u8>]| {
            let batch = batch(graph.input.size, images);
            net.run(&batch).unwrap();
            net.outputs(batch.count).unwrap()
        };
        let got = run(&images);
        let alone = run(&images[1..2]);
        for (index, output) in graph.outputs.iter().enumerate() {
            let place = format!("{} of {:?} on {}", output.name, output.sides, device.info().name);
            assert_eq!(got[index].len(), images.len(), "{place}");
            assert_eq!(alone[index][0], got[index][1], "{place}: an image alone and among others");
            for (row, expected) in got[index].iter().zip(&expected) {
                assert_eq!(row.len(), expected[index].len(), "{place}");
                let largest = expected[index].iter().fold(0f64, |m, v| m.max(v.abs()));
                for (i, (g, e)) in row.iter().zip(&expected[index]).enumerate() {
                    let close = (g - e).abs() <= 1e-5 * largest;
                    assert!(
                        close,
                        "{place}, value {i}: expected {e}, got {g}, the largest is {largest}\n{}",
                        list(graph)
                    );
                }
            }
        }
    }
}

/// Images of 8-bit values, colour by row by column, as a batch.
pub(crate) fn batch(size: [usize; 2], images: &[Vec<u8>]) -> Batch {
    let area = size[0] * size[1];
    let pixel = |image: &[u8], i: usize| (0..3).map(|c| u32::from(image[c * area + i]) << (8 * c)).sum::<u32>();
    let pixels = images.iter().flat_map(|image| (0..area).map(move |i| pixel(image, i))).collect();
    let names = (0..images.len()).map(|i| i.to_string()).collect();
    Batch { count: images.len(), size, content: Content::Pixels(pixels), labels: vec![None; images.len()], names }
}

/// The operations, for a message.
fn list(graph: &Graph) -> String {
    let line = |(node, shape): (&Node, Shape)| {
        let op = match &node.op {
            Op::Conv(conv) => format!("conv {:?}, stride {:?}, groups {}", conv.weight.dim(), conv.stride, conv.groups),
            Op::Constant(_) => "constant".into(),
            op => format!("{op:?}"),
        };
        format!("{} = {op} of {:?}, relu {}: {shape}\n", node.name, node.inputs, node.relu)
    };
    graph.nodes.iter().zip(graph.shapes()).map(line).collect()
}
