//! The Cpu device's convolution: windows are laid out as rows of a matrix (im2col), a block of
//! output pixels at a time, and multiplied by the weights with a kept crate. Parallel over the
//! blocks.
//!
//! The int8 product takes activations as `u8 = i8 + 128`, so 128·Σw is taken off again. Where the
//! processor's instruction saturates at 16 bits (AVX2 without VNNI) the product is made of
//! integer-valued floats instead, in slices of at most 1,024 along K: `128·128·1024 = 2^24`, so
//! every partial sum of a slice is exact in f32. Slices are added in i32.

use ndarray::Array4;
use rayon::prelude::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::constants::{Channel, CoarseMode, Constants};
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::core::OutputLevels;

/// Largest length of an exact f32 product.
const SLICE: usize = 1024;

/// Bytes of a block of windows, to stay in a core's cache.
const BLOCK_BYTES: usize = 128 * 1024;

/// How products are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// u8 × i8 to i32; exact only where the processor's instruction does not saturate.
    Int8,
    /// f32 in exact slices.
    Float,
}

impl Kind {
    /// The fastest that is exact on this processor.
    pub(super) fn best() -> Self {
        if GemmExecutor::<u8, i8, i32>::new().may_saturate() { Self::Float } else { Self::Int8 }
    }
}

/// The weights of all groups as matrices, K × O of the group. K counts taps, then channels padded
/// to a multiple of 4.
pub(super) struct Products {
    engine: Engine,
    groups: Vec<Group>,
}

enum Engine {
    Int8(GemmExecutor<u8, i8, i32>),
    Float(GemmExecutor<f32, f32, f32>),
}

struct Group {
    fine: Matrix,
    coarse: Option<Matrix>,
}

enum Matrix {
    /// With 128·Σw of each column.
    Int8(PackedBMatrix<i8>, Vec<i32>),
    /// In slices along K.
    Float(Vec<PackedBMatrix<f32>>),
}

impl Products {
    pub(super) fn new(kind: Kind, fine: &Array4<i8>, coarse: Option<&Array4<i8>>, groups: usize) -> Self {
        let engine = match kind {
            Kind::Int8 => Engine::Int8(GemmExecutor::new()),
            Kind::Float => Engine::Float(GemmExecutor::new()),
        };
        let groups = (0..groups)
            .map(|group| Group {
                fine: engine.pack(fine, group, groups),
                coarse: coarse.map(|coarse| engine.pack(coarse, group, groups)),
            })
            .collect();
        Self { engine, groups }
    }
}

impl Engine {
    fn pack(&self, weight: &Array4<i8>, group: usize, groups: usize) -> Matrix {
        let (o, i, kh, kw) = weight.dim();
        let (channels, columns) = (i.next_multiple_of(4), (o / groups).next_multiple_of(4));
        let rows = kh * kw * channels;
        let mut flat = vec![0i8; rows * columns];
        for oc in 0..o / groups {
            for ic in 0..i {
                for (tap, value) in weight.slice(ndarray::s![group * (o / groups) + oc, ic, .., ..]).iter().enumerate()
                {
                    flat[(tap * channels + ic) * columns + oc] = *value;
                }
            }
        }
        match self {
            Self::Int8(gemm) => {
                let mut sums = vec![0i32; columns];
                for row in flat.chunks_exact(columns) {
                    for (sum, w) in sums.iter_mut().zip(row) {
                        *sum = sum.wrapping_add(128 * i32::from(*w));
                    }
                }
                Matrix::Int8(gemm.prepack_b(NdTensorView::from_data([rows, columns], flat.as_slice())), sums)
            }
            Self::Float(gemm) => {
                let slices = flat.chunks(SLICE * columns).map(|slice| {
                    let slice: Vec<f32> = slice.iter().map(|w| f32::from(*w)).collect();
                    gemm.prepack_b(NdTensorView::from_data([slice.len() / columns, columns], slice.as_slice()))
                });
                Matrix::Float(slices.collect())
            }
        }
    }

