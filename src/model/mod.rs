//! The types that stages hand to each other: the float graph, its shapes, and the quantized graph.

mod graph;
mod input;
mod qparams;
mod quantized;
mod shape;

pub use graph::{Conv, Graph, Linear, Node, NodeId, Op};
pub use input::{Interpolation, MAX_SIDE, Preprocessing};
pub use qparams::{Multiplier, QParams};
pub use quantized::{Coarse, CoarseScale, QConv, QNode, QOp, QuantizedGraph, SplitReport, Support};
pub use shape::{Shape, conv_output};
