//! 8-bit pixels to the float network input: `y[c] = table[c][v]`, the table holding
//! `(v/255 − mean[c]) / std[c]`.
//!
//! Pixels are `R | G << 8 | B << 16`, or a gray value, one u32 each; the output is NHWC with 4
//! channels, those that no table is given for 0. A table instead of arithmetic: every device gives
//! the same bits.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome};

/// `normalize.wgsl`.
pub(crate) static SHADER: Shader = shader!("normalize");

/// Colours of a pixel.
const COLOURS: usize = 3;
/// Words of the table: 256 levels of each colour.
const TABLE_WORDS: usize = COLOURS * 256;

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Pixels in the batch.
    pixels: u32,
    /// Fills the struct to 16 bytes.
    unused: [u32; 3],
}

/// Uploads the table of 3 × 256 input values, rounded once to f32. Channels that `levels` has not
/// are 0; more than three it has for inputs that are never pixels, and those are left out.
///
/// # Errors
/// If the device has no memory left.
pub fn table(device: &Device, levels: &[[f64; 256]]) -> Result<Buffer> {
    let mut words: Vec<u32> = levels.iter().take(COLOURS).flatten().map(|v| (*v as f32).to_bits()).collect();
    words.resize(TABLE_WORDS, 0f32.to_bits());
    device.upload(&words, "input table")
}

/// `y = table[x]`.
pub struct Normalize<'a> {
    /// Pixels in the batch.
    pub pixels: usize,
    /// One word a pixel.
    pub x: &'a Buffer,
    /// What [`table`] made.
    pub table: &'a Buffer,
    /// Four words a pixel.
    pub y: &'a Buffer,
}

impl Kernel for Normalize<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![
            Bound::read("x", self.x, self.pixels),
            Bound::read("table", self.table, TABLE_WORDS),
            Bound::write("y", self.y, 4 * self.pixels),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let params = Params { pixels: self.pixels as u32, unused: [0; 3] };
        Dispatch::of(&SHADER, self.pixels, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        const CHUNK: usize = 4096;
        let (x, table, mut y) = (self.x.host(), self.table.host(), self.y.host_mut());
        let (x, y) = (&x[..self.pixels], cast_slice_mut(&mut y[..4 * self.pixels]));
        let chunks = x.par_chunks(CHUNK).zip(y.par_chunks_mut(4 * CHUNK));
        let table = cast_slice(&table);
        chunks.for_each(|(x, y)| reference(table, x, y));
        Ok(())
    }
}

/// The twin: one lookup for each colour.
fn reference(table: &[f32], x: &[u32], y: &mut [f32]) {
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
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(1);
    let levels: [[f64; 256]; COLOURS] = std::array::from_fn(|_| std::array::from_fn(|_| f64::from(random.float())));
    let mut checks = gray(device, &levels[0], &mut random)?;
    let table = table(device, &levels)?;
    let flat: Vec<f32> = levels.iter().flatten().map(|v| *v as f32).collect();
    // The last case needs more workgroups than one dimension of the grid has.
    for pixels in [1, 63, 64, 1000, 65_535 * 64 + 77] {
        let x: Vec<u32> = (0..pixels).map(|_| random.next_u64() as u32 & 0x00FF_FFFF).collect();
        let mut expected = vec![0.0; 4 * pixels];
        reference(&flat, &x, &mut expected);
        let x = device.upload(&x, "x")?;
        let got = outcome(device, 4 * pixels, |rec, y| rec.run(&Normalize { pixels, x: &x, table: &table, y }))?;
        let expected: Vec<u32> = expected.iter().map(|v| v.to_bits()).collect();
        checks.push(Check::exact(format!("{pixels} pixels"), &expected, &got));
    }
    Ok(checks)
}

/// One channel: the table's value of the lowest byte, and zeros.
fn gray(device: &Device, levels: &[f64; 256], random: &mut Random) -> Result<Vec<Check>> {
    let pixels = 300;
    let x: Vec<u32> = (0..pixels).map(|_| random.next_u64() as u32 & 0xFF).collect();
    let expected: Vec<u32> = x.iter().flat_map(|v| [(levels[*v as usize] as f32).to_bits(), 0, 0, 0]).collect();
    let (x, table) = (device.upload(&x, "x")?, table(device, std::slice::from_ref(levels))?);
    let got = outcome(device, 4 * pixels, |rec, y| rec.run(&Normalize { pixels, x: &x, table: &table, y }))?;
    Ok(vec![Check::exact(format!("{pixels} gray pixels"), &expected, &got)])
}
