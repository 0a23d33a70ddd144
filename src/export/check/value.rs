//! What the checks of a node know of the nodes that it reads.

use crate::model::Shape;
use crate::quantize::stored::Stored;

/// What a node gives, as those that read it see it.
#[derive(Clone, Copy)]
pub(super) struct Value {
    /// Shape of the activation.
    pub shape: Shape,
    /// None where it is not levels.
    pub stored: Option<Stored>,
}

/// Whether it can be the scale of anything.
pub(super) fn is_scale(scale: f32) -> bool {
    scale.is_finite() && scale > 0.0
}
