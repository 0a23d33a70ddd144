//! The solver against a plain twin, and what the sums are.

use ndarray::{Array1, Array4};

use super::moments::{Geometry, Input, Moments, Summing};
use super::places::places;
use super::solve::SecondOrder;
use crate::Result;
use crate::device::Device;
use crate::kernels::patches::divided;
use crate::model::{Conv, QConv, QParams, Shape, Support, Weights};
use crate::quantize::options::Granularity;
use crate::quantize::split::{SplitForm, published, published_scales};
use crate::quantize::stored::Stored;
use crate::quantize::strategy::{Nearest, Strategy};
use crate::quantize::weights::{Layer, dequantize, quantize_layer};
use crate::quantize::{qmax, ratio};
use crate::random::Random;
use crate::testing::devices;

const INPUT: QParams = QParams { scale: 0.05, zero_point: -20, qmin: -128, qmax: 127 };

/// A layer and a batch of its input.
struct Case {
    conv: Conv,
    x: Shape,
    images: usize,
    levels: Vec<i8>,
    /// The float network's values.
    floats: Vec<f32>,
}

impl Case {
    /// Channels and pixels go with their neighbours, channels have different widths, and levels are a
    /// little off. Channel `dead` never changes.
    fn new(seed: u64, dims: [usize; 4], stride: usize, groups: usize, images: usize, dead: Option<usize>) -> Self {
        let mut random = Random::new(seed);
        let [out, per_group, kernel, side] = dims;
        let x = Shape::new(per_group * groups, side, side);
        let weight = Array4::from_shape_fn((out, per_group, kernel, kernel), |(_, _, y, x)| {
            let wide = if (y, x) == (kernel / 2, kernel / 2) { 1.0 } else { 0.15 };
            (wide * random.between(-1.0, 1.0)) as f32
        });
        let bias = Array1::from_shape_fn(out, |_| random.between(-1.0, 1.0) as f32);
        let conv = Conv { weight, bias, stride: [stride; 2], padding: [kernel / 2; 2], groups };
        let padded = x.padded_channels();
        let mut levels = vec![INPUT.zero_point as i8; images * x.padded_len()];
        let mut floats = vec![0f32; levels.len()];
        let mut last = 0.0;
        for pixel in 0..images * x.pixels() {
            let mut common = 0.8 * last + 0.5 * random.between(-1.0, 1.0);
            last = common;
            for c in 0..x.channels {
                common = 0.8 * common + 0.4 * random.between(-1.0, 1.0);
                let real = if dead == Some(c) { 0.5 } else { common * (1.0 + c as f64 % 3.0) };
                floats[pixel * padded + c] = real as f32;
                let off = if dead == Some(c) { 0.0 } else { 0.03 * random.between(-1.0, 1.0) * (c % 2) as f64 };
                levels[pixel * padded + c] = INPUT.quantize(0.97 * real + off) as i8;
            }
        }
        Self { conv, x, images, levels, floats }
    }

