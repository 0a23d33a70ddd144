//! 8-bit pixels to the float network input: `y[c] = table[c][v]`, the table holding `(v/255 − mean[c]) / std[c]`.
//!
//! Pixels are `R | G << 8 | B << 16`, one u32 each; the output is NHWC with 4 channels, the fourth 0. A table instead of
//! arithmetic: every device gives the same bits.

use rayon::prelude::*;

use super::{Check, Random};
use crate::Result;
use crate::device::{Binding, Buffer, Device, KernelSpec, Recorder, groups_for};

/// What the host knows of `normalize.wgsl`.
pub static SPEC: KernelSpec = KernelSpec {
    name: "normalize",
    source: include_str!("../../shaders/normalize.wgsl"),
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

/// Uploads the table of 3 × 256 input values, rounded once to f32.
///
/// # Errors
/// If the device has no memory left.
pub fn table(device: &Device, levels: &[[f64; 256]; 3]) -> Result<Buffer> {
    let words: Vec<u32> = levels.iter().flatten().map(|v| (*v as f32).to_bits()).collect();
    device.upload(&words, "input table")
}

/// Records `y = table[x]` for `pixels` pixels: x one word, y four words a pixel.
///
/// # Errors
/// If the device failed.
///
/// # Panics
/// If a buffer is too small: an error of the caller.
pub fn dispatch(rec: &mut Recorder<'_>, pixels: usize, x: &Buffer, table: &Buffer, y: &Buffer) -> Result<()> {
    assert!(x.len() >= pixels && table.len() >= 768 && y.len() >= 4 * pixels, "normalize: buffer sizes");
    if rec.is_native() {
        native(bytemuck::cast_slice(&table.host()), &x.host()[..pixels], bytemuck::cast_slice_mut(&mut y.host_mut()));
        return Ok(());
    }
    let params = Params { pixels: pixels as u32, unused: [0; 3] };
    rec.run(&SPEC, &params, &[x, table, y], groups_for(pixels, SPEC.workgroup_size[0]))
}

/// The twin, in parallel.
fn native(table: &[f32], x: &[u32], y: &mut [f32]) {
    const CHUNK: usize = 4096;
    x.par_chunks(CHUNK).zip(y.par_chunks_mut(4 * CHUNK)).for_each(|(x, y)| reference(table, x, y));
}

/// The twin: one lookup for each colour.
pub fn reference(table: &[f32], x: &[u32], y: &mut [f32]) {
    for (pixel, out) in x.iter().zip(y.chunks_exact_mut(4)) {
        for c in 0..3 {
            out[c] = table[256 * c + (pixel >> (8 * c) & 255) as usize];
        }
        out[3] = 0.0;
    }
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(1);
    let levels: [[f64; 256]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| f64::from(random.float())));
    let table_buffer = table(device, &levels)?;
    let flat: Vec<f32> = levels.iter().flatten().map(|v| *v as f32).collect();
    let mut checks = Vec::new();
    // The last case needs more workgroups than one dimension of the grid has.
    for pixels in [1, 63, 64, 1000, 65_535 * 64 + 77] {
        let x: Vec<u32> = (0..pixels).map(|_| random.next_u64() as u32 & 0x00FF_FFFF).collect();
        let mut expected = vec![0.0; 4 * pixels];
        reference(&flat, &x, &mut expected);
        let y = device.alloc(4 * pixels, "y")?;
        let mut rec = device.recorder();
        dispatch(&mut rec, pixels, &device.upload(&x, "x")?, &table_buffer, &y)?;
        rec.submit()?;
        let got = device.read(&y, 4 * pixels)?;
        let expected: Vec<u32> = expected.iter().map(|v| v.to_bits()).collect();
        checks.push(Check::exact(format!("{pixels} pixels"), &expected, &got));
    }
    Ok(checks)
}
