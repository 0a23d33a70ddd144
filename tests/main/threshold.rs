//! Range selection: against the reference thresholds of real networks, and against plain forms of
//! every method.
use ndarray::Array2;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use repquant::internals::calibrate::{ActivationStats, BINS, Calibration, POWER_BINS};
use repquant::internals::model::{Color, Decode, Fit, Interpolation, Preprocessing};
use repquant::internals::threshold::{ActivationMode, ActivationRange, Method, RangeOptions, choose};

use crate::common::test_data;

/// The methods as their sources state them, with no thought for speed.
mod plain {
    /// Bins j < kept that go to group floor(j·levels/kept), merged and spread back over the
    /// occupied ones.
    fn merged(counts: &[f64], kept: usize, levels: usize) -> Vec<f64> {
        let (mut sum, mut occupied) = (vec![0.0; levels], vec![0.0; levels]);
        for j in (0..kept).filter(|&j| counts[j] > 0.0) {
            sum[j * levels / kept] += counts[j];
            occupied[j * levels / kept] += 1.0;
        }
        let spread =
            |j: usize| if counts[j] > 0.0 { sum[j * levels / kept] / occupied[j * levels / kept] } else { 0.0 };
        (0..kept).map(spread).collect()
    }

    fn clipped(counts: &[f64], kept: usize) -> Vec<f64> {
        let mut p = counts[..kept].to_vec();
        p[kept - 1] += counts[kept..].iter().sum::<f64>();
        p
    }

    fn used(counts: &[f64]) -> usize {
        counts.iter().rposition(|&n| n > 0.0).unwrap() + 1
    }

    fn last_least(divergences: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
        let divergences: Vec<_> = divergences.collect();
        let least = divergences.iter().map(|d| d.1).fold(f64::INFINITY, f64::min);
        divergences.iter().rev().find(|d| d.1 == least).map(|d| d.0)
    }

    pub(super) fn kl(counts: &[u64], levels: usize) -> Option<usize> {
        let mut counts: Vec<f64> = counts.iter().map(|&n| n as f64).collect();
        counts[0] = counts[1];
        let divergence = |kept: usize| {
            let (p, q) = (clipped(&counts, kept), merged(&counts, kept, levels));
            let (sum_p, sum_q) = (p.iter().sum::<f64>(), q.iter().sum::<f64>());
            let term = |(p, q): (&f64, &f64)| match (p / sum_p, q / sum_q) {
                (0.0, _) => 0.0,
                (_, 0.0) => f64::INFINITY,
                (p, q) => p * (p / q).ln(),
            };
            p.iter().zip(&q).map(term).sum::<f64>()
        };
        last_least((128.max(levels)..=used(&counts)).map(|kept| (kept, divergence(kept))))
    }

    /// Σ count·(x − kept)² over the bins from `kept` on, four times, x being their centres.
    fn beyond(counts: &[u64], kept: usize) -> i128 {
        let bins = counts.iter().enumerate().skip(kept);
        bins.map(|(j, &n)| i128::from(n) * (2 * j as i128 + 1 - 2 * kept as i128).pow(2)).sum()
    }

    pub(super) fn kl_reparam(counts: &[u64], levels: usize) -> Option<usize> {
        let integers = counts;
        let energy: i128 = integers.iter().enumerate().map(|(j, &n)| i128::from(n) * (2 * j as i128 + 1).pow(2)).sum();
        let counts: Vec<f64> = counts.iter().map(|&n| n as f64).collect();
        let divergence = |kept: usize| {
            let mass = |bins: &[f64]| bins.iter().sum::<f64>();
            if mass(&counts[..kept]) < mass(&counts[kept..]) || 200 * beyond(integers, kept) > energy {
                return f64::INFINITY;
            }
            let (p, q) = (clipped(&counts, kept), merged(&counts, kept, levels));
            // Q adds up to the kept mass; adding the spread values instead would only round
            // differently.
            let (sum_p, sum_q) = (p.iter().sum::<f64>(), counts[..kept].iter().sum::<f64>());
            let both = p.iter().zip(&q).filter(|(p, q)| **p > 0.0 && **q > 0.0);
            both.map(|(p, q)| p * ((p * sum_p).ln() - (q * sum_q).ln())).sum::<f64>() / sum_p
        };
        last_least((levels..=used(&counts)).map(|kept| (kept, divergence(kept))))
    }

