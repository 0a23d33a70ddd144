//! How a kernel is described, compiled once, and dispatched.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::device::{Device, GpuDevice};
use super::tier::Tier;
use super::timestamps::Queries;
use super::{Buffer, trusted};
use crate::Result;
use crate::profile::KernelRun;

/// What a shader binding is. Binding 0 is always the parameters; the buffers follow in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// `var<uniform>`: the parameters.
    Params,
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
}

/// A WGSL kernel as the host knows it. `tests/main/shaders.rs` checks it against the shader with naga.
#[derive(Debug)]
pub struct KernelSpec {
    /// File stem of the shader and name in messages.
    pub name: &'static str,
    /// The shader's own text; `common.wgsl` is put in front of it.
    pub source: &'static str,
    /// Bindings of group 0, in order.
    pub bindings: &'static [Binding],
    /// `@workgroup_size`.
    pub workgroup_size: [u32; 3],
    /// Size of the parameter struct in bytes.
    pub params_bytes: usize,
}

/// Functions that all shaders share.
pub const COMMON: &str = include_str!("../../shaders/common.wgsl");

/// The entry point of every shader.
pub const ENTRY_POINT: &str = "main";

impl KernelSpec {
    /// The whole WGSL text.
    pub fn wgsl(&self) -> String {
        format!("{COMMON}\n{}", self.source)
    }
}

/// A compiled kernel.
#[derive(Debug)]
pub(super) struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// Compiled kernels of a device, by name.
pub(super) type Pipelines = HashMap<&'static str, Arc<Pipeline>>;

/// How many workgroups of `size` cover `items`, folded into two dimensions where one is not enough. Shaders get the
/// flat index back with `flat_group` of `common.wgsl` and return early past the end.
pub fn groups_for(items: usize, size: u32) -> [u32; 3] {
    const MOST: u32 = 65535;
    let groups = items.div_ceil(size as usize).max(1) as u32;
    if groups <= MOST { [groups, 1, 1] } else { [MOST, groups.div_ceil(MOST), 1] }
}

/// Records kernels in order; on the Cpu device they run at once.
pub struct Recorder<'d> {
    device: &'d Device,
    encoder: Option<wgpu::CommandEncoder>,
    pass: Option<wgpu::ComputePass<'static>>,
    /// Multiplications recorded since the last submission.
    spent: u64,
    /// For the profile: the layer and the multiplications of the next kernel, and the times of those before.
    layer: Arc<str>,
    multiplications: u64,
    queries: Option<Queries>,
    /// Kernels that a rehearsal would have run.
    rehearsed: Option<Vec<&'static KernelSpec>>,
}

