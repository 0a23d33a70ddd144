//! Sums of products over the columns of a [`Matrix`] of patches: `Σ q·qᵀ`, `Σ u·qᵀ`, Σq and Σu, in
//! 64 bits, added to what is there.
//!
//! The rows of a group are in blocks; products are those of two rows of one block. Of a block of L
//! rows `qq` and `uq` have L × L sums each, row by row, `Σ q_i·q_j` for j ≥ i alone (others stay as
//! they are) and `Σ u_i·q_j`; the blocks of a group follow each other, and so do groups. `sums` has
//! Σq and Σu for each row of the matrix. A sum is two words, the lower one first, in two's complement.
//!
//! **Exact.** All are integers, so they depend neither on how patches are shared out nor on an order.
//! Devices multiply bytes by bytes, u = 256·high + low: a product is at most 2^14 in magnitude, so
//! those of [`MOST_PATCHES`] patches stay below 2^31, and 256 times such a sum and another below 2^40.
//! The Cpu device multiplies u at once, at most 2^22 a product, and adds at most 508 of them before
//! it goes on in 64 bits. Of n patches a 64-bit sum is at most n·2^22: whoever adds up keeps n below
//! 2^40.

use std::ops::Range;

use super::layout::Matrix;
use super::native::{self, Sums};
use crate::device::{Bound, Buffer, Device, Dispatch, Kernel, Shader, Tier, folded, shader};
use crate::kernels::Random;
use crate::kernels::core::{Check, words_of};
use crate::{Error, Result};

/// `second_moments.wgsl`.
pub(crate) static SHADER: Shader = shader!("second_moments");

/// The most patches of a run: whole steps of a matrix whose products stay below 2^31.
pub(crate) const MOST_PATCHES: usize = ((1 << 31) - 1) / (1 << 14) / 64 * 64;

/// Rows and columns of a workgroup.
const TILE: usize = 32;

/// Multiplications of one dispatch, as for convolutions.
const MOST_MACS: usize = 20_000_000_000;

/// Parameters of the shader.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Fours of words from row to row.
    stride: u32,
    /// Fours of words from plane to plane.
    plane: u32,
    /// Fours of words of a row that are multiplied.
    spans: u32,
    /// Rows of the block.
    length: u32,
    /// The first of them in the first group.
    first_row: u32,
    /// Rows from group to group.
    group_rows: u32,
    /// Where the block's products begin in the first group.
    first_pair: u32,
    /// Products from group to group.
    group_pairs: u32,
    /// The first workgroup of the dispatch.
    first_tile: u32,
    /// The end of its workgroups.
    end_tile: u32,
    /// Fills the struct to 48 bytes.
    unused: [u32; 2],
}

/// Adds the products of patches.
#[derive(Debug)]
pub struct SecondMoments<'a> {
    /// The patches.
    pub x: Matrix<'a>,
    /// How many there are, `MOST_PATCHES` at most; up to a whole step the columns behind them are 0.
    pub patches: usize,
    /// Groups of rows.
    pub groups: usize,
    /// Blocks of the rows of a group, in order, which cover it.
    pub blocks: &'a [Range<usize>],
    /// `Σ q·qᵀ`.
    pub qq: &'a Buffer,
    /// `Σ u·qᵀ`.
    pub uq: &'a Buffer,
    /// Σq and Σu of each row.
    pub sums: &'a Buffer,
}

/// Products of the blocks of a group.
pub(crate) fn pairs(blocks: &[Range<usize>]) -> usize {
    blocks.iter().map(|block| block.len().saturating_mul(block.len())).fold(0, usize::saturating_add)
}

impl SecondMoments<'_> {
    /// Words of the sums of products.
    fn pair_words(&self) -> usize {
        pairs(self.blocks).saturating_mul(self.groups).saturating_mul(2)
    }

    /// Workgroups of a block: row by row, column by column (one more than rows).
    fn tiles(&self, block: &Range<usize>) -> usize {
        self.groups * block.len().div_ceil(TILE) * (block.len() / TILE + 1)
    }
}

