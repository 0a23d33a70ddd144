//! Depthwise convolution in integers, one filter for each channel, its weights in one part (fine) or two (fine and coarse):
//! see [`QConv`] for the arithmetic and [`conv_i8`](super::conv_i8) for padding and layout.
//!
//! Weights are `kh, kw, C/4` words of four channels. The coarse supports center and diagonal are the same here.

use rayon::prelude::*;

use super::cases::{Case, Plan, SPLITS, compare};
use super::conv_i8::{reference, reference_totals};
use super::int8::{CoarseMode, Constants};
use super::lanes::LANES;
use super::levels::{Vector, finish};
use super::{Check, Geometry, Random};
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, Tier, compiled_for_tiers, groups_for};
use crate::model::QConv;
use crate::{Error, Result};

pub use super::int8::{Output, Params};

/// What the host knows of `depthwise_i8.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "depthwise_i8",
    source: include_str!("../../shaders/depthwise_i8.wgsl"),
    bindings: &[Binding::Params, Binding::Read, Binding::Read, Binding::Read, Binding::Read, Binding::ReadWrite],
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Output pixels of one invocation.
const TILE: usize = 4;

/// The weights of a layer on a device.
pub struct Weights {
    constants: Constants,
    groups: usize,
    kernel: [usize; 2],
    storage: Storage,
}

enum Storage {
    Gpu { fine: Buffer, coarse: Buffer, channels: Buffer },
    Native { fine: Taps, coarse: Taps, vectors: Vec<Vector> },
}

/// Weights as taps × vectors of channels. A product of two int8 fits in i16, which processors multiply faster than i32.
type Taps = Vec<[i16; LANES]>;

impl Weights {
    /// Packs and uploads a layer's weights.
    ///
    /// # Errors
    /// If the layer is not depthwise, its parts contradict each other, or the device has no memory left.
    pub fn new(device: &Device, conv: &QConv) -> Result<Self> {
        if !conv.is_depthwise() {
            return Err(Error::bad(format!(
                "{} input and {} output channels in {} groups are not depthwise",
                conv.in_channels(),
                conv.out_channels(),
                conv.groups
            )));
        }
        let mut constants = Constants::new(conv)?;
        if constants.coarse == CoarseMode::Diagonal {
            constants.coarse = CoarseMode::Center;
        }
        let channels = constants.channels.len();
        let by_tap = |weights: &ndarray::Array4<i8>| {
            let (_, _, kh, kw) = weights.dim();
            let mut flat = vec![0i8; kh * kw * channels];
            for ((c, _, dy, dx), &w) in weights.indexed_iter() {
                flat[(dy * kw + dx) * channels + c] = w;
            }
            flat
        };
        let fine = by_tap(&conv.fine);
        // A binding cannot be empty.
        let coarse = conv.coarse.as_ref().map_or(vec![0; 4], |part| by_tap(&part.weights));
        let storage = if device.is_native() {
            let widen = |weights: &[i8]| {
                let vectors = weights.chunks(channels).flat_map(|tap| tap.chunks(LANES));
                vectors.map(|w| std::array::from_fn(|l| w.get(l).map_or(0, |w| i16::from(*w)))).collect()
            };
            let vectors = constants.channels.chunks(LANES).map(Vector::new).collect();
            Storage::Native { fine: widen(&fine), coarse: widen(&coarse), vectors }
        } else {
            Storage::Gpu {
                fine: device.upload(&bytemuck::pod_collect_to_vec(&fine), "fine weights")?,
                coarse: device.upload(&bytemuck::pod_collect_to_vec(&coarse), "coarse weights")?,
                channels: device.upload(bytemuck::cast_slice(&constants.channels), "channels")?,
            }
        };
        Ok(Self { constants, groups: conv.groups, kernel: conv.kernel(), storage })
    }

    /// The groups of the [`Geometry`] to dispatch with.
    pub fn groups(&self) -> usize {
        self.groups
    }
}

/// Records the convolution of `x`, packed int8, to `y`, packed int8.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If `g`, the weights and the buffers do not fit together, or the weights have no multipliers: errors of the caller.
pub fn dispatch(
    rec: &mut Recorder<'_>,
    g: &Geometry,
    x_zero_point: i32,
    output: &Output,
    x: &Buffer,
    w: &Weights,
    y: &Buffer,
) -> Result<()> {
    output.check("depthwise_i8");
    assert!(w.constants.requantizes, "depthwise_i8: the layer has no multipliers");
    record(rec, g, x_zero_point, Some(output), x, w, y)
}

/// Records the convolution of `x`, packed int8, to int32 totals in `y`, four words for each four channels.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If `g`, the weights and the buffers do not fit together, or the coarse part has a grid of its own and so no common
/// total: errors of the caller.
pub fn dispatch_accumulators(
    rec: &mut Recorder<'_>,
    g: &Geometry,
    x_zero_point: i32,
    x: &Buffer,
    w: &Weights,
    y: &Buffer,
) -> Result<()> {
    assert!(!w.constants.own_grid, "depthwise_i8: two grids have no common total");
    record(rec, g, x_zero_point, None, x, w, y)
}

