//! One layer's weights to int8, with its bias and multipliers, its scales raised where a sum would
//! overflow.

use ndarray::{Array1, Array4, ArrayView1, ArrayView4, Axis};
use rayon::prelude::*;

use super::options::Granularity;
use super::requantize::{Channel, Levels, channel};
use super::split::{SplitForm, published_scales};
use super::stored::Stored;
use super::strategy::{Scales, Strategy, Unit};
use crate::model::{Coarse, CoarseScale, QConv, QParams, Weights};
use crate::{Error, Result};

/// A float layer and what surrounds it.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    /// `O × I/groups × kh × kw`.
    pub weight: ArrayView4<'a, f32>,
    pub bias: ArrayView1<'a, f32>,
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub groups: usize,
    pub bits: u8,
    pub input: Stored,
    /// None where the output stays accumulators.
    pub output: Option<QParams>,
}

/// A quantized unit.
struct Quantized {
    scales: Scales,
    fine: Vec<i8>,
    coarse: Vec<i8>,
    channels: Vec<Channel>,
    raised: bool,
}

/// Quantizes a layer, its scales and levels chosen by `strategy`; gives the number of scales that
/// had to be raised, too.
///
/// An aligned split that no channel gains from (k = 0 everywhere) is left out: the layer then has
/// one part.
///
/// # Errors
/// Where a weight is not finite or a multiplier is out of range; the caller adds the layer's name.
pub(super) fn quantize_layer(
    layer: &Layer<'_>,
    form: SplitForm,
    granularity: Granularity,
    strategy: &dyn Strategy,
) -> Result<(QConv, usize)> {
    let (out_channels, per_group, kh, kw) = layer.weight.dim();
    let weight = layer.weight.as_standard_layout();
    let bias = layer.bias.as_standard_layout();
    let (Some(weights), Some(biases)) = (weight.as_slice(), bias.as_slice()) else {
        unreachable!("the standard layout is contiguous");
    };
    if !weights.iter().chain(biases).all(|w| w.is_finite()) {
        return Err(Error::bad("a weight or bias is not a finite number"));
    }
    let length = per_group * kh * kw;
    let per_unit = match granularity {
        Granularity::Channel => 1,
        Granularity::Tensor => out_channels,
    };
    let support = |channels: std::ops::Range<usize>| {
        let mut mask = vec![false; channels.len() * length];
        if let Some(support) = form.support() {
            for (i, o) in channels.enumerate() {
                support.positions(o, per_group, [kh, kw]).for_each(|p| mask[i * length + p] = true);
            }
        }
        mask
    };
    let units = (0..out_channels).step_by(per_unit).collect::<Vec<_>>();
    let quantized = units.into_par_iter().map(|first| {
        let channels = first..first + per_unit;
        let unit = Unit {
            first_channel: first,
            weights: &weights[first * length..channels.end * length],
            support: support(channels.clone()),
            biases: &biases[channels],
            form,
            bits: layer.bits,
        };
        quantize_unit(layer, &unit, strategy)
    });
    let units: Vec<Quantized> = quantized.collect::<Vec<_>>().into_iter().collect::<Result<_>>()?;
    Ok((assemble(layer, form, per_unit, &units), units.iter().filter(|unit| unit.raised).count()))
}

/// Quantizes one unit, its scales raised until every channel's sums fit.
fn quantize_unit(layer: &Layer<'_>, unit: &Unit<'_>, strategy: &dyn Strategy) -> Result<Quantized> {
    let (_, per_group, kh, kw) = layer.weight.dim();
    let count = unit.biases.len();
    let mut scales = strategy.scales(unit);
    let mut raised = false;
    loop {
        let (fine, coarse) = strategy.levels(unit, scales);
        let (length, held) = (fine.len() / count, coarse.len() / count);
        let mut channels = Vec::with_capacity(count);
        let (mut grow_fine, mut grow_coarse) = (1f64, 1f64);
        for i in 0..count {
            let o = unit.first_channel + i;
            let (fine, coarse) = (&fine[i * length..(i + 1) * length], &coarse[i * held..(i + 1) * held]);
            let bias = strategy.bias(unit, scales, i, fine, coarse);
            let levels = Levels {
                fine,
                coarse,
                positions: unit.form.support().into_iter().flat_map(|s| s.positions(o, per_group, [kh, kw])),
                scale: scales.fine,
                shift: scales.shift,
                coarse_scale: scales.coarse,
            };
            let found = channel(levels, bias, layer.input, layer.output.map(|y| y.scale));
            match found.map_err(|e| e.at(format!("output channel {o}")))? {
                Ok(constants) => channels.push(constants),
                Err(growth) => {
                    grow_fine = grow_fine.max(growth.fine);
                    grow_coarse = grow_coarse.max(growth.coarse);
                }
            }
        }
        if channels.len() == count {
            return Ok(Quantized { scales, fine, coarse, channels, raised });
        }
        raised = true;
        if grow_coarse > 1.0 {
            let least = grown(scales.coarse.unwrap_or(1.0), grow_coarse)?;
            let (g, s_f) = published_scales(unit.weights, &unit.support, layer.bits, least);
            scales = Scales { fine: s_f.max(scales.fine), coarse: Some(g), ..scales };
        }
        if grow_fine > 1.0 {
            scales.fine = grown(scales.fine, grow_fine)?;
        }
    }
}

