//! Recurrent cells over sequences: simple ones, gated ones (GRU) and those with a memory (LSTM).

use std::fmt;

use ndarray::{Array2, Array3};
use serde::{Deserialize, Serialize};

use super::Shape;
use crate::{Error, Result};

/// What a cell computes of x, the features of a step, and of h, its state after the step before.
///
/// A gate has the sum `W·x + b_W + R·h + b_R`; σ is `1 / (1 + e^(−v))`, products are value by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// `h' = tanh(a)`.
    Tanh,
    /// `h' = max(a, 0)`.
    Relu,
    /// `h' = (1 − z)·n + z·h` with `z = σ(a_z)`, `r = σ(a_r)`; the gates are z, r, n.
    Gru {
        /// Whether `n = tanh(W·x + b_W + r·(R·h + b_R))`, as in `PyTorch`; else
        /// `n = tanh(W·x + b_W + R·(r·h) + b_R)`.
        reset_after: bool,
    },
    /// `c' = f·c + i·tanh(a_c)` and `h' = o·tanh(c')` with `i = σ(a_i + P_i·c)`,
    /// `f = σ(a_f + P_f·c)`, `o = σ(a_o + P_o·c')`; the gates are i, o, f, c.
    Lstm,
}

impl Cell {
    /// How many gates it has, itself counted.
    pub fn gates(self) -> usize {
        match self {
            Self::Tanh | Self::Relu => 1,
            Self::Gru { .. } => 3,
            Self::Lstm => 4,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tanh | Self::Relu => "rnn",
            Self::Gru { .. } => "gru",
            Self::Lstm => "lstm",
        }
    }
}

/// Which way a sequence is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the first step to the last.
    Forward,
    /// From the last step to the first; results lie where their step is.
    Reverse,
    /// Both, each with weights of its own; the forward one's results come first.
    Bidirectional,
}

impl Direction {
    /// How many there are.
    pub fn count(self) -> usize {
        if self == Self::Bidirectional { 2 } else { 1 }
    }

    /// Whether the direction at `index` goes from the last step to the first.
    pub fn is_backwards(self, index: usize) -> bool {
        self == Self::Reverse || index == 1
    }
}

/// A recurrent layer. It reads features × steps × sequences, channels × rows × columns, and gives
/// the states after each step, directions·hidden × steps × sequences; or the memory after the last
/// one, directions·hidden × 1 × sequences.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    /// What a cell computes.
    pub cell: Cell,
    /// Which way.
    pub direction: Direction,
    /// Whether the result is c after the last step, of an LSTM.
    pub gives_memory: bool,
    /// W, directions × gates·hidden × features.
    pub input: Array3<f32>,
    /// R, directions × gates·hidden × hidden.
    pub state: Array3<f32>,
    /// `b_W` behind which `b_R`, directions × 2·gates·hidden.
    pub bias: Array2<f32>,
    /// P of the gates i, o, f, directions × 3·hidden; only an LSTM has them.
    pub peepholes: Option<Array2<f32>>,
    /// h before the first step, directions × sequences × hidden; 0 where there is none.
    pub initial_state: Option<Array3<f32>>,
    /// c before the first step, as h; only an LSTM has it.
    pub initial_memory: Option<Array3<f32>>,
}

impl Recurrent {
    /// The largest hidden size: what a workgroup's memory holds.
    pub const MOST_HIDDEN: usize = 2048;

    /// Values of a state.
    pub fn hidden(&self) -> usize {
        self.state.dim().2
    }

    /// Values of a step.
    pub fn features(&self) -> usize {
        self.input.dim().2
    }

    /// Shape of the result; none where the input does not fit.
    pub fn output(&self, x: Shape) -> Option<Shape> {
        let sequences = |initial: &Option<Array3<f32>>| initial.as_ref().is_none_or(|h| h.dim().1 == x.width);
        let fits = x.channels == self.features()
            && x.height > 0
            && sequences(&self.initial_state)
            && sequences(&self.initial_memory);
        let steps = if self.gives_memory { 1 } else { x.height };
        let channels = self.direction.count().checked_mul(self.hidden())?;
        fits.then(|| Shape::new(channels, steps, x.width))
    }