impl<'d> Recorder<'d> {
    pub(super) fn new(device: &'d Device) -> Self {
        let encoder = match device {
            Device::Gpu(gpu) => Some(gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())),
            Device::Cpu(_) => None,
        };
        Self::with(device, encoder, None)
    }

    /// Records nothing but which kernels there are.
    pub(super) fn rehearsal(device: &'d Device) -> Self {
        Self::with(device, None, Some(Vec::new()))
    }

    fn with(
        device: &'d Device,
        encoder: Option<wgpu::CommandEncoder>,
        rehearsed: Option<Vec<&'static KernelSpec>>,
    ) -> Self {
        let layer = Arc::default();
        Self { device, encoder, pass: None, spent: 0, layer, multiplications: 0, queries: None, rehearsed }
    }

    /// The kernels that a rehearsal recorded, each once.
    pub(super) fn into_specs(self) -> Vec<&'static KernelSpec> {
        self.rehearsed.unwrap_or_default()
    }

    /// Whether kernels must run their native function.
    pub fn is_native(&self) -> bool {
        matches!(self.device, Device::Cpu(_))
    }

    /// The instruction set of native functions.
    pub(crate) fn tier(&self) -> Tier {
        self.device.tier()
    }

    /// The device that is recorded for.
    pub fn device(&self) -> &'d Device {
        self.device
    }

    /// Names the layer that is recorded next, for the profile.
    pub fn layer(&mut self, name: &Arc<str>) {
        if self.device.profile().is_some() {
            self.layer = Arc::clone(name);
        }
    }

    /// Runs `work`, which calls the `dispatch` of the kernel called `name`, and tells that it does so many
    /// `multiplications` (0 where they are not worth counting). Systems kill a submission that keeps a GPU busy for
    /// seconds, so what was recorded is handed over as soon as it is a lot; it does not wait, and the order of the work stays.
    ///
    /// # Errors
    /// Those of `work`, or if the device failed.
    pub fn kernel(
        &mut self,
        name: &'static str,
        multiplications: u64,
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        match self.device.profile() {
            Some(profile) if self.is_native() => {
                let begin = profile.now();
                work(self)?;
                let run = KernelRun { kernel: name, layer: Arc::clone(&self.layer), multiplications };
                profile.kernel(run, begin, profile.now() - begin);
            }
            _ => {
                self.multiplications = multiplications;
                work(self)?;
                self.multiplications = 0;
            }
        }
        self.spend(multiplications)
    }

    /// Dispatches a kernel: `params` as the uniform, `buffers` as bindings 1, 2, …, over `groups` workgroups.
    ///
    /// # Errors
    /// If the kernel does not compile on this adapter.
    ///
    /// # Panics
    /// On the Cpu device, or if the arguments do not match `spec`: errors of the calling kernel.
    pub fn run<P: bytemuck::Pod>(
        &mut self,
        spec: &'static KernelSpec,
        params: &P,
        buffers: &[&Buffer],
        groups: [u32; 3],
    ) -> Result<()> {
        assert_eq!(buffers.len() + 1, spec.bindings.len(), "{}: number of bindings", spec.name);
        assert_eq!(size_of::<P>(), spec.params_bytes, "{}: size of the parameters", spec.name);
        let Device::Gpu(gpu) = self.device else { panic!("{}: no native function was called", spec.name) };
        if let Some(specs) = &mut self.rehearsed {
            if !specs.iter().any(|known| known.name == spec.name) {
                specs.push(spec);
            }
            return Ok(());
        }
        let pipeline = gpu.pipeline(spec)?;
        let uniform = gpu.uniform(bytemuck::bytes_of(params));
        let resources = std::iter::once(&uniform).chain(buffers.iter().map(|b| b.gpu()));
        let entries: Vec<wgpu::BindGroupEntry<'_>> = resources
            .enumerate()
            .map(|(i, buffer)| wgpu::BindGroupEntry { binding: i as u32, resource: buffer.as_entire_binding() })
            .collect();
        let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(spec.name),
            layout: &pipeline.layout,
            entries: &entries,
        });
        if gpu.timestamps.is_some() {
            self.begin_timed_pass(gpu, spec);
        } else if let (None, Some(encoder)) = (&self.pass, &mut self.encoder) {
            self.pass = Some(encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime());
        }
        if let Some(pass) = &mut self.pass {
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        }
        Ok(())
    }

    /// Begins a pass for one dispatch, with a timestamp before and after it.
    fn begin_timed_pass(&mut self, gpu: &GpuDevice, spec: &KernelSpec) {
        if self.queries.as_ref().is_some_and(Queries::is_full) {
            self.hand_over(gpu);
        }
        self.pass = None;
        // A kernel of several dispatches does its multiplications in the first, as far as the profile is concerned.
        let multiplications = std::mem::take(&mut self.multiplications);
        let run = KernelRun { kernel: spec.name, layer: Arc::clone(&self.layer), multiplications };
        let queries = self.queries.get_or_insert_with(|| Queries::new(&gpu.device));
        let descriptor =
            wgpu::ComputePassDescriptor { label: Some(spec.name), timestamp_writes: Some(queries.next(run)) };
        self.pass = self.encoder.as_mut().map(|encoder| encoder.begin_compute_pass(&descriptor).forget_lifetime());
    }

    /// Sets a buffer to zero.
    pub fn clear(&mut self, buffer: &Buffer) {
        self.pass = None;
        match (&mut self.encoder, self.device) {
            (Some(encoder), _) => encoder.clear_buffer(buffer.gpu(), 0, None),
            (None, Device::Cpu(_)) => buffer.host_mut().fill(0),
            (None, Device::Gpu(_)) => {}
        }
    }

    /// Counts multiplications, and hands over what was recorded when they are many.
    fn spend(&mut self, multiplications: u64) -> Result<()> {
        const MOST: u64 = 50_000_000_000;
        self.spent += multiplications;
        match self.device {
            Device::Gpu(gpu) if self.spent > MOST => {
                self.hand_over(gpu);
                gpu.check()
            }
            _ => Ok(()),
        }
    }

    /// Hands the recorded work to the device. It does not wait.
    ///
    /// # Errors
    /// If the device failed.
    pub fn submit(mut self) -> Result<()> {
        match self.device {
            Device::Gpu(gpu) => {
                self.hand_over(gpu);
                gpu.check()
            }
            Device::Cpu(_) => Ok(()),
        }
    }

    /// Submits what was recorded, and goes on with an empty encoder.
    fn hand_over(&mut self, gpu: &GpuDevice) {
        self.spent = 0;
        self.pass = None;
        if self.rehearsed.is_some() {
            return;
        }
        let next = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let Some(mut encoder) = self.encoder.replace(next) else { return };
        let timed = self.queries.take().map(|queries| queries.resolve(&gpu.device, &mut encoder));
        let at = gpu.timestamps.as_ref().map(|timestamps| timestamps.profile.now());
        gpu.queue.submit([encoder.finish()]);
        if let (Some(timestamps), Some(timed), Some(at)) = (&gpu.timestamps, timed, at) {
            timestamps.submitted(timed, at);
        }
    }
}

