//! The end of the f32 convolutions, between the sums and what is stored: `ReLU`, and the range of the output for
//! calibration, the three values that [`range`] keeps in a row of `states`.
//!
//! On an adapter the range is found while the outputs are in registers: an invocation keeps the extreme keys of what it
//! stores, a workgroup puts them together, and three atomics go to the row. The activation is not read again for it. The
//! keys are those of [`State::key`], so the row ends with the same bits as after `range`. The Cpu device calls [`range`].

use super::state::{Extent, State};
use super::{Geometry, range};
use crate::Result;
use crate::device::{Binding, Buffer, Device, Recorder};
use crate::model::Shape;

/// Bindings of the f32 convolutions: x, weights, bias, y, states.
pub(super) const BINDINGS: &[Binding] =
    &[Binding::Params, Binding::Read, Binding::Read, Binding::Read, Binding::ReadWrite, Binding::ReadWrite];

/// Parameters of the f32 convolutions.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Sizes of the convolution.
    pub geometry: Geometry,
    /// The first output pixel of this dispatch.
    pub first_pixel: u32,
    /// The end of its output pixels.
    pub end_pixel: u32,
    /// Whether a `ReLU` follows.
    pub relu: u32,
    /// One more than the row of `states` that is updated; 0: none is.
    pub observed: u32,
}

/// A row of a `states` buffer.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// One [`State`] after the other.
    pub states: &'a Buffer,
    /// Which of them.
    pub index: usize,
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

    /// The parameters for output pixels `first` to `end`.
    ///
    /// # Panics
    /// If `states` has no such row: an error of the caller.
    pub(super) fn params(&self, g: &Geometry, first: usize, end: usize) -> Params {
        if let Some(row) = self.range {
            assert!(row.states.len() >= State::WORDS * (row.index + 1), "states: no such row");
        }
        Params {
            geometry: *g,
            first_pixel: first as u32,
            end_pixel: end as u32,
            relu: u32::from(self.relu),
            observed: self.range.map_or(0, |row| row.index as u32 + 1),
        }
    }

    /// On the Cpu device, when y is written: looks at it where its range is wanted.
    ///
    /// # Errors
    /// None on the Cpu device.
    pub(super) fn finish(&self, rec: &mut Recorder<'_>, g: &Geometry, y: &Buffer) -> Result<()> {
        let Some(row) = self.range else { return Ok(()) };
        let shape = Shape {
            channels: (4 * g.out_quads + g.out_last - 4) as usize,
            height: g.out_height as usize,
            width: g.out_width as usize,
        };
        range::dispatch(rec, &Extent { images: g.images as usize, shape }, y, row.states, row.index)
    }
}

/// What is bound as `states` where no range is wanted.
///
/// # Errors
/// If the device has no memory left.
pub(super) fn no_states(device: &Device) -> Result<Buffer> {
    device.alloc(State::WORDS, "no states")
}
