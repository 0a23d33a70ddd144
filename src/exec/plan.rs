//! Which buffer holds which activation, and how many images fit.

use crate::gpu::{Buffer, Device};
use crate::model::{Graph, NodeId, QuantizedGraph, Shape};
use crate::{Error, Result};

/// Which activations outlive the step that reads them last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None but the last node's: buffers are used again, memory is that of the widest layers.
    Last,
    /// All of them, each in a buffer of its own, to be read after the run.
    All,
}

/// Buffers for the activations of one network.
#[derive(Debug)]
pub(super) struct Activations {
    buffers: Vec<Buffer>,
    buffer_of: Vec<usize>,
}

impl Activations {
    /// Allocates buffers for nodes that read `inputs` and write `words` words each; those of `outputs` are kept.
    pub(super) fn new(
        device: &Device,
        names: &[&str],
        inputs: &[&[NodeId]],
        outputs: &[NodeId],
        words: &[usize],
        keep: Keep,
    ) -> Result<Self> {
        let (buffer_of, sizes) = assign(inputs, outputs, words, keep);
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

/// Gives each node a buffer that is free from the step that writes it to the last that reads it; the sizes grow to the
/// widest node they serve. That of an output is never free again. Greedy, in execution order: the free buffer that needs to grow least.
fn assign(inputs: &[&[NodeId]], outputs: &[NodeId], words: &[usize], keep: Keep) -> (Vec<usize>, Vec<usize>) {
    let last_read =
        |node: usize| inputs.iter().rposition(|reads| reads.contains(&node)).filter(|_| !outputs.contains(&node));
    let last_use: Vec<usize> = (0..inputs.len()).map(|node| last_read(node).unwrap_or(inputs.len())).collect();
    let (mut buffer_of, mut sizes, mut free): (Vec<usize>, Vec<usize>, Vec<usize>) = Default::default();
    for (node, &need) in words.iter().enumerate() {
        let best = (0..free.len()).min_by_key(|&i| (need.saturating_sub(sizes[free[i]]), sizes[free[i]]));
        let slot = match best {
            Some(i) if keep == Keep::Last => free.swap_remove(i),
            _ => {
                sizes.push(0);
                sizes.len() - 1
            }
        };
        sizes[slot] = sizes[slot].max(need);
        buffer_of.push(slot);
        // Freed only after this node has its own: a kernel never reads and writes the same buffer.
        free.extend((0..=node).filter(|&n| last_use[n] == node).map(|n| buffer_of[n]));
    }
    (buffer_of, sizes)
}

/// The number of images in a batch that suits the device: at most 64, the widest activation within the adapter's limit
/// for one buffer, and all buffers of the network within half a gigabyte.
///
/// # Errors
/// If a single image does not fit: names the layer and the limit.
pub fn batch_size(device: &Device, graph: &Graph) -> Result<usize> {
    let nodes = graph.nodes.iter().map(|n| (n.name.as_str(), n.inputs.as_slice())).collect::<Vec<_>>();
    let outputs: Vec<NodeId> = graph.outputs.iter().map(|output| output.node).collect();
    fit(device, &nodes, &outputs, &graph.shapes())
}

/// As [`batch_size`], for a quantized network that runs alone.
///
/// # Errors
/// If a single image does not fit: names the layer and the limit.
pub fn int8_batch_size(device: &Device, graph: &QuantizedGraph) -> Result<usize> {
    let nodes = graph.nodes.iter().map(|n| (n.name.as_str(), n.inputs.as_slice())).collect::<Vec<_>>();
    let outputs: Vec<NodeId> = graph.outputs.iter().map(|output| output.node).collect();
    fit(device, &nodes, &outputs, &graph.shapes())
}

/// Counts every activation as f32: int8 ones take a quarter of it, layers kept in float all.
fn fit(device: &Device, nodes: &[(&str, &[NodeId])], outputs: &[NodeId], shapes: &[Shape]) -> Result<usize> {
    const MOST: usize = 64;
    const BUDGET_WORDS: usize = 512 << 20 >> 2;
    let words: Vec<usize> = shapes.iter().map(float_words).collect();
    let inputs: Vec<&[NodeId]> = nodes.iter().map(|n| n.1).collect();
    let (_, sizes) = assign(&inputs, outputs, &words, Keep::Last);
    let (widest, most) = words.iter().copied().enumerate().max_by_key(|&(_, w)| w).unwrap_or((0, 1));
    if most > device.max_words() {
        return Err(Error::device(format!(
            "layer {}: one image's activation takes {} MiB, the adapter binds at most {} MiB",
            nodes[widest].0,
            (4 * most) >> 20,
            (4 * device.max_words()) >> 20
        ))
        .hint("use another adapter, or --device cpu"));
    }
    let by_budget = BUDGET_WORDS / sizes.iter().sum::<usize>().max(1);
    Ok(MOST.min(device.max_words() / most.max(1)).min(by_budget).max(1))
}

/// Words of one image's f32 activation.
pub(super) fn float_words(shape: &Shape) -> usize {
    shape.padded_channels() * shape.pixels()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_needs_two_buffers_and_a_residual_three() {
        let (of, sizes) = assign(&[&[], &[0], &[1], &[2]], &[3], &[10, 20, 30, 5], Keep::Last);
        assert_eq!((of, sizes), (vec![0, 1, 0, 1], vec![30, 20]));
        let (of, sizes) = assign(&[&[], &[0], &[1], &[0, 2]], &[3], &[4, 4, 4, 4], Keep::Last);
        assert_eq!(sizes.len(), 3);
        assert!(of[3] != of[0] && of[3] != of[2]);
        let (_, sizes) = assign(&[&[], &[0], &[1]], &[2], &[1, 2, 3], Keep::All);
        assert_eq!(sizes, [1, 2, 3]);
        // An output that is read later, too, keeps its buffer.
        let (of, _) = assign(&[&[], &[0], &[1], &[2]], &[1, 3], &[1; 4], Keep::Last);
        assert!(of[2] != of[1] && of[3] != of[1]);
    }
}
