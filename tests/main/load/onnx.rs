//! ONNX files of this program read back as the network that they were made from; those of others
//! compute what ONNX Runtime does (`onnx_cases.py`).

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::Array4;
use repquant::ErrorKind;
use repquant::internals::export::onnx::{self, InputForm};
use repquant::internals::fuse::fuse;
use repquant::internals::load::onnx::{read, read_bytes};
use repquant::internals::load::{InputOverrides, LoadOptions, load};
use repquant::internals::model::{Graph, Op};
use safetensors::SafeTensors;

use crate::common::checkpoints::{Checkpoint, mobileone_description, repvgg_description};
use crate::common::{reference, test_data};

fn written(graph: &Graph, input: InputForm, path: &Path) {
    std::fs::write(path, onnx::float(graph, input).unwrap().bytes).unwrap();
}

fn assert_same(found: &Graph, expected: &Graph) {
    assert_eq!((&found.name, &found.classes, &found.outputs), (&expected.name, &expected.classes, &expected.outputs));
    assert_eq!(found.input, expected.input);

    assert_eq!(found.nodes.len(), expected.nodes.len());
    for (f, e) in found.nodes.iter().zip(&expected.nodes) {
        assert_eq!((&f.name, &f.inputs, f.relu, f.op.kind()), (&e.name, &e.inputs, e.relu, e.op.kind()));
        assert!(f.op == e.op, "{} differs", e.name);
    }
    assert_eq!(found.digest(), expected.digest());
}

#[test]
fn files_of_this_program_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.onnx");
    let mobileone = (Checkpoint::mobileone(), mobileone_description());
    for (checkpoint, description) in [(Checkpoint::repvgg(), repvgg_description()), mobileone] {
        let graph = fuse(&super::load_ok(&checkpoint, &description)).unwrap();
        for input in [InputForm::Normalized, InputForm::Pixels] {
            written(&graph, input, &path);
            assert_same(&read(&path, &LoadOptions::default()).unwrap(), &graph);
        }
    }
}

#[test]
fn what_is_asked_for_takes_the_place_of_what_a_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    let graph = fuse(&super::load_ok(&Checkpoint::repvgg(), &repvgg_description())).unwrap();
    let asked = |input| LoadOptions { input, ..Default::default() };
    let mean = InputOverrides { mean: Some(vec![0.25]), ..Default::default() };
    written(&graph, InputForm::Normalized, &path);
    let found = read(&path, &asked(mean.clone())).unwrap();
    assert_eq!(
        (found.input.mean, found.input.std, found.nodes.len()),
        (vec![0.25; 3], graph.input.std.clone(), graph.nodes.len())
    );
    // A network that takes pixels has its own mean.
    written(&graph, InputForm::Pixels, &path);
    let error = read(&path, &asked(mean)).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("normalizes them itself"), "{error}");
    let resize = InputOverrides { resize: Some(None), ..Default::default() };
    let found = read(&path, &asked(resize)).unwrap().input;
    assert_eq!((found.resize, found.mean), (None, graph.input.mean));
}

#[test]
fn trained_networks_read_back() {
    let Some(data) = test_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    for name in ["repvgg-cifar10", "mobileone-cifar10"] {
        let checkpoint = data.join("models").join(format!("{name}.safetensors"));
        let graph = fuse(&load(&checkpoint, &LoadOptions::default()).unwrap()).unwrap();
        for input in [InputForm::Normalized, InputForm::Pixels] {
            written(&graph, input, &path);
            let found = read(&path, &LoadOptions::default()).unwrap();
            assert!(matches!(found.nodes.last().unwrap().op, Op::Linear(_)));
            assert_same(&found, &graph);
        }
    }
}

/// The file's input keeps its name, the layer gets another.
#[test]
fn a_layer_called_input_is_written() {
    let mut graph = fuse(&super::load_ok(&Checkpoint::repvgg(), &repvgg_description())).unwrap();
    "input".clone_into(&mut graph.nodes[2].name);
    "input_2".clone_into(&mut graph.nodes[1].name);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    for input in [InputForm::Normalized, InputForm::Pixels] {
        written(&graph, input, &path);
        let found = read(&path, &LoadOptions::default()).unwrap();
        let names: Vec<&str> = found.nodes[..3].iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["input", "input_2", "input_3"]);
        assert!(found.nodes.iter().zip(&graph.nodes).all(|(f, e)| f.op == e.op && f.inputs == e.inputs));
    }
}

#[test]
fn operators_give_what_onnx_runtime_gives() {
    let bytes = include_bytes!("onnx_cases.safetensors");
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let kinds: BTreeMap<String, String> = serde_json::from_str(&header.metadata().as_ref().unwrap()["kinds"]).unwrap();
    let fixed: Vec<String> = serde_json::from_str(&header.metadata().as_ref().unwrap()["fixed"]).unwrap();
    let file = SafeTensors::deserialize(bytes).unwrap();
    let floats = |name: &str| -> Vec<f64> {
        let tensor = file.tensor(name).unwrap();
        tensor.data().as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
    };
    let mut wrong = Vec::new();
    for (name, kinds) in &kinds {
        let graph = match read_bytes(name, file.tensor(&format!("{name}.model")).unwrap().data()) {
            Ok(graph) => graph,
            Err(error) => {
                wrong.push(error.to_string());
                continue;
            }
        };
        let found: Vec<&str> = graph.nodes.iter().map(|node| node.op.kind()).collect();
        if found.join(" ") != *kinds {
            wrong.push(format!("{name}: expected the nodes {kinds}, got {}", found.join(" ")));
        }
        // What is written is read back the same.
        let written = onnx::float(&graph, InputForm::Normalized).unwrap().bytes;
        match read_bytes(name, &written) {
            Ok(back)
                if back
                    .outputs
                    .iter()
                    .map(|o| (&o.name, &o.sides, o.one_image))
                    .eq(graph.outputs.iter().map(|o| (&o.name, &o.sides, o.one_image))) => {}
            Ok(back) => wrong.push(format!("{name}: the outputs {:?} become {:?}", graph.outputs, back.outputs)),
            Err(error) => wrong.push(format!("{name}, written: {error}")),
        }
        // Images come as channels first, normalized; the file's input may have its colours last,
        // and be pixels.
        let image = file.tensor(&format!("{name}.x")).unwrap();
        let sides = image.shape();
        let x = Array4::from_shape_vec((sides[0], sides[1], sides[2], sides[3]), floats(&format!("{name}.x"))).unwrap();
        let x = if sides[1] == 3 { x } else { x.permuted_axes([0, 3, 1, 2]) };
        let x: Vec<f64> =
            x.indexed_iter()
                .map(|((_, c, ..), v)| {
                    if name.starts_with("pixels") { (v / 255.0 - graph.input.mean[c]) / graph.input.std[c] } else { *v }
                })
                .collect();
        for (index, found) in reference::outputs(&graph, &x).iter().enumerate() {
            let key = format!("{name}.y{index}");
            let expected = floats(&key);
            let batch = usize::from(!fixed.contains(&key));
            assert_eq!(graph.outputs[index].sides, file.tensor(&key).unwrap().shape()[batch..], "{key}");
            let most = expected.iter().fold(1e-3_f64, |m, v| m.max(v.abs()));
            let error = found.iter().zip(&expected).fold(0.0_f64, |m, (a, b)| m.max((a - b).abs())) / most;
            if error > 1e-5 {
                wrong.push(format!("{key}: off by {error:e} of the largest"));
            }
        }
    }
    assert!(kinds.len() > 70 && wrong.is_empty(), "{} cases: {wrong:#?}", kinds.len());
}
