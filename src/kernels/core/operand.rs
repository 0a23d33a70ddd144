//! Where the values of an operand lie, whose sides may be 1 where the result's are not.

use crate::model::Shape;

/// Fours of channels from one image, row, column and four channels to the next; 0 where one serves
/// all.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Operand {
    /// From image to image.
    pub(crate) image: u32,
    /// From row to row.
    pub(crate) row: u32,
    /// From column to column.
    pub(crate) column: u32,
    /// From four channels to the next.
    pub(crate) quad: u32,
}

impl Operand {
    /// An operand of shape `shape` for a result of shape `y`.
    pub(crate) fn new(shape: Shape, y: Shape) -> Self {
        let quads = shape.padded_channels() / 4;
        let step = |side: usize, of: usize, step: usize| if side == 1 && of != 1 { 0 } else { step as u32 };
        Self {
            image: (shape.pixels() * quads) as u32,
            row: step(shape.height, y.height, shape.width * quads),
            column: step(shape.width, y.width, quads),
            quad: step(shape.channels, y.channels, 1),
        }
    }

    /// The first value of a pixel.
    pub(crate) fn place(&self, image: usize, row: usize, column: usize) -> usize {
        4 * (image * self.image as usize + row * self.row as usize + column * self.column as usize)
    }
}
