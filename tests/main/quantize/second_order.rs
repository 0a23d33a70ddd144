//! Second-order rounding of whole networks: what it gains, and what it does not depend on. The solver
//! has a twin beside it.

use repquant::internals::Random;
use repquant::internals::calibrate::{Calibration, calibrate};
use repquant::internals::evaluate::{Contender, evaluate};
use repquant::internals::exec::Int8Net;
use repquant::internals::exec::Keep;
use repquant::internals::export::safetensors::{from_bytes, to_bytes};
use repquant::internals::images::{Batch, Content};
use repquant::internals::model::{Graph, QuantizedGraph, Support};
use repquant::internals::quantize::{
    ACTIVATION_MEMORY, CalibrationImages, Granularity, QuantizeOptions, Rounding, SplitMode, quantize, quantize_on,
};
use repquant::internals::threshold::{ActivationMode, ActivationRanges, Method, RangeOptions, choose};
use repquant::progress::{Event, Silent, Stage};
use repquant::{Device, ErrorKind, Progress, Result};

use super::branched::branched;
use crate::common::devices;
use crate::common::network::network;

/// Images whose pixels go with their neighbours.
pub(crate) fn images(graph: &Graph, count: usize) -> Batch {
    let mut random = Random::new(5);
    let [height, width] = graph.input.size;
    let mut all = Batch { content: Content::Values(Vec::new()), ..Batch::empty([height, width]) };
    for image in 0..count {
        let (mut words, mut last) = (Vec::new(), 0.0);
        for _ in 0..height * width {
            last = 0.8 * last + random.between(-1.0, 1.0);
            let colour = |random: &mut Random| (last + 0.3 * random.between(-1.0, 1.0)) as f32;
            words.extend([colour(&mut random), colour(&mut random), colour(&mut random), 0.0].map(f32::to_bits));
        }
        all.push_values(format!("image {image}"), None, &words).unwrap();
    }
    all
}

struct Bench {
    graph: Graph,
    images: Batch,
    calibration: Calibration,
    ranges: ActivationRanges,
    memory: u64,
}

impl Bench {
    fn new(graph: Graph) -> Self {
        let images = images(&graph, 24);
        let calibration = calibrate(&Device::cpu(), &graph, &mut images.split(10).map(Ok), 10, None, &Silent).unwrap();
        let options = RangeOptions { method: Method::MinMax, bits: 8, mode: ActivationMode::Affine };
        let ranges = choose(&calibration, &options).unwrap();
        Self { ranges, graph, images, calibration, memory: ACTIVATION_MEMORY }
    }

    fn nearest(&self, options: &QuantizeOptions) -> QuantizedGraph {
        quantize(&self.graph, &self.ranges, &self.calibration, options).unwrap()
    }

    fn try_on(&self, device: &Device, options: &QuantizeOptions, batch: usize) -> Result<QuantizedGraph> {
        let mut batches = self.images.split(batch).map(Ok);
        let images = CalibrationImages { device, batches: &mut batches, max_images: batch, memory: self.memory };
        let rounding = if options.bias_correction { Rounding::Nearest } else { Rounding::SecondOrder };
        let options = QuantizeOptions { rounding, ..options.clone() };
        quantize_on(&self.graph, &self.ranges, &self.calibration, &options, images, &Silent)
    }

    fn on(&self, device: &Device, options: &QuantizeOptions, batch: usize) -> QuantizedGraph {
        self.try_on(device, options, batch).unwrap()
    }

    /// SQNR of the first output.
    fn sqnr(&self, quantized: &QuantizedGraph) -> f64 {
        let contenders = [Contender { name: "it", graph: quantized, layers: false }];
        let mut batches = self.images.split(8).map(Ok);
        let found = evaluate(&Device::cpu(), Some(&self.graph), &contenders, &mut batches, 8, None, &Silent).unwrap();
        found[1].outputs[0].fidelity.sqnr_db().unwrap()
    }
}

