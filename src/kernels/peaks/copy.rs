//! A copy, `y = x`: the most bytes that a device reads and writes.

use rayon::prelude::*;

use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, outcome};

/// `copy.wgsl`.
pub(crate) static SHADER: Shader = shader!("copy");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Fours of words.
    quads: u32,
    /// Fills the struct to 16 bytes.
    unused: [u32; 3],
}

/// Copies words, four at a time.
pub struct CopyQuads<'a> {
    /// Fours of words.
    pub quads: usize,
    /// What is read.
    pub x: &'a Buffer,
    /// What is written.
    pub y: &'a Buffer,
}

impl CopyQuads<'_> {
    /// Words; saturated, for what cannot be counted is more than any buffer has.
    fn words(&self) -> usize {
        self.quads.saturating_mul(4)
    }
}

impl Kernel for CopyQuads<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![Bound::read("x", self.x, self.words()), Bound::write("y", self.y, self.words())]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let params = Params { quads: self.quads as u32, unused: [0; 3] };
        Dispatch::of(&SHADER, self.quads, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        const CHUNK: usize = 1 << 18;
        let (x, mut y) = (self.x.host(), self.y.host_mut());
        let chunks = x[..self.words()].par_chunks(CHUNK).zip(y[..self.words()].par_chunks_mut(CHUNK));
        chunks.for_each(|(x, y)| y.copy_from_slice(x));
        Ok(())
    }
}

/// Compares with what was copied.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(31);
    let mut checks = Vec::new();
    for quads in [1, 63, 1000] {
        let expected: Vec<u32> = (0..4 * quads).map(|_| random.next_u64() as u32).collect();
        let x = device.upload(&expected, "x")?;
        let got = outcome(device, 4 * quads, |rec, y| rec.run(&CopyQuads { quads, x: &x, y }))?;
        checks.push(Check::exact(format!("{quads} fours of words"), &expected, &got));
    }
    Ok(checks)
}