fn record(
    rec: &mut Recorder<'_>,
    g: &Geometry,
    x_zero_point: i32,
    output: Option<&Output>,
    x: &Buffer,
    w: &Weights,
    y: &Buffer,
) -> Result<()> {
    let quads = (w.constants.channels.len() / 4) as u32;
    let shape = [g.in_quads, g.out_quads, g.kernel_height, g.kernel_width];
    let expected = [quads, quads, w.kernel[0] as u32, w.kernel[1] as u32];
    assert_eq!(shape, expected, "depthwise_i8: quads and kernel of the geometry and of the weights");
    let out_words = g.out_words(if output.is_some() { 1 } else { 4 });
    assert!(x.len() >= g.in_words(1) && y.len() >= out_words, "depthwise_i8: buffer sizes");
    assert!((-128..=127).contains(&x_zero_point), "depthwise_i8: zero point {x_zero_point}");
    if out_words == 0 {
        return Ok(());
    }
    match &w.storage {
        Storage::Native { fine, coarse, vectors } => {
            let layer = Native { g, x_zero_point, output, constants: &w.constants, vectors, fine, coarse };
            layer.run(rec.tier(), &x.host()[..g.in_words(1)], &mut y.host_mut()[..out_words]);
            Ok(())
        }
        Storage::Gpu { fine, coarse, channels } => {
            for params in Params::steps(g, x_zero_point, output, &w.constants, TILE) {
                let pixels = (params.end_pixel - params.first_pixel) as usize;
                let groups = groups_for(pixels.div_ceil(TILE) * g.out_quads as usize, SPEC.workgroup_size[0]);
                rec.run(&SPEC, &params, &[x, fine, coarse, channels, y], groups)?;
            }
            Ok(())
        }
    }
}

/// A layer on the Cpu device: output rows in parallel, a vector of channels of a pixel at once.
struct Native<'a> {
    g: &'a Geometry,
    x_zero_point: i32,
    /// None: totals are written.
    output: Option<&'a Output>,
    constants: &'a Constants,
    vectors: &'a [Vector],
    fine: &'a [[i16; LANES]],
    coarse: &'a [[i16; LANES]],
}

impl Native<'_> {
    fn run(&self, tier: Tier, x: &[u32], y: &mut [u32]) {
        let x: &[i8] = bytemuck::cast_slice(x);
        let g = self.g;
        let outside = vec![self.x_zero_point as i8; self.constants.channels.len()];
        let row_words = (g.out_width * g.out_quads) as usize * if self.output.is_some() { 1 } else { 4 };
        y.par_chunks_mut(row_words).enumerate().for_each(|(row, y)| compiled_row(tier, self, row, x, &outside, y));
    }

    /// What the taps of the pixel in `column` of `row`, counted over all images, read.
    #[inline(always)]
    fn taps<'x>(&self, row: usize, column: usize, x: &'x [i8], outside: &'x [i8], taps: &mut Vec<&'x [i8]>) {
        let g = self.g;
        let channels = outside.len();
        let (image, row) = (row / g.out_height as usize, row % g.out_height as usize);
        let (height, width) = (g.in_height as usize, g.in_width as usize);
        taps.clear();
        for dy in 0..g.kernel_height as usize {
            let iy = (row * g.stride_y as usize + dy).checked_sub(g.pad_y as usize).filter(|iy| *iy < height);
            for dx in 0..g.kernel_width as usize {
                let ix = (column * g.stride_x as usize + dx).checked_sub(g.pad_x as usize).filter(|ix| *ix < width);
                taps.push(match iy.zip(ix) {
                    Some((iy, ix)) => &x[((image * height + iy) * width + ix) * channels..][..channels],
                    None => outside,
                });
            }
        }
    }
}

/// One output row.
#[inline(always)]
fn row(layer: &Native<'_>, row: usize, x: &[i8], outside: &[i8], y: &mut [u32]) {
    let channels = outside.len();
    let words = if layer.output.is_some() { channels / 4 } else { channels };
    let kernel = [layer.g.kernel_height as usize, layer.g.kernel_width as usize];
    let centre = kernel[0] / 2 * kernel[1] + kernel[1] / 2;
    let mut taps = Vec::with_capacity(kernel[0] * kernel[1]);
    let mut sums = [vec![[0; LANES]; layer.vectors.len()], vec![[0; LANES]; layer.vectors.len()]];
    for (column, y) in y.chunks_exact_mut(words).enumerate() {
        layer.taps(row, column, x, outside, &mut taps);
        let [fine, coarse] = &mut sums;
        sum(&taps, layer.fine, fine);
        match layer.constants.coarse {
            CoarseMode::None => {}
            CoarseMode::Center | CoarseMode::Diagonal => sum(&taps[centre..=centre], layer.coarse, coarse),
            CoarseMode::Full => sum(&taps, layer.coarse, coarse),
        }
        finish(layer.constants, layer.vectors, layer.output, [fine, coarse], 0, y, 0..channels);
    }
}

