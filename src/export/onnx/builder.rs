//! An ONNX graph under construction.

use std::collections::HashSet;

use prost::Message;

use crate::model::{Preprocessing, Shape, Weights};
use crate::onnx_proto::{
    AttributeProto, DimensionProto, Element, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::{Error, Result};

/// Operators of 2020: `QuantizeLinear` with a scale for each channel needs them, and every runtime
/// has them.
const OPSET: i64 = 13;

/// The format version that goes with [`OPSET`].
const IR_VERSION: i64 = 7;

/// What protobuf can hold.
const MOST_BYTES: usize = i32::MAX as usize;

/// Name of the dimension that counts images.
const BATCH: &str = "batch";

/// An ONNX graph under construction. Methods that add something give the name of its tensor.
#[derive(Default)]
pub(super) struct Builder {
    graph: GraphProto,
    /// Whether there is one image: a result has no axis that counts them.
    one_image: bool,
}

/// Settings of a convolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Vertical and horizontal.
    pub strides: [usize; 2],
    /// Above, left, below, right.
    pub pads: [usize; 4],
    /// Groups.
    pub groups: usize,
}

impl Window {
    /// That of a convolution with these weights.
    pub(super) fn of(weights: &impl Weights) -> Self {
        let [y, x] = weights.padding();
        Self { kernel: weights.kernel(), strides: weights.stride(), pads: [y, x, y, x], groups: weights.groups() }
    }

    /// As attributes of `Conv` and `ConvInteger`.
    pub(super) fn attributes(&self) -> Vec<AttributeProto> {
        let mut attributes = vec![
            integers("kernel_shape", &self.kernel),
            integers("strides", &self.strides),
            integers("pads", &self.pads),
        ];
        if self.groups != 1 {
            attributes.push(integer("group", self.groups));
        }
        attributes
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(kind), ..Default::default() }
}

/// An attribute of one integer.
pub(super) fn integer(name: &str, value: usize) -> AttributeProto {
    AttributeProto { i: Some(value as i64), ..attribute(name, AttributeProto::INT) }
}

/// An attribute of one number.
pub(super) fn number(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeProto::FLOAT) }
}

/// An attribute of a text.
pub(super) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.into()), ..attribute(name, AttributeProto::STRING) }
}

/// An attribute of several texts.
pub(super) fn texts(name: &str, values: &[&str]) -> AttributeProto {
    AttributeProto { strings: values.iter().map(|&v| v.into()).collect(), ..attribute(name, AttributeProto::STRINGS) }
}

/// An attribute of several integers.
pub(super) fn integers(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto { ints: values.iter().map(|&v| v as i64).collect(), ..attribute(name, AttributeProto::INTS) }
}

fn dimension(side: usize) -> DimensionProto {
    DimensionProto { dim_value: Some(side as i64), dim_param: None }
}

