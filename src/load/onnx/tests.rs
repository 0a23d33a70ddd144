//! What is refused, and what the message says; what is read is compared with ONNX Runtime in
//! `tests/main/load`.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "small numbers"
)]

mod recurrent;

use prost::Message;

use super::{LoadOptions, read, read_bytes};
use crate::load::InputOverrides;
use crate::model::{Color, Fit, Graph, Op, Shape};
use crate::onnx_proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

fn value(name: &str, kind: i32, sides: &[i64]) -> ValueInfoProto {
    let dim = |&side: &i64| DimensionProto { dim_value: Some(side).filter(|&side| side > 0), dim_param: None };
    let shape = TensorShapeProto { dim: sides.iter().map(dim).collect() };
    let tensor_type = Some(TensorTypeProto { elem_type: Some(kind), shape: Some(shape) });
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { tensor_type }) }
}

fn node(operator: &str, inputs: &str, outputs: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let names = |text: &str| text.split(' ').filter(|n| !n.is_empty()).map(|n| n.replace('_', "")).collect();
    NodeProto {
        input: names(inputs),
        output: names(outputs),
        op_type: Some(operator.into()),
        attribute,
        ..Default::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), i: Some(value), r#type: Some(2), ..Default::default() }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: Some(name.into()), ints: values.to_vec(), r#type: Some(7), ..Default::default() }
}

fn word(name: &str, value: &str) -> AttributeProto {
    AttributeProto { name: Some(name.into()), s: Some(value.into()), r#type: Some(3), ..Default::default() }
}

/// Ones.
fn floats(name: &str, dims: &[i64]) -> TensorProto {
    let count = dims.iter().product::<i64>() as usize;
    let (dims, name) = (dims.to_vec(), Some(name.into()));
    TensorProto { dims, data_type: Some(1), name, float_data: vec![1.0; count], ..Default::default() }
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    let dims = vec![values.len() as i64];
    let name = Some(name.into());
    TensorProto { dims, data_type: Some(7), name, int64_data: values.to_vec(), ..Default::default() }
}

/// A network of images `x`, n × 3 × 6 × 8, to `y`.
fn model(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: vec![value("x", 1, &[-1, 3, 6, 8])],
        output: vec![value("y", 1, &[])],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..Default::default() }
}

fn parse(model: &ModelProto) -> crate::Result<Graph> {
    read_bytes("net", &model.encode_to_vec())
}

