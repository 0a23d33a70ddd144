//! What this program computes, beside what ONNX Runtime does.

use repquant::Device;
use repquant::internals::exec::{Int8Net, Keep};
use repquant::internals::export::onnx::{Format, InputForm, quantized};
use repquant::internals::images::Batch;
use repquant::internals::model::{Computed, Graph, Op, QuantizedGraph};

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

/// Runs the integer form on both kinds of input. Every level, accumulator and every output that is
/// one must be the same, an output of operations in f32 within 1e-6 of the largest; gives what ONNX
/// Runtime said of the last file.
#[track_caller]
pub(crate) fn assert_same_integers(what: &str, graph: &QuantizedGraph, batch: &Batch, runtime: &mut Runtime) -> Answer {
    let device = Device::cpu();
    let net = Int8Net::new(&device, graph, batch.count, Keep::All).unwrap();
    net.run(batch).unwrap();
    let own_outputs = net.outputs(batch.count).unwrap();
    // Nodes whose levels, and whose accumulators, are compared, and the tensors that hold them.
    let stored: Vec<(usize, String)> = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.output.is_some())
        .map(|(id, node)| (id, format!("{}/quantized", if id == 0 { "input" } else { &node.name })))
        .collect();
    let sums: Vec<(usize, String)> = graph
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(id, node)| match (node.computed.as_integer()?.op(), node.output) {
            (Op::Linear(_), None) => Some((id, format!("{}/accumulators", node.name))),
            (Op::Conv(conv), None) if conv.coarse.is_some() => Some((id, format!("{}/sum", node.name))),
            (Op::Conv(_), None) => Some((id, format!("{}/fine_and_bias", node.name))),
            _ => None,
        })
        .collect();
    let outputs = graph.outputs.iter().map(|output| output.name.clone());
    let names: Vec<String> = stored.iter().chain(&sums).map(|(_, name)| name.clone()).chain(outputs).collect();
    let mut answer = None;
    for input in [InputForm::Pixels, InputForm::Normalized] {
        let file = quantized(graph, Format::Integer, input).unwrap();
        let found = runtime.run(&file, input, &planes(batch, graph.input.channels()), batch.count, &names);
        for (node, name) in &stored {
            let own = levels(&net, *node, batch.count);
            assert!(!own.is_empty() && found.types[name] == "uint8", "{what}: {name} is {}", found.types[name]);
            let theirs: Vec<i8> = found.tensors[name].iter().map(|b| b.wrapping_sub(128).cast_signed()).collect();
            assert_eq!(own.len(), theirs.len(), "{what}: {name}");
            let differ = own.iter().zip(&theirs).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 0, "{what}: {differ} of {} levels of {name} differ ({input:?})", own.len());
        }
        for (node, name) in &sums {
            assert!(accumulators(&net, *node, batch.count) == found.integers(name), "{what}: {name} ({input:?})");
        }
        for (output, own) in graph.outputs.iter().zip(&own_outputs) {
            let (own, theirs) = (own.concat(), found.floats(&output.name));
            assert_eq!(own.len(), theirs.len(), "{what}: {}", output.name);
            let real = matches!(graph.nodes[output.node].computed, Computed::Float(_));
            let largest = own.iter().fold(0f64, |m, v| m.max(v.abs()));
            for (own, theirs) in own.iter().zip(&theirs) {
                let close = (own - f64::from(*theirs)).abs() <= 1e-6 * largest;
                let same = (*own as f32).to_bits() == theirs.to_bits() || *own as f32 == *theirs;
                assert!(if real { close } else { same }, "{what}: {} has {own} and {theirs} ({input:?})", output.name);
            }
        }
        answer = Some(found);
    }
    answer.unwrap()
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
