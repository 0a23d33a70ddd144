//! AVX2 with FMA: 16 words in two registers. Without VNNI the instruction that multiplies bytes
//! (`vpmaddubsw`) saturates: `2·255·127 > 2^15`. So int8 values are widened to i16, two a word, and
//! `vpmaddwd` adds their two products to an int32 without saturating: `|2·(−128)·(−128)| = 2^15`,
//! and only four factors of −2^15 would be too much. The sum of all is modulo 2^32. That is twice
//! as many values a multiplication as f32. `vpmaddubsw` for levels that are known not to be
//! negative was 12 % faster at most, which another layout of all weights is not worth.

use std::arch::x86_64::{__m256, __m256i};

use archmage::{X64V3Token, arcane};

use super::{Int8Lanes, LANES, Lanes};

/// f32.
pub(crate) enum Float {}

/// Two int8 values a word.
pub(crate) enum Int8 {}

/// Two i16 values a word: what int8 values are made.
pub(crate) type Pairs = Int8;

impl Lanes for Float {
    type Token = X64V3Token;
    type Word = f32;
    type Registers = [__m256; 2];

    #[arcane(in_trait, import_intrinsics)]
    fn load(_: X64V3Token, from: &[f32; LANES]) -> [__m256; 2] {
        let [low, high] = halves(from);
        [_mm256_loadu_ps(low), _mm256_loadu_ps(high)]
    }

    #[arcane(in_trait, import_intrinsics)]
    fn store(_: X64V3Token, [low, high]: [__m256; 2], to: &mut [f32; LANES]) {
        let [to_low, to_high] = halves_mut(to);
        _mm256_storeu_ps(to_low, low);
        _mm256_storeu_ps(to_high, high);
    }

    #[arcane(in_trait, import_intrinsics)]
    fn multiply_add(_: X64V3Token, sums: [__m256; 2], x: f32, weights: [__m256; 2]) -> [__m256; 2] {
        let x = _mm256_set1_ps(x);
        [_mm256_fmadd_ps(x, weights[0], sums[0]), _mm256_fmadd_ps(x, weights[1], sums[1])]
    }
}

impl Lanes for Int8 {
    type Token = X64V3Token;
    type Word = i32;
    type Registers = [__m256i; 2];

    #[arcane(in_trait, import_intrinsics)]
    fn load(_: X64V3Token, from: &[i32; LANES]) -> [__m256i; 2] {
        let [low, high] = halves(from);
        [_mm256_loadu_si256(low), _mm256_loadu_si256(high)]
    }

    #[arcane(in_trait, import_intrinsics)]
    fn store(_: X64V3Token, [low, high]: [__m256i; 2], to: &mut [i32; LANES]) {
        let [to_low, to_high] = halves_mut(to);
        _mm256_storeu_si256(to_low, low);
        _mm256_storeu_si256(to_high, high);
    }

    #[arcane(in_trait, import_intrinsics)]
    fn multiply_add(_: X64V3Token, sums: [__m256i; 2], x: i32, weights: [__m256i; 2]) -> [__m256i; 2] {
        let x = _mm256_set1_epi32(x);
        [
            _mm256_add_epi32(sums[0], _mm256_madd_epi16(x, weights[0])),
            _mm256_add_epi32(sums[1], _mm256_madd_epi16(x, weights[1])),
        ]
    }
}

impl Int8Lanes<2> for Int8 {
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn input(quad: u32) -> [i32; 2] {
        let pair = |quad: u32| {
            let (first, second) = ((quad << 24).cast_signed() >> 24, (quad << 16).cast_signed() >> 8);
            first & 0xFFFF | second & !0xFFFF
        };
        [pair(quad), pair(quad >> 16)]
    }

    #[inline(always)]
    fn weights(quad: u32) -> [i32; 2] {
        Self::input(quad)
    }

    #[inline(always)]
    fn level(words: [i32; 2], lane: usize) -> i32 {
        (words[lane / 2] << (16 - lane % 2 * 16)) >> 16
    }
}

#[inline(always)]
fn halves<T>(of: &[T; LANES]) -> [&[T; LANES / 2]; 2] {
    match of.as_chunks().0 {
        [low, high] => [low, high],
        _ => unreachable!("16 values are twice 8"),
    }
}

#[inline(always)]
fn halves_mut<T>(of: &mut [T; LANES]) -> [&mut [T; LANES / 2]; 2] {
    match of.as_chunks_mut().0 {
        [low, high] => [low, high],
        _ => unreachable!("16 values are twice 8"),
    }
}
