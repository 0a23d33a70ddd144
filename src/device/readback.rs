//! Bringing results back, without waiting for them at once.

use futures_channel::oneshot;

use super::buffer::Buffer;
use super::gpu::GpuDevice;
use super::handle::{Device, Inner};
use crate::{Error, Result};

/// Words on their way from a device to the host: [`Device::begin_read`] makes it,
/// [`Device::finish_read`] waits for it.
#[derive(Debug)]
pub(crate) struct Readback {
    /// Words of each part.
    parts: Vec<usize>,
    words: Words,
}

#[derive(Debug)]
enum Words {
    Here(Vec<u32>),
    Coming {
        staging: wgpu::Buffer,
        mapped: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
        submission: wgpu::SubmissionIndex,
    },
}

impl Device {
    /// Begins to read the first words of each buffer, as they are after all work submitted so far.
    /// It does not wait, and work submitted later may overwrite the buffers.
    ///
    /// # Errors
    /// If a buffer is shorter or one of another device, or the device failed.
    pub(crate) fn begin_read(&self, parts: &[(&Buffer, usize)]) -> Result<Readback> {
        for (buffer, words) in parts {
            if *words > buffer.len() || buffer.is_host() != self.is_native() {
                return Err(Error::device(format!("{words} words of a buffer of {} cannot be read", buffer.len())));
            }
        }
        let lengths: Vec<usize> = parts.iter().map(|(_, words)| *words).collect();
        let words = match &self.0 {
            Inner::Gpu(gpu) if lengths.iter().any(|&words| words > 0) => gpu.begin_read(parts)?,
            Inner::Gpu(_) => Words::Here(Vec::new()),
            Inner::Cpu(_) => {
                let mut all = Vec::with_capacity(lengths.iter().sum());
                for (buffer, words) in parts {
                    all.extend_from_slice(&buffer.host()[..*words]);
                }
                Words::Here(all)
            }
        };
        Ok(Readback { parts: lengths, words })
    }

    /// Waits for what [`Device::begin_read`] began to read: the words of each part.
    ///
    /// # Errors
    /// If the device failed or does not answer.
    pub(crate) async fn finish_read(&self, readback: Readback) -> Result<Vec<Vec<u32>>> {
        let Readback { parts, words } = readback;
        let words = match (&self.0, words) {
            (_, Words::Here(words)) => words,
            (Inner::Gpu(gpu), Words::Coming { staging, mapped, submission }) => {
                gpu.finish_read(&staging, mapped, submission).await?
            }
            (Inner::Cpu(_), Words::Coming { .. }) => {
                return Err(Error::device("the words of another device cannot be read"));
            }
        };
        let mut rest = words.as_slice();
        Ok(parts
            .into_iter()
            .map(|length| {
                let (part, after) = rest.split_at(length);
                rest = after;
                part.to_vec()
            })
            .collect())
    }

    /// Reads the first `words` words of a buffer, after all work submitted so far.
    ///
    /// # Errors
    /// As [`Device::begin_read`] and [`Device::finish_read`].
    pub(crate) async fn read(&self, buffer: &Buffer, words: usize) -> Result<Vec<u32>> {
        let readback = self.begin_read(&[(buffer, words)])?;
        Ok(self.finish_read(readback).await?.concat())
    }
}

impl GpuDevice {
    /// `parts` were checked.
    fn begin_read(&self, parts: &[(&Buffer, usize)]) -> Result<Words> {
        let bytes = |words: usize| 4 * words as u64;
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size: parts.iter().map(|(_, words)| bytes(*words)).sum(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut offset = 0;
        for (buffer, words) in parts.iter().filter(|(_, words)| *words > 0) {
            let Some(buffer) = buffer.gpu() else { continue };
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, offset, bytes(*words));
            offset += bytes(*words);
        }
        let submission = self.queue.submit([encoder.finish()]);
        let (sender, mapped) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver is gone only where `finish_read` failed before, and that error is the
            // one to report.
            let _ = sender.send(result);
        });
        self.check()?;
        Ok(Words::Coming { staging, mapped, submission })
    }

    async fn finish_read(
        &self,
        staging: &wgpu::Buffer,
        mapped: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
        submission: wgpu::SubmissionIndex,
    ) -> Result<Vec<u32>> {
        self.wait(Some(submission))?;
        let lost = |cause: String| Error::device(format!("{} lost a result: {cause}", self.info.name));
        match mapped.await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(lost(e.to_string())),
            Err(e) => return Err(lost(e.to_string())),
        }
        let view = staging.get_mapped_range(..).map_err(|e| lost(e.to_string()))?;
        Ok(bytemuck::pod_collect_to_vec(&view))
    }
}
