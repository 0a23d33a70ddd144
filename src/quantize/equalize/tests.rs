//! What functions do to units, and statistics in other units against those of the values themselves.

use ndarray::s;

use super::clip;
use super::scaling::{Scaling, clip_function, scaling};
use super::statistics::{MOST, exponents, least, rescaled};
use crate::calibrate::ActivationStats;
use crate::model::{Activation, Expression, Op, Operand, Operator, number};
use crate::random::Random;

fn function(build: impl FnOnce(&mut Expression) -> Operand) -> Op {
    let mut e = Expression::default();
    let result = build(&mut e);
    Op::Function(e.finish(&result).unwrap())
}

#[test]
fn functions_follow_the_units_of_their_input_or_not() {
    let x = || Operand::Input(0);
    let slopes = || Operand::Constant(vec![0.1, 0.25]);
    let chosen = function(|e| {
        let less = e.push(Operator::Less, &[x(), number(0.0)]);
        let below = e.push(Operator::Mul, &[x(), slopes()]);
        e.push(Operator::Select, &[less, below, x()])
    });
    let summed = function(|e| {
        let (above, below) = (e.push(Operator::Max, &[x(), number(0.0)]), e.push(Operator::Min, &[x(), number(0.0)]));
        let below = e.push(Operator::Mul, &[below, slopes()]);
        e.push(Operator::Add, &[above, below])
    });
    let absolute = function(|e| {
        let (sign, abs) = (e.push(Operator::Sign, &[x()]), e.push(Operator::Abs, &[x()]));
        e.push(Operator::Mul, &[sign, abs])
    });
    for op in [chosen, summed, absolute, Op::Activation(Activation::LeakyRelu { slope: 0.1 })] {
        assert_eq!(scaling(&op), Some(Scaling::WithInput), "{op:?}");
    }
    let offset = function(|e| e.push(Operator::Add, &[x(), number(1.0)]));
    let square = function(|e| e.push(Operator::Mul, &[x(), x()]));
    let exp = function(|e| e.push(Operator::Exp, &[x()]));
    let threshold = function(|e| {
        let less = e.push(Operator::Less, &[x(), number(1.0)]);
        e.push(Operator::Select, &[less, number(0.0), x()])
    });
    let ratio = function(|e| {
        let abs = e.push(Operator::Abs, &[x()]);
        e.push(Operator::Div, &[x(), abs])
    });
    for op in [offset, square, exp, threshold, ratio, Op::Activation(Activation::HardSwish)] {
        assert_eq!(scaling(&op), Some(Scaling::Other), "{op:?}");
    }
    let of = |low, high| scaling(&Op::Activation(Activation::Clip { low, high }));
    assert_eq!(of(0.0, f32::INFINITY), Some(Scaling::WithInput));
    assert_eq!(of(0.0, 6.0), Some(Scaling::Clip(6.0)));
    assert_eq!((of(-1.0, 1.0), of(-1.0, f32::INFINITY)), (Some(Scaling::Other), Some(Scaling::Other)));
    assert_eq!(scaling(&Op::GlobalAveragePool), None);
    let two = function(|e| e.push(Operator::Add, &[x(), Operand::Input(1)]));
    assert_eq!(scaling(&two), None);
    assert_eq!(clip(&clip_function(vec![12.0, 6.0])), Some((0.0, 6.0)));
    assert_eq!(clip(&Op::Activation(Activation::HardSwish)), None);
}

/// Values of channels whose ranges are those of `widths`, of both signs where `signed`.
fn values(widths: &[f32], signed: bool) -> Vec<f32> {
    let mut random = Random::new(3);
    let value = |i: usize| {
        let x = random.between(-1.0, 1.0) * random.between(0.0, 1.0);
        let x = if signed { x } else { x.max(0.0) };
        x as f32 * widths[i % widths.len()]
    };
    (0..5000 * widths.len()).map(value).collect()
}