fn refused(model: &ModelProto, words: &[&str]) {
    let error = parse(model).expect_err(&format!("{words:?}"));
    assert_eq!(error.kind(), crate::ErrorKind::Input);
    let text = error.to_string();
    assert!(text.starts_with("net: ") && words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
}

/// A convolution, to be changed.
fn conv() -> ModelProto {
    model(vec![node("Conv", "x w", "y", vec![])], vec![floats("w", &[4, 3, 3, 3])])
}

fn changed(change: impl FnOnce(&mut ModelProto, &mut GraphProto)) -> ModelProto {
    let mut model = conv();
    let mut graph = model.graph.take().unwrap();
    change(&mut model, &mut graph);
    model.graph = Some(graph);
    model
}

#[test]
fn files_that_are_not_in_order() {
    assert_eq!(parse(&conv()).unwrap().nodes[1].name, "y");
    let unfinished = NodeProto { name: Some("unfinished".into()), ..node("Nothing", "nowhere", "unused", vec![]) };
    let dead = changed(|_, g| g.node.push(unfinished.clone()));
    assert_eq!(parse(&dead).unwrap().nodes.len(), 2);
    let cases: Vec<(ModelProto, &[&str])> = vec![
        (changed(|m, _| m.opset_import[0].version = Some(8)), &["opset 8", "9 to 28"]),
        (changed(|m, _| m.opset_import[0].version = Some(29)), &["opset 29"]),
        (changed(|m, _| m.opset_import.clear()), &["does not say its opset"]),
        (changed(|m, _| m.functions.push(vec![])), &["functions"]),
        (changed(|_, g| g.sparse_initializer.push(vec![])), &["sparse"]),
        (changed(|_, g| g.initializer.clear()), &["node y (Conv)", "`w` is nowhere"]),
        (changed(|_, g| g.initializer.push(floats("w", &[1]))), &["two tensors are called `w`"]),
        (changed(|_, g| g.node.push(node("Relu", "x", "y", vec![]))), &["two tensors are called `y`"]),
        (changed(|_, g| g.node.push(node("Relu", "y", "x", vec![]))), &["two tensors are called `x`"]),
        (changed(|_, g| g.input.push(g.input[0].clone())), &["two tensors are called `x`"]),
        (changed(|_, g| g.output.push(g.output[0].clone())), &["two tensors are called `y`"]),
        (changed(|_, g| g.output.clear()), &["no output"]),
        (changed(|_, g| g.output[0].name = Some("z".into())), &["`z` is nowhere"]),
        (changed(|_, g| g.output[0].name = Some("w".into())), &["do not depend on an input"]),
        (changed(|_, g| g.node[0] = node("If", "w", "y", vec![])), &["do not depend on an input"]),
        (changed(|_, g| g.node[0] = node("If", "x", "y", vec![])), &["node y (If)", "depends on the image"]),
        (changed(|_, g| g.node[0] = node("Loop", "x", "y", vec![])), &["node y (Loop)", "not supported"]),
        (changed(|_, g| g.output.push(value("w", 1, &[]))), &["output w", "constant"]),
        (changed(|_, g| g.node[0].input[0] = "y".into()), &["node y (Conv)", "cycle"]),
        (changed(|_, g| g.node[0].domain = Some("com.microsoft".into())), &["y (Conv)", "com.microsoft"]),
        (changed(|_, g| g.node[0].op_type = Some("Fold".into())), &["y (Fold)", "not supported", "docs/onnx.md"]),
        (changed(|_, g| g.node[0].op_type = Some("Upsample".into())), &["(Upsample)", "not supported"]),
        (changed(|_, g| g.node[0].op_type = Some("ConvInteger".into())), &["(ConvInteger)", "quantized already"]),
        (
            changed(|_, g| g.node.push(node("QuantizeLinear", "y s", "q", vec![]))),
            &["(QuantizeLinear)", "float network"],
        ),
        (changed(|_, g| g.node[0].attribute.push(int("axis", 1))), &["y (Conv)", "`axis` is not supported"]),
        (changed(|_, g| g.node[0].attribute = vec![int("group", 1); 2]), &["two attributes `group`"]),
        (changed(|_, g| g.node[0].attribute.push(ints("group", &[1]))), &["`group` is of type number 7"]),
        (changed(|_, g| g.input[0] = value("x", 1, &[1, -1, 6, 8])), &["input x", "channels open"]),
        (changed(|_, g| g.input[0] = value("x", 1, &[3, 6, 8])), &["input x", "3 axes"]),
        (changed(|_, g| g.input[0] = value("x", 7, &[1, 3, 6, 8])), &["input x", "number 7"]),
        (changed(|_, g| g.input[0] = value("x", 1, &[1, 3, -1, 8])), &["input x", "open", "`describe`"]),
        (changed(|_, g| g.input[0] = value("x", 1, &[1, 3, i64::MAX, 8])), &["input x", "16384"]),
        (changed(|_, g| g.input[0].r#type = None), &["input x", "no tensor"]),
        (
            changed(|_, g| {
                g.input.push(value("z", 1, &[1, 3, 6, 8]));
                g.node[0].input[1] = "z".into();
            }),
            &["inputs x and z"],
        ),
    ];
    for (model, words) in &cases {
        refused(model, words);
    }
}

#[test]
fn bytes_that_are_no_file() {
    let bytes = conv().encode_to_vec();
    for end in 0..bytes.len() {
        // A part may be a whole file by chance, but never one with all of the weights.
        let found = read_bytes("net", &bytes[..end]);
        assert!(found.is_err(), "{end} of {}", bytes.len());
    }
    for bytes in [&b""[..], b"PK\x03\x04", &[0xff; 64], b"\x08\x08"] {
        assert!(read_bytes("net", bytes).unwrap_err().to_string().contains("not a whole ONNX file"));
    }
}

#[test]
fn operations_in_another_order_are_sorted() {
    let sorted = changed(|_, g| {
        g.node = vec![
            node("Relu", "c", "y", vec![]),
            node("MaxPool", "a", "c", vec![ints("kernel_shape", &[2, 2])]),
            node("Conv", "x w", "a", vec![]),
        ];
    });
    let kinds: Vec<&str> = parse(&sorted).unwrap().nodes.iter().map(|node| node.op.kind()).collect();
    assert_eq!(kinds, ["input", "conv", "max pool", "clip"]);
}

#[test]
fn names_differ() {
    let twice =
        |name: &str, inputs, outputs| NodeProto { name: Some(name.into()), ..node("Softmax", inputs, outputs, vec![]) };
    let graph = parse(&model(vec![twice("x", "x", "a"), twice("x", "a", "b"), twice("", "b", "y")], vec![])).unwrap();
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!((names, graph.outputs[0].name.as_str()), (vec!["x", "x_2", "x_3", "y"], "y"));
}

#[test]
fn what_operators_do_not_take() {
    let one = |operator: &str, inputs: &str, attributes: Vec<AttributeProto>, constants: Vec<TensorProto>| {
        model(vec![node(operator, inputs, "y", attributes)], constants)
    };
    let conv = |attributes: Vec<AttributeProto>, dims: &[i64]| one("Conv", "x w", attributes, vec![floats("w", dims)]);
    let kernel = || ints("kernel_shape", &[2, 2]);
    let norm = |attributes, variance: f32| {
        let vectors = ["s", "b", "m"].map(|name| floats(name, &[3]));
        let variance = TensorProto { float_data: vec![1.0, variance, 1.0], ..floats("v", &[3]) };
        one("BatchNormalization", "x s b m v", attributes, [vectors.to_vec(), vec![variance]].concat())
    };
    let cases: Vec<(ModelProto, &[&str])> = vec![
        (conv(vec![], &[4, 4, 3, 3]), &["y (Conv)", "does not fit 3 channels"]),
        (conv(vec![], &[4, 3, 3]), &["[4, 3, 3]", "2-D"]),
        (conv(vec![], &[4, 3, 7, 3]), &["7×3", "6×8"]),
        (conv(vec![int("group", 0)], &[4, 3, 3, 3]), &["`group` is 0"]),
        (conv(vec![int("group", 3)], &[4, 1, 3, 3]), &["3 groups"]),
        (conv(vec![ints("strides", &[0, 1])], &[4, 3, 3, 3]), &["`strides`", "[0, 1]"]),
        (conv(vec![ints("strides", &[1])], &[4, 3, 3, 3]), &["`strides`", "2 numbers"]),
        (conv(vec![ints("pads", &[-1, 0, 0, 0])], &[4, 3, 3, 3]), &["`pads`"]),
        (conv(vec![ints("pads", &[i64::MAX; 4])], &[4, 3, 3, 3]), &["`pads`"]),
        (conv(vec![ints("kernel_shape", &[2, 2])], &[4, 3, 3, 3]), &["`kernel_shape`"]),
        (conv(vec![word("auto_pad", "SAME")], &[4, 3, 3, 3]), &["`auto_pad` is `SAME`", "SAME_UPPER"]),
        (
            conv(vec![ints("dilations", &[2000; 2]), ints("pads", &[2000; 4])], &[4, 3, 3, 3]),
            &["node y", "more than its size justifies"],
        ),
        (one("Conv", "x x", vec![], vec![]), &["input 1 is an activation"]),
        (
            one("Conv", "x w b", vec![], vec![floats("w", &[4, 3, 1, 1]), floats("b", &[3])]),
            &["bias", "[4] is expected"],
        ),
        (norm(vec![int("training_mode", 1)], 1.0), &["training mode", "eval"]),
        (norm(vec![], -2.0), &["variance"]),
        (norm(vec![], f32::NAN), &["variance"]),
        (
            one("Dropout", "x _ t", vec![], vec![TensorProto { data_type: Some(9), ..bools("t") }]),
            &["(Dropout)", "training mode"],
        ),
        (one("Clip", "x a b", vec![], vec![scales_of("a", 2.0), scales_of("b", 1.0)]), &["bounds 2 and 1"]),
        (one("PRelu", "x", vec![], vec![]), &["has 1 inputs; 2 are expected"]),
        (one("Where", "x x", vec![], vec![]), &["has 2 inputs; 3 are expected"]),
        (one("Add", "x c", vec![], vec![floats("c", &[5])]), &["constant of 5", "8"]),
        (one("Add", "x c", vec![], vec![floats("c", &[2, 3, 6, 8])]), &["[2, 3, 6, 8]"]),
        (one("Add", "x c", vec![], vec![integers("c", &[1])]), &["floats are expected"]),
        (one("MatMul", "x x", vec![], vec![]), &["[3, 6, 8]", "do not go together"]),
        (one("MatMul", "x w", vec![], vec![floats("w", &[2, 8, 2])]), &["[2, 8, 2]", "do not go together"]),
        (of_two(one("ReduceMean", "x", vec![ints("axes", &[0])], vec![])), &["batch"]),
        (of_two(one("ReduceMean", "x", vec![], vec![])), &["batch"]),
        (one("Gemm", "x w", vec![], vec![floats("w", &[8, 2])]), &["4 axes; 2 are expected"]),
        (of_two(one("Softmax", "x", vec![int("axis", 0)], vec![])), &["over the batch"]),
        (one("Cast", "x", vec![int("to", 7)], vec![]), &["data type number 7"]),
        (model(vec![node("MaxPool", "x", "a y", vec![kernel()])], vec![]), &["result `y`"]),
        (one("Expand", "c s", vec![], vec![floats("c", &[1]), integers("s", &[1 << 40])]), &["do not depend"]),
        (
            model(
                vec![node("Expand", "c s", "big", vec![]), node("Add", "x big", "y", vec![])],
                vec![floats("c", &[1]), integers("s", &[1 << 40])],
            ),
            &["big (Expand)", "more than its size justifies"],
        ),
        (
            conv_of(TensorProto { float_data: vec![f32::INFINITY; 12], ..floats("w", &[4, 3, 1, 1]) }),
            &["node y", "not finite"],
        ),
    ];
    for (model, words) in &cases {
        refused(model, words);
    }
}

#[test]
fn what_pools_and_what_moves_values_do_not_take() {
    let one = |operator: &str, inputs: &str, attributes: Vec<AttributeProto>, constants: Vec<TensorProto>| {
        model(vec![node(operator, inputs, "y", attributes)], constants)
    };
    let kernel = || ints("kernel_shape", &[2, 2]);
    let reshape = |target: &[i64]| one("Reshape", "x t", vec![], vec![integers("t", target)]);
    let slice = |steps: i64, axis: i64| {
        let given = [("s", 0), ("e", 1), ("a", axis), ("p", steps)].map(|(name, v)| integers(name, &[v]));
        one("Slice", "x s e a p", vec![], given.to_vec())
    };
    let scales = |values: &[f32]| TensorProto { float_data: values.to_vec(), ..floats("s", &[values.len() as i64]) };
    let resize = |attributes, values: &[f32]| one("Resize", "x _ s", attributes, vec![scales(values)]);
    let cases: Vec<(ModelProto, &[&str])> = vec![
        (
            one("AveragePool", "x", vec![kernel(), ints("dilations", &[2, 2]), ints("pads", &[1; 4])], vec![]),
            &["dilations [2, 2]", "into the padding"],
        ),
        (one("MaxPool", "x", vec![kernel(), ints("pads", &[2, 0, 0, 0])], vec![]), &["padding"]),
        (one("MaxPool", "x", vec![], vec![]), &["`kernel_shape` is missing"]),
        (of_two(reshape(&[-1, 3])), &["does not keep the batch"]),
        (reshape(&[1, 5, -1]), &["do not fit"]),
        (of_two(one("Flatten", "x", vec![int("axis", 2)], vec![])), &["does not keep the batch"]),
        (of_two(one("Transpose", "x", vec![ints("perm", &[1, 0, 2, 3])], vec![])), &["moves the batch"]),
        (one("Transpose", "x", vec![ints("perm", &[0, 1, 1, 3])], vec![]), &["no order"]),
        (of_two(one("Squeeze", "x", vec![], vec![])), &["axes are missing"]),
        (slice(-1, 2), &["keeps nothing"]),
        (slice(1, 9), &["axis 9 of 4"]),
        (slice(0, 2), &["step of 0"]),
        (of_two(one("Split", "x", vec![int("axis", 0)], vec![])), &["splits the batch"]),
        (of_two(one("Concat", "x x", vec![int("axis", 0)], vec![])), &["joins batches"]),
        (resize(vec![word("mode", "cubic")], &[1.0, 1.0, 2.0, 2.0]), &["`mode` is `cubic`"]),
        (resize(vec![int("antialias", 1)], &[1.0, 1.0, 2.0, 2.0]), &["`antialias`"]),
        (
            resize(
                vec![word("mode", "linear"), word("coordinate_transformation_mode", "align_corners")],
                &[1.0, 1.0, 1.3, 2.0],
            ),
            &["not whole", "sizes"],
        ),
        (resize(vec![word("mode", "linear")], &[1.0, 2.0, 1.0, 2.0]), &["of channels"]),
        (resize(vec![], &[1.0, 1.0, f32::NAN, 2.0]), &["scales 6 by NaN"]),
        (one("DepthToSpace", "x", vec![int("blocksize", 2)], vec![]), &["blocks of 2"]),
        (
            one("Pad", "x p", vec![], vec![integers("p", &[0, 0, -3, 0, 0, 0, -3, 0])]),
            &["leaves nothing of a side of 6"],
        ),
        (one("Pad", "x p", vec![], vec![integers("p", &[0, 1, 0, 0, 0, 0, 0, 0])]), &["axis 1", "rows and columns"]),
        (
            one("Pad", "x p", vec![word("mode", "reflect")], vec![integers("p", &[0, 0, 6, 0, 0, 0, 0, 0])]),
            &["more than a side of 6 has in mode reflect"],
        ),
        (of_two(one("Gather", "x i", vec![int("axis", 0)], vec![integers("i", &[0, 0])])), &["out of the batch"]),
    ];
    for (model, words) in &cases {
        refused(model, words);
    }
}

/// The same network for two images.
fn of_two(mut model: ModelProto) -> ModelProto {
    model.graph.as_mut().unwrap().input[0] = value("x", 1, &[2, 3, 6, 8]);
    model
}

/// All that cannot be read is named at once; what no output needs does not count.
#[test]
fn unsupported_operators_are_listed_together() {
    let named = |name: &str, operator: &str, inputs, outputs| NodeProto {
        name: Some(name.into()),
        ..node(operator, inputs, outputs, vec![])
    };
    let other = NodeProto { domain: Some("com.microsoft".into()), ..named("g", "FusedConv", "c", "y") };
    let nodes = vec![
        named("e0", "Det", "x", "a"),
        named("r", "Relu", "a", "b"),
        named("e1", "Det", "b", "c"),
        named("dead", "StringSplit", "x", "unused"),
        other,
    ];
    let words = ["operators that are not supported: Det (2 nodes, e0 the first), com.microsoft.FusedConv (node g)"];
    refused(&model(nodes, vec![]), &[words[0], "docs/onnx.md"]);
}

/// A value whose first axis is not the batch is none for operators that need one.
#[test]
fn operators_that_need_the_batch() {
    let moved = || node("Transpose", "x", "t", vec![ints("perm", &[1, 0, 2, 3])]);
    let after = |operator: &str, constants| model(vec![moved(), node(operator, "t w", "y", vec![])], constants);
    refused(&after("Conv", vec![floats("w", &[4, 1, 3, 3])]), &["node y (Conv)", "first axis is not the batch"]);
}

fn conv_of(weight: TensorProto) -> ModelProto {
    model(vec![node("Conv", "x w", "y", vec![])], vec![weight])
}

fn scales_of(name: &str, value: f32) -> TensorProto {
    TensorProto { float_data: vec![value], ..floats(name, &[1]) }
}

fn bools(name: &str) -> TensorProto {
    TensorProto { int32_data: vec![1], int64_data: vec![], ..integers(name, &[0]) }
}

#[test]
fn the_description_fills_in_what_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    let open = changed(|_, g| g.input[0] = value("x", 1, &[-1, 3, -1, -1]));
    std::fs::write(&path, open.encode_to_vec()).unwrap();
    let options = LoadOptions::default();
    assert!(read(&path, &options).unwrap_err().to_string().contains("leaves height or width open"));
    let input = InputOverrides { size: Some([9, 7]), mean: Some(vec![0.0; 3]), ..Default::default() };
    let asked = read(&path, &LoadOptions { input, ..Default::default() }).unwrap();
    assert_eq!((asked.shapes()[0].width, asked.input.mean, asked.input.resize), (7, vec![0.0; 3], Some(10)));
    assert!(asked.notes[0].text.ends_with(": deviation, size and crop are as for ImageNet"), "{:?}", asked.notes);
    let description = r#"{"input": {"size": [9, 7], "mean": [0, 0, 0], "std": [1, 1, 1]}}"#;
    std::fs::write(folder.path().join("net.json"), description).unwrap();
    let graph = read(&path, &options).unwrap();
    assert_eq!((graph.shapes()[1].height, graph.input.std, graph.name.as_str()), (7, vec![1.0; 3], "net"));
    assert!(graph.notes.is_empty());
    // The description of a checkpoint will do, and contradictions are told.
    let full = description.replacen('{', r#"{"family": "repvgg", "strides": [1], "classes": ["a", "b"], "#, 1);
    let other = folder.path().join("other.json");
    std::fs::write(&other, &full).unwrap();
    let named = LoadOptions { describe: Some(other.clone()), ..Default::default() };
    assert_eq!(read(&path, &named).unwrap().classes.unwrap().len(), 2);
    std::fs::write(&path, conv().encode_to_vec()).unwrap();
    let text = read(&path, &named).unwrap_err().to_string();
    assert!(text.contains("net.onnx") && text.contains("says an input of [9, 7], the network has [6, 8]"), "{text}");
    std::fs::write(&other, full.replace("\"std\"", "\"sdt\"")).unwrap();
    let text = read(&path, &named).unwrap_err().to_string();
    assert!(text.contains("other.json") && text.contains("sdt"), "{text}");
    // Without one: ImageNet's, which is noted.
    std::fs::remove_file(folder.path().join("net.json")).unwrap();
    let graph = read(&path, &options).unwrap();
    assert_eq!((graph.input.size, graph.input.resize, graph.input.mean[0]), ([6, 8], Some(9), 0.485));
    assert!(graph.notes[0].text.contains("ImageNet"));
}

/// A convolution of an input with these sides and of this type.
fn conv_of_input(kind: i32, sides: &[i64], channels: i64) -> ModelProto {
    changed(|_, g| {
        g.input[0] = value("x", kind, sides);
        g.initializer = vec![floats("w", &[4, channels, 3, 3])];
        if sides[1] != channels {
            g.node.insert(0, node("Transpose", "x", "t", vec![ints("perm", &[0, 3, 1, 2])]));
            g.node[1].input[0] = "t".into();
        }
    })
}

#[test]
fn inputs_of_one_and_of_many_channels() {
    for (sides, channels) in
        [(&[1, 1, 6, 8], 1), (&[-1, 6, 8, 1], 1), (&[1, 4, 6, 8], 4), (&[1, 6, 8, 2], 2), (&[1, 5, 6, 8], 5)]
    {
        let graph = parse(&conv_of_input(1, sides, channels)).unwrap();
        let count = usize::try_from(channels).unwrap();
        assert_eq!((graph.input.size, graph.shapes()[0]), ([6, 8], Shape::new(count, 6, 8)), "{sides:?}");
        assert_eq!((&graph.input.mean, &graph.input.std), (&vec![0.0; count], &vec![1.0; count]), "{sides:?}");
        assert_eq!(graph.input.color, if channels == 1 { Color::Gray } else { Color::Rgb });
        assert_eq!(graph.input.resize, None);
        assert_eq!(graph.input.fit, if channels == 1 { Fit::Stretch } else { Fit::Crop });
        let note = &graph.notes[0].text;
        let words = if channels == 1 { "images are stretched to 6×8" } else { "channels" };
        assert!(note.contains("from 0 to 1 (mean 0, deviation 1)") && note.contains(words), "{note}");
    }
    // Sides that are open: those of the description.
    refused(&conv_of_input(1, &[1, 1, -1, -1], 1), &["leaves height or width open"]);
    // A network that takes the values of pixels.
    let graph = parse(&conv_of_input(2, &[1, 1, 6, 8], 1)).unwrap();
    assert_eq!((graph.input.mean, graph.input.std), (vec![0.0], vec![1.0 / 255.0]));
}

#[test]
fn files_of_this_program_say_what_they_are() {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) };
    let with = |entries: Vec<StringStringEntryProto>| changed(|m, _| m.metadata_props = entries);
    let input = r#"{"size":[6,8],"resize":null,"interpolation":"bilinear","mean":[0.5,0.5,0.5],"std":[1.0,1.0,1.0]}"#;
    let form = || entry("repquant.form", "float");
    let graph = parse(&with(vec![form(), entry("repquant.preprocessing", input)])).unwrap();
    assert_eq!((graph.input.mean, graph.notes.len()), (vec![0.5; 3], 0));
    for (entries, words) in [
        (vec![entry("repquant.form", "qdq")], "is a quantized network (qdq)"),
        (vec![form(), entry("repquant.preprocessing", "{")], "`repquant.preprocessing` cannot be read"),
        (vec![form(), entry("repquant.preprocessing", &input.replace("[6,8]", "[0,8]"))], "input.size"),
        (vec![form(), entry("repquant.preprocessing", &input.replace("[6,8]", "[6,6]"))], "network has [6, 8]"),
        (vec![form(), entry("repquant.classes", "[\"a\", \"a\"]")], "twice"),
    ] {
        refused(&with(entries), &[words]);
    }
    // As many classes as the vector has values.
    let classes = |list: &str| {
        let mut model = with(vec![form(), entry("repquant.classes", list)]);
        let graph = model.graph.as_mut().unwrap();
        graph.node = vec![
            node("ReduceMean", "x", "a", vec![ints("axes", &[2, 3]), int("keepdims", 0)]),
            node("Gemm", "a w", "y", vec![]),
        ];
        graph.initializer = vec![floats("w", &[3, 2])];
        model
    };
    let graph = parse(&classes("[\"a\", \"b\"]")).unwrap();
    assert!(matches!(graph.nodes[2].op, Op::Linear(_)) && graph.class_count().is_some());
    refused(&classes("[\"a\"]"), &["names 1 classes, the network has 2"]);
}
