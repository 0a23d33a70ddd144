//! Depthwise convolution in f32: `y[n, p, c] = act(bias[c] + Σ w[c, ky, kx] · x[n, p·stride + k − padding, c])`, zero
//! padding, act the identity or `ReLU`.
//!
//! Activations are NHWC with channels in fours. Weights on the device are `kh, kw, C`, C padded with 0: a `vec4` is 4
//! channels of one tap. GPU: an invocation computes 4 pixels of one row × 4 channels. Every output is summed tap by tap
//! in the same order, whatever the batch.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::conv_cases::{Case, case};
/// The twin: a depthwise convolution is one of as many groups as channels.
pub use super::conv_f32::reference;
use super::epilogue::{self, Epilogue, Params};
use super::{Check, Geometry, Random};
use crate::Result;
use crate::device::{Buffer, Device, KernelSpec, Recorder, Tier, compiled_for_tiers, groups_for};
use crate::model::Conv;

/// What the host knows of `depthwise_f32.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "depthwise_f32",
    source: concat!(
        include_str!("../../shaders/extremes.wgsl"),
        include_str!("../../shaders/epilogue.wgsl"),
        include_str!("../../shaders/depthwise_f32.wgsl")
    ),
    bindings: epilogue::BINDINGS,
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Output pixels of an invocation.
const PIXELS: usize = 4;

/// Weights and bias of one depthwise convolution on one device.
#[derive(Debug)]
pub struct Weights {
    channels: usize,
    /// Kernel rows and columns.
    kernel: [u32; 2],
    taps: Buffer,
    bias: Buffer,
    no_states: Buffer,
}

impl Weights {
    /// Lays the weights out for `device`.
    ///
    /// # Errors
    /// If the device has no memory left.
    ///
    /// # Panics
    /// If `conv` is not depthwise.
    pub fn new(device: &Device, conv: &Conv) -> Result<Self> {
        assert!(conv.is_depthwise(), "depthwise_f32: not a depthwise convolution");
        let (channels, _, kh, kw) = conv.weight.dim();
        let padded = channels.next_multiple_of(4);
        let mut words = vec![0; kh * kw * padded];
        for ((c, _, y, x), value) in conv.weight.indexed_iter() {
            words[(y * kw + x) * padded + c] = value.to_bits();
        }
        let mut bias: Vec<u32> = conv.bias.iter().map(|v| v.to_bits()).collect();
        bias.resize(padded, 0);
        Ok(Self {
            channels,
            kernel: [kh as u32, kw as u32],
            taps: device.upload(&words, "weights")?,
            bias: device.upload(&bias, "bias")?,
            no_states: epilogue::no_states(device)?,
        })
    }

    /// Groups, for [`Geometry::new`]: one for each channel.
    pub fn groups(&self) -> usize {
        self.channels
    }
}

/// Records `y = act(conv(x, w))`, and the update of the range where the epilogue asks for it. Every channel of y is
/// written, padded ones with 0.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If a buffer is too small for these sizes: an error of the caller, not of the input.
pub fn dispatch(
    rec: &mut Recorder<'_>,
    g: &Geometry,
    epilogue: Epilogue<'_>,
    x: &Buffer,
    w: &Weights,
    y: &Buffer,
) -> Result<()> {
    assert_eq!([g.kernel_height, g.kernel_width], w.kernel, "depthwise_f32: weights");
    let quads = w.channels.div_ceil(4);
    assert!(g.in_quads as usize == quads && g.out_quads as usize == quads, "depthwise_f32: channels");
    assert!(x.len() >= g.in_words(4) && y.len() >= g.out_words(4), "depthwise_f32: buffer sizes");
    if g.out_pixels() == 0 {
        return Ok(());
    }
    assert!(g.in_words(4) > 0, "depthwise_f32: an output without input");
    if rec.is_native() {
        let (weights, bias) = (w.taps.host(), w.bias.host());
        let (weights, bias) = (cast_slice(&weights), cast_slice(&bias));
        let relu = epilogue.relu;
        native(rec.tier(), g, relu, cast_slice(&x.host()), weights, bias, cast_slice_mut(&mut y.host_mut()));
        return epilogue.finish(rec, g, y);
    }
    let items = g.images as usize * g.out_height as usize * (g.out_width as usize).div_ceil(PIXELS) * quads;
    let states = epilogue.range.map_or(&w.no_states, |row| row.states);
    let params = epilogue.params(g, 0, g.out_pixels());
    rec.run(&SPEC, &params, &[x, &w.taps, &w.bias, y, states], groups_for(items, SPEC.workgroup_size[0]))
}

/// All channels of a pixel at once, tap by tap; parallel over rows.
fn native(tier: Tier, g: &Geometry, relu: bool, x: &[f32], weights: &[f32], bias: &[f32], y: &mut [f32]) {
    let channels = bias.len();
    let (in_height, in_width) = (g.in_height as usize, g.in_width as usize);
    let out_height = g.out_height as usize;
    let rows = y[..g.out_words(4)].par_chunks_exact_mut(g.out_width as usize * channels);
    rows.enumerate().for_each(|(row, y)| {
        let x = &x[row / out_height * in_height * in_width * channels..];
        let top = row % out_height * g.stride_y as usize;
        compiled_row(tier, g, relu, top, x, weights, bias, y);
    });
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

/// Compares with the twin within the bound of `conv_cases.rs`; and each image of a batch with the same image
/// alone, to the bit.
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(3);
    let mut checks = Vec::new();
    for case in CASES {
        case.check(device, &mut random, &mut checks, |rec, conv, images, epilogue, x, y| {
            let w = Weights::new(device, conv)?;
            let g = Geometry::new(images, case.x, case.out, case.kernel, case.stride, case.padding, w.groups());
            dispatch(rec, &g, epilogue, x, &w, y)
        })?;
    }
    Ok(checks)
}

/// Images, input, output channels, kernel, stride, padding, groups, `ReLU`.
const CASES: &[Case] = &[
    case(1, [1, 1, 2], 2, [1, 1], [1, 1], [0, 0], 2, false),
    case(3, [1, 1, 3], 3, [3, 3], [1, 1], [1, 1], 3, false),
    case(3, [5, 7, 4], 4, [3, 3], [1, 1], [1, 1], 4, true),
    case(1, [9, 6, 5], 5, [3, 3], [2, 2], [1, 1], 5, false),
    case(3, [6, 11, 6], 6, [5, 5], [1, 1], [2, 2], 6, true),
    case(1, [8, 5, 7], 7, [3, 1], [1, 2], [1, 0], 7, false),
    case(3, [3, 6, 12], 12, [1, 5], [2, 1], [0, 2], 12, false),
    case(1, [2, 2, 9], 9, [3, 3], [1, 1], [2, 2], 9, true),
    case(3, [13, 13, 36], 36, [3, 3], [2, 2], [1, 1], 36, true),
];
