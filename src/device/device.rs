//! A device: an opened wgpu adapter, or native code on the Cpu.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::adapters::{self, Backends, DeviceChoice};
use super::buffer::Storage;
use super::kernel::{Pipelines, Recorder};
use super::tier::Tier;
use super::timestamps::Timestamps;
use super::{AdapterInfo, Buffer};
use crate::profile::Profile;
use crate::{Error, Result};

/// A GPU that has not answered for this long is taken for lost.
const PATIENCE: Duration = Duration::from_mins(5);

/// Software adapters are a thousand times slower than GPUs and do not get lost.
const SOFTWARE_PATIENCE: Duration = Duration::from_hours(24);

/// Set to 1, kernels keep wgpu's bounds checks, loop bounding and zeroed workgroup memory.
const CHECKS_VARIABLE: &str = "REPQUANT_SHADER_CHECKS";

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

/// Runs kernels and holds their buffers.
#[derive(Debug)]
pub enum Device {
    /// Native code, parallel over all cores.
    Cpu(NativeDevice),
    /// A wgpu adapter.
    Gpu(Box<GpuDevice>),
}

/// The Cpu device.
#[derive(Debug)]
pub struct NativeDevice {
    info: DeviceInfo,
    tier: Tier,
    profile: Option<Arc<Profile>>,
}

/// An opened wgpu adapter.
#[derive(Debug)]
pub struct GpuDevice {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) pipelines: Mutex<Pipelines>,
    pub(super) checked: bool,
    /// Where kernels are timed, if they are.
    pub(super) timestamps: Option<Timestamps>,
    info: DeviceInfo,
    adapter: AdapterInfo,
    failure: Arc<Mutex<Option<String>>>,
}

