//! Results as files.

mod check;
pub(crate) mod float;
mod kind;
pub(crate) mod onnx;
pub(crate) mod safetensors;

pub use kind::{FileKind, kind};
