//! Bringing results back, without waiting for them at once.

use std::sync::mpsc::{Receiver, channel};

use super::buffer::Buffer;
use super::device::{Device, GpuDevice};
use crate::{Error, Result};

/// Words on their way from a device to the host: [`Device::begin_read`] makes it, [`Device::finish_read`] waits for it.
#[derive(Debug)]
pub struct Readback {
    /// Words of each part.
    parts: Vec<usize>,
    words: Words,
}

#[derive(Debug)]
enum Words {
    Here(Vec<u32>),
    Coming {
        staging: wgpu::Buffer,
        mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
        submission: wgpu::SubmissionIndex,
    },
}

impl Device {
    /// Begins to read the first words of each buffer, as they are after all work submitted so far. It does not wait, and
    /// work submitted later may overwrite the buffers.
    ///
    /// # Errors
    /// If the device failed.
    pub fn begin_read(&self, parts: &[(&Buffer, usize)]) -> Result<Readback> {
        let lengths: Vec<usize> = parts.iter().map(|(_, words)| *words).collect();
        let words = match self {
            Self::Gpu(gpu) if lengths.iter().any(|&words| words > 0) => gpu.begin_read(parts)?,
            Self::Gpu(_) => Words::Here(Vec::new()),
            Self::Cpu(_) => {
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
    pub fn finish_read(&self, readback: Readback) -> Result<Vec<Vec<u32>>> {
        let Readback { parts, words } = readback;
        let words = match (self, words) {
            (_, Words::Here(words)) => words,
            (Self::Gpu(gpu), Words::Coming { staging, mapped, submission }) => {
                gpu.finish_read(&staging, &mapped, submission)?
            }
            (Self::Cpu(_), Words::Coming { .. }) => unreachable!("the Cpu device reads at once"),
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
    /// If the device failed or does not answer.
    pub fn read(&self, buffer: &Buffer, words: usize) -> Result<Vec<u32>> {
        let readback = self.begin_read(&[(buffer, words)])?;
        Ok(self.finish_read(readback)?.concat())
    }
}

impl GpuDevice {
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
            encoder.copy_buffer_to_buffer(buffer.gpu(), 0, &staging, offset, bytes(*words));
            offset += bytes(*words);
        }
        let submission = self.queue.submit([encoder.finish()]);
        let (sender, mapped) = channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver is gone only where `finish_read` failed before, and that error is the one to report.
            let _ = sender.send(result);
        });
        self.check()?;
        Ok(Words::Coming { staging, mapped, submission })
    }

    fn finish_read(
        &self,
        staging: &wgpu::Buffer,
        mapped: &Receiver<Result<(), wgpu::BufferAsyncError>>,
        submission: wgpu::SubmissionIndex,
    ) -> Result<Vec<u32>> {
        self.wait(Some(submission))?;
        let lost = |cause: String| Error::device(format!("{} lost a result: {cause}", self.info().name));
        match mapped.recv() {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(lost(e.to_string())),
            Err(e) => return Err(lost(e.to_string())),
        }
        let view = staging.get_mapped_range(..).map_err(|e| lost(e.to_string()))?;
        Ok(bytemuck::pod_collect_to_vec(&view))
    }
}
