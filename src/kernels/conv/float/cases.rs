//! Cases of the float convolutions, and how they are compared with the twin.
//!
//! The bound: a sum of n + 1 terms (n products of two floats, one bias), in whatever order, rounds
//! each product once and each partial sum once, so a term is rounded at most n + 1 times and
//! `|error| ≤ γ · (|bias| + Σ|w·x|)` with `γ = (n + 1)·u / (1 − (n + 1)·u)` and `u = 2^−24`
//! (Higham, *Accuracy and Stability of Numerical Algorithms*, 3.1 and 4.2). `γ ≤ (n + 2)·u` while
//! `(n + 1)·(n + 2) ≤ 2^24`. A fused multiply-add rounds less; terms that are 0 (padding) do not
//! round at all. Devices may flush results below `2^−126` to 0: one more such amount for each
//! operation. `ReLU` enlarges no error.

use bytemuck::cast_slice;
use ndarray::{Array1, Array4};

use super::epilogue::Epilogue;
use super::kernel::ConvF32;
use super::reference::reference;
use super::weights::Weights;
use super::winograd;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::Random;
use crate::kernels::conv::variants::Tile;
use crate::kernels::core::{Check, outcome, random_activation, words_of};
use crate::kernels::statistics::{Extent, Row, State, range};
use crate::model::{Conv, Shape, conv_output};

/// A convolution to compare.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) images: usize,
    pub(super) x: Shape,
    pub(super) out: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    pub(super) groups: usize,
    pub(super) relu: bool,
}

/// A case; the input is rows, columns, channels.
#[allow(clippy::too_many_arguments)] // one line of a table
pub(super) const fn case(
    images: usize,
    [height, width, channels]: [usize; 3],
    out: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    groups: usize,
    relu: bool,
) -> Case {
    Case { images, x: Shape { channels, height, width }, out, kernel, stride, padding, groups, relu }
}

impl Case {
    fn name(&self) -> String {
        let Self { images, x, out, kernel: [kh, kw], stride: [sy, sx], padding: [py, px], groups, relu } = self;
        let act = if *relu { ", relu" } else { "" };
        format!("{images}×{x} to {out}, kernel {kh}×{kw}, stride {sy}×{sx}, padding {py}×{px}, groups {groups}{act}")
    }

    fn conv(&self, random: &mut Random) -> Conv {
        let shape = (self.out, self.x.channels / self.groups, self.kernel[0], self.kernel[1]);
        Conv {
            weight: Array4::from_shape_simple_fn(shape, || random.float()),
            bias: Array1::from_shape_simple_fn(self.out, || random.float()),
            stride: self.stride,
            padding: self.padding,
            groups: self.groups,
        }
    }

    /// Runs the case on uneven inputs and compares with the twin, in steps where it has several
    /// images, as a huge layer would be; then it also runs each of them alone and at once, and
    /// compares the bits. The range that the epilogue finds is that of the twin. On an adapter a
    /// dense layer is run by this tile, or by the direct variant.
    pub(super) fn check(
        &self,
        device: &Device,
        tile: Option<&'static Tile>,
        random: &mut Random,
        checks: &mut Vec<Check>,
    ) -> Result<()> {
        let conv = self.conv(random);
        let x = random_activation(random, self.images, self.x);
        let y_shape = conv_output(self.x, self.out, self.kernel, self.stride, self.padding);
        let y_image = y_shape.padded_len();
        let weights = Weights::new(device, &conv)?.with_tile(tile);
        let in_steps = Weights::new(device, &conv)?.with_tile(tile).with_most_macs(1);
        let run = |images: usize, x: &[f32]| -> Result<Vec<u32>> {
            let x = device.upload(cast_slice(x), "x")?;
            outcome(device, images * y_image, |rec, y| {
                let weights = if images > 1 { &in_steps } else { &weights };
                let epilogue = Epilogue::plain(self.relu);
                rec.run(&ConvF32 { images, x_shape: self.x, weights, epilogue, x: &x, y })
            })
        };
        let got = run(self.images, &x)?;
        let (expected, magnitudes) = reference(&conv, self.images, self.x, self.relu, &x);
        let plain = (conv.weight.len() / self.out, magnitudes);
        let (terms, magnitudes) = other_terms(device, &conv, self.images, self.x, &x).unwrap_or(plain);
        let bounds: Vec<f64> = magnitudes.iter().map(|m| bound(terms, *m)).collect();
        checks.push(Check::close(self.name(), &expected, &bounds, cast_slice(&got)));
        for bad in [false, true] {
            let mut x = x.clone();
            if bad {
                // In the last image alone.
                let first = x.len() / self.images * (self.images - 1);
                x[first..].fill(f32::NAN);
            }
            let weights = if self.images > 1 { &in_steps } else { &weights };
            checks.push(self.check_range(device, weights, &device.upload(cast_slice(&x), "x")?, y_shape)?);
        }
        if self.images > 1 {
            let mut alone = Vec::with_capacity(got.len());
            for x in x.chunks_exact(x.len() / self.images) {
                alone.extend(run(1, x)?);
            }
            checks.push(Check::exact(format!("{}: each image alone", self.name()), &alone, &got));
        }
        Ok(())
    }

    /// Compares the range that the epilogue finds with the twin of `range` on what was written, to
    /// the bit.
    fn check_range(&self, device: &Device, weights: &Weights, x: &Buffer, shape: Shape) -> Result<Check> {
        let extent = Extent { images: self.images, shape };
        // The middle row has seen ±2^-90 before; the others must not be touched.
        let mut states = [State::EMPTY; 3];
        states[1].min_key = State::key((-(2f32.powi(-90))).to_bits());
        states[1].max_key = State::key(2f32.powi(-90).to_bits());
        let rows = device.upload(cast_slice(&states), "states")?;
        let y = outcome(device, extent.words(), |rec, y| {
            let epilogue = Epilogue { relu: self.relu, range: Some(Row { states: &rows, index: 1 }) };
            rec.run(&ConvF32 { images: self.images, x_shape: self.x, weights, epilogue, x, y })
        })?;
        range::reference(&extent, &y, &mut states[1]);
        Ok(Check::exact(format!("{}: range", self.name()), cast_slice(&states), &words_of(device, &rows)?))
    }
}

/// Where the Cpu device does not add up the products: how many terms the bound counts, and what
/// their magnitudes add up to for each output.
fn other_terms(device: &Device, conv: &Conv, images: usize, x_shape: Shape, x: &[f32]) -> Option<(usize, Vec<f64>)> {
    let (_, inputs, ..) = conv.weight.dim();
    winograd::suits(device.tier(), conv, conv.groups)?;
    Some((inputs + winograd::FURTHER_TERMS, winograd::magnitudes(conv, images, x_shape, x)))
}

/// The bound for `terms` products whose magnitudes add up to `magnitude`, bias included; 0 for
/// padded channels.
fn bound(terms: usize, magnitude: f64) -> f64 {
    assert!((terms + 1) * (terms + 2) <= 1 << 24, "the bound holds for shorter sums");
    if magnitude == 0.0 {
        return 0.0;
    }
    let n = terms as f64;
    (n + 2.0) * f64::from(f32::EPSILON) / 2.0 * magnitude + (2.0 * n + 1.0) * f64::from(f32::MIN_POSITIVE)
}
