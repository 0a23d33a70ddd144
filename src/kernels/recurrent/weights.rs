//! Weights of recurrent cells on a device.

use bytemuck::cast_slice;

use crate::device::{Buffer, Device};
use crate::model::{Cell, Direction, Recurrent, Shape};
use crate::{Error, Result};

/// Gates of a unit, with none where it has fewer.
pub(super) const GATES: usize = 4;

/// Rows behind those that features and states multiply: biases of both products, peepholes.
pub(super) const MORE_ROWS: usize = 3;

/// Recurrent weights, prepared for one device and one shape of input.
///
/// For each direction rows of hidden × 4 numbers, the gates of a unit side by side: what each
/// feature multiplies, what each value of the state multiplies, the biases of both, the peepholes;
/// then for each sequence the state and the memory that it begins with.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(super) cells: Cells,
    pub(super) buffer: Buffer,
}

/// What the weights are of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cells {
    pub(super) cell: Cell,
    pub(super) direction: Direction,
    pub(super) gives_memory: bool,
    pub(super) hidden: usize,
    /// Features × steps × sequences.
    pub(super) x_shape: Shape,
    pub(super) y_shape: Shape,
}

impl Weights {
    /// Lays the weights out.
    ///
    /// # Errors
    /// If they contradict each other or do not fit the input, or the device has no memory left.
    pub(crate) fn new(device: &Device, recurrent: &Recurrent, x_shape: Shape) -> Result<Self> {
        recurrent.check()?;
        let y_shape = recurrent.output(x_shape);
        let y_shape = y_shape.ok_or_else(|| Error::bad(format!("sequences of {x_shape} do not fit its weights")))?;
        let (hidden, features, gates) = (recurrent.hidden(), recurrent.features(), recurrent.cell.gates());
        let &Recurrent { cell, direction, gives_memory, .. } = recurrent;
        let cells = Cells { cell, direction, gives_memory, hidden, x_shape, y_shape };
        let mut values = vec![0f32; cells.words()];
        let mut at = 0;
        for d in 0..recurrent.direction.count() {
            let mut row = |value: &dyn Fn(usize, usize) -> f32, gates: usize| {
                for unit in 0..hidden {
                    for gate in 0..gates {
                        values[at + unit * GATES + gate] = value(gate, unit);
                    }
                }
                at += hidden * GATES;
            };
            for k in 0..features {
                row(&|gate, unit| recurrent.input[[d, gate * hidden + unit, k]], gates);
            }
            for k in 0..hidden {
                row(&|gate, unit| recurrent.state[[d, gate * hidden + unit, k]], gates);
            }
            for part in 0..2 {
                row(&|gate, unit| recurrent.bias[[d, (part * gates + gate) * hidden + unit]], gates);
            }
            let peephole = |gate, unit| recurrent.peepholes.as_ref().map_or(0.0, |p| p[[d, gate * hidden + unit]]);
            row(&peephole, 3);
            let initial = [&recurrent.initial_state, &recurrent.initial_memory];
            for s in 0..x_shape.width {
                row(&|which, unit| initial[which].as_ref().map_or(0.0, |values| values[[d, s, unit]]), 2);
            }
        }
        Ok(Self { cells, buffer: device.upload(cast_slice(&values), "recurrent weights")? })
    }
}

impl Cells {
    /// Rows of one direction.
    pub(super) fn rows(&self) -> usize {
        self.x_shape.channels + self.hidden + MORE_ROWS + self.x_shape.width
    }

    /// Numbers of all directions.
    pub(super) fn words(&self) -> usize {
        self.direction.count() * self.rows() * self.hidden * GATES
    }
}
