//! What is done to the draft before it becomes a graph: patterns that exporters spell out, what
//! folds into a convolution, and what a node can hold itself.

use super::compose;
use super::draft::{DraftNode, DraftOp, live};
use crate::model::{Activation, Binary, Op, RearrangeKind};

/// How far a factor may be from what a pattern asks for, relative: constants are f32, some of them
/// rounded twice.
const CLOSE: f64 = 1e-6;

/// Runs every pass; `outputs` are the nodes that the network gives.
pub(super) fn simplify(nodes: &mut [DraftNode], outputs: &mut [usize]) {
    pass(nodes, outputs, pattern);
    pass(nodes, outputs, join_clips);
    pass(nodes, outputs, fold_affine);
    pass(nodes, outputs, fuse_relu);
    compose::compose(nodes, outputs);
    pass(nodes, outputs, join_reshapes);
}

/// How often each node is read by nodes that the outputs need, or is an output.
pub(super) fn readers(nodes: &[DraftNode], outputs: &[usize]) -> Vec<usize> {
    let mut readers = vec![0; nodes.len()];
    let live = live(nodes, outputs);
    let inputs = nodes.iter().zip(live).filter(|(_, live)| *live).flat_map(|(node, _)| &node.inputs);
    for &read in inputs.chain(outputs.iter()) {
        readers[read] += 1;
    }
    readers
}

/// Goes through the nodes in order; `step` changes one, or says which earlier node stands for it
/// from now on.
fn pass(
    nodes: &mut [DraftNode],
    outputs: &mut [usize],
    step: impl Fn(&mut [DraftNode], usize, &[usize]) -> Option<usize>,
) {
    let mut readers = readers(nodes, outputs);
    let mut stands: Vec<usize> = (0..nodes.len()).collect();
    for id in 0..nodes.len() {
        for input in &mut nodes[id].inputs {
            *input = stands[*input];
        }
        if readers[id] == 0 {
            continue;
        }
        if let Some(other) = step(nodes, id, &readers) {
            stands[id] = other;
            readers[other] = readers[other] + readers[id] - 1;
            take_name(nodes, other, id);
        }
    }
    for output in outputs {
        *output = stands[*output];
    }
}

/// Gives `node` the name of `taken`, which it now stands for, where that names the layer that both
/// belong to: files of this program call a layer's last operation NAME and the others NAME/….
pub(super) fn take_name(nodes: &mut [DraftNode], node: usize, taken: usize) {
    let name = nodes[taken].name.clone();
    if !name.is_empty() && nodes[node].name.strip_prefix(&name).is_some_and(|rest| rest.starts_with('/')) {
        nodes[node].name = name;
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= CLOSE * b.abs()
}

/// The factor and the offset, where they are the same for all channels.
fn uniform(node: &DraftNode) -> Option<(f64, f64)> {
    let DraftOp::Affine { scale, shift } = &node.op else { return None };
    let same = |values: &[f64]| values.iter().all(|v| *v == values[0]);
    (same(scale) && same(shift)).then(|| (scale[0], shift[0]))
}

fn activation(node: &DraftNode) -> Option<Activation> {
    match node.op {
        DraftOp::Op(Op::Activation(activation)) => Some(activation),
        _ => None,
    }
}

/// `min(max(x + 3, 0), 6)`: the x that it is of.
fn six(nodes: &[DraftNode], id: usize) -> Option<usize> {
    let clip = &nodes[id];
    let shifted = &nodes[*clip.inputs.first()?];
    let fits = activation(clip) == Some(Activation::Clip { low: 0.0, high: 6.0 })
        && uniform(shifted).is_some_and(|(scale, shift)| scale == 1.0 && shift == 3.0);
    if fits { shifted.inputs.first().copied() } else { None }
}

/// Whether it is `min(max(x/6 + 1/2, 0), 1)`.
fn is_sixth(activation: Activation) -> bool {
    let Activation::HardSigmoid { slope, offset } = activation else { return false };
    close(f64::from(slope), 1.0 / 6.0) && offset == 0.5
}

/// `x·sigmoid(x)`, `x·min(max(x/6 + 1/2, 0), 1)` and what is spelled out of them.
fn pattern(nodes: &mut [DraftNode], id: usize, _: &[usize]) -> Option<usize> {
    let node = &nodes[id];
    let found = match (&node.op, node.inputs.as_slice()) {
        (DraftOp::Op(Op::Binary(Binary::Mul)), &[a, b]) => [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
            let whole = match activation(&nodes[gate])? {
                Activation::Sigmoid => Activation::Silu,
                gate if is_sixth(gate) => Activation::HardSwish,
                _ => return None,
            };
            (nodes[gate].inputs == [x]).then_some((whole, x))
        }),
        (DraftOp::Affine { .. }, &[inner]) => {
            let sixth = uniform(node).is_some_and(|(scale, shift)| close(scale, 1.0 / 6.0) && shift == 0.0);
            let product = match (&nodes[inner].op, nodes[inner].inputs.as_slice()) {
                (DraftOp::Op(Op::Binary(Binary::Mul)), &[a, b]) => {
                    [(a, b), (b, a)].into_iter().find(|&(x, clip)| six(nodes, clip) == Some(x))
                }
                _ => None,
            };
            match (product, six(nodes, inner)) {
                _ if !sixth => None,
                (Some((x, _)), _) => Some((Activation::HardSwish, x)),
                (None, Some(x)) => Some((Activation::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 }, x)),
                (None, None) => None,
            }
        }
        _ => None,
    };
    if let Some((activation, x)) = found {
        nodes[id].op = DraftOp::Op(Op::Activation(activation));
        nodes[id].inputs = vec![x];
    }
    None
}

