//! ONNX files in ONNX Runtime: the integer form to the bit, the others by their results. And the node cases of ONNX, read.

#[path = "../common/mod.rs"]
mod common;

#[allow(dead_code, reason = "the tests of `quantize` use the rest")]
#[path = "../quantize/fixtures.rs"]
mod fixtures;

#[path = "../common/reference.rs"]
mod reference;

mod compare;
mod networks;
mod nodes;
mod reference_models;
mod runtime;
mod small;
