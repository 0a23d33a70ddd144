//! Whole networks in float, in int8, and in int8 with the centre split: images/s, how much of the
//! device's peak that is, and their ratios.
//!
//! `REPQUANT_BENCH_DEVICE` names the device; see `benches/README.md`.

mod common;

use common::networks::{Ready, alternate, calibration, images, int8, int8_macs, repvgg, repvgg_cifar10};
use common::peaks::{Bound, PeakTable};
use common::table::{Table, number, percent, target};
use common::{Speed, Timer, device, median, speed};
use repquant::Device;
use repquant::internals::exec::{FloatNet, Int8Net, Keep};
use repquant::internals::model::Graph;
use repquant::internals::quantize::SplitMode;

/// Rounds of the comparison, each network in turn.
const ROUNDS: usize = 7;

/// Least seconds of a network in a round.
const SECONDS: f64 = 0.25;

struct Tables<'d> {
    speeds: PeakTable<'d>,
    ratios: Table,
}

fn network(timer: &mut Timer, tables: &mut Tables<'_>, device: &Device, graph: &Graph, count: usize) {
    let statistics = calibration(graph);
    let (unsplit, split) = (int8(graph, &statistics, SplitMode::None), int8(graph, &statistics, SplitMode::Aligned));
    let batch = images(graph, count);
    let float = FloatNet::new(device, graph, count, Keep::Last).expect("the network fits");
    float.upload(&batch).expect("the batch fits");
    let ready = |graph| {
        let net = Int8Net::new(device, graph, count, Keep::Last).expect("the network fits");
        net.upload(&batch).expect("the batch fits");
        Ready::Int8(net)
    };
    let forms = [Ready::Float(float), ready(&unsplit), ready(&split)];
    let about = [
        ("f32", graph.macs() as f64, Bound::F32),
        ("int8", int8_macs(&unsplit), Bound::Int8),
        ("int8, centre split", int8_macs(&split), Bound::Int8),
    ];
    let mut ran = 0;
    for (net, (form, macs, bound)) in forms.iter().zip(about) {
        let name = format!("{} {form}", graph.name);
        let time = timer.time(&name, |times| (0..times).for_each(|_| net.forward(device, count)));
        if let Some(seconds) = time {
            let rate = count as f64 / seconds;
            let operations = 2.0 * macs * rate;
            let numbers = [rate, operations / 1e9].map(number);
            let [rate, giga] = numbers;
            tables.speeds.row([name, count.to_string(), rate, giga], bound, operations);
            ran += 1;
        }
    }
    if ran == forms.len() {
        let rates = alternate(device, &forms, count, SECONDS, ROUNDS);
        let ratio = |a: usize, b: usize| {
            let each = rates[a].iter().zip(&rates[b]).map(|(a, b)| a / b);
            median(each.collect()).expect("there were rounds")
        };
        let (int8, split, cost) = (ratio(1, 0), ratio(2, 0), ratio(2, 1));
        tables.ratios.row([graph.name.clone(), number(int8), number(split), number(cost)]);
        let state = |what: &str, wanted: &str, ratio: f64, met: bool| {
            target(&format!("{} {what}", graph.name), &device.info().name, wanted, &number(ratio), met);
        };
        match speed(device) {
            Speed::Native => state("int8 with centre split ÷ f32", "above 1", split, split > 1.0),
            Speed::Gpu => state("int8 ÷ f32", "1.6", int8, int8 >= 1.6),
            Speed::Software => {}
        }
        if !device.is_native() {
            state("with centre split ÷ unsplit", "0.85", cost, cost >= 0.85);
        }
    }
}

fn main() {
    let Some(device) = device() else { return };
    let mut timer = Timer::new();
    let name = &device.info().name;
    let mut tables = Tables {
        speeds: PeakTable::new(&device),
        ratios: Table::new(
            format!("Ratios of images/s on {name}, the networks in turn"),
            &["network", "int8 ÷ f32", "int8 with centre split ÷ f32", "with centre split ÷ unsplit"],
        ),
    };
    let (large, many, few): (&[&str], usize, usize) = match speed(&device) {
        Speed::Native => (&["a0"], 64, 8),
        Speed::Software => (&["a0"], 8, 1),
        Speed::Gpu => (&["a0", "a1"], 512, 64),
    };
    for &name in large {
        network(&mut timer, &mut tables, &device, &repvgg(name), few);
    }
    match repvgg_cifar10() {
        Some(graph) => network(&mut timer, &mut tables, &device, &graph, many),
        None => println!("REPQUANT_TEST_DATA is not set: repvgg-cifar10 is left out."),
    }
    let title = format!("Networks on {name}, random weights and images but for repvgg-cifar10's weights");
    let head = ["network", "batch", "images/s", "GOP/s", "of peak"];
    let fractions = tables.speeds.finish(Table::new(title, &head), Table::new("", &head));
    if let (Speed::Gpu, Some(&fraction)) = (speed(&device), fractions.get("repvgg-a1 f32")) {
        target("repvgg-a1 f32, batch 64, of the f32 peak", name, "40 %", &percent(fraction), fraction >= 0.4);
    }
    tables.ratios.finish();
    timer.finish();
}
