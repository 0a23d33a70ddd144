//! Which adapters there are, and which one a user means.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Term, text};
use crate::{Error, Result};

/// Which device is meant. As text: `auto`, `cpu`, `software`, or else the name or index of an
/// adapter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A hardware GPU where there is one, else the Cpu device.
    #[default]
    Auto,
    /// The native Cpu device.
    Cpu,
    /// A software adapter: the WGSL kernels on lavapipe, WARP or the like.
    Software,
    /// The adapter with this index in [`Device::adapters`](super::Device::adapters), or whose name
    /// contains this text.
    Named(String),
}

impl FromStr for DeviceChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "software" => Self::Software,
            name => Self::Named(name.to_owned()),
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Software => "software",
            Self::Named(name) => name,
        })
    }
}

/// Which graphics interfaces are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backends {
    /// Every one this platform has.
    #[default]
    All,
    /// Vulkan.
    Vulkan,
    /// Metal.
    Metal,
    /// Direct3D 12.
    Dx12,
    /// OpenGL (ES).
    Gl,
}

impl Backends {
    fn to_wgpu(self) -> wgpu::Backends {
        match self {
            // OpenGL shows the same hardware once more, with fewer features; it is there for those
            // who name it.
            Self::All => wgpu::Backends::PRIMARY,
            Self::Vulkan => wgpu::Backends::VULKAN,
            Self::Metal => wgpu::Backends::METAL,
            Self::Dx12 => wgpu::Backends::DX12,
            Self::Gl => wgpu::Backends::GL,
        }
    }
}

/// An adapter, with the limits and features that matter here.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterInfo {
    /// Its place in the list, by which [`DeviceChoice::Named`] takes it too.
    pub index: usize,
    /// Name of the hardware.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Driver and version.
    pub driver: String,
    /// Largest storage buffer a kernel can bind, bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Memory that a workgroup shares, bytes.
    pub workgroup_memory_bytes: u32,
    /// Invocations in a workgroup.
    pub max_workgroup_size: u32,
    /// Least and greatest subgroup size; none where subgroups are not offered.
    pub subgroup_size: Option<[u32; 2]>,
    /// Whether half floats can be used in kernels.
    pub f16: bool,
    /// Whether kernels can be timed.
    pub timestamps: bool,
}

impl AdapterInfo {
    /// Whether it is software.
    pub fn is_software(&self) -> bool {
        self.kind == "software"
    }
}

/// A wgpu adapter and what is known of it.
pub(super) struct Found {
    pub(super) adapter: wgpu::Adapter,
    pub(super) info: AdapterInfo,
}

/// Every adapter that can run compute shaders, in a stable order.
pub(super) async fn enumerate(backends: Backends) -> Vec<Found> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends.to_wgpu();
    let instance = wgpu::Instance::new(descriptor);
    let mut found: Vec<Found> = instance
        .enumerate_adapters(backends.to_wgpu())
        .await
        .into_iter()
        .filter(|a| a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS))
        .map(|adapter| Found { info: describe(&adapter), adapter })
        .collect();
    for (index, item) in found.iter_mut().enumerate() {
        item.info.index = index;
    }
    found
}

fn describe(adapter: &wgpu::Adapter) -> AdapterInfo {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "other",
    };
    AdapterInfo {
        index: 0,
        name: info.name,
        backend: info.backend.to_string(),
        kind: kind.to_owned(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
        max_workgroup_size: limits.max_compute_invocations_per_workgroup,
        subgroup_size: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some([info.subgroup_min_size, info.subgroup_max_size]),
        f16: features.contains(wgpu::Features::SHADER_F16),
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
    }
}

/// Finds the adapter that `choice` means; none: the Cpu device. The text says why.
pub(super) async fn select(choice: &DeviceChoice, backends: Backends) -> Result<(Option<Found>, String)> {
    let found = match choice {
        DeviceChoice::Cpu => return Ok((None, "asked for".into())),
        _ => enumerate(backends).await,
    };
    let names = || list(&found);
    match choice {
        DeviceChoice::Cpu => unreachable!("returned above"),
        DeviceChoice::Auto => {
            let rank = |f: &Found| match f.info.kind.as_str() {
                "discrete" => 0,
                "integrated" => 1,
                "virtual" => 2,
                "other" => 3,
                _ => 4,
            };
            let why_not = if found.is_empty() {
                "no GPU adapter was found".to_owned()
            } else {
                "only software adapters were found, and native code is faster".to_owned()
            };
            match found.into_iter().filter(|f| rank(f) < 4).min_by_key(rank) {
                Some(best) => Ok((Some(best), "the hardware GPU".into())),
                None => Ok((None, why_not)),
            }
        }
        DeviceChoice::Software => {
            let list = names();
            match found.into_iter().find(|f| f.info.is_software()) {
                Some(software) => Ok((Some(software), "asked for".into())),
                None => Err(Error::device(format!("there is no software adapter ({list})")).hint(text![
                    "on Debian or Ubuntu: apt-get install mesa-vulkan-drivers; or run with ",
                    Term::CpuDevice
                ])),
            }
        }
        DeviceChoice::Named(name) => {
            let list = names();
            let by_index = name.parse::<usize>().ok();
            let wanted = name.to_lowercase();
            // `4090` may be an index or a part of a name.
            let place = found.iter().position(|f| by_index == Some(f.info.index)).or_else(|| {
                found.iter().position(|f| !wanted.is_empty() && f.info.name.to_lowercase().contains(&wanted))
            });
            match place.and_then(|place| found.into_iter().nth(place)) {
                Some(hit) => Ok((Some(hit), "asked for".into())),
                None => Err(Error::device(format!("no adapter is called or numbered `{name}` ({list})")).hint(text![
                    Term::Devices,
                    " lists them; ",
                    Term::CpuDevice,
                    " needs none"
                ])),
            }
        }
    }
}

fn list(found: &[Found]) -> String {
    if found.is_empty() {
        return "no adapter was found".into();
    }
    let names: Vec<String> = found.iter().map(|f| format!("{}: {}", f.info.index, f.info.name)).collect();
    format!("found {}", names.join(", "))
}
