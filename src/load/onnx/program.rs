//! The operations of a file that its outputs need, in an order in which they can run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::onnx_proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::{Error, Result};

/// The versions of the standard operators that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 9..=28;

/// A file whose names, versions and order are in order.
pub(super) struct Program<'a> {
    /// Version of the standard operators.
    pub opset: i64,
    /// The one input that is no constant.
    pub input: &'a ValueInfoProto,
    /// The operations that the outputs need, each after those that it reads.
    pub nodes: Vec<&'a NodeProto>,
    /// Which of them makes each tensor.
    pub makers: HashMap<&'a str, &'a NodeProto>,
    /// The constants, by name.
    pub constants: HashMap<&'a str, &'a TensorProto>,
    /// The outputs' names.
    pub outputs: Vec<&'a str>,
}

/// How a message names an operation.
pub(super) fn place(node: &NodeProto) -> String {
    format!("node {} ({})", name(node).escape_debug(), node.op_type().escape_debug())
}

/// The name of an operation, or else of its result.
pub(super) fn name(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.iter().find(|output| !output.is_empty()).map_or("", String::as_str),
        name => name,
    }
}

impl<'a> Program<'a> {
    /// Looks through a file.
    ///
    /// # Errors
    /// Another opset, names that are there twice or not at all, a cycle, more than one input.
    pub(super) fn of(model: &'a ModelProto) -> Result<Self> {
        let graph = model.graph.as_ref().ok_or_else(|| {
            Error::bad("holds no network").hint("it may be cut short or of another format; export it again")
        })?;
        if !model.functions.is_empty() {
            return Err(Error::bad("defines operators of its own (functions)")
                .hint("inline them: onnx.inliner.inline_local_functions"));
        }
        if !graph.sparse_initializer.is_empty() {
            return Err(Error::bad("has sparse constants").hint("export it with dense ones"));
        }
        let opset = opset(model)?;
        let mut constants = HashMap::new();
        for tensor in &graph.initializer {
            if constants.insert(tensor.name(), tensor).is_some() {
                return Err(twice(tensor.name()));
            }
        }
        let makers = makers(graph, &constants)?;
        let outputs: Vec<&str> = graph.output.iter().map(ValueInfoProto::name).collect();
        let mut seen = HashSet::new();
        if let Some(name) = outputs.iter().find(|name| !seen.insert(**name)) {
            return Err(twice(name));
        }
        if outputs.is_empty() {
            return Err(Error::bad("the network has no output"));
        }
        let (live, inputs) = needed(graph, &outputs, &makers, &constants)?;
        let nodes = sorted(graph, &live, &makers)?;
        let mut candidates = graph.input.iter().filter(|input| inputs.contains(input.name()));
        let input = candidates.next().ok_or_else(|| Error::bad("the outputs do not depend on an input"))?;
        if let Some(other) = candidates.next() {
            let (a, b) = (input.name().escape_debug(), other.name().escape_debug());
            return Err(Error::bad(format!("the network has the inputs {a} and {b}; one is expected, the image")));
        }
        let made = |(&name, &index): (&&'a str, &usize)| (name, &graph.node[index]);
        let makers = makers.iter().map(made).collect();
        Ok(Self { opset, input, nodes, makers, constants, outputs })
    }
}

/// The networks that an operation holds.
fn branches(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().filter_map(|attribute| attribute.g.as_deref())
}

/// The tensors of the network around it that an operation reads, those of its branches too.
fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().filter(|name| !name.is_empty()).map(String::as_str).collect();
    for graph in branches(node) {
        let mut own: HashSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
        own.extend(graph.input.iter().map(ValueInfoProto::name));
        for inner in &graph.node {
            names.extend(reads(inner).into_iter().filter(|name| !own.contains(name)));
            own.extend(inner.output.iter().map(String::as_str));
        }
        names.extend(graph.output.iter().map(ValueInfoProto::name).filter(|name| !own.contains(name)));
    }
    names
}

