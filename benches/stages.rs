//! The heavy parts of each stage: convolutions, histogram, thresholds, split search.
//!
//! `cargo bench --bench stages` runs on the Cpu device; `REPQUANT_BENCH_DEVICE=software` (or a name) picks an adapter.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array1, Array4};
use repquant::calibrate::{ActivationStats, Calibration, Collector};
use repquant::gpu::{Backends, Device, DeviceChoice};
use repquant::kernels::{Geometry, Random, conv_f32, conv_i8};
use repquant::model::{Coarse, CoarseScale, Conv, Interpolation, Preprocessing, QConv, Shape, Support};
use repquant::quantize::search;
use repquant::threshold::{Method, RangeOptions, choose};

const IMAGES: usize = 8;
const SHAPE: Shape = Shape { channels: 64, height: 56, width: 56 };

fn device() -> Device {
    let choice = std::env::var("REPQUANT_BENCH_DEVICE").unwrap_or_else(|_| "cpu".into());
    let choice: DeviceChoice = choice.parse().expect("any text is a choice");
    Device::open(&choice, Backends::All).expect("the device opens")
}

/// A 64 → 64 3×3 convolution of 56×56 images: float, int8 unsplit, int8 with the aligned centre split.
fn convolutions(c: &mut Criterion) {
    let device = device();
    let mut random = Random::new(1);
    let weight = Array4::from_shape_simple_fn((64, 64, 3, 3), || random.float());
    let conv = Conv { weight, bias: Array1::zeros(64), stride: [1, 1], padding: [1, 1], groups: 1 };
    let geometry = Geometry::new(IMAGES, SHAPE, 64, [3, 3], [1, 1], [1, 1], 1);
    let mut group = c.benchmark_group(format!("conv 64-64 3x3 56x56 batch {IMAGES} on {}", device.info().name));
    group.sample_size(20).throughput(Throughput::Elements((geometry.out_pixels() * 64 * 64 * 9) as u64));

    let x: Vec<u32> = random.floats(geometry.in_words(4)).iter().map(|v| v.to_bits()).collect();
    let (x, y) = (device.upload(&x, "x").unwrap(), device.alloc(geometry.out_words(4), "y").unwrap());
    let weights = conv_f32::Weights::new(&device, &conv).unwrap();
    group.bench_function("f32", |b| {
        b.iter(|| {
            let mut rec = device.recorder();
            conv_f32::dispatch(&mut rec, &geometry, true, &x, &weights, &y).unwrap();
            rec.submit().unwrap();
            device.wait().unwrap();
        });
    });

    let mut level = |shape| Array4::from_shape_simple_fn(shape, || random.integer(-127, 127) as i8);
    let (fine, coarse) = (level((64, 64, 3, 3)), level((64, 64, 1, 1)));
    let coarse =
        Coarse { support: Support::Center, weights: coarse, scale: CoarseScale::Shift(Array1::from_elem(64, 3)) };
    let x: Vec<u32> = (0..geometry.in_words(1)).map(|_| random.next_u64() as u32 & 0x7F7F_7F7F).collect();
    let (x, y) = (device.upload(&x, "x").unwrap(), device.alloc(geometry.out_words(1), "y").unwrap());
    let output = conv_i8::Output { zero_point: 0, low: 0, high: 127 };
    for (name, coarse) in [("int8 unsplit", None), ("int8 aligned/center", Some(coarse))] {
        let conv = QConv {
            bits: 8,
            fine: fine.clone(),
            coarse,
            scale: Array1::from_elem(64, 0.01),
            bias: Array1::zeros(64),
            multiplier: Array1::from_elem(64, 1 << 30),
            right_shift: Array1::from_elem(64, 45),
            stride: [1, 1],
            padding: [1, 1],
            groups: 1,
        };
        let weights = conv_i8::Weights::new(&device, &conv).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut rec = device.recorder();
                conv_i8::dispatch(&mut rec, &geometry, 0, &output, &x, &weights, &y).unwrap();
                rec.submit().unwrap();
                device.wait().unwrap();
            });
        });
    }
    group.finish();
}

/// Range, histogram and channel classes of one activation.
fn statistics(c: &mut Criterion) {
    let device = device();
    let values = IMAGES * SHAPE.len();
    let x: Vec<u32> = Random::new(2).floats(values).iter().map(|v| v.max(0.0).to_bits()).collect();
    let x = device.upload(&x, "x").unwrap();
    let mut group = c.benchmark_group(format!("statistics of {SHAPE} batch {IMAGES} on {}", device.info().name));
    group.throughput(Throughput::Bytes(4 * values as u64));
    group.bench_function("range, histogram, classes", |b| {
        let mut collector = Collector::new(&device, &[("x".into(), SHAPE)]).unwrap();
        b.iter(|| {
            let mut rec = device.recorder();
            collector.record(&mut rec, 0, IMAGES, &x).unwrap();
            rec.submit().unwrap();
            collector.end_batch(&device, &[]).unwrap();
        });
    });
    group.finish();
}

/// One range by each method, and the aligned split of one channel of 512 × 3 × 3 weights.
fn searches(c: &mut Criterion) {
    let mut random = Random::new(3);
    let (mut input, mut stats) = (ActivationStats::new("input", 1), ActivationStats::new("x", 1));
    input.add(&[1.0], 1).unwrap();
    stats.add(&random.floats(100_000).iter().map(|v| v.abs()).collect::<Vec<_>>(), 1).unwrap();
    let calibration = Calibration {
        model_digest: String::new(),
        preprocessing: Preprocessing {
            size: [1, 1],
            resize: None,
            interpolation: Interpolation::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
        },
        images: 1,
        activations: vec![input, stats],
    };
    for method in [Method::Mse, Method::Kl, Method::KlReparam] {
        let options = RangeOptions { method, ..RangeOptions::default() };
        c.bench_function(&format!("threshold {method}"), |b| b.iter(|| choose(&calibration, &options).unwrap()));
    }
    let weights = random.floats(512 * 9);
    let support: Vec<bool> = (0..weights.len()).map(|i| i % 9 == 4).collect();
    c.bench_function("aligned split of 512x3x3 weights", |b| b.iter(|| search(&weights, &support, 8)));
}

criterion_group!(benches, convolutions, statistics, searches);
criterion_main!(benches);
