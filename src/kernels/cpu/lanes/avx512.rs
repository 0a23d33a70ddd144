//! AVX-512 with VNNI: 16 words in a register. `vpdpbusd` multiplies four unsigned by four signed
//! bytes and adds them to an int32, modulo 2^32 and without saturating on the way; levels are taken
//! as `u8 = i8 + 128`.

use std::arch::x86_64::{__m512, __m512i};

use archmage::{X64V4xToken, arcane};

use super::{Int8Lanes, LANES, Lanes};

/// f32.
pub(crate) enum Float {}

/// Four int8 values a word.
pub(crate) enum Int8 {}

/// Two i16 values a word, whose products `vpdpwssd` adds to an int32, modulo 2^32.
pub(crate) enum Pairs {}

impl Lanes for Float {
    type Token = X64V4xToken;
    type Word = f32;
    type Registers = __m512;

    #[arcane(in_trait, import_intrinsics)]
    fn load(_: X64V4xToken, from: &[f32; LANES]) -> __m512 {
        _mm512_loadu_ps(from)
    }

    #[arcane(in_trait, import_intrinsics)]
    fn store(_: X64V4xToken, registers: __m512, to: &mut [f32; LANES]) {
        _mm512_storeu_ps(to, registers);
    }

    #[arcane(in_trait, import_intrinsics)]
    fn multiply_add(_: X64V4xToken, sums: __m512, x: f32, weights: __m512) -> __m512 {
        _mm512_fmadd_ps(_mm512_set1_ps(x), weights, sums)
    }
}

impl Lanes for Int8 {
    type Token = X64V4xToken;
    type Word = i32;
    type Registers = __m512i;

    #[arcane(in_trait, import_intrinsics)]
    fn load(_: X64V4xToken, from: &[i32; LANES]) -> __m512i {
        _mm512_loadu_epi32(from)
    }

    #[arcane(in_trait, import_intrinsics)]
    fn store(_: X64V4xToken, registers: __m512i, to: &mut [i32; LANES]) {
        _mm512_storeu_epi32(to, registers);
    }

    #[arcane(in_trait, import_intrinsics)]
    fn multiply_add(_: X64V4xToken, sums: __m512i, x: i32, weights: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sums, _mm512_set1_epi32(x), weights)
    }
}

impl Lanes for Pairs {
    type Token = X64V4xToken;
    type Word = i32;
    type Registers = __m512i;

    #[arcane(in_trait, import_intrinsics)]
    fn load(_: X64V4xToken, from: &[i32; LANES]) -> __m512i {
        _mm512_loadu_epi32(from)
    }

    #[arcane(in_trait, import_intrinsics)]
    fn store(_: X64V4xToken, registers: __m512i, to: &mut [i32; LANES]) {
        _mm512_storeu_epi32(to, registers);
    }

    #[arcane(in_trait, import_intrinsics)]
    fn multiply_add(_: X64V4xToken, sums: __m512i, x: i32, weights: __m512i) -> __m512i {
        _mm512_dpwssd_epi32(sums, _mm512_set1_epi32(x), weights)
    }
}

impl Int8Lanes<1> for Int8 {
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn input(quad: u32) -> [i32; 1] {
        [(quad ^ 0x8080_8080).cast_signed()]
    }

    #[inline(always)]
    fn weights(quad: u32) -> [i32; 1] {
        [quad.cast_signed()]
    }

    #[inline(always)]
    fn level([word]: [i32; 1], lane: usize) -> i32 {
        i32::from(word.to_le_bytes()[lane]) - Self::OFFSET
    }
}
