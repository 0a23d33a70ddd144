//! Running a graph on a device, one node at a time, with every activation within reach of a tap.
//!
//! | what | file |
//! | --- | --- |
//! | an operation prepared for a device, in f32 or in integers | `layer.rs` |
//! | the conversions around an operation in f32 of a quantized network | `step.rs` |
//! | what the words of an activation mean | `encoding.rs` |
//! | which buffer holds which activation, how many images fit | `plan.rs` |
//! | a network: its steps and buffers | `net.rs` |
//! | a float network with a change, of which what comes behind runs again | `changed.rs` |

mod changed;
mod encoding;
mod layer;
mod net;
mod plan;
mod step;

use crate::device::Device;

pub(crate) use changed::{Change, Changed};
pub use net::{FloatNet, Int8Net};
pub use plan::{Keep, batch_size};
pub(crate) use plan::{changed_batch_size, int8_batch_size};

/// How many batches may be on their way at a time. An adapter computes one while the host reads the
/// results of the one before and hands over the next; the Cpu device does one thing after the
/// other.
pub(crate) fn batches_in_flight(device: &Device) -> usize {
    if device.is_native() { 1 } else { 2 }
}
