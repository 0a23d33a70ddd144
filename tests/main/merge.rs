//! Branches and chains of a graph become one convolution each, and the network stays the same
//! function.

use ndarray::{Array1, Array4};
use repquant::Device;
use repquant::internals::Random;
use repquant::internals::exec::{FloatNet, Keep};
use repquant::internals::fuse::merge;
use repquant::internals::images::{Batch, Content};
use repquant::internals::model::{
    Binary, Color, Conv, Decode, Fit, Graph, GraphOutput, Interpolation, Node, NodeId, NoteKind, Op, Pool, PoolKind,
    Preprocessing, Rearrange, RearrangeKind, Shape, Weights,
};

const SIDE: usize = 9;

/// A graph in the making: one input of 3×9×9 and a first convolution to 8 channels.
struct Builder {
    random: Random,
    graph: Graph,
}

impl Builder {
    fn new() -> Self {
        let input = Preprocessing {
            size: [SIDE; 2],
            resize: None,
            interpolation: Interpolation::Bilinear,
            mean: vec![0.5; 3],
            std: vec![0.25; 3],
            fit: Fit::Crop,
            color: Color::Rgb,
            decode: Decode::Full,
        };
        let node = Node { name: "input".into(), op: Op::Input(Shape::new(3, SIDE, SIDE)), inputs: vec![], relu: false };
        let nodes = vec![node];
        let graph = Graph { name: "branches".into(), input, classes: None, nodes, outputs: vec![], notes: vec![] };
        let mut builder = Self { random: Random::new(3), graph };
        builder.conv(0, [8, 3, 3, 3], [1, 1], [1, 1], 1, true);
        builder
    }

    fn push(&mut self, op: Op, inputs: &[NodeId], relu: bool) -> NodeId {
        let id = self.graph.nodes.len();
        self.graph.nodes.push(Node { name: format!("n{id}"), op, inputs: inputs.to_vec(), relu });
        id
    }

    #[allow(clippy::too_many_arguments)] // one convolution
    fn conv(
        &mut self,
        x: NodeId,
        [o, i, kh, kw]: [usize; 4],
        stride: [usize; 2],
        padding: [usize; 2],
        groups: usize,
        relu: bool,
    ) -> NodeId {
        let weight = Array4::from_shape_simple_fn((o, i, kh, kw), || self.random.float());
        let bias = Array1::from_shape_simple_fn(o, || self.random.float());
        self.push(Op::Conv(Conv { weight, bias, stride, padding, groups }), &[x], relu)
    }

    /// A batch norm that nothing before it took.
    fn scale(&mut self, x: NodeId) -> NodeId {
        self.conv(x, [8, 1, 1, 1], [1, 1], [0, 0], 8, false)
    }

    fn add(&mut self, a: NodeId, b: NodeId, relu: bool) -> NodeId {
        self.push(Op::Binary(Binary::Add), &[a, b], relu)
    }

    fn crop(&mut self, x: NodeId) -> NodeId {
        let rows = RearrangeKind::Slice { sides: vec![8, SIDE, SIDE], axis: 1, start: 1, step: 1, count: SIDE - 2 };
        let shape = Shape::new(8, SIDE - 2, SIDE);
        let cut = self.push(Op::Rearrange(Rearrange { kind: rows, shape }), &[x], false);
        let columns =
            RearrangeKind::Slice { sides: vec![8, SIDE - 2, SIDE], axis: 2, start: 1, step: 1, count: SIDE - 2 };
        let shape = Shape::new(8, SIDE - 2, SIDE - 2);
        self.push(Op::Rearrange(Rearrange { kind: columns, shape }), &[cut], false)
    }

