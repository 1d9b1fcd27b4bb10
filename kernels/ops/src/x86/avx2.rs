//! AVX2, FMA and F16C: sixteen lanes are two registers.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_LT_OQ, _CMP_ORD_Q, _CMP_UNORD_Q, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0,
    _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadl_epi64, _mm_loadu_si128, _mm_movehdup_ps,
    _mm_movehl_ps, _mm_packs_epi16, _mm_prefetch, _mm_storeu_ps, _mm_storeu_si128,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps, _mm256_and_si256,
    _mm256_andnot_ps, _mm256_blendv_ps, _mm256_castps_si256, _mm256_castps256_ps128,
    _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cvtepi8_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_cvtps_ph, _mm256_div_ps,
    _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_ps, _mm256_mul_ps,
    _mm256_or_si256, _mm256_packs_epi32, _mm256_permute2f128_ps, _mm256_permute4x64_epi64,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_shuffle_ps, _mm256_slli_epi16, _mm256_slli_epi32,
    _mm256_srai_epi16, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_sub_ps, _mm256_xor_ps,
    _mm256_xor_si256,
};

use half::f16;
use trit_kernel::{Cpu, Isa};

use crate::blocks::{Columns, Line, Products, quad};
use crate::narrow::GROUP_BYTES;
use crate::probe::{LINE, Lines};
use crate::simd::{LANES, Simd, intrinsics};

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

/// The proof that AVX2, FMA and F16C are there.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

pub(crate) static TOKEN: Avx2 = Avx2(());

impl Avx2 {
    /// The token, if `cpu` has the instruction set.
    pub(crate) fn open(cpu: Cpu) -> Option<&'static Self> {
        cpu.has(Isa::Avx2).then_some(&TOKEN)
    }
}

type Two = [__m256; 2];

impl Simd for Avx2 {
    type V = Two;

    const ISA: Isa = Isa::Avx2;
    const ACCUMULATORS: usize = 4;

    intrinsics! {
        fn splat(value: f32) -> Two = [_mm256_set1_ps(value); 2];
        fn load(from: &[f32; LANES]) -> Two =
            [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))];
        fn load_f16(from: &[f16; LANES]) -> Two = [
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(8).cast())),
        ];
        fn load_i8(from: &[i8; LANES]) -> Two = [
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().add(8).cast()))),
        ];
        fn load_i32(from: &[i32; LANES]) -> Two = [
            _mm256_cvtepi32_ps(_mm256_loadu_si256(from.as_ptr().cast())),
            _mm256_cvtepi32_ps(_mm256_loadu_si256(from.as_ptr().add(8).cast())),
        ];
        fn narrow(group: &[u8; GROUP_BYTES], part: usize, base: u8) -> [Two; 2] = {
            let low = narrow(group, part, 0, base);
            let high = narrow(group, part, 32, base);
            [[low[0], high[0]], [low[1], high[1]]]
        };
        fn store(v: Two, to: &mut [f32; LANES]) = {
            _mm256_storeu_ps(to.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v[1]);
        };
        fn store_f16(v: Two, to: &mut [f16; LANES]) = {
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_cvtps_ph::<NEAREST>(v[0]));
            _mm_storeu_si128(to.as_mut_ptr().add(8).cast(), _mm256_cvtps_ph::<NEAREST>(v[1]));
        };
        fn store_i8(v: Two, to: &mut [i8; LANES]) = {
            // NaN becomes +0 before the conversion.
            let low = _mm256_and_ps(v[0], _mm256_cmp_ps::<_CMP_ORD_Q>(v[0], v[0]));
            let high = _mm256_and_ps(v[1], _mm256_cmp_ps::<_CMP_ORD_Q>(v[1], v[1]));
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes =
                _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        };

        fn add(a: Two, b: Two) -> Two = [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])];
        fn sub(a: Two, b: Two) -> Two = [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])];
        fn mul(a: Two, b: Two) -> Two = [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])];
        fn div(a: Two, b: Two) -> Two = [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])];
        fn fma(a: Two, b: Two, c: Two) -> Two =
            [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])];
        fn max(a: Two, b: Two) -> Two = [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])];
        fn abs(a: Two) -> Two = {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        };
        fn neg(a: Two) -> Two = {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_xor_ps(a[0], sign), _mm256_xor_ps(a[1], sign)]
        };
        fn if_less(a: Two, b: Two, yes: Two, no: Two) -> Two = [
            _mm256_blendv_ps(no[0], yes[0], _mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0])),
            _mm256_blendv_ps(no[1], yes[1], _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])),
        ];
        fn keep_nan(a: Two, b: Two) -> Two = [
            _mm256_blendv_ps(b[0], a[0], _mm256_cmp_ps::<_CMP_UNORD_Q>(a[0], a[0])),
            _mm256_blendv_ps(b[1], a[1], _mm256_cmp_ps::<_CMP_UNORD_Q>(a[1], a[1])),
        ];
        fn add_exponent(a: Two, n: Two) -> Two =
            [add_exponent(a[0], n[0]), add_exponent(a[1], n[1])];

        fn reduce(v: Two) -> f32 = {
            let eight = _mm256_add_ps(v[0], v[1]);
            reduce8(eight)
        };
        fn reduce4(v: [Two; 4]) -> [f32; 4] = {
            let [a, b, c, d] = v.map(|v| _mm256_add_ps(v[0], v[1]));
            reduce4x8(a, b, c, d)
        };

        fn prefetch(at: *const u8) = _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}

