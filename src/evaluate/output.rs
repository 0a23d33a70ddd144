//! How close one output is, all of it and part by part.

use super::fidelity::Fidelity;
use super::parts::Parts;
use crate::model::GraphOutput;

/// How close one output of a quantized network is to the float network's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutputFidelity {
    /// Name of the output.
    pub name: String,
    /// Over all its values and images.
    pub fidelity: Fidelity,
    /// The largest |y − ŷ|.
    pub largest_difference: f64,
    /// The largest |y|.
    pub largest: f64,
    /// By the entries of its axes.
    pub(crate) parts: Parts,
}

impl OutputFidelity {
    /// Nothing seen yet of an output.
    pub fn new(output: &GraphOutput) -> Self {
        Self { name: output.name.clone(), parts: Parts::new(&output.sides), ..Self::default() }
    }

    /// Adds pairs of values.
    pub fn add(&mut self, y: &[f64], quantized: &[f64]) {
        self.fidelity.add(y, quantized);
        // A network beside itself, as the float network's own row of the table, has no worst part.
        if !std::ptr::eq(y, quantized) {
            self.parts.add(y, quantized);
        }
        for (y, q) in y.iter().zip(quantized) {
            self.largest_difference = self.largest_difference.max((y - q).abs());
            self.largest = self.largest.max(y.abs());
        }
    }
}