impl Kernel for SecondMoments<'_> {
    type Params = Params;

    fn name(&self) -> &'static str {
        SHADER.name()
    }

    fn check(&self) -> Result<()> {
        if self.patches > MOST_PATCHES {
            return Err(Error::device(format!("{} patches at once; {MOST_PATCHES} are summed", self.patches)));
        }
        let mut end = 0;
        let follow = self.blocks.iter().all(|block| {
            let follows = block.start == end && block.end > end;
            end = block.end;
            follows
        });
        if !follow || end.checked_mul(self.groups) != Some(self.x.rows) {
            let Self { groups, blocks, .. } = self;
            return Err(Error::device(format!("{} rows in {groups} groups of blocks {blocks:?}", self.x.rows)));
        }
        self.x.check(self.patches)
    }

    fn buffers(&self) -> Vec<Bound<'_>> {
        vec![
            Bound::read("x", self.x.words, Matrix::len(self.x.rows, self.x.stride)),
            Bound::write("products of levels", self.qq, self.pair_words()),
            Bound::write("products", self.uq, self.pair_words()),
            Bound::write("sums", self.sums, self.x.rows.saturating_mul(4)),
        ]
    }

    fn dispatches(&self) -> impl Iterator<Item = Dispatch<Params>> {
        let spans = Matrix::stride(self.patches) / 4;
        let step = (MOST_MACS / (3 * TILE * TILE * 16 * spans.max(1))).max(1);
        let blocks = self.blocks.iter().scan(0, |next, block| {
            let first = *next;
            *next += block.len() * block.len();
            Some((block, first))
        });
        blocks.filter(move |_| spans > 0).flat_map(move |(block, first_pair)| {
            let tiles = self.tiles(block);
            (0..tiles).step_by(step).map(move |first_tile| {
                let end_tile = tiles.min(first_tile + step);
                let params = Params {
                    stride: (self.x.stride / 4) as u32,
                    plane: (self.x.plane() / 4) as u32,
                    spans: spans as u32,
                    length: block.len() as u32,
                    first_row: block.start as u32,
                    group_rows: (self.x.rows / self.groups) as u32,
                    first_pair: first_pair as u32,
                    group_pairs: pairs(self.blocks) as u32,
                    first_tile: first_tile as u32,
                    end_tile: end_tile as u32,
                    unused: [0; 2],
                };
                Dispatch { shader: &SHADER, params, groups: folded(end_tile - first_tile) }
            })
        })
    }

    fn native(&self, tier: Tier) -> Result<()> {
        let (x, mut qq, mut uq, mut sums) =
            (self.x.words.host(), self.qq.host_mut(), self.uq.host_mut(), self.sums.host_mut());
        let words = self.pair_words();
        let sums = Sums {
            qq: qq[..words].as_chunks_mut().0,
            uq: uq[..words].as_chunks_mut().0,
            rows: sums[..4 * self.x.rows].as_chunks_mut().0,
        };
        let plane = self.x.plane();
        let planes = [0, 1, 2].map(|i| &x[i * plane..(i + 1) * plane]);
        native::add(tier, planes, self.x.stride, Matrix::stride(self.patches), (self.groups, self.blocks), sums);
        Ok(())
    }

    fn multiplications(&self) -> u64 {
        // Half of those of levels are left out.
        let products = (self.pair_words() as u64).saturating_mul(5) / 4;
        products.saturating_mul(self.patches as u64)
    }
}

/// The twin: what is added to each sum, in the order of the three buffers.
fn reference(rows: &[Vec<(i64, i64)>], groups: usize, blocks: &[Range<usize>]) -> [Vec<i64>; 3] {
    let (mut qq, mut uq) = (Vec::new(), Vec::new());
    for group in rows.chunks(rows.len() / groups) {
        for block in blocks {
            for (i, a) in group[block.clone()].iter().enumerate() {
                for (j, b) in group[block.clone()].iter().enumerate() {
                    let both = || a.iter().zip(b);
                    qq.push(if j < i { 0 } else { both().map(|((q, _), (r, _))| q * r).sum() });
                    uq.push(both().map(|((_, u), (r, _))| u * r).sum());
                }
            }
        }
    }
    let sums = rows.iter().flat_map(|row| [row.iter().map(|(q, _)| q).sum(), row.iter().map(|(_, u)| u).sum()]);
    [qq, uq, sums.collect()]
}

/// Blocks of these lengths.
fn following(lengths: &[usize]) -> Vec<Range<usize>> {
    let ends = lengths.iter().scan(0, |end, length| {
        *end += length;
        Some(*end - length..*end)
    });
    ends.collect()
}

/// A sum's two words.
fn halves(sum: i64) -> [u32; 2] {
    [sum as u32, (sum >> 32) as u32]
}

