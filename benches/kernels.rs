//! Every kernel of a network's forward pass and the sums of second-order rounding, by real layer
//! shapes: operations or bytes a second, and how much of the device's peak that is. The kernels of
//! calibration are in `stages.rs`.
//!
//! `REPQUANT_BENCH_DEVICE` names the device; see `benches/README.md`.

mod common;

use common::peaks::{Bound, PeakTable};
use common::table::{Table, milliseconds, number};
use common::{Speed, Timer, device, speed};
use ndarray::{Array1, Array4};
use repquant::Device;
use repquant::Result;
use repquant::internals::model::{
    Axis, Coarse, CoarseScale, Conv, Multiplier, Pool, PoolKind, QBinary, QConv, QParams, Rearrange, RearrangeKind,
    Shape, Support, conv_output,
};
use repquant::internals::{
    BinaryI8, Buffer, ConcatI8, ConvF32, ConvI8, Dequantize, DequantizeAcc, Entries, Epilogue, Factors, FloatOf,
    GatherI8, GatherPatches, GlobalPoolF32, GlobalPoolI8, LevelOf, Levels, LookupI8, Mapping, Matrix, Normalize, Order,
    OutputLevels, Patches, PoolI8, QuantizeActivation, QuantizeInput, Random, Recorder, Run, SecondMoments, WeightsF32,
    WeightsI8, Windows, alloc, float_table, int8_table, upload,
};

/// Output channels, input channels, side of the input, side of the kernel, stride: RepVGG-A0's
/// layers, and the pointwise ones of MobileOne-S0.
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
        upload(self.device, &words).expect("the device has memory")
    }

    fn levels(&mut self, words: usize) -> Buffer {
        let words: Vec<u32> = (0..words).map(|_| self.random.next_u64() as u32 & 0x7F7F_7F7F).collect();
        upload(self.device, &words).expect("the device has memory")
    }

    fn empty(&self, words: usize) -> Buffer {
        alloc(self.device, words).expect("the device has memory")
    }

    /// Words of a batch of int8 activations; f32 have four times as many.
    fn words(&self, shape: Shape) -> usize {
        self.images * shape.pixels() * shape.padded_channels() / 4
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

const OUTPUT: OutputLevels = OutputLevels { zero_point: 0, low: 0, high: 127 };

fn dense(bench: &mut Bench<'_>, (o, i, side, kernel, stride): (usize, usize, usize, usize, usize)) {
    let (device, images) = (bench.device, bench.images);
    let weight = Array4::from_shape_simple_fn((o, i, kernel, kernel), || bench.random.float());
    let padding = kernel / 2;
    let conv = Conv { weight, bias: Array1::zeros(o), stride: [stride; 2], padding: [padding; 2], groups: 1 };
    let x_shape = Shape { channels: i, height: side, width: side };
    let y_shape = conv_output(x_shape, o, [kernel; 2], [stride; 2], [padding; 2]);
    let macs = (images * y_shape.pixels() * conv.weight.len()) as f64;
    let layer = format!("{i}→{o} {kernel}×{kernel}/{stride} at {side}");

    let (x_words, y_words) = (bench.words(x_shape), bench.words(y_shape));
    let (x, y) = (bench.floats(4 * x_words), bench.empty(4 * y_words));
    let weights = WeightsF32::new(device, &conv).expect("the device has memory");
    let kernel_f32 = ConvF32 { images, x_shape, weights: &weights, epilogue: Epilogue::plain(true), x: &x, y: &y };
    bench.convolution(&format!("conv_f32 {layer}"), macs, Bound::F32, |rec| kernel_f32.run(rec));

    let (x, y) = (bench.levels(x_words), bench.empty(y_words));
    for coarse in [false, true] {
        if coarse && kernel == 1 {
            // Pointwise kernels stay whole.
            continue;
        }
        let conv = quantized(&mut bench.random, (o, i, kernel, kernel), &conv, coarse);
        let parts = if coarse { 1.0 + 1.0 / (kernel * kernel) as f64 } else { 1.0 };
        let weights = WeightsI8::new(device, &conv).expect("the device has memory");
        let name = format!("conv_i8{} {layer}", if coarse { " centre split" } else { "" });
        let kernel_i8 = integer(images, x_shape, &weights, &x, &y);
        bench.convolution(&name, macs * parts, Bound::Int8, |rec| kernel_i8.run(rec));
    }
}

/// The patches of a layer of 3×3 with so many input channels at side 14, 64 of each image, and the sums
/// of their products: half of those of levels, and all of two bytes with levels.
fn moments(bench: &mut Bench<'_>, channels: usize) {
    let (device, images) = (bench.device, bench.images);
    let x_shape = Shape { channels, height: 14, width: 14 };
    let places: Vec<[usize; 2]> = (0..64).map(|i| [i / 8 + 3, i % 8 + 3]).collect();
    let patches = Patches::new(device, x_shape, [3; 2], [1; 2], [1; 2], &places).expect("they can be counted");
    let (count, rows) = (patches.count(images), patches.rows());
    let (x_words, stride) = (bench.words(x_shape), Matrix::stride(count));
    let (x, q) = (bench.floats(4 * x_words), bench.levels(x_words));
    let words = bench.empty(Matrix::len(rows, stride));
    let y = Matrix { words: &words, rows, stride };
    let range = 0..count;
    let gather = GatherPatches { patches: &patches, images, range, zero_point: 0, scale: 0.01, q: &q, x: &x, y };
    let layer = format!("{count} of {channels}×3×3");
    bench.other(&format!("gather_patches {layer}"), 2 * 3 * count * rows / 4, |rec| gather.run(rec));
    let (qq, uq, sums) = (bench.empty(2 * rows * rows), bench.empty(2 * rows * rows), bench.empty(4 * rows));
    let block = 0..rows;
    let blocks = std::slice::from_ref(&block);
    let kernel = SecondMoments { x: y, patches: count, groups: 1, blocks, qq: &qq, uq: &uq, sums: &sums };
    let macs = 2.5 * (count * rows * rows) as f64;
    bench.convolution(&format!("second_moments {layer}"), macs, Bound::Int8, |rec| kernel.run(rec));
}

/// An integer convolution of levels around 0.
fn integer<'a>(images: usize, x_shape: Shape, weights: &'a WeightsI8, x: &'a Buffer, y: &'a Buffer) -> ConvI8<'a> {
    ConvI8 { images, x_shape, x_zero_point: 0, weights, output: Some(OUTPUT), x, y }
}

