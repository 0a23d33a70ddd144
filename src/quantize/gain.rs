//! What a split would buy a layer, from its weights alone.

use rayon::prelude::*;

use super::scale::{qmax, scale_for};
use super::search::{largest, plain_error, search};
use crate::model::{Conv, Support};

/// How much less the weights' error `Σ(W − W')²` is with the aligned split than with none, in
/// decibels, one scale for each channel. None where the layer has no error without a split, or the
/// support does not apply (a pointwise kernel has no centre apart from the rest).
pub(crate) fn predicted_gain_db(conv: &Conv, support: Support, bits: u8) -> Option<f64> {
    let (out_channels, per_group, kh, kw) = conv.weight.dim();
    if kh * kw == 1 && support == Support::Center {
        return None;
    }
    let errors = (0..out_channels).into_par_iter().map(|o| {
        let weights: Vec<f32> = conv.weight.index_axis(ndarray::Axis(0), o).iter().copied().collect();
        let mut mask = vec![false; weights.len()];
        support.positions(o, per_group, [kh, kw]).for_each(|p| mask[p] = true);
        let scale = scale_for(largest(&weights), bits);
        (plain_error(&weights, scale, f64::from(qmax(bits))), search(&weights, &mask, bits).error)
    });
    let errors: Vec<(f64, f64)> = errors.collect();
    let (plain, split) = errors.iter().fold((0.0, 0.0), |sum, e| (sum.0 + e.0, sum.1 + e.1));
    (plain > 0.0 && split > 0.0).then(|| 10.0 * (plain / split).log10())
}
