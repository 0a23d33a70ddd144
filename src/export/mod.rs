//! Results as files.

mod check;
pub mod float;
mod kind;
pub mod onnx;
pub mod safetensors;

pub use kind::{FileKind, kind};
