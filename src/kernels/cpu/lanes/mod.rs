//! What the Cpu device's convolutions are made of: the sums of 16 outputs in registers, to which an
//! instruction set adds products of one 32-bit word of input and 16 words of weights.
//!
//! A word is an f32, or as many int8 values as an instruction multiplies at once.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod plain;

/// Output channels of a vector.
pub(crate) const LANES: usize = 16;

/// An instruction set's way with words of one kind.
pub(crate) trait Lanes {
    /// The proof that the processor has the instructions.
    type Token: Copy;
    /// Of input, weights and sums.
    type Word: Copy + Default + Send + Sync;
    /// What holds 16 words.
    type Registers: Copy;

    fn load(token: Self::Token, from: &[Self::Word; LANES]) -> Self::Registers;

    fn store(token: Self::Token, registers: Self::Registers, to: &mut [Self::Word; LANES]);

    /// `sums[l] + x · weights[l]`; for int8 the sum of the products of the values in the words.
    fn multiply_add(
        token: Self::Token,
        sums: Self::Registers,
        x: Self::Word,
        weights: Self::Registers,
    ) -> Self::Registers;
}

/// An instruction set's way with int8 values, N words for four of them.
pub(crate) trait Int8Lanes<const N: usize>: Lanes<Word = i32> {
    /// Added to every level by [`Int8Lanes::input`].
    const OFFSET: i32;

    /// The words of four levels.
    fn input(quad: u32) -> [i32; N];

    /// The words of four weights.
    fn weights(quad: u32) -> [i32; N];

    /// The level of a channel from the words of its four.
    fn level(words: [i32; N], lane: usize) -> i32;
}

/// The runs of words that a window reads of its input, one for each kernel row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Words from the begin of one run to that of the next.
    pub(crate) pitch: usize,
    /// Words of a run.
    pub(crate) length: usize,
    /// Runs.
    pub(crate) count: usize,
}

/// The weights of a few vectors of output channels, and where their sums start.
pub(crate) struct Tile<W> {
    /// Vectors of output channels.
    pub(crate) vectors: usize,
    /// `K` × vectors.
    weights: Vec<[W; LANES]>,
    start: Vec<[W; LANES]>,
}

impl<W> Tile<W> {
    /// `weight(k, o)` is the word of step k and output o, `start(o)` where its sum starts.
    pub(crate) fn new(
        vectors: usize,
        depth: usize,
        weight: impl Fn(usize, usize) -> W,
        start: impl Fn(usize) -> W,
    ) -> Self {
        let vector = |i: usize| std::array::from_fn(|l| weight(i / vectors, i % vectors * LANES + l));
        let start = |v: usize| std::array::from_fn(|l| start(v * LANES + l));
        Self { vectors, weights: (0..depth * vectors).map(vector).collect(), start: (0..vectors).map(start).collect() }
    }

    /// The weights of each step. V is the number of vectors.
    pub(crate) fn weights<const V: usize>(&self) -> &[[[W; LANES]; V]] {
        self.weights.as_chunks().0
    }

    /// Where sums start. V is the number of vectors.
    pub(crate) fn start<const V: usize>(&self) -> &[[W; LANES]; V] {
        &self.start.as_chunks().0[0]
    }
}

/// Output channels by tiles of up to `most` vectors: the first channel, and how many vectors.
pub(crate) fn tiles(outputs: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let vectors = outputs.div_ceil(LANES);
    let mut first = 0;
    std::iter::from_fn(move || {
        // No single vector where it can be avoided: it has too few sums in flight.
        let left = vectors - first;
        let width = if most > 1 && left == most + 1 { 3 } else { left.min(most) };
        first += width;
        (width > 0).then_some(((first - width) * LANES, width))
    })
}

/// Vectors in registers.
#[inline(always)]
pub(crate) fn load<L: Lanes, const V: usize>(token: L::Token, from: &[[L::Word; LANES]; V]) -> [L::Registers; V] {
    let mut registers = [L::load(token, &from[0]); V];
    for (registers, from) in registers.iter_mut().zip(from) {
        *registers = L::load(token, from);
    }
    registers
}

/// Registers as vectors.
#[inline(always)]
pub(crate) fn store<L: Lanes, const V: usize>(
    token: L::Token,
    registers: &[L::Registers; V],
    to: &mut [[L::Word; LANES]; V],
) {
    for (to, registers) in to.iter_mut().zip(registers) {
        L::store(token, *registers, to);
    }
}

/// `sums + windows · weights` for P windows of `x` that begin at `bases`: P·V vectors of sums,
/// which leave registers for the operands. Every sum is one chain in the order of K.
#[inline(always)]
pub(crate) fn accumulate<L: Lanes, const V: usize, const P: usize>(
    token: L::Token,
    x: &[L::Word],
    bases: &[usize; P],
    run: Run,
    weights: &[[[L::Word; LANES]; V]],
    mut sums: [[L::Registers; V]; P],
) -> [[L::Registers; V]; P] {
    for (r, weights) in weights.chunks_exact(run.length).take(run.count).enumerate() {
        let mut rows = [&x[..run.length]; P];
        for (row, base) in rows.iter_mut().zip(bases) {
            *row = &x[base + r * run.pitch..][..run.length];
        }
        for (k, weights) in weights.iter().enumerate() {
            let w = load::<L, V>(token, weights);
            for (sums, row) in sums.iter_mut().zip(&rows) {
                for (sums, w) in sums.iter_mut().zip(&w) {
                    *sums = L::multiply_add(token, *sums, row[k], *w);
                }
            }
        }
    }
    sums
}
