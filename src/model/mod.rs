//! The types that stages hand to each other: the float graph, its shapes, and the quantized graph.
//!
//! | what | file |
//! | --- | --- |
//! | what an operation is, in whatever numbers: [`Op`] | `op.rs` |
//! | the parameters of operations | `ops.rs`, `function.rs`, `lines.rs`, `pool.rs`, `rearrange.rs`, `recurrent.rs` |
//! | weights: [`Weights`], [`Conv`], [`QConv`] | `weights.rs`, `qconv.rs` |
//! | the integers beside them: [`Constants`] | `constants.rs`, `qparams.rs` |
//! | networks: [`Graph`], [`QuantizedGraph`] | `graph.rs`, `digest.rs`, `quantized.rs` |

mod constants;
mod digest;
mod fit;
mod function;
mod graph;
mod input;
mod lines;
mod op;
mod ops;
mod pool;
mod qconv;
mod qparams;
mod quantized;
mod rearrange;
mod recurrent;
mod shape;
mod weights;

pub use constants::{Constants, QBinary, Table};
pub use fit::Fit;
pub(crate) use function::{Expression, number};
pub use function::{Function, Operand, Operator, Step};
pub use graph::{Graph, GraphOutput, Node, NodeId, NoteKind};
pub(crate) use graph::{Note, class_count};
pub use input::{Color, Decode, Interpolation, MAX_SIDE, Preprocessing};
pub use lines::{Along, Reduce, ReduceKind, Standardize};
pub(crate) use op::ConstantsKind;
pub use op::Op;
pub use ops::{Activation, Axis, Binary, Coordinates, Resize};
pub(crate) use ops::{broadcast, joined, matrix_product};
pub use pool::{Pool, PoolKind};
pub use qconv::{Coarse, CoarseScale, QConv, Support};
pub use qparams::{Multiplier, QParams};
pub(crate) use quantized::Integer;
pub use quantized::{Computed, QNode, QuantizedGraph, SplitReport};
pub(crate) use rearrange::View;
pub use rearrange::{Rearrange, RearrangeKind};
pub use recurrent::{Cell, Direction, Recurrent};
pub use shape::{Shape, conv_output};
pub use weights::{Conv, Weights};

pub(crate) use quantized::on_op;
