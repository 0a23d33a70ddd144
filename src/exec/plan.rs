//! Which buffer holds which activation, and how many images fit.

use crate::device::{Buffer, Device};
use crate::error::{Term, text};
use crate::model::{Computed, Graph, GraphOutput, NodeId, QNode, QuantizedGraph, Shape};
use crate::{Error, Result};

/// Which activations outlive the step that reads them last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None but the outputs: buffers are used again, memory is that of the widest layers.
    Last,
    /// All of them, each in a buffer of its own, to be read after the run.
    All,
}

/// What tells how long each activation must last.
#[derive(Debug)]
pub(super) struct Reads<'a> {
    /// The nodes that each node reads.
    pub(super) inputs: Vec<&'a [NodeId]>,
    /// Whether each is the same as its input, word by word, and lies in its buffer.
    pub(super) same: Vec<bool>,
    /// The nodes that the network gives: nothing overwrites them.
    pub(super) outputs: Vec<NodeId>,
}

impl<'a> Reads<'a> {
    /// Of nodes with these inputs, none the same as its input.
    pub(super) fn new(inputs: impl Iterator<Item = &'a [NodeId]>, outputs: &[GraphOutput]) -> Self {
        let inputs: Vec<_> = inputs.collect();
        let same = vec![false; inputs.len()];
        Self { inputs, same, outputs: outputs.iter().map(|output| output.node).collect() }
    }
}

/// Buffers for the activations of one network.
#[derive(Debug)]
pub(super) struct Activations {
    buffers: Vec<Buffer>,
    buffer_of: Vec<usize>,
}

impl Activations {
    /// Allocates buffers for nodes that write `words` words each.
    pub(super) fn new(device: &Device, names: &[&str], reads: &Reads<'_>, words: &[usize], keep: Keep) -> Result<Self> {
        let (buffer_of, sizes) = assign(reads, words, keep);
        let owner = |slot: usize| {
            let widest = (0..words.len()).filter(|&n| buffer_of[n] == slot).max_by_key(|&n| words[n]);
            widest.map_or("activation", |n| names[n])
        };
        let buffers = sizes
            .iter()
            .enumerate()
            .map(|(slot, &size)| device.alloc(size, &format!("activation of layer {}", owner(slot))))
            .collect::<Result<_>>()?;
        Ok(Self { buffers, buffer_of })
    }

    /// The buffer of a node. Its contents are that node's until the last step that reads them.
    pub(super) fn of(&self, node: NodeId) -> &Buffer {
        &self.buffers[self.buffer_of[node]]
    }
}

/// Gives each node a buffer that is free from the step that writes it to the last that reads it;
/// the sizes grow to the widest node they serve. Greedy, in execution order: the free buffer that
/// needs to grow least.
fn assign(reads: &Reads<'_>, words: &[usize], keep: Keep) -> (Vec<usize>, Vec<usize>) {
    let count = words.len();
    // The node whose buffer each has.
    let mut holder: Vec<NodeId> = (0..count).collect();
    for node in 0..count {
        if let (true, Some(&input)) = (reads.same[node], reads.inputs[node].first()) {
            holder[node] = holder[input];
        }
    }
    // The step after which a buffer is free; that of an output never is.
    let mut last_use = vec![None; count];
    for (node, inputs) in reads.inputs.iter().enumerate() {
        for &input in *inputs {
            last_use[holder[input]] = Some(node);
        }
    }
    for &node in &reads.outputs {
        last_use[holder[node]] = None;
    }
    let (mut buffer_of, mut sizes, mut free): (Vec<usize>, Vec<usize>, Vec<usize>) = Default::default();
    for (node, &need) in words.iter().enumerate() {
        let best = (0..free.len()).min_by_key(|&i| (need.saturating_sub(sizes[free[i]]), sizes[free[i]]));
        let slot = match best {
            _ if holder[node] != node => buffer_of[holder[node]],
            Some(i) if keep == Keep::Last => free.swap_remove(i),
            _ => {
                sizes.push(0);
                sizes.len() - 1
            }
        };
        sizes[slot] = sizes[slot].max(need);
        buffer_of.push(slot);
        // Freed only after this node has its own: a kernel never reads and writes the same buffer.
        free.extend((0..=node).filter(|&n| last_use[n] == Some(node)).map(|n| buffer_of[n]));
    }
    (buffer_of, sizes)
}

/// The number of images in a batch that suits the device: at most 64, the widest activation within
/// the adapter's limit for one buffer, and all buffers of the network within half a gigabyte, on
/// the Cpu device 128 MiB: what is written there is best read while it is in a cache, and larger
/// batches were no faster.
///
/// # Errors
/// If a single image does not fit: names the layer and the limit.
pub fn batch_size(device: &Device, graph: &Graph) -> Result<usize> {
    let names: Vec<&str> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
    let reads = Reads::new(graph.nodes.iter().map(|n| n.inputs.as_slice()), &graph.outputs);
    let words: Vec<usize> = graph.shapes().iter().map(Shape::padded_len).collect();
    fit(device, &names, &reads, &words, &[])
}