/// The value for a channel, of a list that may have one for all.
fn at(values: &[f64], channel: usize) -> f64 {
    if values.len() == 1 { values[0] } else { values[channel] }
}

/// The convolution that `id` is or that its values come from, moved, with nothing else reading any
/// of them; and how many of its channels, one behind the other, make one.
fn only_source(nodes: &[DraftNode], id: usize, readers: &[usize]) -> Option<(usize, usize)> {
    let (source, spread) = match nodes[id].op {
        DraftOp::Conv(_) => (id, 1),
        _ => nodes[id].source?,
    };
    let mut at = id;
    while at != source {
        match (&nodes[at].op, nodes[at].inputs.as_slice()) {
            (DraftOp::Op(Op::Rearrange(_)), &[input]) if readers[at] == 1 => at = input,
            _ => return None,
        }
    }
    (readers[source] == 1 && matches!(nodes[source].op, DraftOp::Conv(_))).then_some((source, spread))
}

/// Factors and offsets go into the convolution before them, or the factors and offsets before them.
fn fold_affine(nodes: &mut [DraftNode], id: usize, readers: &[usize]) -> Option<usize> {
    let (DraftOp::Affine { scale, shift }, &[input]) = (&nodes[id].op, nodes[id].inputs.as_slice()) else {
        return None;
    };
    if scale.iter().all(|&a| a == 1.0) && shift.iter().all(|&b| b == 0.0) {
        return Some(input);
    }
    let (scale, shift) = (scale.clone(), shift.clone());
    if let Some((source, spread)) = only_source(nodes, input, readers)
        && let DraftOp::Conv(conv) = &mut nodes[source].op
    {
        for (channel, (a, b)) in conv.scale.iter_mut().zip(&mut conv.shift).enumerate() {
            let factor = at(&scale, channel / spread);
            *a *= factor;
            *b = factor * *b + at(&shift, channel / spread);
        }
        return Some(input);
    }
    if readers[input] == 1
        && let DraftOp::Affine { scale: first, shift: offset } = &mut nodes[input].op
    {
        let channels = first.len().max(offset.len()).max(scale.len()).max(shift.len());
        let combined =
            (0..channels).map(|c| (at(&scale, c) * at(first, c), at(&scale, c) * at(offset, c) + at(&shift, c)));
        (*first, *offset) = combined.collect();
        return Some(input);
    }
    None
}

/// A `ReLU` goes into the convolution or the sum before it, past what only moves values.
fn fuse_relu(nodes: &mut [DraftNode], id: usize, readers: &[usize]) -> Option<usize> {
    if activation(&nodes[id]) != Some(Activation::Clip { low: 0.0, high: f32::INFINITY }) {
        return None;
    }
    let &[input] = nodes[id].inputs.as_slice() else { return None };
    let mut at = input;
    while readers[at] == 1 {
        match (&nodes[at].op, nodes[at].inputs.as_slice()) {
            (DraftOp::Conv(_) | DraftOp::Op(Op::Binary(_)), _) => {
                nodes[at].relu = true;
                take_name(nodes, at, id);
                return Some(input);
            }
            // These become convolutions.
            (DraftOp::Affine { .. } | DraftOp::Pad(_), _) => {
                nodes[at].relu = true;
                return Some(input);
            }
            (DraftOp::Op(Op::Rearrange(_)), &[before]) => at = before,
            _ => return None,
        }
    }
    None
}

/// A clip of a clip that nothing else reads is one clip, where it leaves something.
fn join_clips(nodes: &mut [DraftNode], id: usize, readers: &[usize]) -> Option<usize> {
    let &[input] = nodes[id].inputs.as_slice() else { return None };
    let (Some(Activation::Clip { low, high }), Some(Activation::Clip { low: first_low, high: first_high }), 1) =
        (activation(&nodes[id]), activation(&nodes[input]), readers[input])
    else {
        return None;
    };
    let (low, high) = (first_low.clamp(low, high), first_high.clamp(low, high));
    if low < high {
        nodes[id].op = DraftOp::Op(Op::Activation(Activation::Clip { low, high }));
        let inputs = nodes[input].inputs.clone();
        nodes[id].inputs = inputs;
    }
    None
}

/// A reshape of what was moved is that in another shape.
fn join_reshapes(nodes: &mut [DraftNode], id: usize, readers: &[usize]) -> Option<usize> {
    let DraftOp::Op(Op::Rearrange(outer)) = &nodes[id].op else { return None };
    let (&[input], RearrangeKind::Reshape) = (nodes[id].inputs.as_slice(), &outer.kind) else { return None };
    let shape = outer.shape;
    if nodes[input].shape == shape {
        return Some(input);
    }
    let only = readers[input] == 1;
    let DraftOp::Op(Op::Rearrange(inner)) = &mut nodes[input].op else { return None };
    match inner.kind {
        RearrangeKind::Reshape => {
            let before = nodes[input].inputs[0];
            nodes[id].inputs = vec![before];
            (nodes[before].shape == shape).then_some(before)
        }
        RearrangeKind::Transpose { .. } | RearrangeKind::Slice { .. } if only => {
            inner.shape = shape;
            nodes[input].shape = shape;
            Some(input)
        }
        _ => None,
    }
}
