//! Device memory, counted in 32-bit words.

use std::cell::{Ref, RefCell, RefMut};

/// A block of 32-bit words on a device: f32, i32, u32 or four packed int8 each.
#[derive(Debug)]
pub struct Buffer {
    words: usize,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    Gpu(wgpu::Buffer),
    Host(RefCell<Vec<u32>>),
}

impl Buffer {
    /// On an adapter; `buffer` has at least so many words.
    pub(super) fn on_adapter(buffer: wgpu::Buffer, words: usize) -> Self {
        Self { words, storage: Storage::Gpu(buffer) }
    }

    /// On the Cpu device.
    pub(super) fn on_host(words: Vec<u32>) -> Self {
        Self { words: words.len(), storage: Storage::Host(RefCell::new(words)) }
    }

    /// Length in words.
    pub fn len(&self) -> usize {
        self.words
    }

    /// Whether it has no words.
    pub fn is_empty(&self) -> bool {
        self.words == 0
    }

    /// Whether it is one of the Cpu device.
    pub(super) fn is_host(&self) -> bool {
        matches!(self.storage, Storage::Host(_))
    }

    /// The words of a Cpu buffer, for a kernel's native function.
    ///
    /// # Panics
    /// If the buffer is on an adapter, or is being written: [`Recorder::run`](super::Recorder::run)
    /// has seen to it that it is not.
    pub(crate) fn host(&self) -> Ref<'_, [u32]> {
        match &self.storage {
            Storage::Host(words) => Ref::map(words.borrow(), Vec::as_slice),
            Storage::Gpu(_) => panic!("a buffer of an adapter has no host words"),
        }
    }

    /// The words of a Cpu buffer, to be written.
    ///
    /// # Panics
    /// As [`Buffer::host`].
    pub(crate) fn host_mut(&self) -> RefMut<'_, [u32]> {
        match &self.storage {
            Storage::Host(words) => RefMut::map(words.borrow_mut(), Vec::as_mut_slice),
            Storage::Gpu(_) => panic!("a buffer of an adapter has no host words"),
        }
    }

    /// The buffer of an adapter; none of the Cpu device.
    pub(super) fn gpu(&self) -> Option<&wgpu::Buffer> {
        match &self.storage {
            Storage::Gpu(buffer) => Some(buffer),
            Storage::Host(_) => None,
        }
    }
}
