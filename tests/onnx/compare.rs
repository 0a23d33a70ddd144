//! What this program computes, beside what ONNX Runtime does.

use repquant::exec::{Int8Net, Keep};
use repquant::export::onnx::{Format, InputForm, quantized};
use repquant::gpu::Device;
use repquant::images::Batch;
use repquant::model::{QOp, QuantizedGraph};

use crate::runtime::{Answer, Runtime};

/// A batch's images as bytes, image by image, 3 × height × width.
pub(crate) fn planes(batch: &Batch) -> Vec<u8> {
    let pixels = batch.size[0] * batch.size[1];
    let mut planes = Vec::with_capacity(3 * batch.pixels.len());
    for image in batch.pixels.chunks_exact(pixels) {
        for colour in 0..3 {
            planes.extend(image.iter().map(|pixel| pixel.to_le_bytes()[colour]));
        }
    }
    planes
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

/// Runs the integer form on both kinds of input. Every level, accumulator and logit must be the same; gives what ONNX
/// Runtime said of the last file.
#[track_caller]
pub(crate) fn assert_same_integers(what: &str, graph: &QuantizedGraph, batch: &Batch, runtime: &mut Runtime) -> Answer {
    let device = Device::cpu();
    let net = Int8Net::new(&device, graph, batch.count, Keep::All).unwrap();
    let own_logits = net.run(batch).unwrap();
    let last = graph.nodes.len() - 1;
    let mut names: Vec<String> = graph.nodes[..last].iter().map(|node| format!("{}/quantized", node.name)).collect();
    let classifier_is_integer = matches!(graph.nodes[last].op, QOp::Linear(_));
    if classifier_is_integer {
        names.push(format!("{}/accumulators", graph.nodes[last].name));
    }
    names.push("logits".into());
    let mut answer = None;
    for input in [InputForm::Pixels, InputForm::Normalized] {
        let file = quantized(graph, Format::Integer, input).unwrap();
        let found = runtime.run(&file, input, &planes(batch), batch.count, &names);
        for (node, name) in names[..last].iter().enumerate() {
            let own = levels(&net, node, batch.count);
            assert!(!own.is_empty() && found.types[name] == "uint8", "{what}: {name} is {}", found.types[name]);
            let theirs: Vec<i8> = found.tensors[name].iter().map(|b| b.wrapping_sub(128).cast_signed()).collect();
            assert_eq!(own.len(), theirs.len(), "{what}: {name}");
            let differ = own.iter().zip(&theirs).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 0, "{what}: {differ} of {} levels of {name} differ ({input:?})", own.len());
        }
        let classes = net.shape(last).channels;
        if classifier_is_integer {
            let words = net.read(last, batch.count).unwrap();
            let rows = words.chunks_exact(net.shape(last).padded_channels()).flat_map(|row| &row[..classes]);
            let own: Vec<u8> = rows.flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(own, found.tensors[&names[last]], "{what}: accumulators ({input:?})");
        }
        let own: Vec<Vec<f32>> =
            own_logits.iter().map(|row| row[..classes].iter().map(|v| *v as f32).collect()).collect();
        assert_eq!(own, found.logits(classes), "{what}: logits ({input:?})");
        answer = Some(found);
    }
    answer.unwrap()
}