fn statistics(values: &[f32], channels: usize) -> ActivationStats {
    let mut stats = ActivationStats::new("x", channels);
    stats.add(values, channels).unwrap();
    stats
}

#[test]
fn channels_come_near_the_widest() {
    let widths = [3.0, 1.3, 0.02, 2.9e-6, 0.0, 5.9];
    let all = values(&widths, false);
    let found = exponents(&statistics(&all, 6), None);
    assert_eq!(found[5], 0);
    assert_eq!((found[3] as usize, found[4]), (MOST, 0));
    let range = |c: usize| all.iter().skip(c).step_by(6).fold(0f32, |m, x| m.max(x.abs()));
    for (c, &k) in found.iter().enumerate().take(3) {
        let ratio = f64::from(range(c)) * f64::exp2(f64::from(k)) / f64::from(range(5));
        assert!((1.0 / 3.0..1.5).contains(&ratio), "{c}: {ratio}");
    }
    // Never beyond a limit.
    let limited = exponents(&statistics(&all, 6), Some(6.0));
    for (c, &k) in limited.iter().enumerate() {
        assert!(range(c) * f32::exp2(k.into()) <= 6.0, "{c}");
    }
    assert_eq!((least(&[3, 0, 2], &[1, 5, 2]), least(&[1, 0], &[0, 4])), (vec![1, 0, 2], vec![]));
    assert!(least(&[], &[2]).is_empty());
    // Half octaves are what is known: nothing is done for less.
    assert!(exponents(&statistics(&values(&[1.0, 1.1, 0.9], false), 3), None).is_empty());
    assert!(exponents(&statistics(&[0.0; 6], 3), None).is_empty());
}

#[test]
fn statistics_follow_the_units() {
    let widths = [3.0, 0.7, 0.02, 0.0011, 0.0, 5.9];
    for signed in [false, true] {
        let all = values(&widths, signed);
        let stats = statistics(&all, 6);
        // Nothing moves, nothing changes; of what lies in the first two bins the signs are shared out.
        let same = rescaled(&stats, &[0; 6]);
        assert_eq!((&same.positive[2..], same.min, same.max), (&stats.positive[2..], stats.min, stats.max), "{signed}");
        assert_eq!(
            (&same.negative[2..], &same.power, same.count()),
            (&stats.negative[2..], &stats.power, stats.count())
        );
        let exponents = exponents(&stats, None);
        let moved: Vec<f32> = all.iter().enumerate().map(|(i, x)| x * f32::exp2(exponents[i % 6].into())).collect();
        let (found, truth) = (rescaled(&stats, &exponents), statistics(&moved, 6));
        assert_eq!((found.zeros, found.count(), found.exponent), (truth.zeros, truth.count(), truth.exponent));
        // What is too small for any half octave may be in another one.
        assert_eq!(found.power.slice(s![.., 2 * MOST..]), truth.power.slice(s![.., 2 * MOST..]));
        for (found, truth) in [(found.max, truth.max), (-found.min, -truth.min)] {
            assert!(found >= truth / 1.2 && found <= truth.max(stats.max_abs()) * 1.5, "{found} for {truth}");
        }
        // Counts up to any bin are nearly those of the values.
        for (found, truth) in [(&found.positive, &truth.positive), (&found.negative, &truth.negative)] {
            let (mut a, mut b) = (0u64, 0u64);
            for (bin, (found, truth)) in found.iter().zip(truth).enumerate() {
                (a, b) = (a + found, b + truth);
                assert!(a.abs_diff(b) <= truth.max(&0) + stats.count() / 20, "{signed} {bin}: {a} for {b}");
            }
        }
        // They are statistics that a file may hold.
        for (counts, limit) in [(&found.positive, found.max), (&found.negative, -found.min)] {
            let last = counts.iter().rposition(|&n| n > 0);
            let bin = (f64::from(limit) / f64::exp2(f64::from(found.exponent))).floor() as usize;
            assert_eq!(last, (limit > 0.0).then_some(bin), "{signed}");
        }
    }
}
