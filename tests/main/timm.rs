//! timm's models, with weights that are generated, load, fuse and give timm's logits.

use repquant::internals::fuse::{fuse, read};
use repquant::internals::load::{LoadOptions, load};
use repquant::internals::model::{Graph, Op, Shape, Weights};

use crate::common::{reference, timm};

fn fused(name: &str) -> (timm::Fixture, Graph) {
    let fixture = timm::fixture(name);
    let folder = tempfile::tempdir().unwrap();
    fixture.write(folder.path());
    let net = load(folder.path(), &LoadOptions::default()).unwrap();
    let graph = fuse(&net).unwrap();
    assert_eq!(graph.name, name);
    assert_eq!((graph.input.resize, graph.input.size), (Some(256), [224, 224]));
    assert_eq!(graph.macs(), fixture.macs);

    // The weights alone, with the name of the architecture.
    let weights = folder.path().join("model.safetensors");
    let arch = |name: String| LoadOptions { arch: Some(name), ..Default::default() };
    let named = load(&weights, &arch(name.to_uppercase().replace('_', "-"))).unwrap();
    assert_eq!((named.name.as_str(), &named.input), ("model", &graph.input));
    let error = load(&weights, &arch(name.replace("a0", "a1").replace("s0", "s1"))).unwrap_err().to_string();
    assert!(error.contains("stage0 has 64 channels there, 48 in the checkpoint"), "{error}");
    (fixture, graph)
}

/// A network of a few channels, which a description in the folder describes.
fn small(name: &str) -> (timm::Fixture, Graph) {
    let fixture = timm::fixture(name);
    let folder = tempfile::tempdir().unwrap();
    fixture.write(folder.path());
    let graph = read(folder.path(), &LoadOptions::default()).unwrap();
    graph.check().unwrap();
    gives_timms_logits(&fixture, &graph);
    (fixture, graph)
}

/// How many nodes do this.
fn count(graph: &Graph, kind: &str) -> usize {
    graph.nodes.iter().filter(|node| node.op.kind() == kind).count()
}

fn gives_timms_logits(fixture: &timm::Fixture, graph: &Graph) {
    for (index, expected) in fixture.logits.iter().enumerate() {
        let got = reference::logits(graph, &timm::image(index, fixture.size));
        let largest = expected.iter().fold(0.0_f64, |m, v| m.max(f64::from(v.abs())));
        assert_eq!(got.len(), expected.len());
        for (class, (g, e)) in got.iter().zip(expected).enumerate() {
            let error = (g - f64::from(*e)).abs();
            // Both sides compute in f64; the fused weights are rounded once to f32.
            assert!(error <= 1e-5 * largest, "image {index}, class {class}: expected {e}, got {g}");
        }
    }
}

#[test]
fn repvgg_a0() {
    let (fixture, graph) = fused("repvgg_a0");
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names[..4], ["input", "stage0", "stage1.0", "stage1.1"]);
    assert_eq!(names[names.len() - 3..], ["stage4.0", "pool", "head.fc"]);
    let shapes = graph.shapes();
    assert_eq!(shapes[1], Shape::new(48, 112, 112));
    assert_eq!(shapes[shapes.len() - 3], Shape::new(1280, 7, 7));
    gives_timms_logits(&fixture, &graph);
}

#[test]
fn mobileone_s0() {
    let (fixture, graph) = fused("mobileone_s0");
    assert_eq!(graph.nodes.len(), 1 + 43 + 2);
    let depthwise = graph.nodes.iter().filter(|node| matches!(&node.op, Op::Conv(conv) if conv.is_depthwise()));
    assert_eq!(depthwise.count(), 21);
    assert_eq!(graph.shapes()[43], Shape::new(1024, 7, 7));
    gives_timms_logits(&fixture, &graph);
}

#[test]
fn squeeze_and_excitation_of_a_repvgg() {
    let (fixture, graph) = small("repvgg_se");
    assert_eq!(graph.macs(), fixture.macs);
    assert_eq!((count(&graph, "sigmoid"), count(&graph, "multiply"), count(&graph, "conv")), (8, 8, 3 * 8));
    let names: Vec<&str> = graph.nodes[1..7].iter().map(|node| node.name.as_str()).collect();
    assert_eq!(
        names,
        ["stage0", "stage0.se.pool", "stage0.se.reduce", "stage0.se.expand", "stage0.se.sigmoid", "stage0.se"]
    );
    assert!(!graph.nodes[1].relu && graph.nodes[6].relu);
}

#[test]
fn squeeze_and_excitation_of_a_mobileone() {
    let (fixture, graph) = small("mobileone_se");
    assert_eq!(graph.macs(), fixture.macs);
    assert_eq!(count(&graph, "sigmoid"), 4);
}

#[test]
fn fastvit() {
    let (fixture, graph) = small("fastvit");
    assert_eq!(graph.macs(), fixture.macs);
    // Each block of the stages is a depthwise convolution and the three of the other half.
    assert_eq!((count(&graph, "conv"), count(&graph, "add")), (3 + 3 * 2 + 5 * 4 + 3, 5));
}

#[test]
fn repvit() {
    for (name, blocks) in [("repvit", 9), ("repvit_legacy", 9)] {
        let (fixture, graph) = small(name);
        assert_eq!(graph.macs(), fixture.macs, "{name}");
        assert_eq!(count(&graph, "add"), blocks + 3, "{name}");
    }
}

#[test]
fn repghost() {
    let (fixture, graph) = small("repghost");
    assert_eq!(graph.macs(), fixture.macs);
    assert_eq!(count(&graph, "hard sigmoid"), 3);
}
