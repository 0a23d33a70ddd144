//! The fast search against the plainest one, and what every split must fulfil.

use proptest::prelude::*;
use repquant::internals::quantize::{Aligned, LANES, RATIOS, published, published_scales, qmax, ratio, search};

/// The definition, pair by pair: every r and k, every weight divided and rounded by the standard
/// library.
fn plain_search(weights: &[f32], support: &[bool], bits: u8) -> Aligned {
    let limit = f64::from(qmax(bits));
    let round = |x: f64| x.round_ties_even().clamp(-limit, limit);
    let max = |on: &dyn Fn(bool) -> bool| {
        weights.iter().zip(support).filter(|w| on(*w.1)).map(|w| f64::from(w.0.abs())).fold(0.0, f64::max)
    };
    let mut best: Option<Aligned> = None;
    for shift in 0..=bits + 1 {
        for step in 0..RATIOS {
            let r = ratio(step);
            let power = 2f64.powi(i32::from(shift));
            let reach =
                if shift == 0 { r * max(&|_| true) } else { (r * max(&|on| !on)).max(max(&|on| on) / (power + 1.0)) };
            let scale = (reach / limit) as f32;
            if scale == 0.0 {
                continue;
            }
            let s = f64::from(scale);
            let (mut fine, mut coarse) = (Vec::new(), Vec::new());
            // Partial sums for the support and the rest, as documented.
            let (mut sums, mut counts) = ([[0f64; LANES]; 2], [0usize; 2]);
            for (&w, &on) in weights.iter().zip(support) {
                let w = f64::from(w);
                let q_c = if on && shift > 0 { round(w / (power * s)) } else { 0.0 };
                let q_f = round((w - power * s * q_c) / s);
                fine.push(q_f as i8);
                if on {
                    coarse.push(q_c as i8);
                }
                let part = usize::from(on);
                sums[part][counts[part] % LANES] += (w - s * (q_f + power * q_c)).powi(2);
                counts[part] += 1;
            }
            let error = sums[0].iter().sum::<f64>() + sums[1].iter().sum::<f64>();
            if best.as_ref().is_none_or(|b| error < b.error) {
                best = Some(Aligned { scale, shift, fine, coarse, error });
            }
        }
    }
    best.unwrap_or_else(|| Aligned {
        scale: 1.0,
        shift: 0,
        fine: vec![0; weights.len()],
        coarse: vec![0; support.iter().filter(|&&on| on).count()],
        error: 0.0,
    })
}

/// Kernels as they occur: a wide centre, exact ties (multiples of a power of two), zeros.
fn channel() -> impl Strategy<Value = (Vec<f32>, Vec<bool>)> {
    let weight = prop_oneof![
        4 => (-1.0..1.0f64).prop_map(|w| w as f32),
        1 => (-64i32..64).prop_map(|w| w as f32 / 64.0),
        1 => Just(0f32),
    ];
    let shape = (1usize..20, prop_oneof![Just(1usize), Just(4), Just(9), Just(25)], 0..4u8, 0.0..64.0f32);
    shape.prop_flat_map(move |(inputs, taps, support, boost)| {
        prop::collection::vec(weight.clone(), inputs * taps).prop_map(move |mut weights| {
            let center = |i: usize| i % taps == taps / 2;
            let mask: Vec<bool> = (0..weights.len())
                .map(|i| match support {
                    0 => false,
                    1 => center(i),
                    2 => i == taps / 2,
                    _ => true,
                })
                .collect();
            weights.iter_mut().enumerate().filter(|(i, _)| center(*i)).for_each(|(_, w)| *w *= boost);
            (weights, mask)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn fast_and_plain_search_agree_to_the_bit((weights, support) in channel(), bits in 2u8..=8) {
        let (fast, plain) = (search(&weights, &support, bits), plain_search(&weights, &support, bits));
        prop_assert_eq!(fast.scale.to_bits(), plain.scale.to_bits());
        prop_assert_eq!(fast.error.to_bits(), plain.error.to_bits());
        prop_assert_eq!(fast, plain);
    }

    #[test]
    fn aligned_is_never_worse_than_unsplit((weights, support) in channel(), bits in 2u8..=8) {
        let found = search(&weights, &support, bits);
        let limit = f64::from(qmax(bits));
        let max = weights.iter().fold(0f64, |m, w| m.max(f64::from(w.abs())));
        let s = if max > 0.0 { f64::from((max / limit) as f32) } else { 1.0 };
        let unsplit: f64 = weights.iter().map(|&w| {
            let w = f64::from(w);
            (w - s * (w / s).round_ties_even().clamp(-limit, limit)).powi(2)
        }).sum();
        // The two sums run in different orders.
        prop_assert!(found.error <= unsplit * (1.0 + 1e-12));
    }

    #[test]
    fn coarse_and_fine_make_the_weight((weights, support) in channel(), bits in 2u8..=8) {
        let limit = qmax(bits);
        let found = search(&weights, &support, bits);
        let mut coarse = found.coarse.iter();
        let mut error = 0.0;
        for ((&w, &on), &q_f) in weights.iter().zip(&support).zip(&found.fine) {
            let q_c = if on { f64::from(*coarse.next().unwrap()) } else { 0.0 };
            let s = f64::from(found.scale);
            let off = f64::from(w) - s * (f64::from(q_f) + 2f64.powi(i32::from(found.shift)) * q_c);
            prop_assert!(i32::from(q_f).abs() <= limit && q_c.abs() <= f64::from(limit));
            if i32::from(q_f).abs() < limit {
                prop_assert!(off.abs() <= s * 0.500_000_1, "{w} off by {off}, scale {s}");
            }
            error += off * off;
        }
        prop_assert!(coarse.next().is_none());
        prop_assert!((error - found.error).abs() <= 1e-12 * error);
    }

    #[test]
    fn the_published_split_makes_the_weight((weights, support) in channel(), bits in 2u8..=8) {
        let (g, s_f) = published_scales(&weights, &support, bits, 0.0);
        let (fine, coarse) = published(&weights, &support, bits, g, s_f);
        let mut coarse = coarse.iter();
        for ((&w, &on), &q_f) in weights.iter().zip(&support).zip(&fine) {
            let q_c = if on { f64::from(*coarse.next().unwrap()) } else { 0.0 };
            let off = f64::from(w) - f64::from(g) * q_c - f64::from(s_f) * f64::from(q_f);
            // No clipping: s_f reaches the largest fine weight (but for its rounding to f32).
            prop_assert!(off.abs() <= f64::from(s_f) * 0.500_01, "{w} off by {off}, scale {s_f}");
        }
    }
}
