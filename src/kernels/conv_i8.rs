//! Convolution in integers, its weights in one part (fine) or two (fine and coarse): see [`QConv`] for the arithmetic.
//!
//! Both parts are summed in one pass over the input, in int32 modulo 2^32 (a quantized layer's totals fit). A tap outside
//! the image reads the input's zero point: `−z·ΣQ` is folded into the bias, so that it adds nothing in real numbers.
//! Activations are packed int8 in NHWC. On a GPU the weights are `kh, kw, I/4, O/4`, each a vec4 of four output channels'
//! words of four input channels, so that neighbouring invocations read neighbouring vectors. The shader has variants,
//! which give the same bits: this one, direct, and those of [`tiled`]; `variants.rs` chooses.

mod native;
mod reference;
pub mod tiled;
mod vectors;
mod verify;

use ndarray::Array4;

use super::int8::{Channel, CoarseMode, Constants};
use super::variants::{self, LayerShape, Variant};
use super::{Geometry, ungrouped};
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::model::QConv;

pub use super::int8::{Output, Params};
pub use reference::{reference, reference_totals};
pub use verify::verify;

/// What the host knows of `conv_i8.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "conv_i8",
    source: include_str!("../../shaders/conv_i8.wgsl"),
    bindings: &[Binding::Params, Binding::Read, Binding::Read, Binding::Read, Binding::Read, Binding::ReadWrite],
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Output pixels of one invocation.
const TILE: usize = 4;

/// The weights of a layer on a device.
pub struct Weights {
    constants: Constants,
    groups: usize,
    kernel: [usize; 2],
    in_channels: usize,
    variant: Variant,
    storage: Storage,
}

enum Storage {
    Gpu { fine: Buffer, coarse: Buffer, channels: Buffer },
    Vectors(vectors::Vectors),
    Native(native::Products),
}

impl Weights {
    /// Packs and uploads a layer's weights.
    ///
    /// # Errors
    /// If the layer's parts contradict each other, or the device has no memory left.
    pub fn new(device: &Device, conv: &QConv) -> Result<Self> {
        Self::with_products(device, conv, None)
    }

    /// With a `kind` the Cpu device has matrix products of that kind; without, the fastest way that its tier has.
    fn with_products(device: &Device, conv: &QConv, kind: Option<native::Kind>) -> Result<Self> {
        let constants = Constants::new(conv)?;
        let (fine, groups) = ungrouped(&conv.fine, conv.groups)?;
        let coarse = match (&conv.coarse, constants.coarse) {
            (Some(part), CoarseMode::Center | CoarseMode::Full) => Some(ungrouped(&part.weights, conv.groups)?.0),
            _ => None,
        };
        let vectors = (device.is_native() && kind.is_none())
            .then(|| vectors::Vectors::new(device.tier(), &fine, coarse.as_ref(), groups, &constants))
            .flatten();
        let storage = if let Some(vectors) = vectors {
            Storage::Vectors(vectors)
        } else if device.is_native() {
            let kind = kind.unwrap_or_else(native::Kind::best);
            Storage::Native(native::Products::new(kind, &fine, coarse.as_ref(), groups))
        } else {
            Storage::Gpu {
                fine: device.upload(&pack(&fine), "fine weights")?,
                // A binding cannot be empty.
                coarse: device.upload(&coarse.as_ref().map_or(vec![0; 4], pack), "coarse weights")?,
                channels: device.upload(bytemuck::cast_slice(&constants.channels), "channels")?,
            }
        };
        let (o, i, kh, kw) = fine.dim();
        let variant = variants::choose(device, &SPEC, LayerShape { inputs: i, outputs: o / groups, taps: kh * kw });
        Ok(Self { constants, groups, kernel: conv.kernel(), in_channels: conv.in_channels(), variant, storage })
    }

    /// The same weights, to be run by `variant`, which the device must be able to run; the Cpu device has one way alone.
    #[must_use]
    pub fn with_variant(self, variant: Variant) -> Self {
        Self { variant, ..self }
    }

    /// The groups that remain after [`ungrouped`]: those of the [`Geometry`] to dispatch with.
    pub fn groups(&self) -> usize {
        self.groups
    }

    fn channels(&self) -> &[Channel] {
        &self.constants.channels
    }
}

