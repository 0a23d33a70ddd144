//! Convolution in f32: `y[n, p, o] = act(bias[o] + Σ w[o, ky, kx, i] · x[n, p·stride + k − padding, i])`, zero padding,
//! act the identity or `ReLU`.
//!
//! Activations are NHWC with channels in fours. A linear layer is a 1×1 convolution of 1×1 images.
//!
//! The shader has variants: this one, direct, and those of [`tiled`]; `variants.rs` chooses.
//!
//! Direct: an invocation computes 4 consecutive pixels of the flattened batch × 8 channels; a workgroup's 64 lanes have the
//! same channels, so that weights are read at an address that is the same for all of them. Weights on the device are
//! `O/8, kh, kw, I/4, 4 (input), 8 (output)`, per group, I and O padded with 0: the eight `vec4` that one step of the
//! innermost loop multiplies lie together, each over output channels, so a product needs no horizontal sum.
//!
//! Cpu: `conv_f32/winograd.rs` for most 3×3 layers where the processor has AVX-512; else `conv_f32/vectors.rs` where it has
//! AVX-512 or AVX2; else `conv_f32/native.rs`. A result does not depend on the batch.

mod native;
pub mod tiled;
mod vectors;
mod winograd;

use bytemuck::{cast_slice, cast_slice_mut};

