//! int8 to f32, in front of a layer kept in float: `y = (q − zero_point) · scale`.
//!
//! x is NHWC packed int8, y NHWC f32, both with channels in fours; padded channels of y are 0. The difference is exact,
//! so each value is rounded once.

use bytemuck::cast_slice_mut;
use rayon::prelude::*;

use super::{Check, Random};
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};

/// What the host knows of `dequantize.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "dequantize",
    source: include_str!("../../shaders/dequantize.wgsl"),
    bindings: &[Binding::Params, Binding::Read, Binding::ReadWrite],
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Pixels of the whole batch.
    pub pixels: u32,
    /// Channels, without padding.
    pub channels: u32,
    /// Real value of one step.
    pub scale: f32,
    /// The level of real 0.
    pub zero_point: i32,
}

/// Records `y = (x − zero_point) · scale` for `pixels` pixels (of all images) of `channels` channels.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If a buffer is too small for these sizes: an error of the caller, not of the input.
pub fn dispatch(
    rec: &mut Recorder<'_>,
    pixels: usize,
    channels: usize,
    scale: f32,
    zero_point: i32,
    x: &Buffer,
    y: &Buffer,
) -> Result<()> {
    let quads = channels.div_ceil(4);
    let items = pixels * quads;
    assert!(x.len() >= items && y.len() >= 4 * items, "dequantize: buffer sizes");
    if items == 0 {
        return Ok(());
    }
    if rec.is_native() {
        let (x, mut y) = (x.host(), y.host_mut());
        native(channels, scale, zero_point, &x[..items], cast_slice_mut(&mut y[..4 * items]));
        return Ok(());
    }
    let params = Params { pixels: pixels as u32, channels: channels as u32, scale, zero_point };
    rec.run(&SPEC, &params, &[x, y], groups_for(items, SPEC.workgroup_size[0]))
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
pub fn reference(channels: usize, scale: f32, zero_point: i32, x: &[u32]) -> Vec<f64> {
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
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(5);
    let mut checks = Vec::new();
    for (pixels, channels, scale, zero_point) in
        [(1, 1, 0.25, 0), (63, 3, 0.013, -128), (64, 4, 1.7e-5, 127), (65, 7, 3.1e4, -5), (300, 12, 0.1, 17)]
    {
        // Any bytes, in padded channels too: they must not show.
        let x: Vec<u32> = (0..pixels * usize::div_ceil(channels, 4)).map(|_| random.next_u64() as u32).collect();
        let y = device.upload(&vec![f32::NAN.to_bits(); 4 * x.len()], "y")?;
        let mut rec = device.recorder();
        dispatch(&mut rec, pixels, channels, scale, zero_point, &device.upload(&x, "x")?, &y)?;
        rec.submit()?;
        let got = device.read(&y, 4 * x.len())?;
        let expected = reference(channels, scale, zero_point, &x);
        let bounds: Vec<f64> = expected.iter().map(|v| v.abs() * f64::from(f32::EPSILON) / 2.0).collect();
        let case = format!("{pixels} pixels of {channels} channels, scale {scale}, zero point {zero_point}");
        checks.push(Check::close(case, &expected, &bounds, bytemuck::cast_slice(&got)));
    }
    Ok(checks)
}
