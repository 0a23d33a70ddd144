//! The Cpu device's int8 convolution where the processor has AVX-512 with VNNI, or AVX2: see
//! `conv/rows.rs` for what is read and `cpu/lanes` for the products.
//!
//! Weights lie as tiles of output channels, each `kh, kw, words of I, O of the tile`. Levels are
//! taken with an offset z, so each output's sum begins at −z·Σw. The coarse part is a second sum
//! over the same copy: of the centre tap alone (support center), of one value of it (diagonal), or
//! of all taps (full).

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused, reason = "there are vectors nowhere else yet"))]

use archmage::{X64V3Token, X64V4xToken, arcane};
use ndarray::Array4;

use super::constants::{CoarseMode, Constants};
use super::finish::{Vector, finish};
use crate::device::Tier;
use crate::kernels::conv::geometry::Geometry;
use crate::kernels::conv::rows::{Block, Rows, for_each_block};
use crate::kernels::core::OutputLevels;
use crate::kernels::cpu::lanes::{Int8Lanes, LANES, Run, Tile, accumulate, load, store, tiles};
#[cfg(target_arch = "x86_64")]
use crate::kernels::cpu::lanes::{avx2, avx512};

/// The weights of a layer.
pub(super) struct Vectors {
    tier: Tier,
    groups: Vec<Vec<Part>>,
}

/// The output channels of a tile.
struct Part {
    /// The first of them, within the group.
    first: usize,
    fine: Tile<i32>,
    coarse: Option<Tile<i32>>,
    /// In vectors.
    constants: Vec<Vector>,
}

impl Vectors {
    /// Lays out a layer's weights; none where the tier has no vectors.
    pub(super) fn new(
        tier: Tier,
        fine: &Array4<i8>,
        coarse: Option<&Array4<i8>>,
        groups: usize,
        constants: &Constants,
    ) -> Option<Self> {
        let groups = match tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512(_) => lay_out::<avx512::Int8, 1>(2, fine, coarse, groups, constants),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2(_) => lay_out::<avx2::Int8, 2>(1, fine, coarse, groups, constants),
            _ => return None,
        };
        Some(Self { tier, groups })
    }

    /// Writes levels where there is an `output`, else totals.
    pub(super) fn run(&self, layer: &Layer<'_>, x: &[u32], y: &mut [u32]) {
        match self.tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512(token) => {
                for_each_block(layer.g, x, y, |block, copy, y| on_avx512(token, layer, &self.groups, block, copy, y));
            }
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2(token) => {
                for_each_block(layer.g, x, y, |block, copy, y| on_avx2(token, layer, &self.groups, block, copy, y));
            }
            _ => unreachable!("weights are laid out for a tier that has vectors"),
        }
    }
}

/// Tiles of up to `most` vectors for each group.
fn lay_out<L: Int8Lanes<N>, const N: usize>(
    most: usize,
    fine: &Array4<i8>,
    coarse: Option<&Array4<i8>>,
    groups: usize,
    constants: &Constants,
) -> Vec<Vec<Part>> {
    let outputs = fine.dim().0 / groups;
    let tile = |of: &Array4<i8>, group: usize, (first, vectors): (usize, usize)| {
        let (_, i, kh, kw) = of.dim();
        let quads = i.div_ceil(4);
        // The four weights of a quad of input channels.
        let four = |quad: usize, o: usize| {
            let at = |c| [group * outputs + first + o, quad % quads * 4 + c, quad / quads / kw, quad / quads % kw];
            let inside = first + o < outputs;
            std::array::from_fn(|c| if inside { of.get(at(c)).copied().unwrap_or(0) } else { 0 })
        };
        let weight = |k: usize, o: usize| L::weights(u32::from_le_bytes(four(k / N, o).map(i8::cast_unsigned)))[k % N];
        let start = |o: usize| {
            let sum = (0..kh * kw * quads).flat_map(|quad| four(quad, o)).map(i32::from);
            sum.fold(0, i32::wrapping_add).wrapping_mul(-L::OFFSET)
        };
        Tile::new(vectors, kh * kw * quads * N, weight, start)
    };
    let part = |group: usize, (first, vectors): (usize, usize)| Part {
        first,
        fine: tile(fine, group, (first, vectors)),
        coarse: coarse.map(|coarse| tile(coarse, group, (first, vectors))),
        constants: constants.channels[group * outputs + first..].chunks(LANES).take(vectors).map(Vector::new).collect(),
    };
    let tiles = || tiles(outputs.next_multiple_of(4), most);
    (0..groups).map(|group| tiles().map(|at| part(group, at)).collect()).collect()
}

/// A layer to be run.
pub(super) struct Layer<'a> {
    pub(super) g: &'a Geometry,
    pub(super) x_zero_point: i32,
    pub(super) output: Option<&'a OutputLevels>,
    pub(super) constants: &'a Constants,
}

