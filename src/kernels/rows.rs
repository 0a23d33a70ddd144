//! What the Cpu device's AVX-512 convolutions share: they read their input from a copy of the rows that a block of output
//! needs, its padding written out, so that no tap has to be checked and none is laid out twice (as im2col does).
//!
//! The copy is rows × columns × channels of one group. Output pixel (r, c) of the block begins at row `r·stride`, column
//! `c·stride`; the taps of one kernel row and all their channels are one run of `kw·C` values.

use super::Geometry;

/// Bytes of a copy: it stays in a core's cache beside the weights it meets.
const COPY_BYTES: usize = 256 * 1024;

/// Most output pixels of a block, so that a single large image keeps all cores busy.
const BLOCK_PIXELS: usize = 512;

/// Output rows of one block: depends on the layer alone, so that a result does not depend on the batch.
pub(super) fn block_rows(g: &Geometry, value_bytes: usize) -> usize {
    let row_bytes = columns(g) * 4 * g.group_in_quads as usize * g.stride_y as usize * value_bytes;
    let by_bytes = COPY_BYTES / row_bytes.max(1);
    (BLOCK_PIXELS / g.out_width as usize).min(by_bytes).clamp(1, g.out_height as usize)
}

/// Columns of a copy.
fn columns(g: &Geometry) -> usize {
    ((g.out_width - 1) * g.stride_x + g.kernel_width) as usize
}

/// The runs of values that a window reads, one for each kernel row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Values from the begin of one run to that of the next.
    pub(super) pitch: usize,
    /// Values of a run.
    pub(super) length: usize,
    /// Runs.
    pub(super) count: usize,
}

/// The copy of one block.
pub(super) struct Rows<T> {
    values: Vec<T>,
    /// Values of one row.
    pitch: usize,
    /// Values from an output pixel to the next, and to the one below.
    step: [usize; 2],
    out_width: usize,
}

impl<T: Copy> Rows<T> {
    pub(super) fn empty() -> Self {
        Self { values: Vec::new(), pitch: 0, step: [0; 2], out_width: 1 }
    }

    /// Copies what output rows `first` to `first + rows` of one image (`x`) read of `group`; `outside` is the padding.
    pub(super) fn fill<S: Copy>(
        &mut self,
        g: &Geometry,
        group: usize,
        (first, rows): (usize, usize),
        x: &[S],
        outside: T,
        map: impl Fn(S) -> T,
    ) {
        let (all, channels) = (4 * g.in_quads as usize, 4 * g.group_in_quads as usize);
        let (columns, kh) = (columns(g), g.kernel_height as usize);
        let (sy, sx) = (g.stride_y as usize, g.stride_x as usize);
        let (height, width) = (g.in_height as usize, g.in_width as usize);
        let (pad_y, pad_x) = (g.pad_y as usize, g.pad_x as usize);
        self.pitch = columns * channels;
        self.step = [sy * self.pitch, sx * channels];
        self.out_width = g.out_width as usize;
        let copied = (rows - 1) * sy + kh;
        self.values.clear();
        self.values.reserve(copied * self.pitch);
        // Columns left of the image, inside it and right of it.
        let left = pad_x.min(columns);
        let inside = columns.saturating_sub(pad_x).min(width);
        for row in 0..copied {
            let end = (row + 1) * self.pitch;
            // Above the image the subtraction wraps around, beyond any height.
            let y = (first * sy + row).wrapping_sub(pad_y);
            if y < height {
                self.values.resize(self.values.len() + left * channels, outside);
                let from = y * width * all + group * channels;
                if channels == all {
                    self.values.extend(x[from..from + inside * all].iter().map(|v| map(*v)));
                } else {
                    for pixel in x[from..].chunks(all).take(inside) {
                        self.values.extend(pixel[..channels].iter().map(|v| map(*v)));
                    }
                }
            }
            self.values.resize(end, outside);
        }
    }

    /// All values.
    pub(super) fn values(&self) -> &[T] {
        &self.values
    }

    /// What a window reads of the copy.
    pub(super) fn run(&self, g: &Geometry) -> Run {
        let length = (g.kernel_width * 4 * g.group_in_quads) as usize;
        Run { pitch: self.pitch, length, count: g.kernel_height as usize }
    }

    /// Where the windows of P output pixels from `first` begin; beyond `count` the last one again.
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
            base
        })
    }
}
