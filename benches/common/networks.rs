//! Networks to time: RepVGG with random weights, in float and in int8, and random images for them.

use std::path::PathBuf;
use std::time::Instant;

use ndarray::{Array1, Array4};
use repquant::Device;
use repquant::Result;
use repquant::internals::calibrate::{Calibration, calibrate};
use repquant::internals::exec::{FloatNet, Int8Net};
use repquant::internals::fuse::fuse;
use repquant::internals::images::Batch;
use repquant::internals::load::{InputDescription, LoadOptions, load};
use repquant::internals::model::{Conv, Graph, GraphOutput, Node, Op, QuantizedGraph, Shape};
use repquant::internals::quantize::{QuantizeOptions, SplitMode, quantize};
use repquant::internals::threshold::{Method, RangeOptions, choose};
use repquant::internals::{Random, Recorder};
use repquant::progress::Silent;

/// A fused RepVGG with random weights, for 224×224 images and 1000 classes: `a0`, `a1` or `b3`
/// (arXiv 2101.03697, table 2 and 3).
///
/// Every kernel is the sum of three branches, so its centre is wider than the rest, as in a trained
/// network.
pub(crate) fn repvgg(name: &str) -> Graph {
    let (depths, widths): ([usize; 5], [usize; 5]) = match name {
        "a0" => ([1, 2, 4, 14, 1], [48, 48, 96, 192, 1280]),
        "a1" => ([1, 2, 4, 14, 1], [64, 64, 128, 256, 1280]),
        "b3" => ([1, 4, 6, 16, 1], [64, 192, 384, 768, 2560]),
        _ => panic!("no such network: {name}"),
    };
    let mut random = Random::new(7);
    let node = |name: String, op: Op, at: usize, relu: bool| Node {
        name,
        op,
        inputs: if at == 0 { vec![] } else { vec![at - 1] },
        relu,
    };
    let mut nodes = vec![node("input".into(), Op::Input(Shape::new(3, 224, 224)), 0, false)];
    let mut channels = 3;
    for (stage, (depth, width)) in depths.into_iter().zip(widths).enumerate() {
        for block in 0..depth {
            let stride = if block == 0 { 2 } else { 1 };
            let name = if stage == 0 { "stage0".into() } else { format!("stage{stage}.{block}") };
            let conv = block_of(&mut random, channels, width, stride);
            nodes.push(node(name, Op::Conv(conv), nodes.len(), true));
            channels = width;
        }
    }
    nodes.push(node("pool".into(), Op::GlobalAveragePool, nodes.len(), false));
    let weight = weights(&mut random, &[1000, channels, 1, 1]).into_shape_with_order((1000, channels)).expect("1×1");
    let linear = Conv::linear(weight, Array1::zeros(1000));
    nodes.push(node("linear".into(), Op::Linear(linear), nodes.len(), false));
    let outputs =
        vec![GraphOutput { name: "logits".into(), node: nodes.len() - 1, sides: vec![1000], one_image: false }];
    let (name, input) = (format!("repvgg-{name}"), InputDescription::imagenet().preprocessing());
    Graph { name, input, classes: None, nodes, outputs, notes: Vec::new() }
}

/// A 3×3 kernel with a 1×1 kernel and, where shapes allow, an identity added at its centre; outputs
/// have about the variance of the inputs.
fn block_of(random: &mut Random, inputs: usize, outputs: usize, stride: usize) -> Conv {
    let mut weight = weights(random, &[outputs, inputs, 3, 3]);
    let pointwise = weights(random, &[outputs, inputs, 1, 1]);
    for ((o, i, ..), value) in pointwise.indexed_iter() {
        weight[[o, i, 1, 1]] += value;
    }
    if inputs == outputs && stride == 1 {
        (0..inputs).for_each(|c| weight[[c, c, 1, 1]] += 1.0);
    }
    // Each of the two kernels keeps the variance, the identity adds half of it: only half of the
    // inputs are not 0.
    weight *= 0.4_f32.sqrt();
    let bias = Array1::from_shape_simple_fn(outputs, || 0.1 * random.uniform());
    Conv { weight, bias, stride: [stride, stride], padding: [1, 1], groups: 1 }
}