/// Weights as the shader reads them: `kh, kw, I/4, O/4` vectors of four output channels, each a word of four input channels.
fn pack(weight: &Array4<i8>) -> Vec<u32> {
    let (o, i, kh, kw) = weight.dim();
    let (in_quads, out_quads) = (i.div_ceil(4), o.div_ceil(4));
    let mut bytes = vec![0u8; kh * kw * in_quads * out_quads * 16];
    for ((oc, ic, dy, dx), &value) in weight.indexed_iter() {
        let vector = ((dy * kw + dx) * in_quads + ic / 4) * out_quads + oc / 4;
        bytes[16 * vector + 4 * (oc % 4) + ic % 4] = value as u8;
    }
    bytemuck::pod_collect_to_vec(&bytes)
}

/// Records the convolution of `x`, packed int8, to `y`, packed int8.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If `g`, the weights and the buffers do not fit together, or the weights are a classifier's: errors of the caller.
pub fn dispatch(
    rec: &mut Recorder<'_>,
    g: &Geometry,
    x_zero_point: i32,
    output: &Output,
    x: &Buffer,
    w: &Weights,
    y: &Buffer,
) -> Result<()> {
    output.check("conv_i8");
    assert!(w.constants.requantizes, "conv_i8: the layer has no multipliers");
    record(rec, g, x_zero_point, Some(output), x, w, y)
}

/// Records the convolution of `x`, packed int8, to int32 totals in `y`, four words for each four channels.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If `g`, the weights and the buffers do not fit together, or the coarse part has a grid of its own and so no common
/// total: errors of the caller.
pub fn dispatch_accumulators(
    rec: &mut Recorder<'_>,
    g: &Geometry,
    x_zero_point: i32,
    x: &Buffer,
    w: &Weights,
    y: &Buffer,
) -> Result<()> {
    assert!(!w.constants.own_grid, "conv_i8: two grids have no common total");
    record(rec, g, x_zero_point, None, x, w, y)
}

fn record(
    rec: &mut Recorder<'_>,
    g: &Geometry,
    x_zero_point: i32,
    output: Option<&Output>,
    x: &Buffer,
    w: &Weights,
    y: &Buffer,
) -> Result<()> {
    let quads = |channels: usize| channels.div_ceil(4) as u32;
    let (i, o) = (w.in_channels, w.channels().len());
    let shape = [g.in_quads, g.out_quads, g.group_in_quads, g.group_out_quads, g.kernel_height, g.kernel_width];
    let [kh, kw] = w.kernel;
    let expected = [quads(i), quads(o), quads(i / w.groups), quads(o / w.groups), kh as u32, kw as u32];
    assert_eq!(shape, expected, "conv_i8: quads and kernel of the geometry and of the weights");
    let out_words = g.out_words(if output.is_some() { 1 } else { 4 });
    assert!(x.len() >= g.in_words(1) && y.len() >= out_words, "conv_i8: buffer sizes");
    assert!((-128..=127).contains(&x_zero_point), "conv_i8: zero point {x_zero_point}");
    if out_words == 0 {
        return Ok(());
    }
    match &w.storage {
        Storage::Vectors(vectors) => {
            let layer = vectors::Layer { g, x_zero_point, output, constants: &w.constants };
            vectors.run(&layer, &x.host()[..g.in_words(1)], &mut y.host_mut()[..out_words]);
            Ok(())
        }
        Storage::Native(products) => {
            let layer = native::Layer { g, x_zero_point, products, constants: &w.constants };
            layer.run(output, &x.host()[..g.in_words(1)], &mut y.host_mut()[..out_words]);
            Ok(())
        }
        Storage::Gpu { fine, coarse, channels } if w.variant != Variant::Direct => {
            let steps = Params::steps(g, x_zero_point, output, &w.constants, tiled::PIXELS);
            tiled::record(rec, w.variant, steps, x, [fine, coarse, channels], y)
        }
        Storage::Gpu { fine, coarse, channels } => {
            for params in Params::steps(g, x_zero_point, output, &w.constants, TILE) {
                let pixels = (params.end_pixel - params.first_pixel) as usize;
                let groups = groups_for(pixels.div_ceil(TILE) * g.out_quads as usize, SPEC.workgroup_size[0]);
                rec.run(&SPEC, &params, &[x, fine, coarse, channels, y], groups)?;
            }
            Ok(())
        }
    }
}
