//! Trained checkpoints against what `PyTorch` makes of them; needs `REPQUANT_TEST_DATA`.

use repquant::internals::fuse::fuse;
use repquant::internals::load::{LoadOptions, load};
use repquant::internals::model::Op;
use safetensors::SafeTensors;

use crate::common::{reference, test_data};

fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    file.tensor(name).unwrap().data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Largest difference, relative to the largest value.
fn difference(got: impl Iterator<Item = f64>, expected: &[f32]) -> f64 {
    let got: Vec<f64> = got.collect();
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0.0_f64, |m, v| m.max(f64::from(v.abs())));
    got.iter().zip(expected).fold(0.0_f64, |m, (g, e)| m.max((g - f64::from(*e)).abs())) / largest
}

fn matches_pytorch(name: &str) {
    let Some(data) = test_data() else { return };
    let models = data.join("models");
    let graph = fuse(&load(&models.join(format!("{name}.safetensors")), &LoadOptions::default()).unwrap()).unwrap();
    let bytes = std::fs::read(models.join(format!("{name}.golden.safetensors"))).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();

    let mut layers = 0;
    for node in &graph.nodes {
        let Op::Conv(conv) = &node.op else { continue };
        let key = format!("fused.{}.weight", node.name);
        if golden.tensor(&key).is_err() {
            continue;
        }
        let weight = difference(conv.weight.iter().map(|&v| f64::from(v)), &floats(&golden, &key));
        let bias = floats(&golden, &format!("fused.{}.bias", node.name));
        let bias = difference(conv.bias.iter().map(|&v| f64::from(v)), &bias);
        assert!(weight <= 1e-6 && bias <= 1e-6, "{}: weight {weight:e}, bias {bias:e}", node.name);
        layers += 1;
    }
    assert_eq!(layers, 4);

    let images = golden.tensor("golden.input_u8").unwrap();
    let logits = floats(&golden, "golden.logits");
    let classes = logits.len() / images.shape()[0];
    assert_eq!(graph.classes.as_ref().map(Vec::len), Some(classes));
    let pairs = images.data().chunks_exact(3 * 32 * 32).zip(logits.chunks_exact(classes));
    for (index, (image, expected)) in pairs.take(16).enumerate() {
        for (class, (got, expected)) in reference::logits(&graph, image).iter().zip(expected).enumerate() {
            let error = (got - f64::from(*expected)).abs();
            assert!(error <= 1e-3, "image {index}, class {class}: expected {expected}, got {got}");
        }
    }
}

#[test]
fn repvgg() {
    matches_pytorch("repvgg-cifar10");
}

#[test]
fn mobileone() {
    matches_pytorch("mobileone-cifar10");
}
