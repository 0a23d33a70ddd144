//! Statistics of the same activations are the same bits in any batches, any order, merged, and on
//! every device.
use crate::ErrorKind;
use crate::calibrate::{ActivationStats, BINS, Collector, POWER_BINS};
use crate::device::{Buffer, Device, Recorder};
use crate::kernels::statistics::Extent;
use crate::kernels::statistics::range::Range;
use crate::model::Shape;
use crate::random::Random;
use ndarray::Array2;
use pollster::block_on;

use crate::testing::devices;

const IMAGES: usize = 130;

/// An activation: its name, shape, and the f32 NHWC values of each image with padded channels.
struct Activation {
    name: String,
    shape: Shape,
    images: Vec<Vec<f32>>,
}

impl Activation {
    /// `value(image, channel)` for every value; the padding is NaN or huge, so that counting it
    /// would be noticed.
    fn new(name: &str, shape: Shape, mut value: impl FnMut(usize, usize) -> f32) -> Self {
        let stored = shape.padded_channels();
        let mut image = |i| {
            let values = (0..shape.pixels() * stored).map(|k| match k % stored {
                c if c < shape.channels => value(i, c),
                _ => [f32::NAN, f32::MIN][k / stored % 2],
            });
            values.collect()
        };
        Self { name: name.into(), shape, images: (0..IMAGES).map(&mut image).collect() }
    }
}

/// Records the range of an activation, as the network that computes it does, and its counting.
fn record(collector: &mut Collector, rec: &mut Recorder<'_>, index: usize, extent: Extent, x: &Buffer) {
    rec.run(&Range { extent, x, row: collector.row(index) }).unwrap();
    collector.record(rec, index, extent.images, x).unwrap();
}

/// A power of two or one of its neighbours, so on or beside the edges of bins.
fn edge(random: &mut Random, octaves: i64) -> f32 {
    let power = ((127 + random.integer(-octaves, octaves)) as u32) << 23;
    f32::from_bits(power.wrapping_add_signed(random.integer(-1, 1) as i32))
}

/// Deliberately uneven activations.
fn activations() -> Vec<Activation> {
    let mut random = Random::new(9);
    let mut relu = Random::new(10);
    let mut subnormal = Random::new(11);
    let mut huge = Random::new(12);
    vec![
        Activation::new("input", Shape::new(3, 9, 7), |_, _| random.float() * 2.6),
        // The range grows over the images by far more than 12 octaves; half of the values are zeros
        // of either sign.
        Activation::new("growing", Shape::new(5, 3, 7), |image, channel| match relu.integer(0, 5) {
            0 | 1 => 0.0,
            2 => -0.0,
            3 => edge(&mut relu, 3) * 2f32.powi(image as i32 / 4),
            _ => relu.float().abs() * (channel + 1) as f32 * 2f32.powi(image as i32 / 4),
        }),
        Activation::new("negative", Shape::new(8, 2, 2), |image, _| -edge(&mut subnormal, 20) * (1 + image % 9) as f32),
        Activation::new("tiny", Shape::new(2, 4, 4), |image, _| {
            let bits = subnormal.integer(0, if image < 60 { 0x7F_FFFF } else { 0x0A00_0000 }) as u32;
            f32::from_bits(bits | (subnormal.next_u64() as u32 & 1 << 31))
        }),
        Activation::new("every exponent", Shape::new(18, 5, 3), |_, _| {
            loop {
                let value = f32::from_bits(huge.next_u64() as u32);
                if value.is_finite() {
                    break value;
                }
            }
        }),
        Activation::new("zero", Shape::new(4, 3, 3), |image, _| if image % 2 == 0 { 0.0 } else { -0.0 }),
        Activation::new("pooled", Shape::new(1280, 1, 1), |_, channel| (channel % 97) as f32 / 16.0),
    ]
}

/// The definition, value by value: extremes and exponent first, then every value's bin in f64,
/// which is exact.
fn reference(activation: &Activation) -> ActivationStats {
    let shape = activation.shape;
    let pixels = || activation.images.iter().flat_map(|image| image.chunks(shape.padded_channels()));
    let values = || pixels().flat_map(|pixel| pixel[..shape.channels].iter().copied());
    let largest = values().fold(0.0, |largest: f64, v| largest.max(f64::from(v.abs())));
    let exponent = (-100..200).find(|&e| largest < BINS as f64 * 2f64.powi(e)).unwrap();
    let mut power = Array2::zeros((shape.channels, POWER_BINS));
    let (mut positive, mut negative, mut zeros) = (vec![0; BINS], vec![0; BINS], 0);
    for pixel in pixels() {
        for (channel, &v) in pixel[..shape.channels].iter().enumerate() {
            if v == 0.0 {
                zeros += 1;
                continue;
            }
            let bin = (f64::from(v.abs()) * 2f64.powi(-exponent)).floor() as usize;
            *(if v > 0.0 { &mut positive[bin] } else { &mut negative[bin] }) += 1;
            let class = ((v.abs().to_bits() >> 22) as i64 - 190).clamp(0, 127) as usize;
            power[[channel, class]] += 1;
        }
    }
    let name = activation.name.clone();
    // Adding +0 makes −0 a +0.
    let min = values().fold(f32::INFINITY, f32::min) + 0.0;
    let max = values().fold(f32::NEG_INFINITY, f32::max) + 0.0;
    ActivationStats { name, exponent, zeros, min, max, positive, negative, power }
}

