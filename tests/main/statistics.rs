//! Statistics: the algebra of counting and merging, and the file they are kept in.

use std::collections::HashMap;
use std::path::PathBuf;

use ndarray::{Array1, Array2, s};
use proptest::prelude::*;
use repquant::internals::calibrate::stats_file::{read, to_bytes};
use repquant::internals::calibrate::{ActivationStats, BINS, Calibration};
use repquant::internals::model::{
    Color, Conv, Decode, Fit, Graph, GraphOutput, Interpolation, Node, Op, Preprocessing, Shape,
};
use repquant::{ErrorKind, Result};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

/// The definition, value by value, in f64 and 128 bits: no bits, no powers built from bits, no
/// growing of bins.
fn recount(values: &[f32], channels: usize) -> ActivationStats {
    let mut stats = ActivationStats::new("a", channels);
    let largest = values.iter().fold(0.0, |m, x| f64::from(x.abs()).max(m));
    while largest >= 4096.0 * 2f64.powi(stats.exponent) {
        stats.exponent += 1;
    }
    for (i, &x) in values.iter().enumerate() {
        let x = if x == 0.0 { 0.0 } else { x };
        stats.min = stats.min.min(x);
        stats.max = stats.max.max(x);
        let bin = (f64::from(x.abs()) / 2f64.powi(stats.exponent)).floor() as usize;
        if x == 0.0 {
            stats.zeros += 1;
            continue;
        }
        if x > 0.0 {
            stats.positive[bin] += 1;
        } else {
            stats.negative[bin] += 1;
        }
        let octave = f64::from(x.abs()).log2().floor();
        let upper = f64::from(x.abs()) / octave.exp2() >= 1.5;
        let class = (2.0 * (octave + 32.0)) as i64 + i64::from(upper);
        stats.power[[i % channels, class.clamp(0, 127) as usize]] += 1;
    }
    stats
}

fn counted(values: &[f32], channels: usize) -> ActivationStats {
    let mut stats = ActivationStats::new("a", channels);
    stats.add(values, channels).unwrap();
    stats
}

fn merged(a: &ActivationStats, b: &ActivationStats) -> ActivationStats {
    let mut sum = a.clone();
    sum.merge(b).unwrap();
    sum
}

/// Equality to the bit, of the extremes too.
fn same(a: &ActivationStats, b: &ActivationStats) -> bool {
    a == b && a.min.to_bits() == b.min.to_bits() && a.max.to_bits() == b.max.to_bits()
}

/// Pixels of two channels, with zeros of both signs, subnormals, and magnitudes of every size.
fn pixels() -> impl Strategy<Value = Vec<f32>> {
    let finite = any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |x| x.is_finite());
    let value = prop_oneof![
        3 => Just(0.0f32),
        1 => Just(-0.0f32),
        8 => -6.0f32..6.0,
        1 => (1u32..0x0080_0000).prop_map(f32::from_bits),
        1 => finite,
    ];
    proptest::collection::vec((value.clone(), value).prop_map(|(a, b)| [a, b]), 0..60).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn counting_is_the_definition(values in pixels()) {
        prop_assert!(same(&counted(&values, 2), &recount(&values, 2)));
    }

    #[test]
    fn parts_in_any_order_give_the_whole(values in pixels(), cut in 0usize..60, other in 0usize..60) {
        let pixel = |n: usize| (2 * n).min(values.len());
        let (low, high) = (pixel(cut.min(other)), pixel(cut.max(other)));
        let parts = [&values[..low], &values[low..high], &values[high..]];
        let whole = counted(&values, 2);
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut batches = ActivationStats::new("a", 2);
            for part in order {
                batches.add(parts[part], 2).unwrap();
            }
            prop_assert!(same(&batches, &whole));
        }
        let [a, b, c] = parts.map(|part| counted(part, 2));
        prop_assert!(same(&merged(&a, &b), &merged(&b, &a)));
        prop_assert!(same(&merged(&merged(&a, &b), &c), &whole));
        prop_assert!(same(&merged(&a, &merged(&b, &c)), &whole));
        prop_assert!(same(&merged(&ActivationStats::new("a", 2), &whole), &whole));
    }

    #[test]
    fn coarsening_is_recounting(values in pixels(), steps in 0i32..230) {
        let mut stats = counted(&values, 2);
        let exponent = (stats.exponent + steps).min(117);
        let mut expected = ActivationStats::new("a", 2);
        expected.exponent = exponent;
        for &x in values.iter().filter(|x| **x != 0.0) {
            let bin = (f64::from(x.abs()) / 2f64.powi(exponent)).floor() as usize;
            if x > 0.0 { expected.positive[bin] += 1; } else { expected.negative[bin] += 1; }
        }
        stats.coarsen_to(exponent);
        prop_assert_eq!((stats.exponent, stats.positive, stats.negative), (exponent, expected.positive, expected.negative));
    }

    #[test]
    fn the_padding_is_not_counted(values in pixels(), padding in any::<u32>()) {
        let padded: Vec<f32> = values.chunks(2).flat_map(|p| [p[0], p[1], f32::from_bits(padding), 7.0]).collect();
        let mut stats = ActivationStats::new("a", 2);
        stats.add(&padded, 4).unwrap();
        prop_assert!(same(&stats, &counted(&values, 2)));
    }
}

