//! Biases by what a layer gives: the mean of each output channel becomes that of the float network,
//! behind the `ReLU` or the functions of one value that follow.
//!
//! With y what the float network gives there and y' what the quantized one gives, both over all pixels
//! of all images, `d = E[y − y']` of a channel falls as its bias rises. A few steps of the secant method
//! look for the bias with `d = 0`, from that which the layer has; of all biases that were tried a channel
//! keeps the one with the least `E[(y − y')²]`, so nothing gets worse by that measure. Matching means is
//! M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
//! (arXiv 1906.04721, section 4.2 and the appendix on empirical correction), which does so before the `ReLU`.
//!
//! Sums are f64, image by image: they do not depend on the size of the batches.

use rayon::prelude::*;

use super::pass::Pass;
use crate::model::{Computed, Constants, NodeId, Op, QConv, QuantizedGraph};
use crate::quantize::requantize::check_overflow;
use crate::quantize::stored::Stored;
use crate::{Error, Result};

/// Biases that are tried beside the layer's own.
const STEPS: usize = 3;

/// The least and the largest share of a bias's change that is taken to come through.
const SLOPES: [f64; 2] = [0.1, 1.5];

/// A layer, and where it is compared.
pub(super) struct Place<'a> {
    /// The layer.
    pub(super) layer: NodeId,
    /// The functions of one value that alone read it, in order; compared is what the last one gives.
    pub(super) behind: &'a [NodeId],
    /// What it reads.
    pub(super) input: Stored,
}

/// Changes the biases of a layer where that lowers its error; gives in how many channels, and their
/// number. All layers before it are as they will stay.
///
/// # Errors
/// If the device failed, or an activation is no finite number.
pub(super) fn correct(
    pass: &mut Pass<'_>,
    quantized: &mut QuantizedGraph,
    place: &Place<'_>,
) -> Result<(usize, usize)> {
    let (conv, s_x) = (conv_of(quantized, place.layer)?, f64::from(place.input.params.scale));
    let own: Vec<i32> = conv.bias.to_vec();
    let steps: Vec<f64> = conv.scale.iter().map(|&s_f| s_x * f64::from(s_f)).collect();
    let first = compared(pass, place, own.len())?;
    let mut searches: Vec<Search> = first.into_iter().map(Search::new).collect();
    let mut last = own.clone();
    for _ in 0..STEPS {
        let offsets = searches.iter().zip(&steps).map(|(search, step)| (search.next / step).round_ties_even());
        let biases: Option<Vec<i32>> = own.iter().zip(offsets).map(|(&bias, offset)| moved(bias, offset)).collect();
        let Some(biases) = biases.filter(|biases| *biases != last) else { break };
        if !set(pass, quantized, place, &biases)? {
            break;
        }
        let found = compared(pass, place, own.len())?;
        for (((search, found), step), (bias, own)) in
            searches.iter_mut().zip(found).zip(&steps).zip(biases.iter().zip(&own))
        {
            search.tried(f64::from(bias - own) * step, found);
        }
        last = biases;
    }
    let offsets = searches.iter().zip(&steps).map(|(search, step)| (search.best.0 / step).round_ties_even());
    let biases = own.iter().zip(offsets).map(|(&bias, offset)| moved(bias, offset).unwrap_or(bias));
    let biases: Vec<i32> = biases.collect();
    if !set(pass, quantized, place, &biases)? {
        set(pass, quantized, place, &own)?;
        return Ok((0, own.len()));
    }
    Ok((biases.iter().zip(&own).filter(|(bias, own)| bias != own).count(), own.len()))
}

/// A bias and what is added to it; none where it does not fit.
fn moved(bias: i32, offset: f64) -> Option<i32> {
    let sum = f64::from(bias) + offset;
    (sum.abs() <= f64::from(i32::MAX)).then_some(sum as i32)
}