/// Eight and eight numbers: those of the 32 bytes from `half` on of each register of a group.
///
/// # Safety
/// AVX2; `half` is 0 or 32.
#[inline(always)]
unsafe fn narrow(group: &[u8; GROUP_BYTES], part: usize, half: usize, base: u8) -> [__m256; 2] {
    // SAFETY: as the caller says; a group has three registers of 64 bytes.
    unsafe {
        let register = |j: usize| _mm256_loadu_si256(group.as_ptr().add(64 * j + half).cast());
        let words = if part < 3 {
            register(part)
        } else {
            let first = _mm256_set1_epi16(0xf000u16.cast_signed());
            let first = _mm256_and_si256(_mm256_slli_epi16::<1>(register(0)), first);
            let second = _mm256_srli_epi16::<3>(register(1));
            let second = _mm256_and_si256(second, _mm256_set1_epi16(0x0f00));
            let third = _mm256_srli_epi16::<7>(register(2));
            let third = _mm256_and_si256(third, _mm256_set1_epi16(0x00f0));
            // The sign fills what is above the exponent; the mask below leaves one of it.
            _mm256_srai_epi16::<4>(_mm256_or_si256(_mm256_or_si256(first, second), third))
        };
        let words = _mm256_and_si256(words, _mm256_set1_epi16(0x87ffu16.cast_signed()));
        let words = _mm256_add_epi16(words, _mm256_set1_epi16(i16::from(base) << 7));
        let upper = _mm256_set1_epi32(0xffff_0000u32.cast_signed());
        [
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)),
            _mm256_castsi256_ps(_mm256_and_si256(words, upper)),
        ]
    }
}

/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn add_exponent(a: __m256, n: __m256) -> __m256 {
    // SAFETY: as the caller says.
    unsafe {
        let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(n));
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), n))
    }
}

/// The last three steps of the tree: lanes `j` and `j + 4`, then `j + 2`, `j + 1`.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(crate) unsafe fn reduce8(v: __m256) -> f32 {
    // SAFETY: as the caller says.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// [`reduce8`] of four vectors.
///
/// # Safety
/// AVX2.
#[inline(always)]
pub(crate) unsafe fn reduce4x8(a: __m256, b: __m256, c: __m256, d: __m256) -> [f32; 4] {
    // SAFETY: as the caller says; the array has room for four numbers.
    unsafe {
        // Lanes j + (j + 4): a in the low half, b in the high half.
        let ab = _mm256_add_ps(
            _mm256_permute2f128_ps::<0x20>(a, b),
            _mm256_permute2f128_ps::<0x31>(a, b),
        );
        let cd = _mm256_add_ps(
            _mm256_permute2f128_ps::<0x20>(c, d),
            _mm256_permute2f128_ps::<0x31>(c, d),
        );
        // Lanes j + (j + 2): a a c c | b b d d.
        let two = _mm256_add_ps(
            _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
        );
        // Lanes j + (j + 1): a c a c | b d b d.
        let one = _mm256_add_ps(
            _mm256_shuffle_ps::<0b10_00_10_00>(two, two),
            _mm256_shuffle_ps::<0b11_01_11_01>(two, two),
        );
        let (mut ac, mut bd) = ([0.0; 4], [0.0; 4]);
        _mm_storeu_ps(ac.as_mut_ptr(), _mm256_castps256_ps128(one));
        _mm_storeu_ps(bd.as_mut_ptr(), _mm256_extractf128_ps::<1>(one));
        [ac[0], bd[0], ac[1], bd[1]]
    }
}

