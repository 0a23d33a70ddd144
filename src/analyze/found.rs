//! What is found of each layer, and what that follows from.

use super::effect::Effect;
use crate::calibrate::Calibration;
use crate::model::{Graph, NodeId, QuantizedGraph, Shape};
use crate::quantize::{Alternatives, LayerChoice, QuantizeOptions};
use crate::threshold::RangeOptions;

/// A network, the quantized one that was made of it, and how.
pub(crate) struct Sources<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) quantized: &'a QuantizedGraph,
    pub(crate) calibration: &'a Calibration,
    pub(crate) options: &'a QuantizeOptions,
    pub(crate) ranges: &'a RangeOptions,
    /// Shapes of the activations.
    pub(super) shapes: Vec<Shape>,
    pub(super) alternatives: Alternatives<'a>,
}

/// What is found of a layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Analyzed {
    /// Its node.
    pub(crate) node: NodeId,
    /// Its weights alone quantized; none where it has none in integers.
    pub(crate) weights: Option<Effect>,
    /// What it reads alone quantized; none where it reads no levels.
    pub(crate) activation: Option<Effect>,
    /// Both.
    pub(crate) all: Effect,
    /// What helps, the best first.
    pub(crate) cures: Vec<Cure>,
}

/// What may be set otherwise for the good of a layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Setting {
    /// Something of that layer alone.
    Layer(LayerChoice),
    /// How the ranges of all activations are chosen.
    Ranges(RangeOptions),
}

/// A setting that helps a layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cure {
    /// What is set.
    pub(crate) setting: Setting,
    /// What the layer costs then; none: nothing.
    pub(crate) left: Option<Effect>,
    /// Bytes of the weights that it adds.
    pub(crate) bytes: i64,
    /// Multiplications for one image that it adds.
    pub(crate) macs: i64,
    /// How many of the layer's are in float then.
    pub(crate) float_macs: u64,
}

impl Cure {
    /// What is left of the noise.
    pub(super) fn noise(&self) -> f64 {
        self.left.as_ref().map_or(0.0, Effect::noise)
    }
}
