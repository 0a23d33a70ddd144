//! What this program computes, beside what ONNX Runtime does.

use repquant::Device;
use repquant::internals::exec::{Int8Net, Keep};
use repquant::internals::export::onnx::{Format, InputForm, quantized};
use repquant::internals::images::Batch;
use repquant::internals::model::{Computed, Graph, Op, QNode, QuantizedGraph};

use crate::runtime::{Answer, Runtime};

/// A batch's images as bytes, image by image, channels × height × width.
pub(crate) fn planes(batch: &Batch, channels: usize) -> Vec<u8> {
    let pixels = batch.size[0] * batch.size[1];
    let mut planes = Vec::with_capacity(channels * batch.pixels().len());
    for image in batch.pixels().chunks_exact(pixels) {
        for channel in 0..channels {
            planes.extend(image.iter().map(|pixel| pixel.to_le_bytes()[channel]));
        }
    }
    planes
}

/// What a float network is fed for a batch, image by image, channels × height × width: levels less
/// the mean, divided by the deviation.
pub(crate) fn normalized(graph: &Graph, batch: &Batch) -> Vec<f32> {
    let (levels, channels) = (graph.input.levels(), graph.input.channels());
    let pixels = batch.size[0] * batch.size[1];
    let value = |(at, level): (usize, &u8)| levels[at / pixels % channels][usize::from(*level)] as f32;
    planes(batch, channels).iter().enumerate().map(value).collect()
}

/// The index of the largest value, the first of several.
pub(crate) fn top1<T: PartialOrd + Copy>(values: &[T]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    best
}

/// This program's logits for each image.
pub(crate) fn logits(graph: &QuantizedGraph, batch: &Batch) -> Vec<Vec<f64>> {
    let device = Device::cpu();
    let net = Int8Net::new(&device, graph, batch.count.min(100), Keep::Last).unwrap();
    batch.split(100).flat_map(|part| net.run(&part).unwrap()).collect()
}

/// Levels of a node's activation, image by image, channels × height × width.
pub(crate) fn levels(net: &Int8Net<'_>, node: usize, images: usize) -> Vec<i8> {
    let (shape, words) = (net.shape(node), net.read(node, images).unwrap());
    let stored: &[i8] = bytemuck::cast_slice(&words);
    let mut levels = Vec::with_capacity(images * shape.len());
    for image in stored.chunks_exact(shape.pixels() * shape.padded_channels()) {
        for c in 0..shape.channels {
            levels.extend(image.iter().skip(c).step_by(shape.padded_channels()));
        }
    }
    levels
}

/// Levels that two programs' floats may round to either side of a border: one of so many.
const ON_A_BORDER: usize = 10_000;

/// What an output of operations in f32 may be apart, as a part of the largest value; and one with
/// lines of thousands of values, over which a softmax takes its sum: of 6,625 classes ONNX Runtime's
/// is off by up to 6e-6 from f64, this program's by 2e-6.
const REAL: f64 = 1e-6;
const REAL_OF_LONG_LINES: f64 = 2e-5;

/// ONNX Runtime's Sigmoid is a quotient of polynomials with an absolute error: far from zero it is
/// 0 where e^x is not. Outputs that are all below this are not told apart.
const NOTHING: f64 = 1e-10;

