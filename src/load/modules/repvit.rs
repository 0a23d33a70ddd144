//! timm's `RepViT` (arXiv 2307.09283).

use super::builder::{Builder, Matrix, Stages};
use crate::Result;
use crate::model::{Activation, NodeId};

/// Adds the network behind the input.
pub(super) fn build(b: &mut Builder<'_>, input: NodeId) -> Result<Stages> {
    let mut stages = Stages::new();
    let mut x = conv_norm(b, input, "stem.conv1", 2)?;
    x = b.gelu(x, "stem.act1")?;
    x = conv_norm(b, x, "stem.conv2", 2)?;
    for stage in 0..b.count("stages") {
        let path = format!("stages.{stage}");
        let down = format!("{path}.downsample");
        if b.has(&down) {
            x = block(b, x, &format!("{down}.pre_block"))?;
            x = conv_norm(b, x, &format!("{down}.spatial_downsample"), 2)?;
            x = conv_norm(b, x, &format!("{down}.channel_downsample"), 1)?;
            x = mlp(b, x, &format!("{down}.ffn"), &down)?;
        }
        for index in 0..b.count(&format!("{path}.blocks")) {
            x = block(b, x, &format!("{path}.blocks.{index}"))?;
        }
        let first = format!("{path}.blocks.0.channel_mixer.conv1");
        let hidden = b.outputs(&format!("{first}.c.weight")).max(b.outputs(&format!("{first}.weight")));
        stages.push([b.channels(x), b.count(&format!("{path}.blocks")), hidden]);
    }
    x = b.pool(x, "pool");
    let head = head(b, b.channels(x))?;
    b.classifier(x, "head", &head);
    Ok(stages)
}

/// A convolution with batch norm, or what timm's `fuse` makes of it.
fn conv_norm(b: &mut Builder<'_>, x: NodeId, path: &str, stride: usize) -> Result<NodeId> {
    let conv = format!("{path}.c");
    if b.has(&conv) {
        b.conv(x, &conv, Some(&format!("{path}.bn")), stride, None)
    } else {
        b.conv(x, path, None, stride, None)
    }
}

fn block(b: &mut Builder<'_>, x: NodeId, path: &str) -> Result<NodeId> {
    let mixed = token_mixer(b, x, &format!("{path}.token_mixer"))?;
    let weighed = b.squeeze(mixed, &format!("{path}.se"), ["fc1", "fc2"], Activation::Sigmoid)?;
    mlp(b, weighed, &format!("{path}.channel_mixer"), path)
}

/// `bn(3×3(x) + 1×1(x) + x)`; older models have a batch norm for the 1×1 in place of that of the sum.
fn token_mixer(b: &mut Builder<'_>, x: NodeId, path: &str) -> Result<NodeId> {
    let large = format!("{path}.conv");
    if !b.has(&large) {
        return b.conv(x, path, None, 1, None);
    }
    let large = conv_norm(b, x, &large, 1)?;
    let small = conv_norm(b, x, &format!("{path}.conv1"), 1)?;
    let sum = b.sum(path, &[large, small, x])?;
    let norm = format!("{path}.bn");
    if b.has(&norm) { b.norm(sum, &norm, None) } else { Ok(sum) }
}

fn mlp(b: &mut Builder<'_>, x: NodeId, path: &str, name: &str) -> Result<NodeId> {
    let wide = conv_norm(b, x, &format!("{path}.conv1"), 1)?;
    let act = b.gelu(wide, &format!("{path}.act"))?;
    let narrow = conv_norm(b, act, &format!("{path}.conv2"), 1)?;
    b.sum(name, &[x, narrow])
}

/// The classifier: the mean of two where one was distilled.
fn head(b: &mut Builder<'_>, features: usize) -> Result<Matrix> {
    if !b.has("head.head") {
        return b.matrix("head", features, None);
    }
    let plain = |b: &mut Builder<'_>, path: &str| {
        let linear = format!("{path}.l");
        if b.has(&linear) {
            b.matrix(&linear, features, Some(&format!("{path}.bn")))
        } else {
            b.matrix(path, features, None)
        }
    };
    let head = plain(b, "head.head")?;
    if !b.has("head.head_dist") {
        return Ok(head);
    }
    let other = plain(b, "head.head_dist")?;
    if other.bias.len() != head.bias.len() {
        let what = format!("has {} classes, head.head {}", other.bias.len(), head.bias.len());
        return Err(crate::Error::bad(what).at("head.head_dist"));
    }
    Ok(Matrix { weight: (head.weight + other.weight) / 2.0, bias: (head.bias + other.bias) / 2.0 })
}
