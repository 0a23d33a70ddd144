//! Devices: wgpu adapters and the native Cpu device behind one type, their buffers, and how kernels run on them.

mod adapters;
mod buffer;
mod device;
mod kernel;
mod readback;
mod tier;
mod timestamps;
#[allow(unsafe_code)]
mod trusted;

pub use adapters::{AdapterInfo, Backends, DeviceChoice, adapters};
pub use buffer::Buffer;
pub use device::{Device, DeviceInfo, DeviceKind, GpuDevice, NativeDevice};
pub use kernel::{Binding, COMMON, ENTRY_POINT, KernelSpec, Recorder, groups_for};
pub use readback::Readback;
pub(crate) use tier::{Tier, compiled_for_tiers};