#[test]
fn the_same_bytes_in_any_batches_and_threads() {
    for bench in [Bench::new(network()), Bench::new(branched())] {
        let options = QuantizeOptions { weight_bits: 4, ..Default::default() };
        for device in devices() {
            let name = &device.info().name;
            let first = to_bytes(&bench.on(device, &options, 24)).unwrap();
            assert_eq!(to_bytes(&from_bytes(&first).unwrap()).unwrap(), first, "{name}");
            for batch in [1, 7] {
                assert!(to_bytes(&bench.on(device, &options, batch)).unwrap() == first, "{name}, batches of {batch}");
            }
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            assert!(one.install(|| to_bytes(&bench.on(device, &options, 10)).unwrap()) == first, "{name}, one thread");
            // What comes out runs as any network does.
            let quantized = from_bytes(&first).unwrap();
            Int8Net::new(device, &quantized, 24, Keep::Last).unwrap().run(&bench.images).unwrap();
        }
    }
}

#[test]
fn every_form_of_split_gains() {
    let bench = Bench::new(network());
    let splits = [
        (SplitMode::None, None, Granularity::Channel),
        (SplitMode::None, None, Granularity::Tensor),
        (SplitMode::Paper, None, Granularity::Channel),
        (SplitMode::Aligned, None, Granularity::Channel),
        (SplitMode::Aligned, Some(Support::Full), Granularity::Channel),
        (SplitMode::Aligned, Some(Support::Diagonal), Granularity::Tensor),
        (SplitMode::Auto, None, Granularity::Channel),
    ];
    for (split, support, granularity) in splits {
        for weight_bits in [3, 4] {
            let options = QuantizeOptions { split, support, granularity, weight_bits, ..Default::default() };
            let (nearest, solved) = (bench.nearest(&options), bench.on(&Device::cpu(), &options, 8));
            let (before, after) = (bench.sqnr(&nearest), bench.sqnr(&solved));
            assert!(after > before + 1.0, "{split} {support:?} {granularity} W{weight_bits}: {before} dB, {after} dB");
            assert_eq!(solved.options["rounding"], "second-order");
            assert!(nearest.options.get("rounding").is_none(), "files stay as they were");
            assert_eq!(solved.macs().0, nearest.macs().0);
            let stored = |graph: &QuantizedGraph| graph.nodes.iter().map(|node| node.output).collect::<Vec<_>>();
            assert_eq!(stored(&solved), stored(&nearest));
        }
    }
}

/// Kept layers, a residual, several outputs, operations in float between.
#[test]
fn every_operation_may_lie_between_layers() {
    let bench = Bench::new(branched());
    for keep_float in [vec![], vec!["left".to_owned(), "boxes".to_owned()]] {
        let options = QuantizeOptions { weight_bits: 4, keep_float, ..Default::default() };
        let (nearest, solved) = (bench.nearest(&options), bench.on(&Device::cpu(), &options, 8));
        for (a, b) in nearest.nodes.iter().zip(&solved.nodes) {
            assert_eq!((&a.name, a.output, a.relu, &a.inputs), (&b.name, b.output, b.relu, &b.inputs));
            assert_eq!(a.computed.int8_weights().is_some(), b.computed.int8_weights().is_some(), "{}", a.name);
            if a.computed.int8_weights().is_none() {
                assert_eq!(a, b);
            }
        }
        assert!(nearest.nodes.iter().zip(&solved.nodes).any(|(a, b)| a != b));
    }
}

#[test]
fn to_nearest_no_image_is_looked_at() {
    let bench = Bench::new(network());
    let options = QuantizeOptions::default();
    let device = Device::cpu();
    let mut none = std::iter::once_with(|| unreachable!("an image was asked for"));
    let images = CalibrationImages { device: &device, batches: &mut none, max_images: 1, memory: 0 };
    let found = quantize_on(&bench.graph, &bench.ranges, &bench.calibration, &options, images, &Silent).unwrap();
    assert_eq!(found, bench.nearest(&options));
}

#[test]
fn what_cannot_be_rounded_so_is_refused() {
    let mut bench = Bench::new(network());
    let options = QuantizeOptions { rounding: Rounding::SecondOrder, ..Default::default() };
    let error = quantize(&bench.graph, &bench.ranges, &bench.calibration, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("`rounding` second-order needs the images"), "{error}");
    let good = bench.images.clone();
    bench.images = Batch { count: 0, content: Content::Values(Vec::new()), ..Batch::empty([16, 16]) };
    let error = bench.try_on(&Device::cpu(), &options, 4).unwrap_err();
    assert!(error.to_string().contains("no images"), "{error}");
    bench.images = good;
    if let Content::Values(words) = &mut bench.images.content {
        words[16 * 16 * 4 * 3] = f32::NAN.to_bits();
    }
    let error = bench.try_on(&Device::cpu(), &options, 4).unwrap_err();
    assert!(error.to_string().contains("stage0") && error.to_string().contains("NaN"), "{error}");
}

