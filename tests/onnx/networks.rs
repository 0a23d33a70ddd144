//! The networks of tests/data/onnx, exported by PyTorch: read, run, quantized and written.

use std::path::{Path, PathBuf};

use repquant::Device;
use repquant::internals::Random;
use repquant::internals::calibrate::calibrate;
use repquant::internals::evaluate::{Contender, Fidelity, evaluate};
use repquant::internals::exec::{FloatNet, Int8Net, Keep};
use repquant::internals::export::onnx::{Format, InputForm, float, quantized as written};
use repquant::internals::export::safetensors::to_bytes;
use repquant::internals::fuse;
use repquant::internals::images::{Batch, Content};
use repquant::internals::load::LoadOptions;
use repquant::internals::model::{Graph, Node, NoteKind, Op, QuantizedGraph, Rearrange, RearrangeKind};
use repquant::internals::quantize::{QuantizeOptions, quantize};
use repquant::internals::threshold::{RangeOptions, choose};
use repquant::progress::Silent;

use crate::common::{devices, test_data};
use crate::compare::{assert_same_integers, normalized, planes};
use crate::runtime::Runtime;

/// Name, side of its images, and how many convolutions are left of those in the file.
const NETWORKS: [(&str, usize, usize); 9] = [
    ("repvgg", 32, 5),
    ("repvgg_fused", 32, 5),
    ("mobileone", 32, 7),
    ("branches", 32, 3),
    ("resnet18", 64, 20),
    ("mobilenet_v2", 32, 15),
    ("yolov6", 64, 36),
    ("yolov6_silu", 64, 36),
    ("functions", 32, 8),
];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/onnx/{name}.onnx"))
}

fn read(name: &str) -> Graph {
    fuse::read(&file(name), &LoadOptions::default()).unwrap()
}

/// Images of noise.
fn noise(seed: u64, count: usize, side: usize) -> Batch {
    let mut random = Random::new(seed);
    let pixels = (0..count * side * side).map(|_| random.next_u64() as u32 & 0x00FF_FFFF).collect();
    let names = (0..count).map(|i| format!("noise {i}")).collect();
    Batch { count, size: [side; 2], content: Content::Pixels(pixels), names, labels: vec![None; count] }
}

fn quantized(graph: &Graph, batch: &Batch) -> QuantizedGraph {
    let device = Device::cpu();
    let mut batches = std::iter::once(Ok(batch.clone()));
    let calibration = calibrate(&device, graph, &mut batches, batch.count, None, &Silent).unwrap();
    let ranges = choose(&calibration, &RangeOptions::default()).unwrap();
    quantize(graph, &ranges, &calibration, &QuantizeOptions::default()).unwrap()
}

#[test]
fn outputs_are_those_of_onnx_runtime() {
    let Some(mut runtime) = Runtime::start() else { return };
    for (name, side, convolutions) in NETWORKS {
        let graph = read(name);
        let left = graph.nodes.iter().filter(|node| matches!(node.op, Op::Conv(_))).count();
        assert_eq!(left, convolutions, "{name}: {:?}", graph.notes);
        let batch = noise(1, 2, side);
        let names: Vec<String> = graph.outputs.iter().map(|output| output.name.clone()).collect();
        let answer = runtime.run_floats(&file(name), &normalized(&graph, &batch), batch.count, &names);
        for device in devices() {
            let net = FloatNet::new(device, &graph, batch.count, Keep::Last).unwrap();
            net.run(&batch).unwrap();
            for (output, own) in names.iter().zip(net.outputs(batch.count).unwrap()) {
                let (own, theirs) = (own.concat(), answer.floats(output));
                assert_eq!(own.len(), theirs.len(), "{name}: {output}");
                let largest = theirs.iter().fold(0f32, |m, v| m.max(v.abs()));
                let differences = own.iter().zip(&theirs).map(|(a, b)| (*a as f32 - b).abs());
                let worst = differences.fold(0f32, f32::max);
                let place = &device.info().name;
                assert!(worst <= 1e-4 * largest, "{name}: {output} on {place}: {worst} of {largest}");
            }
        }
    }
}

#[test]
fn eight_bits_keep_20_db_on_every_output_and_the_same_bits_on_every_device() {
    for (name, side, _) in NETWORKS {
        let graph = read(name);
        let made = quantized(&graph, &noise(2, 16, side));
        let test = noise(3, 8, side);
        let contender = Contender { name: "quantized", graph: &made, layers: true };
        let mut batches = std::iter::once(Ok(test.clone()));
        let device = Device::cpu();
        let found = evaluate(&device, Some(&graph), &[contender], &mut batches, test.count, None, &Silent).unwrap();
        assert_eq!(found[1].outputs.len(), graph.outputs.len());
        for output in &found[1].outputs {
            let sqnr = output.fidelity.sqnr_db().unwrap_or(f64::INFINITY);
            println!("{name}: {}: {sqnr:.1} dB", output.name);
            assert!(sqnr > 20.0, "{name}: {} has {sqnr} dB", output.name);
        }
        let activations = |device: &Device| {
            let net = Int8Net::new(device, &made, 2, Keep::All).unwrap();
            net.run(&noise(4, 2, side)).unwrap();
            let stored = (0..net.len()).filter(|&node| made.nodes[node].output.is_some());
            stored.map(|node| net.read(node, 2).unwrap()).collect::<Vec<_>>()
        };
        let expected = activations(&device);
        for other in devices().iter().skip(1) {
            assert!(activations(other) == expected, "{name}: {} has other levels", other.info().name);
        }
    }
}

