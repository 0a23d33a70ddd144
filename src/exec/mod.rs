//! Running a graph on a device, one node at a time, with every activation within reach of a tap.

mod float;
mod int8;
mod plan;
mod real;

use crate::device::Device;

pub use float::{FloatNet, Source};
pub use int8::Int8Net;
pub use plan::{Keep, batch_size, int8_batch_size};

/// How many batches may be on their way at a time. An adapter computes one while the host reads the results of the one
/// before and hands over the next; the Cpu device does one thing after the other.
pub fn batches_in_flight(device: &Device) -> usize {
    if device.is_native() { 1 } else { 2 }
}
