//! The stages around the networks: statistics of an activation (GB/s), decoding (images/s),
//! thresholds, the search for splits, and calibration as a whole.
//!
//! `REPQUANT_BENCH_DEVICE` names the device; see `benches/README.md`.

mod common;

use std::time::Instant;

use common::data::Photos;
use common::networks::{calibration, images as random_images, repvgg, repvgg_cifar10};
use common::peaks::{Bound, PeakTable};
use common::table::{Table, milliseconds, number, percent, target};
use common::{Speed, Timer, device, median, seconds, speed};
use rayon::prelude::*;
use repquant::Device;
use repquant::internals::calibrate::calibrate;
use repquant::internals::exec::{FloatNet, Keep};
use repquant::internals::images::{Batch, BatchOptions, Batches, Item};
use repquant::internals::model::{Decode, Graph, Op, Preprocessing, QParams, Shape, Weights};
use repquant::internals::quantize::{
    ACTIVATION_MEMORY, CalibrationImages, QuantizeOptions, Rounding, quantize, quantize_on, search,
};
use repquant::internals::threshold::{ActivationMode, Method, RangeOptions, choose};
use repquant::internals::{
    CLASSES, COUNT_WORDS, Coarsen, ErrorSums, Extent, Histogram, Magnitudes, Random, Range, Row, Run, SUM_WORDS, State,
    alloc, upload,
};
use repquant::progress::Silent;

/// The widest activation of RepVGG-A0.
const WIDE: Shape = Shape { channels: 48, height: 112, width: 112 };

/// The kernels of calibration and of evaluation's comparison. Each reads the activation once.
fn statistics(timer: &mut Timer, device: &Device) {
    let images = match speed(device) {
        Speed::Native => 8,
        Speed::Software => 1,
        Speed::Gpu => 64,
    };
    let extent = Extent { images, shape: WIDE };
    // Four bytes of each value.
    let bytes = 4.0 * extent.values() as f64;
    let memory = "the device has memory";
    let mut random = Random::new(2);
    let values: Vec<u32> = (0..extent.values()).map(|_| random.float().max(0.0).to_bits()).collect();
    let x = upload(device, &values).expect(memory);
    let levels: Vec<u32> = (0..values.len() / 4).map(|_| random.next_u64() as u32 & 0x7F7F_7F7F).collect();
    let levels = upload(device, &levels).expect(memory);
    let states = upload(device, bytemuck::cast_slice(&[State::EMPTY])).expect(memory);
    let alloc = |words| alloc(device, words).expect(memory);
    let (counts, classes, sums) = (alloc(COUNT_WORDS), alloc(CLASSES * WIDE.channels), alloc(SUM_WORDS));
    let row = Row { states: &states, index: 0 };
    let range = Range { extent, x: &x, row };
    let coarsen = Coarsen { row, counts: &counts };
    let histogram = Histogram { extent, x: &x, row, counts: &counts };
    let magnitudes = Magnitudes { extent, x: &x, counts: &classes };
    let q = QParams::symmetric(1.0, 8);
    let qparams = Some((q.scale, q.zero_point));
    let error_sums = ErrorSums { extent, qparams, y: &x, other: &levels, sums: &sums };
    let mut rows = PeakTable::new(device);
    let mut add = |name: &str, passes: f64, seconds: Option<f64>| {
        if let Some(seconds) = seconds {
            let rate = passes * bytes / seconds;
            rows.row([name.into(), milliseconds(seconds), number(rate / 1e9)], Bound::Memory, rate);
        }
    };
    let name = "range";
    add(name, 1.0, timer.kernel(device, name, |rec| range.run(rec)));
    let name = "range and histogram";
    let time = timer.kernel(device, name, |rec| {
        range.run(rec)?;
        coarsen.run(rec)?;
        histogram.run(rec)
    });
    add(name, 2.0, time);
    let name = "magnitudes of each channel";
    add(name, 1.0, timer.kernel(device, name, |rec| magnitudes.run(rec)));
    let name = "all of calibration";
    let time = timer.kernel(device, name, |rec| {
        range.run(rec)?;
        coarsen.run(rec)?;
        histogram.run(rec)?;
        magnitudes.run(rec)
    });
    add(name, 3.0, time);
    let name = "error sums, float and int8";
    add(name, 1.25, timer.kernel(device, name, |rec| error_sums.run(rec)));
    let head = ["statistics", "ms", "GB/s", "of peak"];
    let title = format!("Statistics of an activation of {WIDE} on {}, batch {images}", device.info().name);
    let fractions = rows.finish(Table::new("", &head), Table::new(title, &head));
    if let (Speed::Gpu, Some(&fraction)) = (speed(device), fractions.get("range and histogram")) {
        let met = fraction >= 0.6;
        target(
            "histogram with its range pass, of memory bandwidth",
            &device.info().name,
            "60 %",
            &percent(fraction),
            met,
        );
    }
}

