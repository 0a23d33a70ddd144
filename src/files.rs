//! Files: those that are to be written, and what a file holds.

pub use crate::export::onnx::OnnxFile;
pub use crate::export::{FileKind, kind};
pub use crate::images::class_names;
pub use crate::output::OutputFile;