    /// `out = (a − 128) · b`, a being `rows` rows of `out.len() / columns`, `stride` apart.
    fn multiply(&self, a: &[u8], stride: usize, b: &Matrix, scratch: &mut Floats, out: &mut [i32]) {
        const FITS: &str = "the matrices were laid out to fit";
        match (self, b) {
            (Self::Int8(gemm), Matrix::Int8(b, sums)) => {
                let a = NdTensorView::from_data_with_strides([out.len() / b.cols(), b.rows()], a, [stride, 1]);
                let (a, b) = (GemmInputA::Unpacked(a.expect(FITS)), GemmInputB::Packed(b));
                gemm.gemm(out, a, b, GemmOptions::default()).expect(FITS);
                for row in out.chunks_exact_mut(sums.len()) {
                    for (value, sum) in row.iter_mut().zip(sums) {
                        *value = value.wrapping_sub(*sum);
                    }
                }
            }
            (Self::Float(gemm), Matrix::Float(slices)) => {
                out.fill(0);
                for (s, b) in slices.iter().enumerate() {
                    let rows = out.len() / b.cols();
                    scratch.a.clear();
                    for row in 0..rows {
                        let at = row * stride + s * SLICE;
                        scratch.a.extend(a[at..at + b.rows()].iter().map(|v| f32::from(*v) - 128.0));
                    }
                    scratch.out.resize(out.len(), 0.0);
                    let a = GemmInputA::Unpacked(NdTensorView::from_data([rows, b.rows()], scratch.a.as_slice()));
                    gemm.gemm(&mut scratch.out, a, GemmInputB::Packed(b), GemmOptions::default()).expect(FITS);
                    for (sum, value) in out.iter_mut().zip(&scratch.out) {
                        *sum = sum.wrapping_add(*value as i32);
                    }
                }
            }
            _ => unreachable!("one engine packs all matrices of a layer"),
        }
    }
}

/// Buffers of the f32 product.
#[derive(Default)]
struct Floats {
    a: Vec<f32>,
    out: Vec<f32>,
}

/// Buffers of a block.
#[derive(Default)]
struct Scratch {
    windows: Vec<u8>,
    fine: Vec<i32>,
    coarse: Vec<i32>,
    floats: Floats,
}

/// A layer to be run.
pub(super) struct Layer<'a> {
    pub(super) g: &'a Geometry,
    pub(super) x_zero_point: i32,
    pub(super) products: &'a Products,
    pub(super) constants: &'a Constants,
}