/// Uniform weights of variance 2 / fan-in.
fn weights(random: &mut Random, shape: &[usize; 4]) -> Array4<f32> {
    let reach = (6.0 / (shape[1] * shape[2] * shape[3]) as f32).sqrt();
    Array4::from_shape_simple_fn(*shape, || reach * random.uniform())
}

/// `repvgg-cifar10` of the reference data, where `REPQUANT_TEST_DATA` names it.
pub(crate) fn repvgg_cifar10() -> Option<Graph> {
    let folder = PathBuf::from(std::env::var_os("REPQUANT_TEST_DATA")?);
    let path = folder.join("models/repvgg-cifar10.safetensors");
    let net = load(&path, &LoadOptions::default()).unwrap_or_else(|e| panic!("REPQUANT_TEST_DATA: {e}"));
    Some(fuse(&net).expect("the reference network fuses"))
}

/// Random images that a network takes.
pub(crate) fn images(graph: &Graph, count: usize) -> Batch {
    let mut random = Random::new(11);
    let mut batch = Batch::empty(graph.input.size);
    let [height, width] = graph.input.size;
    for image in 0..count {
        let pixels: Vec<u32> = (0..height * width).map(|_| random.next_u64() as u32 & 0x00FF_FFFF).collect();
        batch.push(format!("image {image}"), None, &pixels).expect("as many pixels as the size has");
    }
    batch
}

/// Statistics of two random images: enough to quantize a network whose accuracy does not matter.
pub(crate) fn calibration(graph: &Graph) -> Calibration {
    let mut batches = std::iter::once(Ok(images(graph, 2)));
    calibrate(&Device::cpu(), graph, &mut batches, 2, None, &Silent).expect("random images are calibrated on")
}

/// The int8 network, split in this way.
pub(crate) fn int8(graph: &Graph, calibration: &Calibration, split: SplitMode) -> QuantizedGraph {
    let ranges = RangeOptions { method: Method::MinMax, ..RangeOptions::default() };
    let ranges = choose(calibration, &ranges).expect("minmax always finds a range");
    let options = QuantizeOptions { split, ..QuantizeOptions::default() };
    quantize(graph, &ranges, calibration, &options).expect("the network quantizes")
}

/// Multiplications for one image, coarse parts included.
pub(crate) fn int8_macs(graph: &QuantizedGraph) -> f64 {
    let (plain, added) = graph.macs();
    (plain + added) as f64
}

/// A network with a batch of images on a device, ready to run.
pub(crate) enum Ready<'d> {
    /// In float.
    Float(FloatNet<'d>),
    /// In int8.
    Int8(Int8Net<'d>),
}

impl Ready<'_> {
    fn record(&self, rec: &mut Recorder<'_>, images: usize) -> Result<()> {
        match self {
            Self::Float(net) => (0..net.len()).try_for_each(|node| net.record(rec, images, node)),
            Self::Int8(net) => (0..net.len()).try_for_each(|node| net.record(rec, images, node)),
        }
    }

    /// Runs the uploaded batch of `images` and waits for the logits to be there; nothing is read
    /// back.
    pub(crate) fn forward(&self, device: &Device, images: usize) {
        let mut rec = device.recorder();
        let run = self.record(&mut rec, images).and_then(|()| rec.submit()).and_then(|()| device.wait());
        run.expect("the device works");
    }
}

/// Images a second of each network: `rounds` rounds of about `seconds` each, the networks in turn
/// within a round, so that their ratios hold on a machine whose load changes. The batch of `images`
/// is on the device already.
pub(crate) fn alternate(
    device: &Device,
    networks: &[Ready<'_>],
    images: usize,
    seconds: f64,
    rounds: usize,
) -> Vec<Vec<f64>> {
    let mut rates = vec![Vec::new(); networks.len()];
    for net in networks {
        net.forward(device, images);
    }
    for _ in 0..rounds {
        for (net, rates) in networks.iter().zip(&mut rates) {
            let (start, mut runs) = (Instant::now(), 0);
            while runs == 0 || start.elapsed().as_secs_f64() < seconds {
                net.forward(device, images);
                runs += 1;
            }
            rates.push((runs * images) as f64 / start.elapsed().as_secs_f64());
        }
    }
    rates
}