/// Runs the integer form on both kinds of input, and this program node by node on what ONNX Runtime
/// has before it. Of integer operations every level, accumulator and output must be the same.
/// Operations in f32 round as each program does: what they store may be one level apart, in one
/// of [`ON_A_BORDER`] levels (so in none of fewer), and their outputs [`REAL`] of the largest value. Gives
/// what ONNX Runtime said of the last file.
#[track_caller]
pub(crate) fn assert_same_integers(what: &str, graph: &QuantizedGraph, batch: &Batch, runtime: &mut Runtime) -> Answer {
    let device = Device::cpu();
    let net = Int8Net::new(&device, graph, batch.count, Keep::All).unwrap();
    net.upload(batch).unwrap();
    // What each node gives that is compared.
    let kinds: Vec<Option<Kind>> = graph.nodes.iter().enumerate().map(|(id, node)| Kind::of(id, node)).collect();
    let names = kinds.iter().flatten().map(|kind| kind.tensor().to_owned());
    let names: Vec<String> = names.chain(graph.outputs.iter().map(|output| output.name.clone())).collect();
    let mut answer = None;
    for input in [InputForm::Pixels, InputForm::Normalized] {
        let file = quantized(graph, Format::Integer, input).unwrap();
        let found = runtime.run(&file, input, &planes(batch, graph.input.channels()), batch.count, &names);
        for (id, kind) in kinds.iter().enumerate() {
            let mut rec = device.recorder();
            net.record(&mut rec, batch.count, id).unwrap();
            rec.submit().unwrap();
            match kind {
                Some(Kind::Levels(name)) => {
                    let own = levels(&net, id, batch.count);
                    assert!(!own.is_empty() && found.types[name] == "uint8", "{what}: {name} is {}", found.types[name]);
                    let theirs: Vec<i8> =
                        found.tensors[name].iter().map(|b| b.wrapping_sub(128).cast_signed()).collect();
                    assert_eq!(own.len(), theirs.len(), "{what}: {name}");
                    let differ = own.iter().zip(&theirs).filter(|(a, b)| a != b).count();
                    let float = matches!(graph.nodes[id].computed, Computed::Float(_));
                    let allowed = if float { own.len() / ON_A_BORDER } else { 0 };
                    assert!(differ <= allowed, "{what}: {differ} of {} levels of {name} differ ({input:?})", own.len());
                    if differ > 0 {
                        let apart = own.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max();
                        assert_eq!(apart, Some(1), "{what}: {name}: levels apart ({input:?})");
                        net.write(id, &stored(&net, id, batch.count, &theirs)).unwrap();
                    }
                }
                Some(Kind::Sums(name)) => {
                    assert!(accumulators(&net, id, batch.count) == found.integers(name), "{what}: {name} ({input:?})");
                }
                None => {}
            }
        }
        for (output, own) in graph.outputs.iter().zip(net.outputs(batch.count).unwrap()) {
            let (own, theirs) = (own.concat(), found.floats(&output.name));
            assert_eq!(own.len(), theirs.len(), "{what}: {}", output.name);
            let real = matches!(graph.nodes[output.node].computed, Computed::Float(_));
            let largest = own.iter().fold(0f64, |m, v| m.max(v.abs()));
            let long = output.sides.last().is_some_and(|&side| side >= 1000);
            let tolerance = if long { REAL_OF_LONG_LINES } else { REAL };
            for (own, theirs) in own.iter().zip(&theirs) {
                let close = (own - f64::from(*theirs)).abs() <= (tolerance * largest).max(NOTHING);
                let same = (*own as f32).to_bits() == theirs.to_bits() || *own as f32 == *theirs;
                assert!(if real { close } else { same }, "{what}: {} has {own} and {theirs} ({input:?})", output.name);
            }
        }
        answer = Some(found);
    }
    answer.unwrap()
}

/// What a node gives that is compared, and the tensor that holds it.
enum Kind {
    Levels(String),
    Sums(String),
}

impl Kind {
    fn of(id: usize, node: &QNode) -> Option<Self> {
        if node.output.is_some() {
            return Some(Self::Levels(format!("{}/quantized", if id == 0 { "input" } else { &node.name })));
        }
        let suffix = match node.computed.as_integer()?.op() {
            Op::Linear(_) => "accumulators",
            Op::Conv(conv) if conv.coarse.is_some() => "sum",
            Op::Conv(_) => "fine_and_bias",
            _ => return None,
        };
        Some(Self::Sums(format!("{}/{suffix}", node.name)))
    }

    fn tensor(&self) -> &str {
        match self {
            Self::Levels(name) | Self::Sums(name) => name,
        }
    }
}

/// The words of a node's activation with other levels, given image by image, channels × height ×
/// width; padded channels stay.
fn stored(net: &Int8Net<'_>, node: usize, images: usize, levels: &[i8]) -> Vec<u32> {
    let (shape, mut words) = (net.shape(node), net.read(node, images).unwrap());
    let bytes: &mut [i8] = bytemuck::cast_slice_mut(&mut words);
    let images = bytes.chunks_exact_mut(shape.pixels() * shape.padded_channels());
    for (image, levels) in images.zip(levels.chunks_exact(shape.len())) {
        for (at, level) in levels.iter().enumerate() {
            let (channel, pixel) = (at / shape.pixels(), at % shape.pixels());
            image[pixel * shape.padded_channels() + channel] = *level;
        }
    }
    words
}

/// Accumulators of a node, image by image, channels × height × width.
fn accumulators(net: &Int8Net<'_>, node: usize, images: usize) -> Vec<i64> {
    let (shape, words) = (net.shape(node), net.read(node, images).unwrap());
    let mut found = Vec::with_capacity(images * shape.len());
    for image in words.chunks_exact(shape.pixels() * shape.padded_channels()) {
        for c in 0..shape.channels {
            found.extend(image.iter().skip(c).step_by(shape.padded_channels()).map(|w| i64::from(w.cast_signed())));
        }
    }
    found
}