    fn layer(&self, bits: u8) -> Layer<'_> {
        Layer {
            weight: self.conv.weight.view(),
            bias: self.conv.bias.view(),
            stride: self.conv.stride,
            padding: self.conv.padding,
            groups: self.conv.groups,
            bits,
            input: Stored::new(INPUT, false),
            output: Some(QParams { scale: 0.1, zero_point: 3, qmin: -128, qmax: 127 }),
        }
    }

    fn geometry(&self, largest: usize) -> Geometry {
        Geometry::with(&self.layer(4), self.x, self.conv.output(self.x), largest)
    }

    /// Sums over images `from..to`, in batches of `batch`.
    fn sums(&self, largest: usize, range: [usize; 2], batch: usize) -> Moments {
        self.sums_on(&Device::cpu(), largest, range, batch).unwrap()
    }

    fn sums_on(&self, device: &Device, largest: usize, [from, to]: [usize; 2], batch: usize) -> Result<Moments> {
        let mut summing = Summing::new(device, self.geometry(largest), INPUT, batch.min(to - from))?;
        for first in (from..to).step_by(batch) {
            let words = first * self.x.padded_len()..to.min(first + batch) * self.x.padded_len();
            let floats: Vec<u32> = self.floats[words.clone()].iter().map(|x| x.to_bits()).collect();
            let levels = device.upload(&bytemuck::pod_collect_to_vec(&self.levels[words]), "levels")?;
            let float = device.upload(&floats, "floats")?;
            let images = to.min(first + batch) - first;
            summing.add(Input { images, levels: &levels, float: &float })?;
        }
        summing.finish()
    }

    fn all(&self) -> Moments {
        self.sums(usize::MAX, [0, self.images], 7)
    }

    /// q and u of every patch of a group.
    fn patches(&self, group: usize) -> Vec<(Vec<i64>, Vec<i64>)> {
        let (_, per_group, kh, kw) = self.conv.dim();
        let y = self.conv.output(self.x);
        let mut patches = Vec::new();
        for image in 0..self.images {
            for [row, column] in places(y.height, y.width) {
                let mut patch = (Vec::new(), Vec::new());
                for (c, ky, kx) in (0..per_group).flat_map(|c| (0..kh * kw).map(move |tap| (c, tap / kw, tap % kw))) {
                    let at = |place: usize, k: usize, i: usize, side: usize| {
                        let at = (place * self.conv.stride[i] + k) as i64 - self.conv.padding[i] as i64;
                        usize::try_from(at).ok().filter(|&at| at < side)
                    };
                    let at = at(row, ky, 0, self.x.height).zip(at(column, kx, 1, self.x.width));
                    let at = at.map(|(row, column)| {
                        let pixel = (image * self.x.height + row) * self.x.width + column;
                        pixel * self.x.padded_channels() + group * per_group + c
                    });
                    patch.0.push(at.map_or(i64::from(INPUT.zero_point), |at| i64::from(self.levels[at])));
                    patch.1.push(at.map_or(0, |at| i64::from(divided(self.floats[at], INPUT.scale))));
                }
                patches.push(patch);
            }
        }
        patches
    }
}

type Matrix = Vec<Vec<f64>>;

/// One half of a patch.
type Of = fn(&(Vec<i64>, Vec<i64>)) -> &Vec<i64>;

/// By Gauss and Jordan.
fn inverse(matrix: &Matrix) -> Matrix {
    let n = matrix.len();
    let unit = |i: usize| (0..n).map(move |j| f64::from(u8::from(i == j)));
    let mut rows: Matrix = (0..n).map(|i| matrix[i].iter().copied().chain(unit(i)).collect()).collect();
    for i in 0..n {
        let pivot = (i..n).max_by(|&a, &b| rows[a][i].abs().total_cmp(&rows[b][i].abs())).unwrap();
        rows.swap(i, pivot);
        let by = rows[i][i];
        rows[i].iter_mut().for_each(|x| *x /= by);
        for other in (0..n).filter(|&other| other != i) {
            let factor = rows[other][i];
            let row = rows[i].clone();
            rows[other].iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
        }
    }
    rows.iter().map(|row| row[n..].to_vec()).collect()
}