use super::conv_cases::{Case, case};
use super::epilogue::{self, Epilogue, Params};
use super::variants::{self, LayerShape, Variant};
use super::{Check, Geometry, Random, ungrouped};
use crate::Result;
use crate::device::{Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::model::{Conv, Shape, conv_output};

/// What the host knows of `conv_f32.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "conv_f32",
    source: concat!(
        include_str!("../../shaders/extremes.wgsl"),
        include_str!("../../shaders/epilogue.wgsl"),
        include_str!("../../shaders/conv_f32.wgsl")
    ),
    bindings: epilogue::BINDINGS,
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Output pixels of a workgroup: 64 lanes of 4.
const PIXELS: usize = 256;

/// Multiplications of one dispatch: 0.2 s on a GPU of 200 GFLOP/s. Systems kill a dispatch of several seconds.
const MOST_MACS: usize = 20_000_000_000;

/// Weights and bias of one convolution, prepared for one device.
pub struct Weights {
    groups: usize,
    /// Input and output quads of a group, kernel rows and columns.
    sizes: [u32; 4],
    variant: Variant,
    store: Store,
}

enum Store {
    Gpu { weights: Buffer, bias: Buffer, no_states: Buffer },
    Winograd(winograd::Winograd),
    Vectors(vectors::Vectors),
    Native(native::Products),
}

impl Weights {
    /// Lays the weights out for `device`.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn new(device: &Device, conv: &Conv) -> Result<Self> {
        let (weight, groups) = ungrouped(&conv.weight, conv.groups)?;
        let (o, i, kh, kw) = weight.dim();
        let group_out = o / groups;
        let (in_quads, out_quads) = (i.div_ceil(4), group_out.div_ceil(4));
        let at = |group: usize, o: usize, y: usize, x: usize, i: usize| {
            if o < group_out { weight.get([group * group_out + o, i, y, x]).copied().unwrap_or(0.0) } else { 0.0 }
        };
        // The flat order of (ky, kx, input quad, lane of the quad) is that of K in both layouts.
        let k_index = |k: usize| (k / (4 * in_quads) / kw, k / (4 * in_quads) % kw, k % (4 * in_quads));
        let depth = 4 * in_quads * kh * kw;
        let outputs = |step: usize| (0..groups).flat_map(move |g| (0..group_out.div_ceil(step)).map(move |c| (g, c)));
        let bias_of = |g: usize, o: usize| if o < group_out { conv.bias[g * group_out + o] } else { 0.0 };
        let value = |g: usize, k: usize, o: usize| {
            let (y, x, i) = k_index(k);
            at(g, o, y, x, i)
        };
        let store = if let Some(token) = winograd_token(device, conv, groups) {
            Store::Winograd(winograd::Winograd::new(token, conv))
        } else if device.is_native() {
            match vectors::Vectors::new(device.tier(), groups, depth, 4 * out_quads, value, bias_of) {
                Some(vectors) => Store::Vectors(vectors),
                None => Store::Native(native::Products::new(groups, depth, 4 * out_quads, value, bias_of)),
            }
        } else {
            let mut words = Vec::with_capacity(depth * 8 * groups * out_quads.div_ceil(2));
            let mut bias = Vec::with_capacity(8 * groups * out_quads.div_ceil(2));
            for (g, column) in outputs(8) {
                for k in 0..depth {
                    words.extend((8 * column..8 * column + 8).map(|o| value(g, k, o).to_bits()));
                }
                bias.extend((8 * column..8 * column + 8).map(|o| bias_of(g, o).to_bits()));
            }
            Store::Gpu {
                weights: device.upload(&words, "weights")?,
                bias: device.upload(&bias, "bias")?,
                no_states: epilogue::no_states(device)?,
            }
        };
        let shape = LayerShape { inputs: i, outputs: group_out, taps: kh * kw };
        let variant = variants::choose(device, &SPEC, shape);
        Ok(Self { groups, sizes: [in_quads as u32, out_quads as u32, kh as u32, kw as u32], variant, store })
    }

    /// The same weights, to be run by `variant`, which the device must be able to run; the Cpu device has one way alone.
    #[must_use]
    pub fn with_variant(self, variant: Variant) -> Self {
        Self { variant, ..self }
    }

    /// Groups on the device, for [`Geometry::new`]: narrow groups have become one.
    pub fn groups(&self) -> usize {
        self.groups
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
    dispatch_in_steps(rec, g, epilogue, x, w, y, MOST_MACS)
}

/// [`dispatch`] in steps of at most `most_macs` multiplications, or of one workgroup's pixels.
fn dispatch_in_steps(
    rec: &mut Recorder<'_>,
    g: &Geometry,
    epilogue: Epilogue<'_>,
    x: &Buffer,
    w: &Weights,
    y: &Buffer,
    most_macs: usize,
) -> Result<()> {
    assert_eq!([g.group_in_quads, g.group_out_quads, g.kernel_height, g.kernel_width], w.sizes, "conv_f32: weights");
    let groups = w.groups as u32;
    assert!(g.in_quads == groups * g.group_in_quads && g.out_quads == groups * g.group_out_quads, "conv_f32: groups");
    assert!(x.len() >= g.in_words(4) && y.len() >= g.out_words(4), "conv_f32: buffer sizes");
    let pixels = g.out_pixels();
    if pixels == 0 {
        return Ok(());
    }
    assert!(g.in_words(4) > 0, "conv_f32: an output without input");
    match &w.store {
        Store::Gpu { weights, bias, no_states } => {
            let states = epilogue.range.map_or(no_states, |row| row.states);
            let buffers = [x, weights, bias, y, states];
            if w.variant != Variant::Direct {
                return tiled::record(rec, w.variant, g, epilogue, &buffers, most_macs);
            }
            let columns = w.groups * (g.group_out_quads as usize).div_ceil(2);
            let depth = 4 * g.group_in_quads as usize * g.kernel_height as usize * g.kernel_width as usize;
            let step = (most_macs / (depth * 8 * columns) / PIXELS).max(1) * PIXELS;
            for first in (0..pixels).step_by(step) {
                let end = pixels.min(first + step);
                let params = epilogue.params(g, first, end);
                let workgroups = (end - first).div_ceil(PIXELS) * columns;
                rec.run(&SPEC, &params, &buffers, groups_for(workgroups, 1))?;
            }
            Ok(())
        }
        store => {
            native(store, g, epilogue.relu, &x.host()[..g.in_words(4)], &mut y.host_mut()[..g.out_words(4)])?;
            epilogue.finish(rec, g, y)
        }
    }
}

/// The Cpu device's way with these weights.
fn native(store: &Store, g: &Geometry, relu: bool, x: &[u32], y: &mut [u32]) -> Result<()> {
    let (x, y) = (cast_slice(x), cast_slice_mut(y));
    match store {
        Store::Winograd(weights) => weights.run(g, relu, x, y),
        Store::Vectors(weights) => weights.run(g, relu, x, y),
        Store::Native(weights) => return weights.run(g, relu, x, y),
        Store::Gpu { .. } => unreachable!("an adapter's weights"),
    }
    Ok(())
}

/// Where the Cpu device does not add up the products: how many terms the bound of `conv_cases.rs` counts, and what their
/// magnitudes add up to for each output.
pub(super) fn other_terms(
    device: &Device,
    conv: &Conv,
    images: usize,
    x_shape: Shape,
    x: &[f32],
) -> Option<(usize, Vec<f64>)> {
    let (_, inputs, ..) = conv.weight.dim();
    winograd_token(device, conv, conv.groups)?;
    Some((inputs + winograd::FURTHER_TERMS, winograd::magnitudes(conv, images, x_shape, x)))
}

fn winograd_token(device: &Device, conv: &Conv, groups: usize) -> Option<archmage::X64V4xToken> {
    device.is_native().then(|| winograd::suits(device.tier(), conv, groups)).flatten()
}

/// The twin: for each output (NHWC, padded channels 0) its value in f64 and `|bias| + Σ|w·x|`, from the model's own
/// weights and groups.
pub fn reference(conv: &Conv, images: usize, x_shape: Shape, relu: bool, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let y_shape = conv_output(x_shape, conv.out_channels(), conv.kernel(), conv.stride, conv.padding);
    let (o, group_in, kh, kw) = conv.weight.dim();
    let (in_channels, out_channels) = (x_shape.padded_channels(), y_shape.padded_channels());
    let mut values = vec![0.0; images * y_shape.pixels() * out_channels];
    let mut magnitudes = values.clone();
    for at in 0..values.len() {
        let (pixel, oc) = (at / out_channels, at % out_channels);
        let (row, column) = (pixel / y_shape.width, pixel % y_shape.width);
        let (image, row) = (row / y_shape.height, row % y_shape.height);
        if oc >= o {
            continue;
        }
        let (mut sum, mut magnitude) = (f64::from(conv.bias[oc]), f64::from(conv.bias[oc].abs()));
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let iy = (row * conv.stride[0] + ky).wrapping_sub(conv.padding[0]);
            let ix = (column * conv.stride[1] + kx).wrapping_sub(conv.padding[1]);
            if iy >= x_shape.height || ix >= x_shape.width {
                continue;
            }
            let first = ((image * x_shape.height + iy) * x_shape.width + ix) * in_channels;
            for i in 0..group_in {
                let input = x[first + oc / (o / conv.groups) * group_in + i];
                let product = f64::from(conv.weight[[oc, i, ky, kx]]) * f64::from(input);
                sum += product;
                magnitude += product.abs();
            }
        }
        values[at] = if relu && sum < 0.0 { 0.0 } else { sum };
        magnitudes[at] = magnitude;
    }
    (values, magnitudes)
}