impl GpuDevice {
    /// The compiled kernel; compiles it the first time.
    fn pipeline(&self, spec: &'static KernelSpec) -> Result<Arc<Pipeline>> {
        let mut pipelines = self.pipelines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(pipeline) = pipelines.get(spec.name) {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(self.compile(spec));
        self.check().map_err(|e| e.at(format!("kernel {}", spec.name)))?;
        pipelines.insert(spec.name, pipeline.clone());
        Ok(pipeline)
    }

    /// Compiles those of `specs` that are not compiled yet, on all cores.
    pub(super) fn compile_all(&self, specs: &[&'static KernelSpec]) -> Result<()> {
        let _span = tracing::info_span!("compile kernels").entered();
        let lock = || self.pipelines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let missing: Vec<_> = {
            let known = lock();
            specs.iter().filter(|spec| !known.contains_key(spec.name)).collect()
        };
        let compiled: Vec<_> = missing.par_iter().map(|spec| (spec.name, Arc::new(self.compile(spec)))).collect();
        // The message names the kernel: it is the label of what failed.
        self.check()?;
        lock().extend(compiled);
        Ok(())
    }

    fn compile(&self, spec: &KernelSpec) -> Pipeline {
        let entries: Vec<wgpu::BindGroupLayoutEntry> = spec
            .bindings
            .iter()
            .enumerate()
            .map(|(i, binding)| wgpu::BindGroupLayoutEntry {
                binding: i as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match binding {
                        Binding::Params => wgpu::BufferBindingType::Uniform,
                        Binding::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Binding::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(spec.name), entries: &entries });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(spec.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(spec.name),
            source: wgpu::ShaderSource::Wgsl(spec.wgsl().into()),
        };
        let module = if self.checked {
            self.device.create_shader_module(descriptor)
        } else {
            trusted::unchecked_module(&self.device, descriptor)
        };
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(spec.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(ENTRY_POINT),
            // Kernels that use workgroup memory set it themselves.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: self.checked,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }
}