/// What the method says, for an output channel, as plainly as it can be written: GPTQ with the
/// inverse. Gives scale, shift, `Q_f`, `Q_c` on the support, and the bias.
#[allow(clippy::too_many_lines, reason = "the method from its beginning to its end")]
fn twin(case: &Case, o: usize, form: SplitForm, bits: u8) -> (f64, u8, Vec<i8>, Vec<i8>, f64) {
    let (out, per_group, kh, kw) = case.conv.dim();
    let group = o / (out / case.conv.groups);
    let patches = case.patches(group);
    let n = patches.len() as f64;
    let length = per_group * kh * kw;
    let sums = |of: Of| -> Vec<i64> { (0..length).map(|k| patches.iter().map(|p| of(p)[k]).sum()).collect() };
    let (sum_q, sum_u) = (sums(|p| &p.0), sums(|p| &p.1));
    let means = |sums: &[i64]| -> Vec<f64> { sums.iter().map(|&sum| sum as f64 / n).collect() };
    let (q, u) = (means(&sum_q), means(&sum_u));
    // In integers, so that what is equal is known to be.
    let covariance = |of: Of, sums: &[i64], i: usize, j: usize| {
        let products: i64 = patches.iter().map(|p| of(p)[i] * p.0[j]).sum();
        (patches.len() as i64 * products - sums[i] * sum_q[j]) as f64 / (n * n)
    };
    let h = |i: usize, j: usize| covariance(|p| &p.0, &sum_q, i, j);
    let c = |i: usize, j: usize| covariance(|p| &p.1, &sum_u, i, j);
    let importance: Vec<f64> = (0..length).map(|i| h(i, i)).collect();
    let live: Vec<usize> = (0..length).filter(|&i| importance[i] > 0.0).collect();
    let average = live.iter().map(|&i| importance[i]).sum::<f64>() / live.len() as f64;
    let damped = |damping: f64, order: &[usize]| -> Matrix {
        let add = |i, j| if i == j { damping * average } else { 0.0 };
        order.iter().map(|&i| order.iter().map(|&j| h(i, j) + add(i, j)).collect()).collect()
    };
    let weights: Vec<f32> = case.conv.weight.index_axis(ndarray::Axis(0), o).iter().copied().collect();
    let w: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
    let mut t = w.clone();
    let inverted = inverse(&damped(0.05, &live));
    let moved: Vec<f64> = live.iter().map(|&j| (0..length).map(|i| w[i] * (c(i, j) / 64.0 - h(i, j))).sum()).collect();
    for (b, &j) in live.iter().enumerate() {
        t[j] += moved.iter().enumerate().map(|(a, moved)| moved * inverted[a][b]).sum::<f64>();
        t[j] = f64::from(t[j] as f32);
    }
    // The grid.
    let mut on = vec![false; length];
    if let Some(support) = form.support() {
        support.positions(o, per_group, [kh, kw]).for_each(|p| on[p] = true);
    }
    let most = f64::from(qmax(bits));
    let round = |x: f64| x.round_ties_even().clamp(-most, most);
    let mut coarse = vec![0f64; length];
    let (mut scale, mut shift) = (0f64, 0u8);
    let level = |k: usize, target: f64, scale: f64, shift: u8, published: f64| -> (f64, f64, f64) {
        let q_c = if on[k] && shift > 0 { round(target / (scale * 2f64.powi(shift.into()))) } else { 0.0 };
        let rest = target - published - scale * 2f64.powi(shift.into()) * q_c;
        let q_f = round(rest / scale);
        (q_f, q_c, published + scale * (q_f + 2f64.powi(shift.into()) * q_c))
    };
    let g = if let SplitForm::Paper(_) = form {
        let (g, s) = published_scales(&weights, &on, bits, 0.0);
        let mut levels = published(&weights, &on, bits, g, s).1.into_iter();
        (0..length).filter(|&k| on[k]).for_each(|k| coarse[k] = f64::from(g) * f64::from(levels.next().unwrap()));
        f64::from(g)
    } else {
        0.0
    };
    let largest = |of: &dyn Fn(usize) -> bool| {
        (0..length).filter(|&k| of(k)).fold(0f64, |m, k| m.max(f64::from(((t[k] - coarse[k]) as f32).abs())))
    };
    let aligned = matches!(form, SplitForm::Aligned(_));
    let mut least = f64::INFINITY;
    for k in 0..=if aligned { bits + 1 } else { 0 } {
        for step in 0..33 {
            let r = f64::from(100 - 2 * step) / 100.0;
            let reach = if k == 0 {
                r * largest(&|_| true)
            } else {
                (r * largest(&|k| !on[k])).max(largest(&|k| on[k]) / (2f64.powi(k.into()) + 1.0))
            };
            let s = f64::from((reach / most) as f32);
            let error = |i: usize| importance[i] * (t[i] - level(i, t[i], s, k, coarse[i]).2).powi(2);
            let error: f64 = (0..length).map(error).sum();
            if error < least * (1.0 - 1e-9) {
                (least, scale, shift) = (error, s, k);
            }
        }
    }
    // GPTQ: the upper factor of the inverse, and every later weight made up for at once.
    let mut order = live.clone();
    order.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]).then(a.cmp(&b)));
    let inverted = inverse(&damped(0.01, &order));
    let n_live = order.len();
    let mut upper = vec![vec![0f64; n_live]; n_live];
    for i in 0..n_live {
        for j in i..n_live {
            let dot: f64 = (0..i).map(|k| upper[k][i] * upper[k][j]).sum();
            upper[i][j] = if i == j { (inverted[i][i] - dot).sqrt() } else { (inverted[i][j] - dot) / upper[i][i] };
        }
    }
    let mut open = t.clone();
    let (mut fine, mut own) = (vec![0f64; length], vec![0f64; length]);
    for k in (0..length).filter(|k| !live.contains(k)) {
        (fine[k], own[k], _) = level(k, t[k], scale, shift, coarse[k]);
    }
    for (i, &k) in order.iter().enumerate() {
        let (q_f, q_c, real) = level(k, open[k], scale, shift, coarse[k]);
        (fine[k], own[k]) = (q_f, q_c);
        let error = (open[k] - real) / upper[i][i];
        for (j, &later) in order.iter().enumerate().skip(i + 1) {
            open[later] -= error * upper[i][j];
        }
    }
    let real = |k: usize| coarse[k] + scale * (fine[k] + 2f64.powi(shift.into()) * own[k]);
    let zero = f64::from(INPUT.zero_point);
    let off: f64 = (0..length).map(|k| w[k] * u[k] / 64.0 - real(k) * (q[k] - zero)).sum();
    let bias = f64::from(case.conv.bias[o]) + f64::from(INPUT.scale) * off;
    let levels = |values: &[f64]| values.iter().map(|&q| q as i8).collect::<Vec<_>>();
    let held = if aligned { own } else { coarse.iter().map(|c| if g > 0.0 { (c / g).round() } else { 0.0 }).collect() };
    let held: Vec<f64> = held.into_iter().zip(&on).filter(|(_, on)| **on).map(|(q, _)| q).collect();
    (scale, shift, levels(&fine), levels(&held), bias)
}

fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("dense", Case::new(1, [6, 5, 3, 7], 1, 1, 9, None)),
        ("strided", Case::new(2, [4, 3, 3, 9], 2, 1, 9, Some(1))),
        ("grouped", Case::new(3, [6, 4, 3, 6], 1, 2, 9, None)),
        ("depthwise", Case::new(4, [7, 1, 3, 6], 1, 7, 9, Some(2))),
        ("pointwise", Case::new(5, [9, 12, 1, 6], 1, 1, 9, Some(4))),
        ("linear", Case::new(6, [5, 10, 1, 1], 1, 1, 60, None)),
    ]
}

fn solved(case: &Case, form: SplitForm, bits: u8, granularity: Granularity) -> QConv {
    let layer = case.layer(bits);
    let strategy = SecondOrder::new(&layer, &case.all());
    let (conv, raised) = quantize_layer(&layer, form, granularity, &strategy).unwrap();
    assert_eq!(raised, 0);
    conv
}

#[test]
fn levels_and_biases_are_those_of_the_twin() {
    let aligned = SplitForm::Aligned;
    let forms = [SplitForm::Plain, aligned(Support::Center), aligned(Support::Full), SplitForm::Paper(Support::Center)];
    for (name, case) in cases() {
        for form in forms {
            for bits in [3, 4, 8] {
                let conv = solved(&case, form, bits, Granularity::Channel);
                let biases = conv.bias_without_zero_point(INPUT.zero_point);
                for (o, &integer) in biases.iter().enumerate() {
                    let what = format!("{name} {} W{bits} channel {o}", form.name());
                    let (scale, shift, fine, coarse, bias) = twin(&case, o, form, bits);
                    let row = |levels: &Array4<i8>| -> Vec<i8> {
                        levels.index_axis(ndarray::Axis(0), o).iter().copied().collect()
                    };
                    assert_eq!(f64::from(conv.scale[o]), scale, "{what}");
                    assert_eq!(row(&conv.fine), fine, "{what}");
                    let own = conv.coarse.as_ref().map_or(vec![0; coarse.len()], |c| row(&c.weights));
                    assert_eq!(own, coarse, "{what}, shift {shift}");
                    let step = f64::from(INPUT.scale) * f64::from(conv.scale[o]);
                    let off = integer as f64 - bias / step;
                    assert!(off.abs() < 0.501, "{what}: {integer} for {}", bias / step);
                }
            }
        }
    }
}

