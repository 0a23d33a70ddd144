//! Tensors of a checkpoint, read as f32 and checked: type, shape, every value finite.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::borrow::Cow;
use std::collections::BTreeMap;

use half::{bf16, f16};
use ndarray::{Array1, Array2, Array4};
use safetensors::Dtype;
use serde_json::Value;

use crate::tensor_file::{METADATA_KEY, open};
use crate::{Error, Result};

/// What to do about a file that is broken.
const AGAIN: &str = "it may be cut short or of another format; download or convert it again";

/// A tensor in its file.
pub(super) struct Stored<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Data<'a>,
}

/// Where the values are: little-endian, row-major.
enum Data<'a> {
    Bytes(&'a [u8]),
    Torch(pytorch_reader::Tensor),
}

impl Stored<'_> {
    /// A tensor that is still in its file.
    pub(super) fn torch(dtype: Dtype, tensor: pytorch_reader::Tensor) -> Self {
        Self { dtype, shape: tensor.shape().to_vec(), data: Data::Torch(tensor) }
    }
}

/// The tensors of a parsed file, or of several; they stay in the bytes until they are asked for.
#[derive(Default)]
pub(super) struct Tensors<'a> {
    stored: BTreeMap<String, Stored<'a>>,
    /// The metadata entry of this program's own files.
    pub(super) own: Option<Value>,
    /// What was assumed of the file.
    pub(super) notes: Vec<String>,
}

impl<'a> Tensors<'a> {
    /// Parses the header. Nothing is allocated beyond what the header's own bytes need.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let broken = |e| Error::bad("this is not a whole safetensors file").because(e).hint(AGAIN);
        let (header, file) = open(bytes).map_err(broken)?;
        let own = header.metadata().as_ref().and_then(|entries| entries.get(METADATA_KEY));
        let own = own
            .map(|text| serde_json::from_str(text))
            .transpose()
            .map_err(|e| Error::bad(format!("the metadata entry \"{METADATA_KEY}\" cannot be read")).because(e))?;
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let (dtype, shape) = (view.dtype(), view.shape().to_vec());
            (name, Stored { dtype, shape, data: Data::Bytes(view.data()) })
        });
        Ok(Self { stored: tensors.collect(), own, notes: vec![] })
    }

    /// Those of a file that is read tensor by tensor.
    pub(super) fn of(tensors: BTreeMap<String, Stored<'a>>, note: Option<String>) -> Self {
        Self { stored: tensors, own: None, notes: note.into_iter().collect() }
    }

    /// Adds those of another shard.
    pub(super) fn join(&mut self, other: Self) {
        self.stored.extend(other.stored);
        self.own = self.own.take().or(other.own);
        self.notes.extend(other.notes);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.stored.keys().map(String::as_str)
    }

    fn stored(&self, name: &str) -> Result<&Stored<'a>> {
        self.stored.get(name).ok_or_else(|| Error::bad("is missing").at(place(name)))
    }

    /// Dimensions of a tensor; none where it is not there.
    pub(super) fn sides(&self, name: &str) -> &[usize] {
        self.stored.get(name).map_or(&[], |stored| &stored.shape)
    }

    /// Dimensions of a tensor, exactly `N` of them, none 0.
    pub(super) fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let stored = self.stored(name)?;
        let shape: Option<[usize; N]> = stored.shape.as_slice().try_into().ok();
        shape.filter(|shape| !shape.contains(&0)).ok_or_else(|| {
            Error::bad(format!("has shape {:?}; {N} dimensions, none of them 0, are expected", stored.shape))
                .at(place(name))
        })
    }

    /// All values, which must be `shape` in number.
    fn values<const N: usize>(&self, name: &str, expected: [usize; N]) -> Result<Vec<f32>> {
        let shape: [usize; N] = self.shape(name)?;
        if shape != expected {
            return Err(Error::bad(format!("has shape {shape:?}; {expected:?} is expected")).at(place(name)));
        }
        let Stored { dtype, data, .. } = self.stored(name)?;
        let data = match data {
            Data::Bytes(bytes) => Cow::Borrowed(*bytes),
            Data::Torch(tensor) => Cow::Owned(in_file(tensor).map_err(|e| e.at(place(name)))?),
        };
        let values: Vec<f32> = match dtype {
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            // Rounded: what is computed with them is rounded to f32 anyway.
            Dtype::F64 => data.as_chunks().0.iter().map(|b| narrowed(f64::from_le_bytes(*b))).collect(),
            Dtype::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            other => {
                return Err(
                    Error::bad(format!("is of type {other:?}; F32, F16, BF16 or F64 is expected")).at(place(name))
                );
            }
        };
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::bad(format!("value {at} is {}; all must be finite", values[at])).at(place(name)));
        }
        Ok(values)
    }

    /// A vector of this length.
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Array1<f32>> {
        self.values(name, [len]).map(Array1::from_vec)
    }

    /// A vector of this length, which may be stored as C × 1 × 1.
    pub(super) fn per_channel(&self, name: &str, len: usize) -> Result<Array1<f32>> {
        if self.stored(name)?.shape.len() == 1 {
            return self.vector(name, len);
        }
        self.values(name, [len, 1, 1]).map(Array1::from_vec)
    }

    /// A vector of this length, none of its values negative.
    pub(super) fn variance(&self, name: &str, len: usize) -> Result<Array1<f32>> {
        let values = self.vector(name, len)?;
        match values.iter().position(|&v| v < 0.0) {
            Some(at) => {
                Err(Error::bad(format!("value {at} is {}; a variance is never negative", values[at])).at(place(name)))
            }
            None => Ok(values),
        }
    }

    /// A matrix of this shape.
    pub(super) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Array2<f32>> {
        let values = self.values(name, shape)?;
        Array2::from_shape_vec(shape, values).map_err(|e| Error::bad("cannot be read").because(e).at(place(name)))
    }

    /// A kernel of this shape.
    pub(super) fn kernel(&self, name: &str, shape: [usize; 4]) -> Result<Array4<f32>> {
        let values = self.values(name, shape)?;
        Array4::from_shape_vec(shape, values).map_err(|e| Error::bad("cannot be read").because(e).at(place(name)))
    }
}

/// The bytes of a tensor that is still in its file.
fn in_file(tensor: &pytorch_reader::Tensor) -> Result<Vec<u8>> {
    let mut bytes = tensor.read().map_err(|e| Error::bad("cannot be read").because(e).hint(AGAIN))?;
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(tensor.dtype().size()).for_each(<[u8]>::reverse);
    }
    Ok(bytes)
}

/// The nearest f32.
#[allow(clippy::cast_possible_truncation)] // the nearest number, and infinite beyond f32
fn narrowed(value: f64) -> f32 {
    value as f32
}

/// How a message names a tensor.
pub(super) fn place(name: &str) -> String {
    format!("tensor {name}")
}
