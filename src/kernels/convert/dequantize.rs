//! int8 to f32, in front of a layer kept in float: `y = (q − zero_point) · scale`.
//!
//! x is NHWC packed int8, y NHWC f32, both with channels in fours; padded channels of y are 0. The
//! difference is exact, so each value is rounded once.

use bytemuck::cast_slice_mut;
use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome};

/// `dequantize.wgsl`.
pub(crate) static SHADER: Shader = shader!("dequantize");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Pixels of the whole batch.
    pixels: u32,
    /// Channels, without padding.
    channels: u32,
    /// Real value of one step.
    scale: f32,
    /// The level of real 0.
    zero_point: i32,
}

/// `y = (x − zero_point) · scale`.
pub struct Dequantize<'a> {
    /// Pixels of all images.
    pub pixels: usize,
    /// Channels, without padding.
    pub channels: usize,
    /// Real value of one step.
    pub scale: f32,
    /// The level of real 0.
    pub zero_point: i32,
    /// Packed int8.
    pub x: &'a Buffer,
    /// f32.
    pub y: &'a Buffer,
}

impl Dequantize<'_> {
    /// Fours of channels of the batch.
    fn quads(&self) -> usize {
        self.pixels * self.channels.div_ceil(4)
    }
}

impl Kernel for Dequantize<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![Bound::read("x", self.x, self.quads()), Bound::write("y", self.y, 4 * self.quads())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let &Self { scale, zero_point, .. } = self;
        let params = Params { pixels: self.pixels as u32, channels: self.channels as u32, scale, zero_point };
        Dispatch::of(&SHADER, self.quads(), params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y, quads) = (self.x.host(), self.y.host_mut(), self.quads());
        native(self.channels, self.scale, self.zero_point, &x[..quads], cast_slice_mut(&mut y[..4 * quads]));
        Ok(())
    }
}

/// Parallel over pixels.
fn native(channels: usize, scale: f32, zero_point: i32, x: &[u32], y: &mut [f32]) {
    let quads = channels.div_ceil(4);
    x.par_chunks_exact(quads).zip(y.par_chunks_exact_mut(4 * quads)).with_min_len(64).for_each(|(x, y)| {
        for (word, y) in x.iter().zip(y.chunks_exact_mut(4)) {
            for (byte, y) in word.to_le_bytes().into_iter().zip(y) {
                *y = (i32::from(byte as i8) - zero_point) as f32 * scale;
            }
        }
        y[channels..].fill(0.0);
    });
}

/// The twin, in f64.
pub(crate) fn reference(channels: usize, scale: f32, zero_point: i32, x: &[u32]) -> Vec<f64> {
    let padded = channels.next_multiple_of(4);
    let value = |at: usize| {
        let q = x[at / 4].to_le_bytes()[at % 4] as i8;
        if at % padded < channels { f64::from(i32::from(q) - zero_point) * f64::from(scale) } else { 0.0 }
    };
    (0..4 * x.len()).map(value).collect()
}

/// Compares with the twin: one rounding, `|error| ≤ 2^−24 · |y|`.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(5);
    let mut checks = Vec::new();
    for (pixels, channels, scale, zero_point) in
        [(1, 1, 0.25, 0), (63, 3, 0.013, -128), (64, 4, 1.7e-5, 127), (65, 7, 3.1e4, -5), (300, 12, 0.1, 17)]
    {
        // Any bytes, in padded channels too: they must not show.
        let x: Vec<u32> = (0..pixels * usize::div_ceil(channels, 4)).map(|_| random.next_u64() as u32).collect();
        let words = device.upload(&x, "x")?;
        let got = outcome(device, 4 * x.len(), |rec, y| {
            rec.run(&Dequantize { pixels, channels, scale, zero_point, x: &words, y })
        })?;
        let expected = reference(channels, scale, zero_point, &x);
        let bounds: Vec<f64> = expected.iter().map(|v| v.abs() * f64::from(f32::EPSILON) / 2.0).collect();
        let case = format!("{pixels} pixels of {channels} channels, scale {scale}, zero point {zero_point}");
        checks.push(Check::close(case, &expected, &bounds, bytemuck::cast_slice(&got)));
    }
    Ok(checks)
}