impl Lines for Avx2 {
    type V = [__m256i; 2];

    intrinsics! {
        fn zero() -> [__m256i; 2] = [_mm256_setzero_si256(); 2];
        fn load(from: &[u8; LINE]) -> [__m256i; 2] = [
            _mm256_loadu_si256(from.as_ptr().cast()),
            _mm256_loadu_si256(from.as_ptr().add(32).cast()),
        ];
        fn xor(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] =
            [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])];
        fn bytes(v: [__m256i; 2]) -> [u8; LINE] = std::mem::transmute(v);
        fn ask(at: *const u8) = _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}

/// The two halves of a line.
type Quad = [__m256i; 2];

/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn line(from: &Line) -> Quad {
    // SAFETY: as the caller says; a line has 64 bytes.
    unsafe {
        [
            _mm256_loadu_si256(from.as_ptr().cast()),
            _mm256_loadu_si256(from.as_ptr().add(32).cast()),
        ]
    }
}

/// Pairs of products are words: 2 · 63 · 127 fits one, and two pairs do.
impl Products<Self> for Avx2 {
    type Codes = [Quad; 4];

    intrinsics! {
        fn six(lines: &[Line; 3]) -> [Quad; 4] = {
            let low = _mm256_set1_epi8(0x3f);
            let (a, b, c) = (line(&lines[0]), line(&lines[1]), line(&lines[2]));
            let mut codes = [a, b, c, a];
            for i in 0..2 {
                let high = _mm256_and_si256(_mm256_srli_epi16::<2>(a[i]), _mm256_set1_epi8(0x30));
                let middle = _mm256_and_si256(_mm256_srli_epi16::<4>(b[i]), _mm256_set1_epi8(0x0c));
                let last = _mm256_and_si256(_mm256_srli_epi16::<6>(c[i]), _mm256_set1_epi8(0x03));
                codes[0][i] = _mm256_and_si256(a[i], low);
                codes[1][i] = _mm256_and_si256(b[i], low);
                codes[2][i] = _mm256_and_si256(c[i], low);
                codes[3][i] = _mm256_or_si256(_mm256_or_si256(high, middle), last);
            }
            codes
        };
        fn four(lines: &[Line; 2]) -> [Quad; 4] = {
            let low = _mm256_set1_epi8(15);
            let (a, b) = (line(&lines[0]), line(&lines[1]));
            let mut codes = [a, b, a, b];
            for i in 0..2 {
                codes[0][i] = _mm256_and_si256(a[i], low);
                codes[1][i] = _mm256_and_si256(b[i], low);
                codes[2][i] = _mm256_and_si256(_mm256_srli_epi16::<4>(a[i]), low);
                codes[3][i] = _mm256_and_si256(_mm256_srli_epi16::<4>(b[i]), low);
            }
            codes
        };
        fn sums(codes: [Quad; 4], columns: &Columns) -> Two = {
            let ones = _mm256_set1_epi16(1);
            let mut both = [_mm256_setzero_ps(); 2];
            for i in 0..2 {
                let mut sums =
                    [_mm256_set1_epi32(columns.high_sum), _mm256_set1_epi32(columns.low_sum)];
                for (sum, digits) in sums.iter_mut().zip([&columns.high, &columns.low]) {
                    for q in [0, 2] {
                        let (here, next) = (quad(digits, q), quad(digits, q + 1));
                        let words = _mm256_add_epi16(
                            _mm256_maddubs_epi16(codes[q][i], _mm256_set1_epi32(here)),
                            _mm256_maddubs_epi16(codes[q + 1][i], _mm256_set1_epi32(next)),
                        );
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(words, ones));
                    }
                }
                let joined = _mm256_add_epi32(_mm256_slli_epi32::<7>(sums[0]), sums[1]);
                both[i] = _mm256_cvtepi32_ps(joined);
            }
            both
        };
    }
}
