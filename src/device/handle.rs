//! A device: an opened wgpu adapter, or native code on the Cpu.

use super::adapters::{self, AdapterInfo, Backends, DeviceChoice};
use super::buffer::Buffer;
use super::gpu::GpuDevice;
use super::info::DeviceInfo;
use super::native::NativeDevice;
use super::options::DeviceOptions;
use super::tier::Tier;
use crate::error::{Term, text};
use crate::profile::Profile;
use crate::{Error, Result};

/// Runs kernels and holds their buffers: a wgpu adapter, or native code on all cores (the Cpu
/// device).
///
/// It is `Send` and `Sync`, and several work at once in one process. Dropping it, and what was made
/// with it, frees everything. A device that is lost or runs out of memory is an error of the call
/// that noticed; wgpu reports a lost device by a panic, which is caught, but a message of it goes
/// where the process's panic hook sends it.
#[derive(Debug)]
pub struct Device(pub(super) Inner);

/// Which of the two it is.
#[derive(Debug)]
pub(super) enum Inner {
    /// Native code, parallel over all cores.
    Cpu(NativeDevice),
    /// A wgpu adapter.
    Gpu(Box<GpuDevice>),
}

impl Device {
    /// Opens the device that `options` mean.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) where there is no such adapter, it cannot be
    /// opened, or it cannot time kernels and should.
    pub fn open(options: &DeviceOptions) -> Result<Self> {
        pollster::block_on(Self::open_async(options))
    }

