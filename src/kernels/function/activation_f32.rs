//! Functions of one value in f32: every [`Activation`].
//!
//! NHWC with channels in fours, padded channels 0. NaN stays NaN on the Cpu device; WGSL lets an
//! adapter assume that there is none.

use bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, compiled_for_tiers, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome, random_activation};
use crate::kernels::cpu::exp::exp;
use crate::model::{Activation, Shape};

/// `activation_f32.wgsl`.
pub(crate) static SHADER: Shader = shader!("activation_f32", "sigmoid");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Fours of channels in the batch.
    quads: u32,
    /// Channels without padding.
    channels: u32,
    /// 0 clip, 1 leaky `ReLU`, 2 sigmoid, 3 hard sigmoid, 4 hard swish, 5 `SiLU`.
    kind: u32,
    /// Fills four words.
    unused: u32,
    /// Low and high of a clip; the slope of a leaky `ReLU`; slope and offset of a hard sigmoid; 1/6
    /// of a hard swish.
    ab: [f32; 2],
    /// Fills the struct to 32 bytes.
    rest: [f32; 2],
}

/// The shader's number of a function, and its constants.
fn code(function: Activation) -> (u32, [f32; 2]) {
    match function {
        Activation::Clip { low, high } => (0, [low, high]),
        Activation::LeakyRelu { slope } => (1, [slope, 0.0]),
        Activation::Sigmoid => (2, [0.0; 2]),
        Activation::HardSigmoid { slope, offset } => (3, [slope, offset]),
        Activation::HardSwish => (4, [1.0 / 6.0, 0.0]),
        Activation::Silu => (5, [0.0; 2]),
    }
}

/// `y = f(x)`.
pub(crate) struct ActivationF32<'a> {
    /// Images in the batch.
    pub(crate) images: usize,
    /// Shape of one image's activation.
    pub(crate) shape: Shape,
    /// f.
    pub(crate) function: Activation,
    /// f32.
    pub(crate) x: &'a Buffer,
    /// f32.
    pub(crate) y: &'a Buffer,
}

impl ActivationF32<'_> {
    fn words(&self) -> usize {
        self.images * self.shape.padded_len()
    }
}

impl Kernel for ActivationF32<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![Bound::read("x", self.x, self.words()), Bound::write("y", self.y, self.words())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let (kind, ab) = code(self.function);
        let quads = self.words() / 4;
        let channels = self.shape.channels as u32;
        let params = Params { quads: quads as u32, channels, kind, unused: 0, ab, rest: [0.0; 2] };
        Dispatch::of(&SHADER, quads, params).into_iter()
    }

    fn native(&self, tier: Tier) -> Result<()> {
        let (x, mut y, words) = (self.x.host(), self.y.host_mut(), self.words());
        native(tier, self.shape, self.function, cast_slice(&x[..words]), cast_slice_mut(&mut y[..words]));
        Ok(())
    }
}

/// A part of the pixels at a time, in parallel.
fn native(tier: Tier, shape: Shape, function: Activation, x: &[f32], y: &mut [f32]) {
    // Comparisons and not `max`, `min` or `clamp`: NaN stays.
    let clip = |v: f32, low: f32, high: f32| {
        if v < low {
            low
        } else if v > high {
            high
        } else {
            v
        }
    };
    let [a, b] = code(function).1;
    match function {
        Activation::Clip { .. } => each(tier, shape, x, y, |v| clip(v, a, b)),
        Activation::LeakyRelu { .. } => each(tier, shape, x, y, |v| if v < 0.0 { a * v } else { v }),
        Activation::Sigmoid => each(tier, shape, x, y, |v| 1.0 / (1.0 + exp(-v))),
        Activation::HardSigmoid { .. } => each(tier, shape, x, y, |v| clip(a * v + b, 0.0, 1.0)),
        Activation::HardSwish => each(tier, shape, x, y, |v| v * clip(v * a + 0.5, 0.0, 1.0)),
        Activation::Silu => each(tier, shape, x, y, |v| v / (1.0 + exp(-v))),
    }
}

fn each(tier: Tier, shape: Shape, x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
    let padded = shape.padded_channels();
    let part = padded * (1usize << 14).div_ceil(padded);
    x.par_chunks(part).zip(y.par_chunks_mut(part)).for_each(|(x, y)| {
        compiled_apply(tier, x, y, &f);
        if padded != shape.channels {
            y.chunks_exact_mut(padded).for_each(|y| y[shape.channels..].fill(0.0));
        }
    });
}

#[inline(always)]
fn apply(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = f(*x);
    }
}

compiled_for_tiers! {
    fn compiled_apply(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) = apply;
}

/// The twin, in f64.
pub(crate) fn reference(shape: Shape, function: Activation, x: &[f32]) -> Vec<f64> {
    let padded = shape.padded_channels();
    let of = |(at, v): (usize, &f32)| {
        if at % padded < shape.channels { function.apply(f64::from(*v)) } else { 0.0 }
    };
    x.iter().enumerate().map(of).collect()
}

/// Compares with the twin. WGSL allows e^x an error of 3 + 2·|x| units in the last place and a
/// division 2.5, so a sigmoid's relative error is at most 2·|x| + 8 of them; where e^(−|x|) is
/// flushed to 0 the result may be, and should be at most |x| times the smallest normal float. The
/// other functions round their terms three times at most.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(24);
    let functions = [
        Activation::Clip { low: 0.0, high: 6.0 },
        Activation::Clip { low: 0.0, high: f32::INFINITY },
        Activation::Clip { low: f32::NEG_INFINITY, high: -0.25 },
        Activation::LeakyRelu { slope: 0.1 },
        Activation::Sigmoid,
        Activation::HardSigmoid { slope: 0.2, offset: 0.5 },
        Activation::HardSwish,
        Activation::Silu,
    ];
    let mut checks = Vec::new();
    for (i, function) in functions.into_iter().enumerate() {
        for shape in [Shape::new(1 + i % 7, 3, 5), Shape::new(64, 7, 7)] {
            let images = [1, 3][i % 2];
            // From far left of where anything happens to far right, where e^(−x) overflows.
            let x: Vec<f32> = random_activation(&mut random, images, shape)
                .iter()
                .map(|v| v * [0.5f32, 4.0, 12.0, 120.0][random.integer(0, 3) as usize])
                .collect();
            let words = device.upload(cast_slice(&x), "x")?;
            let got =
                outcome(device, x.len(), |rec, y| rec.run(&ActivationF32 { images, shape, function, x: &words, y }))?;
            let expected = reference(shape, function, &x);
            let unit = f64::from(f32::EPSILON);
            let bound = |(x, y): (&f32, &f64)| {
                let (x, y) = (f64::from(*x).abs(), y.abs());
                let error = match function {
                    Activation::Clip { .. } => 0.0,
                    Activation::LeakyRelu { .. } => y,
                    Activation::Sigmoid | Activation::Silu => (2.0 * x + 8.0) * y,
                    Activation::HardSigmoid { .. } => 2.0 * (x + 1.0),
                    Activation::HardSwish => 3.0 * (x + 1.0) * x,
                };
                error * unit + x.max(1.0) * f64::from(f32::MIN_POSITIVE)
            };
            let bounds: Vec<f64> = x.iter().zip(&expected).map(bound).collect();
            let name = format!("{function:?} of {images}×{shape}");
            checks.push(Check::close(name, &expected, &bounds, cast_slice(&got)));
        }
    }
    Ok(checks)
}
