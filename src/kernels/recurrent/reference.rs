//! The twin of recurrent cells: f64, and with each value a bound for how far f32 may be from it.
//!
//! An error goes on through sums with its weight, through σ and tanh with their largest slope near
//! the value, and grows by each operation's own rounding: a unit u = 2^−24 of a result, n + 1 units
//! of the magnitudes of n products that are added in any order, and what WGSL allows a power, a
//! division and the tanh made of them (`activation_f32.rs`, `function_f32.rs`).

use crate::model::{Cell, Recurrent, Shape};

/// 2^−24.
const UNIT: f64 = 0.5 * f32::EPSILON as f64;

/// A value, and how far f32 may be from it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Near {
    pub(super) value: f64,
    pub(super) error: f64,
}

impl Near {
    fn exact(value: f32) -> Self {
        Self { value: f64::from(value), error: 0.0 }
    }

    fn most(self) -> f64 {
        self.value.abs() + self.error
    }

    /// With the rounding of the operation that gave it.
    fn rounded(value: f64, error: f64) -> Self {
        Self { value, error: error + UNIT * (value.abs() + error) + f64::from(f32::MIN_POSITIVE) }
    }

    fn plus(self, other: Self) -> Self {
        Self::rounded(self.value + other.value, self.error + other.error)
    }

    fn times(self, other: Self) -> Self {
        let error = self.value.abs() * other.error + other.value.abs() * self.error + self.error * other.error;
        Self::rounded(self.value * other.value, error)
    }

    fn one_less(self) -> Self {
        Self::exact(1.0).plus(Self { value: -self.value, ..self })
    }

    fn sigmoid(self) -> Self {
        let value = 1.0 / (1.0 + (-self.value).exp());
        let x = self.most();
        let own = (2.0 * x + 8.0) * 2.0 * UNIT * value + x.max(1.0) * f64::from(f32::MIN_POSITIVE);
        Self { value, error: 0.25 * self.error + own }
    }

    fn tanh(self) -> Self {
        let nearest = (self.value.abs() - self.error).max(0.0).tanh();
        Self { value: self.value.tanh(), error: (1.0 - nearest * nearest) * self.error + 16.0 * UNIT }
    }

    fn relu(self) -> Self {
        Self { value: self.value.max(0.0), ..self }
    }

    /// `bias + Σ weight·value`.
    fn sum(bias: f32, products: impl Iterator<Item = (f32, Self)>) -> Self {
        let (mut value, mut error, mut magnitude, mut count) = (f64::from(bias), 0.0, f64::from(bias).abs(), 2.0);
        for (weight, x) in products {
            let weight = f64::from(weight);
            value += weight * x.value;
            error += weight.abs() * x.error;
            magnitude += weight.abs() * x.most();
            count += 1.0;
        }
        Self { value, error: error + 1.001 * count * UNIT * magnitude + f64::from(f32::MIN_POSITIVE) }
    }
}

/// The result for a batch of x, features × steps × sequences, both as they lie on a device.
pub(super) fn reference(images: usize, recurrent: &Recurrent, shape: Shape, x: &[f32]) -> Vec<Near> {
    let y_shape = recurrent.output(shape).unwrap_or(Shape::new(0, 0, 0));
    let mut y = vec![Near::default(); images * y_shape.padded_len()];
    let hidden = recurrent.hidden();
    let lines = (0..images).flat_map(|image| (0..shape.width).map(move |sequence| (image, sequence)));
    for ((image, sequence), d) in lines.flat_map(|line| (0..recurrent.direction.count()).map(move |d| (line, d))) {
        let initial = |values: &Option<ndarray::Array3<f32>>| -> Vec<Near> {
            let of = |unit| values.as_ref().map_or(0.0, |values| values[[d, sequence, unit]]);
            (0..hidden).map(|unit| Near::exact(of(unit))).collect()
        };
        let (mut h, mut c) = (initial(&recurrent.initial_state), initial(&recurrent.initial_memory));
        let steps: Vec<usize> = (0..shape.height).collect();
        let backwards = recurrent.direction.is_backwards(d);
        let order = if backwards { steps.into_iter().rev().collect() } else { steps };
        for (done, time) in order.into_iter().enumerate() {
            let place = (image * shape.height + time) * shape.width + sequence;
            let x: Vec<Near> =
                x[place * shape.padded_channels()..][..shape.channels].iter().map(|&v| Near::exact(v)).collect();
            step(recurrent, d, &x, &mut h, &mut c);
            let (values, place) = match (recurrent.gives_memory, done + 1 == shape.height) {
                (false, _) => (&h, place),
                (true, true) => (&c, image * shape.width + sequence),
                (true, false) => continue,
            };
            y[place * y_shape.padded_channels() + d * hidden..][..hidden].copy_from_slice(values);
        }
    }
    y
}

/// The next state and memory of one direction.
fn step(recurrent: &Recurrent, d: usize, x: &[Near], h: &mut [Near], c: &mut [Near]) {
    let (hidden, gates) = (h.len(), recurrent.cell.gates());
    let of_input = |row: usize| {
        let products = x.iter().enumerate().map(|(k, x)| (recurrent.input[[d, row, k]], *x));
        Near::sum(recurrent.bias[[d, row]], products)
    };
    let of_state = |row: usize, h: &[Near]| {
        let products = h.iter().enumerate().map(|(k, h)| (recurrent.state[[d, row, k]], *h));
        Near::sum(recurrent.bias[[d, gates * hidden + row]], products)
    };
    let gate = |gate: usize, unit: usize| of_input(gate * hidden + unit).plus(of_state(gate * hidden + unit, h));
    let units = 0..hidden;
    let next: Vec<Near> = match recurrent.cell {
        Cell::Tanh => units.map(|unit| gate(0, unit).tanh()).collect(),
        Cell::Relu => units.map(|unit| gate(0, unit).relu()).collect(),
        Cell::Gru { reset_after } => {
            let left: Vec<Near> = (0..hidden).map(|unit| gate(1, unit).sigmoid().times(h[unit])).collect();
            let candidate = |unit: usize| {
                let row = 2 * hidden + unit;
                let product =
                    if reset_after { gate(1, unit).sigmoid().times(of_state(row, h)) } else { of_state(row, &left) };
                of_input(row).plus(product).tanh()
            };
            let next = |unit: usize| {
                let z = gate(0, unit).sigmoid();
                z.one_less().times(candidate(unit)).plus(z.times(h[unit]))
            };
            units.map(next).collect()
        }
        Cell::Lstm => {
            let seen = |which: usize, unit: usize, c: Near| {
                let peephole = recurrent.peepholes.as_ref().map_or(0.0, |p| p[[d, which * hidden + unit]]);
                gate(which, unit).plus(Near::exact(peephole).times(c)).sigmoid()
            };
            let next = |unit: usize| {
                let (i, f) = (seen(0, unit, c[unit]), seen(2, unit, c[unit]));
                let memory = f.times(c[unit]).plus(i.times(gate(3, unit).tanh()));
                (memory, seen(1, unit, memory).times(memory.tanh()))
            };
            let (memory, next): (Vec<Near>, Vec<Near>) = units.map(next).unzip();
            c.copy_from_slice(&memory);
            next
        }
    };
    h.copy_from_slice(&next);
}