#[test]
fn sums_are_those_of_the_patches_in_any_batches_and_merge() {
    for (name, case) in cases() {
        let all = case.all();
        let half = case.images / 2;
        let mut merged = case.sums(usize::MAX, [0, half], 1);
        merged.merge(&case.sums(usize::MAX, [half, case.images], 4));
        assert_eq!(merged, all, "{name}");
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(|| case.sums(usize::MAX, [0, case.images], 1000)), all, "{name}");
        for device in devices() {
            let sums = case.sums_on(&device, usize::MAX, [0, case.images], 5).unwrap();
            assert!(sums == all, "{name} on {}", device.info().name);
        }
        for group in 0..case.conv.groups {
            let patches = case.patches(group);
            let (sums, n) = (&all.parts[group], patches.len() as i128);
            assert_eq!(all.patches as usize, patches.len());
            for i in 0..sums.len() {
                assert_eq!(sums.q[i], patches.iter().map(|p| p.0[i]).sum::<i64>());
                assert_eq!(sums.u[i], patches.iter().map(|p| p.1[i]).sum::<i64>());
                for j in 0..sums.len() {
                    let product = |a: Of| -> i128 {
                        let dot = patches.iter().map(|p| i128::from(a(p)[i] * p.0[j])).sum::<i128>();
                        let sum = patches.iter().map(|p| i128::from(a(p)[i])).sum::<i128>();
                        n * dot - sum * patches.iter().map(|p| i128::from(p.0[j])).sum::<i128>()
                    };
                    let (h, c) = (product(|p| &p.0), product(|p| &p.1));
                    let square = n as f64 * n as f64;
                    assert_eq!(sums.covariance(all.patches, i, j), h as f64 / square);
                    assert_eq!(sums.difference(all.patches, i, j), (c - 64 * h) as f64 / (64.0 * square));
                }
            }
        }
    }
}

#[test]
fn extremes_are_summed_exactly() {
    let mut case = Case::new(1, [1, 2, 1, 8], 1, 1, 60, None);
    for (level, u) in [(-128i8, i16::MIN), (-128, 32639), (127, i16::MIN)] {
        case.levels.fill(level);
        case.floats.fill(f32::from(u) * INPUT.scale / 64.0);
        let moments = case.all();
        let (sums, n) = (&moments.parts[0], moments.patches as i64);
        assert!(n > 1024);
        assert_eq!((sums.q[1], sums.u[1]), (n * i64::from(level), n * i64::from(u)));
        // What never varies has no variance, exactly.
        assert_eq!((sums.covariance(moments.patches, 0, 1), sums.difference(moments.patches, 1, 0)), (0.0, 0.0));
    }
}

#[test]
fn what_is_no_finite_number_is_refused() {
    let mut case = Case::new(1, [1, 2, 1, 8], 1, 1, 3, None);
    for device in devices() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let at = case.floats.len() - 3;
            let before = std::mem::replace(&mut case.floats[at], value);
            let error = case.sums_on(&device, usize::MAX, [0, 3], 2).unwrap_err();
            assert_eq!(error.to_string(), "an activation that it reads is NaN or infinite");
            case.floats[at] = before;
        }
    }
}

#[test]
fn blocks_leave_out_what_lies_between_them() {
    let case = Case::new(9, [4, 6, 3, 7], 1, 1, 5, None);
    let (whole, parts) = (case.all(), case.sums(20, [0, 5], 2));
    let blocks = case.geometry(20);
    assert_eq!(blocks.blocks(), [0..18, 18..36, 36..54]);
    for (block, sums) in blocks.blocks().iter().zip(&parts.parts) {
        for (i, j) in block.clone().flat_map(|i| block.clone().map(move |j| (i, j))) {
            let here = (i - block.start, j - block.start);
            assert_eq!(sums.covariance(parts.patches, here.0, here.1), whole.parts[0].covariance(whole.patches, i, j));
            assert_eq!(sums.difference(parts.patches, here.0, here.1), whole.parts[0].difference(whole.patches, i, j));
        }
    }
    // Blocks that end within a channel.
    assert_eq!(case.geometry(4).blocks().len(), 14);
    let layer = case.layer(4);
    for largest in [4, 20] {
        let strategy = SecondOrder::new(&layer, &case.sums(largest, [0, 5], 5));
        assert_eq!(strategy.varying(), 54);
        quantize_layer(&layer, SplitForm::Aligned(Support::Center), Granularity::Channel, &strategy).unwrap();
    }
}

/// Mean square of what the layer gives less what the float network's gives, over all patches.
fn error(case: &Case, conv: &QConv) -> f64 {
    let real = dequantize(conv);
    let biases = conv.bias_without_zero_point(INPUT.zero_point);
    let (out, s_x) = (conv.out_channels(), f64::from(INPUT.scale));
    let mut sum = 0.0;
    for (o, &bias) in biases.iter().enumerate() {
        let row = |weights: Array4<f64>| weights.index_axis(ndarray::Axis(0), o).iter().copied().collect::<Vec<_>>();
        let (w, r) = (row(case.conv.weight.mapv(f64::from)), row(real.clone()));
        let bias = bias as f64 * s_x * f64::from(conv.scale[o]) - f64::from(case.conv.bias[o]);
        for (q, u) in case.patches(o / (out / case.conv.groups)) {
            let zero = i64::from(INPUT.zero_point);
            let terms = w.iter().zip(&r).zip(q.iter().zip(&u));
            let off: f64 = terms.map(|((w, r), (q, u))| s_x * (r * (q - zero) as f64 - w * *u as f64 / 64.0)).sum();
            sum += (off + bias).powi(2);
        }
    }
    sum
}