impl Device {
    /// Opens the device that `choice` means.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) where there is no such adapter or it cannot be opened;
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) where `REPQUANT_CPU` names no instruction set.
    pub fn open(choice: &DeviceChoice, backends: Backends) -> Result<Self> {
        Self::open_with(choice, backends, None)
    }

    /// As [`Device::open`]; every kernel's time goes to `profile`. An adapter runs each dispatch in a pass of its own then,
    /// which costs a little.
    ///
    /// # Errors
    /// As [`Device::open`], or where the adapter cannot time kernels.
    pub fn open_profiled(choice: &DeviceChoice, backends: Backends, profile: Arc<Profile>) -> Result<Self> {
        Self::open_with(choice, backends, Some(profile))
    }

    fn open_with(choice: &DeviceChoice, backends: Backends, profile: Option<Arc<Profile>>) -> Result<Self> {
        let tier = Tier::all()?[0];
        let (found, reason) = adapters::select(choice, backends)?;
        match found {
            Some(found) => {
                let checked = std::env::var(CHECKS_VARIABLE).is_ok_and(|v| v == "1");
                match GpuDevice::open(&found.adapter, found.info, reason, checked, profile.clone()) {
                    Ok(gpu) => Ok(Self::Gpu(Box::new(gpu))),
                    Err(e) if *choice == DeviceChoice::Auto && profile.is_none() => {
                        Ok(Self::native(tier, e.to_string(), None))
                    }
                    Err(e) => Err(e),
                }
            }
            None => Ok(Self::native(tier, reason, profile)),
        }
    }

    /// The Cpu device. A wrong `REPQUANT_CPU` counts as none: [`Device::open`] refuses it.
    pub fn cpu() -> Self {
        let tier = Tier::all().map_or_else(|_| Tier::best(), |tiers| tiers[0]);
        Self::native(tier, "asked for".into(), None)
    }

    fn native(tier: Tier, reason: String, profile: Option<Arc<Profile>>) -> Self {
        let name = format!("{} on {} threads", tier.code(), rayon::current_num_threads());
        let info = DeviceInfo { name, backend: "native".into(), kind: DeviceKind::Cpu, reason };
        Self::Cpu(NativeDevice { info, tier, profile })
    }

    /// Opens every adapter, and before them the Cpu device with each instruction set that the processor has, the fastest
    /// first: for `verify` and tests. What does not open is in the list as the error it gave.
    pub fn all(backends: Backends) -> Vec<Result<Self>> {
        let gpus = adapters::enumerate(backends).into_iter().map(|found| {
            let checked = std::env::var(CHECKS_VARIABLE).is_ok_and(|v| v == "1");
            let name = found.info.name.clone();
            GpuDevice::open(&found.adapter, found.info, "listed".into(), checked, None)
                .map(|gpu| Self::Gpu(Box::new(gpu)))
                .map_err(|e| e.at(name))
        });
        let native = match Tier::all() {
            Ok(tiers) => tiers.into_iter().map(|tier| Ok(Self::native(tier, "listed".into(), None))).collect(),
            Err(e) => vec![Err(e)],
        };
        native.into_iter().chain(gpus).collect()
    }

    /// What it is.
    pub fn info(&self) -> &DeviceInfo {
        match self {
            Self::Cpu(native) => &native.info,
            Self::Gpu(gpu) => &gpu.info,
        }
    }

    /// Who is told how long kernels take, if anybody.
    pub(super) fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Cpu(native) => native.profile.as_deref(),
            Self::Gpu(gpu) => gpu.timestamps.as_ref().map(|timestamps| &*timestamps.profile),
        }
    }

    /// Whether it is the Cpu device.
    pub fn is_native(&self) -> bool {
        matches!(self, Self::Cpu(_))
    }

    /// The instruction set of the Cpu device's kernels; an adapter has no use for one.
    pub(crate) fn tier(&self) -> Tier {
        match self {
            Self::Cpu(native) => native.tier,
            Self::Gpu(_) => Tier::Plain,
        }
    }

    /// The adapter; none: the Cpu device.
    pub fn adapter(&self) -> Option<&AdapterInfo> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu(gpu) => Some(&gpu.adapter),
        }
    }

    /// Largest buffer a kernel can bind, in words.
    pub fn max_words(&self) -> usize {
        match self {
            Self::Cpu(_) => usize::MAX / 8,
            Self::Gpu(gpu) => {
                (gpu.adapter.max_binding_bytes.min(gpu.adapter.max_buffer_bytes) / 4).try_into().unwrap_or(usize::MAX)
            }
        }
    }

    /// A zeroed buffer of `words` 32-bit words (at least one is allocated).
    ///
    /// # Errors
    /// If it is larger than the adapter's limit, or memory ran out.
    pub fn alloc(&self, words: usize, label: &str) -> Result<Buffer> {
        if words > self.max_words() {
            return Err(Error::device(format!(
                "{label}: {words} words do not fit the adapter's limit of {} for one buffer",
                self.max_words()
            ))
            .hint("a smaller --batch-size, or --device cpu, needs less"));
        }
        let storage = match self {
            Self::Cpu(_) => {
                let mut memory = Vec::new();
                memory.try_reserve_exact(words).map_err(|e| {
                    Error::device(format!("no memory for {} MiB", words >> 18))
                        .because(e)
                        .at(label)
                        .hint("a smaller --batch-size, or a smaller input size, needs less")
                })?;
                memory.resize(words, 0);
                Storage::Host(RefCell::new(memory))
            }
            Self::Gpu(gpu) => {
                let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(label),
                    size: 4 * words.max(1) as u64,
                    usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                });
                gpu.check().map_err(|e| e.at(label))?;
                Storage::Gpu(buffer)
            }
        };
        Ok(Buffer { words, storage })
    }

    /// A buffer that holds `words`.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn upload(&self, words: &[u32], label: &str) -> Result<Buffer> {
        let buffer = self.alloc(words.len(), label)?;
        self.write(&buffer, words);
        Ok(buffer)
    }

    /// Overwrites the first words of a buffer, before any work submitted later.
    ///
    /// # Panics
    /// If `words` is longer than the buffer.
    pub fn write(&self, buffer: &Buffer, words: &[u32]) {
        assert!(words.len() <= buffer.len(), "{} words into a buffer of {}", words.len(), buffer.len());
        match self {
            Self::Cpu(_) => buffer.host_mut()[..words.len()].copy_from_slice(words),
            Self::Gpu(gpu) => gpu.queue.write_buffer(buffer.gpu(), 0, bytemuck::cast_slice(words)),
        }
    }

    /// Waits until all work submitted so far is done, and in the profile where there is one.
    ///
    /// # Errors
    /// If the device failed or does not answer.
    pub fn wait(&self) -> Result<()> {
        match self {
            Self::Cpu(_) => Ok(()),
            Self::Gpu(gpu) => gpu.wait(None),
        }
    }

    /// Compiles the kernels that `record` records, in parallel: nothing is run. Later recordings find them ready; a kernel
    /// that was not among them is compiled when it is first recorded. The Cpu device has nothing to compile.
    ///
    /// # Errors
    /// Those of `record`, or if a kernel does not compile on this adapter.
    pub fn prepare(&self, record: impl FnOnce(&mut Recorder<'_>) -> Result<()>) -> Result<()> {
        let Self::Gpu(gpu) = self else { return Ok(()) };
        let mut rehearsal = Recorder::rehearsal(self);
        record(&mut rehearsal)?;
        gpu.compile_all(&rehearsal.into_specs())
    }

    /// Begins to record work.
    pub fn recorder(&self) -> Recorder<'_> {
        Recorder::new(self)
    }
}

