//! int32 accumulators to f32, in front of an operation computed in float: `y = acc · f[o]`,
//! `f = s_x·s_f` of each channel rounded to f32 on the host; with a `ReLU`,
//! `y = max(acc, 0) · f[o]`.
//!
//! Both are NHWC with channels in fours; padded channels of y are 0, as their factors are. Two
//! roundings: of accumulators beyond 2^24, by devices to either neighbour (2u, `u = 2^−24`), and of
//! the product (u): `|error| ≤ (3u + 2u²) · |y|`.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome};

/// `dequantize_acc.wgsl`.
pub(crate) static SHADER: Shader = shader!("dequantize_acc");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Pixels of the whole batch.
    pixels: u32,
    /// Channels in fours.
    quads: u32,
    /// 1: negative accumulators become 0.
    relu: u32,
    /// Fills the struct to 16 bytes.
    unused: u32,
}

/// The factors of a layer's accumulators on a device.
#[derive(Debug)]
pub struct Factors(Buffer);

impl Factors {
    /// Uploads the real value of one step of each channel's accumulator.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn new(device: &Device, factors: &[f64]) -> Result<Self> {
        let mut words: Vec<u32> = factors.iter().map(|factor| (*factor as f32).to_bits()).collect();
        words.resize(words.len().next_multiple_of(4), 0);
        Ok(Self(device.upload(&words, "factors")?))
    }
}

/// `y = x · f`, or `max(x, 0) · f`.
pub struct DequantizeAcc<'a> {
    /// Pixels of all images.
    pub pixels: usize,
    /// One for each channel.
    pub factors: &'a Factors,
    /// Whether negative accumulators become 0.
    pub relu: bool,
    /// int32.
    pub x: &'a Buffer,
    /// f32.
    pub y: &'a Buffer,
}

impl DequantizeAcc<'_> {
    fn words(&self) -> usize {
        self.pixels * self.factors.0.len()
    }
}

impl Kernel for DequantizeAcc<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![
            Bound::read("x", self.x, self.words()),
            Bound::read("factors", &self.factors.0, self.factors.0.len()),
            Bound::write("y", self.y, self.words()),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let quads = (self.factors.0.len() / 4) as u32;
        let params = Params { pixels: self.pixels as u32, quads, relu: u32::from(self.relu), unused: 0 };
        Dispatch::of(&SHADER, self.words() / 4, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (x, mut y, words) = (self.x.host(), self.y.host_mut(), self.words());
        native(cast_slice(&self.factors.0.host()), self.relu, &x[..words], cast_slice_mut(&mut y[..words]));
        Ok(())
    }
}

/// Parallel over pixels.
fn native(factors: &[f32], relu: bool, x: &[u32], y: &mut [f32]) {
    let channels = factors.len();
    let least = if relu { 0 } else { i32::MIN };
    x.par_chunks_exact(channels).zip(y.par_chunks_exact_mut(channels)).with_min_len(64).for_each(|(x, y)| {
        for ((y, x), factor) in y.iter_mut().zip(x).zip(factors) {
            *y = x.cast_signed().max(least) as f32 * factor;
        }
    });
}

/// The twin, in f64; the factors are rounded to f32.
pub(crate) fn reference(factors: &[f64], relu: bool, x: &[i32]) -> Vec<f64> {
    let padded = factors.len().next_multiple_of(4);
    let value = |(at, acc): (usize, &i32)| {
        let factor = factors.get(at % padded).map_or(0.0, |factor| f64::from(*factor as f32));
        let real = f64::from(*acc) * factor;
        if relu { real.max(0.0) } else { real }
    };
    x.iter().enumerate().map(value).collect()
}

/// Compares with the twin.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(25);
    let mut checks = Vec::new();
    for (pixels, channels) in [(1, 1), (63, 3), (64, 4), (65, 7), (300, 12), (2, 1001)] {
        for relu in [false, true] {
            let factors: Vec<f64> = (0..channels).map(|_| 1e-3 / random.integer(1, 100_000) as f64).collect();
            // Any word, in padded channels too: they must not show.
            let x: Vec<u32> = (0..pixels * usize::next_multiple_of(channels, 4))
                .map(|_| (random.next_u64() as i32 >> random.integer(0, 31)).cast_unsigned())
                .collect();
            let (on_device, words) = (Factors::new(device, &factors)?, device.upload(&x, "x")?);
            let got = outcome(device, x.len(), |rec, y| {
                rec.run(&DequantizeAcc { pixels, factors: &on_device, relu, x: &words, y })
            })?;
            let expected = reference(&factors, relu, bytemuck::cast_slice(&x));
            let u = f64::from(f32::EPSILON) / 2.0;
            let bounds: Vec<f64> = expected.iter().map(|v| v.abs() * (3.0 * u + 2.0 * u * u)).collect();
            let case = format!("{pixels} pixels of {channels} channels{}", if relu { ", relu" } else { "" });
            checks.push(Check::close(case, &expected, &bounds, bytemuck::cast_slice(&got)));
        }
    }
    Ok(checks)
}