    /// Ends the network with the last node, checks that merging keeps what it computes, and gives
    /// the merged graph.
    fn merged(mut self) -> Graph {
        let last = self.graph.nodes.len() - 1;
        let shape = self.graph.shapes()[last];
        let sides = vec![shape.channels, shape.height, shape.width];
        self.graph.outputs = vec![GraphOutput { name: "y".into(), node: last, sides, one_image: false }];
        let merged = merge(self.graph.clone()).unwrap();
        let device = Device::cpu();
        let pixels = (0..SIDE * SIDE).map(|_| self.random.next_u64() as u32 & 0x00FF_FFFF).collect();
        let batch = Batch {
            count: 1,
            size: [SIDE; 2],
            content: Content::Pixels(pixels),
            names: vec!["a".into()],
            labels: vec![None],
        };
        let run = |graph: &Graph| {
            let net = FloatNet::new(&device, graph, 1, Keep::Last).unwrap();
            net.run(&batch).unwrap().concat()
        };
        let (before, after) = (run(&self.graph), run(&merged));
        let largest = before.iter().fold(0f64, |m, v| m.max(v.abs()));
        assert_eq!(before.len(), after.len());
        for (a, b) in before.iter().zip(&after) {
            assert!((a - b).abs() <= 2e-6 * largest, "{a} became {b}, the largest is {largest}");
        }
        merged
    }
}

/// The layer, kind and text of each note.
fn notes(graph: &Graph) -> Vec<(&str, NoteKind, &str)> {
    graph.notes.iter().map(|note| (note.layer.as_str(), note.kind, note.text.as_str())).collect()
}

fn last_conv(graph: &Graph) -> &Conv {
    match &graph.nodes[graph.nodes.len() - 1].op {
        Op::Conv(conv) => conv,
        op => panic!("{}", op.kind()),
    }
}

#[test]
fn repvgg() {
    let mut b = Builder::new();
    let (dense, point) =
        (b.conv(1, [8, 8, 3, 3], [1, 1], [1, 1], 1, false), b.conv(1, [8, 8, 1, 1], [1, 1], [0, 0], 1, false));
    let (sum, identity) = (b.add(dense, point, false), b.scale(1));
    b.add(sum, identity, true);
    let graph = b.merged();
    assert_eq!(notes(&graph), [("n6", NoteKind::Merged, "3×3 + 1×1 + scale")]);
    assert_eq!((graph.nodes.len(), graph.nodes[2].relu), (3, true));
    assert_eq!((last_conv(&graph).kernel(), last_conv(&graph).padding), ([3, 3], [1, 1]));
}

#[test]
fn depthwise_branches_stay_depthwise_and_groups_are_kept() {
    for (groups, strides) in [(8, [2, 2]), (2, [1, 2])] {
        let mut b = Builder::new();
        let per_group = 8 / groups;
        let ids = [3, 3, 1].map(|k| b.conv(1, [8, per_group, k, k], strides, [k / 2; 2], groups, false));
        let sum = b.add(ids[0], ids[1], false);
        b.add(sum, ids[2], true);
        let graph = b.merged();
        assert_eq!((last_conv(&graph).groups, last_conv(&graph).stride), (groups, strides));
    }
}

#[test]
fn rows_and_columns_of_acnet() {
    let mut b = Builder::new();
    let square = b.conv(1, [6, 8, 3, 3], [2, 2], [1, 1], 1, false);
    let column = b.conv(1, [6, 8, 3, 1], [2, 2], [1, 0], 1, false);
    let row = b.conv(1, [6, 8, 1, 3], [2, 2], [0, 1], 1, false);
    let sum = b.add(square, column, false);
    b.add(sum, row, true);
    assert_eq!(last_conv(&b.merged()).kernel(), [3, 3]);
}

#[test]
fn a_diverse_branch_block() {
    let mut b = Builder::new();
    let dense = b.conv(1, [8, 8, 3, 3], [1, 1], [0, 0], 1, false);
    let cut = b.crop(1);
    let point = b.conv(cut, [8, 8, 1, 1], [1, 1], [0, 0], 1, false);
    let first = b.conv(1, [8, 8, 1, 1], [1, 1], [0, 0], 1, false);
    let chain = b.conv(first, [8, 8, 3, 3], [1, 1], [0, 0], 1, false);
    let before = b.conv(1, [8, 8, 1, 1], [1, 1], [0, 0], 1, false);
    let pool = Pool { kind: PoolKind::Average, kernel: [3, 3], stride: [1, 1], padding: [0; 4], ceil: false };
    let mean = b.push(Op::Pool(pool), &[before], false);
    let mean = b.scale(mean);
    let (left, right) = (b.add(dense, point, false), b.add(chain, mean, false));
    b.add(left, right, true);
    let graph = b.merged();
    assert_eq!(graph.nodes.len(), 3);
    let text = graph.notes[0].text.as_str();
    assert_eq!(text, "3×3 + crop then crop then 1×1 + 1×1 then 3×3 + 1×1 then 3×3 mean then scale");
}