/// How far a channel is from that of the float network.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Off {
    /// `E[y − y']`.
    pub(super) mean: f64,
    /// `E[(y − y')²]`.
    pub(super) square: f64,
}

/// The search for a channel's bias: offsets from its own, in real numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    /// The offset with the least error so far, and that error.
    pub(super) best: (f64, f64),
    /// The one to be tried next.
    pub(super) next: f64,
    last: (f64, f64),
}

impl Search {
    /// What the layer's own bias gives.
    pub(super) fn new(off: Off) -> Self {
        Self { best: (0.0, off.square), next: off.mean, last: (0.0, off.mean) }
    }

    /// What an offset gives.
    pub(super) fn tried(&mut self, offset: f64, off: Off) {
        if off.square < self.best.1 {
            self.best = (offset, off.square);
        }
        let (last, mean) = self.last;
        let slope = (mean - off.mean) / (offset - last);
        let slope = if slope.is_finite() { slope.clamp(SLOPES[0], SLOPES[1]) } else { 1.0 };
        self.last = (offset, off.mean);
        self.next = offset + off.mean / slope;
    }
}

/// Compares what a layer gives with the float network, channel by channel.
fn compared(pass: &mut Pass<'_>, place: &Place<'_>, channels: usize) -> Result<Vec<Off>> {
    let mut sums = vec![Off::default(); channels];
    let mut values = 0usize;
    pass.outputs(place.layer, place.behind, |float, int8| {
        let images: Vec<Vec<Off>> =
            float.par_iter().zip(&int8).map(|(float, int8)| of_image(float, int8, channels)).collect();
        for image in &images {
            for (sum, off) in sums.iter_mut().zip(image) {
                sum.mean += off.mean;
                sum.square += off.square;
            }
        }
        values += float.iter().map(|image| image.len() / channels.max(1)).sum::<usize>();
        Ok(())
    })?;
    if !sums.iter().all(|off| off.square.is_finite()) {
        return Err(Error::bad("what it gives is NaN or infinite"));
    }
    let each = |off: &Off| Off { mean: off.mean / values.max(1) as f64, square: off.square / values.max(1) as f64 };
    Ok(sums.iter().map(each).collect())
}

/// Sums over an image, whose values come channel by channel.
fn of_image(float: &[f64], int8: &[f64], channels: usize) -> Vec<Off> {
    let pixels = (float.len() / channels.max(1)).max(1);
    let channel = |(float, int8): (&[f64], &[f64])| {
        let off = float.iter().zip(int8).map(|(y, other)| y - other);
        off.fold(Off::default(), |sum, off| Off { mean: sum.mean + off, square: sum.square + off * off })
    };
    float.chunks_exact(pixels).zip(int8.chunks_exact(pixels)).map(channel).collect()
}

fn conv_of(quantized: &QuantizedGraph, layer: NodeId) -> Result<&QConv> {
    quantized.nodes[layer].computed.int8_weights().ok_or_else(|| Error::bad("it has no weights in integers"))
}

/// Gives a layer other biases, where its sums cannot overflow with them; whether that is so.
fn set(pass: &mut Pass<'_>, quantized: &mut QuantizedGraph, place: &Place<'_>, biases: &[i32]) -> Result<bool> {
    let node = &quantized.nodes[place.layer];
    let mut conv = conv_of(quantized, place.layer)?.clone();
    let classifier = matches!(&node.computed, Computed::Integer(integer) if matches!(integer.op(), Op::Linear(_)));
    if conv.bias.iter().eq(biases) {
        return Ok(true);
    }
    conv.bias = biases.iter().copied().collect();
    if check_overflow(&conv, place.input).is_err() {
        return Ok(false);
    }
    let op = if classifier { Op::Linear(conv) } else { Op::Conv(conv) };
    quantized.nodes[place.layer].computed = Computed::integer(op, Constants::None)?;
    pass.replace(quantized, place.layer)?;
    Ok(true)
}
