//! Devices: wgpu adapters and the native Cpu device behind one type, their buffers, and how kernels
//! run on them.
//!
//! A device has no bounds checks of its own: `Recorder::run` is the only way to run a kernel, and
//! checks first (`kernel.rs`). Opening a device and waiting for a result are async inside;
//! [`Device::open`] and the networks' `run` block.

mod adapters;
mod buffer;
mod gpu;
mod handle;
mod info;
mod kernel;
mod native;
mod options;
mod readback;
mod recorder;
mod shader;
#[cfg(test)]
pub(crate) mod short;
mod tier;
mod timestamps;
#[allow(unsafe_code)]
mod trusted;

pub use adapters::{AdapterInfo, Backends, DeviceChoice};
pub use buffer::Buffer;
pub use handle::Device;
pub use info::{DeviceInfo, DeviceKind};
pub(crate) use kernel::{Bound, Dispatch, Kernel, Places};
pub use options::{DeviceOptions, Instructions};
pub(crate) use readback::Readback;
pub use recorder::Recorder;
#[cfg(test)]
pub(crate) use shader::ENTRY_POINT;
pub(crate) use shader::Shader;
pub(crate) use shader::{folded, shader};
pub(crate) use tier::{Tier, compiled_for_tiers};
