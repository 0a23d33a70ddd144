//! Device memory, counted in 32-bit words.

use std::cell::{Ref, RefCell, RefMut};

/// A block of 32-bit words on a device: f32, i32, u32 or four packed int8 each.
#[derive(Debug)]
pub struct Buffer {
    pub(super) words: usize,
    pub(super) storage: Storage,
}

#[derive(Debug)]
pub(super) enum Storage {
    Gpu(wgpu::Buffer),
    Host(RefCell<Vec<u32>>),
}

impl Buffer {
    /// Length in words.
    pub fn len(&self) -> usize {
        self.words
    }

    /// Whether it has no words.
    pub fn is_empty(&self) -> bool {
        self.words == 0
    }

    /// The words of a Cpu buffer, for a kernel's native function.
    ///
    /// # Panics
    /// If the buffer is on a GPU, or is being written: both are errors of the calling kernel, not of the input.
    pub fn host(&self) -> Ref<'_, [u32]> {
        match &self.storage {
            Storage::Host(words) => Ref::map(words.borrow(), Vec::as_slice),
            Storage::Gpu(_) => panic!("a GPU buffer has no host words"),
        }
    }

    /// The words of a Cpu buffer, to be written.
    ///
    /// # Panics
    /// As [`Buffer::host`].
    pub fn host_mut(&self) -> RefMut<'_, [u32]> {
        match &self.storage {
            Storage::Host(words) => RefMut::map(words.borrow_mut(), Vec::as_mut_slice),
            Storage::Gpu(_) => panic!("a GPU buffer has no host words"),
        }
    }

    pub(super) fn gpu(&self) -> &wgpu::Buffer {
        match &self.storage {
            Storage::Gpu(buffer) => buffer,
            Storage::Host(_) => panic!("a Cpu buffer was given to a GPU kernel"),
        }
    }
}
