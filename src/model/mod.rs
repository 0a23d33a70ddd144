//! The types that stages hand to each other: the float graph, its shapes, and the quantized graph.
//!
//! | what | file |
//! | --- | --- |
//! | what an operation is, in whatever numbers: [`Op`] | `op.rs` |
//! | the parameters of operations | `ops.rs`, `pool.rs`, `rearrange.rs` |
//! | weights: [`Weights`], [`Conv`], [`QConv`] | `weights.rs`, `qconv.rs` |
//! | the integers beside them: [`Constants`] | `constants.rs`, `qparams.rs` |
//! | networks: [`Graph`], [`QuantizedGraph`] | `graph.rs`, `digest.rs`, `quantized.rs` |

mod constants;
mod digest;
mod graph;
mod input;
mod op;
mod ops;
mod pool;
mod qconv;
mod qparams;
mod quantized;
mod rearrange;
mod shape;
mod weights;

pub use constants::{Constants, QBinary, Table};
pub use graph::{Graph, GraphOutput, Node, NodeId, Note, NoteKind, class_count};
pub use input::{Decode, Interpolation, MAX_SIDE, Preprocessing};
pub use op::{ConstantsKind, Op};
pub use ops::{Activation, Axis, Binary, Coordinates, Resize, broadcast, joined};
pub use pool::{Pool, PoolKind};
pub use qconv::{Coarse, CoarseScale, QConv, Support};
pub use qparams::{Multiplier, QParams};
pub use quantized::{Computed, Integer, QNode, QuantizedGraph, SplitReport};
pub use rearrange::{Rearrange, RearrangeKind, View};
pub use shape::{Shape, conv_output};
pub use weights::{Conv, Weights};

pub(crate) use quantized::on_op;
