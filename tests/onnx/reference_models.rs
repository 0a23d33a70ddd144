//! The trained reference models.

use std::path::Path;

use repquant::Device;
use repquant::internals::calibrate::{Calibration, calibrate};
use repquant::internals::exec;
use repquant::internals::export::onnx::{Format, InputForm, float, quantized};
use repquant::internals::fuse;
use repquant::internals::images::{Batch, BatchOptions, Batches, Dataset};
use repquant::internals::load::LoadOptions;
use repquant::internals::model::{Graph, QuantizedGraph, Support};
use repquant::internals::quantize::{QuantizeOptions, SplitMode, quantize};
use repquant::internals::threshold::{ActivationMode, RangeOptions, choose};
use repquant::progress::Silent;
use safetensors::SafeTensors;

use crate::common::{test_data, thorough};
use crate::compare::{assert_same_integers, logits, planes, top1};
use crate::runtime::Runtime;

/// A network to be made: its name, and how.
struct Variant {
    name: String,
    ranges: RangeOptions,
    weights: QuantizeOptions,
}

/// Every split and support, each with both kinds of activations.
fn variants(weight_bits: u8) -> Vec<Variant> {
    let (paper, aligned) = (SplitMode::Paper, SplitMode::Aligned);
    let [center, diagonal, full] = [Support::Center, Support::Diagonal, Support::Full].map(Some);
    let splits = [
        (SplitMode::None, None),
        (paper, None),
        (paper, diagonal),
        (paper, full),
        (aligned, None),
        (aligned, center),
        (aligned, diagonal),
        (aligned, full),
        (SplitMode::Auto, None),
    ];
    let mut variants = Vec::new();
    for (split, support) in splits {
        for mode in [ActivationMode::Symmetric, ActivationMode::Affine] {
            variants.push(Variant {
                name: format!("W{weight_bits}A8 {split} {support:?} {mode}"),
                ranges: RangeOptions { mode, ..RangeOptions::default() },
                weights: QuantizeOptions { weight_bits, split, support, ..QuantizeOptions::default() },
            });
        }
    }
    variants
}

/// Images of a data set in one batch.
fn decoded(dataset: Dataset, graph: &Graph) -> Batch {
    let mut all = Batch::empty(graph.input.size);
    let options = BatchOptions { batch_size: 200, skip_bad: false, threads: None };
    for part in Batches::new(dataset.items, &graph.input, options) {
        let part = part.unwrap();
        for (i, pixels) in part.pixels().chunks_exact(graph.input.size[0] * graph.input.size[1]).enumerate() {
            all.push(part.names[i].clone(), part.labels[i], pixels).unwrap();
        }
    }
    all
}

struct Model {
    graph: Graph,
    calibration: Calibration,
    validation: Batch,
}

fn model(data: &Path, name: &str) -> Model {
    let path = data.join(format!("models/{name}-cifar10.safetensors"));
    let graph = fuse::read(&path, &LoadOptions::default()).unwrap();
    let calibration = decoded(Dataset::unlabelled(&data.join("data/cifar10/calib")).unwrap(), &graph);
    let validation = Dataset::labelled(&data.join("data/cifar10/val"), None, graph.classes.as_deref()).unwrap();
    let validation = decoded(validation, &graph);
    let device = Device::cpu();
    let most = exec::batch_size(&device, &graph).unwrap();
    let mut images = calibration.split(64).map(Ok);
    let calibration = calibrate(&device, &graph, &mut images, most, None, &Silent).unwrap();
    Model { graph, calibration, validation }
}

impl Model {
    fn quantized(&self, variant: &Variant) -> QuantizedGraph {
        let ranges = choose(&self.calibration, &variant.ranges).unwrap();
        quantize(&self.graph, &ranges, &self.calibration, &variant.weights).unwrap()
    }
}

/// The integer form gives the same levels and logits for 200 images; at 8 bits the form with
/// quantize and dequantize agrees in 99 % of 2,000 images and is as right as this program.
fn agrees_with_onnx_runtime(name: &str) {
    let Some(data) = test_data() else { return };
    let Some(mut runtime) = Runtime::start() else { return };
    let model = model(&data, name);
    let images = &model.validation;
    let few = images.split(200).next().unwrap();
    let classes = model.graph.classes.as_ref().unwrap().len();
    let mut wrong = Vec::new();
    for variant in variants(8).into_iter().chain(variants(4)).step_by(if thorough() { 1 } else { 5 }) {
        let (what, bits) = (variant.name.clone(), variant.weights.weight_bits);
        let graph = model.quantized(&variant);
        assert_same_integers(&what, &graph, &few, &mut runtime);
        if bits != 8 {
            continue;
        }
        let file = quantized(&graph, Format::Qdq, InputForm::Normalized).unwrap();
        let answer = runtime.run(&file, InputForm::Normalized, &planes(images, 3), images.count, &["logits".into()]);
        let own: Vec<usize> = logits(&graph, images).iter().map(|row| top1(&row[..classes])).collect();
        let theirs: Vec<usize> = answer.logits(classes).iter().map(|row| top1(row)).collect();
        assert_eq!((own.len(), theirs.len()), (images.count, images.count));
        let share = |count: usize| 100.0 * count as f64 / images.count as f64;
        let right = |found: &[usize]| share(found.iter().zip(&images.labels).filter(|(a, b)| Some(**a) == **b).count());
        let agreement = share(own.iter().zip(&theirs).filter(|(a, b)| a == b).count());
        let difference = right(&theirs) - right(&own);
        println!("{name} {what}: agreement {agreement:.2} %, top-1 {:.2} % ({difference:+.2})", right(&theirs));
        if agreement < 99.0 || difference.abs() > 0.3 + 1e-9 {
            wrong.push(format!("{what}: agreement {agreement:.2} %, difference {difference:.2}"));
        }
    }
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
}

#[test]
fn repvgg_agrees_with_onnx_runtime() {
    agrees_with_onnx_runtime("repvgg");
}

#[test]
fn mobileone_agrees_with_onnx_runtime() {
    agrees_with_onnx_runtime("mobileone");
}

/// PyTorch's logits of 64 images, from the raw pixels.
#[test]
fn the_float_form_gives_pytorchs_logits() {
    let Some(data) = test_data() else { return };
    let Some(mut runtime) = Runtime::start() else { return };
    for name in ["repvgg", "mobileone"] {
        let path = data.join(format!("models/{name}-cifar10.safetensors"));
        let graph = fuse::read(&path, &LoadOptions::default()).unwrap();
        let golden = std::fs::read(data.join(format!("models/{name}-cifar10.golden.safetensors"))).unwrap();
        let golden = SafeTensors::deserialize(&golden).unwrap();
        let pixels = golden.tensor("golden.input_u8").unwrap();
        let torch = golden.tensor("golden.logits").unwrap();
        let torch: Vec<f32> = torch.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let largest = torch.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        for input in [InputForm::Normalized, InputForm::Pixels] {
            let file = float(&graph, input).unwrap();
            let answer = runtime.run(&file, input, pixels.data(), pixels.shape()[0], &["logits".into()]);
            let found = answer.logits(10).concat();
            assert_eq!(found.len(), torch.len());
            let worst = found.iter().zip(&torch).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
            println!("{name} {input:?}: {worst:.1e} of the largest");
            assert!(worst < 1e-4, "{name} {input:?}: {worst}");
        }
    }
}
