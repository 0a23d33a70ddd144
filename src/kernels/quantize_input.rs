//! 8-bit pixels to the packed int8 network input: `q[c] = table[c][v]`, the table holding the level of
//! `(v/255 − mean[c]) / std[c]`, computed on the host in f64.
//!
//! Pixels are `R | G << 8 | B << 16`, one u32 each; the output is one word a pixel, the fourth channel the zero point. The
//! table's entries are already in the byte of their colour, and those of blue hold the fourth channel too: a pixel is
//! three look-ups, joined.

use rayon::prelude::*;

use super::{Check, Random};
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};
use crate::model::QParams;

/// What the host knows of `quantize_input.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "quantize_input",
    source: include_str!("../../shaders/quantize_input.wgsl"),
    bindings: &[Binding::Params, Binding::Read, Binding::Read, Binding::ReadWrite],
    workgroup_size: [64, 1, 1],
    params_bytes: size_of::<Params>(),
};

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Pixels in the batch.
    pub pixels: u32,
    /// Fills the struct to 16 bytes.
    pub unused: [u32; 3],
}

/// Uploads the table of 3 × 256 levels of the real input values `levels`.
///
/// # Errors
/// If the device has no memory left.
pub fn table(device: &Device, levels: &[[f64; 256]; 3], q: &QParams) -> Result<Buffer> {
    let byte = |level: i32| u32::from(level as i8 as u8);
    let fourth = byte(q.zero_point) << 24;
    let colours = levels.iter().zip([0, 0, fourth]).enumerate();
    let words: Vec<u32> = colours
        .flat_map(|(c, (values, more))| values.iter().map(move |v| byte(q.quantize(*v)) << (8 * c) | more))
        .collect();
    device.upload(&words, "input table")
}

/// Records `y = table[x]` for `pixels` pixels, one word each.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If a buffer is too short: an error of the caller.
pub fn dispatch(rec: &mut Recorder<'_>, pixels: usize, x: &Buffer, table: &Buffer, y: &Buffer) -> Result<()> {
    assert!(x.len() >= pixels && table.len() >= 768 && y.len() >= pixels, "quantize_input: buffer sizes");
    if rec.is_native() {
        native(&table.host(), &x.host()[..pixels], &mut y.host_mut()[..pixels]);
        return Ok(());
    }
    let params = Params { pixels: pixels as u32, unused: [0; 3] };
    rec.run(&SPEC, &params, &[x, table, y], groups_for(pixels, SPEC.workgroup_size[0]))
}

/// The shader's look-ups, in parallel.
fn native(table: &[u32], x: &[u32], y: &mut [u32]) {
    const CHUNK: usize = 4096;
    x.par_chunks(CHUNK).zip(y.par_chunks_mut(CHUNK)).for_each(|(x, y)| {
        for (pixel, out) in x.iter().zip(y) {
            let [r, g, b, _] = pixel.to_le_bytes().map(usize::from);
            *out = table[r] | table[256 + g] | table[512 + b];
        }
    });
}

/// The twin: every value quantized by itself. Four levels a pixel.
pub fn reference(levels: &[[f64; 256]; 3], q: &QParams, x: &[u32]) -> Vec<i8> {
    let mut y = Vec::with_capacity(4 * x.len());
    for pixel in x {
        for (c, values) in levels.iter().enumerate() {
            let value = values[(pixel >> (8 * c) & 255) as usize];
            let level = (value / f64::from(q.scale)).round_ties_even() + f64::from(q.zero_point);
            y.push(level.clamp(f64::from(q.qmin), f64::from(q.qmax)) as i8);
        }
        y.push(q.zero_point as i8);
    }
    y
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(3);
    let levels: [[f64; 256]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| 3.0 * f64::from(random.float())));
    let mut checks = Vec::new();
    for q in [QParams::symmetric(2.64, 8), QParams::affine(-2.1, 1.3, 8), QParams::symmetric(3.0, 4)] {
        let table_buffer = table(device, &levels, &q)?;
        for pixels in [1, 63, 65, 1000, 65_535 * 64 + 77] {
            // The fourth byte is not a colour: whatever it holds changes nothing.
            let x: Vec<u32> = (0..pixels).map(|_| random.next_u64() as u32).collect();
            let y = device.alloc(pixels, "y")?;
            let mut rec = device.recorder();
            dispatch(&mut rec, pixels, &device.upload(&x, "x")?, &table_buffer, &y)?;
            rec.submit()?;
            let name = format!("{pixels} pixels, levels {} to {}", q.qmin, q.qmax);
            checks.push(super::cases::compare(name, &reference(&levels, &q, &x), &device.read(&y, pixels)?));
        }
    }
    Ok(checks)
}