    /// Whether two candidates of `kl_reparam` have the same divergence in exact arithmetic: every
    /// term is the same.
    pub(super) fn ties(counts: &[u64], a: usize, b: usize, levels: usize) -> bool {
        let counts: Vec<f64> = counts.iter().map(|&n| n as f64).collect();
        let terms = |kept: usize| {
            let (p, q) = (clipped(&counts, kept), merged(&counts, kept, levels));
            let both = p.into_iter().zip(q).enumerate().filter(|(_, (p, q))| *p > 0.0 && *q > 0.0);
            (both.collect::<Vec<_>>(), counts[..kept].iter().sum::<f64>())
        };
        terms(a) == terms(b)
    }

    /// Quantizes every bin's centre, once for each threshold; in units of a bin.
    pub(super) fn mse(counts: &[u64], steps: u32) -> usize {
        let last = counts.iter().rposition(|&n| n > 0).unwrap() + 1;
        let mut best = (f64::INFINITY, 0);
        for kept in 1..=last {
            let scale = kept as f64 / f64::from(steps);
            let error = |(j, n): (usize, &u64)| {
                let x = j as f64 + 0.5;
                let q = (x / scale).round_ties_even().min(f64::from(steps));
                *n as f64 * (x - q * scale).powi(2)
            };
            let error = counts.iter().enumerate().map(error).sum::<f64>();
            if error <= best.0 {
                best = (error, kept);
            }
        }
        best.1
    }

    pub(super) fn percentile(counts: &[u64], zeros: u64, percent: f64) -> usize {
        let total = (zeros + counts.iter().sum::<u64>()) as f64;
        let share = |kept: usize| (zeros + counts[..kept].iter().sum::<u64>()) as f64 * 100.0 / total;
        (1..=counts.len()).find(|&kept| share(kept) >= percent).unwrap()
    }
}

fn stats(name: &str, exponent: i32, zeros: u64, range: [f32; 2], sides: [Vec<u64>; 2]) -> ActivationStats {
    let [positive, negative] = sides;
    let power = Array2::zeros((1, POWER_BINS));
    ActivationStats { name: name.into(), exponent, zeros, min: range[0], max: range[1], positive, negative, power }
}

/// An activation after a `ReLU` whose bins are one wide, and whose largest value lies in its last
/// bin.
fn relu(counts: &[u64], zeros: u64) -> ActivationStats {
    let mut positive = counts.to_vec();
    positive.resize(BINS, 0);
    let max = positive.iter().rposition(|&n| n > 0).map_or(0.0, |bin| bin as f32 + 0.75);
    stats("relu", 0, zeros, [0.0, max], [positive, vec![0; BINS]])
}

fn calibration(activations: Vec<ActivationStats>) -> Calibration {
    let mut input = ActivationStats::new("input", 3);
    input.add(&[-2.0, 1.0, 2.54], 3).unwrap();
    Calibration {
        model_digest: "0".into(),
        preprocessing: Preprocessing {
            size: [32, 32],
            resize: None,
            interpolation: Interpolation::Bilinear,
            mean: vec![0.5; 3],
            std: vec![0.25; 3],
            fit: Fit::Crop,
            color: Color::Rgb,
            decode: Decode::Full,
        },
        images: 1,
        activations: std::iter::once(input).chain(activations).collect(),
    }
}

fn options(method: &str, bits: u8, mode: ActivationMode) -> RangeOptions {
    RangeOptions { method: method.parse().unwrap(), bits, mode }
}

fn choose_one(stats: &ActivationStats, method: &str, bits: u8, mode: ActivationMode) -> ActivationRange {
    choose(&calibration(vec![stats.clone()]), &options(method, bits, mode)).unwrap().ranges.remove(1)
}

fn threshold(stats: &ActivationStats, method: &str, bits: u8) -> f64 {
    choose_one(stats, method, bits, ActivationMode::Symmetric).threshold
}

/// The real activations of a network with their reference thresholds of kl-reparam and mse.
fn golden(network: &str) -> Option<Vec<(ActivationStats, f64, f64)>> {
    let data = test_data()?;
    let file = |end: &str| std::fs::read(data.join(format!("models/{network}-cifar10.{end}"))).unwrap();
    let reference: serde_json::Value = serde_json::from_slice(&file("reference.json")).unwrap();
    let bytes = file("golden.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let one = |a: &serde_json::Value| {
        let number = |key: &str| a[key].as_f64().unwrap();
        let name = a["layer"].as_str().unwrap();
        let counts = tensors.tensor(&format!("hist.{name}")).unwrap();
        let counts = counts.data().as_chunks::<8>().0.iter().map(|b| u64::try_from(i64::from_le_bytes(*b)).unwrap());
        let exponent = i32::try_from(a["exponent"].as_i64().unwrap()).unwrap();
        let sides = [counts.collect(), vec![0; BINS]];
        let stats = stats(name, exponent, a["zeros"].as_u64().unwrap(), [0.0, number("max") as f32], sides);
        assert_eq!(ActivationStats::exponent_for(stats.max), exponent, "{name}");
        (stats, number("kl_reparam"), number("mse"))
    };
    Some(reference["activations"].as_array().unwrap().iter().map(one).collect())
}

