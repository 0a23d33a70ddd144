//! The box of the output that an input of a concatenation goes to: as large as the input, beginning
//! where the inputs before it end.

use crate::model::{Axis, Shape};
use crate::{Error, Result};

/// The box as shaders read it, the first members of their parameters.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Place {
    /// Images in the batch.
    pub(super) images: u32,
    /// Rows of the input and of the box.
    pub(super) x_height: u32,
    /// Columns of the input and of the box.
    pub(super) x_width: u32,
    /// Channels of the input and of the box, without padding.
    pub(super) x_channels: u32,
    /// Rows of the output.
    pub(super) y_height: u32,
    /// Its columns.
    pub(super) y_width: u32,
    /// Its channels, without padding.
    pub(super) y_channels: u32,
    /// Where the box begins.
    pub(super) first_channel: u32,
    /// Its first row.
    pub(super) first_row: u32,
    /// Its first column.
    pub(super) first_column: u32,
}

impl Place {
    /// The box of inputs of shape `x` that begins at `first` along `axis` of outputs of shape `y`.
    pub(super) fn new(images: usize, x: Shape, axis: Axis, first: usize, y: Shape) -> Self {
        let origin = axis.with(Shape::new(0, 0, 0), first);
        Self {
            images: images as u32,
            x_height: x.height as u32,
            x_width: x.width as u32,
            x_channels: x.channels as u32,
            y_height: y.height as u32,
            y_width: y.width as u32,
            y_channels: y.channels as u32,
            first_channel: origin.channels as u32,
            first_row: origin.height as u32,
            first_column: origin.width as u32,
        }
    }

    /// Invocations: one for each pixel of the input and four channels of the output.
    pub(super) fn items(&self) -> usize {
        let quads = (self.first_channel + self.x_channels).div_ceil(4) - self.first_channel / 4;
        self.images as usize * self.x_height as usize * self.x_width as usize * quads as usize
    }
}

/// Checks that the box of an input lies in the output.
///
/// # Errors
/// If it does not: an error of the caller.
pub(super) fn check(x: Shape, axis: Axis, first: usize, y: Shape) -> Result<()> {
    let fits = axis.with(x, 0) == axis.with(y, 0) && first.checked_add(axis.of(x)).is_some_and(|end| end <= axis.of(y));
    if fits { Ok(()) } else { Err(Error::device(format!("{x} does not fit at {first} of the {axis} of {y}"))) }
}
