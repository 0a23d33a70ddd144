//! Parallel branches and chains of convolutions in a [`Graph`], as one convolution each.
//!
//! A network that comes as a graph has the branches that it was trained with as convolutions,
//! poolings and crops whose results are added: parallel 3×3, 1×1 and identity (`RepVGG`,
//! `MobileOne`), 3×1 and 1×3 (`ACNet`), 1×1 before 3×3 or an average pooling (Diverse Branch
//! Block). All of these are linear, so what lies between one activation and the sum is one
//! convolution ([`AffineMap`]), computed in f64 and rounded once.

use super::affine_map::AffineMap;
use crate::Result;
use crate::model::{Binary, Graph, Node, NodeId, Note, NoteKind, Op, Rearrange, Shape, Weights};

/// The most operations from a branch's end back to where the branches part.
const LONGEST: usize = 4;

/// The most weights of a kernel that is tried.
const MOST_WEIGHTS: usize = 1 << 26;

/// Merges what can be merged and notes what was and what was not, and why. Neither the outputs nor
/// their names change.
///
/// # Errors
/// A graph that contradicts itself ([`Graph::check`]).
pub fn merge(mut graph: Graph) -> Result<Graph> {
    graph.check()?;
    let mut work = Work { shapes: graph.shapes(), notes: Vec::new(), graph: &mut graph };
    for id in 0..work.graph.nodes.len() {
        work.sum(id);
    }
    for id in 0..work.graph.nodes.len() {
        work.chain(id);
    }
    let notes = work.notes;
    graph.notes.extend(notes);
    graph.prune();
    graph.check()?;
    Ok(graph)
}

struct Work<'g> {
    graph: &'g mut Graph,
    shapes: Vec<Shape>,
    notes: Vec<Note>,
}

/// An operand of a sum, as a map of one of the activations before it.
struct Branch {
    /// Each activation on the way back, nearest first, with the map from there to the operand and
    /// what it is made of.
    back: Vec<Step>,
    /// Why it could not be followed further, where that is not plain.
    stopped: Option<&'static str>,
}

struct Step {
    source: NodeId,
    /// None: the operand itself.
    map: Option<AffineMap>,
    /// `3×3`, `1×1 then 3×3` …
    name: String,
    /// Multiplications of the operations on the way.
    macs: usize,
}

