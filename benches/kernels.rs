//! Every kernel of a network's forward pass, by real layer shapes: operations or bytes a second, and how much of the
//! device's peak that is. The kernels of calibration are in `stages.rs`.
//!
//! `REPQUANT_BENCH_DEVICE` names the device; see `benches/README.md`.

mod common;

use common::peaks::{Bound, PeakTable};
use common::table::{Table, milliseconds, number};
use common::{Speed, Timer, device, speed};
use ndarray::{Array1, Array4};
use repquant::Result;
use repquant::device::{Buffer, Device, Recorder};
use repquant::kernels::{
    Epilogue, Geometry, Random, binary_i8, conv_f32, conv_i8, depthwise_f32, depthwise_i8, dequantize, dequantize_acc,
    gather_i8, global_pool_f32, global_pool_i8, move_i8, normalize, pool_i8, quantize_activation, quantize_input,
};
use repquant::model::{
    Axis, Coarse, CoarseScale, Conv, Multiplier, Pool, PoolKind, QBinary, QConv, QParams, Rearrange, RearrangeKind,
    Shape, Support,
};

/// Output channels, input channels, side of the input, side of the kernel, stride: RepVGG-A0's layers, and the pointwise
/// ones of MobileOne-S0.
const DENSE: [(usize, usize, usize, usize, usize); 9] = [
    (48, 3, 224, 3, 2),
    (48, 48, 112, 3, 2),
    (48, 48, 56, 3, 1),
    (96, 96, 28, 3, 1),
    (192, 96, 28, 3, 2),
    (192, 192, 14, 3, 1),
    (1280, 192, 14, 3, 2),
    (48, 48, 112, 1, 1),
    (256, 256, 14, 1, 1),
];

/// Channels, side of the input, stride: depthwise layers of MobileOne-S0.
const DEPTHWISE: [(usize, usize, usize); 3] = [(48, 112, 2), (128, 28, 1), (256, 14, 1)];

/// An activation that elementwise kernels run over, and the one that is pooled.
const WIDE: Shape = Shape { channels: 48, height: 56, width: 56 };
const LAST: Shape = Shape { channels: 1280, height: 7, width: 7 };

struct Bench<'d> {
    device: &'d Device,
    timer: Timer,
    rows: PeakTable<'d>,
    images: usize,
    random: Random,
}

