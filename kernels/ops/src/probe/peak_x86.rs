//! Peak loops of x86-64.

use std::arch::x86_64::{
    __m128, __m128i, __m256, __m256i, __m512, __m512i, _mm_add_epi32, _mm_add_ps, _mm_madd_epi16,
    _mm_mul_ps, _mm_set1_epi16, _mm_set1_ps, _mm_setzero_ps, _mm_setzero_si128, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_dpbusd_avx_epi32, _mm256_dpbusd_epi32, _mm256_fmadd_ps,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_set1_epi8, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
};
use trit_kernel::Isa;

use super::peak::{
    A, B, Operation, PeakLoop, f32_lane, i32_lane, int8_lane, line, peak, sum_f32, sum_i16, sum_i32,
};

/// Accumulators of a loop on 16 registers, factors aside.
const NARROW: usize = 12;
/// Accumulators of a loop on 32 registers, factors aside.
const WIDE: usize = 16;

// What every x86-64 has: the portable kernels are compiled to these.
peak!(mul_add_128, "sse2", NARROW x __m128, xmm_reg, zero _mm_setzero_ps(),
    factors _mm_set1_ps(0.5), _mm_set1_ps(2.0),
    |sum, x, y| _mm_add_ps(sum, _mm_mul_ps(x, y)), [f32] sum_f32);

peak!(madd_128, "sse2", NARROW x __m128i, xmm_reg, zero _mm_setzero_si128(),
    factors _mm_set1_epi16(A.into()), _mm_set1_epi16(B.into()),
    |sum, x, y| _mm_add_epi32(sum, _mm_madd_epi16(x, y)), [i32] sum_i32);

peak!(fma_256, "avx2,fma", NARROW x __m256, ymm_reg, zero _mm256_setzero_ps(),
    factors _mm256_set1_ps(0.5), _mm256_set1_ps(2.0),
    |sum, x, y| _mm256_fmadd_ps(x, y, sum), [f32] sum_f32);

peak!(fma_512, "avx512f,avx512vl", WIDE x __m512, zmm_reg, zero _mm512_setzero_ps(),
    factors _mm512_set1_ps(0.5), _mm512_set1_ps(2.0),
    |sum, x, y| _mm512_fmadd_ps(x, y, sum), [f32] sum_f32);

peak!(maddubs_madd, "avx2", NARROW x __m256i, ymm_reg, zero _mm256_setzero_si256(),
    factors _mm256_set1_epi8(A), _mm256_set1_epi8(B),
    |sum, x, y| _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), _mm256_set1_epi16(1))),
    [i32] sum_i32);

peak!(maddubs_add, "avx2", NARROW x __m256i, ymm_reg, zero _mm256_setzero_si256(),
    factors _mm256_set1_epi8(A), _mm256_set1_epi8(B),
    |sum, x, y| _mm256_add_epi16(sum, _mm256_maddubs_epi16(x, y)), [i16] sum_i16);

peak!(dpbusd_vex, "avx2,avxvnni", NARROW x __m256i, ymm_reg, zero _mm256_setzero_si256(),
    factors _mm256_set1_epi8(A), _mm256_set1_epi8(B),
    |sum, x, y| _mm256_dpbusd_avx_epi32(sum, x, y), [i32] sum_i32);

peak!(dpbusd_256, "avx512f,avx512vl,avx512vnni", WIDE x __m256i, ymm_reg, zero _mm256_setzero_si256(),
    factors _mm256_set1_epi8(A), _mm256_set1_epi8(B),
    |sum, x, y| _mm256_dpbusd_epi32(sum, x, y), [i32] sum_i32);

peak!(dpbusd_512, "avx512f,avx512vl,avx512vnni", WIDE x __m512i, zmm_reg, zero _mm512_setzero_si512(),
    factors _mm512_set1_epi8(A), _mm512_set1_epi8(B),
    |sum, x, y| _mm512_dpbusd_epi32(sum, x, y), [i32] sum_i32);

#[rustfmt::skip]
pub(super) static LOOPS: [PeakLoop; 9] = [
    line(("f32-scalar-mul-add-128", Isa::Scalar, Operation::F32), mul_add_128, f32_lane, NARROW, 4, 4),
    line(("int8-scalar-madd-add-128", Isa::Scalar, Operation::Int8), madd_128,
        |n| i32_lane(n.wrapping_mul(30)), NARROW, 4, 8),
    line(("f32-avx2-fma-256", Isa::Avx2, Operation::F32), fma_256, f32_lane, NARROW, 8, 8),
    line(("f32-avx512-fma-512", Isa::Avx512, Operation::F32), fma_512, f32_lane, WIDE, 16, 16),
    line(("int8-avx2-maddubs-madd-add-256", Isa::Avx2, Operation::Int8), maddubs_madd, int8_lane, NARROW, 8, 32),
    // Two products a step and an i16 lane, which wraps.
    line(("int8-avx2-maddubs-add-256", Isa::Avx2, Operation::Int8), maddubs_add,
        |n| i64::from(n.wrapping_mul(30) as i16).cast_unsigned(), NARROW, 16, 32),
    line(("int8-avxvnni-dpbusd-256", Isa::AvxVnni, Operation::Int8), dpbusd_vex, int8_lane, NARROW, 8, 32),
    line(("int8-avx512vnni-dpbusd-256", Isa::Avx512Vnni, Operation::Int8), dpbusd_256, int8_lane, WIDE, 8, 32),
    line(("int8-avx512vnni-dpbusd-512", Isa::Avx512Vnni, Operation::Int8), dpbusd_512, int8_lane, WIDE, 16, 64),
];