    /// As [`Device::open`], without blocking.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn open_async(options: &DeviceOptions) -> Result<Self> {
        let DeviceOptions { choice, backends, instructions, checks, profile } = options;
        let native = |reason: String, profile| {
            Self(Inner::Cpu(NativeDevice::new(Tier::best_within(*instructions), reason, profile)))
        };
        let (found, reason) = adapters::select(choice, *backends).await?;
        let Some(found) = found else { return Ok(native(reason, profile.clone())) };
        match GpuDevice::open(&found, reason, *checks, profile.clone()).await {
            Ok(gpu) => Ok(Self(Inner::Gpu(Box::new(gpu)))),
            Err(e) if *choice == DeviceChoice::Auto && profile.is_none() => Ok(native(e.to_string(), None)),
            Err(e) => Err(e),
        }
    }

    /// The Cpu device, with the best instructions that the processor has.
    pub fn cpu() -> Self {
        Self(Inner::Cpu(NativeDevice::new(Tier::best_within(None), "asked for".into(), None)))
    }

    /// Opens every adapter of `options.backends`, and before them the Cpu device with each
    /// instruction set that the processor has and `options` allow, the fastest first: for tests.
    /// What does not open is in the list as the error it gave; `options.choice` and
    /// `options.profile` are not looked at.
    pub fn all(options: &DeviceOptions) -> Vec<Result<Self>> {
        pollster::block_on(async {
            let tiers = Tier::within(options.instructions).into_iter();
            let native = tiers.map(|tier| Ok(Self(Inner::Cpu(NativeDevice::new(tier, "listed".into(), None)))));
            let mut devices: Vec<Result<Self>> = native.collect();
            for found in adapters::enumerate(options.backends).await {
                let opened = GpuDevice::open(&found, "listed".into(), options.checks, None).await;
                let device = opened.map(|gpu| Self(Inner::Gpu(Box::new(gpu))));
                devices.push(device.map_err(|e| e.at(&found.info.name)));
            }
            devices
        })
    }

    /// Every adapter that can run compute shaders, in a stable order: graphics cards, and software
    /// that stands in for one.
    ///
    /// ```
    /// use repquant::{Device, options::Backends};
    ///
    /// for adapter in Device::adapters(Backends::All) {
    ///     println!("{}: {} ({})", adapter.index, adapter.name, adapter.backend);
    /// }
    /// ```
    pub fn adapters(backends: Backends) -> Vec<AdapterInfo> {
        let found = pollster::block_on(adapters::enumerate(backends));
        found.into_iter().map(|found| found.info).collect()
    }

    /// What it is.
    pub fn info(&self) -> &DeviceInfo {
        match &self.0 {
            Inner::Cpu(native) => &native.info,
            Inner::Gpu(gpu) => &gpu.info,
        }
    }

    /// Who is told how long kernels take, if anybody.
    pub(super) fn profile(&self) -> Option<&Profile> {
        match &self.0 {
            Inner::Cpu(native) => native.profile.as_deref(),
            Inner::Gpu(gpu) => gpu.profile(),
        }
    }

    /// Whether it is the Cpu device.
    pub fn is_native(&self) -> bool {
        matches!(self.0, Inner::Cpu(_))
    }

    /// The instruction set of the Cpu device's kernels; an adapter has no use for one.
    pub(crate) fn tier(&self) -> Tier {
        match &self.0 {
            Inner::Cpu(native) => native.tier,
            Inner::Gpu(_) => Tier::Plain,
        }
    }

    /// The adapter; none: the Cpu device.
    pub fn adapter(&self) -> Option<&AdapterInfo> {
        match &self.0 {
            Inner::Cpu(_) => None,
            Inner::Gpu(gpu) => Some(&gpu.adapter),
        }
    }

    /// Largest buffer a kernel can bind, in words. Shaders count words in 32 bits.
    pub(crate) fn max_words(&self) -> usize {
        match &self.0 {
            Inner::Cpu(_) => usize::MAX / 8,
            Inner::Gpu(gpu) => {
                let words = gpu.adapter.max_binding_bytes.min(gpu.adapter.max_buffer_bytes) / 4;
                words.min(u32::MAX.into()) as usize
            }
        }
    }

    /// A zeroed buffer of `words` 32-bit words (at least one is allocated).
    ///
    /// # Errors
    /// If it is larger than the adapter's limit, or memory ran out.
    pub(crate) fn alloc(&self, words: usize, label: &str) -> Result<Buffer> {
        if words > self.max_words() {
            return Err(Error::device(format!(
                "{label}: {words} words do not fit the adapter's limit of {} for one buffer",
                self.max_words()
            ))
            .hint(text!["a smaller ", Term::BatchSize, ", or ", Term::CpuDevice, ", needs less"]));
        }
        match &self.0 {
            Inner::Cpu(_) => {
                let mut memory = Vec::new();
                memory.try_reserve_exact(words).map_err(|e| {
                    Error::device(format!("no memory for {} MiB", words >> 18)).because(e).at(label).hint(text![
                        "a smaller ",
                        Term::BatchSize,
                        ", or a smaller input size, needs less"
                    ])
                })?;
                memory.resize(words, 0);
                Ok(Buffer::on_host(memory))
            }
            Inner::Gpu(gpu) => Ok(Buffer::on_adapter(gpu.storage(4 * words.max(1) as u64, label)?, words)),
        }
    }

    /// A buffer that holds `words`.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub(crate) fn upload(&self, words: &[u32], label: &str) -> Result<Buffer> {
        #[cfg(test)]
        let words = super::short::cut(words, label);
        let buffer = self.alloc(words.len(), label)?;
        self.write(&buffer, words)?;
        Ok(buffer)
    }

    /// Overwrites the first words of a buffer, before any work submitted later.
    ///
    /// # Errors
    /// If `words` is longer than the buffer, or the buffer is one of another device.
    pub(crate) fn write(&self, buffer: &Buffer, words: &[u32]) -> Result<()> {
        if words.len() > buffer.len() {
            return Err(Error::device(format!("{} words into a buffer of {}", words.len(), buffer.len())));
        }
        match (&self.0, buffer.gpu()) {
            (Inner::Cpu(_), None) => buffer.host_mut()[..words.len()].copy_from_slice(words),
            (Inner::Gpu(gpu), Some(buffer)) => gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(words)),
            _ => return Err(Error::device("a buffer of another device cannot be written")),
        }
        Ok(())
    }

    /// Waits until all work submitted so far is done, and in the profile where there is one.
    ///
    /// # Errors
    /// If the device failed or does not answer.
    pub fn wait(&self) -> Result<()> {
        match &self.0 {
            Inner::Cpu(_) => Ok(()),
            Inner::Gpu(gpu) => gpu.wait(None),
        }
    }
}
