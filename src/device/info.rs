//! What a device is, for reports.

use serde::Serialize;

/// Where a device's work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Processor cores: the Cpu device, or a software adapter.
    Cpu,
    /// A GPU.
    Gpu,
}

/// What a device is, for reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// Its name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12`, `gl`; `native` for the Cpu device.
    pub backend: String,
    /// Where the work is done.
    #[serde(rename = "type")]
    pub kind: DeviceKind,
    /// Why it was chosen.
    #[serde(skip)]
    pub reason: String,
}