/// As [`batch_size`], for a network whose activations are all kept beside those of a changed one
/// ([`Changed`](super::Changed)): no more than 1 GiB of them.
///
/// # Errors
/// If a single image does not fit: names the layer and the limit.
pub(crate) fn changed_batch_size(device: &Device, graph: &Graph) -> Result<usize> {
    const BUDGET_WORDS: usize = 1 << 30 >> 2;
    let reads = Reads::new(graph.nodes.iter().map(|n| n.inputs.as_slice()), &graph.outputs);
    let words: Vec<usize> = graph.shapes().iter().map(Shape::padded_len).collect();
    let (_, again) = assign(&reads, &words, Keep::Last);
    let image = words.iter().chain(&again).sum::<usize>();
    Ok(batch_size(device, graph)?.min(BUDGET_WORDS / image.max(1)).max(1))
}

/// As [`batch_size`], for a quantized network that runs alone.
///
/// # Errors
/// If a single image does not fit: names the layer and the limit.
pub(crate) fn int8_batch_size(device: &Device, graph: &QuantizedGraph) -> Result<usize> {
    let names: Vec<&str> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
    let reads = Reads::new(graph.nodes.iter().map(|n| n.inputs.as_slice()), &graph.outputs);
    let shapes = graph.shapes();
    fit(device, &names, &reads, &int8_words(graph, &shapes), &scratch_words(graph, &shapes))
}

/// The images whose activations, `words` each, and what else takes memory fit.
fn fit(device: &Device, names: &[&str], reads: &Reads<'_>, words: &[usize], scratch: &[usize]) -> Result<usize> {
    const MOST: usize = 64;
    let budget_words = if device.is_native() { 128 << 20 >> 2 } else { 512 << 20 >> 2 };
    let (_, sizes) = assign(reads, words, Keep::Last);
    let (widest, most) = words.iter().copied().enumerate().max_by_key(|&(_, w)| w).unwrap_or((0, 1));
    if most > device.max_words() {
        return Err(Error::device(format!(
            "layer {}: one image's activation takes {} MiB, the adapter binds at most {} MiB",
            names[widest],
            (4 * most) >> 20,
            (4 * device.max_words()) >> 20
        ))
        .hint(text!["use another adapter, or ", Term::CpuDevice]));
    }
    let largest = scratch.iter().copied().fold(most, usize::max);
    let by_budget = budget_words / sizes.iter().chain(scratch).sum::<usize>().max(1);
    Ok(MOST.min(device.max_words() / largest.max(1)).min(by_budget).max(1))
}

/// Words of one image's activations: levels lie four to a word, accumulators and floats take one
/// each.
pub(super) fn int8_words(graph: &QuantizedGraph, shapes: &[Shape]) -> Vec<usize> {
    let words = |(node, shape): (&QNode, &Shape)| shape.padded_len() / if node.output.is_some() { 4 } else { 1 };
    graph.nodes.iter().zip(shapes).map(words).collect()
}

/// Words for one image of the f32 buffers that all operations computed in f32 use: the first holds
/// a result before it is quantized, the others their inputs made real, in order.
pub(super) fn scratch_words(graph: &QuantizedGraph, shapes: &[Shape]) -> Vec<usize> {
    let mut words = vec![0];
    for (node, shape) in graph.nodes.iter().zip(shapes) {
        if !matches!(node.computed, Computed::Float(_)) {
            continue;
        }
        if node.output.is_some() {
            words[0] = words[0].max(shape.padded_len());
        }
        words.resize(words.len().max(node.inputs.len() + 1), 0);
        for (words, &input) in words[1..].iter_mut().zip(&node.inputs) {
            let is_float = matches!(graph.nodes[input], QNode { computed: Computed::Float(_), output: None, .. });
            *words = (*words).max(if is_float { 0 } else { shapes[input].padded_len() });
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(inputs: &[&[NodeId]], outputs: &[NodeId], words: &[usize], keep: Keep) -> (Vec<usize>, Vec<usize>) {
        let same = vec![false; inputs.len()];
        assign(&Reads { inputs: inputs.to_vec(), same, outputs: outputs.to_vec() }, words, keep)
    }

    #[test]
    fn a_chain_needs_two_buffers_and_a_residual_three() {
        let (of, sizes) = plan(&[&[], &[0], &[1], &[2]], &[3], &[10, 20, 30, 5], Keep::Last);
        assert_eq!((of, sizes), (vec![0, 1, 0, 1], vec![30, 20]));
        let (of, sizes) = plan(&[&[], &[0], &[1], &[0, 2]], &[3], &[4, 4, 4, 4], Keep::Last);
        assert_eq!(sizes.len(), 3);
        assert!(of[3] != of[0] && of[3] != of[2]);
        let (_, sizes) = plan(&[&[], &[0], &[1]], &[2], &[1, 2, 3], Keep::All);
        assert_eq!(sizes, [1, 2, 3]);
    }

    #[test]
    fn outputs_are_never_overwritten() {
        let (of, _) = plan(&[&[], &[0], &[1], &[2], &[3]], &[1, 4], &[8; 5], Keep::Last);
        assert!(of[2..].iter().all(|&slot| slot != of[1]));
    }

    #[test]
    fn what_shares_its_inputs_buffer_keeps_it_in_use() {
        // 2 is the same as 1, and read by 4.
        let inputs: [&[NodeId]; 6] = [&[], &[0], &[1], &[1], &[2, 3], &[4]];
        let same = vec![false, false, true, false, false, false];
        for keep in [Keep::Last, Keep::All] {
            let reads = Reads { inputs: inputs.to_vec(), same: same.clone(), outputs: vec![5] };
            let (of, _) = assign(&reads, &[8; 6], keep);
            assert!(of[2] == of[1] && of[3] != of[1] && of[4] != of[1]);
        }
    }
}