fn depthwise(bench: &mut Bench<'_>, (channels, side, stride): (usize, usize, usize)) {
    let (device, images) = (bench.device, bench.images);
    let weight = Array4::from_shape_simple_fn((channels, 1, 3, 3), || bench.random.float());
    let conv = Conv { weight, bias: Array1::zeros(channels), stride: [stride; 2], padding: [1; 2], groups: channels };
    let x_shape = Shape { channels, height: side, width: side };
    let y_shape = conv_output(x_shape, channels, [3; 2], [stride; 2], [1; 2]);
    let layer = format!("{channels} 3×3/{stride} at {side}");

    let (x_words, y_words) = (bench.words(x_shape), bench.words(y_shape));
    let (x, y) = (bench.floats(4 * x_words), bench.empty(4 * y_words));
    let weights = WeightsF32::new(device, &conv).expect("the device has memory");
    let kernel = ConvF32 { images, x_shape, weights: &weights, epilogue: Epilogue::plain(true), x: &x, y: &y };
    bench.other(&format!("depthwise_f32 {layer}"), 4 * (x_words + y_words), |rec| kernel.run(rec));

    let (x, y) = (bench.levels(x_words), bench.empty(y_words));
    let conv = quantized(&mut bench.random, (channels, 1, 3, 3), &conv, false);
    let weights = WeightsI8::new(device, &conv).expect("the device has memory");
    let kernel = integer(images, x_shape, &weights, &x, &y);
    bench.other(&format!("depthwise_i8 {layer}"), x_words + y_words, |rec| kernel.run(rec));
}

/// Input, pooling and the kernels between float and int8 layers.
fn elementwise(bench: &mut Bench<'_>) {
    let (device, images) = (bench.device, bench.images);
    let q = QParams::symmetric(1.0, 8);
    let pixels = images * 224 * 224;
    let levels = [[0.5; 256]; 3];
    let x = bench.levels(pixels);
    let (float, packed) = (bench.empty(4 * pixels), bench.empty(pixels));
    let table = float_table(device, &levels).expect("the device has memory");
    let kernel = Normalize { pixels, x: &x, table: &table, y: &float };
    bench.other("normalize 224×224", 5 * pixels, |rec| kernel.run(rec));
    let table = int8_table(device, &levels, &q).expect("the device has memory");
    let kernel = QuantizeInput { pixels, x: &x, table: &table, y: &packed };
    bench.other("quantize_input 224×224", 2 * pixels, |rec| kernel.run(rec));

    let (pixels, channels, words) = (images * WIDE.pixels(), WIDE.channels, 4 * bench.words(WIDE));
    let (float, packed) = (bench.floats(words), bench.levels(words / 4));
    let (real, levels) = (bench.empty(words), bench.empty(words / 4));
    let kernel = QuantizeActivation { pixels, channels, q: &q, x: &float, y: &levels };
    bench.other(&format!("quantize_activation {WIDE}"), words + words / 4, |rec| kernel.run(rec));
    let kernel = Dequantize { pixels, channels, scale: q.scale, zero_point: 0, x: &packed, y: &real };
    bench.other(&format!("dequantize {WIDE}"), words + words / 4, |rec| kernel.run(rec));

    let factors = Factors::new(device, &[1e-3; WIDE.channels]).expect("the device has memory");
    let kernel = DequantizeAcc { pixels, factors: &factors, relu: true, x: &float, y: &real };
    bench.other(&format!("dequantize_acc {WIDE}"), 2 * words, |rec| kernel.run(rec));

    let (channels, words) = (images * LAST.padded_channels(), 4 * bench.words(LAST));
    let (float, packed) = (bench.floats(words), bench.levels(words / 4));
    let (real, levels) = (bench.empty(channels), bench.empty(channels / 4));
    let kernel = GlobalPoolF32 { images, x_shape: LAST, of: FloatOf::Mean, x: &float, y: &real };
    bench.other(&format!("global_pool_f32 {LAST}"), words + channels, |rec| kernel.run(rec));
    let multiplier = Multiplier { multiplier: 1 << 30, right_shift: 36 };
    let (x, y) = (&packed, &levels);
    let kernel =
        GlobalPoolI8 { images, x_shape: LAST, x_zero_point: 0, of: LevelOf::Mean(multiplier), levels: OUTPUT, x, y };
    bench.other(&format!("global_pool_i8 {LAST}"), (words + channels) / 4, |rec| kernel.run(rec));
}

