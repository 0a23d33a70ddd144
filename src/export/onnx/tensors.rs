//! What a layer gives: a tensor of floats, or of levels.

use super::builder::Builder;
use super::requantize::Levels;
use crate::model::QParams;

/// What is added to an int8 level where levels are uint8.
const OFFSET: i32 = 128;

/// A tensor of a float activation.
#[derive(Clone)]
pub(super) struct FloatTensor {
    /// Its name.
    pub tensor: String,
    /// Whether it is batch × channels, without height and width.
    pub flat: bool,
}

/// A tensor of levels as uint8, 128 above those of int8.
#[derive(Clone)]
pub(super) struct LevelTensor {
    /// Its name.
    pub tensor: String,
    /// Whether it is batch × channels, without height and width.
    pub flat: bool,
    /// What the levels stand for.
    pub params: QParams,
}

impl FloatTensor {
    /// Batch × channels × height × width.
    pub(super) fn image(tensor: String) -> Self {
        Self { tensor, flat: false }
    }

    /// Batch × features, for the layer called `name`.
    pub(super) fn flattened(&self, builder: &mut Builder, name: &str) -> String {
        if self.flat {
            return self.tensor.clone();
        }
        builder.node("Flatten", format!("{name}/flat"), &[&self.tensor], vec![])
    }
}

/// What the last operation of a layer is called: the layer's own name, unless a `ReLU` takes it.
pub(super) fn before_relu(name: &str, operation: &str, relu: bool) -> String {
    if relu { format!("{name}/{operation}") } else { name.to_owned() }
}

/// The `ReLU` of a layer, where it has one.
pub(super) fn rectified(builder: &mut Builder, name: &str, x: String, relu: bool) -> String {
    if relu { builder.node("Relu", name, &[&x], vec![]) } else { x }
}

/// The byte of a level.
pub(super) fn byte(level: i32) -> u8 {
    (level + OFFSET) as u8
}

/// The levels of an output; a `ReLU` lifts the lowest to the zero point.
pub(super) fn levels(params: &QParams, relu: bool) -> Levels {
    let low = if relu { params.qmin.max(params.zero_point) } else { params.qmin };
    let [zero_point, low, high] = [params.zero_point, low, params.qmax].map(|q| f64::from(q + OFFSET));
    Levels { zero_point, low, high }
}
