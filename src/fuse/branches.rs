//! The branches of a block, added up into one kernel and one bias.

use ndarray::{Array1, Array4, s};

use super::batch_norm::{Affine, affine};
use crate::load::{Block, Branch};
use crate::{Error, Result};

/// The branches of a block as a note shows them, `3×3 + 1×1 + identity`; none where it came fused.
pub(super) fn names(branches: &[Branch]) -> Option<String> {
    if matches!(branches, [Branch::Conv { norm: None, .. }]) {
        return None;
    }
    let names = branches.iter().map(|branch| match branch {
        Branch::Conv { weight, .. } => format!("{}×{}", weight.dim().2, weight.dim().3),
        Branch::Identity(_) | Branch::Input => "identity".into(),
    });
    Some(names.collect::<Vec<_>>().join(" + "))
}

/// One kernel `O × I/groups × k × k` and bias `O` that compute what the block's branches do
/// together.
///
/// With `a` the scale of a branch's batch norm: `W = Σ a·W_branch`, each kernel zero-padded around
/// its centre, an identity being a 1×1 convolution with the identity matrix (within each group);
/// `b = Σ β − a·μ + a·b_branch`; a batch norm of the sum scales both in the end. In f64, rounded
/// once.
pub(super) fn fuse_block(block: &Block) -> Result<(Array4<f32>, Array1<f32>)> {
    let &Block { in_channels, out_channels, kernel, groups, .. } = block;
    if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) || kernel % 2 == 0 {
        return Err(Error::bad(format!(
            "{in_channels} to {out_channels} channels in {groups} groups with a {kernel}×{kernel} kernel make no \
             convolution"
        )));
    }
    let inputs = in_channels / groups;
    let mut weight = Array4::<f64>::zeros((out_channels, inputs, kernel, kernel));
    let mut bias = Array1::<f64>::zeros(out_channels);
    for branch in &block.branches {
        match branch {
            Branch::Conv { weight: w, bias: b, norm } => {
                let (o, i, k, width) = w.dim();
                let length_fits = b.as_ref().is_none_or(|b| b.len() == out_channels);
                if (o, i, width) != (out_channels, inputs, k) || k > kernel || k % 2 == 0 || !length_fits {
                    return Err(Error::bad(format!(
                        "a branch of shape {:?} does not fit a block of shape {:?}",
                        w.shape(),
                        weight.shape()
                    )));
                }
                let Affine { scale, shift } = match norm {
                    Some(norm) => affine(norm, out_channels)?,
                    None => Affine::identity(out_channels),
                };
                let edge = (kernel - k) / 2;
                let mut centre = weight.slice_mut(s![.., .., edge..edge + k, edge..edge + k]);
                for (o, &a) in scale.iter().enumerate() {
                    let own = b.as_ref().map_or(0.0, |b| a * f64::from(b[o]));
                    bias[o] += shift[o] + own;
                    let mut filter = centre.slice_mut(s![o, .., .., ..]);
                    filter.zip_mut_with(&w.slice(s![o, .., .., ..]), |sum, &v| *sum += a * f64::from(v));
                }
            }
            Branch::Identity(_) | Branch::Input => {
                if in_channels != out_channels || block.stride != 1 {
                    return Err(Error::bad("an identity branch needs stride 1 and as many channels out as in"));
                }
                let Affine { scale, shift } = match branch {
                    Branch::Identity(norm) => affine(norm, out_channels)?,
                    _ => Affine::identity(out_channels),
                };
                for (o, (a, b)) in scale.iter().zip(shift).enumerate() {
                    weight[[o, o % inputs, kernel / 2, kernel / 2]] += a;
                    bias[o] += b;
                }
            }
        }
    }
    if let Some(norm) = &block.norm {
        let Affine { scale, shift } = affine(norm, out_channels)?;
        for (o, (a, b)) in scale.iter().zip(shift).enumerate() {
            weight.slice_mut(s![o, .., .., ..]).mapv_inplace(|v| a * v);
            bias[o] = a * bias[o] + b;
        }
    }
    let (weight, bias) = (weight.mapv(|v| v as f32), bias.mapv(|v| v as f32));
    if !weight.iter().chain(&bias).all(|v| v.is_finite()) {
        return Err(Error::bad("a fused weight is too large for f32"));
    }
    Ok((weight, bias))
}
