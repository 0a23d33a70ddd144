//! Sums of products on the Cpu device: pairs of i16, of which an instruction multiplies many and adds
//! both products to an i32 (`cpu/lanes`).
//!
//! A task has up to [`STRIP`] rows of a block and adds their products with all of its columns: those
//! of [`QUADS`] fours of patches in i32, then in 64 bits, so that no other task touches its sums.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use archmage::{X64V3Token, X64V4xToken, arcane};
use rayon::prelude::*;

use crate::device::Tier;
use crate::kernels::cpu::lanes::{LANES, Lanes, Run, accumulate, plain, store};
#[cfg(target_arch = "x86_64")]
use crate::kernels::cpu::lanes::{avx2, avx512};

/// Rows of a task.
const STRIP: usize = 96;

/// Fours of patches that are added in 32 bits: 508·2^15·2^7 < 2^31.
const QUADS: usize = 127;

/// 64-bit sums, each as two words.
pub(super) struct Sums<'a> {
    pub(super) qq: &'a mut [[u32; 2]],
    pub(super) uq: &'a mut [[u32; 2]],
    /// Σq and Σu of each row.
    pub(super) rows: &'a mut [[u32; 2]],
}

/// Some rows of a block, and their sums.
struct Task<'a> {
    /// The block's first row in the matrix, and how many it has.
    block: usize,
    length: usize,
    /// The first row of the task within the block.
    first: usize,
    sums: Sums<'a>,
}

/// The planes of a matrix.
#[derive(Clone, Copy)]
struct Planes<'a> {
    q: &'a [u32],
    high: &'a [u32],
    low: &'a [u32],
    stride: usize,
}

/// Adds the products of the first `words` words of each row; `planes` are q and both bytes of u.
pub(super) fn add(
    tier: Tier,
    [q, high, low]: [&[u32]; 3],
    stride: usize,
    words: usize,
    (groups, blocks): (usize, &[Range<usize>]),
    mut sums: Sums<'_>,
) {
    let planes = Planes { q, high, low, stride };
    let mut tasks = Vec::new();
    let mut block = 0;
    for range in (0..groups).flat_map(|_| blocks) {
        let length = range.len();
        for first in (0..length).step_by(STRIP) {
            let rows = STRIP.min(length - first);
            let part = Sums {
                qq: sums.qq.split_off_mut(..rows * length).unwrap_or_default(),
                uq: sums.uq.split_off_mut(..rows * length).unwrap_or_default(),
                rows: sums.rows.split_off_mut(..2 * rows).unwrap_or_default(),
            };
            tasks.push(Task { block, length, first, sums: part });
        }
        block += length;
    }
    // Even parts, as few as suffice.
    let step = words.div_ceil(words.div_ceil(QUADS).max(1)).max(1);
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, mut task| {
        for first in (0..words).step_by(step) {
            let words = first..words.min(first + step);
            match tier {
                #[cfg(target_arch = "x86_64")]
                Tier::Avx512(token) => on_avx512(token, planes, words, &mut task, scratch),
                #[cfg(target_arch = "x86_64")]
                Tier::Avx2(token) => on_avx2(token, planes, words, &mut task, scratch),
                _ => part::<plain::Pairs, 2>((), planes, words, &mut task, scratch),
            }
        }
    });
}

#[cfg(target_arch = "x86_64")]
#[arcane]
fn on_avx512(token: X64V4xToken, planes: Planes<'_>, words: Range<usize>, task: &mut Task<'_>, scratch: &mut Scratch) {
    part::<avx512::Pairs, 12>(token, planes, words, task, scratch);
}

#[cfg(target_arch = "x86_64")]
#[arcane]
fn on_avx2(token: X64V3Token, planes: Planes<'_>, words: Range<usize>, task: &mut Task<'_>, scratch: &mut Scratch) {
    part::<avx2::Pairs, 6>(token, planes, words, task, scratch);
}

/// Pairs of patches: of the rows of a task, of one vector of columns.
#[derive(Default)]
struct Scratch {
    q: Vec<i32>,
    u: Vec<i32>,
    columns: Vec<[[i32; LANES]; 1]>,
}