impl Work<'_> {
    fn readers(&self, id: NodeId) -> usize {
        let nodes = self.graph.nodes.iter().map(|n| n.inputs.iter().filter(|&&input| input == id).count());
        nodes.sum::<usize>() + self.graph.outputs.iter().filter(|output| output.node == id).count()
    }

    /// The linear map of a node that nothing else needs; none where it is something else.
    fn linear(&self, id: NodeId) -> Option<(NodeId, AffineMap, String)> {
        let node = &self.graph.nodes[id];
        let input = *node.inputs.first()?;
        if node.relu || self.readers(id) != 1 {
            return None;
        }
        let x = self.shapes[input];
        match &node.op {
            Op::Conv(conv) => {
                let map = AffineMap::conv(conv, x);
                let norm = conv.is_depthwise() && conv.kernel() == [1, 1] && conv.stride == [1, 1];
                let name = if norm { "scale".into() } else { map.name() };
                Some((input, map, name))
            }
            Op::Pool(pool) => {
                Some((input, AffineMap::pool(pool, x)?, format!("{}×{} mean", pool.kernel[0], pool.kernel[1])))
            }
            Op::Rearrange(crop @ Rearrange { .. }) => Some((input, AffineMap::crop(crop, x)?, "crop".into())),
            _ => None,
        }
    }

    /// Follows an operand back as long as all is linear.
    fn branch(&self, operand: NodeId) -> Branch {
        let mut back = vec![Step { source: operand, map: None, name: "identity".into(), macs: 0 }];
        let mut stopped = None;
        while let Some(last) = back.last().filter(|_| back.len() <= LONGEST) {
            let Some((source, first, name)) = self.linear(last.source) else { break };
            if first.weight.len() > MOST_WEIGHTS {
                break;
            }
            let macs = last.macs + first.macs();
            let (map, name) = match &last.map {
                None => (Ok(first), name),
                Some(second) => (second.after(&first), format!("{name} then {}", last.name)),
            };
            match map {
                Ok(map) => back.push(Step { source, map: Some(map), name, macs }),
                Err(reason) => {
                    stopped = Some(reason);
                    break;
                }
            }
        }
        Branch { back, stopped }
    }

    /// Merges the operands of a sum, those of sums within it included.
    fn sum(&mut self, id: NodeId) {
        if !self.is_sum(id) || self.is_part_of_a_sum(id) {
            return;
        }
        let (mut operands, mut open) = (Vec::new(), self.graph.nodes[id].inputs.clone());
        while let Some(next) = open.pop() {
            if self.is_sum(next) && self.is_part_of_a_sum(next) {
                open.extend(&self.graph.nodes[next].inputs);
            } else {
                operands.push(next);
            }
        }
        operands.sort_unstable();
        let branches: Vec<Branch> = operands.iter().map(|&operand| self.branch(operand)).collect();
        match self.merged(id, &branches) {
            Ok(None) => {}
            Ok(Some((text, replaced))) => {
                self.note(id, NoteKind::Merged, text);
                for (place, node) in replaced {
                    self.graph.nodes[place] = node;
                }
                self.forget_unneeded();
            }
            Err(reason) => self.note(id, NoteKind::NotMerged, reason),
        }
    }

    fn is_sum(&self, id: NodeId) -> bool {
        let Node { op, inputs, .. } = &self.graph.nodes[id];
        matches!(op, Op::Binary(Binary::Add)) && inputs.iter().all(|&input| self.shapes[input] == self.shapes[id])
    }

    /// Whether a sum is an operand of another one and nothing else.
    fn is_part_of_a_sum(&self, id: NodeId) -> bool {
        let mut readers = (id + 1..self.graph.nodes.len()).filter(|&n| self.graph.nodes[n].inputs.contains(&id));
        !self.graph.nodes[id].relu && self.readers(id) == 1 && readers.next().is_some_and(|n| self.is_sum(n))
    }

    /// The convolution that stands for the branches of a sum: the note, and the nodes to be
    /// replaced. None where there is nothing to say; an error says why there is no such
    /// convolution.
    fn merged(&self, id: NodeId, branches: &[Branch]) -> Result<Option<(String, Replaced)>, String> {
        let with = |source: NodeId| {
            branches.iter().filter_map(move |b| b.back.iter().find(|step| step.source == source)).collect::<Vec<_>>()
        };
        let sources = branches.iter().flat_map(|b| b.back.iter().map(|step| step.source));
        // The activation that most branches come from; of several the nearest.
        let Some(source) = sources.max_by_key(|&source| (with(source).len(), source)) else { return Ok(None) };
        let parts = with(source);
        if parts.len() < 2 {
            let stopped = branches.iter().find_map(|b| b.stopped);
            return Err(stopped.map_or_else(
                || "its operands come from different activations".into(),
                |reason| format!("its operands have no activation in common: {reason}"),
            ));
        }
        if parts.iter().all(|step| step.map.is_none()) {
            return Ok(None);
        }
        let identity = AffineMap::identity(self.shapes[source]);
        let mut sum: Option<AffineMap> = None;
        for step in &parts {
            let map = step.map.as_ref().unwrap_or(&identity);
            sum = Some(match sum {
                None => map.clone(),
                Some(sum) => sum.plus(map)?,
            });
        }
        let Some(sum) = sum else { return Ok(None) };
        let before: usize = parts.iter().map(|step| step.macs).sum();
        if sum.macs() > before {
            return Err(format!("one kernel would take {} multiplications, the branches take {before}", sum.macs()));
        }
        let conv = sum.to_conv().ok_or("one kernel would need uneven padding, or its weights do not fit f32")?;
        let names: Vec<&str> = parts.iter().map(|step| step.name.as_str()).collect();
        let (text, relu) = (names.join(" + "), self.graph.nodes[id].relu);
        let node = |at: NodeId, relu| Node {
            name: self.graph.nodes[at].name.clone(),
            op: Op::Conv(conv.clone()),
            inputs: vec![source],
            relu,
        };
        let rest: Vec<NodeId> = branches
            .iter()
            .filter(|b| b.back.iter().all(|step| step.source != source))
            .map(|b| b.back[0].source)
            .collect();
        match rest.as_slice() {
            [] => Ok(Some((text, vec![(id, node(id, relu))]))),
            [other] => {
                // The last of the merged operands makes room for the convolution; it is no
                // identity.
                let last = branches.iter().filter(|b| b.back.len() > 1 && b.back.iter().any(|s| s.source == source));
                let Some(at) = last.map(|b| b.back[0].source).max() else { return Ok(None) };
                let mut sum = self.graph.nodes[id].clone();
                sum.inputs = vec![at, *other];
                Ok(Some((text, vec![(at, node(at, false)), (id, sum)])))
            }
            _ => Err(format!("{} of its operands come from other activations", rest.len())),
        }
    }

    /// Merges a convolution with the one before it, where nothing lies between and that does not
    /// take more work.
    fn chain(&mut self, id: NodeId) {
        loop {
            let (Op::Conv(conv), [before]) = (&self.graph.nodes[id].op, self.graph.nodes[id].inputs.as_slice()) else {
                return;
            };
            let before = *before;
            if !matches!(self.graph.nodes[before].op, Op::Conv(_)) {
                return;
            }
            let second = AffineMap::conv(conv, self.shapes[before]);
            let Some((source, first, name)) = self.linear(before) else { return };
            let text = format!("{name} then {}", second.name());
            let merged = second.follows(&first).map_err(str::to_owned).and_then(|()| {
                let (after, apart) = (second.macs_after(&first), first.macs() + second.macs());
                if after > apart {
                    return Err(format!("one kernel would take {after} multiplications, the two take {apart}"));
                }
                second.after(&first)?.to_conv().ok_or_else(|| "one kernel would need uneven padding".to_owned())
            });
            match merged {
                Ok(conv) => {
                    self.note(id, NoteKind::Merged, text);
                    self.graph.nodes[id].op = Op::Conv(conv);
                    self.graph.nodes[id].inputs = vec![source];
                    self.forget_unneeded();
                }
                Err(reason) => {
                    self.note(id, NoteKind::NotMerged, format!("{text}: {reason}"));
                    return;
                }
            }
        }
    }

    /// Nodes that nothing needs any more no longer count as readers.
    fn forget_unneeded(&mut self) {
        let needed = self.graph.needed();
        for (node, _) in self.graph.nodes.iter_mut().zip(needed).filter(|(_, needed)| !needed) {
            node.inputs.clear();
        }
    }

    fn note(&mut self, id: NodeId, kind: NoteKind, text: String) {
        self.notes.push(Note { layer: self.graph.nodes[id].name.clone(), kind, text });
    }
}

/// Nodes with what takes their place.
type Replaced = Vec<(NodeId, Node)>;
