//! Work in order: kernels are recorded here, checked, and handed to the device.

use std::sync::Arc;

use rayon::prelude::*;

use super::buffer::Buffer;
use super::gpu::GpuDevice;
use super::handle::{Device, Inner};
use super::kernel::{Bound, Dispatch, Kernel, checked};
use super::native::NativeDevice;
use super::shader::Shader;
use super::timestamps::Queries;
use crate::profile::{KernelRun, Profile};
use crate::{Error, Result};

/// Multiplications of a submission, at most: systems kill one that keeps a GPU busy for seconds.
const MOST_MULTIPLICATIONS: u64 = 50_000_000_000;

/// Records kernels in order; on the Cpu device they run at once.
pub struct Recorder<'d> {
    device: &'d Device,
    target: Target<'d>,
    /// For the profile: the layer that is recorded.
    layer: Arc<str>,
}

/// Where the work goes.
enum Target<'d> {
    Native(&'d NativeDevice),
    Adapter(Box<Submission<'d>>),
    /// Nothing is done; the shaders that would be, each once.
    Rehearsal(Vec<&'static Shader>),
}

/// What is recorded for an adapter and was not handed over yet.
struct Submission<'d> {
    gpu: &'d GpuDevice,
    encoder: wgpu::CommandEncoder,
    pass: Option<wgpu::ComputePass<'static>>,
    multiplications: u64,
    queries: Option<Queries>,
}

impl Device {
    /// Begins to record work.
    pub fn recorder(&self) -> Recorder<'_> {
        let target = match &self.0 {
            Inner::Cpu(native) => Target::Native(native),
            Inner::Gpu(gpu) => Target::Adapter(Box::new(Submission::new(gpu))),
        };
        Recorder { device: self, target, layer: Arc::default() }
    }

    /// Compiles the shaders that `record` records, in parallel: nothing is run. Later recordings
    /// find them ready; one that was not among them is compiled when it is first recorded. The Cpu
    /// device has nothing to compile.
    ///
    /// # Errors
    /// Those of `record`, or if a shader does not compile on this adapter.
    pub(crate) fn prepare(&self, record: impl FnOnce(&mut Recorder<'_>) -> Result<()>) -> Result<()> {
        let Inner::Gpu(gpu) = &self.0 else { return Ok(()) };
        let mut recorder = Recorder { device: self, target: Target::Rehearsal(Vec::new()), layer: Arc::default() };
        record(&mut recorder)?;
        let Target::Rehearsal(shaders) = recorder.target else { return Ok(()) };
        let _span = tracing::info_span!("compile kernels").entered();
        let missing: Vec<_> = shaders.into_iter().filter(|shader| gpu.pipelines.get(shader).is_none()).collect();
        let compile = |shader: &&'static Shader| (*shader, Arc::new(gpu.pipelines.compile(&gpu.device, shader)));
        let compiled: Vec<_> = missing.par_iter().map(compile).collect();
        // The message names the shader: it is the label of what failed.
        gpu.check()?;
        for (shader, pipeline) in compiled {
            gpu.pipelines.insert(shader, pipeline);
        }
        Ok(())
    }
}

impl Recorder<'_> {
    /// Names the layer that is recorded next, for the profile.
    pub(crate) fn layer(&mut self, name: &Arc<str>) {
        if self.device.profile().is_some() {
            self.layer = Arc::clone(name);
        }
    }

    /// Runs a kernel: the only way to do so. Its arguments and buffers are checked first, so that
    /// no shader reads or writes outside of them. On an adapter the work is recorded; what was
    /// recorded is handed over as soon as it is a lot, in order, without waiting.
    ///
    /// # Errors
    /// Arguments that do not suit each other or buffers that are too short, naming the kernel: then
    /// nothing is run. A shader that does not compile on this adapter, or a device that failed.
    pub(crate) fn run<K: Kernel>(&mut self, kernel: &K) -> Result<()> {
        let buffers = checked(kernel, self.device)?;
        let mut dispatches = kernel.dispatches().peekable();
        if dispatches.peek().is_none() {
            return Ok(());
        }
        match &mut self.target {
            Target::Native(native) => {
                let begin = native.profile.as_ref().map(|profile| profile.now());
                kernel.native(native.tier)?;
                if let (Some(profile), Some(begin)) = (&native.profile, begin) {
                    let run = run(kernel.name(), &self.layer, kernel.multiplications());
                    profile.kernel(run, begin, profile.now() - begin);
                }
                Ok(())
            }
            Target::Rehearsal(shaders) => {
                for Dispatch { shader, .. } in dispatches {
                    if !shaders.iter().any(|known| known.name() == shader.name()) {
                        shaders.push(shader);
                    }
                }
                Ok(())
            }
            Target::Adapter(submission) => {
                // A kernel of several dispatches does its multiplications in the first, as far as
                // the profile is concerned.
                let mut multiplications = kernel.multiplications();
                for dispatch in dispatches {
                    submission.dispatch(&dispatch, &buffers, &self.layer, std::mem::take(&mut multiplications))?;
                }
                submission.spend(kernel.multiplications())
            }
        }
    }

    /// Sets a buffer to zero.
    ///
    /// # Errors
    /// If it is a buffer of another device.
    pub(crate) fn clear(&mut self, buffer: &Buffer) -> Result<()> {
        match (&mut self.target, buffer.gpu()) {
            (Target::Native(_), None) => buffer.host_mut().fill(0),
            (Target::Rehearsal(_), _) => {}
            (Target::Adapter(submission), Some(buffer)) => {
                submission.pass = None;
                submission.encoder.clear_buffer(buffer, 0, None);
            }
            _ => return Err(Error::device("a buffer of another device cannot be cleared")),
        }
        Ok(())
    }

    /// Hands the recorded work to the device. It does not wait.
    ///
    /// # Errors
    /// If the device failed.
    pub fn submit(self) -> Result<()> {
        match self.target {
            Target::Adapter(mut submission) => {
                submission.hand_over();
                submission.gpu.check()
            }
            Target::Native(_) | Target::Rehearsal(_) => Ok(()),
        }
    }
}

