//! `--split auto` on a whole graph.

use repquant::internals::model::{QuantizedGraph, Support};
use repquant::internals::quantize::{QuantizeOptions, SplitMode, quantize};
use repquant::internals::threshold::ActivationMode;

use crate::common::network::{network, quantized, ranges, statistics};

fn auto(max_overhead: f64, weight_bits: u8) -> QuantizedGraph {
    let options = QuantizeOptions { split: SplitMode::Auto, max_overhead, weight_bits, ..Default::default() };
    quantized(&options, ActivationMode::Symmetric)
}

fn split(graph: &QuantizedGraph, layer: &str) -> String {
    graph.nodes.iter().find(|node| node.name == layer).unwrap().split.split.clone()
}

#[test]
fn the_budget_is_kept_and_used() {
    let mut spent = Vec::new();
    for budget in [0.0, 0.01, 0.03, 0.06, 0.12, 0.5, 2.0] {
        let graph = auto(budget, 4);
        let (macs, added) = graph.macs();
        assert_eq!(macs, network().macs());
        assert!(added as f64 <= budget * macs as f64, "{added} of {macs} with {budget}");
        assert_eq!(graph, auto(budget, 4), "the choice is a pure function");
        spent.push(added);
    }
    assert_eq!(spent[0], 0);
    assert!(spent.is_sorted() && spent[1] > 0 && spent[6] > spent[4], "{spent:?}");
}

#[test]
fn the_report_says_why() {
    let none = auto(0.0, 4);
    let note = |graph: &QuantizedGraph, layer: &str| {
        graph.nodes.iter().find(|node| node.name == layer).unwrap().split.notes.join("; ")
    };
    assert_eq!(split(&none, "stage2.0"), "none");
    assert!(note(&none, "stage2.0").contains("the budget of multiplications"));
    // Of 126,012 multiplications; the diagonal of 12 channels of 8×8 outputs costs 12·64.
    let some = auto(0.02, 4);
    assert_eq!(split(&some, "stage2.0"), "aligned/diagonal");
    assert!(note(&some, "stage2.0").contains("for 768 multiplications"), "{}", note(&some, "stage2.0"));
}

#[test]
fn an_explicit_support_is_the_only_candidate() {
    let options = QuantizeOptions {
        split: SplitMode::Auto,
        max_overhead: 4.0,
        weight_bits: 4,
        support: Some(Support::Center),
        ..Default::default()
    };
    let graph = quantized(&options, ActivationMode::Symmetric);
    assert_eq!(split(&graph, "stage2.0"), "aligned/center");
    assert_eq!(split(&graph, "stage1.1.pointwise"), "none");
}

/// A group's input channels are the ones weighed: silence the second group's inputs, and only the
/// first one's errors count.
#[test]
fn groups_are_weighed_by_their_own_inputs() {
    let graph = network();
    let mut calibration = statistics(&graph);
    let objective = |calibration: &_| {
        let options = QuantizeOptions {
            split: SplitMode::Auto,
            max_overhead: 4.0,
            weight_bits: 4,
            keep_float: ["stage0", "stage1.1.pointwise", "stage2.0"].map(String::from).to_vec(),
            ..Default::default()
        };
        let found = quantize(&graph, &ranges(calibration, ActivationMode::Symmetric), calibration, &options).unwrap();
        let note = found.nodes[2].split.notes[0].clone();
        note.split("from ").nth(1).unwrap().split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let all = objective(&calibration);
    let silence = |calibration: &mut repquant::internals::calibrate::Calibration, channels: std::ops::Range<usize>| {
        for channel in channels {
            let counts: u64 = calibration.activations[1].power.row(channel).sum();
            calibration.activations[1].power.row_mut(channel).fill(0);
            assert!(counts > 0);
        }
    };
    let mut second = calibration.clone();
    silence(&mut second, 0..4);
    silence(&mut calibration, 4..8);
    let (first, second) = (objective(&calibration), objective(&second));
    // Printed with four digits.
    assert!(first > 0.0 && second > 0.0 && ((first + second) / all - 1.0).abs() < 1e-3, "{first} + {second} = {all}");
}
