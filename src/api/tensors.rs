//! f32 tensors in place of images.

use std::path::Path;

use ndarray::{ArrayD, Dimension, IxDyn, s};
use safetensors::Dtype;

use crate::images::{Batch, Content};
use crate::tensor_file;
use crate::{Error, Result};

/// Inputs of a network, as a caller gave them.
pub(super) struct Tensor {
    /// What it is called in messages.
    pub(super) name: String,
    /// Images × channels × height × width, if it is as it should be.
    pub(super) values: ArrayD<f32>,
    /// The class of each image; empty where they are not known.
    pub(super) labels: Vec<usize>,
}

impl Tensor {
    /// Number of images; 0 where it is no batch of images at all.
    pub(super) fn images(&self) -> usize {
        if self.values.ndim() == 4 { self.values.shape()[0] } else { 0 }
    }

    /// Whether it is a batch of images of this size, all values finite.
    fn check(&self, channels: usize, [height, width]: [usize; 2]) -> Result<()> {
        let shape = self.values.shape();
        if shape.len() != 4 || shape[1..] != [channels, height, width] {
            let what = format!("its shape is {shape:?}; images × {channels} × {height} × {width} is expected");
            return Err(Error::bad(what));
        }
        if !self.labels.is_empty() && self.labels.len() != shape[0] {
            return Err(Error::bad(format!("{} images and {} classes", shape[0], self.labels.len())));
        }
        match self.values.indexed_iter().find(|(_, value)| !value.is_finite()) {
            None => Ok(()),
            Some((at, value)) => Err(Error::bad(format!("the value at {:?} is {value}", at.slice()))
                .hint("a network's input is finite: check how it was normalized")),
        }
    }
}

/// The f32 tensors of a safetensors file, in the order of their names.
///
/// # Errors
/// A file that is none, or holds no tensor, or one of another type.
pub(super) fn read(path: &Path) -> Result<Vec<Tensor>> {
    let bytes = tensor_file::read(path)?;
    let (_, file) =
        tensor_file::open(&bytes).map_err(|e| Error::input(path, "not a whole safetensors file").because(e))?;
    let mut views = file.tensors();
    views.sort_by(|a, b| a.0.cmp(&b.0));
    if views.is_empty() {
        return Err(Error::input(path, "holds no tensors"));
    }
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let name = format!("{}: tensor {}", path.display(), name.escape_debug());
        if view.dtype() != Dtype::F32 {
            let what = format!("is of type {:?}; F32 is expected", view.dtype());
            return Err(Error::bad(what).at(name));
        }
        let values = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let values = ArrayD::from_shape_vec(IxDyn(view.shape()), values)
            .map_err(|e| Error::bad("its shape does not fit its values").because(e).at(&name))?;
        Ok(Tensor { name, values, labels: Vec::new() })
    };
    views.into_iter().map(tensor).collect()
}

/// Images of tensors in batches, whatever the tensors' own sizes.
pub(super) struct Batches<'a> {
    pub(super) tensors: Box<dyn Iterator<Item = Tensor> + 'a>,
    pub(super) size: [usize; 2],
    pub(super) channels: usize,
    pub(super) batch_size: usize,
    /// Images that may still be taken.
    pub(super) left: usize,
    /// The tensor that images are taken of, and the next of them.
    pub(super) current: Option<(Tensor, usize)>,
}

impl Batches<'_> {
    /// The next images, at most a batch; empty at the end.
    fn fill(&mut self) -> Result<Batch> {
        let [height, width] = self.size;
        // NHWC, channels padded to a multiple of four with zeros.
        let mut batch = Batch::empty(self.size);
        let mut words = Vec::new();
        while batch.count < self.batch_size && self.left > 0 {
            let (tensor, next) = if let Some(current) = self.current.take() {
                current
            } else {
                let Some(tensor) = self.tensors.next() else { break };
                tensor.check(self.channels, self.size).map_err(|e| e.at(&tensor.name))?;
                (tensor, 0)
            };
            let end = tensor.images().min(next + self.left.min(self.batch_size - batch.count));
            for image in next..end {
                let values = tensor.values.slice(s![image, .., .., ..]);
                for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                    words.extend((0..self.channels).map(|c| values[[c, y, x]].to_bits()));
                    words.resize(words.len().next_multiple_of(4), 0);
                }
                batch.labels.push(tensor.labels.get(image).copied());
                batch.names.push(format!("{}, image {image}", tensor.name));
            }
            batch.count += end - next;
            self.left -= end - next;
            if end < tensor.images() {
                self.current = Some((tensor, end));
            }
        }
        batch.content = Content::Values(words);
        Ok(batch)
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.fill() {
            Ok(batch) if batch.count == 0 => None,
            result => Some(result),
        }
    }
}