/// Compares with the twin, to the bit: sums near the limits of 32 bits among them, and several runs
/// into the same buffers.
///
/// # Errors
/// If the device failed.
pub(crate) fn verify(device: &Device) -> Result<Vec<Check>> {
    let mut random = Random::new(32);
    let mut checks = Vec::new();
    for (patches, groups, lengths, extreme) in [
        (1, 1, vec![1], false),
        (130, 1, vec![31], false),
        (700, 1, vec![33, 37, 5], false),
        (1100, 5, vec![9], false),
        (64, 3, vec![4, 1], false),
        (MOST_PATCHES, 1, vec![3], true),
    ] {
        let blocks = following(&lengths);
        let rows = groups * blocks.last().map_or(0, |block| block.end);
        let value = |random: &mut Random| {
            if extreme { (-128, -32768) } else { (random.integer(-128, 127), random.integer(-32768, 32639)) }
        };
        let values: Vec<Vec<(i64, i64)>> =
            (0..rows).map(|_| (0..patches).map(|_| value(&mut random)).collect()).collect();
        let stride = Matrix::stride(patches) + Matrix::stride(1);
        let mut words = vec![0u32; Matrix::len(rows, stride)];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        for (row, values) in values.iter().enumerate() {
            // Behind the last step nothing is read.
            for plane in 0..3 {
                let row = &mut bytes[4 * stride * (plane * rows + row)..][..4 * stride];
                row[4 * Matrix::stride(patches)..].fill(77);
                for (byte, (q, u)) in row.iter_mut().zip(values) {
                    let low = i64::from(*u as i8);
                    *byte = [*q, (u - low) >> 8, low][plane] as u8;
                }
            }
        }
        // What was there before stays, carries between the words among it.
        let before = [pairs(&blocks) * groups, pairs(&blocks) * groups, 2 * rows].map(|count| {
            (0..count).map(|_| (1i64 << random.integer(30, 61)) - random.integer(0, 1 << 24)).collect::<Vec<_>>()
        });
        let added = reference(&values, groups, &blocks);
        let expected = before.iter().zip(&added).map(|(before, added)| {
            let sums = before.iter().zip(added).flat_map(|(before, added)| halves(before + 2 * added));
            sums.collect::<Vec<u32>>()
        });
        let expected = expected.collect::<Vec<_>>().concat();
        let upload =
            |sums: &[i64], label| device.upload(&sums.iter().flat_map(|sum| halves(*sum)).collect::<Vec<_>>(), label);
        let x = device.upload(&words, "x")?;
        let (qq, uq, sums) = (upload(&before[0], "a")?, upload(&before[1], "b")?, upload(&before[2], "sums")?);
        let mut rec = device.recorder();
        for _ in 0..2 {
            let x = Matrix { words: &x, rows, stride };
            rec.run(&SecondMoments { x, patches, groups, blocks: &blocks, qq: &qq, uq: &uq, sums: &sums })?;
        }
        rec.submit()?;
        let got = [words_of(device, &qq)?, words_of(device, &uq)?, words_of(device, &sums)?].concat();
        checks.push(Check::exact(format!("{patches} patches in {groups} × {blocks:?}"), &expected, &got));
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_patches_fit_32_bits() {
        assert_eq!(MOST_PATCHES, 131_008);
        assert!(MOST_PATCHES as i64 * 128 * 128 < 1 << 31);
    }

    #[test]
    fn what_does_not_suit_is_refused() {
        let device = Device::cpu();
        let buffer = |words| device.alloc(words, "memory").unwrap();
        let (x, qq, uq, sums) = (buffer(3 * 6 * 16), buffer(36), buffer(36), buffer(24));
        let run = |patches: usize, groups: usize, blocks: &[Range<usize>]| {
            let x = Matrix { words: &x, rows: 6, stride: 16 };
            let kernel = SecondMoments { x, patches, groups, blocks, qq: &qq, uq: &uq, sums: &sums };
            device.recorder().run(&kernel).map_err(|e| e.to_string())
        };
        assert_eq!(run(64, 2, &following(&[3])), Ok(()));
        assert_eq!(run(64, 1, &[0..1, 1..4, 4..6]), Ok(()));
        assert!(run(65, 2, &following(&[3])).unwrap_err().contains("65 patches do not fit rows of 16 words"));
        assert!(run(MOST_PATCHES + 1, 2, &following(&[3])).unwrap_err().contains("131008 are summed"));
        for (groups, blocks) in [(2, [0..2, 2..4]), (1, [0..2, 3..6]), (3, [0..1, 1..1])] {
            assert!(run(64, groups, &blocks).unwrap_err().contains("6 rows in"));
        }
        assert!(run(64, 1, &following(&[6])).unwrap_err().contains("72 are needed"));
    }
}
