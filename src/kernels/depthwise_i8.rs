//! Depthwise convolution in integers, one filter for each channel, its weights in one part (fine) or two (fine and coarse):
//! see [`QConv`] for the arithmetic and [`conv_i8`](super::conv_i8) for padding and layout.
//!
//! Weights are `kh, kw, C/4` words of four channels. The coarse supports center and diagonal are the same here.

use archmage::{SimdToken, X64V4xToken, arcane};
use rayon::prelude::*;

use super::cases::{Case, Plan, SPLITS, compare};
use super::conv_i8::{reference, reference_totals};
use super::int8::{CoarseMode, Constants};
use super::levels::{LANES, Vector};
use super::{Check, Geometry, Random};
use crate::gpu::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};
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
    Gpu {
        fine: Buffer,
        coarse: Buffer,
        channels: Buffer,
    },
    /// Taps × padded channels. A product of two int8 fits in i16, which processors multiply faster than i32.
    Native {
        fine: Vec<i16>,
        coarse: Vec<i16>,
        vectors: Vec<Vector>,
    },
}

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
            let widen = |weights: &[i8]| weights.iter().map(|w| i16::from(*w)).collect();
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
            layer.run(&x.host()[..g.in_words(1)], &mut y.host_mut()[..out_words]);
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

/// A layer on the Cpu device: output rows in parallel, all channels of a tap at once.
struct Native<'a> {
    g: &'a Geometry,
    x_zero_point: i32,
    /// None: totals are written.
    output: Option<&'a Output>,
    constants: &'a Constants,
    vectors: &'a [Vector],
    fine: &'a [i16],
    coarse: &'a [i16],
}

/// Sums of a pixel's channels, in whole vectors.
struct Sums {
    fine: Vec<i32>,
    coarse: Vec<i32>,
}

impl Native<'_> {
    fn run(&self, x: &[u32], y: &mut [u32]) {
        let x: &[i8] = bytemuck::cast_slice(x);
        let g = self.g;
        let channels = self.constants.channels.len();
        let outside = vec![self.x_zero_point as i8; channels];
        let row_words = (g.out_width * g.out_quads) as usize * if self.output.is_some() { 1 } else { 4 };
        let whole = channels.next_multiple_of(LANES);
        let sums = || Sums { fine: vec![0; whole], coarse: vec![0; whole] };
        let token = X64V4xToken::summon();
        y.par_chunks_mut(row_words).enumerate().for_each_init(sums, |sums, (row, y)| match token {
            #[cfg(target_arch = "x86_64")]
            Some(token) => row_avx512(token, self, row, x, &outside, sums, y),
            _ => self.row(row, x, &outside, sums, y),
        });
    }

    /// One output row.
    #[inline(always)]
    fn row(&self, row: usize, x: &[i8], outside: &[i8], sums: &mut Sums, y: &mut [u32]) {
        let channels = self.constants.channels.len();
        let words = if self.output.is_some() { channels / 4 } else { channels };
        for (column, y) in y.chunks_exact_mut(words).enumerate() {
            sums.fine.fill(0);
            sums.coarse.fill(0);
            self.sum(row, column, x, outside, &mut sums.fine[..channels], &mut sums.coarse[..channels]);
            let totals = sums.fine.iter().zip(&sums.coarse).zip(&self.constants.channels);
            let Some(output) = self.output else {
                for (y, ((f, c), channel)) in y.iter_mut().zip(totals) {
                    *y = channel.total(*f, *c).cast_unsigned();
                }
                continue;
            };
            let y: &mut [i8] = bytemuck::cast_slice_mut(y);
            if self.constants.own_grid {
                for (level, ((f, c), channel)) in y.iter_mut().zip(totals) {
                    *level = channel.level_of_two(*f, *c, output);
                }
            } else {
                let sums = sums.fine.as_chunks().0.iter().zip(sums.coarse.as_chunks().0);
                let mut levels = sums.zip(self.vectors).map(|((f, c), vector)| vector.levels(f, c, output));
                let (whole, rest) = y.as_chunks_mut();
                for (y, levels) in whole.iter_mut().zip(&mut levels) {
                    *y = levels;
                }
                if let Some(levels) = levels.next() {
                    rest.copy_from_slice(&levels[..rest.len()]);
                }
            }
        }
    }

    /// Adds up all taps of the pixel in `column` of `row`, counted over all images.
    #[inline(always)]
    fn sum(&self, row: usize, column: usize, x: &[i8], outside: &[i8], fine: &mut [i32], coarse: &mut [i32]) {
        let g = self.g;
        let channels = fine.len();
        let (image, row) = (row / g.out_height as usize, row % g.out_height as usize);
        let (height, width) = (g.in_height as usize, g.in_width as usize);
        let centre = (g.kernel_height / 2 * g.kernel_width + g.kernel_width / 2) as usize;
        for tap in 0..(g.kernel_height * g.kernel_width) as usize {
            let (dy, dx) = (tap / g.kernel_width as usize, tap % g.kernel_width as usize);
            let iy = (row * g.stride_y as usize + dy).checked_sub(g.pad_y as usize).filter(|iy| *iy < height);
            let ix = (column * g.stride_x as usize + dx).checked_sub(g.pad_x as usize).filter(|ix| *ix < width);
            let q = match iy.zip(ix) {
                Some((iy, ix)) => &x[((image * height + iy) * width + ix) * channels..][..channels],
                None => outside,
            };
            add_products(fine, q, &self.fine[tap * channels..][..channels]);
            match self.constants.coarse {
                CoarseMode::Full => add_products(coarse, q, &self.coarse[tap * channels..][..channels]),
                CoarseMode::Center | CoarseMode::Diagonal if tap == centre => add_products(coarse, q, self.coarse),
                _ => {}
            }
        }
    }
}

#[inline(always)]
fn add_products(totals: &mut [i32], q: &[i8], weights: &[i16]) {
    for ((total, q), w) in totals.iter_mut().zip(q).zip(weights) {
        *total = total.wrapping_add(i32::from(i16::from(*q).wrapping_mul(*w)));
    }
}

/// [`Native::row`], compiled for AVX-512.
#[arcane]
fn row_avx512(
    _: X64V4xToken,
    layer: &Native<'_>,
    row: usize,
    x: &[i8],
    outside: &[i8],
    sums: &mut Sums,
    y: &mut [u32],
) {
    layer.row(row, x, outside, sums, y);
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
