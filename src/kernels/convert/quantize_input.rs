//! 8-bit pixels to the packed int8 network input: `q[c] = table[c][v]`, the table holding the level
//! of `(v/255 − mean[c]) / std[c]`, computed on the host in f64.
//!
//! Pixels are `R | G << 8 | B << 16`, or a gray value, one u32 each; the output is one word a pixel,
//! the channels that no table is given for the zero point. The table's entries are already in the
//! byte of their colour, and those of blue hold the fourth channel too: a pixel is three look-ups,
//! joined.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, compare, outcome};
use crate::model::QParams;

/// `quantize_input.wgsl`.
pub(crate) static SHADER: Shader = shader!("quantize_input");

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

/// Uploads the table of 3 × 256 levels of the real input values `levels`. Channels that those have
/// not hold the zero point; more than three there are for inputs that are never pixels, and those
/// are left out.
///
/// # Errors
/// If the device has no memory left.
pub fn table(device: &Device, levels: &[[f64; 256]], q: &QParams) -> Result<Buffer> {
    let byte = |level: i32| u32::from(level as i8 as u8);
    let fourth = byte(q.zero_point) << 24;
    let mut words = Vec::with_capacity(TABLE_WORDS);
    for (c, more) in [0, 0, fourth].into_iter().enumerate() {
        let level = |v: usize| levels.get(c).map_or(q.zero_point, |values| q.quantize(values[v]));
        words.extend((0..256).map(|v| byte(level(v)) << (8 * c) | more));
    }
    device.upload(&words, "input table")
}

/// `y = table[x]`.
pub struct QuantizeInput<'a> {
    /// Pixels in the batch.
    pub pixels: usize,
    /// One word a pixel.
    pub x: &'a Buffer,
    /// What [`table`] made.
    pub table: &'a Buffer,
    /// One word a pixel.
    pub y: &'a Buffer,
}

impl Kernel for QuantizeInput<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![
            Bound::read("x", self.x, self.pixels),
            Bound::read("table", self.table, TABLE_WORDS),
            Bound::write("y", self.y, self.pixels),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let params = Params { pixels: self.pixels as u32, unused: [0; 3] };
        Dispatch::of(&SHADER, self.pixels, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        native(&self.table.host(), &self.x.host()[..self.pixels], &mut self.y.host_mut()[..self.pixels]);
        Ok(())
    }
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
pub(crate) fn reference(levels: &[[f64; 256]], q: &QParams, x: &[u32]) -> Vec<i8> {
    let mut y = Vec::with_capacity(4 * x.len());
    for pixel in x {
        for (c, values) in levels.iter().enumerate() {
            let value = values[(pixel >> (8 * c) & 255) as usize];
            let level = (value / f64::from(q.scale)).round_ties_even() + f64::from(q.zero_point);
            y.push(level.clamp(f64::from(q.qmin), f64::from(q.qmax)) as i8);
        }
        y.extend(std::iter::repeat_n(q.zero_point as i8, 4 - levels.len()));
    }
    y
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(3);
    let all: [[f64; 256]; COLOURS] = std::array::from_fn(|_| std::array::from_fn(|_| 3.0 * f64::from(random.float())));
    let mut checks = Vec::new();
    let cases = [
        (3, QParams::symmetric(2.64, 8)),
        (3, QParams::affine(-2.1, 1.3, 8)),
        (3, QParams::symmetric(3.0, 4)),
        // Gray, and a zero point that is seen in the channels which are none.
        (1, QParams::affine(-2.1, 1.3, 8)),
    ];
    for (channels, q) in cases {
        let levels = &all[..channels];
        let table = table(device, levels, &q)?;
        for pixels in [1, 63, 65, 1000, 65_535 * 64 + 77] {
            // The fourth byte is not a colour: whatever it holds changes nothing.
            let x: Vec<u32> = (0..pixels).map(|_| random.next_u64() as u32).collect();
            let words = device.upload(&x, "x")?;
            let got =
                outcome(device, pixels, |rec, y| rec.run(&QuantizeInput { pixels, x: &words, table: &table, y }))?;
            let name = format!("{pixels} pixels of {channels} channels, levels {} to {}", q.qmin, q.qmax);
            checks.push(compare(name, &reference(levels, &q, &x), &got));
        }
    }
    Ok(checks)
}