fn batches(items: Vec<Item>, preprocessing: &Preprocessing, batch_size: usize) -> Batches {
    Batches::new(items, preprocessing, BatchOptions { batch_size, skip_bad: false, threads: None })
}

/// Big photographs, decoded whole and at a reduced scale.
fn scaled(preprocessing: &Preprocessing) {
    let photos = Photos::big();
    let count = 16;
    let mut table = Table::new(format!("{count} {} at 224", photos.what), &["stage", "images/s", "of full"]);
    let ways = [Decode::Full, Decode::Scaled].map(|decode| Preprocessing { decode, ..preprocessing.clone() });
    let mut taken = [Vec::new(), Vec::new()];
    // In turn, so that the fraction holds on a machine whose load changes.
    for _ in 0..3 {
        for (way, taken) in ways.iter().zip(&mut taken) {
            taken.push(seconds(1, || {
                let decoded: usize = batches(photos.take(count), way, 4).map(|b| b.expect("decodes").count).sum();
                assert_eq!(decoded, count);
            }));
        }
    }
    let rates = taken.map(|seconds| count as f64 / median(seconds).expect("three runs"));
    for (way, rate) in ways.iter().zip(rates) {
        let name = format!("decode ({}), resize, crop", way.decode);
        table.row([name, number(rate), percent(rate / rates[0])]);
    }
    table.finish();
}

/// Decoding alone, and calibration with it.
fn images(device: &Device) {
    let photos = Photos::new();
    let (network, count, batch) = match speed(device) {
        Speed::Native => ("a0", 64, 16),
        Speed::Software => return,
        Speed::Gpu => ("a1", 1024, 64),
    };
    let graph = repvgg(network);
    let decode = || {
        let decoded: usize = batches(photos.take(count), &graph.input, batch).map(|b| b.expect("decodes").count).sum();
        assert_eq!(decoded, count);
    };
    // In turn, so that the fractions hold on a machine whose load changes.
    let (mut decoding, mut calibrating, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        decoding.push(seconds(1, decode));
        let start = Instant::now();
        let mut batches = batches(photos.take(count), &graph.input, batch);
        let calibration = calibrate(device, &graph, &mut batches, batch, None, &Silent);
        let calibration = calibration.expect("the images are calibrated on");
        calibrating.push(start.elapsed().as_secs_f64());
        let ranges = choose(&calibration, &RangeOptions::default()).expect("a range is found");
        quantize(&graph, &ranges, &calibration, &QuantizeOptions::default()).expect("the network quantizes");
        whole.push(start.elapsed().as_secs_f64());
    }
    let rate = |seconds| count as f64 / median(seconds).expect("three runs");
    let (decoding, calibrating, whole) = (rate(decoding), rate(calibrating), rate(whole));
    let title = format!("{count} {} at 224 on {}", photos.what, device.info().name);
    let mut table = Table::new(title, &["stage", "images/s", "of decoding"]);
    table.row(["decode, resize, crop".into(), number(decoding), percent(1.0)]);
    table.row([
        format!("calibrate {}, decoding included", graph.name),
        number(calibrating),
        percent(calibrating / decoding),
    ]);
    if speed(device) == Speed::Gpu {
        let fraction = calibrating / decoding;
        let what = format!("calibration of {} on {}, of decoding alone", graph.name, photos.what);
        target(&what, &device.info().name, "90 %", &percent(fraction), fraction >= 0.9);
    }
    table.row(["the whole pipeline to the quantized network".into(), number(whole), percent(whole / decoding)]);
    table.finish();
    scaled(&graph.input);
}

/// Kernels of all convolutions, a channel at a time.
fn channels(graph: &Graph) -> Vec<(Vec<f32>, Vec<bool>)> {
    let convs = graph.nodes.iter().filter_map(|node| match &node.op {
        Op::Conv(conv) => Some(conv),
        _ => None,
    });
    let channels = convs.flat_map(|conv| {
        let [kh, kw] = conv.kernel();
        conv.weight.outer_iter().map(move |kernel| {
            let weights: Vec<f32> = kernel.iter().copied().collect();
            let centre = (0..weights.len()).map(|i| i % (kh * kw) == kh / 2 * kw + kw / 2).collect();
            (weights, centre)
        })
    });
    channels.collect()
}

fn search_all(channels: &[(Vec<f32>, Vec<bool>)]) {
    channels.par_iter().for_each(|(weights, centre)| {
        std::hint::black_box(search(weights, centre, 8));
    });
}

