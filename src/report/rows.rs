//! Rows of what is shown beside a report: activations, outputs, kernels.

use serde::Serialize;

use super::DeviceInfo;
use crate::calibrate::ActivationStats;
use crate::model::GraphOutput;

/// What statistics say of one activation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActivationRow {
    /// Name of the layer that makes it.
    pub name: String,
    /// A bin of its histogram is 2 to this power wide.
    pub exponent: i32,
    /// How many values are 0.
    pub zeros: u64,
    /// The least value.
    pub min: f32,
    /// The greatest value.
    pub max: f32,
}

impl ActivationRow {
    pub(crate) fn of(stats: &ActivationStats) -> Self {
        let ActivationStats { exponent, zeros, min, max, .. } = *stats;
        Self { name: stats.name.clone(), exponent, zeros, min, max }
    }
}

/// An output of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkOutput {
    /// Its name.
    pub name: String,
    /// Its sides for one image, without the batch.
    pub sides: Vec<usize>,
}

impl NetworkOutput {
    pub(crate) fn of(output: &GraphOutput) -> Self {
        Self { name: output.name.clone(), sides: output.sides.clone() }
    }
}

/// A device's kernels compared with their plain twins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// The device; none where it could not be opened.
    pub device: Option<DeviceInfo>,
    /// Why the device could not be tested, or not to the end.
    pub failure: Option<String>,
    /// One row for each kernel that the device can run.
    pub kernels: Vec<KernelRow>,
}

impl Verified {
    /// Whether every kernel was tested and agrees with its twin.
    pub fn passed(&self) -> bool {
        self.failure.is_none() && self.kernels.iter().all(|kernel| kernel.failed == 0)
    }
}

/// A kernel compared with its plain twin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelRow {
    /// Its name.
    pub name: &'static str,
    /// Cases that ran.
    pub cases: usize,
    /// Those that went wrong.
    pub failed: usize,
    /// Integers: words that differ. Floats: the largest error as a fraction of its bound.
    pub worst: f64,
    /// The first case that went wrong, and the first difference in it.
    pub detail: Option<String>,
}
