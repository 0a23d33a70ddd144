//! ONNX files in ONNX Runtime: the integer form to the bit, the others by their results. And the
//! node cases of ONNX, read.

#[path = "../common/mod.rs"]
mod common;

mod compare;
mod networks;
mod nodes;
mod others;
mod recurrent;
mod reference_models;
mod runtime;
mod small;