/// The sums over `taps`: those of a few vectors of channels at a time stay in registers.
#[inline(always)]
fn sum(taps: &[&[i8]], weights: &[[i16; LANES]], sums: &mut [[i32; LANES]]) {
    let vectors = sums.len();
    let (whole, left) = (taps[0].len() / LANES, taps[0].len() % LANES);
    let mut v = 0;
    while v + 4 <= whole {
        sums[v..v + 4].copy_from_slice(&sum_block::<4>(taps, weights, vectors, v));
        v += 4;
    }
    while v < whole {
        sums[v..=v].copy_from_slice(&sum_block::<1>(taps, weights, vectors, v));
        v += 1;
    }
    if left > 0 {
        sums[whole] = [0; LANES];
        for (q, w) in taps.iter().zip(weights.chunks_exact(vectors)) {
            let mut last = [0; LANES];
            last[..left].copy_from_slice(&q[whole * LANES..]);
            add_products(&mut sums[whole], &last, &w[whole]);
        }
    }
}

/// Of B whole vectors from v on.
#[inline(always)]
fn sum_block<const B: usize>(taps: &[&[i8]], weights: &[[i16; LANES]], vectors: usize, v: usize) -> [[i32; LANES]; B] {
    let mut sums = [[0; LANES]; B];
    for (q, w) in taps.iter().zip(weights.chunks_exact(vectors)) {
        let (q, w) = (&q.as_chunks().0[v..v + B], &w[v..v + B]);
        for b in 0..B {
            add_products(&mut sums[b], &q[b], &w[b]);
        }
    }
    sums
}

#[inline(always)]
fn add_products(sums: &mut [i32; LANES], q: &[i8; LANES], weights: &[i16; LANES]) {
    for l in 0..LANES {
        sums[l] = sums[l].wrapping_add(i32::from(i16::from(q[l]).wrapping_mul(weights[l])));
    }
}

compiled_for_tiers! {
    fn compiled_row(layer: &Native<'_>, pixel_row: usize, x: &[i8], outside: &[i8], y: &mut [u32]) = row;
}

/// Compares with the twin of [`conv_i8`](super::conv_i8), to the bit.
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(9);
    let mut checks = Vec::new();
    let shapes = [
        ([2, 1, 1], [3, 3], [1, 1], [1, 1]),
        ([3, 5, 6], [3, 3], [1, 1], [1, 1]),
        ([5, 7, 4], [3, 3], [2, 2], [1, 1]),
        ([6, 4, 9], [1, 1], [1, 1], [0, 0]),
        ([7, 6, 6], [5, 5], [2, 1], [2, 2]),
        ([20, 8, 5], [3, 3], [1, 1], [0, 0]),
        ([64, 3, 3], [3, 5], [1, 1], [1, 2]),
    ];
    for (i, (x, kernel, stride, padding)) in shapes.into_iter().enumerate() {
        for split in SPLITS {
            let plan = Plan {
                images: [1, 3][i % 2],
                x,
                out_channels: x[0],
                kernel,
                stride,
                padding,
                groups: x[0],
                split,
                extreme: i == 4,
            };
            let case = Case::random(&plan, &mut random);
            check(device, &case, false, &mut checks)?;
            if !matches!(split, Some((_, true))) {
                check(device, &case, true, &mut checks)?;
            }
        }
    }
    Ok(checks)
}

/// One layer, its levels or its totals.
fn check(device: &Device, case: &Case, totals: bool, checks: &mut Vec<Check>) -> Result<()> {
    let Case { name, images, x_shape, conv, x_zero_point, output, x: levels } = case;
    let mut conv = conv.clone();
    if totals {
        (conv.multiplier, conv.right_shift) = Default::default();
    }
    let weights = Weights::new(device, &conv)?;
    let o = conv.out_channels();
    let g = Geometry::new(*images, *x_shape, o, conv.kernel(), conv.stride, conv.padding, weights.groups());
    let x = device.upload(&case.words(), "x")?;
    let y = device.alloc(g.out_words(if totals { 4 } else { 1 }), "y")?;
    let mut rec = device.recorder();
    if totals {
        dispatch_accumulators(&mut rec, &g, *x_zero_point, &x, &weights, &y)?;
    } else {
        dispatch(&mut rec, &g, *x_zero_point, output, &x, &weights, &y)?;
    }
    rec.submit()?;
    let got = device.read(&y, y.len())?;
    checks.push(if totals {
        let got: Vec<i64> = got.into_iter().map(|word| i64::from(word.cast_signed())).collect();
        let expected = reference_totals(&conv, *images, *x_shape, *x_zero_point, levels);
        Check::exact(format!("{name}, totals"), &expected, &got)
    } else {
        compare(name.clone(), &reference(&conv, *images, *x_shape, *x_zero_point, output, levels), &got)
    });
    Ok(())
}