#[arcane]
fn on_avx512(
    token: X64V4xToken,
    layer: &Layer<'_>,
    groups: &[Vec<Part>],
    block: &Block<'_, u32>,
    copy: &mut Rows<i32, 1>,
    y: &mut [u32],
) {
    each_part::<avx512::Int8, 1>(layer, groups, block, copy, |copy, part, first| match part.fine.vectors {
        1 => part_of::<avx512::Int8, 1, 1, 8>(token, layer, copy, part, first, y),
        2 => part_of::<avx512::Int8, 1, 2, 8>(token, layer, copy, part, first, y),
        _ => part_of::<avx512::Int8, 1, 3, 8>(token, layer, copy, part, first, y),
    });
}

#[arcane]
fn on_avx2(
    token: X64V3Token,
    layer: &Layer<'_>,
    groups: &[Vec<Part>],
    block: &Block<'_, u32>,
    copy: &mut Rows<i32, 2>,
    y: &mut [u32],
) {
    each_part::<avx2::Int8, 2>(layer, groups, block, copy, |copy, part, first| {
        part_of::<avx2::Int8, 2, 1, 6>(token, layer, copy, part, first, y);
    });
}

/// Copies what each group reads, and hands its tiles to `run`, each with its first output channel.
#[inline(always)]
fn each_part<L: Int8Lanes<N>, const N: usize>(
    layer: &Layer<'_>,
    groups: &[Vec<Part>],
    block: &Block<'_, u32>,
    copy: &mut Rows<i32, N>,
    mut run: impl FnMut(&Rows<i32, N>, &Part, usize),
) {
    let outputs = 4 * layer.g.group_out_quads as usize;
    let outside = L::input(u32::from_le_bytes([layer.x_zero_point as u8; 4]));
    for (group, parts) in groups.iter().enumerate() {
        copy.fill(block, group, outside, |to, quads| to.extend(quads.iter().map(|quad| L::input(*quad))));
        for part in parts {
            run(copy, part, group * outputs + part.first);
        }
    }
}

/// One tile's channels of a block, P pixels at a time; `first` is the tile's first output channel.
#[inline(always)]
fn part_of<L: Int8Lanes<N>, const N: usize, const V: usize, const P: usize>(
    token: L::Token,
    layer: &Layer<'_>,
    copy: &Rows<i32, N>,
    part: &Part,
    first: usize,
    y: &mut [u32],
) {
    let g = layer.g;
    let all = 4 * g.out_quads as usize;
    let (whole, window) = (copy.run(g), N * g.group_in_quads as usize);
    let centre = Run { length: window, count: 1, ..whole };
    let to_centre = (g.kernel_height / 2) as usize * whole.pitch + (g.kernel_width / 2) as usize * window;
    let kept = (4 * g.group_out_quads as usize - part.first).min(V * LANES);
    let pixels = y.len() / (if layer.output.is_some() { all / 4 } else { all });
    let mut sums = [[[[0; LANES]; V]; P]; 2];
    for pixel in (0..pixels).step_by(P) {
        let bases: [usize; P] = copy.bases(pixel, pixels);
        let centres = || bases.map(|base| base + to_centre);
        multiply::<L, N, V, P>(token, copy.words(), &bases, whole, &part.fine, &mut sums[0]);
        match (layer.constants.coarse, &part.coarse) {
            (CoarseMode::None, _) => {}
            (CoarseMode::Center, Some(coarse)) => {
                multiply::<L, N, V, P>(token, copy.words(), &centres(), centre, coarse, &mut sums[1]);
            }
            (_, Some(coarse)) => multiply::<L, N, V, P>(token, copy.words(), &bases, whole, coarse, &mut sums[1]),
            (_, None) => {
                let weights = &layer.constants.channels[first..first + kept];
                for (sums, centre) in sums[1].iter_mut().zip(centres()) {
                    let own = &copy.quads()[centre / N + part.first / 4..][..kept.div_ceil(4)];
                    for (i, (sum, channel)) in sums.as_flattened_mut().iter_mut().zip(weights).enumerate() {
                        *sum = channel.diagonal * L::level(own[i / 4], i % 4);
                    }
                }
            }
        }
        for p in 0..P.min(pixels - pixel) {
            let at = (pixel + p) * all + first;
            let sums = [sums[0][p].as_slice(), &sums[1][p]];
            finish(layer.constants, &part.constants, layer.output, sums, first, y, at..at + kept);
        }
    }
}

/// `sums = start + windows · weights`.
#[inline(always)]
fn multiply<L: Int8Lanes<N>, const N: usize, const V: usize, const P: usize>(
    token: L::Token,
    words: &[i32],
    bases: &[usize; P],
    run: Run,
    tile: &Tile<i32>,
    sums: &mut [[[i32; LANES]; V]; P],
) {
    let start = [load::<L, V>(token, tile.start()); P];
    let found = accumulate::<L, V, P>(token, words, bases, run, tile.weights(), start);
    for (sums, found) in sums.iter_mut().zip(&found) {
        store::<L, V>(token, found, sums);
    }
}