#[test]
fn layers_whose_inputs_go_together_gain() {
    for (name, case) in cases() {
        for form in [SplitForm::Plain, SplitForm::Aligned(Support::Center), SplitForm::Paper(Support::Center)] {
            for granularity in [Granularity::Channel, Granularity::Tensor] {
                let layer = case.layer(4);
                let nearest = quantize_layer(&layer, form, granularity, &Nearest).unwrap().0;
                let solved = solved(&case, form, 4, granularity);
                let gain = 10.0 * (error(&case, &nearest) / error(&case, &solved)).log10();
                // Nine weights of a channel have few ways to make up for each other.
                let least = if name == "depthwise" { 0.2 } else { 1.0 };
                assert!(gain > least, "{name} {} {granularity}: {gain} dB", form.name());
            }
        }
    }
}

#[test]
fn what_never_varies_is_rounded_to_nearest() {
    let mut case = Case::new(5, [9, 12, 1, 6], 1, 1, 4, None);
    case.levels.fill(17);
    case.floats.fill(1000.0 / 64.0 * INPUT.scale);
    let layer = case.layer(4);
    let strategy = SecondOrder::new(&layer, &case.all());
    assert_eq!(strategy.varying(), 0);
    let form = SplitForm::Aligned(Support::Full);
    let (conv, _) = quantize_layer(&layer, form, Granularity::Channel, &strategy).unwrap();
    let (nearest, _) = quantize_layer(&layer, form, Granularity::Channel, &Nearest).unwrap();
    assert_eq!((&conv.fine, &conv.coarse, &conv.scale), (&nearest.fine, &nearest.coarse, &nearest.scale));
    // The bias makes up for all of it: one patch, the same everywhere.
    assert!(error(&case, &conv) < 1e-3 * error(&case, &nearest));
    assert!((0..12).all(|step| ratio(step) > 0.5), "the ratios of rounding to nearest are others");
    let _: &dyn Strategy = &strategy;
}

/// A channel behind a `ReLU`: what the float network gives is off by a constant before it, and by noise.
/// The twin finds the offset by halving.
#[test]
fn biases_are_those_that_make_means_equal() {
    use super::bias::{Off, Search};
    let mut random = Random::new(8);
    for (shift, relu) in [(0.4, true), (-0.7, true), (0.3, false), (0.15, true)] {
        let pairs: Vec<(f64, f64)> = (0..4000)
            .map(|_| {
                let x = random.between(-2.0, 1.0) + random.between(-1.0, 1.0);
                (x, x + 0.05 * random.between(-1.0, 1.0) - shift)
            })
            .collect();
        let after = |x: f64| if relu { x.max(0.0) } else { x };
        let off = |offset: f64| {
            let n = pairs.len() as f64;
            let each = || pairs.iter().map(|(y, other)| after(*y) - after(other + offset));
            Off { mean: each().sum::<f64>() / n, square: each().map(|off| off * off).sum::<f64>() / n }
        };
        let mut search = Search::new(off(0.0));
        for _ in 0..3 {
            let offset = search.next;
            search.tried(offset, off(offset));
        }
        let (mut low, mut high) = (-4.0, 4.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if off(middle).mean > 0.0 { low = middle } else { high = middle }
        }
        let (best, error) = search.best;
        assert!((best - low).abs() < 0.03 * f64::abs(shift), "{shift} {relu}: {best} for {low}");
        assert!(error < 1.3 * off(low).square && error < 0.1 * off(0.0).square, "{shift} {relu}: {error}");
    }
    // Where nothing helps, the bias stays.
    let mut search = Search::new(Off { mean: 0.1, square: 1.0 });
    for _ in 0..3 {
        search.tried(search.next, Off { mean: -0.1, square: 1.5 });
    }
    assert_eq!(search.best, (0.0, 1.0));
}
