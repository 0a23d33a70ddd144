//! Which patches of an image are gathered, and how they lie in a matrix.

use std::cell::Ref;

use crate::device::{Bound, Buffer, Device};
use crate::model::Shape;
use crate::{Error, Result};

/// Patches of four spans, the step in which matrices are multiplied: rows are as many words as a
/// multiple of it has.
const STEP: usize = 64;

/// Some patches of each image that a layer reads, one for each output pixel that is named.
#[derive(Debug)]
pub struct Patches {
    pub(super) x: Shape,
    pub(super) kernel: [usize; 2],
    /// Patches of an image.
    pub(super) places: usize,
    /// Row and column where each begins, wrapped around in 32 bits where they are negative.
    corners: Buffer,
}

impl Patches {
    /// Of inputs of shape `x`, at the output pixels `places` (row, column) of a convolution.
    ///
    /// # Errors
    /// If a side is 0 or so large that places cannot be counted, or the device has no memory left.
    pub fn new(
        device: &Device,
        x: Shape,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        places: &[[usize; 2]],
    ) -> Result<Self> {
        // A corner above the image is 2^32 − 2^28 or more, also after a tap is added; others are
        // below 2^30.
        const MOST: usize = 1 << 28;
        let corner = |at: usize, axis: usize| {
            let first = at.checked_mul(stride[axis]).filter(|first| *first < 1 << 29)?;
            Some((first as u32).wrapping_sub(padding[axis] as u32))
        };
        let sizes = [x.channels, x.height, x.width, kernel[0], kernel[1]];
        let corners: Option<Vec<u32>> =
            places.iter().flat_map(|&[row, column]| [corner(row, 0), corner(column, 1)]).collect();
        let corners = corners.filter(|_| !sizes.contains(&0) && sizes.iter().chain(&padding).all(|size| *size < MOST));
        let Some(corners) = corners.filter(|corners| !corners.is_empty() && corners.len() < MOST) else {
            return Err(Error::bad(format!("patches of {kernel:?} in {x} cannot be counted")));
        };
        Ok(Self { x, kernel, places: places.len(), corners: device.upload(&corners, "corners")? })
    }

    /// Taps of a patch.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Values of a patch, all channels together: the rows of its matrix, by channel, row and column
    /// of the kernel.
    pub fn rows(&self) -> usize {
        self.x.channels.saturating_mul(self.taps())
    }

    /// Patches of `images` images.
    pub fn count(&self, images: usize) -> usize {
        images.saturating_mul(self.places)
    }

    pub(super) fn bound(&self) -> Bound<'_> {
        Bound::read("corners", &self.corners, 2 * self.places)
    }

    /// The corners on the Cpu device.
    pub(super) fn host(&self) -> Ref<'_, [u32]> {
        self.corners.host()
    }
}

/// A matrix of bytes in a buffer, a row for each value of a patch, a column for each patch, three
/// planes one after the other: levels q, and the higher and the lower byte of u, both signed:
/// u = 256·high + low, −32768 to 32639.
///
/// A word has four patches, the first in the lowest byte.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// Where it lies.
    pub words: &'a Buffer,
    /// Rows of a plane.
    pub rows: usize,
    /// Words from row to row, as [`Matrix::stride`] gives them.
    pub stride: usize,
}

impl Matrix<'_> {
    /// Words of a row that holds so many patches.
    pub fn stride(patches: usize) -> usize {
        patches.div_ceil(STEP).saturating_mul(STEP / 4)
    }

    /// Words of a matrix.
    pub fn len(rows: usize, stride: usize) -> usize {
        rows.saturating_mul(stride).saturating_mul(3)
    }

    /// Words of a plane.
    pub(super) fn plane(&self) -> usize {
        self.rows.saturating_mul(self.stride)
    }

    /// Whether so many patches fit, and rows are whole steps.
    ///
    /// # Errors
    /// If not: an error of the caller.
    pub(super) fn check(&self, patches: usize) -> Result<()> {
        if self.stride.is_multiple_of(STEP / 4) && Self::stride(patches) <= self.stride {
            return Ok(());
        }
        Err(Error::device(format!("{patches} patches do not fit rows of {} words", self.stride)))
    }
}
