//! The quantized model as a file: the same bits back, and no file that can do harm.

use repquant::ErrorKind;
use repquant::internals::Random;
use repquant::internals::export::safetensors::{from_bytes, read, to_bytes};
use repquant::internals::export::{FileKind, kind};
use repquant::internals::model::{CoarseScale, Computed, Constants, Multiplier, Op, QConv, QuantizedGraph, Support};
use repquant::internals::quantize::{QuantizeOptions, SplitMode};
use repquant::internals::threshold::ActivationMode;
use serde_json::{Value, json};

use super::graph::variants;
use crate::common::network::quantized;

fn model(split: SplitMode) -> QuantizedGraph {
    let options = QuantizeOptions { split, keep_float: vec!["stage1.1.pointwise".into()], ..Default::default() };
    quantized(&options, ActivationMode::Affine)
}

#[test]
fn every_variant_loads_back_equal() {
    for (options, mode) in variants() {
        let graph = quantized(&options, mode);
        let bytes = to_bytes(&graph).unwrap();
        let back = from_bytes(&bytes).unwrap();
        assert_eq!(back, graph);
        assert_eq!(to_bytes(&back).unwrap(), bytes);
    }
    let float = QuantizeOptions { keep_float: vec!["stage1.0".into(), "linear".into()], ..Default::default() };
    let graph = quantized(&float, ActivationMode::Symmetric);
    assert_eq!(from_bytes(&to_bytes(&graph).unwrap()).unwrap(), graph);
}

#[test]
fn scales_keep_every_bit_in_json() {
    let mut random = Random::new(5);
    let mut graph = model(SplitMode::None);
    for _ in 0..300 {
        for node in &mut graph.nodes {
            if let Some(output) = &mut node.output {
                // Any exponent that keeps the factors in range is not needed here: only the bits of
                // the scale matter.
                output.scale = f32::from_bits(1 + random.below(0x7f7f_ffff) as u32);
            }
        }
        assert_eq!(from_bytes(&to_bytes(&graph).unwrap()).unwrap(), graph);
    }
}

#[test]
fn files_are_told_apart_and_read_by_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    let graph = model(SplitMode::Aligned);
    std::fs::write(&path, to_bytes(&graph).unwrap()).unwrap();
    assert_eq!(kind(&path).unwrap(), FileKind::Quantized);
    assert_eq!(read(&path).unwrap(), graph);
    std::fs::write(&path, b"not a model").unwrap();
    let error = read(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("m.safetensors: "), "{error}");
    assert_eq!(read(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::Input);
    let statistics = crate::common::network::statistics(&crate::common::network::network());
    std::fs::write(&path, repquant::internals::calibrate::stats_file::to_bytes(&statistics).unwrap()).unwrap();
    assert_eq!(kind(&path).unwrap(), FileKind::Statistics);
    assert!(read(&path).unwrap_err().to_string().contains("`statistics`"));
}

/// The entry as JSON, edited and put back; the tensors stay.
pub(crate) fn with_entry(bytes: &[u8], edit: impl Fn(&mut Value)) -> Vec<u8> {
    with_header(bytes, |header| {
        let mut entry: Value = serde_json::from_str(header["__metadata__"]["repquant"].as_str().unwrap()).unwrap();
        edit(&mut entry);
        header["__metadata__"]["repquant"] = json!(entry.to_string());
    })
}

