//! The identity of a float network.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::{Conv, Graph, GraphOutput, Op, Recurrent, Weights};

impl Graph {
    /// SHA-256 over names, shapes, strides and the bits of every weight: the identity of what is
    /// computed.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (node, shape) in self.nodes.iter().zip(self.shapes()) {
            hash.update(format!("{}:{:?}:{}:{shape};", node.name, node.inputs, node.relu));
            match &node.op {
                Op::Conv(conv) => {
                    let Conv { stride, padding, groups, weight, .. } = conv;
                    hash.update(format!("conv:{stride:?}:{padding:?}:{groups}:{:?};", weight.dim()));
                    update(&mut hash, conv.weight.iter().chain(&conv.bias));
                }
                Op::Linear(linear) => {
                    hash.update(format!("linear:{:?};", (linear.out_channels(), linear.in_channels())));
                    update(&mut hash, linear.weight.iter().chain(&linear.bias));
                }
                Op::Constant(values) => {
                    hash.update("constant;");
                    update(&mut hash, values);
                }
                Op::Recurrent(recurrent) => {
                    let Recurrent { cell, direction, gives_memory, .. } = recurrent.as_ref();
                    hash.update(format!("{cell:?}:{direction:?}:{gives_memory};"));
                    for (name, sides, values) in recurrent.tensors() {
                        hash.update(format!("{name}:{sides:?};"));
                        update(&mut hash, &values);
                    }
                }
                // The shape says all.
                Op::Input(_) | Op::GlobalAveragePool => {}
                // Debug writes floats so that they can be told apart, and every field.
                op => hash.update(format!("{op:?};")),
            }
        }
        if !self.outputs.iter().map(|output| output.node).eq([self.nodes.len().saturating_sub(1)]) {
            for GraphOutput { node, sides, one_image, .. } in &self.outputs {
                hash.update(format!("output:{node}:{sides:?}{};", if *one_image { ":one" } else { "" }));
            }
        }
        let mut text = String::with_capacity(64);
        for byte in hash.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// Adds values in logical order, lowest byte first.
fn update<'a>(hash: &mut Sha256, values: impl IntoIterator<Item = &'a f32>) {
    for value in values {
        hash.update(value.to_le_bytes());
    }
}