/// The scale times `factor` and a little more, so that rounding does not bring it back over the
/// limit.
fn grown(scale: f32, factor: f64) -> Result<f32> {
    let scale = (f64::from(scale) * factor * 1.001) as f32;
    // Below 2^10 subnormal steps a factor of 1.001 could round away.
    let scale = scale.max(f32::MIN_POSITIVE);
    if scale.is_finite() {
        return Ok(scale);
    }
    Err(Error::bad("a bias is too large to be held in 32 bits at any scale"))
}

/// Puts the units together.
fn assemble(layer: &Layer<'_>, form: SplitForm, per_unit: usize, units: &[Quantized]) -> QConv {
    let (out_channels, per_group, kh, kw) = layer.weight.dim();
    let array = |shape: [usize; 4], levels: Vec<i8>| {
        Array4::from_shape_vec(shape, levels).unwrap_or_else(|_| unreachable!("as many levels as weights"))
    };
    let each = |f: fn(&Scales) -> f32| -> Array1<f32> {
        units.iter().flat_map(|unit| std::iter::repeat_n(f(&unit.scales), per_unit)).collect()
    };
    let channels = || units.iter().flat_map(|unit| &unit.channels);
    let coarse_levels = || units.iter().flat_map(|unit| unit.coarse.iter().copied()).collect::<Vec<_>>();
    let coarse = form.support().and_then(|support| {
        let scale = match form {
            SplitForm::Paper(_) => CoarseScale::Own {
                scale: each(|s| s.coarse.unwrap_or(1.0)),
                multiplier: channels().map(|c| c.coarse_multiplier).collect(),
                bias: channels().map(|c| c.coarse_bias).collect(),
            },
            _ if units.iter().all(|unit| unit.scales.shift == 0) => return None,
            _ => CoarseScale::Shift(units.iter().flat_map(|u| std::iter::repeat_n(u.scales.shift, per_unit)).collect()),
        };
        let weights = array(support.shape(out_channels, per_group, [kh, kw]), coarse_levels());
        Some(Coarse { support, weights, scale })
    });
    QConv {
        bits: layer.bits,
        fine: array([out_channels, per_group, kh, kw], units.iter().flat_map(|u| u.fine.iter().copied()).collect()),
        coarse,
        scale: each(|s| s.fine),
        bias: channels().map(|c| c.bias).collect(),
        multiplier: channels().filter_map(|c| c.multiplier).map(|m| m.multiplier).collect(),
        right_shift: channels().filter_map(|c| c.multiplier).map(|m| m.right_shift).collect(),
        stride: layer.stride,
        padding: layer.padding,
        groups: layer.groups,
    }
}

/// The real weights that a quantized layer stands for, `O × I/groups × kh × kw`:
/// `s_f·(Q_f + 2^k·Q_c)`, published `s_f·Q_f + s_c·Q_c`.
pub fn dequantize(conv: &QConv) -> Array4<f64> {
    let real = (0..conv.out_channels()).flat_map(|o| dequantize_channel(conv, o)).collect();
    Array4::from_shape_vec(conv.fine.dim(), real).unwrap_or_else(|_| unreachable!("as many weights as levels"))
}

/// One output channel of [`dequantize`].
fn dequantize_channel(conv: &QConv, o: usize) -> Vec<f64> {
    let s_f = f64::from(conv.scale[o]);
    let mut real: Vec<f64> = conv.fine.index_axis(Axis(0), o).iter().map(|&q| s_f * f64::from(q)).collect();
    if let Some(coarse) = &conv.coarse {
        let s_c = match &coarse.scale {
            CoarseScale::Shift(k) => s_f * f64::from(1u32 << k[o]),
            CoarseScale::Own { scale, .. } => f64::from(scale[o]),
        };
        let positions = coarse.support.positions(o, conv.fine.dim().1, conv.kernel());
        for (position, &q) in positions.zip(coarse.weights.index_axis(Axis(0), o)) {
            real[position] += s_c * f64::from(q);
        }
    }
    real
}

/// `Σ E[x²]·(W − W')²` over a layer, `power` being `E[x²]` of each of its input channels.
pub(super) fn weighted_error(weight: &ArrayView4<'_, f32>, conv: &QConv, power: &[f64]) -> f64 {
    let (out_channels, per_group, kh, kw) = weight.dim();
    let per_group_out = out_channels / conv.groups;
    let channel_error = |o: usize| -> f64 {
        let first = o / per_group_out * per_group;
        let real = dequantize_channel(conv, o);
        let kernels = weight.index_axis(Axis(0), o);
        let inputs = kernels.outer_iter().zip(real.chunks_exact(kh * kw)).zip(&power[first..first + per_group]);
        inputs
            .map(|((taps, real), power)| {
                power * taps.iter().zip(real).map(|(&w, &r)| (f64::from(w) - r).powi(2)).sum::<f64>()
            })
            .sum()
    };
    // Added in the channels' order, whatever threads they were computed on.
    let errors: Vec<f64> = (0..out_channels).into_par_iter().map(channel_error).collect();
    errors.iter().sum()
}