fn preprocessing() -> Preprocessing {
    Preprocessing {
        size: [2, 1],
        resize: Some(256),
        interpolation: Interpolation::Bicubic,
        mean: vec![0.485, 0.456, 0.1 + 0.2],
        std: vec![0.229, 0.224, 0.225],
        fit: Fit::Crop,
        color: Color::Rgb,
        decode: Decode::Full,
    }
}

/// Three images of 2 pixels, two activations.
fn calibration() -> Calibration {
    let mut input = ActivationStats::new("input", 3);
    input.add(&(0..18).map(|i| (i as f32 - 4.0) / 7.0).collect::<Vec<_>>(), 3).unwrap();
    let mut stage = ActivationStats::new("stage0", 2);
    stage.add(&[0.0, 1.5, 2.5, 0.0, 0.0, 3.0e-9, 900.0, 1.0, 2.0, 0.0, 0.0, 7.25], 2).unwrap();
    Calibration {
        model_digest: "5ac1".repeat(16),
        preprocessing: preprocessing(),
        images: 3,
        activations: vec![input, stage],
    }
}

fn read_bytes(bytes: &[u8]) -> Result<Calibration> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stats.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let result = read(&path);
    if let Err(error) = &result {
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
    result
}

#[test]
fn files_read_back_to_the_bit_and_are_always_the_same() {
    let calibration = calibration();
    let bytes = to_bytes(&calibration).unwrap();
    assert_eq!(bytes, to_bytes(&calibration.clone()).unwrap());
    let back = read_bytes(&bytes).unwrap();
    assert_eq!(back, calibration);
    assert_eq!(to_bytes(&back).unwrap(), bytes);
}

#[test]
fn merging_files_is_counting_all_images() {
    let mut twice = calibration();
    twice.merge(&read_bytes(&to_bytes(&calibration()).unwrap()).unwrap()).unwrap();
    assert_eq!((twice.images, twice.activations[1].count()), (6, 24));
    read_bytes(&to_bytes(&twice).unwrap()).unwrap();
}