/// `ties` names the activations where two kl-reparam candidates are equal in exact arithmetic. The
/// larger is to win; the reference has another one, since it adds up Q in floating point, pairwise,
/// and so in another order for each length.
fn assert_reference(network: &str, count: usize, ties: &[&str]) {
    let Some(golden) = golden(network) else { return };
    assert_eq!(golden.len(), count);
    let calibration = calibration(golden.iter().map(|g| g.0.clone()).collect());
    let chosen = |method| choose(&calibration, &options(method, 8, ActivationMode::Symmetric)).unwrap().ranges;
    let (kl_reparam, mse) = (chosen("kl-reparam"), chosen("mse"));
    for (((stats, reference, reference_mse), kl_reparam), mse) in golden.iter().zip(&kl_reparam[1..]).zip(&mse[1..]) {
        let name = stats.name.as_str();
        assert_eq!(mse.threshold, *reference_mse, "{network} {name} mse");
        assert_eq!((mse.low, mse.qparams.scale), (-reference_mse, (reference_mse / 127.0) as f32));
        if ties.contains(&name) {
            let bins = |t: f64| (t * 2f64.powi(-stats.exponent)) as usize;
            assert!(kl_reparam.threshold > *reference, "{network} {name}: no longer an exception");
            assert!(
                plain::ties(&stats.positive, bins(kl_reparam.threshold), bins(*reference), 128),
                "{network} {name}"
            );
        } else {
            assert_eq!(kl_reparam.threshold, *reference, "{network} {name} kl-reparam");
        }
    }
}

#[test]
fn repvgg_thresholds_equal_the_reference() {
    assert_reference("repvgg", 23, &["stage2.2"]);
}

#[test]
fn mobileone_thresholds_equal_the_reference() {
    assert_reference("mobileone", 28, &[]);
}

/// Where the plain forms disagree on real histograms, an error is in one of them.
#[test]
fn real_histograms_give_what_the_plain_forms_give() {
    for network in ["repvgg", "mobileone"] {
        let Some(golden) = golden(network) else { return };
        for (stats, ..) in golden.iter().step_by(4) {
            let edge = |bins: usize| (bins as f64 * 2f64.powi(stats.exponent)).min(f64::from(stats.max));
            let h = &stats.positive;
            for bits in [8, 6] {
                let levels = 1 << (bits - 1);
                let case = format!("{network} {} {bits} bits", stats.name);
                assert_eq!(threshold(stats, "kl", bits), edge(plain::kl(h, levels).unwrap()), "{case} kl");
                let kept = plain::kl_reparam(h, levels).unwrap();
                assert_eq!(threshold(stats, "kl-reparam", bits), edge(kept), "{case} kl-reparam");
                let kept = plain::mse(h, (1 << (bits - 1)) - 1);
                assert_eq!(threshold(stats, "mse", bits), edge(kept), "{case} mse");
            }
            for p in [50.0, 99.0, 99.9, 99.99, 99.999, 100.0] {
                let kept = plain::percentile(h, stats.zeros, p);
                assert_eq!(threshold(stats, &format!("percentile:{p}"), 8), edge(kept), "{} {p}", stats.name);
            }
            assert_eq!(threshold(stats, "minmax", 8), f64::from(stats.max));
            let affine = choose_one(stats, "mse", 8, ActivationMode::Affine);
            assert_eq!((affine.threshold, affine.low), (edge(plain::mse(h, 255)), 0.0));
            assert_eq!(affine.qparams.zero_point, -128);
        }
    }
}

fn histogram() -> impl Strategy<Value = Vec<u64>> {
    // A falling curve with noise and gaps, up to 700 bins long.
    (2usize..700, 1.0f64..200.0, 0.0f64..0.9, any::<u64>()).prop_map(|(bins, width, gaps, seed)| {
        let mut state = seed | 1;
        let mut uniform = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let count = |bin: usize, u: f64, gap: bool| {
            if gap && bin + 1 < bins { 0 } else { (u * 1000.0 * (-(bin as f64) / width).exp()) as u64 + 1 }
        };
        (0..bins).map(|bin| count(bin, uniform(), uniform() < gaps)).collect()
    })
}