/// What runs on the host alone: thresholds, searches, quantization.
fn host(timer: &mut Timer) {
    let threads = rayon::current_num_threads();
    let mut table = Table::new(format!("Host work on {threads} threads"), &["stage", "ms"]);
    let small = repvgg("a0");
    let statistics = calibration(&small);
    let activations = statistics.activations.len();
    for method in [Method::MinMax, Method::Percentile(99.99), Method::Mse, Method::Kl, Method::KlReparam] {
        for mode in [ActivationMode::Symmetric, ActivationMode::Affine] {
            let options = RangeOptions { method, mode, ..RangeOptions::default() };
            let name = format!("threshold {method} {}", format!("{mode:?}").to_lowercase());
            let time = timer.time(&name, |times| {
                (0..times).for_each(|_| drop(choose(&statistics, &options).expect("a range is found")));
            });
            if let Some(seconds) = time {
                table.row([format!("{name}, {activations} activations"), milliseconds(seconds)]);
            }
        }
    }
    let kernels = channels(&small);
    for name in ["repvgg-a0", "one 192×192×3×3 layer"] {
        let kernels = if name == "repvgg-a0" { &kernels[..] } else { &kernels[kernels.len() - 1280 - 192..][..192] };
        let name = format!("split search, {name}");
        if let Some(seconds) = timer.time(&name, |times| (0..times).for_each(|_| search_all(kernels))) {
            table.row([name, milliseconds(seconds)]);
        }
    }
    // Too long for criterion, which takes ten samples and more; its filters leave it out.
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        let large = repvgg("b3");
        let millions = large.parameters() / 1_000_000;
        let kernels = channels(&large);
        let searched = seconds(3, || search_all(&kernels));
        let name = format!("split search, repvgg-b3 ({millions} M weights)");
        let device = format!("{threads} threads");
        let met = (threads >= 4).then_some(searched < 2.0);
        target(&name, &device, "below 2 s on 4 cores", &format!("{} s", number(searched)), met);
        table.row([name, milliseconds(searched)]);
        drop(kernels);
        let statistics = calibration(&large);
        let ranges = RangeOptions { method: Method::MinMax, ..RangeOptions::default() };
        let ranges = choose(&statistics, &ranges).expect("a range is found");
        let options = QuantizeOptions::default();
        let whole =
            seconds(3, || drop(quantize(&large, &ranges, &statistics, &options).expect("the network quantizes")));
        table.row(["split and quantize, repvgg-b3".into(), milliseconds(whole)]);
    }
    table.finish();
}

/// What second-order rounding takes, beside rounding to nearest and beside a float forward over the
/// same images, which are random pixels in memory.
fn rounding(device: &Device) {
    let columns = ["network", "images", "float forward", "to nearest", "second-order", "÷ nearest", "÷ forward"];
    let title = format!("From images to the quantized network on {}, seconds", device.info().name);
    let mut table = Table::new(title, &columns);
    let cifar = repvgg_cifar10().map(|graph| (graph, 512, 64, 25.0));
    for (graph, count, batch, most) in cifar.into_iter().chain([(repvgg("a0"), 128, 16, 15.0)]) {
        let batches: Vec<Batch> = random_images(&graph, count).split(batch).collect();
        let net = FloatNet::new(device, &graph, batch, Keep::Last).expect("the device has memory");
        let forward = seconds(1, || batches.iter().for_each(|batch| drop(net.run(batch).expect("the network runs"))));
        let whole = |rounding| {
            seconds(1, || {
                let mut again = batches.iter().cloned().map(Ok);
                let statistics = calibrate(device, &graph, &mut again, batch, None, &Silent);
                let statistics = statistics.expect("the images are calibrated on");
                let ranges =
                    RangeOptions { method: Method::Mse, mode: ActivationMode::Affine, ..RangeOptions::default() };
                let ranges = choose(&statistics, &ranges).expect("a range is found");
                let options = QuantizeOptions { weight_bits: 4, rounding, ..QuantizeOptions::default() };
                let mut batches = batches.iter().cloned().map(Ok);
                let images =
                    CalibrationImages { device, batches: &mut batches, max_images: batch, memory: ACTIVATION_MEMORY };
                let made = quantize_on(&graph, &ranges, &statistics, &options, images, &Silent);
                drop(made.expect("the network quantizes"));
            })
        };
        let (nearest, second) = (whole(Rounding::Nearest), whole(Rounding::SecondOrder));
        let ratio = second / nearest;
        let name = format!("second-order rounding of {}, times rounding to nearest", graph.name);
        target(&name, &device.info().name, &format!("at most {most}"), &number(ratio), ratio <= most);
        table.row([
            graph.name.clone(),
            count.to_string(),
            number(forward),
            number(nearest),
            number(second),
            number(ratio),
            number(second / forward),
        ]);
    }
    table.finish();
}

fn main() {
    let Some(device) = device() else { return };
    let mut timer = Timer::new();
    statistics(&mut timer, &device);
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        images(&device);
    }
    if device.is_native() {
        host(&mut timer);
        if std::env::args().skip(1).all(|argument| argument == "--bench") {
            rounding(&device);
        }
    }
    timer.finish();
}
