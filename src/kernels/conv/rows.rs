//! What the Cpu device's vector convolutions share: they read their input from a copy of the rows
//! that a block of output needs, its padding written out, so that no tap has to be checked and none
//! is laid out twice (as im2col does).
//!
//! The copy is rows × columns × quads of one group × N words, which are what an instruction
//! multiplies (`cpu/lanes`). Output pixel (r, c) of the block begins at row `r·stride`, column
//! `c·stride`; the taps of one kernel row and all their channels are one run of `kw·N` words a
//! quad.

use rayon::prelude::*;

use super::geometry::Geometry;
use crate::kernels::cpu::lanes::Run;

/// Bytes of a copy: it stays in a core's cache beside the weights it meets.
const COPY_BYTES: usize = 256 * 1024;

/// Most output pixels of a block, so that a single large image keeps all cores busy.
const BLOCK_PIXELS: usize = 512;

/// A block of output rows of one image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a, X> {
    pub(super) g: &'a Geometry,
    /// The image, by quads of channels.
    x: &'a [X],
    /// The first row of the block, and how many it has.
    first: usize,
    rows: usize,
}

impl<'a, X> Block<'a, X> {
    /// Output rows `first` to `first + rows` of image `x`.
    pub(super) fn new(g: &'a Geometry, x: &'a [X], first: usize, rows: usize) -> Self {
        Self { g, x, first, rows }
    }
}

/// Calls `run` for each block of output rows of each image, in parallel, with room for a copy and
/// the block's part of `y`. `x` has quads of channels, a copy N words of each.
pub(super) fn for_each_block<const N: usize, W: Copy + Send + Sync, X: Sync, Y: Send>(
    g: &Geometry,
    x: &[X],
    y: &mut [Y],
    run: impl Fn(&Block<'_, X>, &mut Rows<W, N>, &mut [Y]) + Sync,
) {
    let images = g.images as usize;
    let (x_image, y_image) = (g.in_words(1) / images, y.len() / images);
    let block_rows = block_rows(g, N * size_of::<W>());
    let row = y_image / g.out_height as usize;
    x.par_chunks_exact(x_image).zip(y.par_chunks_exact_mut(y_image)).for_each(|(x, y)| {
        y.par_chunks_mut(block_rows * row).enumerate().for_each_init(Rows::empty, |copy, (i, y)| {
            run(&Block::new(g, x, i * block_rows, y.len() / row), copy, y);
        });
    });
}

/// Output rows of one block: depends on the layer alone, so that a result does not depend on the
/// batch.
fn block_rows(g: &Geometry, quad_bytes: usize) -> usize {
    let row_bytes = columns(g) * g.group_in_quads as usize * g.stride_y as usize * quad_bytes;
    let by_bytes = COPY_BYTES / row_bytes.max(1);
    (BLOCK_PIXELS / g.out_width as usize).min(by_bytes).clamp(1, g.out_height as usize)
}

/// Columns of a copy.
fn columns(g: &Geometry) -> usize {
    ((g.out_width - 1) * g.stride_x + g.kernel_width) as usize
}

/// The copy of one block.
pub(super) struct Rows<W, const N: usize> {
    quads: Vec<[W; N]>,
    /// Quads of one row.
    pitch: usize,
    /// Quads from an output pixel to the next, and to the one below.
    step: [usize; 2],
    out_width: usize,
}

impl<W: Copy, const N: usize> Rows<W, N> {
    pub(super) fn empty() -> Self {
        Self { quads: Vec::new(), pitch: 0, step: [0; 2], out_width: 1 }
    }

    /// Copies what the block reads of `group`; `outside` is the padding, `append` copies quads.
    #[inline(always)]
    pub(super) fn fill<X: Copy>(
        &mut self,
        block: &Block<'_, X>,
        group: usize,
        outside: [W; N],
        append: impl Fn(&mut Vec<[W; N]>, &[X]),
    ) {
        let &Block { g, x, first, rows } = block;
        let (all, quads) = (g.in_quads as usize, g.group_in_quads as usize);
        let (columns, kh) = (columns(g), g.kernel_height as usize);
        let (sy, sx) = (g.stride_y as usize, g.stride_x as usize);
        let (height, width) = (g.in_height as usize, g.in_width as usize);
        let (pad_y, pad_x) = (g.pad_y as usize, g.pad_x as usize);
        self.pitch = columns * quads;
        self.step = [sy * self.pitch, sx * quads];
        self.out_width = g.out_width as usize;
        let copied = (rows - 1) * sy + kh;
        self.quads.clear();
        self.quads.reserve(copied * self.pitch);
        // Columns left of the image, inside it and right of it.
        let left = pad_x.min(columns);
        let inside = columns.saturating_sub(pad_x).min(width);
        for row in 0..copied {
            let end = (row + 1) * self.pitch;
            // Above the image the subtraction wraps around, beyond any height.
            let y = (first * sy + row).wrapping_sub(pad_y);
            if y < height {
                self.quads.resize(self.quads.len() + left * quads, outside);
                let from = y * width * all + group * quads;
                if quads == all {
                    append(&mut self.quads, &x[from..from + inside * all]);
                } else {
                    for pixel in x[from..].chunks(all).take(inside) {
                        append(&mut self.quads, &pixel[..quads]);
                    }
                }
            }
            self.quads.resize(end, outside);
        }
    }

    /// All quads.
    pub(super) fn quads(&self) -> &[[W; N]] {
        &self.quads
    }

    /// All words.
    pub(super) fn words(&self) -> &[W] {
        self.quads.as_flattened()
    }

    /// What a window reads of the copy.
    pub(super) fn run(&self, g: &Geometry) -> Run {
        let length = N * (g.kernel_width * g.group_in_quads) as usize;
        Run { pitch: N * self.pitch, length, count: g.kernel_height as usize }
    }

    /// Where the windows of P output pixels from `first` begin, in words; beyond `count` the last
    /// one again.
    #[inline(always)]
    pub(super) fn bases<const P: usize>(&self, first: usize, count: usize) -> [usize; P] {
        let (mut row, mut column) = (first / self.out_width, first % self.out_width);
        let mut left = count - first;
        std::array::from_fn(|_| {
            let base = row * self.step[0] + column * self.step[1];
            if left > 1 {
                left -= 1;
                column += 1;
                if column == self.out_width {
                    (row, column) = (row + 1, 0);
                }
            }
            N * base
        })
    }
}