/// The safetensors header, edited and put back.
pub(crate) fn with_header(bytes: &[u8], edit: impl Fn(&mut Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let header = header.to_string();
    let mut edited = (header.len() as u64).to_le_bytes().to_vec();
    edited.extend(header.as_bytes());
    edited.extend(&bytes[8 + length..]);
    edited
}

pub(crate) fn refused(bytes: &[u8], what: &str) {
    let error = from_bytes(bytes).expect_err(what);
    assert_eq!(error.kind(), ErrorKind::Input, "{what}: {error}");
}

#[test]
fn entries_that_contradict_are_refused() {
    let bytes = to_bytes(&model(SplitMode::Aligned)).unwrap();
    assert_eq!(from_bytes(&with_entry(&bytes, |_| {})).unwrap(), model(SplitMode::Aligned));
    // A pointer into the entry, and what to put there.
    let edits = [
        ("/kind", json!("float")),
        ("/version", json!(3)),
        ("/version", json!(1)),
        ("/version", json!(-1)),
        ("/nodes", json!([])),
        ("/classes", json!(["one"])),
        ("/input/size", json!([16, 17])),
        ("/input/size", json!([0, 0])),
        ("/input/std", json!([0.0, 1.0, 1.0])),
        ("/input/resize", json!(4_000_000_000u64)),
        ("/nodes/0/op/input/channels", json!(4)),
        ("/nodes/0/op/input/height", json!(1_000_000_000_000u64)),
        ("/nodes/0/op", json!({"global_average_pool": {"multiplier": 1 << 30, "right_shift": 31}})),
        ("/nodes/0/relu", json!(true)),
        ("/nodes/0/inputs", json!([0])),
        ("/nodes/1/inputs", json!([])),
        ("/nodes/1/inputs", json!([1])),
        ("/nodes/1/inputs", json!([7])),
        ("/nodes/1/inputs", json!([0, 0])),
        ("/nodes/3/inputs", json!([0])),
        ("/nodes/1/name", json!("input")),
        ("/nodes/1/output", json!(null)),
        ("/nodes/1/output/scale", json!(0.0)),
        ("/nodes/1/output/scale", json!(-1.0)),
        ("/nodes/1/output/scale", json!(1e300)),
        ("/nodes/1/output/qmax", json!(128)),
        ("/nodes/1/output/qmin", json!(-129)),
        ("/nodes/1/output/qmin", json!(127)),
        ("/nodes/1/output/zero_point", json!(-2_000_000_000)),
        ("/nodes/1/op/conv/bits", json!(1)),
        ("/nodes/1/op/conv/bits", json!(9)),
        ("/nodes/1/op/conv/bits", json!(2)),
        ("/nodes/1/op/conv/stride", json!([0, 2])),
        ("/nodes/1/op/conv/stride", json!([2, 18_446_744_073_709_551_615u64])),
        ("/nodes/1/op/conv/padding", json!([18_446_744_073_709_551_615u64, 1])),
        ("/nodes/1/op/conv/groups", json!(0)),
        ("/nodes/1/op/conv/groups", json!(18_446_744_073_709_551_615u64)),
        ("/nodes/1/op/conv/groups", json!(2)),
        ("/nodes/1/op/conv/coarse", json!(null)),
        ("/nodes/1/op/conv/coarse/support", json!("full")),
        ("/nodes/1/op/conv/coarse/support", json!("diagonal")),
        ("/nodes/1/op/conv/coarse/scale", json!("paper")),
        ("/nodes/1/op/conv/more", json!(1)),
        ("/nodes/6/op/global_average_pool/right_shift", json!(0)),
        ("/nodes/6/op/global_average_pool/right_shift", json!(63)),
        ("/nodes/6/op/global_average_pool/multiplier", json!(-1)),
        ("/nodes/6/op/global_average_pool/multiplier", json!(5)),
        ("/nodes/6/relu", json!(true)),
        ("/nodes/7/output", json!({"scale": 1.0, "zero_point": 0, "qmin": -127, "qmax": 127})),
        ("/nodes/7/inputs", json!([5])),
        ("/nodes/7/op/linear/stride", json!([2, 1])),
        ("/nodes/7/op", json!("float_linear")),
        ("/nodes/2/op", json!("input")),
    ];
    for (pointer, value) in edits {
        // By its parent, so that fields may be added, too.
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let edited = with_entry(&bytes, |entry| match entry.pointer_mut(parent).unwrap() {
            Value::Array(values) => values[key.parse::<usize>().unwrap()] = value.clone(),
            object => object[key] = value.clone(),
        });
        refused(&edited, &format!("{pointer} = {value}"));
    }
    refused(&with_entry(&bytes, |entry| drop(entry["nodes"].as_array_mut().unwrap().pop())), "no classifier");
    refused(&with_header(&bytes, |header| header["__metadata__"] = json!({})), "no entry");
}

#[test]
fn tensors_that_contradict_are_refused() {
    let bytes = to_bytes(&model(SplitMode::Aligned)).unwrap();
    let rename = |from: &str, to: &str| {
        with_header(&bytes, |header| {
            let tensor = header.as_object_mut().unwrap().remove(from).unwrap();
            header[to] = tensor;
        })
    };
    refused(&rename("stage0.fine", "stage0.other"), "a tensor is missing");
    refused(&rename("stage0.shift", "nothing"), "a tensor is left over");
    let edits = [
        ("stage0.fine", "dtype", json!("U8")),
        ("stage0.fine", "shape", json!([8, 27, 1, 1])),
        ("stage0.fine", "shape", json!([8, 3, 9])),
        ("stage0.fine", "shape", json!([0, 3, 3, 3])),
        ("stage0.fine", "shape", json!([1u64 << 62, 4, 3, 3])),
        ("stage0.fine", "shape", json!([4, 6, 3, 3])),
        ("stage0.scale", "dtype", json!("I32")),
        ("stage0.scale", "shape", json!([2, 4])),
        ("stage0.bias", "shape", json!([18_446_744_073_709_551_615u64])),
        ("stage0.shift", "dtype", json!("I8")),
        ("stage0.shift", "data_offsets", json!([0, 18_446_744_073_709_551_615u64])),
        ("stage0.coarse", "shape", json!([3, 8, 1, 1])),
        ("linear.fine", "shape", json!([12, 5, 1, 1])),
    ];
    for (tensor, field, value) in edits {
        let edited = with_header(&bytes, |header| header[tensor][field] = value.clone());
        refused(&edited, &format!("{tensor} {field} = {value}"));
    }
}

/// A layer changed by `edit` can neither be written nor, had something else written it, be read.
fn broken(what: &str, split: SplitMode, name: &str, edit: impl Fn(&mut QConv)) {
    let mut graph = model(split);
    let node = graph.nodes.iter_mut().find(|node| node.name == name).unwrap();
    edit(node.computed.int8_weights_mut().unwrap_or_else(|| panic!("{name} has no integer weights")));
    let error = to_bytes(&graph).expect_err(what);
    assert!(error.to_string().starts_with(name), "{what}: {error}");
}

#[test]
fn values_out_of_range_are_refused() {
    use SplitMode::{Aligned, Paper};
    let shift = |conv: &mut QConv, k: u8| match conv.coarse.as_mut().map(|c| &mut c.scale) {
        Some(CoarseScale::Shift(shift)) => shift[0] = k,
        _ => panic!("not aligned"),
    };
    broken("a level", Aligned, "stage0", |c| c.fine[[0, 0, 0, 0]] = -128);
    broken("a coarse level", Aligned, "stage0", |c| c.coarse.as_mut().unwrap().weights[[0, 0, 0, 0]] = -128);
    broken("a shift", Aligned, "stage0", |c| shift(c, 10));
    broken("a huge shift", Aligned, "stage0", |c| shift(c, 255));
    broken("a scale", Aligned, "stage0", |c| c.scale[0] = f32::NAN);
    broken("a negative scale", Aligned, "stage0", |c| c.scale[0] = -1.0);
    broken("a multiplier", Aligned, "stage0", |c| c.multiplier[0] = -5);
    broken("a small multiplier", Aligned, "stage0", |c| c.multiplier[0] = 5);
    broken("no shift", Aligned, "stage0", |c| c.right_shift[0] = 0);
    broken("too far a shift", Aligned, "stage0", |c| c.right_shift[0] = 63);
    broken("a bias", Aligned, "stage0", |c| c.bias[0] = i32::MAX);
    broken("the least bias", Aligned, "stage0", |c| c.bias[0] = i32::MIN);
    broken("a missing bias", Aligned, "stage0", |c| c.bias = ndarray::Array1::zeros(7));
    broken("a classifier's bias", Aligned, "linear", |c| c.bias[0] = i32::MIN);
    broken("a classifier's multiplier", Aligned, "linear", |c| c.multiplier = ndarray::Array1::zeros(5));
    broken("a diagonal at stride 2", Aligned, "stage0", |c| c.coarse.as_mut().unwrap().support = Support::Diagonal);
    let own = |c: &mut QConv, edit: &dyn Fn(&mut f32, &mut i32, &mut i32)| match c.coarse.as_mut().map(|c| &mut c.scale)
    {
        Some(CoarseScale::Own { scale, multiplier, bias }) => edit(&mut scale[0], &mut multiplier[0], &mut bias[0]),
        _ => panic!("not published"),
    };
    broken("a coarse scale", Paper, "stage0", |c| own(c, &|s, _, _| *s = 0.0));
    broken("a coarse multiplier", Paper, "stage0", |c| own(c, &|_, m, _| *m = -1));
    broken("two small multipliers", Paper, "stage0", |c| {
        c.multiplier[0] = 7;
        own(c, &|_, m, _| *m = 7);
    });
    broken("a coarse bias", Paper, "stage0", |c| own(c, &|_, _, b| *b = i32::MIN));
    // A channel of zeros: each accumulator is its bias and fits 32 bits, each product fits 64,
    // their sum does not.
    let sum_of_biases = |c: &mut QConv, m_c: i32| {
        c.fine.index_axis_mut(ndarray::Axis(0), 0).fill(0);
        c.coarse.as_mut().unwrap().weights.index_axis_mut(ndarray::Axis(0), 0).fill(0);
        (c.bias[0], c.multiplier[0], c.right_shift[0]) = (i32::MAX, i32::MAX, 62);
        own(c, &|_, m, b| (*m, *b) = (m_c, i32::MAX));
    };
    broken("a 64-bit sum", Paper, "stage0", |c| sum_of_biases(c, i32::MAX));
    let mut fits = model(Paper);
    sum_of_biases(fits.nodes[1].computed.int8_weights_mut().unwrap(), 1 << 29);
    to_bytes(&fits).unwrap();
    let mut pool = model(Aligned);
    let small = Constants::Multiplier(Multiplier { multiplier: 1, right_shift: 40 });
    pool.nodes[6].computed = Computed::integer(Op::GlobalAveragePool, small).unwrap();
    assert!(to_bytes(&pool).is_err());
    let mut float = model(Aligned);
    let Computed::Float(Op::Conv(conv)) = &mut float.nodes[4].computed else { panic!("not float") };
    conv.weight[[0, 0, 0, 0]] = f32::INFINITY;
    assert!(to_bytes(&float).is_err());
}

#[test]
fn cut_and_flipped_files_never_panic() {
    let bytes = to_bytes(&model(SplitMode::Paper)).unwrap();
    for length in 0..bytes.len() {
        assert!(from_bytes(&bytes[..length]).is_err(), "cut to {length}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    refused(&longer, "a byte too many");
    let mut random = Random::new(9);
    for _ in 0..6000 {
        let mut flipped = bytes.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(flipped.len());
            flipped[at] ^= 1 << random.below(8);
        }
        // What is accepted is whole: it can be written again, and its shapes are known.
        if let Ok(graph) = from_bytes(&flipped) {
            graph.shapes();
            to_bytes(&graph).unwrap();
        }
    }
}
