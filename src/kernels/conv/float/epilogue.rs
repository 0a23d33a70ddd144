//! The end of the f32 convolutions, between the sums and what is stored: `ReLU`, and the range of
//! the output for calibration, the three values that [`range`] keeps in a row of `states`.
//!
//! On an adapter the range is found while the outputs are in registers: an invocation keeps the
//! extreme keys of what it stores, a workgroup puts them together, and three atomics go to the row.
//! The activation is not read again for it. The keys are those of `State::key`, so the row ends
//! with the same bits as after `range`. The Cpu device runs [`range`].

use std::ops::Range;

use crate::Result;
use crate::device::{Buffer, Kernel, Tier};
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::statistics::{Extent, Row, range};
use crate::model::Shape;

/// Parameters of the f32 convolutions.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Sizes of the convolution.
    geometry: Geometry,
    /// The first output pixel of this dispatch.
    first_pixel: u32,
    /// The end of its output pixels.
    end_pixel: u32,
    /// Whether a `ReLU` follows.
    relu: u32,
    /// One more than the row of `states` that is updated; 0: none is.
    observed: u32,
}

/// What a f32 convolution does with its sums.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a> {
    /// Whether a `ReLU` follows.
    pub relu: bool,
    /// Where the range of the output is kept, if it is wanted.
    pub range: Option<Row<'a>>,
}

impl Epilogue<'_> {
    /// A `ReLU` or nothing; the range is not wanted.
    pub fn plain(relu: bool) -> Self {
        Self { relu, range: None }
    }

    /// The parameters for these output pixels.
    pub(super) fn params(&self, g: &Geometry, pixels: Range<usize>) -> Params {
        Params {
            geometry: *g,
            first_pixel: pixels.start as u32,
            end_pixel: pixels.end as u32,
            relu: u32::from(self.relu),
            observed: self.range.map_or(0, |row| row.index as u32 + 1),
        }
    }

    /// On the Cpu device, when y is written: looks at it where its range is wanted.
    ///
    /// # Errors
    /// Those of [`range`].
    pub(super) fn observe(&self, tier: Tier, images: usize, shape: Shape, y: &Buffer) -> Result<()> {
        let Some(row) = self.range else { return Ok(()) };
        range::Range { extent: Extent { images, shape }, x: y, row }.native(tier)
    }
}
