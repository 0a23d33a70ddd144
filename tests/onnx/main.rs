//! ONNX files in ONNX Runtime: the integer form to the bit, the others by their results.

#[path = "../common/mod.rs"]
mod common;

#[allow(dead_code, reason = "the tests of `quantize` use the rest")]
#[path = "../quantize/fixtures.rs"]
mod fixtures;

mod compare;
mod networks;
mod reference_models;
mod runtime;
mod small;