#[test]
fn statistics_of_something_else_are_not_merged() {
    let refuse = |change: &dyn Fn(&mut Calibration), says: &str| {
        let (mut mine, mut other) = (calibration(), calibration());
        change(&mut other);
        let error = mine.merge(&other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert_eq!(mine, calibration(), "{says}: nothing may change");
    };
    refuse(&|c| c.model_digest = "é".repeat(40), "another model");
    refuse(&|c| c.preprocessing.size = [4, 4], "preprocessed differently");
    refuse(&|c| c.preprocessing.std[2] = 0.226, "preprocessed differently");
    refuse(&|c| drop(c.activations.pop()), "2 activations here and 1 there");
    refuse(&|c| c.activations[1].name = "stem".into(), "stage0 here where stem is there");
    refuse(&|c| c.activations[1].power = Array2::zeros((5, 128)), "5 there");
    refuse(&|c| c.activations[1].zeros = u64::MAX - 15, "64 bits");
    refuse(&|c| c.images = u64::MAX, "64 bits");
}

#[test]
fn statistics_of_another_graph_are_refused() {
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs, relu: false };
    let graph = |channels| Graph {
        name: "net".into(),
        input: preprocessing(),
        classes: None,
        nodes: vec![
            node("input", Op::Input(Shape::new(channels, 2, 1)), vec![]),
            node("pool", Op::GlobalAveragePool, vec![0]),
            node("fc", Op::Linear(Conv::linear(Array2::zeros((2, channels)), Array1::zeros(2))), vec![1]),
        ],
        outputs: vec![GraphOutput { name: "logits".into(), node: 2, sides: vec![2], one_image: false }],
        notes: Vec::new(),
    };
    let calibration = Calibration::new(&graph(3));
    assert_eq!(calibration.activations.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["input", "pool"]);
    assert_eq!(calibration.activations[1].channels(), 3);
    calibration.check_graph(&graph(3)).unwrap();
    let error = calibration.check_graph(&graph(4)).unwrap_err();
    assert!(error.to_string().contains("another model"), "{error}");
    let mut other = graph(3);
    other.input.mean[0] = 0.5;
    assert!(calibration.check_graph(&other).unwrap_err().to_string().contains("preprocessed differently"));
    // A file may claim any digest: what follows from it is checked as well.
    let mut forged = calibration.clone();
    forged.activations[1] = ActivationStats::new("pool", 7);
    assert!(forged.check_graph(&graph(3)).unwrap_err().to_string().contains("7 channels"));
}

#[test]
fn statistics_that_cannot_be_read_back_are_not_written() {
    let mut unseen = calibration();
    unseen.activations[1] = ActivationStats::new("stage0", 2);
    assert!(to_bytes(&unseen).unwrap_err().to_string().contains("stage0"));
    assert!(to_bytes(&Calibration { images: 0, ..calibration() }).is_err());
}

/// A tensor of a file under change.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