/// Compares the direct variant, and the Cpu device, with the twin within the bound of `conv_cases.rs`; and each image of a
/// batch with the same image alone, to the bit.
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    verify_variant(device, Variant::Direct, CASES)
}

fn verify_variant(device: &Device, variant: Variant, cases: &[Case]) -> Result<Vec<Check>> {
    let mut random = Random::new(2);
    let mut checks = Vec::new();
    for case in cases {
        case.check(device, &mut random, &mut checks, |rec, conv, images, epilogue, x, y| {
            let w = Weights::new(device, conv)?.with_variant(variant);
            let g = Geometry::new(images, case.x, case.out, case.kernel, case.stride, case.padding, w.groups());
            // A batch is done in steps, as a huge layer would be; an image alone at once.
            let most_macs = if images > 1 { 1 } else { MOST_MACS };
            dispatch_in_steps(rec, &g, epilogue, x, &w, y, most_macs)
        })?;
    }
    Ok(checks)
}

/// Images, input, output channels, kernel, stride, padding, groups, `ReLU`.
const CASES: &[Case] = &[
    case(1, [1, 1, 1], 1, [1, 1], [1, 1], [0, 0], 1, false),
    case(3, [1, 1, 5], 2, [3, 3], [1, 1], [1, 1], 1, true),
    case(3, [5, 7, 2], 3, [1, 1], [2, 2], [0, 0], 1, false),
    case(1, [9, 6, 3], 4, [3, 3], [2, 2], [1, 1], 1, true),
    case(3, [4, 11, 4], 5, [5, 5], [1, 1], [2, 2], 1, false),
    case(1, [8, 5, 5], 6, [3, 1], [1, 2], [1, 0], 1, true),
    case(3, [3, 6, 6], 7, [1, 5], [2, 1], [0, 2], 1, false),
    case(1, [2, 2, 7], 9, [3, 3], [1, 1], [2, 2], 1, true),
    // A linear layer; K over several depth blocks of the product.
    case(3, [1, 1, 600], 13, [1, 1], [1, 1], [0, 0], 1, false),
    case(3, [7, 7, 12], 20, [1, 1], [1, 1], [0, 0], 1, true),
    // Groups that stay, with one, two and three quads each, and groups that are merged.
    case(3, [6, 5, 8], 8, [3, 3], [1, 1], [1, 1], 2, true),
    case(1, [5, 5, 16], 32, [3, 3], [2, 2], [1, 1], 4, false),
    case(3, [4, 4, 24], 24, [1, 1], [1, 1], [0, 0], 2, false),
    case(1, [5, 4, 6], 4, [3, 3], [1, 1], [1, 1], 2, true),
    case(3, [5, 4, 3], 6, [3, 3], [1, 1], [1, 1], 3, false),
    // More than one workgroup and more than one block of rows; tiles of output channels, whole and cut.
    case(3, [21, 23, 4], 8, [3, 3], [1, 1], [1, 1], 1, true),
    case(2, [37, 31, 5], 44, [3, 3], [1, 1], [1, 1], 1, true),
    case(2, [41, 60, 3], 32, [3, 3], [2, 2], [1, 1], 1, false),
    case(1, [4, 3, 9], 70, [1, 1], [1, 1], [0, 0], 1, true),
    // Weights that go through in slices: 64 output channels, and three vectors of 16.
    case(2, [5, 7, 80], 64, [3, 3], [2, 1], [1, 1], 1, true),
    case(1, [4, 4, 101], 48, [3, 3], [1, 1], [1, 1], 1, false),
    // 3×3 and channels in sixteens: an even and an odd side, one pixel, no and more padding, groups, one and two vectors,
    // several blocks.
    case(3, [6, 8, 32], 16, [3, 3], [1, 1], [1, 1], 1, true),
    case(2, [7, 13, 48], 48, [3, 3], [1, 1], [1, 1], 1, false),
    case(3, [1, 1, 32], 32, [3, 3], [1, 1], [1, 1], 1, true),
    case(1, [5, 4, 32], 16, [3, 3], [1, 1], [0, 0], 1, false),
    case(1, [3, 2, 32], 16, [3, 3], [1, 1], [2, 2], 1, true),
    case(2, [9, 10, 64], 64, [3, 3], [1, 1], [1, 1], 2, true),
    case(2, [50, 61, 32], 16, [3, 3], [1, 1], [1, 1], 1, true),
];

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array4, array};

    use super::*;

    #[test]
    fn the_twin_does_a_convolution_by_hand() {
        // 1 channel, 2×3 image, 1×2 kernel, padding 1 in the width: rows of [0 a b c 0].
        let conv = Conv {
            weight: Array4::from_shape_vec((1, 1, 1, 2), vec![2.0, -1.0]).unwrap(),
            bias: array![0.5],
            stride: [1, 2],
            padding: [0, 1],
            groups: 1,
        };
        let x: Vec<f32> = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|&v| [v, 0.0, 0.0, 0.0]).collect();
        let (values, magnitudes) = reference(&conv, 1, Shape::new(1, 2, 3), true, &x);
        let first = |v: &[f64]| v.chunks(4).map(|c| c[0]).collect::<Vec<_>>();
        assert_eq!(first(&values), [0.0, 1.5, 0.0, 4.5]);
        assert_eq!(first(&magnitudes), [1.5, 7.5, 4.5, 16.5]);
    }

    #[test]
    fn a_nan_survives_the_relu() {
        let conv = Conv {
            weight: Array4::from_elem((4, 4, 1, 1), 1.0),
            bias: Array1::zeros(4),
            stride: [1, 1],
            padding: [0, 0],
            groups: 1,
        };
        let device = Device::cpu();
        let w = Weights::new(&device, &conv).unwrap();
        let g = Geometry::new(1, Shape::new(4, 1, 1), 4, [1, 1], [1, 1], [0, 0], w.groups());
        let x = device.upload(&[f32::NAN.to_bits(); 4], "x").unwrap();
        let y = device.alloc(4, "y").unwrap();
        let mut rec = device.recorder();
        dispatch(&mut rec, &g, Epilogue::plain(true), &x, &w, &y).unwrap();
        assert!(device.read(&y, 4).unwrap().iter().all(|v| f32::from_bits(*v).is_nan()));
    }
}
