//! Networks of timm's that are no chain of blocks: their keys name modules, and say which are there.
//!
//! | network | file |
//! | --- | --- |
//! | modules as nodes | `builder` |
//! | `FastViT` T8, T12, S12 | `fastvit` |
//! | `RepGhostNet` | `repghost` |
//! | `RepViT` | `repvit` |
//!
//! Branches stay apart here; what can be merged is merged as in any graph.
#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod builder;
mod fastvit;
mod repghost;
mod repvit;

use super::tensors::Tensors;
use super::{Description, Family};
use crate::model::{Graph, GraphOutput, Note, NoteKind, Shape, class_count};
use crate::{Error, Result};

use self::builder::{Builder, Stages};

/// Builds the network, and says what tells it from others of its family; none where its family is a chain of blocks.
///
/// # Errors
/// Keys that are missing or left over, shapes that do not fit, a description that contradicts them.
pub(super) fn build(name: &str, tensors: &Tensors<'_>, description: &Description) -> Result<Option<(Graph, Stages)>> {
    let network = match description.family {
        Family::FastVit => fastvit::build,
        Family::RepGhost => repghost::build,
        Family::RepVit => repvit::build,
        Family::RepVgg | Family::MobileOne => return Ok(None),
    };
    description.check()?;
    let [height, width] = description.input.size;
    let mut builder = Builder::new(tensors, description.bn_eps, Shape::new(3, height, width))?;
    let stages = network(&mut builder, 0)?;
    let nodes = builder.finish(&description.family.to_string())?;
    let last = nodes.len() - 1;
    let sides = vec![nodes[last].op.weights().map_or(0, |weights| weights.bias.len())];
    let assumed = |text: &String| Note { layer: "checkpoint".into(), kind: NoteKind::Assumed, text: text.clone() };
    let graph = Graph {
        name: name.to_owned(),
        input: description.input.preprocessing(),
        classes: description.classes.clone(),
        outputs: vec![GraphOutput { name: "logits".into(), node: last, sides, one_image: false }],
        notes: tensors.notes.iter().map(assumed).collect(),
        nodes,
    };
    for node in &graph.nodes {
        if let Some(conv) = node.op.weights()
            && !conv.weight.iter().chain(&conv.bias).all(|v| v.is_finite())
        {
            return Err(
                Error::bad("a weight with its batch norm is too large for f32").at(format!("layer {}", node.name))
            );
        }
    }
    graph.check()?;
    let classes = class_count(&graph.outputs).unwrap_or(0);
    match graph.classes.as_ref().map(Vec::len).filter(|&named| named != classes) {
        Some(named) => Err(Error::bad(format!(
            "the description contradicts the weights: it names {named} classes, the classifier has {classes}"
        ))),
        None => Ok(Some((graph, stages))),
    }
}
