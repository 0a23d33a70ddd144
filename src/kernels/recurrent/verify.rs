//! Recurrent cells compared with their twin.

use bytemuck::cast_slice;
use ndarray::{Array2, Array3};

use super::Weights;
use super::kernel::RecurrentF32;
use super::reference::reference;
use crate::Result;
use crate::device::Device;
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome, random_activation};
use crate::model::{Cell, Direction, Recurrent, Shape};

/// Weights that keep the size of values.
fn weights(random: &mut Random, cell: Cell, direction: Direction, [features, hidden]: [usize; 2]) -> Recurrent {
    let (directions, gates) = (direction.count(), cell.gates() * hidden);
    let mut three = |sides: (usize, usize, usize)| {
        let scale = 1.5 / (sides.2 as f32).sqrt();
        Array3::from_shape_fn(sides, |_| scale * random.float())
    };
    Recurrent {
        cell,
        direction,
        gives_memory: false,
        input: three((directions, gates, features)),
        state: three((directions, gates, hidden)),
        bias: Array2::from_shape_fn((directions, 2 * gates), |_| 0.5 * random.float()),
        peepholes: None,
        initial_state: None,
        initial_memory: None,
    }
}

/// Compares with the twin, each value within its bound: every cell in every direction; several
/// sequences; more units than a workgroup has invocations; peepholes, states to begin with, and the
/// memory as the result.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(47);
    let cells = [Cell::Tanh, Cell::Relu, Cell::Gru { reset_after: false }, Cell::Gru { reset_after: true }, Cell::Lstm];
    let mut cases = Vec::new();
    for (i, cell) in cells.into_iter().enumerate() {
        for direction in [Direction::Forward, Direction::Reverse, Direction::Bidirectional] {
            let shape = [Shape::new(5, 7, 1), Shape::new(8, 4, 3)][i % 2];
            cases.push((1 + i % 3, weights(&mut random, cell, direction, [shape.channels, 6 + i]), shape));
        }
    }
    for (cell, hidden) in [(Cell::Lstm, 259), (Cell::Gru { reset_after: false }, 300)] {
        let recurrent = weights(&mut random, cell, Direction::Forward, [3, hidden]);
        cases.push((1, recurrent, Shape::new(3, 2, 1)));
    }
    for gives_memory in [false, true] {
        let mut recurrent = weights(&mut random, Cell::Lstm, Direction::Bidirectional, [4, 5]);
        let mut initial = || Some(Array3::from_shape_fn((2, 2, 5), |_| random.float()));
        (recurrent.initial_state, recurrent.initial_memory) = (initial(), initial());
        recurrent.peepholes = Some(Array2::from_shape_fn((2, 15), |_| random.float()));
        recurrent.gives_memory = gives_memory;
        cases.push((2, recurrent, Shape::new(4, 5, 2)));
    }
    let mut checks = Vec::new();
    for (images, recurrent, shape) in cases {
        let x = random_activation(&mut random, images, shape);
        let expected = reference(images, &recurrent, shape, &x);
        let words = device.upload(cast_slice(&x), "x")?;
        let weights = Weights::new(device, &recurrent, shape)?;
        let got = outcome(device, expected.len(), |rec, y| {
            rec.run(&RecurrentF32 { images, weights: &weights, x: &words, y })
        })?;
        let (values, bounds): (Vec<f64>, Vec<f64>) = expected.iter().map(|y| (y.value, y.error)).unzip();
        let (name, hidden) = (format!("{:?} {}", recurrent.cell, recurrent.direction), recurrent.hidden());
        let name = format!("{name} of {images}×{shape} to {hidden}");
        checks.push(Check::close(name, &values, &bounds, cast_slice(&got)));
    }
    Ok(checks)
}
