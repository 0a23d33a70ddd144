//! Whole networks on every adapter and the Cpu device: int8 to the bit, float within the rounding
//! of its sums.
use std::collections::BTreeSet;

use repquant::internals::calibrate::calibrate;
use repquant::internals::exec::{FloatNet, Int8Net, Keep};
use repquant::internals::fuse::fuse;
use repquant::internals::images::{Batch, BatchOptions, Batches, Dataset};
use repquant::internals::load::{LoadOptions, load};
use repquant::internals::model::{Graph, Support};
use repquant::internals::quantize::{QuantizeOptions, SplitMode, quantize};
use repquant::internals::threshold::{ActivationMode, RangeOptions, choose};
use repquant::progress::Silent;

use crate::common::{devices, test_data, timm};

/// `scripts/ensure-vulkan.sh` asks this test whether there is an adapter.
#[test]
fn every_listed_adapter_opens() {
    assert!(devices()[0].is_native());
}

fn first_batch(dataset: Dataset, graph: &Graph, images: usize) -> Batch {
    let options = BatchOptions { batch_size: images, skip_bad: false, threads: None };
    Batches::new(dataset.limit(images).items, &graph.input, options).next().unwrap().unwrap()
}

/// Every int8 activation of every layer is the same on every device.
#[test]
fn int8_networks_give_the_same_bits_everywhere() {
    let Some(data) = test_data() else { return };
    let devices = devices();
    for name in ["repvgg", "mobileone"] {
        let path = data.join(format!("models/{name}-cifar10.safetensors"));
        let graph = fuse(&load(&path, &LoadOptions::default()).unwrap()).unwrap();
        let batch = first_batch(Dataset::unlabelled(&data.join("data/cifar10/calib")).unwrap(), &graph, 16);
        let one = || std::iter::once(Ok(batch.clone()));
        let calibration = calibrate(&devices[0], &graph, &mut one(), 16, None, &Silent).unwrap();
        for (split, support, bits, mode) in [
            (SplitMode::None, None, 8, ActivationMode::Symmetric),
            (SplitMode::Aligned, None, 8, ActivationMode::Symmetric),
            (SplitMode::Aligned, Some(Support::Full), 4, ActivationMode::Affine),
            (SplitMode::Aligned, Some(Support::Diagonal), 6, ActivationMode::Symmetric),
            (SplitMode::Paper, None, 8, ActivationMode::Affine),
            (SplitMode::Auto, None, 6, ActivationMode::Affine),
        ] {
            let ranges = choose(&calibration, &RangeOptions { mode, ..RangeOptions::default() }).unwrap();
            let options = QuantizeOptions { split, support, weight_bits: bits, ..QuantizeOptions::default() };
            let quantized = quantize(&graph, &ranges, &calibration, &options).unwrap();
            let mut expected: Vec<Vec<u32>> = Vec::new();
            for device in devices {
                let net = Int8Net::new(device, &quantized, batch.count, Keep::All).unwrap();
                net.run(&batch).unwrap();
                for node in 0..net.len() {
                    let words = net.read(node, batch.count).unwrap();
                    if device.is_native() {
                        let distinct: BTreeSet<u32> = words.iter().copied().collect();
                        assert!(distinct.len() > 1, "{name} {}: nothing but one value", quantized.nodes[node].name);
                        expected.push(words);
                    } else {
                        let place = format!(
                            "{name} {split:?} {support:?} {bits} {mode:?}, layer {}",
                            quantized.nodes[node].name
                        );
                        let wrong = words.iter().zip(&expected[node]).filter(|(a, b)| a != b).count();
                        assert!(
                            wrong == 0 && words.len() == expected[node].len(),
                            "{place} on {}: {wrong} words",
                            device.info().name
                        );
                    }
                }
            }
        }
    }
}

/// timm's networks, random weights and statistics, 224×224: its logits within 1e-3 of the largest,
/// on every device.
#[test]
fn timm_networks_give_timm_s_logits() {
    let devices = devices();
    for name in ["repvgg_a0", "mobileone_s0"] {
        let fixture = timm::fixture(name);
        let folder = tempfile::tempdir().unwrap();
        fixture.write(folder.path());
        let graph = fuse(&load(folder.path(), &LoadOptions::default()).unwrap()).unwrap();
        let mut batch = Batch::empty([224, 224]);
        for n in 0..fixture.logits.len() {
            batch.push(format!("image {n}"), None, &pixels(&timm::image(n, 224))).unwrap();
        }
        for device in devices {
            let net = FloatNet::new(device, &graph, batch.count, Keep::Last).unwrap();
            for (own, expected) in net.run(&batch).unwrap().iter().zip(&fixture.logits) {
                let largest = expected.iter().fold(0f64, |max, v| max.max(f64::from(v.abs())));
                let worst = own.iter().zip(expected).fold(0f64, |max, (a, b)| max.max((a - f64::from(*b)).abs()));
                println!("{name} on {}: {:e} of the largest", device.info().name, worst / largest);
                assert!(worst <= 1e-3 * largest, "{name} on {}: {worst} of {largest}", device.info().name);
            }
        }
    }
}

/// C × H × W bytes to packed pixels.
fn pixels(planes: &[u8]) -> Vec<u32> {
    let plane = planes.len() / 3;
    (0..plane).map(|p| (0..3).map(|c| u32::from(planes[c * plane + p]) << (8 * c)).sum()).collect()
}
