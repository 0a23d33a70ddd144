//! Recurrent cells in plain f64: nothing shared with the library's kernels.

use ndarray::{Array1, Array2, Array3, Axis, concatenate, s};
use repquant::internals::Random;
use repquant::internals::model::{Cell, Direction, Recurrent};

/// Cells with random weights, without what need not be there.
pub(crate) fn cells(
    random: &mut Random,
    cell: Cell,
    direction: Direction,
    [features, hidden]: [usize; 2],
) -> Recurrent {
    let (directions, gates) = (direction.count(), cell.gates() * hidden);
    let mut three = |a, b, c| Array3::from_shape_fn((a, b, c), |_| random.between(-0.5, 0.5) as f32);
    Recurrent {
        cell,
        direction,
        gives_memory: false,
        input: three(directions, gates, features),
        state: three(directions, gates, hidden),
        bias: Array2::from_shape_fn((directions, 2 * gates), |_| random.between(-0.5, 0.5) as f32),
        peepholes: None,
        initial_state: None,
        initial_memory: None,
    }
}

/// What the cells give for x, features × steps × sequences.
pub(crate) fn states(recurrent: &Recurrent, x: &Array3<f64>) -> Array3<f64> {
    let (_, steps, sequences) = x.dim();
    let hidden = recurrent.hidden();
    let ways: &[bool] = match recurrent.direction {
        Direction::Forward => &[false],
        Direction::Reverse => &[true],
        Direction::Bidirectional => &[false, true],
    };
    let each = ways.iter().enumerate().map(|(d, &backwards)| {
        let mut y = Array3::zeros((hidden, steps, sequences));
        let mut memories = Array3::zeros((hidden, 1, sequences));
        for sequence in 0..sequences {
            let begin = |values: &Option<Array3<f32>>| match values {
                Some(values) => values.slice(s![d, sequence, ..]).mapv(f64::from),
                None => Array1::zeros(hidden),
            };
            let mut h = begin(&recurrent.initial_state);
            let mut c = begin(&recurrent.initial_memory);
            for step in 0..steps {
                let time = if backwards { steps - 1 - step } else { step };
                (h, c) = next(recurrent, d, &x.slice(s![.., time, sequence]).to_owned(), &h, &c);
                y.slice_mut(s![.., time, sequence]).assign(&h);
            }
            memories.slice_mut(s![.., 0, sequence]).assign(&c);
        }
        if recurrent.gives_memory { memories } else { y }
    });
    let each: Vec<Array3<f64>> = each.collect();
    concatenate(Axis(0), &each.iter().map(|y| y.view()).collect::<Vec<_>>()).unwrap()
}

/// The formulas of ONNX, gate by gate as vectors.
fn next(
    recurrent: &Recurrent,
    d: usize,
    x: &Array1<f64>,
    h: &Array1<f64>,
    c: &Array1<f64>,
) -> (Array1<f64>, Array1<f64>) {
    let (hidden, gates) = (h.len(), recurrent.cell.gates());
    let rows = |values: &Array3<f32>, gate: usize| -> Array2<f64> {
        values.slice(s![d, gate * hidden..(gate + 1) * hidden, ..]).mapv(f64::from)
    };
    let bias = |part: usize| recurrent.bias.slice(s![d, part * hidden..(part + 1) * hidden]).mapv(f64::from);
    let of_x = |gate: usize| rows(&recurrent.input, gate).dot(x) + bias(gate);
    let of = |gate: usize, h: &Array1<f64>| rows(&recurrent.state, gate).dot(h) + bias(gates + gate);
    let sigmoid = |v: Array1<f64>| v.mapv(|v| 1.0 / (1.0 + (-v).exp()));
    let tanh = |v: Array1<f64>| v.mapv(f64::tanh);
    match recurrent.cell {
        Cell::Tanh => (tanh(of_x(0) + of(0, h)), c.clone()),
        Cell::Relu => ((of_x(0) + of(0, h)).mapv(|v| v.max(0.0)), c.clone()),
        Cell::Gru { reset_after } => {
            let (z, r) = (sigmoid(of_x(0) + of(0, h)), sigmoid(of_x(1) + of(1, h)));
            let n = tanh(of_x(2) + if reset_after { &r * of(2, h) } else { of(2, &(&r * h)) });
            ((1.0 - &z) * n + &z * h, c.clone())
        }
        Cell::Lstm => {
            let peephole = |gate: usize| match &recurrent.peepholes {
                Some(p) => p.slice(s![d, gate * hidden..(gate + 1) * hidden]).mapv(f64::from),
                None => Array1::zeros(hidden),
            };
            let (i, f) = (sigmoid(of_x(0) + of(0, h) + peephole(0) * c), sigmoid(of_x(2) + of(2, h) + peephole(2) * c));
            let c = f * c + i * tanh(of_x(3) + of(3, h));
            let o = sigmoid(of_x(1) + of(1, h) + peephole(1) * &c);
            (o * tanh(c.clone()), c)
        }
    }
}