#[test]
fn what_has_no_common_source_is_not_merged() {
    let mut b = Builder::new();
    let first = b.conv(1, [8, 8, 3, 3], [1, 1], [1, 1], 1, true);
    let second = b.conv(first, [8, 8, 3, 3], [1, 1], [1, 1], 1, false);
    b.add(second, 1, true);
    let graph = b.merged();
    assert_eq!(notes(&graph), [("n4", NoteKind::NotMerged, "its operands come from different activations")]);
}

#[test]
fn branches_beside_a_residual_are_merged_alone() {
    let mut b = Builder::new();
    let other = b.conv(1, [8, 8, 3, 3], [1, 1], [1, 1], 1, true);
    let (dense, point) =
        (b.conv(other, [8, 8, 3, 3], [1, 1], [1, 1], 1, false), b.conv(other, [8, 8, 1, 1], [1, 1], [0, 0], 1, false));
    let sum = b.add(dense, point, false);
    b.add(sum, 1, true);
    let graph = b.merged();
    let kinds: Vec<&str> = graph.nodes.iter().map(|node| node.op.kind()).collect();
    assert_eq!(kinds, ["input", "conv", "conv", "conv", "add"]);
    assert_eq!((graph.nodes[3].relu, graph.nodes[4].relu), (false, true));
}

#[test]
fn a_bottleneck_would_take_more_work() {
    let mut b = Builder::new();
    let narrow = b.conv(1, [2, 8, 1, 1], [1, 1], [0, 0], 1, false);
    let wide = b.conv(narrow, [8, 2, 3, 3], [1, 1], [0, 0], 1, false);
    let cut = b.crop(1);
    b.add(wide, cut, true);
    let graph = b.merged();
    assert_eq!(graph.notes.len(), 2, "{:?}", graph.notes);
    assert!(graph.notes.iter().all(|note| note.kind == NoteKind::NotMerged && note.text.contains("multiplications")));
}

#[test]
fn padding_after_a_bias_is_refused_and_without_one_merged() {
    for bias in [true, false] {
        let mut b = Builder::new();
        let first = b.conv(1, [8, 8, 1, 1], [1, 1], [0, 0], 1, false);
        if let (false, Op::Conv(conv)) = (bias, &mut b.graph.nodes[first].op) {
            conv.bias.fill(0.0);
        }
        b.conv(first, [8, 8, 3, 3], [1, 1], [1, 1], 1, true);
        let graph = b.merged();
        let text = graph.notes[0].text.as_str();
        if bias {
            assert_eq!(text, "1×1 then 3×3: the second pads with zeros where the first would give its bias");
        } else {
            assert_eq!((text, graph.nodes.len()), ("1×1 then 3×3", 3));
        }
    }
}

#[test]
fn different_strides_and_other_readers_are_refused() {
    let mut b = Builder::new();
    let even = b.conv(1, [8, 8, 2, 2], [1, 1], [0, 0], 1, false);
    let odd = b.conv(1, [8, 8, 9, 9], [8, 8], [7, 7], 1, false);
    let up = b.push(
        Op::Rearrange(Rearrange { kind: RearrangeKind::Upsample { factor: [4, 4] }, shape: Shape::new(8, 8, 8) }),
        &[odd],
        false,
    );
    b.add(even, up, false);
    assert_eq!(b.merged().notes[0].kind, NoteKind::NotMerged);

    // The first convolution of a chain is read twice: it stays.
    let mut b = Builder::new();
    let first = b.conv(1, [8, 8, 1, 1], [1, 1], [0, 0], 1, false);
    let second = b.conv(first, [8, 8, 1, 1], [1, 1], [0, 0], 1, true);
    b.push(Op::Binary(Binary::Mul), &[first, second], false);
    assert_eq!(b.merged().nodes.len(), 5);
}