impl Layer<'_> {
    /// Writes levels where there is an `output`, else totals.
    pub(super) fn run(&self, output: Option<&OutputLevels>, x: &[u32], y: &mut [u32]) {
        let g = self.g;
        let x: &[u8] = bytemuck::cast_slice(x);
        let words = g.out_quads as usize * if output.is_some() { 1 } else { 4 };
        let block = (BLOCK_BYTES / self.window()).clamp(16, 512).min(g.out_pixels().div_ceil(2)).max(1);
        y.par_chunks_mut(words * block).enumerate().for_each_init(Scratch::default, |scratch, (i, y)| {
            for group in 0..self.products.groups.len() {
                let pixels = y.len() / words;
                self.sum(group, i * block, pixels, x, scratch);
                self.write(group, output, scratch, y);
            }
        });
    }

    /// Length of a window: taps times the padded channels of a group.
    fn window(&self) -> usize {
        self.g.taps() * 4 * self.g.group_in_quads as usize
    }

    /// Fine and coarse totals of a group, without biases, for `pixels` output pixels from `first`.
    fn sum(&self, group: usize, first: usize, pixels: usize, x: &[u8], scratch: &mut Scratch) {
        let (g, window) = (self.g, self.window());
        let Scratch { windows, fine, coarse, floats } = scratch;
        windows.resize(pixels * window, 0);
        for (p, window) in windows.chunks_exact_mut(window).enumerate() {
            self.gather(group, first + p, x, window);
        }
        let outputs = 4 * g.group_out_quads as usize;
        fine.resize(pixels * outputs, 0);
        let weights = &self.products.groups[group];
        self.products.engine.multiply(windows, window, &weights.fine, floats, fine);
        let channels = 4 * g.group_in_quads as usize;
        let centre = (g.kernel_height / 2 * g.kernel_width + g.kernel_width / 2) as usize * channels;
        if self.constants.coarse == CoarseMode::None {
            return;
        }
        coarse.resize(pixels * outputs, 0);
        if let Some(matrix) = &weights.coarse {
            let from = if self.constants.coarse == CoarseMode::Center { centre } else { 0 };
            self.products.engine.multiply(&windows[from..], window, matrix, floats, coarse);
            return;
        }
        let weights = &self.constants.channels[group * outputs..][..outputs];
        for (window, sums) in windows.chunks_exact(window).zip(coarse.chunks_exact_mut(outputs)) {
            for ((sum, q), channel) in sums.iter_mut().zip(&window[centre..]).zip(weights) {
                *sum = channel.diagonal * (i32::from(*q) - 128);
            }
        }
    }

    /// The window of an output pixel, as `i8 + 128`.
    fn gather(&self, group: usize, pixel: usize, x: &[u8], window: &mut [u8]) {
        let g = self.g;
        let (in_height, in_width) = (g.in_height as usize, g.in_width as usize);
        let (row, column) = (pixel / g.out_width as usize, pixel % g.out_width as usize);
        let (image, row) = (row / g.out_height as usize, row % g.out_height as usize);
        let channels = 4 * g.group_in_quads as usize;
        let outside = (self.x_zero_point + 128) as u8;
        let mut taps = window.chunks_exact_mut(channels);
        for dy in 0..g.kernel_height as usize {
            let iy = (row * g.stride_y as usize + dy).checked_sub(g.pad_y as usize).filter(|iy| *iy < in_height);
            for dx in 0..g.kernel_width as usize {
                let ix = (column * g.stride_x as usize + dx).checked_sub(g.pad_x as usize).filter(|ix| *ix < in_width);
                let Some(tap) = taps.next() else { return };
                match iy.zip(ix) {
                    Some((iy, ix)) => {
                        let at =
                            ((image * in_height + iy) * in_width + ix) * 4 * g.in_quads as usize + group * channels;
                        for (value, q) in tap.iter_mut().zip(&x[at..at + channels]) {
                            *value = q ^ 0x80;
                        }
                    }
                    None => tap.fill(outside),
                }
            }
        }
    }

    /// Adds biases, requantizes and writes a group's channels of all pixels of a block.
    fn write(&self, group: usize, output: Option<&OutputLevels>, scratch: &Scratch, y: &mut [u32]) {
        let outputs = 4 * self.g.group_out_quads as usize;
        let range = group * outputs..(group + 1) * outputs;
        let channels = &self.constants.channels[range.clone()];
        let coarse = if self.constants.coarse == CoarseMode::None { None } else { Some(scratch.coarse.as_slice()) };
        let all = 4 * self.g.out_quads as usize;
        match output {
            None => {
                let y: &mut [i32] = bytemuck::cast_slice_mut(y);
                each(y, all, range, channels, &scratch.fine, coarse, Channel::total);
            }
            Some(output) => {
                let y: &mut [i8] = bytemuck::cast_slice_mut(y);
                if self.constants.own_grid {
                    each(y, all, range, channels, &scratch.fine, coarse, |ch, f, c| ch.level_of_two(f, c, output));
                } else {
                    each(y, all, range, channels, &scratch.fine, coarse, |ch, f, c| ch.level(f, c, output));
                }
            }
        }
    }
}

/// Sets `range` of each row of `y` from the totals.
fn each<T>(
    y: &mut [T],
    all: usize,
    range: std::ops::Range<usize>,
    channels: &[Channel],
    fine: &[i32],
    coarse: Option<&[i32]>,
    finish: impl Fn(&Channel, i32, i32) -> T,
) {
    for (pixel, (row, fine)) in y.chunks_exact_mut(all).zip(fine.chunks_exact(channels.len())).enumerate() {
        let row = &mut row[range.clone()];
        match coarse {
            None => {
                for ((value, f), channel) in row.iter_mut().zip(fine).zip(channels) {
                    *value = finish(channel, *f, 0);
                }
            }
            Some(coarse) => {
                let coarse = &coarse[pixel * channels.len()..];
                for (((value, f), c), channel) in row.iter_mut().zip(fine).zip(coarse).zip(channels) {
                    *value = finish(channel, *f, *c);
                }
            }
        }
    }
}