impl GpuDevice {
    fn open(
        adapter: &wgpu::Adapter,
        info: AdapterInfo,
        reason: String,
        checked: bool,
        profile: Option<Arc<Profile>>,
    ) -> Result<Self> {
        if profile.is_some() && !info.timestamps {
            return Err(Error::device(format!("{} cannot time its kernels: it has no timestamp queries", info.name))
                .hint("leave out --profile, or profile on another device; --device cpu always can"));
        }
        let timing = if profile.is_some() { wgpu::Features::TIMESTAMP_QUERY } else { wgpu::Features::empty() };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("repquant"),
            required_features: timing,
            // The defaults are far below what adapters offer: 128 MiB for a binding, 16 KiB of workgroup memory.
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).map_err(|e| {
            Error::device(format!("{} could not be opened", info.name)).because(e).hint("--device cpu needs no adapter")
        })?;
        let failure = Arc::new(Mutex::new(None));
        // wgpu's default is to panic; here the first failure is kept and returned by the next call that can fail.
        let keep = |text: String, slot: &Mutex<Option<String>>| {
            slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        };
        let slot = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| keep(error.to_string(), &slot)));
        let slot = failure.clone();
        device.set_device_lost_callback(move |why, text| {
            if why != wgpu::DeviceLostReason::Destroyed {
                keep(format!("the device was lost: {text}"), &slot);
            }
        });
        let kind = if info.is_software() { DeviceKind::Cpu } else { DeviceKind::Gpu };
        let described = DeviceInfo { name: info.name.clone(), backend: info.backend.clone(), kind, reason };
        let timestamps = profile.map(|profile| Timestamps::new(profile, queue.get_timestamp_period()));
        let pipelines = Mutex::default();
        Ok(Self { device, queue, pipelines, checked, timestamps, info: described, adapter: info, failure })
    }

    /// Returns the first failure since the last check.
    pub(super) fn check(&self) -> Result<()> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(text) => Err(Error::device(format!("{} failed: {text}", self.info.name))
                .hint("a smaller --batch-size may help; --device cpu needs no adapter")),
        }
    }

    /// A uniform buffer with these bytes.
    pub(super) fn uniform(&self, bytes: &[u8]) -> wgpu::Buffer {
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: bytes.len() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// What it is.
    pub(super) fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Waits for one submission, or for all.
    pub(super) fn wait(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let _span = tracing::info_span!("wait for the device").entered();
        let patience = if self.adapter.is_software() { SOFTWARE_PATIENCE } else { PATIENCE };
        let wait = wgpu::PollType::Wait { submission_index, timeout: Some(patience) };
        match quietly(|| self.device.poll(wait)) {
            Some(Ok(_)) => {
                if let Some(timestamps) = &self.timestamps {
                    timestamps.collect();
                }
                self.check()
            }
            Some(Err(e)) => {
                Err(Error::device(format!("{} did not finish in {} s", self.info.name, patience.as_secs()))
                    .because(e)
                    .hint("a smaller --batch-size makes each step shorter"))
            }
            None => {
                self.check()?;
                Err(Error::device(format!("{} was lost", self.info.name))
                    .hint("a smaller --batch-size may help; --device cpu needs no adapter"))
            }
        }
    }
}

/// Runs `call`, which panics where the device was lost: `wgpu::Device::poll` has no other way to say so. None then, and
/// nothing on stderr; the caller makes an error of it.
fn quietly<T>(call: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    std::panic::set_hook(hook);
    result.ok()
}