#[test]
fn the_integer_form_gives_the_same_bits() {
    let Some(mut runtime) = Runtime::start() else { return };
    for (name, side, _) in NETWORKS {
        let graph = read(name);
        let made = quantized(&graph, &noise(2, 16, side));
        assert_same_integers(name, &made, &noise(5, 3, side), &mut runtime);
    }
}

/// A network whose second layer's rows are put in another order, some of them twice.
fn picking() -> Graph {
    let mut graph = read("repvgg");
    let (at, shape) = (3, graph.shapes()[2]);
    let sides = vec![shape.channels, shape.height, shape.width];
    let entries = (0..shape.height).map(|row| row * row % shape.height).collect();
    let kind = RearrangeKind::Pick { sides, axis: 1, entries };
    for node in &mut graph.nodes[at..] {
        node.inputs.iter_mut().for_each(|input| *input += usize::from(*input + 1 >= at));
    }
    graph.outputs.iter_mut().for_each(|output| output.node += usize::from(output.node + 1 >= at));
    let op = Op::Rearrange(Rearrange { kind, shape });
    graph.nodes.insert(at, Node { name: "picked".into(), op, inputs: vec![at - 1], relu: false });
    graph.check().unwrap();
    graph
}

#[test]
fn picked_entries_are_written_in_every_form() {
    let Some(mut runtime) = Runtime::start() else { return };
    let graph = picking();
    let made = quantized(&graph, &noise(2, 16, 32));
    assert!(matches!(made.nodes[3].computed.as_integer().unwrap().op(), Op::Rearrange(_)));
    assert_same_integers("picking", &made, &noise(5, 3, 32), &mut runtime);
    let batch = noise(6, 2, 32);
    let device = Device::cpu();
    let net = FloatNet::new(&device, &graph, batch.count, Keep::Last).unwrap();
    let expected = net.run(&batch).unwrap().concat();
    let name = [graph.outputs[0].name.clone()];
    for (file, least) in [
        (float(&graph, InputForm::Pixels).unwrap(), 80.0),
        (written(&made, Format::Qdq, InputForm::Pixels).unwrap(), 20.0),
    ] {
        let answer = runtime.run(&file, InputForm::Pixels, &planes(&batch, 3), batch.count, &name);
        let theirs: Vec<f64> = answer.floats(&name[0]).into_iter().map(f64::from).collect();
        let mut fidelity = Fidelity::default();
        fidelity.add(&expected, &theirs);
        let sqnr = fidelity.sqnr_db().unwrap_or(f64::INFINITY);
        assert!(sqnr > least, "{sqnr} dB, not {least}");
    }
}

#[test]
fn branches_are_merged_and_residuals_are_not() {
    let merged = |name: &str, kind: NoteKind| read(name).notes.iter().filter(|note| note.kind == kind).count();
    assert_eq!(merged("repvgg", NoteKind::Merged), 5);
    assert_eq!(merged("branches", NoteKind::Merged), 2);
    assert_eq!(merged("resnet18", NoteKind::NotMerged), 8);
}

#[test]
fn the_float_and_the_qdq_form_give_the_float_networks_outputs() {
    let Some(mut runtime) = Runtime::start() else { return };
    for (name, side, _) in NETWORKS {
        let graph = read(name);
        let batch = noise(6, 2, side);
        let names: Vec<String> = graph.outputs.iter().map(|output| output.name.clone()).collect();
        let device = Device::cpu();
        let net = FloatNet::new(&device, &graph, batch.count, Keep::Last).unwrap();
        net.run(&batch).unwrap();
        let expected = net.outputs(batch.count).unwrap();
        let files = [
            (float(&graph, InputForm::Pixels).unwrap(), 80.0),
            (written(&quantized(&graph, &noise(2, 16, side)), Format::Qdq, InputForm::Pixels).unwrap(), 20.0),
        ];
        for (file, least) in files {
            let answer = runtime.run(&file, InputForm::Pixels, &planes(&batch, 3), batch.count, &names);
            for (output, own) in names.iter().zip(&expected) {
                let mut fidelity = Fidelity::default();
                let theirs: Vec<f64> = answer.floats(output).into_iter().map(f64::from).collect();
                assert_eq!(own.concat().len(), theirs.len(), "{name}: {output}");
                fidelity.add(&own.concat(), &theirs);
                let sqnr = fidelity.sqnr_db().unwrap_or(f64::INFINITY);
                assert!(sqnr > least, "{name}: {output} has {sqnr} dB, not {least}");
            }
        }
    }
}

#[test]
fn what_fuse_writes_is_quantized_to_the_same_bits() {
    let Some(data) = test_data() else { return };
    for name in ["repvgg-cifar10", "mobileone-cifar10"] {
        let checkpoint = data.join(format!("models/{name}.safetensors"));
        let of = |path: &Path| fuse::read(path, &LoadOptions::default()).unwrap();
        let graph = of(&checkpoint);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{name}.onnx"));
        std::fs::write(&path, float(&graph, InputForm::Normalized).unwrap().bytes).unwrap();
        let [from_checkpoint, from_onnx] =
            [graph, of(&path)].map(|graph| to_bytes(&quantized(&graph, &noise(7, 8, 32))).unwrap());
        assert!(from_checkpoint == from_onnx, "{name}");
    }
}