/// Adds the products of some words of each row, P rows and a vector of columns at a time.
#[inline(always)]
fn part<L: Lanes<Word = i32>, const P: usize>(
    token: L::Token,
    planes: Planes<'_>,
    words: Range<usize>,
    task: &mut Task<'_>,
    scratch: &mut Scratch,
) {
    let Scratch { q, u, columns } = scratch;
    let depth = 2 * words.len();
    let &mut Task { block, length, first, ref mut sums } = task;
    let rows = sums.rows.len() / 2;
    q.clear();
    u.clear();
    for (row, to) in sums.rows.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let at = (block + first + row) * planes.stride;
        let words = at + words.start..at + words.end;
        let mut totals = [0; 2];
        for ((&word, &high), &low) in
            planes.q[words.clone()].iter().zip(&planes.high[words.clone()]).zip(&planes.low[words])
        {
            let (levels, steps) = (levels(word), steps(high, low));
            q.extend([pair(levels[0], levels[1]), pair(levels[2], levels[3])]);
            u.extend([pair(steps[0], steps[1]), pair(steps[2], steps[3])]);
            totals[0] += levels.into_iter().map(i32::from).sum::<i32>();
            totals[1] += steps.into_iter().map(i32::from).sum::<i32>();
        }
        for (to, total) in to.iter_mut().zip(totals) {
            add_to(to, total);
        }
    }
    columns.resize(depth, [[0; LANES]; 1]);
    for column in (0..length).step_by(LANES) {
        let lanes = LANES.min(length - column);
        for lane in 0..lanes {
            let at = (block + column + lane) * planes.stride;
            let row = &planes.q[at + words.start..at + words.end];
            for (to, &word) in columns.as_chunks_mut::<2>().0.iter_mut().zip(row) {
                let levels = levels(word);
                to[0][0][lane] = pair(levels[0], levels[1]);
                to[1][0][lane] = pair(levels[2], levels[3]);
            }
        }
        for row in (0..rows).step_by(P) {
            let place = Place { row, rows, column, lanes, length };
            add_products::<L, P>(token, u, columns, place, None, sums.uq);
            if column + lanes > first + row {
                add_products::<L, P>(token, q, columns, place, Some(first), sums.qq);
            }
        }
    }
}

/// Where P rows and a vector of columns are.
#[derive(Clone, Copy)]
struct Place {
    /// The first of the rows, of how many of the task.
    row: usize,
    rows: usize,
    /// The first of the columns, how many they are, and those of the block.
    column: usize,
    lanes: usize,
    length: usize,
}

/// Adds the products of P rows and some columns to a task's sums; those left of the diagonal are left
/// out where it is told which row of the block the task's first one is.
#[inline(always)]
fn add_products<L: Lanes<Word = i32>, const P: usize>(
    token: L::Token,
    of: &[i32],
    columns: &[[[i32; LANES]; 1]],
    Place { row, rows, column, lanes, length }: Place,
    first: Option<usize>,
    to: &mut [[u32; 2]],
) {
    let depth = columns.len();
    let run = Run { pitch: 0, length: depth, count: 1 };
    let mut bases = [0; P];
    for (p, base) in bases.iter_mut().enumerate() {
        *base = (row + p).min(rows - 1) * depth;
    }
    let zero = [[L::load(token, &[0; LANES]); 1]; P];
    let found = accumulate::<L, 1, P>(token, of, &bases, run, columns, zero);
    for (p, found) in found.iter().enumerate().take(rows - row) {
        let mut products = [[0; LANES]; 1];
        store::<L, 1>(token, found, &mut products);
        let skipped = first.map_or(0, |first| (first + row + p).saturating_sub(column).min(lanes));
        let to = &mut to[(row + p) * length + column..][..lanes];
        for (to, product) in to.iter_mut().zip(&products[0]).skip(skipped) {
            add_to(to, *product);
        }
    }
}

/// The levels of a word.
#[inline(always)]
fn levels(word: u32) -> [i16; 4] {
    word.to_le_bytes().map(|byte| i16::from(byte.cast_signed()))
}

/// The steps of two words of bytes.
#[inline(always)]
fn steps(high: u32, low: u32) -> [i16; 4] {
    let (high, low) = (levels(high), levels(low));
    std::array::from_fn(|i| (high[i] << 8).wrapping_add(low[i]))
}

/// Two values as a word.
#[inline(always)]
fn pair(first: i16, second: i16) -> i32 {
    i32::from(first) & 0xFFFF | i32::from(second) << 16
}

#[inline(always)]
fn add_to(sum: &mut [u32; 2], value: i32) {
    let before = u64::from(sum[0]) | u64::from(sum[1]) << 32;
    let after = before.wrapping_add_signed(value.into());
    *sum = [after as u32, (after >> 32) as u32];
}