fn run(kernel: &'static str, layer: &Arc<str>, multiplications: u64) -> KernelRun {
    KernelRun { kernel, layer: Arc::clone(layer), multiplications }
}

impl<'d> Submission<'d> {
    fn new(gpu: &'d GpuDevice) -> Self {
        let encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        Self { gpu, encoder, pass: None, multiplications: 0, queries: None }
    }

    /// Records one dispatch; `buffers` were checked.
    fn dispatch<P: bytemuck::Pod>(
        &mut self,
        dispatch: &Dispatch<P>,
        buffers: &[Bound<'_>],
        layer: &Arc<str>,
        multiplications: u64,
    ) -> Result<()> {
        let Dispatch { shader, params, groups } = dispatch;
        let pipeline = self.gpu.pipeline(shader)?;
        let uniform = self.gpu.uniform(bytemuck::bytes_of(params));
        let resources = std::iter::once(&uniform).chain(buffers.iter().filter_map(|bound| bound.buffer.gpu()));
        let entries: Vec<wgpu::BindGroupEntry<'_>> = resources
            .enumerate()
            .map(|(i, buffer)| wgpu::BindGroupEntry { binding: i as u32, resource: buffer.as_entire_binding() })
            .collect();
        let group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(shader.name()),
            layout: &pipeline.layout,
            entries: &entries,
        });
        match self.gpu.profile() {
            Some(_) => self.begin_timed_pass(run(shader.name(), layer, multiplications)),
            None if self.pass.is_none() => {
                let pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                self.pass = Some(pass.forget_lifetime());
            }
            None => {}
        }
        if let Some(pass) = &mut self.pass {
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        }
        Ok(())
    }

    /// Begins a pass for one dispatch, with a timestamp before and after it.
    fn begin_timed_pass(&mut self, run: KernelRun) {
        if self.queries.as_ref().is_some_and(Queries::is_full) {
            self.hand_over();
        }
        self.pass = None;
        let label = run.kernel;
        let queries = self.queries.get_or_insert_with(|| Queries::new(&self.gpu.device));
        let descriptor = wgpu::ComputePassDescriptor { label: Some(label), timestamp_writes: Some(queries.next(run)) };
        self.pass = Some(self.encoder.begin_compute_pass(&descriptor).forget_lifetime());
    }

    /// Counts multiplications, and hands over what was recorded when they are many.
    fn spend(&mut self, multiplications: u64) -> Result<()> {
        self.multiplications += multiplications;
        if self.multiplications <= MOST_MULTIPLICATIONS {
            return Ok(());
        }
        self.hand_over();
        self.gpu.check()
    }

    /// Submits what was recorded, and goes on with an empty encoder.
    fn hand_over(&mut self) {
        let gpu = self.gpu;
        self.multiplications = 0;
        self.pass = None;
        let next = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut encoder = std::mem::replace(&mut self.encoder, next);
        let timed = self.queries.take().map(|queries| queries.resolve(&gpu.device, &mut encoder));
        let at = gpu.profile().map(Profile::now);
        gpu.queue.submit([encoder.finish()]);
        if let (Some(timestamps), Some(timed), Some(at)) = (&gpu.timestamps, timed, at) {
            timestamps.submitted(timed, at);
        }
    }
}
