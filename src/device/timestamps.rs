//! The time of each kernel on a GPU: two timestamps a dispatch, read back when its submission is
//! done.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::profile::{KernelRun, Profile};

/// Dispatches that one query set has room for.
const MOST_DISPATCHES: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

/// The timestamps of a device that is profiled.
#[derive(Debug)]
pub(super) struct Timestamps {
    pub(super) profile: Arc<Profile>,
    seconds_per_tick: f64,
    /// The first timestamp seen. Ticks are counted from it: as f64 the device's own would lose
    /// their last bits.
    origin: OnceLock<u64>,
    pending: Mutex<Vec<Pending>>,
}

/// A submission that may not be done yet.
#[derive(Debug)]
struct Pending {
    staging: wgpu::Buffer,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
    runs: Vec<KernelRun>,
    /// When it was submitted, on the profile's clock.
    submitted: f64,
}

/// The timestamps of one submission while it is recorded.
#[derive(Debug)]
pub(super) struct Queries {
    set: wgpu::QuerySet,
    runs: Vec<KernelRun>,
}

/// The timestamps of one submission, ready to be submitted.
#[derive(Debug)]
pub(super) struct Resolved {
    staging: wgpu::Buffer,
    runs: Vec<KernelRun>,
}

impl Queries {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count: wgpu::QUERY_SET_MAX_QUERIES,
        });
        Self { set, runs: Vec::new() }
    }

    /// Whether there is no room for another dispatch.
    pub(super) fn is_full(&self) -> bool {
        self.runs.len() == MOST_DISPATCHES
    }

    /// Where the pass of the next dispatch writes its two timestamps.
    pub(super) fn next(&mut self, run: KernelRun) -> wgpu::ComputePassTimestampWrites<'_> {
        let first = 2 * self.runs.len() as u32;
        self.runs.push(run);
        wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        }
    }

    /// Records, as the last work of the submission, that they are brought to where the host can
    /// read them.
    pub(super) fn resolve(self, device: &wgpu::Device, encoder: &mut wgpu::CommandEncoder) -> Resolved {
        let queries = 2 * self.runs.len() as u32;
        let buffer = |label, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: wgpu::QUERY_SIZE as u64 * u64::from(queries),
                usage,
                mapped_at_creation: false,
            })
        };
        let resolved = buffer("timestamps", wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let staging = buffer("timestamps", wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        encoder.resolve_query_set(&self.set, 0..queries, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, resolved.size());
        Resolved { staging, runs: self.runs }
    }
}

impl Timestamps {
    /// For a queue that counts `nanoseconds_per_tick`.
    pub(super) fn new(profile: Arc<Profile>, nanoseconds_per_tick: f32) -> Self {
        Self {
            profile,
            seconds_per_tick: 1e-9 * f64::from(nanoseconds_per_tick),
            origin: OnceLock::new(),
            pending: Mutex::default(),
        }
    }

    /// Takes timestamps whose work was submitted at `at`, on the profile's clock.
    pub(super) fn submitted(&self, resolved: Resolved, at: f64) {
        let Resolved { staging, runs } = resolved;
        let (sender, mapped) = channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver is gone only where the device is.
            let _ = sender.send(result);
        });
        self.pending().push(Pending { staging, mapped, runs, submitted: at });
    }

    /// Reports the submissions that are done to the profile.
    pub(super) fn collect(&self) {
        self.pending().retain(|pending| match pending.mapped.try_recv() {
            Err(TryRecvError::Empty) => true,
            Ok(Ok(())) => {
                self.report(pending);
                false
            }
            // The device failed, and whoever waits for its results says so.
            Ok(Err(_)) | Err(TryRecvError::Disconnected) => false,
        });
    }

    fn report(&self, pending: &Pending) {
        let Ok(view) = pending.staging.get_mapped_range(..) else { return };
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&view);
        let Some(&first) = ticks.first() else { return };
        let origin = *self.origin.get_or_init(|| first);
        let seconds = |tick: u64| self.seconds_per_tick * tick.wrapping_sub(origin).cast_signed() as f64;
        self.profile.submitted(pending.submitted, seconds(first));
        for (run, ticks) in pending.runs.iter().zip(ticks.chunks_exact(2)) {
            // A clock that went back tells nothing.
            let took = (seconds(ticks[1]) - seconds(ticks[0])).max(0.0);
            self.profile.kernel(run.clone(), seconds(ticks[0]), took);
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Vec<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