#[test]
fn progress_counts_layers() {
    struct Count(std::cell::Cell<u64>);
    impl Progress for Count {
        fn event(&self, event: Event) {
            if let Event::Advance { stage: Stage::Quantize, items } = event {
                self.0.set(self.0.get() + items);
            }
        }
    }
    let bench = Bench::new(network());
    let (device, count) = (Device::cpu(), Count(std::cell::Cell::new(0)));
    let mut batches = bench.images.split(24).map(Ok);
    let images = CalibrationImages { device: &device, batches: &mut batches, max_images: 24, memory: 0 };
    let options = QuantizeOptions { rounding: Rounding::SecondOrder, ..Default::default() };
    quantize_on(&bench.graph, &bench.ranges, &bench.calibration, &options, images, &count).unwrap();
    assert_eq!(count.0.get(), 6);
}

/// With no room for activations everything is computed from the images again and again.
#[test]
fn memory_changes_nothing() {
    for (graph, bias_correction) in [(network(), true), (branched(), false)] {
        let mut bench = Bench::new(graph);
        let options = QuantizeOptions { weight_bits: 4, bias_correction, ..Default::default() };
        for device in devices() {
            bench.memory = ACTIVATION_MEMORY;
            let held = to_bytes(&bench.on(device, &options, 7)).unwrap();
            // The second: some batches are held and others not.
            for memory in [0, 100_000] {
                bench.memory = memory;
                let name = &device.info().name;
                assert!(to_bytes(&bench.on(device, &options, 7)).unwrap() == held, "{name}, {memory} bytes");
            }
        }
    }
}

#[test]
fn biases_are_corrected_to_nearest_in_any_batches() {
    for bench in [Bench::new(network()), Bench::new(branched())] {
        for (weight_bits, split) in [(8, SplitMode::Aligned), (4, SplitMode::Paper), (3, SplitMode::None)] {
            let options = QuantizeOptions { weight_bits, split, bias_correction: true, ..Default::default() };
            for device in devices().iter().filter(|_| weight_bits == 4) {
                let first = to_bytes(&bench.on(device, &options, 24)).unwrap();
                let again = to_bytes(&bench.on(device, &options, 7)).unwrap();
                assert!(again == first, "{}", device.info().name);
            }
            let nearest = bench.nearest(&QuantizeOptions { bias_correction: false, ..options.clone() });
            let corrected = bench.on(&Device::cpu(), &options, 8);
            assert_eq!(corrected.options["bias_correction"], true);
            let mut changed = 0;
            for (a, b) in nearest.nodes.iter().zip(&corrected.nodes) {
                let (Some(a), Some(b)) = (a.computed.int8_weights(), b.computed.int8_weights()) else { continue };
                assert_eq!((&a.fine, &a.coarse, &a.scale), (&b.fine, &b.coarse, &b.scale));
                changed += a.bias.iter().zip(&b.bias).filter(|(a, b)| a != b).count();
            }
            let noted =
                corrected.nodes.iter().flat_map(|node| &node.split.notes).filter(|note| note.contains("biases"));
            let layers = corrected.nodes.iter().filter(|node| node.computed.int8_weights().is_some()).count();
            assert_eq!(noted.count(), layers);
            assert!(changed > 0);
            if weight_bits < 8 {
                let (before, after) = (bench.sqnr(&nearest), bench.sqnr(&corrected));
                assert!(after > before, "W{weight_bits} {split}: {before} dB, {after} dB");
            }
        }
    }
}

#[test]
fn biases_are_not_corrected_by_statistics_alone() {
    let bench = Bench::new(network());
    let options = QuantizeOptions { bias_correction: true, ..Default::default() };
    let error = quantize(&bench.graph, &bench.ranges, &bench.calibration, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("`bias_correction` needs the images"), "{error}");
}
