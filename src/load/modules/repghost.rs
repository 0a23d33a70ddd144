//! timm's `RepGhostNet` (arXiv 2211.06088).

use super::builder::{Builder, Stages};
use crate::Result;
use crate::model::{Activation, NodeId};

/// timm's and PyTorch's: `min(max(x/6 + 1/2, 0), 1)`.
const HARD_SIGMOID: Activation = Activation::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 };

/// Adds the network behind the input.
pub(super) fn build(b: &mut Builder<'_>, input: NodeId) -> Result<Stages> {
    let stem = b.conv(input, "conv_stem", Some("bn1"), 2, None)?;
    let mut x = b.relu(stem);
    for stage in 0..b.count("blocks") {
        for index in 0..b.count(&format!("blocks.{stage}")) {
            let path = format!("blocks.{stage}.{index}");
            let last = format!("{path}.conv");
            x = if b.has(&last) {
                let conv = b.conv(x, &last, Some(&format!("{path}.bn1")), 1, None)?;
                b.relu(conv)
            } else {
                bottleneck(b, x, &path)?
            };
        }
    }
    let stages = vec![[b.channels(stem), b.count("blocks"), b.channels(x)]];
    x = b.pool(x, "global_pool");
    let head = b.conv(x, "conv_head", None, 1, None)?;
    x = b.relu(head);
    let classifier = b.matrix("classifier", b.channels(x), None)?;
    b.classifier(x, "classifier", &classifier);
    Ok(stages)
}

/// A pointwise convolution, and a depthwise one of its result that is added to it; each with a
/// `ReLU` or without.
fn ghost(b: &mut Builder<'_>, x: NodeId, path: &str, relu: bool) -> Result<NodeId> {
    let primary = format!("{path}.primary_conv");
    let mut first = b.conv(x, &format!("{primary}.0"), Some(&format!("{primary}.1")), 1, None)?;
    if relu {
        first = b.relu(first);
    }
    let cheap = format!("{path}.cheap_operation");
    let sum = if b.has(&format!("{cheap}.0")) {
        let mut parts = vec![b.conv(first, &format!("{cheap}.0"), Some(&format!("{cheap}.1")), 1, None)?];
        for index in 0..b.count(&format!("{path}.fusion_bn")) {
            parts.push(b.norm(first, &format!("{path}.fusion_bn.{index}"), None)?);
        }
        b.sum(path, &parts)?
    } else {
        b.conv(first, &cheap, None, 1, None)?
    };
    Ok(if relu { b.relu(sum) } else { sum })
}

fn bottleneck(b: &mut Builder<'_>, x: NodeId, path: &str) -> Result<NodeId> {
    let down = format!("{path}.conv_dw");
    let stride = if b.has(&down) { 2 } else { 1 };
    let mut y = ghost(b, x, &format!("{path}.ghost1"), true)?;
    if b.has(&down) {
        y = b.conv(y, &down, Some(&format!("{path}.bn_dw")), stride, None)?;
    }
    y = b.squeeze(y, &format!("{path}.se"), ["conv_reduce", "conv_expand"], HARD_SIGMOID)?;
    y = ghost(b, y, &format!("{path}.ghost2"), false)?;
    let short = format!("{path}.shortcut");
    let shortcut = if b.has(&short) {
        let depthwise = b.conv(x, &format!("{short}.0"), Some(&format!("{short}.1")), stride, None)?;
        b.conv(depthwise, &format!("{short}.2"), Some(&format!("{short}.3")), 1, None)?
    } else {
        x
    };
    b.sum(path, &[y, shortcut])
}
