//! The types that stages hand to each other: the float graph, its shapes, and the quantized graph.

mod graph;
mod input;
mod ops;
mod qparams;
mod quantized;
mod rearrange;
mod shape;

pub use graph::{Conv, Graph, Linear, Node, NodeId, Note, NoteKind, Op, Output, class_count};
pub use input::{Decode, Interpolation, MAX_SIDE, Preprocessing};
pub use ops::{Activation, Axis, Binary, Coordinates, Pool, PoolKind, Resize, broadcast, joined};
pub use qparams::{Multiplier, QParams};
pub use quantized::{Coarse, CoarseScale, QBinary, QConv, QNode, QOp, QuantizedGraph, SplitReport, Support, Table};
pub use rearrange::{Rearrange, RearrangeKind, View};
pub use shape::{Shape, conv_output};
