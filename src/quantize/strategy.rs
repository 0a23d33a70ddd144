//! How the scales and levels of weights are chosen: what there is to choose, and rounding each
//! weight to the nearest level.

use super::scale::scale_for;
use super::search::{largest, search, split_at};
use super::split::{SplitForm, published, published_scales};

/// The weights that share a scale: a channel, or all of them.
pub(super) struct Unit<'a> {
    pub first_channel: usize,
    /// One output channel after the other.
    pub weights: &'a [f32],
    /// Which weights the coarse part may touch.
    pub support: Vec<bool>,
    pub biases: &'a [f32],
    pub form: SplitForm,
    pub bits: u8,
}

impl Unit<'_> {
    /// Weights of an output channel.
    pub(super) fn length(&self) -> usize {
        self.weights.len() / self.biases.len()
    }
}

/// The scales of a unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scales {
    pub fine: f32,
    /// The aligned split's shift.
    pub shift: u8,
    /// The published split's coarse scale.
    pub coarse: Option<f32>,
}

/// Chooses scales and levels. Scales are chosen once, and may be raised against overflow
/// afterwards; levels and biases are those of the scales that they are given.
pub(super) trait Strategy: Sync {
    /// The scales, before overflow is looked at.
    fn scales(&self, unit: &Unit<'_>) -> Scales;

    /// `(Q_f, Q_c)` for these scales; `Q_c` of the weights on the support alone, in their order.
    fn levels(&self, unit: &Unit<'_>, scales: Scales) -> (Vec<i8>, Vec<i8>);

    /// The real bias of channel `index` of the unit, whose levels these are.
    fn bias(&self, unit: &Unit<'_>, scales: Scales, index: usize, fine: &[i8], coarse: &[i8]) -> f64;
}

/// Each weight becomes the nearest level, whatever its neighbours are; biases stay.
pub(super) struct Nearest;

impl Strategy for Nearest {
    fn scales(&self, unit: &Unit<'_>) -> Scales {
        match unit.form {
            SplitForm::Plain => Scales { fine: scale_for(largest(unit.weights), unit.bits), shift: 0, coarse: None },
            SplitForm::Paper(_) => {
                let (g, fine) = published_scales(unit.weights, &unit.support, unit.bits, 0.0);
                Scales { fine, shift: 0, coarse: Some(g) }
            }
            SplitForm::Aligned(_) => {
                let found = search(unit.weights, &unit.support, unit.bits);
                Scales { fine: found.scale, shift: found.shift, coarse: None }
            }
        }
    }

    fn levels(&self, unit: &Unit<'_>, scales: Scales) -> (Vec<i8>, Vec<i8>) {
        match (unit.form, scales.coarse) {
            (SplitForm::Paper(_), Some(g)) => published(unit.weights, &unit.support, unit.bits, g, scales.fine),
            _ => split_at(unit.weights, &unit.support, unit.bits, scales.fine, scales.shift),
        }
    }

    fn bias(&self, unit: &Unit<'_>, _: Scales, index: usize, _: &[i8], _: &[i8]) -> f64 {
        f64::from(unit.biases[index])
    }
}
