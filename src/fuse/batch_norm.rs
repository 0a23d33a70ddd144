//! Batch norm in inference form as a scale and a shift.

use crate::load::BatchNorm;
use crate::{Error, Result};

/// `y = scale·x + shift`, for each channel.
pub(super) struct Affine {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

impl Affine {
    /// What changes nothing.
    pub(super) fn identity(channels: usize) -> Self {
        Self { scale: vec![1.0; channels], shift: vec![0.0; channels] }
    }
}

/// `scale = γ / sqrt(σ² + ε)`, `shift = β − scale·μ`, for `channels` channels, in f64.
pub(super) fn affine(norm: &BatchNorm, channels: usize) -> Result<Affine> {
    let BatchNorm { weight, bias, mean, variance, epsilon } = norm;
    if [weight, bias, mean, variance].iter().any(|v| v.len() != channels) {
        return Err(Error::bad(format!("a batch norm is not of {channels} channels")));
    }
    if variance.iter().any(|&v| f64::from(v) + epsilon <= 0.0) {
        return Err(Error::bad("a batch norm has a variance that is negative, or zero with ε zero"));
    }
    let root = |v: f32| (f64::from(v) + epsilon).sqrt();
    let scale: Vec<f64> = weight.iter().zip(variance).map(|(&g, &v)| f64::from(g) / root(v)).collect();
    let shift = scale.iter().zip(bias.iter().zip(mean)).map(|(a, (&b, &m))| f64::from(b) - a * f64::from(m)).collect();
    Ok(Affine { scale, shift })
}
