//! A fused float network as a safetensors file that loads again with nothing beside it.
//!
//! The keys are those of a fused checkpoint of the original repositories
//! (`stage1.0.rbr_reparam.weight` for `RepVGG`, `stage1.0.reparam_conv.weight` for `MobileOne`),
//! and the classifier keeps its name. One metadata entry, `repquant`, holds
//! `{"kind": "float", "version": 1, "description": {…}}` as JSON.

use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use crate::load::{DEFAULT_BN_EPS, Description, FLOAT_VERSION, Family, FloatMetadata, InputDescription};
use crate::model::{Conv, Graph, Op, Weights};
use crate::tensor_file::METADATA_KEY;
use crate::{Error, Result};

/// The file's bytes; the same graph gives the same bytes.
///
/// # Errors
/// [`ErrorKind::Input`](crate::ErrorKind::Input) where the graph is not one of a `RepVGG` or
/// `MobileOne`: not a chain of blocks named `stage0`, `stage1.0` … with equal strides both ways,
/// followed by pooling and a classifier.
pub fn fused_bytes(graph: &Graph) -> Result<Vec<u8>> {
    let Parts { blocks, classifier: (classifier_name, classifier) } = Parts::of(graph)?;
    let (family, module) = if blocks.iter().all(|(_, conv)| conv.kernel() == [3, 3]) {
        (Family::RepVgg, "rbr_reparam")
    } else {
        (Family::MobileOne, "reparam_conv")
    };
    let metadata = FloatMetadata {
        kind: "float".into(),
        version: FLOAT_VERSION,
        description: Description {
            family,
            strides: strides(&blocks)?,
            groups: None,
            bn_eps: DEFAULT_BN_EPS,
            input: InputDescription::from(&graph.input),
            classes: graph.classes.clone(),
        },
    };
    let failed = |e: safetensors::SafeTensorError| Error::bad("the fused network cannot be written").because(e);
    let metadata =
        serde_json::to_string(&metadata).map_err(|e| Error::bad("the description cannot be written").because(e))?;

    let mut data: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut push = |name: String, shape: &[usize], values: &mut dyn Iterator<Item = &f32>| {
        data.push((name, shape.to_vec(), values.flat_map(|v| v.to_le_bytes()).collect()));
    };
    for (name, conv) in &blocks {
        push(format!("{name}.{module}.weight"), conv.weight.shape(), &mut conv.weight.iter());
        push(format!("{name}.{module}.bias"), conv.bias.shape(), &mut conv.bias.iter());
    }
    push(
        format!("{classifier_name}.weight"),
        &[classifier.out_channels(), classifier.in_channels()],
        &mut classifier.weight.iter(),
    );
    push(format!("{classifier_name}.bias"), classifier.bias.shape(), &mut classifier.bias.iter());
    let views = data.iter().map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(failed)?;
    serialize(views, Some(HashMap::from([(METADATA_KEY.to_owned(), metadata)]))).map_err(failed)
}

/// A graph that is a chain of blocks and a classifier.
struct Parts<'g> {
    blocks: Vec<(&'g str, &'g Conv)>,
    classifier: (&'g str, &'g Conv),
}

impl<'g> Parts<'g> {
    fn of(graph: &'g Graph) -> Result<Self> {
        let wrong = |name: &str| {
            Err(Error::bad("only a chain of convolutions with ReLU, pooling and a classifier can be written")
                .at(format!("layer {name}")))
        };
        let mut blocks = Vec::new();
        let mut classifier = None;
        for (id, node) in graph.nodes.iter().enumerate() {
            if id > 0 && node.inputs != [id - 1] {
                return wrong(&node.name);
            }
            let left = graph.nodes.len() - 1 - id;
            match &node.op {
                Op::Input(_) if id == 0 => {}
                Op::Conv(conv) if left > 1 && node.relu => blocks.push((node.name.as_str(), conv)),
                Op::GlobalAveragePool if left == 1 && !node.relu => {}
                Op::Linear(linear) if left == 0 && !node.relu => classifier = Some((node.name.as_str(), linear)),
                _ => return wrong(&node.name),
            }
        }
        match classifier {
            Some(classifier) => Ok(Self { blocks, classifier }),
            None => Err(Error::bad("a network without a classifier cannot be written")),
        }
    }
}

/// The stride of each stage's first block. Names, other strides and padding must be those that
/// loading takes for granted.
fn strides(blocks: &[(&str, &Conv)]) -> Result<Vec<usize>> {
    let mut strides = Vec::new();
    let mut index = 0;
    for (name, conv) in blocks {
        let (next, first) = match strides.len() {
            0 => (None, "stage0".to_owned()),
            stage => (Some(format!("stage{}.{index}", stage - 1)), format!("stage{stage}.0")),
        };
        let [stride, across] = conv.stride;
        let wrong = |what: String| Err(Error::bad(format!("{what} cannot be written")).at(format!("layer {name}")));
        if stride != across || conv.padding != conv.kernel().map(|side| side / 2) {
            return wrong(format!("stride {:?} with padding {:?}", conv.stride, conv.padding));
        }
        if *name == first {
            strides.push(stride);
            index = 1;
        } else if next.as_deref() == Some(name) && stride == 1 && strides.len() > 1 {
            index += 1;
        } else {
            return wrong(format!("a layer of this name and stride {stride} after {} stages", strides.len()));
        }
    }
    Ok(strides)
}