impl Bench<'_> {
    fn floats(&mut self, words: usize) -> Buffer {
        let words: Vec<u32> = (0..words).map(|_| self.random.float().max(0.0).to_bits()).collect();
        self.device.upload(&words, "x").expect("the device has memory")
    }

    fn levels(&mut self, words: usize) -> Buffer {
        let words: Vec<u32> = (0..words).map(|_| self.random.next_u64() as u32 & 0x7F7F_7F7F).collect();
        self.device.upload(&words, "x").expect("the device has memory")
    }

    fn empty(&self, words: usize) -> Buffer {
        self.device.alloc(words, "y").expect("the device has memory")
    }

    /// Times what makes `work` operations, or reads and writes so many bytes.
    fn time(&mut self, name: &str, bound: Bound, work: f64, record: impl Fn(&mut Recorder<'_>) -> Result<()>) {
        if let Some(seconds) = self.timer.kernel(self.device, name, record) {
            let rate = work / seconds;
            self.rows.row([name.into(), milliseconds(seconds), number(rate / 1e9)], bound, rate);
        }
    }

    /// Times what makes `macs` multiplications.
    fn convolution(&mut self, name: &str, macs: f64, bound: Bound, record: impl Fn(&mut Recorder<'_>) -> Result<()>) {
        self.time(name, bound, 2.0 * macs, record);
    }

    /// Times what reads and writes `words` words.
    fn other(&mut self, name: &str, words: usize, record: impl Fn(&mut Recorder<'_>) -> Result<()>) {
        self.time(name, Bound::Memory, 4.0 * words as f64, record);
    }
}

/// A layer's int8 form with random levels.
fn quantized(random: &mut Random, shape: (usize, usize, usize, usize), conv: &Conv, coarse: bool) -> QConv {
    let mut level = |shape| Array4::from_shape_simple_fn(shape, || random.integer(-127, 127) as i8);
    let (o, i, ..) = shape;
    let coarse = coarse.then(|| Coarse {
        support: Support::Center,
        weights: level((o, i, 1, 1)),
        scale: CoarseScale::Shift(Array1::from_elem(o, 3)),
    });
    QConv {
        bits: 8,
        fine: level(shape),
        coarse,
        scale: Array1::from_elem(o, 0.01),
        bias: Array1::zeros(o),
        multiplier: Array1::from_elem(o, 1 << 30),
        right_shift: Array1::from_elem(o, 45),
        stride: conv.stride,
        padding: conv.padding,
        groups: conv.groups,
    }
}

const OUTPUT: conv_i8::Output = conv_i8::Output { zero_point: 0, low: 0, high: 127 };

fn dense(bench: &mut Bench<'_>, (o, i, side, kernel, stride): (usize, usize, usize, usize, usize)) {
    let device = bench.device;
    let weight = Array4::from_shape_simple_fn((o, i, kernel, kernel), || bench.random.float());
    let padding = kernel / 2;
    let conv = Conv { weight, bias: Array1::zeros(o), stride: [stride; 2], padding: [padding; 2], groups: 1 };
    let shape = Shape { channels: i, height: side, width: side };
    let geometry = Geometry::new(bench.images, shape, o, [kernel; 2], [stride; 2], [padding; 2], 1);
    let macs = (geometry.out_pixels() * conv.weight.len()) as f64;
    let spent = geometry.multiplications();
    let layer = format!("{i}→{o} {kernel}×{kernel}/{stride} at {side}");

    let (x, y) = (bench.floats(geometry.in_words(4)), bench.empty(geometry.out_words(4)));
    let weights = conv_f32::Weights::new(device, &conv).expect("the device has memory");
    bench.convolution(&format!("conv_f32 {layer}"), macs, Bound::F32, |rec| {
        let name = conv_f32::SPEC.name;
        rec.kernel(name, spent, |rec| conv_f32::dispatch(rec, &geometry, Epilogue::plain(true), &x, &weights, &y))
    });

    let (x, y) = (bench.levels(geometry.in_words(1)), bench.empty(geometry.out_words(1)));
    for coarse in [false, true] {
        if coarse && kernel == 1 {
            // Pointwise kernels stay whole.
            continue;
        }
        let conv = quantized(&mut bench.random, (o, i, kernel, kernel), &conv, coarse);
        let parts = if coarse { 1.0 + 1.0 / (kernel * kernel) as f64 } else { 1.0 };
        let weights = conv_i8::Weights::new(device, &conv).expect("the device has memory");
        let name = format!("conv_i8{} {layer}", if coarse { " centre split" } else { "" });
        bench.convolution(&name, macs * parts, Bound::Int8, |rec| {
            let name = conv_i8::SPEC.name;
            rec.kernel(name, spent, |rec| conv_i8::dispatch(rec, &geometry, 0, &OUTPUT, &x, &weights, &y))
        });
    }
}

fn depthwise(bench: &mut Bench<'_>, (channels, side, stride): (usize, usize, usize)) {
    let device = bench.device;
    let weight = Array4::from_shape_simple_fn((channels, 1, 3, 3), || bench.random.float());
    let conv = Conv { weight, bias: Array1::zeros(channels), stride: [stride; 2], padding: [1; 2], groups: channels };
    let shape = Shape { channels, height: side, width: side };
    let geometry = Geometry::new(bench.images, shape, channels, [3; 2], [stride; 2], [1; 2], channels);
    let layer = format!("{channels} 3×3/{stride} at {side}");

    let (x, y) = (bench.floats(geometry.in_words(4)), bench.empty(geometry.out_words(4)));
    let weights = depthwise_f32::Weights::new(device, &conv).expect("the device has memory");
    bench.other(&format!("depthwise_f32 {layer}"), geometry.in_words(4) + geometry.out_words(4), |rec| {
        depthwise_f32::dispatch(rec, &geometry, Epilogue::plain(true), &x, &weights, &y)
    });

    let (x, y) = (bench.levels(geometry.in_words(1)), bench.empty(geometry.out_words(1)));
    let conv = quantized(&mut bench.random, (channels, 1, 3, 3), &conv, false);
    let weights = depthwise_i8::Weights::new(device, &conv).expect("the device has memory");
    bench.other(&format!("depthwise_i8 {layer}"), geometry.in_words(1) + geometry.out_words(1), |rec| {
        depthwise_i8::dispatch(rec, &geometry, 0, &OUTPUT, &x, &weights, &y)
    });
}

/// Input, pooling and the kernels between float and int8 layers.
fn elementwise(bench: &mut Bench<'_>) {
    let (device, images) = (bench.device, bench.images);
    let q = QParams::symmetric(1.0, 8);
    let pixels = images * 224 * 224;
    let levels = [[0.5; 256]; 3];
    let x = bench.levels(pixels);
    let (float, packed) = (bench.empty(4 * pixels), bench.empty(pixels));
    let table = normalize::table(device, &levels).expect("the device has memory");
    bench.other("normalize 224×224", 5 * pixels, |rec| normalize::dispatch(rec, pixels, &x, &table, &float));
    let table = quantize_input::table(device, &levels, &q).expect("the device has memory");
    bench
        .other("quantize_input 224×224", 2 * pixels, |rec| quantize_input::dispatch(rec, pixels, &x, &table, &packed));

    let (pixels, words) = (images * WIDE.pixels(), images * WIDE.pixels() * WIDE.padded_channels());
    let (float, packed) = (bench.floats(words), bench.levels(words / 4));
    let (real, levels) = (bench.empty(words), bench.empty(words / 4));
    bench.other(&format!("quantize_activation {WIDE}"), words + words / 4, |rec| {
        quantize_activation::dispatch(rec, pixels, WIDE.channels, &q, &float, &levels)
    });
    bench.other(&format!("dequantize {WIDE}"), words + words / 4, |rec| {
        dequantize::dispatch(rec, pixels, WIDE.channels, q.scale, 0, &packed, &real)
    });

    let factors = dequantize_acc::Factors::new(device, &[1e-3; WIDE.channels]).expect("the device has memory");
    bench.other(&format!("dequantize_acc {WIDE}"), 2 * words, |rec| {
        dequantize_acc::dispatch(rec, pixels, &factors, true, &float, &real)
    });

    let (channels, words) = (images * LAST.padded_channels(), images * LAST.pixels() * LAST.padded_channels());
    let (float, packed) = (bench.floats(words), bench.levels(words / 4));
    let (real, levels) = (bench.empty(channels), bench.empty(channels / 4));
    bench.other(&format!("global_pool_f32 {LAST}"), words + channels, |rec| {
        global_pool_f32::dispatch(rec, images, LAST, &float, &real)
    });
    let multiplier = Multiplier { multiplier: 1 << 30, right_shift: 36 };
    bench.other(&format!("global_pool_i8 {LAST}"), (words + channels) / 4, |rec| {
        global_pool_i8::dispatch(rec, images, LAST, 0, multiplier, &OUTPUT, &packed, &levels)
    });
}

/// What lies between the convolutions of networks with branches, in integers.
fn between(bench: &mut Bench<'_>) {
    let (device, images) = (bench.device, bench.images);
    let q = QParams::symmetric(1.0, 8);
    let words = images * WIDE.pixels() * WIDE.padded_channels() / 4;
    let (a, b, y) = (bench.levels(words), bench.levels(words), bench.empty(2 * words));
    let operand = |shape, buffer| binary_i8::Levels { shape, zero_point: 0, buffer };
    let multiplier = Multiplier { multiplier: 1 << 30, right_shift: 36 };
    let sum = QBinary::Sum { multipliers: [1 << 29, 1 << 28], right_shift: 30 };
    bench.other(&format!("binary_i8 sum {WIDE}"), 3 * words, |rec| {
        binary_i8::dispatch(rec, images, &sum, [operand(WIDE, &a), operand(WIDE, &b)], &OUTPUT, &y)
    });
    let (gate, product) = (Shape { height: 1, width: 1, ..WIDE }, QBinary::Product(multiplier));
    bench.other(&format!("binary_i8 product {WIDE} by {gate}"), 2 * words, |rec| {
        binary_i8::dispatch(rec, images, &product, [operand(WIDE, &a), operand(gate, &b)], &OUTPUT, &y)
    });

    for kind in [PoolKind::Max, PoolKind::Average] {
        let pool = Pool { kind, kernel: [3; 2], stride: [2; 2], padding: [1; 4], ceil: false };
        let windows = pool_i8::Windows::new(device, pool, &[multiplier; 9], WIDE).expect("the device has memory");
        bench.other(&format!("pool_i8 {kind:?} 3×3/2 {WIDE}"), words + words / 4, |rec| {
            pool_i8::dispatch(rec, images, &windows, 0, &OUTPUT, &a, &y)
        });
    }

    let table = repquant::model::Table::of(&q, &q, |x| x * x);
    let twice = Shape { channels: 2 * WIDE.channels, ..WIDE };
    for (name, table, place, y_shape) in
        [("table", Some(&table), 0, WIDE), ("behind another", None, WIDE.channels, twice)]
    {
        let mapping = move_i8::Mapping::new(device, table).expect("the device has memory");
        let at = (Axis::Channels, place);
        bench.other(&format!("move_i8 {name} {WIDE}"), 2 * words, |rec| {
            move_i8::dispatch(rec, images, WIDE, &mapping, at, y_shape, 0, &a, &y)
        });
    }

    let sides = vec![2, WIDE.channels / 2, WIDE.pixels()];
    let shuffle = RearrangeKind::Transpose { sides, order: vec![1, 0, 2] };
    let blocks = Shape { height: WIDE.height / 2, width: WIDE.width / 2, ..WIDE };
    for (name, kind, x_shape, read) in
        [("shuffle", shuffle, WIDE, words), ("upsample", RearrangeKind::Upsample { factor: [2; 2] }, blocks, words / 4)]
    {
        let places = gather_i8::Places::new(device, &Rearrange { kind, shape: WIDE }, x_shape);
        let places = places.expect("the device has memory");
        bench.other(&format!("gather_i8 {name} {WIDE}"), words + read, |rec| {
            gather_i8::dispatch(rec, images, &places, 0, &a, &y)
        });
    }
}

fn main() {
    let Some(device) = device() else { return };
    let images = match speed(&device) {
        Speed::Native => 4,
        Speed::Software => 1,
        Speed::Gpu => 64,
    };
    let name = &device.info().name;
    let mut bench =
        Bench { device: &device, timer: Timer::new(), rows: PeakTable::new(&device), images, random: Random::new(1) };
    // Software Vulkan takes seconds for what others do in milliseconds.
    let dense_layers = if speed(&device) == Speed::Software { &DENSE[2..6] } else { &DENSE[..] };
    for layer in dense_layers {
        dense(&mut bench, *layer);
    }
    for layer in DEPTHWISE {
        depthwise(&mut bench, layer);
    }
    elementwise(&mut bench);
    between(&mut bench);
    let columns = |rate| ["kernel and layer", "ms", rate, "of peak"];
    bench.rows.finish(
        Table::new(format!("Convolutions on {name}, batch {images}"), &columns("GOP/s")),
        Table::new(format!("Kernels bound by memory on {name}, batch {images}"), &columns("GB/s")),
    );
    bench.timer.finish();
}
