//! An opened wgpu adapter: its queue, its compiled shaders, its failures.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::adapters::{AdapterInfo, Found};
use super::info::{DeviceInfo, DeviceKind};
use super::shader::{Pipeline, Pipelines, Shader};
use super::timestamps::Timestamps;
use crate::error::{Term, text};
use crate::profile::Profile;
use crate::{Error, Result};

/// A GPU that has not answered for this long is taken for lost.
const PATIENCE: Duration = Duration::from_mins(5);

/// Software adapters are a thousand times slower than GPUs and do not get lost.
const SOFTWARE_PATIENCE: Duration = Duration::from_hours(24);

/// An opened wgpu adapter.
#[derive(Debug)]
pub(super) struct GpuDevice {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) pipelines: Pipelines,
    /// Where kernels are timed, if they are.
    pub(super) timestamps: Option<Timestamps>,
    pub(super) info: DeviceInfo,
    pub(super) adapter: AdapterInfo,
    failure: Arc<Mutex<Option<String>>>,
}

impl GpuDevice {
    /// Opens an adapter; `reason` says why it was chosen, `checks` whether shaders keep their
    /// runtime checks.
    pub(super) async fn open(
        found: &Found,
        reason: String,
        checks: bool,
        profile: Option<Arc<Profile>>,
    ) -> Result<Self> {
        let (adapter, info) = (&found.adapter, found.info.clone());
        if profile.is_some() && !info.timestamps {
            return Err(Error::device(format!("{} cannot time its kernels: it has no timestamp queries", info.name))
                .hint(text![
                    "leave out ",
                    Term::Profile,
                    ", or profile on another device; ",
                    Term::CpuDevice,
                    " always can"
                ]));
        }
        let timing = if profile.is_some() { wgpu::Features::TIMESTAMP_QUERY } else { wgpu::Features::empty() };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("repquant"),
            required_features: timing,
            // The defaults are far below what adapters offer: 128 MiB for a binding, 16 KiB of
            // workgroup memory.
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| {
            Error::device(format!("{} could not be opened", info.name))
                .because(e)
                .hint(text![Term::CpuDevice, " needs no adapter"])
        })?;
        let failure = Arc::new(Mutex::new(None));
        // wgpu's default is to panic; here the first failure is kept and returned by the next call
        // that can fail.
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
        let pipelines = Pipelines::new(checks);
        Ok(Self { device, queue, pipelines, timestamps, info: described, adapter: info, failure })
    }

    /// Who is told how long kernels take, if anybody.
    pub(super) fn profile(&self) -> Option<&Profile> {
        self.timestamps.as_ref().map(|timestamps| &*timestamps.profile)
    }

    /// Returns the first failure since the last check.
    pub(super) fn check(&self) -> Result<()> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(text) => Err(Error::device(format!("{} failed: {text}", self.info.name)).hint(text![
                "a smaller ",
                Term::BatchSize,
                " may help; ",
                Term::CpuDevice,
                " needs no adapter"
            ])),
        }
    }

    /// The compiled shader; compiles it the first time.
    pub(super) fn pipeline(&self, shader: &'static Shader) -> Result<Arc<Pipeline>> {
        if let Some(pipeline) = self.pipelines.get(shader) {
            return Ok(pipeline);
        }
        let pipeline = Arc::new(self.pipelines.compile(&self.device, shader));
        self.check().map_err(|e| e.at(format!("kernel {}", shader.name())))?;
        self.pipelines.insert(shader, pipeline.clone());
        Ok(pipeline)
    }

    /// A buffer of so many bytes that kernels can use.
    pub(super) fn storage(&self, bytes: u64, label: &str) -> Result<wgpu::Buffer> {
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.check().map_err(|e| e.at(label))?;
        Ok(buffer)
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

    /// Waits for one submission, or for all.
    ///
    /// On a browser nothing can wait: there `poll` returns at once, and whoever awaits a result is
    /// woken by its callback.
    pub(super) fn wait(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let _span = tracing::info_span!("wait for the device").entered();
        let patience = if self.adapter.is_software() { SOFTWARE_PATIENCE } else { PATIENCE };
        let wait = wgpu::PollType::Wait { submission_index, timeout: Some(patience) };
        // wgpu panics where the device is lost: it has no other way to say so. The panic ends here and becomes an error;
        // what it prints is up to the hook of the process, which is no business of a library.
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.device.poll(wait)));
        match polled {
            Ok(Ok(_)) => {
                if let Some(timestamps) = &self.timestamps {
                    timestamps.collect();
                }
                self.check()
            }
            Ok(Err(e)) => Err(Error::device(format!("{} did not finish in {} s", self.info.name, patience.as_secs()))
                .because(e)
                .hint(text!["a smaller ", Term::BatchSize, " makes each step shorter"])),
            Err(_) => {
                self.check()?;
                Err(Error::device(format!("{} was lost", self.info.name)).hint(text![
                    "a smaller ",
                    Term::BatchSize,
                    " may help; ",
                    Term::CpuDevice,
                    " needs no adapter"
                ]))
            }
        }
    }
}
