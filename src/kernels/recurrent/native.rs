//! Recurrent cells on the Cpu device.

use rayon::prelude::*;

use super::weights::{Cells, GATES, MORE_ROWS};
use crate::device::{Tier, compiled_for_tiers};
use crate::kernels::cpu::exp::exp;
use crate::model::Cell;

/// Steps that a row of weights is read for at a time.
const BLOCK: usize = 8;

/// Direction by direction of every sequence, in parallel, and the products with the features, which
/// need no state, in parallel within.
pub(super) fn native(tier: Tier, cells: &Cells, values: &[f32], x: &[f32], y: &mut [f32]) {
    let (x_len, y_len) = (cells.x_shape.padded_len(), cells.y_shape.padded_len());
    x.par_chunks_exact(x_len).zip(y.par_chunks_exact_mut(y_len)).for_each(|(x, y)| image(tier, cells, values, x, y));
}

/// One image.
fn image(tier: Tier, cells: &Cells, values: &[f32], x: &[f32], y: &mut [f32]) {
    let (sequences, hidden, directions) = (cells.x_shape.width, cells.hidden, cells.direction.count());
    let padded = cells.y_shape.padded_channels();
    let lines: Vec<Vec<f32>> = (0..sequences * directions)
        .into_par_iter()
        .map(|line| self::line(tier, cells, values, x, line / directions, line % directions))
        .collect();
    y.fill(0.0);
    for (index, line) in lines.iter().enumerate() {
        let (sequence, direction) = (index / directions, index % directions);
        for (step, values) in line.chunks_exact(hidden).enumerate() {
            y[(step * sequences + sequence) * padded + direction * hidden..][..hidden].copy_from_slice(values);
        }
    }
}

/// One direction of a sequence: the states in the order of the steps, or the memory.
fn line(tier: Tier, cells: &Cells, values: &[f32], x: &[f32], sequence: usize, direction: usize) -> Vec<f32> {
    let (hidden, features, steps) = (cells.hidden, cells.x_shape.channels, cells.x_shape.height);
    let row = hidden * GATES;
    let part = cells.rows() * row;
    let values = &values[direction * part..][..part];
    let (input, rest) = values.split_at(features * row);
    let (state, rest) = rest.split_at(hidden * row);
    let bias = &rest[..row];
    let begin = &rest[(MORE_ROWS + sequence) * row..][..row];
    // The sums of all steps with their features.
    let mut sums = vec![0.0f32; steps * row];
    let padded = cells.x_shape.padded_channels();
    let of_step = |step: usize| &x[(step * cells.x_shape.width + sequence) * padded..][..features];
    sums.par_chunks_mut(BLOCK * row).enumerate().for_each(|(block, sums)| {
        let x: Vec<&[f32]> = (0..sums.len() / row).map(|i| of_step(block * BLOCK + i)).collect();
        compiled_products(tier, bias, input, &x, sums);
    });
    let mut run = Run {
        cell: cells.cell,
        state_weights: state,
        state_bias: &rest[row..2 * row],
        peepholes: &rest[2 * row..3 * row],
        h: begin.chunks_exact(GATES).map(|begin| begin[0]).collect(),
        c: begin.chunks_exact(GATES).map(|begin| begin[1]).collect(),
        reset: vec![0.0; hidden],
        sums: vec![0.0; row],
    };
    let mut states = vec![0.0; if cells.gives_memory { 0 } else { steps * hidden }];
    for step in 0..steps {
        let time = if cells.direction.is_backwards(direction) { steps - 1 - step } else { step };
        compiled_step(tier, &mut run, &sums[time * row..][..row]);
        if !cells.gives_memory {
            states[time * hidden..][..hidden].copy_from_slice(&run.h);
        }
    }
    if cells.gives_memory { run.c } else { states }
}

/// The cells of one direction, as far as they were run.
struct Run<'a> {
    cell: Cell,
    /// Rows that the state multiplies.
    state_weights: &'a [f32],
    state_bias: &'a [f32],
    peepholes: &'a [f32],
    h: Vec<f32>,
    c: Vec<f32>,
    /// What a GRU's reset leaves of the state.
    reset: Vec<f32>,
    /// The gates' sums with the state.
    sums: Vec<f32>,
}

/// `sums[step] = bias + Σ weights[k]·x[step][k]`, a row of weights at a time.
#[inline(always)]
fn products(bias: &[f32], weights: &[f32], x: &[&[f32]], sums: &mut [f32]) {
    let row = bias.len();
    sums.chunks_exact_mut(row).for_each(|sums| sums.copy_from_slice(bias));
    for (k, weights) in weights.chunks_exact(row).enumerate() {
        for (sums, x) in sums.chunks_exact_mut(row).zip(x) {
            let x = x[k];
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight * x);
        }
    }
}

/// The next step, given the sums with its features.
#[inline(always)]
fn step(run: &mut Run<'_>, inputs: &[f32]) {
    products(run.state_bias, run.state_weights, &[&run.h], &mut run.sums);
    if run.cell == (Cell::Gru { reset_after: false }) {
        let gates = inputs.chunks_exact(GATES).zip(run.sums.chunks_exact(GATES));
        for ((reset, h), (a, b)) in run.reset.iter_mut().zip(&run.h).zip(gates) {
            *reset = sigmoid(a[1] + b[1]) * h;
        }
        for (sums, bias) in run.sums.chunks_exact_mut(GATES).zip(run.state_bias.chunks_exact(GATES)) {
            sums[2] = bias[2];
        }
        for (weights, reset) in run.state_weights.chunks_exact(run.sums.len()).zip(&run.reset) {
            for (sums, weights) in run.sums.chunks_exact_mut(GATES).zip(weights.chunks_exact(GATES)) {
                sums[2] += weights[2] * reset;
            }
        }
    }
    let gates = inputs.chunks_exact(GATES).zip(run.sums.chunks_exact(GATES)).zip(run.peepholes.chunks_exact(GATES));
    for ((h, c), ((a, b), p)) in run.h.iter_mut().zip(&mut run.c).zip(gates) {
        *h = match run.cell {
            Cell::Tanh => (a[0] + b[0]).tanh(),
            // A comparison and not `max`: NaN stays.
            Cell::Relu => {
                let sum = a[0] + b[0];
                if sum < 0.0 { 0.0 } else { sum }
            }
            Cell::Gru { reset_after } => {
                let z = sigmoid(a[0] + b[0]);
                let product = if reset_after { sigmoid(a[1] + b[1]) * b[2] } else { b[2] };
                (1.0 - z) * (a[2] + product).tanh() + z * *h
            }
            Cell::Lstm => {
                let gate = |at: usize, c: f32| sigmoid(a[at] + b[at] + p[at] * c);
                let memory = gate(2, *c) * *c + gate(0, *c) * (a[3] + b[3]).tanh();
                *c = memory;
                gate(1, memory) * memory.tanh()
            }
        };
    }
}

#[inline(always)]
fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + exp(-v))
}

compiled_for_tiers! {
    fn compiled_products(bias: &[f32], weights: &[f32], x: &[&[f32]], sums: &mut [f32]) = products;
    fn compiled_step(run: &mut Run<'_>, inputs: &[f32]) = step;
}
