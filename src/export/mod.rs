//! Results as files.

pub mod float;
mod kind;
pub mod safetensors;

pub use kind::{FileKind, kind};
