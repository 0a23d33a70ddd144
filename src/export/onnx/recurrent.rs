//! Recurrent layers, in float32.

use super::builder::{Builder, integer, text, texts};
use super::moves::reshape;
use crate::model::{Cell, Direction, Recurrent, Shape};

/// States of cells; the tensor is called as the layer. `shape` is that of x, features × steps ×
/// sequences.
///
/// ONNX has the steps first and then a batch, which here is that of the images times the sequences
/// of each.
pub(super) fn recurrent(builder: &mut Builder, name: &str, x: &str, shape: Shape, cells: &Recurrent) -> String {
    let (directions, hidden, sequences) = (cells.direction.count(), cells.hidden(), shape.width);
    let part = |what: &str| format!("{name}/{what}");
    let moved = |builder: &mut Builder, what: &str, x: &str, order: &[usize]| {
        builder.node("Transpose", part(what), &[x], vec![super::builder::integers("perm", order)])
    };
    // Sides of a constant shape: 0 keeps one, −1 is what is left.
    let shaped = |builder: &mut Builder, what: &str, x: &str, sides: &[i64]| {
        let list = builder.constant(format!("{name}.{what}_sides"), &[sides.len()], sides.iter().copied());
        builder.node("Reshape", part(what), &[x, &list], vec![])
    };
    let (features, each) = (shape.channels, sequences as i64);
    let steps_first = if sequences == 1 {
        let lines = reshape(builder, &part("lines"), x, &[features, shape.height], &part("lines"));
        moved(builder, "steps", &lines, &[2, 0, 1])
    } else {
        let steps = moved(builder, "steps", x, &[2, 0, 3, 1]);
        shaped(builder, "sequences", &steps, &[0, -1, features as i64])
    };
    let constant = |builder: &mut Builder, what: &str| {
        let found = cells.tensors().into_iter().find(|(part, ..)| *part == what);
        found.map_or_else(String::new, |(_, sides, values)| builder.constant(format!("{name}.{what}"), &sides, values))
    };
    let mut inputs = vec![steps_first.clone()];
    inputs.extend(["input", "state", "bias"].map(|what| constant(builder, what)));
    inputs.push(String::new());
    for what in ["initial_state", "initial_memory"] {
        let values = constant(builder, what);
        inputs.push(if values.is_empty() {
            values
        } else {
            for_each_image(builder, name, what, &values, &steps_first, [directions, sequences, hidden])
        });
    }
    inputs.push(constant(builder, "peepholes"));
    while inputs.last().is_some_and(String::is_empty) {
        inputs.pop();
    }
    let mut attributes = vec![integer("hidden_size", hidden)];
    if cells.direction != Direction::Forward {
        attributes.push(text("direction", &cells.direction.to_string()));
    }
    let operator = match cells.cell {
        Cell::Tanh => "RNN",
        Cell::Relu => {
            attributes.push(texts("activations", &["Relu"].repeat(directions)));
            "RNN"
        }
        Cell::Gru { reset_after } => {
            attributes.push(integer("linear_before_reset", usize::from(reset_after)));
            "GRU"
        }
        Cell::Lstm => "LSTM",
    };
    let result = part("cells");
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let images_first = if cells.gives_memory {
        builder.node_with(operator, &result, &inputs, attributes, &["", "", &result]);
        // Directions × images·sequences × hidden.
        let each_sequence = shaped(builder, "images", &result, &[0, -1, each, hidden as i64]);
        moved(builder, "channels", &each_sequence, &[1, 0, 3, 2])
    } else {
        builder.node_with(operator, &result, &inputs, attributes, &[&result]);
        // Steps × directions × images·sequences × hidden.
        if sequences == 1 {
            moved(builder, "channels", &result, &[2, 1, 3, 0])
        } else {
            let each_sequence = shaped(builder, "images", &result, &[0, 0, -1, each, hidden as i64]);
            moved(builder, "channels", &each_sequence, &[2, 1, 4, 0, 3])
        }
    };
    let steps = if cells.gives_memory { 1 } else { shape.height };
    reshape(builder, name, &images_first, &[directions * hidden, steps, sequences], name)
}

/// States to begin with, directions × sequences × hidden, for the images of a batch: those of one
/// behind those of another.
fn for_each_image(
    builder: &mut Builder,
    name: &str,
    what: &str,
    values: &str,
    steps_first: &str,
    [directions, sequences, hidden]: [usize; 3],
) -> String {
    let part = |end: &str| format!("{name}/{what}_{end}");
    let list = |builder: &mut Builder, end: &str, values: &[i64]| {
        builder.constant(format!("{name}.{what}_{end}"), &[values.len()], values.iter().copied())
    };
    let axis = list(builder, "axis", &[1]);
    let apart = builder.node("Unsqueeze", part("apart"), &[values, &axis], vec![]);
    // How many images there are: that axis of x less the sequences of each.
    let all = builder.node("Shape", part("shape"), &[steps_first], vec![]);
    let [begin, end] = [("begin", 1), ("end", 2)].map(|(what, at)| list(builder, what, &[at]));
    let lines = builder.node("Slice", part("lines"), &[&all, &begin, &end], vec![]);
    let each = list(builder, "each", &[sequences as i64]);
    let images = builder.node("Div", part("images"), &[&lines, &each], vec![]);
    let [first, last] = [("first", vec![directions as i64]), ("last", vec![sequences as i64, hidden as i64])]
        .map(|(what, sides)| list(builder, what, &sides));
    let sides = builder.node("Concat", part("sides"), &[&first, &images, &last], vec![integer("axis", 0)]);
    let repeated = builder.node("Expand", part("repeated"), &[&apart, &sides], vec![]);
    let joined = list(builder, "joined", &[directions as i64, -1, hidden as i64]);
    builder.node("Reshape", part("of_images"), &[&repeated, &joined], vec![])
}
