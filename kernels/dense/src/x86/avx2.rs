//! 256-bit vectors: AVX2, FMA and F16C; AVX-VNNI.

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_abs_epi8, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_and_si256, _mm256_broadcast_ss, _mm256_cvtepi32_ps, _mm256_cvtph_ps,
    _mm256_dpbusd_avx_epi32, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8,
    _mm256_srai_epi32, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_storeu_si256,
};

use half::f16;

use crate::bytes::Bytes;
use crate::float::Lanes;
use crate::intrinsics::intrinsics;

/// AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

impl Lanes for Avx2 {
    type V = __m256;
    const N: usize = 8;

    intrinsics! {
        fn zero() -> __m256 = _mm256_setzero_ps();
        fn splat(from: *const f32) -> __m256 = _mm256_broadcast_ss(&*from);
        fn load(from: *const f32) -> __m256 = _mm256_loadu_ps(from);
        fn load_f16(from: *const f16) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
        fn store(v: __m256, to: *mut f32) = _mm256_storeu_ps(to, v);
        fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn prefetch(at: *const u8) = _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}

impl Bytes for Avx2 {
    type V = __m256i;
    /// The weights and their magnitudes.
    type W = (__m256i, __m256i);
    /// i16 lanes: eight times two products of 15 and 127 fit.
    type Part = __m256i;
    type F = Self;
    const OFFSET: u8 = 0;

    intrinsics! {
        fn zero() -> __m256i = _mm256_setzero_si256();
        fn load(from: *const u8) -> __m256i = _mm256_loadu_si256(from.cast());
        fn splat(from: *const u8) -> __m256i = _mm256_set1_epi32(from.cast::<i32>().read_unaligned());
        fn store(v: __m256i, to: *mut i32) = _mm256_storeu_si256(to.cast(), v);
        fn add(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        fn to_float(v: __m256i) -> __m256 = _mm256_cvtepi32_ps(v);
        fn prefetch(at: *const u8) = _mm_prefetch::<_MM_HINT_T0>(at.cast());

        fn weights(v: __m256i) -> (__m256i, __m256i) = (v, _mm256_abs_epi8(v));
        fn dot_signed(sum: __m256i, weights: (__m256i, __m256i), acts: __m256i) -> __m256i = {
            // The sign of the weights goes to the activations; two products of 127 and 127 fit into an i16.
            let products = _mm256_maddubs_epi16(weights.1, _mm256_sign_epi8(acts, weights.0));
            _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)))
        };

        fn low(v: __m256i) -> __m256i = _mm256_and_si256(v, _mm256_set1_epi8(15));
        fn high(v: __m256i) -> __m256i = <Self as Bytes>::low(_mm256_srli_epi16::<4>(v));
        fn begin() -> __m256i = _mm256_setzero_si256();
        fn dot_codes(part: __m256i, codes: __m256i, acts: __m256i) -> __m256i =
            _mm256_add_epi16(part, _mm256_maddubs_epi16(codes, acts));
        fn finish(part: __m256i) -> __m256i = _mm256_madd_epi16(part, _mm256_set1_epi16(1));

        // Sixteen times as much would not fit into i16.
        fn high_in_place(v: __m256i) -> __m256i = <Self as Bytes>::high(v);
        fn finish_both(parts: [__m256i; 2]) -> __m256i = Self::finish(_mm256_add_epi16(parts[0], parts[1]));
    }
}

/// AVX-VNNI, on top of AVX2.
#[derive(Clone, Copy)]
pub(crate) struct AvxVnni;

impl Bytes for AvxVnni {
    type V = __m256i;
    type W = __m256i;
    type Part = __m256i;
    type F = Avx2;
    const OFFSET: u8 = 128;

    intrinsics! {
        fn zero() -> __m256i = _mm256_setzero_si256();
        fn load(from: *const u8) -> __m256i = <Avx2 as Bytes>::load(from);
        fn splat(from: *const u8) -> __m256i = <Avx2 as Bytes>::splat(from);
        fn store(v: __m256i, to: *mut i32) = <Avx2 as Bytes>::store(v, to);
        fn add(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        fn to_float(v: __m256i) -> __m256 = _mm256_cvtepi32_ps(v);
        fn prefetch(at: *const u8) = _mm_prefetch::<_MM_HINT_T0>(at.cast());

        fn dot_signed(sum: __m256i, weights: __m256i, acts: __m256i) -> __m256i =
            _mm256_dpbusd_avx_epi32(sum, acts, weights);

        fn low(v: __m256i) -> __m256i = <Avx2 as Bytes>::low(v);
        fn high(v: __m256i) -> __m256i = <Avx2 as Bytes>::high(v);
        fn begin() -> __m256i = _mm256_setzero_si256();
        fn dot_codes(part: __m256i, codes: __m256i, acts: __m256i) -> __m256i =
            _mm256_dpbusd_avx_epi32(part, codes, acts);

        fn high_in_place(v: __m256i) -> __m256i = _mm256_and_si256(v, _mm256_set1_epi8(0xF0u8 as i8));
        fn finish_both(parts: [__m256i; 2]) -> __m256i =
            _mm256_add_epi32(parts[0], _mm256_srai_epi32::<4>(parts[1]));
    }

    #[inline(always)]
    unsafe fn weights(v: __m256i) -> __m256i {
        v
    }

    #[inline(always)]
    unsafe fn finish(part: __m256i) -> __m256i {
        part
    }
}
