//! Tensors of a safetensors file, read as f32 and checked: type, shape, every value finite.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use half::{bf16, f16};
use ndarray::{Array1, Array2, Array4};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::tensor_file::{METADATA_KEY, open};
use crate::{Error, Result};

/// A parsed file; the tensors stay in the bytes until they are asked for.
pub(super) struct Tensors<'a> {
    file: SafeTensors<'a>,
    /// The metadata entry of this program's own files.
    pub(super) own: Option<Value>,
}

impl<'a> Tensors<'a> {
    /// Parses the header. Nothing is allocated beyond what the header's own bytes need.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let broken = |e| {
            Error::bad("this is not a whole safetensors file")
                .because(e)
                .hint("it may be cut short or of another format; download or convert it again")
        };
        let (header, file) = open(bytes).map_err(broken)?;
        let own = header.metadata().as_ref().and_then(|entries| entries.get(METADATA_KEY));
        let own = own
            .map(|text| serde_json::from_str(text))
            .transpose()
            .map_err(|e| Error::bad(format!("the metadata entry \"{METADATA_KEY}\" cannot be read")).because(e))?;
        Ok(Self { file, own })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.file.names().into_iter()
    }

    /// Dimensions of a tensor, exactly `N` of them, none 0.
    pub(super) fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let view = self.file.tensor(name).map_err(|e| Error::bad("cannot be read").because(e).at(place(name)))?;
        let shape: Option<[usize; N]> = view.shape().try_into().ok();
        shape.filter(|shape| !shape.contains(&0)).ok_or_else(|| {
            Error::bad(format!("has shape {:?}; {N} dimensions, none of them 0, are expected", view.shape()))
                .at(place(name))
        })
    }

    /// All values, which must be `shape` in number.
    fn values<const N: usize>(&self, name: &str, expected: [usize; N]) -> Result<Vec<f32>> {
        let shape: [usize; N] = self.shape(name)?;
        if shape != expected {
            return Err(Error::bad(format!("has shape {shape:?}; {expected:?} is expected")).at(place(name)));
        }
        let view = self.file.tensor(name).map_err(|e| Error::bad("cannot be read").because(e).at(place(name)))?;
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            other => {
                return Err(Error::bad(format!("is of type {other:?}; F32, F16 or BF16 is expected")).at(place(name)));
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

/// How a message names a tensor.
pub(super) fn place(name: &str) -> String {
    format!("tensor {name}")
}