    /// Checks that the weights go together.
    ///
    /// # Errors
    /// Which do not.
    pub fn check(&self) -> Result<()> {
        let (directions, hidden, features) = (self.direction.count(), self.hidden(), self.features());
        if !(1..=Self::MOST_HIDDEN).contains(&hidden) || features == 0 {
            let most = Self::MOST_HIDDEN;
            return Err(Error::bad(format!("its states have {hidden} values of {features}; at most {most} are run")));
        }
        let gates = self.cell.gates() * hidden;
        let initial = |initial: &Option<Array3<f32>>| {
            initial.as_ref().is_none_or(|h| (h.dim().0, h.dim().2) == (directions, hidden) && h.dim().1 > 0)
        };
        let memory = self.cell == Cell::Lstm;
        let parts = [
            ("input", self.input.dim() == (directions, gates, features)),
            ("state", self.state.dim() == (directions, gates, hidden)),
            ("bias", self.bias.dim() == (directions, 2 * gates)),
            ("peepholes", self.peepholes.as_ref().is_none_or(|p| memory && p.dim() == (directions, 3 * hidden))),
            ("initial_state", initial(&self.initial_state)),
            ("initial_memory", initial(&self.initial_memory) && (memory || self.initial_memory.is_none())),
            ("memory", memory || !self.gives_memory),
        ];
        if let Some((part, _)) = parts.iter().find(|(_, fits)| !fits) {
            return Err(Error::bad(format!("its {part} does not fit {directions} × {hidden} states")));
        }
        if !self.tensors().iter().all(|(_, _, values)| values.iter().all(|v| v.is_finite())) {
            return Err(Error::bad("a weight is not finite"));
        }
        Ok(())
    }

    /// Its tensors: the name, the sides and the values of each that is there.
    pub(crate) fn tensors(&self) -> Vec<(&'static str, Vec<usize>, Vec<f32>)> {
        let three = |name, array: &Array3<f32>| (name, array.shape().to_vec(), array.iter().copied().collect());
        let two = |name, array: &Array2<f32>| (name, array.shape().to_vec(), array.iter().copied().collect());
        let mut tensors = vec![three("input", &self.input), three("state", &self.state), two("bias", &self.bias)];
        tensors.extend(self.peepholes.iter().map(|p| two("peepholes", p)));
        tensors.extend(self.initial_state.iter().map(|h| three("initial_state", h)));
        tensors.extend(self.initial_memory.iter().map(|c| three("initial_memory", c)));
        tensors
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> usize {
        self.input.len() + self.state.len() + self.bias.len() + self.peepholes.as_ref().map_or(0, Array2::len)
    }

    /// Multiplications by weights for one image, where the states have shape `y`.
    pub fn macs(&self, y: Shape) -> u64 {
        (self.input.len() + self.state.len()) as u64 * y.pixels() as u64
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
            Self::Bidirectional => "bidirectional",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lstm() -> Recurrent {
        Recurrent {
            cell: Cell::Lstm,
            direction: Direction::Bidirectional,
            gives_memory: false,
            input: Array3::zeros((2, 20, 3)),
            state: Array3::zeros((2, 20, 5)),
            bias: Array2::zeros((2, 40)),
            peepholes: None,
            initial_state: None,
            initial_memory: Some(Array3::zeros((2, 4, 5))),
        }
    }

    #[test]
    fn shapes_follow_the_input() {
        let lstm = lstm();
        assert!(lstm.check().is_ok());
        assert_eq!(lstm.output(Shape::new(3, 7, 4)), Some(Shape::new(10, 7, 4)));
        assert_eq!((lstm.output(Shape::new(3, 7, 1)), lstm.output(Shape::new(2, 7, 4))), (None, None));
        assert_eq!((lstm.parameters(), lstm.macs(Shape::new(10, 7, 4))), (120 + 200 + 80, 28 * 320));
        let memory = Recurrent { gives_memory: true, ..lstm };
        assert_eq!(memory.output(Shape::new(3, 7, 4)), Some(Shape::new(10, 1, 4)));
    }

    #[test]
    fn weights_that_contradict_each_other_are_refused() {
        let wrong = [
            (Recurrent { cell: Cell::Gru { reset_after: true }, ..lstm() }, "input"),
            (Recurrent { state: Array3::zeros((2, 16, 5)), ..lstm() }, "state"),
            (Recurrent { state: Array3::zeros((2, 0, 0)), ..lstm() }, "0 values"),
            (Recurrent { bias: Array2::zeros((2, 20)), ..lstm() }, "bias"),
            (Recurrent { peepholes: Some(Array2::zeros((2, 20))), ..lstm() }, "peepholes"),
            (Recurrent { initial_state: Some(Array3::zeros((1, 4, 5))), ..lstm() }, "initial_state"),
            (Recurrent { bias: Array2::from_elem((2, 40), f32::NAN), ..lstm() }, "finite"),
        ];
        for (recurrent, words) in wrong {
            let error = recurrent.check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
