//! Recurrent cells over sequences in f32: every [`Cell`], formulas there.
//!
//! Features × steps × sequences to directions·hidden × steps × sequences, NHWC with channels in
//! fours, padded channels 0. Sums are taken in the order of the features, then, apart, in that of
//! the state, each behind its bias.

use bytemuck::{cast_slice, cast_slice_mut};

use super::native::native;
use super::weights::{Cells, Weights};
use crate::Result;
use crate::device::{Bound, Buffer, Dispatch, Kernel, Shader, Tier, folded, shader};
use crate::model::{Cell, Direction};

/// `recurrent_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("recurrent_f32", "sigmoid", "tanh");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    images: u32,
    steps: u32,
    sequences: u32,
    features: u32,
    hidden: u32,
    directions: u32,
    /// Whether the first direction goes from the last step to the first.
    reverse: u32,
    /// 0 tanh, 1 `ReLU`, 2 GRU, 3 GRU with the reset behind the product, 4 LSTM.
    cell: u32,
    /// Words of a place of x.
    x_padded: u32,
    /// Words of a place of y.
    y_padded: u32,
    /// Rows of weights of a direction.
    rows: u32,
    /// Whether the memory after the last step is the result.
    gives_memory: u32,
}

/// States of cells, step by step.
pub(crate) struct RecurrentF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// The cells, and the shape that they read.
    pub(crate) weights: &'a Weights,
    /// f32.
    pub(crate) x: &'a Buffer,
    /// f32.
    pub(crate) y: &'a Buffer,
}

impl RecurrentF32<'_> {
    fn params(&self) -> Params {
        let Cells { cell, direction, gives_memory, hidden, x_shape, y_shape } = self.weights.cells;
        Params {
            images: self.images as u32,
            steps: x_shape.height as u32,
            sequences: x_shape.width as u32,
            features: x_shape.channels as u32,
            hidden: hidden as u32,
            directions: direction.count() as u32,
            reverse: u32::from(direction == Direction::Reverse),
            cell: match cell {
                Cell::Tanh => 0,
                Cell::Relu => 1,
                Cell::Gru { reset_after: false } => 2,
                Cell::Gru { reset_after: true } => 3,
                Cell::Lstm => 4,
            },
            x_padded: x_shape.padded_channels() as u32,
            y_padded: y_shape.padded_channels() as u32,
            rows: self.weights.cells.rows() as u32,
            gives_memory: u32::from(gives_memory),
        }
    }
}

impl Kernel for RecurrentF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        let Weights { cells, buffer } = self.weights;
        let Cells { x_shape, y_shape, .. } = cells;
        vec![
            Bound::read("x", self.x, self.images * x_shape.padded_len()),
            Bound::read("weights", buffer, cells.words()),
            Bound::write("y", self.y, self.images * y_shape.padded_len()),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let Cells { x_shape, direction, .. } = self.weights.cells;
        let lines = self.images * x_shape.width * direction.count();
        let some = (lines > 0).then(|| Dispatch { shader: &SHADER, params: self.params(), groups: folded(lines) });
        some.into_iter()
    }

    fn native(&self, tier: Tier) -> Result<()> {
        let Weights { cells, buffer } = self.weights;
        let Cells { x_shape, y_shape, .. } = cells;
        let (x, weights, mut y) = (self.x.host(), buffer.host(), self.y.host_mut());
        let (x, y) = (&x[..self.images * x_shape.padded_len()], &mut y[..self.images * y_shape.padded_len()]);
        native(tier, cells, cast_slice(&weights), cast_slice(x), cast_slice_mut(y));
        Ok(())
    }

    fn multiplications(&self) -> u64 {
        let Cells { direction, hidden, cell, x_shape, .. } = self.weights.cells;
        let each = direction.count() * cell.gates() * hidden * (x_shape.channels + hidden);
        (self.images * x_shape.pixels() * each) as u64
    }
}
