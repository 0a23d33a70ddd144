//! timm's `FastViT` (arXiv 2303.14189), as far as it is convolutional: T8, T12, S12.

use super::builder::{Builder, Stages};
use crate::model::{Activation, NodeId};
use crate::{Error, Result};

/// Adds the network behind the input.
pub(super) fn build(b: &mut Builder<'_>, input: NodeId) -> Result<Stages> {
    let mut stages = Stages::new();
    let mut x = input;
    for (index, stride) in [2, 2, 1].into_iter().enumerate() {
        x = rep_block(b, x, &format!("stem.{index}"), stride)?;
    }
    for stage in 0..b.count("stages") {
        let path = format!("stages.{stage}");
        if b.has(&format!("{path}.downsample")) {
            x = large_kernel(b, x, &format!("{path}.downsample.proj.0"))?;
            x = rep_block(b, x, &format!("{path}.downsample.proj.1"), 1)?;
        }
        for block in 0..b.count(&format!("{path}.blocks")) {
            let path = format!("{path}.blocks.{block}");
            if b.has(&format!("{path}.token_mixer.qkv")) {
                return Err(Error::bad(format!("{path} has attention, which is not supported"))
                    .hint("of FastViT the variants T8, T12 and S12 are read"));
            }
            x = rep_mixer(b, x, &format!("{path}.token_mixer"))?;
            x = mlp(b, x, &path)?;
        }
        let hidden = b.outputs(&format!("{path}.blocks.0.mlp.fc1.weight"));
        stages.push([b.channels(x), b.count(&format!("{path}.blocks")), hidden]);
    }
    x = rep_block(b, x, "final_conv", 1)?;
    x = b.pool(x, "pool");
    let fc = b.matrix("head.fc", b.channels(x), None)?;
    b.classifier(x, "head.fc", &fc);
    Ok(stages)
}

/// The branches of a MobileOne block, each multiplied by `factors`.
fn branches(b: &mut Builder<'_>, x: NodeId, path: &str, stride: usize, factors: Option<&[f64]>) -> Result<Vec<NodeId>> {
    let fused = format!("{path}.reparam_conv");
    if b.has(&fused) {
        return Ok(vec![b.conv(x, &fused, None, stride, factors)?]);
    }
    let mut parts = Vec::new();
    let numbered = (0..b.count(&format!("{path}.conv_kxk"))).map(|index| format!("{path}.conv_kxk.{index}"));
    let scale = Some(format!("{path}.conv_scale")).filter(|scale| b.has(scale));
    for branch in numbered.chain(scale).collect::<Vec<_>>() {
        parts.push(conv_norm(b, x, &branch, stride, factors)?);
    }
    let identity = format!("{path}.identity");
    if b.has(&identity) {
        parts.push(b.norm(x, &identity, factors)?);
    }
    Ok(parts)
}

fn conv_norm(b: &mut Builder<'_>, x: NodeId, path: &str, stride: usize, factors: Option<&[f64]>) -> Result<NodeId> {
    b.conv(x, &format!("{path}.conv"), Some(&format!("{path}.bn")), stride, factors)
}

/// A MobileOne block with squeeze-and-excitation where it has it, and GELU.
fn rep_block(b: &mut Builder<'_>, x: NodeId, path: &str, stride: usize) -> Result<NodeId> {
    let parts = branches(b, x, path, stride, None)?;
    let sum = b.sum(path, &parts)?;
    let weighed = b.squeeze(sum, &format!("{path}.se"), ["fc1", "fc2"], Activation::Sigmoid)?;
    b.gelu(weighed, &format!("{path}.act"))
}

/// A large kernel and a small one with stride 2.
fn large_kernel(b: &mut Builder<'_>, x: NodeId, path: &str) -> Result<NodeId> {
    let fused = format!("{path}.reparam_conv");
    let sum = if b.has(&fused) {
        b.conv(x, &fused, None, 2, None)?
    } else {
        let large = conv_norm(b, x, &format!("{path}.large_conv"), 2, None)?;
        let small = format!("{path}.small_conv");
        if b.has(&small) {
            let small = conv_norm(b, x, &small, 2, None)?;
            b.sum(path, &[large, small])?
        } else {
            large
        }
    };
    b.squeeze(sum, &format!("{path}.se"), ["fc1", "fc2"], Activation::Sigmoid)
}

/// `x + γ·(mixer(x) − norm(x))`, which is linear.
fn rep_mixer(b: &mut Builder<'_>, x: NodeId, path: &str) -> Result<NodeId> {
    let fused = format!("{path}.reparam_conv");
    if b.has(&fused) {
        return b.conv(x, &fused, None, 1, None);
    }
    let factors = b.layer_scale(&format!("{path}.layer_scale"), b.channels(x))?;
    let negated: Vec<f64> = factors.iter().map(|factor| -factor).collect();
    let mut parts = branches(b, x, &format!("{path}.mixer"), 1, Some(&factors))?;
    parts.extend(branches(b, x, &format!("{path}.norm"), 1, Some(&negated))?);
    parts.push(x);
    b.sum(path, &parts)
}

/// `x + γ·fc2(gelu(fc1(conv(x))))`.
fn mlp(b: &mut Builder<'_>, x: NodeId, path: &str) -> Result<NodeId> {
    let mixed = conv_norm(b, x, &format!("{path}.mlp.conv"), 1, None)?;
    let wide = b.conv(mixed, &format!("{path}.mlp.fc1"), None, 1, None)?;
    let act = b.gelu(wide, &format!("{path}.mlp.act"))?;
    let factors = b.layer_scale(&format!("{path}.layer_scale"), b.channels(x))?;
    let narrow = b.conv(act, &format!("{path}.mlp.fc2"), None, 1, Some(&factors))?;
    b.sum(path, &[x, narrow])
}
