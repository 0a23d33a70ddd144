//! Multiplications and additions of f32: for each result [`CHAINS`] chains `a = m·a + ¼` of four
//! values each, then the sum of all.
//!
//! `m = (seed mod 2^16) / 2^16`, below 1; value k of chain j of result i begins at
//! `(i mod 256)·(k + 1)/4 + j`. No term is negative and nothing overflows.

use rayon::prelude::*;

use super::CHAINS;
use crate::Result;
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, compiled_for_tiers, shader};
use crate::kernels::core::{Check, outcome};

/// `multiply_add.wgsl`.
pub(crate) static SHADER: Shader = shader!("multiply_add");

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Results, one for each invocation.
    results: u32,
    /// Links of each chain.
    rounds: u32,
    /// The factor of all products is made of it.
    seed: u32,
    /// Fills the struct to 16 bytes.
    unused: u32,
}

/// Chains of multiplications and additions.
pub struct MultiplyAdd<'a> {
    /// Results, one for each invocation.
    pub results: usize,
    /// Links of each chain.
    pub rounds: u32,
    /// Its lower half is the factor of all products, in 2^−16.
    pub seed: u32,
    /// An f32 for each result.
    pub y: &'a Buffer,
}

impl Kernel for MultiplyAdd<'_> {
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

    fn native(&self, tier: Tier) -> Result<()> {
        let (rounds, seed, mut y) = (self.rounds, self.seed, self.y.host_mut());
        let results = y[..self.results].par_iter_mut().enumerate();
        results.for_each(|(i, y)| *y = compiled_chains(tier, i, rounds, seed).to_bits());
        Ok(())
    }

    fn multiplications(&self) -> u64 {
        // Four for each link of a chain.
        (4 * CHAINS as u64).saturating_mul(self.results as u64).saturating_mul(self.rounds.into())
    }
}

compiled_for_tiers! {
    /// Result `i`.
    fn compiled_chains(i: usize, rounds: u32, seed: u32) -> f32 = chains;
}

/// Each product is rounded before the sum: without an instruction for both, a fused one is slow.
#[inline(always)]
fn chains(i: usize, rounds: u32, seed: u32) -> f32 {
    let m = factor(seed) as f32;
    let mut chains: [[f32; 4]; CHAINS] = std::array::from_fn(|j| std::array::from_fn(|k| start(i, j, k) as f32));
    for _ in 0..rounds {
        for a in chains.as_flattened_mut() {
            *a = m * *a + 0.25;
        }
    }
    let mut sums = [0.0; 4];
    for chain in chains {
        sums.iter_mut().zip(chain).for_each(|(sum, a)| *sum += a);
    }
    sums.into_iter().sum()
}

/// m.
fn factor(seed: u32) -> f64 {
    f64::from(seed & 0xFFFF) / 65536.0
}

/// Where value k of chain j of result i begins.
fn start(i: usize, j: usize, k: usize) -> f64 {
    (i % 256 * (k + 1)) as f64 / 4.0 + j as f64
}

/// The twin: result `i` in f64.
fn reference(i: usize, rounds: u32, seed: u32) -> f64 {
    let chain = |place| (0..rounds).fold(start(i, place / 4, place % 4), |a, _| factor(seed) * a + 0.25);
    (0..4 * CHAINS).map(chain).sum()
}

/// Compares with the twin within the rounding of f32, u = 2^−24: no term is negative, so the
/// relative error is that of the longest chain of roundings, two of each link and those of a sum of
/// all terms, in whatever order.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (results, rounds, seed) in [(1, 1, 0xFFFF), (65, 9, 0x7F03_8105), (1000, 3, 0x0001_0000)] {
        let expected: Vec<f64> = (0..results).map(|i| reference(i, rounds, seed)).collect();
        let relative = f64::from(2 * rounds + 4 * CHAINS as u32) * 2f64.powi(-24);
        let bounds: Vec<f64> = expected.iter().map(|sum| relative / (1.0 - relative) * sum).collect();
        let got = outcome(device, results, |rec, y| rec.run(&MultiplyAdd { results, rounds, seed, y }))?;
        let case = format!("{results} results of {rounds} rounds");
        checks.push(Check::close(case, &expected, &bounds, bytemuck::cast_slice(&got)));
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_link_multiplies_and_adds() {
        // 64 values, a sum of 4·(0 + 1 + … + 15), halved, and a quarter added to each.
        assert_eq!(reference(256, 1, 0x8000), 4.0 * 120.0 / 2.0 + 64.0 / 4.0);
        assert_eq!(chains(256, 1, 0x8000), 256.0);
    }
}
