//! What of recurrent layers is refused.

use super::{floats, int, integers, model, node, refused, word};
use crate::onnx_proto::{AttributeProto, TensorProto};

/// An LSTM of 4 units along the columns, 18 features each; `more` are inputs behind its weights.
fn lstm(more: &str, attributes: Vec<AttributeProto>, constants: Vec<TensorProto>, words: &[&str]) {
    let transpose = AttributeProto {
        name: Some("perm".into()),
        ints: vec![2, 0, 1],
        r#type: Some(AttributeProto::INTS),
        ..Default::default()
    };
    let nodes = vec![
        node("Reshape", "x lines", "l", vec![]),
        node("Transpose", "l", "t", vec![transpose]),
        node("LSTM", &format!("t w r {more}"), "y", attributes),
    ];
    let weights = [integers("lines", &[0, 18, 8]), floats("w", &[1, 16, 18]), floats("r", &[1, 16, 4])];
    refused(&model(nodes, weights.into_iter().chain(constants).collect()), words);
}

#[test]
fn what_recurrent_layers_do_not_have_is_refused() {
    let number = |name: &str| AttributeProto {
        name: Some(name.into()),
        f: Some(3.0),
        r#type: Some(AttributeProto::FLOAT),
        ..Default::default()
    };
    let functions = |names: &[&str]| AttributeProto {
        name: Some("activations".into()),
        strings: names.iter().map(|&name| name.into()).collect(),
        r#type: Some(AttributeProto::STRINGS),
        ..Default::default()
    };
    lstm("", vec![number("clip")], vec![], &["LSTM", "`clip`"]);
    lstm("", vec![int("input_forget", 1)], vec![], &["`input_forget`"]);
    lstm("", vec![functions(&["Sigmoid", "Tanh", "Relu"])], vec![], &["Sigmoid, Tanh, Relu", "sigmoid, tanh, tanh"]);
    lstm("", vec![functions(&["Sigmoid"])], vec![], &["activations"]);
    lstm("", vec![word("direction", "sideways")], vec![], &["`direction`", "bidirectional"]);
    lstm("", vec![word("direction", "bidirectional")], vec![], &["weights", "[2, 16, 18]"]);
    lstm("", vec![int("hidden_size", 5)], vec![], &["`hidden_size`", "5", "4"]);
    lstm("b", vec![], vec![floats("b", &[1, 16])], &["biases", "[1, 32]"]);
    lstm("_ n", vec![], vec![integers("n", &[7])], &["different lengths", "8"]);
    lstm("_ _ h", vec![], vec![floats("h", &[1, 2, 4])], &["initial states", "[1, 1, 4]"]);
    lstm("_ _ x", vec![], vec![], &["activation", "constant"]);
    lstm("_ _ _ _ p", vec![], vec![floats("p", &[1, 8])], &["peepholes", "[1, 12]"]);
}

#[test]
fn images_of_a_batch_are_no_steps() {
    let nodes = vec![node("Reshape", "x lines", "l", vec![]), node("GRU", "l w r", "y", vec![])];
    let constants = vec![integers("lines", &[0, 18, 8]), floats("w", &[1, 12, 8]), floats("r", &[1, 12, 4])];
    let mut many = model(nodes, constants);
    let graph = many.graph.as_mut().unwrap();
    let shape = graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
    shape.dim[0].dim_value = Some(2);
    refused(&many, &["GRU", "first axis", "one image"]);
}
