//! Random integer layers for `verify`, uneven on purpose.

use ndarray::{Array1, Array4};

use crate::kernels::Random;
use crate::kernels::core::{OutputLevels, packed_pixels};
use crate::model::{Coarse, CoarseScale, QConv, Shape, Support};

/// What a random layer looks like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) images: usize,
    /// Channels, rows, columns.
    pub(super) x: [usize; 3],
    pub(super) out_channels: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    pub(super) groups: usize,
    /// The support, and whether the coarse part has a grid of its own.
    pub(super) split: Option<(Support, bool)>,
    /// Only the ends of every range.
    pub(super) extreme: bool,
}

/// Every kind of split, none first.
pub(super) const SPLITS: [Option<(Support, bool)>; 7] = [
    None,
    Some((Support::Center, false)),
    Some((Support::Diagonal, false)),
    Some((Support::Full, false)),
    Some((Support::Center, true)),
    Some((Support::Diagonal, true)),
    Some((Support::Full, true)),
];

/// A layer and its input.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) images: usize,
    pub(super) x_shape: Shape,
    pub(super) conv: QConv,
    pub(super) x_zero_point: i32,
    pub(super) output: OutputLevels,
    /// NHWC, channels padded with the zero point.
    pub(super) x: Vec<i8>,
}

/// Levels of outputs: symmetric, after a `ReLU`, affine, few bits.
const OUTPUTS: [[i32; 3]; 6] =
    [[0, -127, 127], [0, 0, 127], [-128, -128, 127], [13, 13, 127], [-5, -128, 127], [1, -8, 7]];

impl Case {
    /// A random layer; its multipliers spread the outputs over the int8 range.
    pub(super) fn random(plan: &Plan, random: &mut Random) -> Self {
        let [channels, height, width] = plan.x;
        let x_shape = Shape::new(channels, height, width);
        let [kh, kw] = plan.kernel;
        let (o, i) = (plan.out_channels, channels / plan.groups);
        let pick = |random: &mut Random, low: i64, high: i64| {
            if plan.extreme {
                // Mostly of one sign, so that sums grow long.
                [low, high][usize::from(random.integer(0, 7) == 0)]
            } else {
                random.integer(low, high)
            }
        };
        let x_zero_point = [0, -128, 37, 127, -1][random.integer(0, 4) as usize];
        let [zero_point, low, high] = OUTPUTS[random.integer(0, 5) as usize];
        let x = packed_pixels(plan.images, x_shape, x_zero_point, || pick(random, -128, 127) as i8);

        let fine = Array4::from_shape_simple_fn((o, i, kh, kw), || pick(random, -127, 127) as i8);
        let coarse = plan.split.map(|(support, own)| {
            let shape = match support {
                Support::Center => (o, i, 1, 1),
                Support::Diagonal => (o, 1, 1, 1),
                Support::Full => (o, i, kh, kw),
            };
            let weights = Array4::from_shape_simple_fn(shape, || random.integer(-127, 127) as i8);
            let scale = if own {
                CoarseScale::Own {
                    scale: Array1::ones(o),
                    multiplier: Array1::zeros(o),
                    bias: sums(&weights).mapv(|sum| (-i64::from(x_zero_point) * sum) as i32),
                }
            } else {
                CoarseScale::Shift(Array1::from_shape_simple_fn(o, || random.integer(0, 9) as u8))
            };
            Coarse { support, weights, scale }
        });
        // The standard deviation of the totals, if weights and steps were uniform over their range.
        let deviation = |taps: usize| 73.0 * 100.0 * (taps as f64).sqrt();
        let mut bias = Array1::zeros(o);
        let mut multiplier = Array1::zeros(o);
        let mut right_shift = Array1::zeros(o);
        let fine_sums = sums(&fine);
        let mut coarse = coarse;
        for c in 0..o {
            let spread = deviation(i * kh * kw);
            let mut total = fine_sums[c];
            let mut factor = f64::from(random.integer(20, 200) as i32) / spread;
            let mut coarse_factor = 0.0;
            if let Some(part) = &coarse {
                let coarse_spread = deviation(part.weights.len() / o);
                match &part.scale {
                    CoarseScale::Shift(k) => {
                        total += sums(&part.weights)[c] << k[c];
                        factor *= spread / (spread + coarse_spread * f64::from(1 << k[c]));
                    }
                    CoarseScale::Own { .. } => {
                        coarse_factor = f64::from(random.integer(20, 200) as i32) / coarse_spread;
                    }
                }
            }
            let n = 30 - f64::max(factor, coarse_factor).log2().floor() as i32;
            let fixed = |factor: f64| (factor * 2f64.powi(n)).round().min(f64::from(i32::MAX)) as i32;
            (multiplier[c], right_shift[c]) = (fixed(factor), n as u8);
            if let Some(Coarse { scale: CoarseScale::Own { multiplier, .. }, .. }) = &mut coarse {
                multiplier[c] = fixed(coarse_factor);
            }
            let real_bias = random.integer(-spread as i64, spread as i64);
            bias[c] = (real_bias - i64::from(x_zero_point) * total) as i32;
        }
        let conv = QConv {
            bits: 8,
            fine,
            coarse,
            scale: Array1::ones(o),
            bias,
            multiplier,
            right_shift,
            stride: plan.stride,
            padding: plan.padding,
            groups: plan.groups,
        };
        let split = match plan.split {
            None => "unsplit".to_owned(),
            Some((support, own)) => format!("{} {support:?}", if own { "published" } else { "aligned" }),
        };
        let name = format!(
            "{}×{x_shape} to {o}, kernel {kh}×{kw}, stride {:?}, padding {:?}, groups {}, {split}{}",
            plan.images,
            plan.stride,
            plan.padding,
            plan.groups,
            if plan.extreme { ", extreme" } else { "" },
        );
        let output = OutputLevels { zero_point, low, high };
        Self { name, images: plan.images, x_shape, conv, x_zero_point, output, x }
    }

