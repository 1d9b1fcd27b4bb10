//! 512-bit vectors: AVX-512 F, BW, DQ and VL; VNNI.

use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256, _mm512_add_epi32,
    _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_srai_epi32, _mm512_srli_epi16,
    _mm512_storeu_ps, _mm512_storeu_si512,
};

use half::f16;

use crate::bytes::Bytes;
use crate::float::Lanes;
use crate::intrinsics::intrinsics;

/// AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

impl Lanes for Avx512 {
    type V = __m512;
    const N: usize = 16;

    intrinsics! {
        fn zero() -> __m512 = _mm512_setzero_ps();
        fn splat(from: *const f32) -> __m512 = _mm512_set1_ps(*from);
        fn load(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
        fn load_f16(from: *const f16) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()));
        fn store(v: __m512, to: *mut f32) = _mm512_storeu_ps(to, v);
        fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn prefetch(at: *const u8) = _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}

/// 512-bit VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Vnni;

impl Bytes for Vnni {
    type V = __m512i;
    type W = __m512i;
    type Part = __m512i;
    type F = Avx512;
    const OFFSET: u8 = 128;

    intrinsics! {
        fn zero() -> __m512i = _mm512_setzero_si512();
        fn load(from: *const u8) -> __m512i = _mm512_loadu_si512(from.cast());
        fn splat(from: *const u8) -> __m512i = _mm512_set1_epi32(from.cast::<i32>().read_unaligned());
        fn store(v: __m512i, to: *mut i32) = _mm512_storeu_si512(to.cast(), v);
        fn add(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        fn to_float(v: __m512i) -> __m512 = _mm512_cvtepi32_ps(v);
        fn prefetch(at: *const u8) = _mm_prefetch::<_MM_HINT_T0>(at.cast());

        fn dot_signed(sum: __m512i, weights: __m512i, acts: __m512i) -> __m512i =
            _mm512_dpbusd_epi32(sum, acts, weights);

        fn low(v: __m512i) -> __m512i = _mm512_and_si512(v, _mm512_set1_epi8(15));
        fn high(v: __m512i) -> __m512i = Self::low(_mm512_srli_epi16::<4>(v));
        fn begin() -> __m512i = _mm512_setzero_si512();
        fn dot_codes(part: __m512i, codes: __m512i, acts: __m512i) -> __m512i =
            _mm512_dpbusd_epi32(part, codes, acts);

        fn high_in_place(v: __m512i) -> __m512i = _mm512_and_si512(v, _mm512_set1_epi8(0xF0u8 as i8));
        fn finish_both(parts: [__m512i; 2]) -> __m512i =
            _mm512_add_epi32(parts[0], _mm512_srai_epi32::<4>(parts[1]));
    }

    #[inline(always)]
    unsafe fn weights(v: __m512i) -> __m512i {
        v
    }

    #[inline(always)]
    unsafe fn finish(part: __m512i) -> __m512i {
        part
    }
}