/// What lies between the convolutions of networks with branches, in integers.
fn between(bench: &mut Bench<'_>) {
    let (device, images) = (bench.device, bench.images);
    let q = QParams::symmetric(1.0, 8);
    let words = bench.words(WIDE);
    let (a, b, y) = (bench.levels(words), bench.levels(words), bench.empty(2 * words));
    let binary = |binary, b_shape| {
        let operand = |shape, buffer| Levels { shape, zero_point: 0, buffer };
        BinaryI8 { images, binary, operands: [operand(WIDE, &a), operand(b_shape, &b)], levels: OUTPUT, y: &y }
    };
    let multiplier = Multiplier { multiplier: 1 << 30, right_shift: 36 };
    let sum = QBinary::Sum { multipliers: [1 << 29, 1 << 28], right_shift: 30 };
    let kernel = binary(sum, WIDE);
    bench.other(&format!("binary_i8 sum {WIDE}"), 3 * words, |rec| kernel.run(rec));
    let gate = Shape { height: 1, width: 1, ..WIDE };
    let kernel = binary(QBinary::Product(multiplier), gate);
    bench.other(&format!("binary_i8 product {WIDE} by {gate}"), 2 * words, |rec| kernel.run(rec));

    for kind in [PoolKind::Max, PoolKind::Average] {
        let pool = Pool { kind, kernel: [3; 2], stride: [2; 2], padding: [1; 4], ceil: false };
        let windows = Windows::new(device, pool, &[multiplier; 9], WIDE).expect("the device has memory");
        let kernel = PoolI8 { images, windows: &windows, x_zero_point: 0, levels: OUTPUT, x: &a, y: &y };
        bench.other(&format!("pool_i8 {kind:?} 3×3/2 {WIDE}"), words + words / 4, |rec| kernel.run(rec));
    }

    let table = repquant::internals::model::Table::of(&q, &q, |x| x * x);
    let entries = Entries::new(device, &table).expect("the device has memory");
    let kernel = LookupI8 { images, shape: WIDE, entries: &entries, zero_point: 0, x: &a, y: &y };
    bench.other(&format!("lookup_i8 {WIDE}"), 2 * words, |rec| kernel.run(rec));
    let mapping = Mapping::new(device, None).expect("the device has memory");
    let kernel = ConcatI8 {
        images,
        x_shape: WIDE,
        mapping: &mapping,
        axis: Axis::Channels,
        first: WIDE.channels,
        y_shape: Shape { channels: 2 * WIDE.channels, ..WIDE },
        zero_point: 0,
        x: &a,
        y: &y,
    };
    bench.other(&format!("concat_i8 behind another {WIDE}"), 2 * words, |rec| kernel.run(rec));

    let sides = vec![2, WIDE.channels / 2, WIDE.pixels()];
    let shuffle = RearrangeKind::Transpose { sides, order: vec![1, 0, 2] };
    let blocks = Shape { height: WIDE.height / 2, width: WIDE.width / 2, ..WIDE };
    for (name, kind, x_shape, read) in
        [("shuffle", shuffle, WIDE, words), ("upsample", RearrangeKind::Upsample { factor: [2; 2] }, blocks, words / 4)]
    {
        let order = Order::new(device, &Rearrange { kind, shape: WIDE }, x_shape).expect("the device has memory");
        let kernel = GatherI8 { images, order: &order, zero_point: 0, x: &a, y: &y };
        bench.other(&format!("gather_i8 {name} {WIDE}"), words + read, |rec| kernel.run(rec));
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
    for channels in [48, 192] {
        moments(&mut bench, channels);
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