/// Collects the images of these indices in batches.
fn collect(device: &Device, activations: &[Activation], images: &[usize], batch: usize) -> Vec<ActivationStats> {
    let shapes: Vec<(String, Shape)> = activations.iter().map(|a| (a.name.clone(), a.shape)).collect();
    let mut collector = Collector::new(device, &shapes).unwrap();
    for batch in images.chunks(batch) {
        let names: Vec<String> = batch.iter().map(|i| format!("{i}.jpg")).collect();
        let mut rec = device.recorder();
        for (index, activation) in activations.iter().enumerate() {
            let words: Vec<u32> = batch.iter().flat_map(|&i| &activation.images[i]).map(|v| v.to_bits()).collect();
            let x = device.upload(&words, "x").unwrap();
            let extent = Extent { images: batch.len(), shape: activation.shape };
            record(&mut collector, &mut rec, index, extent, &x);
        }
        rec.submit().unwrap();
        block_on(collector.end_batch(device, &names)).unwrap();
    }
    block_on(collector.finish(device)).unwrap()
}

/// Equality to the bit, and a message that is not 10,000 numbers long. No NaN can be in it, and a
/// zero must be +0.
fn assert_same(case: &str, expected: &[ActivationStats], got: &[ActivationStats]) {
    assert_eq!(expected.len(), got.len(), "{case}");
    for (e, g) in expected.iter().zip(got) {
        let head = |s: &ActivationStats| (s.name.clone(), s.exponent, s.zeros, s.min.to_bits(), s.max.to_bits());
        assert_eq!(head(e), head(g), "{case}");
        let first = |a: &[u64], b: &[u64]| a.iter().zip(b).position(|(a, b)| a != b);
        assert_eq!(first(&e.positive, &g.positive), None, "{case}: {} positive", e.name);
        assert_eq!(first(&e.negative, &g.negative), None, "{case}: {} negative", e.name);
        assert!(e.power == g.power, "{case}: {} power", e.name);
        assert!(e == g, "{case}: {}", e.name);
    }
}

#[test]
fn statistics_do_not_depend_on_batches_order_or_device() {
    let activations = activations();
    let expected: Vec<ActivationStats> = activations.iter().map(reference).collect();
    assert_eq!((expected[5].exponent, expected[5].zeros), (-100, 36 * IMAGES as u64));
    assert_eq!((expected[5].min.to_bits(), expected[5].max.to_bits()), (0, 0));
    assert!(expected[1].exponent > 12 && expected[4].exponent > 100);
    let forward: Vec<usize> = (0..IMAGES).collect();
    let backward: Vec<usize> = (0..IMAGES).rev().collect();
    for device in devices() {
        let name = &device.info().name;
        for batch in [1, 7, 64] {
            assert_same(
                &format!("{name}, batches of {batch}"),
                &expected,
                &collect(&device, &activations, &forward, batch),
            );
        }
        assert_same(&format!("{name}, backward"), &expected, &collect(&device, &activations, &backward, 7));
        // The small half comes first and the large one first.
        for (first, second) in [forward.split_at(41), backward.split_at(89)] {
            let mut merged = collect(&device, &activations, first, 64);
            for (stats, more) in merged.iter_mut().zip(collect(&device, &activations, second, 7)) {
                stats.merge(&more).unwrap();
            }
            assert_same(&format!("{name}, halves merged"), &expected, &merged);
        }
    }
}

#[test]
fn what_is_not_finite_is_an_error_that_names_layer_and_image() {
    let shapes = [("stage1.0".to_owned(), Shape::new(3, 2, 2)), ("stage2.0".to_owned(), Shape::new(5, 1, 1))];
    let names: Vec<String> = (0..3).map(|i| format!("cat{i}.jpg")).collect();
    for device in devices() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut collector = Collector::new(&device, &shapes).unwrap();
            // A good batch, one whose last image is bad, and one whose first is: it may be on its
            // way when the bad one before is found.
            let mut results = Vec::new();
            for batch in 0..3 {
                let mut first = vec![1f32; 3 * 4 * 4];
                let mut second = vec![-2f32; 3 * 8];
                if batch == 1 {
                    // The first layer that goes wrong is named, though a later one does so in an
                    // earlier image.
                    first[2 * 16 + 5] = bad;
                    first[2 * 16 + 9] = bad;
                    second[8 + 4] = bad;
                }
                if batch == 2 {
                    first[0] = bad;
                }
                let mut rec = device.recorder();
                for (index, values) in [&first, &second].into_iter().enumerate() {
                    let words: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
                    let extent = Extent { images: 3, shape: shapes[index].1 };
                    record(&mut collector, &mut rec, index, extent, &device.upload(&words, "x").unwrap());
                }
                rec.submit().unwrap();
                let names: Vec<String> = names.iter().map(|name| format!("{batch}/{name}")).collect();
                results.push(block_on(collector.end_batch(&device, &names)));
            }
            results.push(block_on(collector.settle(&device)));
            results.remove(0).unwrap();
            let error = results.into_iter().find_map(Result::err).unwrap();
            assert_eq!(error.kind(), ErrorKind::Input);
            let text = error.to_string();
            assert!(text.starts_with("1/cat2.jpg: layer stage1.0: "), "{}: {bad}: {text}", device.info().name);
        }
    }
}
