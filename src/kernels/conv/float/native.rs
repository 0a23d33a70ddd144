//! The Cpu device's f32 convolution where it has no vectors of its own: im2col of blocks of rows,
//! then a product with the prepacked `K × O` matrix by `rten-gemm`. Blocks never cross images and
//! their size depends on the layer alone, so a result does not depend on the batch.

use std::cell::Cell;

use rayon::prelude::*;
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::matrices::Matrices;
use crate::kernels::conv::geometry::Geometry;
use crate::{Error, Result};

/// Values of one im2col block, 1 MiB: it stays in a core's cache beside the weights it meets.
const BLOCK_VALUES: usize = 1 << 18;

/// Most output pixels of one im2col block.
const BLOCK_PIXELS: usize = 256;

thread_local! {
    // Taken while in use, never borrowed: the product may run another block on this thread while it
    // waits.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// The weights of all groups as matrices, and their biases.
pub(super) struct Products {
    matrices: Vec<PackedBMatrix<f32>>,
    bias: Vec<f32>,
}

impl Products {
    /// Packs the matrices of all groups.
    pub(super) fn new(of: &Matrices<'_>) -> Self {
        let gemm = GemmExecutor::<f32>::default();
        let (depth, outputs) = (of.depth(), of.outputs());
        let matrices = (0..of.groups).map(|group| {
            let values: Vec<f32> = (0..depth * outputs).map(|n| of.weight(group, n / outputs, n % outputs)).collect();
            gemm.prepack_b(NdTensorView::from_data([depth, outputs], values.as_slice()))
        });
        let matrices = matrices.collect();
        let bias = (0..of.groups).flat_map(|group| (0..outputs).map(move |o| of.bias(group, o)));
        Self { matrices, bias: bias.collect() }
    }

    /// im2col and product, parallel over images and blocks of rows.
    pub(super) fn run(&self, g: &Geometry, relu: bool, x: &[f32], y: &mut [f32]) -> Result<()> {
        let Self { matrices, bias } = self;
        let gemm = GemmExecutor::<f32>::default();
        let width = g.out_width as usize;
        let out_channels = 4 * g.out_quads as usize;
        let x_image = g.in_words(4) / g.images as usize;
        let y_image = g.out_words(4) / g.images as usize;
        let depth = matrices[0].rows();
        let block_rows = ((BLOCK_VALUES / depth).min(BLOCK_PIXELS) / width).max(1);
        let block = block_rows * width * out_channels;
        x.par_chunks_exact(x_image).zip(y.par_chunks_exact_mut(y_image)).take(g.images as usize).try_for_each(
            |(x, y)| {
                y.par_chunks_mut(block)
                    .enumerate()
                    .try_for_each(|(i, y)| rows(g, &gemm, i * block_rows, x, matrices, bias, y))
            },
        )?;
        if relu {
            // Not max(): it would turn a NaN into 0 and hide it.
            y.par_iter_mut().with_min_len(1 << 14).for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v });
        }
        Ok(())
    }
}

/// The output rows of one image from `first` on, as many as `y` holds.
fn rows(
    g: &Geometry,
    gemm: &GemmExecutor<f32>,
    first: usize,
    x: &[f32],
    matrices: &[PackedBMatrix<f32>],
    bias: &[f32],
    y: &mut [f32],
) -> Result<()> {
    let (in_channels, out_channels) = (4 * g.in_quads as usize, 4 * g.out_quads as usize);
    let (group_in, group_out) = (4 * g.group_in_quads as usize, 4 * g.group_out_quads as usize);
    let pixels = y.len() / out_channels;
    let depth = matrices[0].rows();
    let is_matrix = (g.kernel_height, g.kernel_width, g.stride_y, g.stride_x, g.pad_y, g.pad_x) == (1, 1, 1, 1, 0, 0);
    let mut scratch = SCRATCH.take();
    let columns = if is_matrix { 0 } else { pixels * depth };
    scratch.resize(columns + if matrices.len() == 1 { 0 } else { pixels * group_out }, 0.0);
    let (columns, part) = scratch.split_at_mut(columns);
    for (group, matrix) in matrices.iter().enumerate() {
        let a = if is_matrix {
            let from = first * g.out_width as usize * in_channels;
            let all = NdTensorView::from_data([pixels, in_channels], &x[from..from + pixels * in_channels]);
            all.slice((.., group * group_in..(group + 1) * group_in))
        } else {
            im2col(g, first, group * group_in, x, columns);
            NdTensorView::from_data([pixels, depth], &*columns)
        };
        let options = GemmOptions {
            bias: Some(BiasVector::Row(&bias[group * group_out..(group + 1) * group_out])),
            ..GemmOptions::default()
        };
        let out = if matrices.len() == 1 { &mut *y } else { &mut *part };
        gemm.gemm(out, GemmInputA::Unpacked(a), GemmInputB::Packed(matrix), options)
            .map_err(|e| Error::device("a matrix product failed").because(e.to_string()))?;
        if matrices.len() > 1 {
            for (to, from) in y.chunks_exact_mut(out_channels).zip(part.chunks_exact(group_out)) {
                to[group * group_out..(group + 1) * group_out].copy_from_slice(from);
            }
        }
    }
    SCRATCH.set(scratch);
    Ok(())
}

/// One row of `ky, kx, I` for each output pixel from row `first` on; taps outside the image are 0.
fn im2col(g: &Geometry, first: usize, channel: usize, x: &[f32], columns: &mut [f32]) {
    let (in_channels, group_in) = (4 * g.in_quads as usize, 4 * g.group_in_quads as usize);
    let (height, width) = (g.in_height as usize, g.in_width as usize);
    let (kh, kw) = (g.kernel_height as usize, g.kernel_width as usize);
    for (pixel, row) in columns.chunks_exact_mut(kh * kw * group_in).enumerate() {
        let top = (first + pixel / g.out_width as usize) * g.stride_y as usize;
        let left = pixel % g.out_width as usize * g.stride_x as usize;
        for (tap, to) in row.chunks_exact_mut(group_in).enumerate() {
            // Below the padding the subtraction wraps around, beyond any size.
            let y = (top + tap / kw).wrapping_sub(g.pad_y as usize);
            let x_at = (left + tap % kw).wrapping_sub(g.pad_x as usize);
            if y < height && x_at < width {
                let from = (y * width + x_at) * in_channels + channel;
                to.copy_from_slice(&x[from..from + group_in]);
            } else {
                to.fill(0.0);
            }
        }
    }
}
