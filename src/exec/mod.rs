//! Running a graph on a device, one node at a time, with every activation within reach of a tap.

mod float;
mod int8;
mod plan;

pub use float::FloatNet;
pub use int8::Int8Net;
pub use plan::{Keep, batch_size, int8_batch_size};
