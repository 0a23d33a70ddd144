//! Dot products of int8: for each result [`CHAINS`] chains `a += dot4I8Packed(a, m)`, then their
//! sum.
//!
//! m is the seed, four int8 in one u32; chain j of result i begins at `i · 0x9E3779B9 + j`. All
//! sums wrap, so every device gives the same bits.

use rayon::prelude::*;

use super::CHAINS;
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, shader};
use crate::kernels::core::{Check, outcome};

/// `dot.wgsl`.
pub(crate) static SHADER: Shader = shader!("dot");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Results, one for each invocation.
    results: u32,
    /// Links of each chain.
    rounds: u32,
    /// The factor of all products.
    seed: u32,
    /// Fills the struct to 16 bytes.
    unused: u32,
}

/// Chains of dot products.
pub struct Dot<'a> {
    /// Results, one for each invocation.
    pub results: usize,
    /// Links of each chain.
    pub rounds: u32,
    /// The factor of all products, four int8.
    pub seed: u32,
    /// An i32 for each result.
    pub y: &'a Buffer,
}

impl Kernel for Dot<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![Bound::write("y", self.y, self.results)]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let params = Params { results: self.results as u32, rounds: self.rounds, seed: self.seed, unused: 0 };
        Dispatch::of(&SHADER, self.results, params).into_iter()
    }

    fn native(&self, _: Tier) -> Result<()> {
        let (rounds, seed, mut y) = (self.rounds, self.seed, self.y.host_mut());
        let results = y[..self.results].par_iter_mut().enumerate();
        results.for_each(|(i, y)| *y = reference(i as u32, rounds, seed).cast_unsigned());
        Ok(())
    }

    fn multiplications(&self) -> u64 {
        // Four for each link of a chain.
        (4 * CHAINS as u64).saturating_mul(self.results as u64).saturating_mul(self.rounds.into())
    }
}

/// The twin: result `i`.
fn reference(i: u32, rounds: u32, seed: u32) -> i32 {
    let start = i.wrapping_mul(0x9E37_79B9).cast_signed();
    let mut chains: [i32; CHAINS] = std::array::from_fn(|j| start.wrapping_add(j as i32));
    for _ in 0..rounds {
        for a in &mut chains {
            *a = a.wrapping_add(dot4(a.cast_unsigned(), seed));
        }
    }
    chains.into_iter().fold(0, i32::wrapping_add)
}

/// The dot product of four int8 with four others.
fn dot4(a: u32, b: u32) -> i32 {
    let level = |byte: u8| i32::from(byte.cast_signed());
    a.to_le_bytes().into_iter().zip(b.to_le_bytes()).map(|(a, b)| level(a) * level(b)).sum()
}

/// Compares with the twin, to the bit.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (results, rounds, seed) in [(1, 1, 0x8080_8080), (65, 9, 0x7F03_8105), (1000, 3, 0x01FF_7F80)] {
        let expected: Vec<i32> = (0..results).map(|i| reference(i, rounds, seed)).collect();
        let results = results as usize;
        let got = outcome(device, results, |rec, y| rec.run(&Dot { results, rounds, seed, y }))?;
        let case = format!("{results} results of {rounds} rounds");
        checks.push(Check::exact(case, &expected, bytemuck::cast_slice(&got)));
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dot_product_is_of_signed_bytes() {
        assert_eq!(dot4(0x80FF_0102, 0x7F02_03FE), 2 * -2 + 3 + -2 + -128 * 127);
    }
}
