//! A quantized model as a safetensors file, so that any tool can look into it.
//!
//! | tensor | type | shape |
//! | --- | --- | --- |
//! | `NAME.fine` | I8 | O × I/groups × kh × kw |
//! | `NAME.coarse` | I8 | what its support holds, see [`Coarse`](crate::model::Coarse) |
//! | `NAME.shift` | U8 | O (aligned split) |
//! | `NAME.coarse_scale`, `NAME.coarse_multiplier`, `NAME.coarse_bias` | F32, I32, I32 | O (published split) |
//! | `NAME.scale`, `NAME.bias` | F32, I32 | O |
//! | `NAME.multiplier`, `NAME.right_shift` | I32, U8 | O (not where the output stays int32 sums); average pooling: one for each divisor from 1 on |
//! | `NAME.table` | I8 | 256, of a function of each level: entry q + 128 is what becomes of q |
//! | `NAME.table0`, `NAME.table1` … | I8 | 256, of a concatenation's input that is stored otherwise than its output |
//! | `NAME.weight`, `NAME.bias` | F32 | of a layer that was kept in float |
//! | `NAME.value` | F32 | C × H × W, of a constant |
//!
//! One metadata entry `repquant` holds the rest as JSON: the graph with its outputs, the
//! activations' scales and zero points, the preprocessing, the options and a summary of the
//! calibration. The same model gives the same bytes, and they load back to an equal one.
//!
//! This is version 2. Version 1 knew neither tables nor outputs, and is read: its last node, a
//! classifier, is the one output, `logits`.

#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod header;
mod read;
mod write;

pub use read::{from_bytes, read};
pub use write::to_bytes;