/// The file of [`calibration`] with its tensors and metadata text changed.
fn forge(change: impl FnOnce(&mut HashMap<String, Tensor>, &mut String)) -> Vec<u8> {
    let bytes = to_bytes(&calibration()).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut text = metadata.metadata().as_ref().unwrap()["repquant"].clone();
    let mut tensors: HashMap<String, Tensor> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .iter()
        .map(|(name, t)| (name.to_string(), (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    change(&mut tensors, &mut text);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    serialize(views, Some(HashMap::from([("repquant".to_string(), text)]))).unwrap()
}

fn set(tensors: &mut HashMap<String, Tensor>, name: &str, at: usize, value: impl AsRef<[u8]>) {
    let bytes = value.as_ref();
    tensors.get_mut(name).unwrap().2[at * bytes.len()..(at + 1) * bytes.len()].copy_from_slice(bytes);
}

fn refuse(says: &str, change: impl FnOnce(&mut HashMap<String, Tensor>, &mut String)) {
    let error = read_bytes(&forge(change)).unwrap_err().to_string();
    assert!(error.contains(says), "{says}: {error}");
}

#[test]
fn files_that_contradict_themselves_are_refused() {
    assert_eq!(read_bytes(&forge(|_, _| {})).unwrap(), calibration());
    refuse("power classes", |t, _| set(t, "stage0.positive", 5, 1u64.to_le_bytes()));
    refuse("64 bits", |t, _| set(t, "stage0.positive", 5, u64::MAX.to_le_bytes()));
    refuse("64 bits", |t, _| set(t, "stage0.power", 5, u64::MAX.to_le_bytes()));
    refuse("shared out", |t, _| set(t, "zeros", 1, 6u64.to_le_bytes()));
    refuse("no range", |t, _| set(t, "max", 1, f32::NAN.to_le_bytes()));
    refuse("no range", |t, _| set(t, "min", 1, f32::NEG_INFINITY.to_le_bytes()));
    refuse("no range", |t, _| set(t, "min", 0, 100f32.to_le_bytes()));
    refuse("exponent", |t, _| set(t, "exponents", 1, i32::MIN.to_le_bytes()));
    refuse("exponent", |t, _| set(t, "exponents", 1, 300i32.to_le_bytes()));
    refuse("last positive bin", |t, _| set(t, "max", 1, 901f32.to_le_bytes()));
    refuse("last negative bin", |t, _| set(t, "min", 1, (-1f32).to_le_bytes()));
    refuse("more values than its share", |t, _| {
        // All seven non-zero values moved to the first channel, which has six values.
        let row = calibration().activations[1].power.slice(s![1, ..]).to_owned();
        for (class, n) in row.iter().enumerate() {
            let both = n + calibration().activations[1].power[[0, class]];
            set(t, "stage0.power", class, both.to_le_bytes());
            set(t, "stage0.power", 128 + class, 0u64.to_le_bytes());
        }
    });
}

#[test]
fn files_of_another_layout_are_refused() {
    refuse("tensors for 2 activations", |t, _| drop(t.remove("stage0.negative")));
    refuse("stage0.negative is missing", |t, _| {
        let tensor = t.remove("stage0.negative").unwrap();
        t.insert("stage1.negative".into(), tensor);
    });
    refuse("tensors for 2 activations", |t, _| drop(t.insert("extra".into(), (Dtype::U8, vec![1], vec![0]))));
    refuse("should be U64 [4096]", |t, _| t.get_mut("stage0.positive").unwrap().1 = vec![64, 64]);
    refuse("should be U64 [4096]", |t, _| t.get_mut("stage0.positive").unwrap().0 = Dtype::I64);
    refuse("should be F32 [2]", |t, _| t.get_mut("min").unwrap().0 = Dtype::I32);
    refuse("stage0.power", |t, _| t.get_mut("stage0.power").unwrap().1 = vec![256]);
    refuse("stage0.power", |t, _| *t.get_mut("stage0.power").unwrap() = (Dtype::U64, vec![], vec![0; 8]));
    refuse("power classes", |t, _| *t.get_mut("stage0.power").unwrap() = (Dtype::U64, vec![0, 128], vec![]));
    refuse("there twice", |_, m| *m = m.replace("\"stage0\"", "\"input\""));
    refuse("not a statistics file but a quantized model", |_, m| *m = m.replace("statistics", "quantized model"));
    refuse("version 2", |_, m| *m = m.replace("\"version\":1", "\"version\":2"));
    refuse("metadata entry is malformed", |_, m| *m = m.replace("\"images\":3,", ""));
    refuse("metadata entry is malformed", |_, m| *m = "[".into());
    refuse("no images", |_, m| *m = m.replace("\"images\":3", "\"images\":0"));
    refuse("shared out", |_, m| *m = m.replace("\"images\":3", "\"images\":18446744073709551615"));
}

fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn broken_files_are_refused() {
    let good = to_bytes(&calibration()).unwrap();
    for bytes in [
        vec![],
        vec![1; 7],
        good[..good.len() - 1].to_vec(),
        good[..100].to_vec(),
        [good.clone(), vec![0]].concat(),
        [&u64::MAX.to_le_bytes()[..], &good[8..]].concat(),
        [&(1u64 << 40).to_le_bytes()[..], &good[8..]].concat(),
        raw("{\"a\":{\"dtype\":\"U64\",\"shape\":[1000000000],\"data_offsets\":[0,8000000000]}}", &[0; 8]),
    ] {
        let error = read_bytes(&bytes).unwrap_err().to_string();
        assert!(error.contains("not a whole safetensors file"), "{error}");
    }
    assert!(read_bytes(&raw("{}", &[])).unwrap_err().to_string().contains("not a statistics file"));
    // Sizes that add up to 2^64: a sum with the header's length must not wrap round.
    let huge: Vec<String> = (0..9u64)
        .map(|i| {
            let (from, to) = (i * (u64::MAX / 9), (i + 1) * (u64::MAX / 9));
            format!("\"t{i}\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{from},{to}]}}", to - from)
        })
        .collect();
    read_bytes(&raw(&format!("{{{}}}", huge.join(",")), &[])).unwrap_err();
    let error = read(&PathBuf::from("/no/such/file")).unwrap_err();
    assert!(error.to_string().contains("/no/such/file: cannot be read"), "{error}");
    assert_eq!(calibration().activations[0].positive.len(), BINS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_damage_makes_reading_panic(at in 0usize..2000, byte in any::<u8>(), keep in 0usize..2000) {
        let good = to_bytes(&calibration()).unwrap();
        let mut flipped = good.clone();
        flipped[at] ^= byte;
        if flipped != good {
            let _ = read_bytes(&flipped);
        }
        prop_assert!(read_bytes(&good[..keep]).is_err());
    }
}
