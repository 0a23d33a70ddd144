//! Runs of element-wise operations become one function: whatever lies between one activation and
//! another, reads nothing else, and is read by nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{DraftNode, DraftOp, live};
use super::functions::leaky;
use super::tensors::narrowed;
use crate::model::{Activation, Binary, Expression, Function, Op, Operand, Operator, number};

/// Makes a function of every run, the largest that there is; `outputs` are the nodes that the
/// network gives.
pub(super) fn compose(nodes: &mut [DraftNode], outputs: &[usize]) {
    let live = live(nodes, outputs);
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for id in (0..nodes.len()).filter(|&id| live[id]) {
        for &input in &nodes[id].inputs {
            readers[input].push(id);
        }
    }
    let ends: BTreeSet<usize> = outputs.iter().copied().collect();
    let mut taken = vec![false; nodes.len()];
    for id in (0..nodes.len()).rev().filter(|&id| live[id]) {
        if taken[id] || !is_elementwise(nodes, id) {
            continue;
        }
        let Some((function, run, source)) = largest(nodes, &readers, &ends, id) else { continue };
        for &inner in run.iter().filter(|&&inner| inner != id) {
            taken[inner] = true;
        }
        let node = &mut nodes[id];
        node.op = DraftOp::Op(Op::Function(function));
        node.inputs = vec![source];
        node.relu = false;
        node.source = None;
    }
}

/// Whether each value of a node follows from the values of its inputs at the same place, and from
/// constants of its channel.
fn is_elementwise(nodes: &[DraftNode], id: usize) -> bool {
    let node = &nodes[id];
    let computes =
        matches!(node.op, DraftOp::Op(Op::Activation(_) | Op::Binary(_) | Op::Function(_)) | DraftOp::Affine { .. });
    computes && node.inputs.iter().all(|&input| nodes[input].shape == node.shape)
}

/// The largest run that ends in `id`, as a function of its source: what it computes, its nodes, and
/// what it reads.
fn largest(
    nodes: &[DraftNode],
    readers: &[Vec<usize>],
    ends: &BTreeSet<usize>,
    id: usize,
) -> Option<(Function, BTreeSet<usize>, usize)> {
    let mut run = BTreeSet::from([id]);
    let mut frontier: BTreeSet<usize> = nodes[id].inputs.iter().copied().collect();
    let mut found = None;
    loop {
        if let (Some(&source), 1) = (frontier.first(), frontier.len())
            && is_worth_it(nodes, &run, source)
        {
            match function(nodes, &run, source, id) {
                Some(function) => found = Some((function, run.clone(), source)),
                // A longer one has more steps.
                None if found.is_some() || run.len() > Function::MOST_STEPS => return found,
                None => {}
            }
        }
        let Some(last) = frontier.pop_last() else { return found };
        let inside = is_elementwise(nodes, last)
            && !ends.contains(&last)
            && readers[last].iter().all(|reader| run.contains(reader));
        if !inside || run.len() > Function::MOST_STEPS {
            return found;
        }
        run.insert(last);
        frontier.extend(&nodes[last].inputs);
    }
}

/// One operation that has a form of its own stays as it is, and so do factors and offsets, which
/// are a convolution's, unless what they follow is computed in float.
fn is_worth_it(nodes: &[DraftNode], run: &BTreeSet<usize>, source: usize) -> bool {
    let mut from = source;
    while let (DraftOp::Op(Op::Rearrange(_)), Some(&input)) = (&nodes[from].op, nodes[from].inputs.first()) {
        from = input;
    }
    let in_float = matches!(&nodes[from].op, DraftOp::Op(op) if op.constants().is_none());
    let mut ops = run.iter().map(|&id| &nodes[id].op);
    let lines = ops.all(|op| matches!(op, DraftOp::Affine { .. }));
    if lines { in_float } else { run.len() > 1 }
}

/// What a run computes of its source; none where that is the source itself or has too many steps.
fn function(nodes: &[DraftNode], run: &BTreeSet<usize>, source: usize, id: usize) -> Option<Function> {
    let mut e = Expression::default();
    let mut results: BTreeMap<usize, Operand> = BTreeMap::from([(source, Operand::Input(0))]);
    for &member in run {
        let node = &nodes[member];
        let inputs = node.inputs.iter().map(|input| results.get(input).cloned()).collect::<Option<Vec<_>>>()?;
        let mut result = match &node.op {
            DraftOp::Affine { scale, shift } => affine(&mut e, inputs.first()?.clone(), scale, shift),
            DraftOp::Op(Op::Activation(activation)) => of_activation(&mut e, *activation, inputs.first()?.clone()),
            DraftOp::Op(Op::Binary(binary)) => {
                let operator = match binary {
                    Binary::Add => Operator::Add,
                    Binary::Sub => Operator::Sub,
                    Binary::Mul => Operator::Mul,
                };
                e.push(operator, &inputs)
            }
            DraftOp::Op(Op::Function(function)) => e.insert(function, &inputs),
            _ => return None,
        };
        if node.relu {
            result = e.push(Operator::Max, &[result, number(0.0)]);
        }
        results.insert(member, result);
    }
    let function = e.finish(results.get(&id)?)?;
    function.check().is_ok().then_some(function)
}

/// `scale·x + shift`.
fn affine(e: &mut Expression, x: Operand, scale: &[f64], shift: &[f64]) -> Operand {
    let constant = |values: &[f64]| {
        let same = values.iter().all(|value| *value == values[0]);
        Operand::Constant(values[..if same { 1 } else { values.len() }].iter().map(|&v| narrowed(v)).collect())
    };
    let mut result = x;
    if scale.iter().any(|&a| a != 1.0) {
        result = e.push(Operator::Mul, &[result, constant(scale)]);
    }
    if shift.iter().any(|&b| b != 0.0) {
        result = e.push(Operator::Add, &[result, constant(shift)]);
    }
    result
}

/// A named function, spelled out.
fn of_activation(e: &mut Expression, activation: Activation, x: Operand) -> Operand {
    let clip = |e: &mut Expression, x: Operand, low: f32, high: f32| {
        let raised = if low.is_finite() { e.push(Operator::Max, &[x, number(low)]) } else { x };
        if high.is_finite() { e.push(Operator::Min, &[raised, number(high)]) } else { raised }
    };
    let line = |e: &mut Expression, x: Operand, slope: f32, offset: f32| {
        let scaled = e.push(Operator::Mul, &[x, number(slope)]);
        e.push(Operator::Add, &[scaled, number(offset)])
    };
    match activation {
        Activation::Clip { low, high } => clip(e, x, low, high),
        Activation::LeakyRelu { slope } => leaky(e, x, number(slope)),
        Activation::Sigmoid => e.push(Operator::Sigmoid, &[x]),
        Activation::HardSigmoid { slope, offset } => {
            let bent = line(e, x, slope, offset);
            clip(e, bent, 0.0, 1.0)
        }
        Activation::HardSwish => {
            let bent = line(e, x.clone(), 1.0 / 6.0, 0.5);
            let gate = clip(e, bent, 0.0, 1.0);
            e.push(Operator::Mul, &[x, gate])
        }
        Activation::Silu => {
            let gate = e.push(Operator::Sigmoid, std::slice::from_ref(&x));
            e.push(Operator::Mul, &[x, gate])
        }
    }
}
