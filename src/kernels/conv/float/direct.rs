//! The direct variant of the f32 convolution, for adapters.
//!
//! An invocation computes 4 consecutive pixels of the flattened batch × 8 channels; a workgroup's
//! 64 lanes have the same channels, so that weights are read at an address that is the same for all
//! of them. Weights on the device are `O/8, kh, kw, I/4, 4 (input), 8 (output)`, per group, I and O
//! padded with 0: the eight `vec4` that one step of the innermost loop multiplies lie together,
//! each over output channels, so a product needs no horizontal sum.
//!
//! A column is eight output channels of a group; there are `groups · eights` of them, for the
//! number of a workgroup is taken modulo it. What is read lies inside:
//! - x at `base + in_first + q`: `base` is a pixel inside the image, or pixel 0, and `in_first + q`
//!   one of its quads;
//! - weights at `column · depth/4 · 8` and on by 8 for each of the `depth/4` steps, 8 of them each;
//! - bias at `2·column` and the next, y at a pixel below the end and a quad that the group has.

use super::epilogue::{Epilogue, Params};
use super::matrices::Matrices;
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Shader, folded, shader};
use crate::kernels::conv::geometry::Geometry;

/// `conv_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("conv_f32", "geometry", "state", "extremes", "conv_f32");

/// Output pixels of a workgroup: 64 lanes of 4.
const PIXELS: usize = 256;

/// Weights and bias on an adapter, for the direct and the tiled variants.
pub(super) struct Operands {
    weights: Buffer,
    bias: Buffer,
}

impl Operands {
    /// Lays them out by eights of output channels.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub(super) fn new(device: &Device, matrices: &Matrices<'_>) -> Result<Self> {
        let eights = matrices.outputs().div_ceil(8);
        let mut words = Vec::with_capacity(matrices.depth() * 8 * matrices.groups * eights);
        let mut bias = Vec::with_capacity(8 * matrices.groups * eights);
        for (group, eight) in (0..matrices.groups).flat_map(|group| (0..eights).map(move |eight| (group, eight))) {
            let columns = 8 * eight..8 * eight + 8;
            for k in 0..matrices.depth() {
                words.extend(columns.clone().map(|o| matrices.weight(group, k, o).to_bits()));
            }
            bias.extend(columns.map(|o| matrices.bias(group, o).to_bits()));
        }
        Ok(Self { weights: device.upload(&words, "weights")?, bias: device.upload(&bias, "bias")? })
    }

    /// What every variant touches of them.
    pub(super) fn bound(&self, g: &Geometry) -> [Bound<'_>; 2] {
        let outputs = 8 * columns(g);
        [Bound::read("weights", &self.weights, depth(g) * outputs), Bound::read("bias", &self.bias, outputs)]
    }
}

/// Products of an output.
pub(super) fn depth(g: &Geometry) -> usize {
    4 * g.group_in_quads as usize * g.taps()
}

/// Eights of output channels, those of each group rounded up.
fn columns(g: &Geometry) -> usize {
    (g.out_quads / g.group_out_quads) as usize * (g.group_out_quads as usize).div_ceil(2)
}

/// The convolution in steps of at most `most_macs` multiplications, or of one workgroup's pixels.
pub(super) fn dispatches(
    g: &Geometry,
    epilogue: &Epilogue<'_>,
    most_macs: usize,
) -> impl Iterator<Item = Dispatch<Params>> {
    let columns = columns(g);
    g.steps(8 * depth(g) * columns, most_macs, PIXELS).map(move |pixels| {
        let groups = folded(pixels.len().div_ceil(PIXELS) * columns);
        Dispatch { shader: &SHADER, params: epilogue.params(g, pixels), groups }
    })
}