    /// Pure requantization: weights 0, so that the biases are the totals. Half of them land on or
    /// next to a tie.
    pub(super) fn requantization(own: bool, random: &mut Random) -> Self {
        const CHANNELS: usize = 6000;
        let mut conv = QConv {
            bits: 8,
            fine: Array4::zeros((CHANNELS, 1, 1, 1)),
            coarse: None,
            scale: Array1::ones(CHANNELS),
            bias: Array1::zeros(CHANNELS),
            multiplier: Array1::zeros(CHANNELS),
            right_shift: Array1::zeros(CHANNELS),
            stride: [1, 1],
            padding: [0, 0],
            groups: 1,
        };
        let (mut coarse_multiplier, mut coarse_bias) = (Array1::zeros(CHANNELS), Array1::zeros(CHANNELS));
        let multiplier = |random: &mut Random| match random.integer(0, 9) {
            0 => 1 << 30,
            1 => i32::MAX,
            2 => random.integer(0, 3) as i32,
            3 => random.integer(0, 1 << 30) as i32,
            _ => random.integer(1 << 30, i64::from(i32::MAX)) as i32,
        };
        for c in 0..CHANNELS {
            let n = match random.integer(0, 2) {
                0 => [1, 2, 31, 32, 33, 62][random.integer(0, 5) as usize],
                _ => random.integer(1, 62),
            };
            let (m, m_c) = (multiplier(random), if own { multiplier(random) } else { 0 });
            let total_c = if own { extreme_or_any(random) } else { 0 };
            // A multiple of half a step, missed by at most one.
            let half_steps = i128::from(random.integer(-700, 700));
            let wanted = (half_steps << (n - 1)) - i128::from(total_c) * i128::from(m_c);
            let total = wanted.div_euclid(i128::from(m.max(1))) + i128::from(random.integer(-1, 1));
            conv.bias[c] = match i32::try_from(total) {
                Ok(total) if random.integer(0, 9) > 0 => total,
                _ => extreme_or_any(random),
            };
            (conv.multiplier[c], conv.right_shift[c]) = (m, n as u8);
            (coarse_multiplier[c], coarse_bias[c]) = (m_c, total_c);
        }
        if own {
            // The largest sums there are: 65 bits with their sign.
            for (c, total) in [i32::MIN, i32::MAX].into_iter().enumerate() {
                (conv.bias[c], conv.multiplier[c], conv.right_shift[c]) = (total, i32::MAX, 62);
                (coarse_bias[c], coarse_multiplier[c]) = (total, i32::MAX);
            }
            conv.coarse = Some(Coarse {
                support: Support::Center,
                weights: Array4::zeros((CHANNELS, 1, 1, 1)),
                scale: CoarseScale::Own {
                    scale: Array1::ones(CHANNELS),
                    multiplier: coarse_multiplier,
                    bias: coarse_bias,
                },
            });
        }
        Self {
            name: format!("requantization of {CHANNELS} totals{}", if own { " in two parts" } else { "" }),
            images: 1,
            x_shape: Shape::new(1, 1, 1),
            conv,
            x_zero_point: 0,
            output: OutputLevels { zero_point: random.integer(-20, 20) as i32, low: -128, high: 127 },
            x: vec![77, 0, 0, 0],
        }
    }

    /// The input as the device has it.
    pub(super) fn words(&self) -> Vec<u32> {
        bytemuck::pod_collect_to_vec(&self.x)
    }
}

fn extreme_or_any(random: &mut Random) -> i32 {
    match random.integer(0, 7) {
        0 => i32::MIN,
        1 => i32::MAX,
        2 => random.integer(-2, 2) as i32,
        _ => random.next_u64() as i32,
    }
}

/// Sum of each output channel's weights.
fn sums(weights: &Array4<i8>) -> Array1<i64> {
    weights.outer_iter().map(|w| w.iter().map(|q| i64::from(*q)).sum()).collect()
}