/// The version of the standard operators.
fn opset(model: &ModelProto) -> Result<i64> {
    let mut standard = model.opset_import.iter().filter(|set| matches!(set.domain(), "" | "ai.onnx"));
    let version = standard.next().and_then(|set| set.version);
    let expected = format!("opset {} to {} is expected", OPSETS.start(), OPSETS.end());
    match version {
        Some(version) if OPSETS.contains(&version) && standard.next().is_none() => Ok(version),
        Some(version) => Err(Error::bad(format!("is of opset {version}; {expected}"))
            .hint("export it again for another opset, or convert it: onnx.version_converter.convert_version")),
        None => Err(Error::bad(format!("does not say its opset; {expected}"))),
    }
}

pub(super) fn twice(name: &str) -> Error {
    Error::bad(format!("two tensors are called `{}`", name.escape_debug()))
}

/// The operation that makes each tensor, as its position in the file.
fn makers<'a>(graph: &'a GraphProto, constants: &HashMap<&'a str, &'a TensorProto>) -> Result<HashMap<&'a str, usize>> {
    let mut inputs = HashSet::new();
    if let Some(input) = graph.input.iter().find(|input| !inputs.insert(input.name())) {
        return Err(twice(input.name()));
    }
    let mut makers = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().map(String::as_str).filter(|output| !output.is_empty()) {
            let taken = inputs.contains(output) || constants.contains_key(output);
            if taken || makers.insert(output, index).is_some() {
                return Err(twice(output));
            }
        }
    }
    Ok(makers)
}

/// Which operations the outputs need, and which inputs that are no constants.
fn needed<'a>(
    graph: &'a GraphProto,
    outputs: &[&'a str],
    makers: &HashMap<&'a str, usize>,
    constants: &HashMap<&'a str, &'a TensorProto>,
) -> Result<(Vec<bool>, HashSet<&'a str>)> {
    let declared: HashSet<&str> = graph.input.iter().map(ValueInfoProto::name).collect();
    let mut live = vec![false; graph.node.len()];
    let mut inputs = HashSet::new();
    let mut wanted: Vec<(&str, Option<usize>)> = outputs.iter().map(|&name| (name, None)).collect();
    while let Some((name, reader)) = wanted.pop() {
        if let Some(&maker) = makers.get(name) {
            if !std::mem::replace(&mut live[maker], true) {
                wanted.extend(reads(&graph.node[maker]).into_iter().map(|name| (name, Some(maker))));
            }
        } else if constants.contains_key(name) {
        } else if declared.contains(name) {
            inputs.insert(name);
        } else {
            let error = Error::bad(format!("the tensor `{}` is nowhere in the file", name.escape_debug()));
            return Err(match reader {
                Some(reader) => error.at(place(&graph.node[reader])),
                None => error,
            });
        }
    }
    Ok((live, inputs))
}

/// The operations in the order of the file where that can run, else in the nearest one that can.
fn sorted<'a>(graph: &'a GraphProto, live: &[bool], makers: &HashMap<&str, usize>) -> Result<Vec<&'a NodeProto>> {
    let mut readers: Vec<Vec<usize>> = vec![vec![]; graph.node.len()];
    let mut missing = vec![0usize; graph.node.len()];
    for (index, node) in graph.node.iter().enumerate().filter(|(index, _)| live[*index]) {
        for maker in reads(node).into_iter().filter_map(|name| makers.get(name)) {
            readers[*maker].push(index);
            missing[index] += 1;
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..graph.node.len()).filter(|&index| live[index] && missing[index] == 0).map(Reverse).collect();
    let mut nodes = Vec::new();
    while let Some(Reverse(index)) = ready.pop() {
        nodes.push(&graph.node[index]);
        for &reader in &readers[index] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    match (0..graph.node.len()).find(|&index| live[index] && missing[index] > 0) {
        Some(index) => Err(Error::bad("reads what is made of its own result: a cycle").at(place(&graph.node[index]))),
        None => Ok(nodes),
    }
}