/// Values that stay away from zero, and few of them: nothing like the whole may be clipped.
#[test]
fn kl_reparam_never_clips_most_of_the_values() {
    // 200 values a bin from bin 2100 to 4095; the same and one value near zero; 1,280 values around
    // bin 1600.
    let far: Vec<u64> = (0..4096).map(|bin| if bin >= 2100 { 200 } else { 0 }).collect();
    let mut with_one = far.clone();
    with_one[20] = 1;
    let few: Vec<u64> = (0..3000u64).map(|bin| u64::from(bin.abs_diff(1600) < 1280 && bin % 2 == 0)).collect();
    for counts in [far, with_one, few] {
        let stats = relu(&counts, 0);
        let total: u64 = counts.iter().sum();
        let bins = threshold(&stats, "kl-reparam", 8) / f64::exp2(f64::from(stats.exponent));
        let kept: u64 = counts[..(bins.ceil() as usize).min(counts.len())].iter().sum();
        assert!(kept * 10 > total * 9, "{kept} of {total} values are kept");
    }
}

proptest! {
    // A fixed seed: the plain forms round, so one histogram in many thousands may have a tie that
    // they see otherwise.
    #![proptest_config(ProptestConfig { cases: 96, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn random_histograms_give_what_the_plain_forms_give(h in histogram(), zeros in 0u64..5000, bits in 2u8..=8, p in 1.0f64..100.0) {
        let stats = relu(&h, zeros);
        let (levels, max) = (1usize << (bits - 1), f64::from(stats.max));
        let enough = h.iter().filter(|&&n| n > 0).count() >= levels;
        let edge = |bins: Option<usize>| bins.filter(|_| enough).map_or(max, |bins| (bins as f64).min(max));
        prop_assert_eq!(threshold(&stats, "kl", bits), edge(plain::kl(&stats.positive, levels)));
        prop_assert_eq!(threshold(&stats, "kl-reparam", bits), edge(plain::kl_reparam(&stats.positive, levels)));
        prop_assert_eq!(threshold(&stats, &format!("percentile:{p}"), bits), edge(Some(plain::percentile(&h, zeros, p))));
        prop_assert_eq!(threshold(&stats, "minmax", bits), max);
    }

    #[test]
    fn random_histograms_have_the_least_squared_error(h in histogram(), bits in 2u8..=8) {
        let (stats, steps) = (relu(&h, 0), (1u32 << (bits - 1)) - 1);
        let enough = h.iter().filter(|&&n| n > 0).count() > steps as usize;
        let max = f64::from(stats.max);
        let expected = if enough { (plain::mse(&stats.positive, steps) as f64).min(max) } else { max };
        prop_assert_eq!(threshold(&stats, "mse", bits), expected);
    }
}

#[test]
fn ties_go_to_the_larger_threshold() {
    // Two equal bins, a gap, and a tail that merges badly: every candidate that ends in the gap
    // loses just the tail.
    let counts: Vec<u64> = [vec![4_000_000; 2], vec![0; 14], vec![1; 15], vec![30]].concat();
    assert!(plain::ties(&counts, 3, 16, 2));
    assert_eq!(threshold(&relu(&counts, 0), "kl-reparam", 2), 16.0);
    // One step: with 1 bin and with 2 both values are half a bin off. The larger edge lies beyond
    // the largest value.
    assert_eq!(threshold(&relu(&[4, 4], 0), "mse", 2), 1.75);
}

/// A few channels far wider than the others: few of the values, most of the energy.
#[test]
fn kl_reparam_does_not_take_wide_channels_for_a_tail() {
    let narrow = (0..400u64).map(|j| 100_000 / (1 + j * j / 400));
    let wide = (400..1600u64).map(|j| u64::from(j % 40 == 0) * 200);
    let counts: Vec<u64> = narrow.chain(wide).collect();
    let energy = |bins: std::ops::Range<usize>, from: f64| -> f64 {
        bins.map(|j| counts[j] as f64 * (j as f64 + 0.5 - from).powi(2)).sum()
    };
    let found = threshold(&relu(&counts, 0), "kl-reparam", 8);
    assert!(energy(found as usize..counts.len(), found) <= 0.005 * energy(0..counts.len(), 0.0), "{found}");
    // What clips more would have won.
    assert!(found > 1000.0 && plain::kl_reparam(&counts, 128) == Some(found as usize), "{found}");
}

#[test]
fn few_occupied_bins_and_constant_activations_take_minmax() {
    let mut counts = vec![1; 127];
    counts[0] = 1_000_000;
    for method in ["percentile:50", "mse", "kl", "kl-reparam"] {
        assert_eq!(threshold(&relu(&counts, 0), method, 8), 126.75, "{method}");
        assert_eq!(threshold(&relu(&[0, 0, 9], 3), method, 8), 2.75, "{method}");
    }
    counts.push(1);
    assert_eq!(threshold(&relu(&counts, 0), "percentile:50", 8), 1.0);
}

