//! What a device asks of a kernel: one trait, and the check in front of every run.
//!
//! Shaders run without bounds checks. They are sound because a kernel cannot be run but by
//! [`Recorder::run`](super::Recorder::run), which first asks the kernel whether its arguments suit
//! each other ([`Kernel::check`]) and which words it touches of which buffer ([`Kernel::buffers`]),
//! and compares those with the buffers there are. A list of places that a shader follows is a
//! [`Places`]: it knows how far it reaches.

use super::buffer::Buffer;
use super::handle::Device;
use super::shader::Shader;
use super::tier::Tier;
use crate::{Error, Result};

/// A kernel with its arguments: a shader, and the native function that stands for it on the Cpu
/// device.
pub(crate) trait Kernel {
    /// What the shader's uniform, binding 0, holds.
    type Params: bytemuck::Pod;

    /// Its name in messages and in profiles of the Cpu device: that of its shader, where it has
    /// variants of the direct one.
    fn name(&self) -> &'static str;

    /// Whether the arguments suit each other: shapes, levels, shifts.
    ///
    /// # Errors
    /// What is wrong, in the words of the kernel; the device adds the name.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The buffers of bindings 1, 2, … with the words that may be touched for these arguments. On
    /// the Cpu device those that [`Kernel::native`] reads and writes.
    fn buffers(&self) -> Vec<Bound<'_>>;

    /// The dispatches, in order; none where there is nothing to do.
    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Self::Params>>;

    /// Does the same on the Cpu device, with the instructions of `tier`. It is not called where
    /// there is nothing to do.
    ///
    /// # Errors
    /// Where the host has no memory left.
    fn native(&self, tier: Tier) -> Result<()>;

    /// Its multiplications; 0 where they are not worth counting.
    fn multiplications(&self) -> u64 {
        0
    }
}

/// One dispatch of a shader.
#[derive(Debug)]
pub(crate) struct Dispatch<P> {
    pub(crate) shader: &'static Shader,
    pub(crate) params: P,
    /// Workgroups.
    pub(crate) groups: [u32; 3],
}

impl<P> Dispatch<P> {
    /// A dispatch of one invocation for each of `items`; nothing for none.
    pub(crate) fn of(shader: &'static Shader, items: usize, params: P) -> Option<Self> {
        (items > 0).then(|| Self { shader, params, groups: shader.groups_for(items) })
    }
}

/// A buffer as a kernel uses it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound<'a> {
    /// Its name in messages.
    name: &'static str,
    pub(super) buffer: &'a Buffer,
    /// How many of its words, from the first on, may be touched.
    words: usize,
    written: bool,
}

impl<'a> Bound<'a> {
    /// Words that are read.
    pub(crate) fn read(name: &'static str, buffer: &'a Buffer, words: usize) -> Self {
        Self { name, buffer, words, written: false }
    }

    /// Words that are written, and may be read.
    pub(crate) fn write(name: &'static str, buffer: &'a Buffer, words: usize) -> Self {
        Self { name, buffer, words, written: true }
    }
}

/// Words of another buffer that a shader reads where a list says: the list on a device, and how far
/// it reaches.
#[derive(Debug)]
pub(crate) struct Places {
    list: Buffer,
    reach: usize,
}

impl Places {
    /// Stands in a list for no place at all.
    pub(crate) const NOTHING: u32 = u32::MAX;

    /// Uploads a list of places, counted in words (or whatever the shader counts in).
    ///
    /// # Errors
    /// If the device has no memory left.
    pub(crate) fn upload(device: &Device, list: &[u32], label: &str) -> Result<Self> {
        let reach = list.iter().filter(|&&place| place != Self::NOTHING).max().map_or(0, |&last| last as usize + 1);
        Ok(Self { list: device.upload(list, label)?, reach })
    }

    /// One more than the last place that the list names.
    pub(crate) fn reach(&self) -> usize {
        self.reach
    }

    /// How many places it has, [`Places::NOTHING`] counted.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The list, to be read.
    pub(crate) fn bound(&self) -> Bound<'_> {
        Bound::read("places", &self.list, self.list.len())
    }

    /// The list on the Cpu device.
    pub(crate) fn host(&self) -> std::cell::Ref<'_, [u32]> {
        self.list.host()
    }
}

/// Checks a kernel's arguments against each other and its buffers against what it touches of them;
/// gives the buffers.
///
/// # Errors
/// What is wrong, naming the kernel: an error of the caller, which runs nothing.
pub(super) fn checked<'k, K: Kernel>(kernel: &'k K, device: &Device) -> Result<Vec<Bound<'k>>> {
    let refused = |error: Error| error.at(format!("kernel {}", kernel.name()));
    kernel.check().map_err(refused)?;
    let buffers = kernel.buffers();
    for (i, bound) in buffers.iter().enumerate() {
        let Bound { name, buffer, words, written } = *bound;
        if words > buffer.len() {
            return Err(refused(Error::device(format!("{name} has {} words; {words} are needed", buffer.len()))));
        }
        if buffer.is_host() != device.is_native() {
            return Err(refused(Error::device(format!("{name} is a buffer of another device"))));
        }
        let same = |other: &Bound<'_>| std::ptr::eq(other.buffer, buffer) && (written || other.written);
        if let Some(other) = buffers[..i].iter().find(|other| same(other)) {
            return Err(refused(Error::device(format!("{} and {name} are one buffer", other.name))));
        }
    }
    Ok(buffers)
}
