//! The depthwise variant of the f32 convolution, one filter for each channel.
//!
//! Weights on the device are `kh, kw, C`, C padded with 0: a `vec4` is 4 channels of one tap. GPU:
//! an invocation computes 4 pixels of one row × 4 channels. Every output is summed tap by tap in
//! the same order, whatever the batch.
//!
//! What the shader reads lies inside: x in a row that was compared with the image's and at a column
//! that was too (or 0), at a quad that both sides have; weights at a tap of the kernel. y is
//! written in a row below all images' and at a column that was compared with the output's.

use bytemuck::cast_slice;
use rayon::prelude::*;

use super::epilogue::{Epilogue, Params};
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Shader, Tier, compiled_for_tiers, shader};
use crate::kernels::conv::geometry::Geometry;
use crate::model::Conv;

/// `depthwise_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("depthwise_f32", "geometry", "state", "extremes", "conv_f32");

/// Output pixels of an invocation.
const PIXELS: usize = 4;

/// Weights and bias of one depthwise convolution on one device.
pub(super) struct Taps {
    weights: Buffer,
    bias: Buffer,
}

impl Taps {
    /// Lays out the weights of a convolution that is depthwise and has a bias for each channel.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub(super) fn new(device: &Device, conv: &Conv) -> Result<Self> {
        let (channels, _, kh, kw) = conv.weight.dim();
        let padded = channels.next_multiple_of(4);
        let mut words = vec![0; kh * kw * padded];
        for ((c, _, y, x), value) in conv.weight.indexed_iter() {
            words[(y * kw + x) * padded + c] = value.to_bits();
        }
        let mut bias: Vec<u32> = conv.bias.iter().map(|v| v.to_bits()).collect();
        bias.resize(padded, 0);
        Ok(Self { weights: device.upload(&words, "weights")?, bias: device.upload(&bias, "bias")? })
    }

    /// What is touched of them.
    pub(super) fn bound(&self, g: &Geometry) -> [Bound<'_>; 2] {
        let channels = 4 * g.out_quads as usize;
        [Bound::read("weights", &self.weights, g.taps() * channels), Bound::read("bias", &self.bias, channels)]
    }

    /// All channels of a pixel at once, tap by tap; parallel over rows.
    pub(super) fn run(&self, tier: Tier, g: &Geometry, relu: bool, x: &[f32], y: &mut [f32]) {
        let channels = 4 * g.out_quads as usize;
        let (weights, bias) = (self.weights.host(), self.bias.host());
        let (weights, bias) = (cast_slice(&weights[..g.taps() * channels]), cast_slice(&bias[..channels]));
        let (in_height, in_width) = (g.in_height as usize, g.in_width as usize);
        let out_height = g.out_height as usize;
        let rows = y.par_chunks_exact_mut(g.out_width as usize * channels);
        rows.enumerate().for_each(|(row, y)| {
            let x = &x[row / out_height * in_height * in_width * channels..];
            let top = row % out_height * g.stride_y as usize;
            compiled_row(tier, g, relu, top, x, weights, bias, y);
        });
    }
}

/// The convolution, where there is an output: short enough for one dispatch.
pub(super) fn dispatch(g: &Geometry, epilogue: &Epilogue<'_>) -> Option<Dispatch<Params>> {
    let strips = (g.out_width as usize).div_ceil(PIXELS);
    let items = g.images as usize * g.out_height as usize * strips * g.out_quads as usize;
    Dispatch::of(&SHADER, items, epilogue.params(g, 0..g.out_pixels()))
}

/// One output row whose first tap is row `top` of the padded image `x`.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // each is one quantity of the formula
fn row(g: &Geometry, relu: bool, top: usize, x: &[f32], weights: &[f32], bias: &[f32], y: &mut [f32]) {
    let channels = bias.len();
    let (in_height, in_width) = (g.in_height as usize, g.in_width as usize);
    let kw = g.kernel_width as usize;
    for (column, y) in y.chunks_exact_mut(channels).enumerate() {
        y.copy_from_slice(bias);
        for (tap, w) in weights.chunks_exact(channels).enumerate() {
            // Below the padding the subtraction wraps around, beyond any size.
            let iy = (top + tap / kw).wrapping_sub(g.pad_y as usize);
            let ix = (column * g.stride_x as usize + tap % kw).wrapping_sub(g.pad_x as usize);
            if iy < in_height && ix < in_width {
                let x = &x[(iy * in_width + ix) * channels..];
                for ((y, w), x) in y.iter_mut().zip(w).zip(x) {
                    *y += w * x;
                }
            }
        }
        if relu {
            // Not max(): it would turn a NaN into 0 and hide it.
            for v in y {
                *v = if *v < 0.0 { 0.0 } else { *v };
            }
        }
    }
}

compiled_for_tiers! {
    #[allow(clippy::too_many_arguments)] // each is one quantity of the formula
    fn compiled_row(g: &Geometry, relu: bool, top: usize, x: &[f32], weights: &[f32], bias: &[f32], y: &mut [f32]) = row;
}