impl Builder {
    /// Adds a constant.
    pub(super) fn constant<T: Element>(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        values: impl IntoIterator<Item = T>,
    ) -> String {
        let name = name.into();
        let mut raw = Vec::new();
        for value in values {
            value.append(&mut raw);
        }
        debug_assert_eq!(raw.len(), shape.iter().product::<usize>() * size_of::<T>(), "{name}");
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|&side| side as i64).collect(),
            data_type: Some(T::DATA_TYPE),
            name: Some(name.clone()),
            raw_data: Some(raw),
            ..Default::default()
        });
        name
    }

    /// Adds a constant without dimensions.
    pub(super) fn scalar<T: Element>(&mut self, name: impl Into<String>, value: T) -> String {
        self.constant(name, &[], [value])
    }

    /// Adds an operation called `name`; its output has the same name.
    pub(super) fn node(
        &mut self,
        operator: &str,
        name: impl Into<String>,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let name = name.into();
        self.node_to(operator, &name, inputs, attributes, &name)
    }

    /// Adds an operation called `name` whose output is called `output`.
    pub(super) fn node_to(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
        output: &str,
    ) -> String {
        self.node_with(operator, name, inputs, attribute, &[output]);
        output.to_owned()
    }

    /// Adds an operation called `name` with several outputs; those without a name are left out.
    pub(super) fn node_with(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
        outputs: &[&str],
    ) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: outputs.iter().map(|&output| output.to_owned()).collect(),
            name: Some(name.to_owned()),
            op_type: Some(operator.to_owned()),
            attribute,
            ..Default::default()
        });
    }

    /// Adds a `Cast` to `T`.
    pub(super) fn cast<T: Element>(&mut self, name: impl Into<String>, input: &str) -> String {
        let name = name.into();
        self.cast_to::<T>(&name, input, &name)
    }

    /// Adds a `Cast` to `T` called `name` whose output is called `output`.
    pub(super) fn cast_to<T: Element>(&mut self, name: &str, input: &str, output: &str) -> String {
        self.node_to("Cast", name, &[input], vec![integer("to", T::DATA_TYPE as usize)], output)
    }

    /// Declares the images, batch × channels × height × width.
    pub(super) fn input<T: Element>(&mut self, name: &str, shape: Shape) {
        let sides = [shape.channels, shape.height, shape.width];
        self.graph.input.push(value::<T>(name, &sides));
    }

    /// Declares a result, batch × `sides`.
    pub(super) fn output<T: Element>(&mut self, name: &str, sides: &[usize]) {
        self.graph.output.push(value::<T>(name, sides));
    }

    /// Declares a result of one image, of these sides alone: then there is one image.
    pub(super) fn output_of_one<T: Element>(&mut self, name: &str, sides: &[usize]) {
        self.one_image = true;
        self.graph.output.push(declared::<T>(name, sides.iter().map(|&side| dimension(side)).collect()));
    }

    /// Whether an operation gives a tensor of this name.
    pub(super) fn gives(&self, name: &str) -> bool {
        self.graph.node.iter().any(|node| node.output.iter().any(|output| output == name))
    }

    /// Calls a tensor that an operation gives by another name.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let tensors = self.graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        tensors.filter(|tensor| *tensor == from).for_each(|tensor| to.clone_into(tensor));
    }

    /// Number of operations so far.
    pub(super) fn operations(&self) -> usize {
        self.graph.node.len()
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// Where two tensors have one name, or the file would be larger than the format allows.
    pub(super) fn finish(mut self, name: &str, description: &str, metadata: &[(&str, String)]) -> Result<Vec<u8>> {
        let mut names = HashSet::new();
        let inputs = self.graph.input.iter().filter_map(|i| i.name.as_ref());
        let constants = self.graph.initializer.iter().filter_map(|i| i.name.as_ref());
        for name in inputs
            .chain(constants)
            .chain(self.graph.node.iter().flat_map(|node| &node.output).filter(|name| !name.is_empty()))
        {
            if !names.insert(name) {
                return Err(Error::bad(format!(
                    "two tensors of the ONNX file would be called `{}`",
                    name.escape_debug()
                ))
                .hint("rename the layers, or the nodes of the ONNX file"));
            }
        }
        if self.one_image {
            let declared = self.graph.input.iter_mut().chain(&mut self.graph.output);
            let shapes = declared.filter_map(|value| value.r#type.as_mut()?.tensor_type.as_mut()?.shape.as_mut());
            for side in shapes.flat_map(|shape| &mut shape.dim).filter(|side| side.dim_param.is_some()) {
                *side = dimension(1);
            }
        }
        self.graph.name = Some(name.to_owned());
        let entry = |(key, value): &(&str, String)| StringStringEntryProto {
            key: Some((*key).to_owned()),
            value: Some(value.clone()),
        };
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some(env!("CARGO_PKG_NAME").into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            doc_string: Some(description.to_owned()),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            metadata_props: metadata.iter().map(entry).collect(),
            functions: vec![],
        };
        let size = model.encoded_len();
        if size > MOST_BYTES {
            return Err(Error::bad(format!("the ONNX file would have {size} bytes; the format ends at {MOST_BYTES}")));
        }
        Ok(model.encode_to_vec())
    }
}

/// A tensor of images or results: the batch, then `sides`.
fn value<T: Element>(name: &str, sides: &[usize]) -> ValueInfoProto {
    let batch = DimensionProto { dim_value: None, dim_param: Some(BATCH.into()) };
    declared::<T>(name, std::iter::once(batch).chain(sides.iter().map(|&s| dimension(s))).collect())
}

fn declared<T: Element>(name: &str, dim: Vec<DimensionProto>) -> ValueInfoProto {
    let tensor = TensorTypeProto { elem_type: Some(T::DATA_TYPE), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

/// Values for each channel, to be combined with images.
pub(super) fn channels<T>(preprocessing: &Preprocessing, value: impl Fn(f64, f64) -> T) -> Vec<T> {
    preprocessing.mean.iter().zip(&preprocessing.std).map(|(&mean, &std)| value(mean, std)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_one_name_are_refused() {
        let mut builder = Builder::default();
        builder.input::<f32>("input", Shape::new(3, 8, 8));
        builder.constant("stage0.bias", &[2], [1f32, 2.0]);
        let y = builder.node("Relu", "stage0", &["input"], vec![]);
        assert_eq!((y.as_str(), builder.operations()), ("stage0", 1));
        builder.output::<f32>("stage0", &[2]);
        builder.node("Relu", "stage0.bias", &["stage0"], vec![]);
        let error = builder.finish("m", "", &[]).unwrap_err();
        assert!(error.to_string().contains("`stage0.bias`"), "{error}");
    }

    #[test]
    fn the_file_reads_back() {
        let mut builder = Builder::default();
        builder.constant("c", &[2, 1], [1i8, -2]);
        builder.node_to("Relu", "relu", &["c"], vec![integer("zero", 0)], "logits");
        let bytes = builder.finish("net", "text", &[("key", "value".into())]).unwrap();
        let model = ModelProto::decode(bytes.as_slice()).unwrap();
        assert_eq!((model.ir_version, model.doc_string.as_deref()), (Some(7), Some("text")));
        assert_eq!(model.metadata_props[0].value.as_deref(), Some("value"));
        let graph = model.graph.unwrap();
        assert_eq!(graph.initializer[0].raw_data.as_deref(), Some(&[1, 254][..]));
        assert_eq!((&graph.initializer[0].dims[..], graph.initializer[0].data_type), (&[2i64, 1][..], Some(3)));
        // A value of 0 is written, not left out.
        assert_eq!((graph.node[0].attribute[0].i, graph.node[0].output[0].as_str()), (Some(0), "logits"));
    }
}