#[test]
fn an_activation_that_is_always_zero_has_scale_one() {
    let mut dead = ActivationStats::new("dead", 4);
    dead.add(&[0.0, -0.0, 0.0, 0.0], 4).unwrap();
    for method in ["minmax", "percentile:99", "mse", "kl", "kl-reparam"] {
        for mode in [ActivationMode::Symmetric, ActivationMode::Affine] {
            let range = choose_one(&dead, method, 8, mode);
            assert_eq!((range.threshold, range.low, range.qparams.scale), (0.0, 0.0, 1.0), "{method} {mode}");
        }
    }
}

#[test]
fn the_input_is_eight_bit_symmetric_minmax() {
    let calibration = calibration(vec![relu(&[1; 200], 0)]);
    let ranges = choose(&calibration, &options("percentile:10", 4, ActivationMode::Affine)).unwrap().ranges;
    let input = &ranges[0];
    assert_eq!((input.name.as_str(), input.threshold), ("input", f64::from(2.54f32)));
    assert_eq!(input.qparams.scale, (f64::from(2.54f32) / 127.0) as f32);
    assert_eq!((input.qparams.zero_point, input.qparams.qmin, input.qparams.qmax), (0, -127, 127));
    assert_eq!((ranges[1].qparams.zero_point, ranges[1].qparams.qmax), (-8, 7));
    assert_eq!(ranges[1].threshold, 20.0);
}

#[test]
fn signs_are_one_histogram_when_symmetric_and_two_when_affine() {
    let ramp = |n: usize| (0..BINS).map(|j| n.saturating_sub(j) as u64).collect::<Vec<_>>();
    let (positive, negative) = (ramp(900), ramp(300));
    let both: Vec<u64> = positive.iter().zip(&negative).map(|(p, n)| p + n).collect();
    let stats = stats("linear", 0, 77, [-299.5, 899.5], [positive.clone(), negative.clone()]);

    let edge = |bins: usize, limit: f64| (bins as f64).min(limit);
    assert_eq!(threshold(&stats, "mse", 8), edge(plain::mse(&both, 127), 899.5));
    assert_eq!(threshold(&stats, "kl-reparam", 8), edge(plain::kl_reparam(&both, 128).unwrap(), 899.5));
    assert_eq!(threshold(&stats, "percentile:90", 8), edge(plain::percentile(&both, 77, 90.0), 899.5));
    assert_eq!(threshold(&stats, "minmax", 8), 899.5);

    let affine = |method: &str| {
        let range = choose_one(&stats, method, 8, ActivationMode::Affine);
        (range.low, range.threshold)
    };
    assert_eq!(affine("minmax"), (-299.5, 899.5));
    for (method, low, high) in [
        ("mse", plain::mse(&negative, 127), plain::mse(&positive, 127)),
        ("kl", plain::kl(&negative, 128).unwrap(), plain::kl(&positive, 128).unwrap()),
        ("kl-reparam", plain::kl_reparam(&negative, 128).unwrap(), plain::kl_reparam(&positive, 128).unwrap()),
        ("percentile:90", plain::percentile(&negative, 77, 90.0), plain::percentile(&positive, 77, 90.0)),
    ] {
        assert_eq!(affine(method), (-edge(low, 299.5), edge(high, 899.5)), "{method}");
    }
    let range = choose_one(&stats, "minmax", 8, ActivationMode::Affine);
    assert_eq!(range.qparams.scale, (1199.0f64 / 255.0) as f32);
    assert_eq!(range.qparams.zero_point, -64);
}

#[test]
fn wrong_options_and_unseen_activations_are_refused() {
    let good = calibration(vec![relu(&[1; 200], 0)]);
    for wrong in [
        RangeOptions { bits: 1, ..RangeOptions::default() },
        RangeOptions { bits: 9, ..RangeOptions::default() },
        RangeOptions { method: Method::Percentile(0.0), ..RangeOptions::default() },
        RangeOptions { method: Method::Percentile(f64::NAN), ..RangeOptions::default() },
    ] {
        assert_eq!(choose(&good, &wrong).unwrap_err().kind(), repquant::ErrorKind::Usage, "{wrong:?}");
    }
    let unseen = calibration(vec![ActivationStats::new("stage1.0", 4)]);
    assert!(choose(&unseen, &RangeOptions::default()).unwrap_err().to_string().contains("stage1.0"));
}
