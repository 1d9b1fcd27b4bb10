//! AVX-512: sixteen lanes are one register.

use std::arch::x86_64::{
    __m512, __m512i, _CMP_LT_OQ, _CMP_ORD_Q, _CMP_UNORD_Q, _MM_FROUND_NO_EXC,
    _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm_storeu_si128,
    _mm256_add_ps, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_abs_ps, _mm512_add_epi16,
    _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castps512_ps256,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps,
    _mm512_cvtph_ps, _mm512_cvtps_ph, _mm512_cvtsepi32_epi8, _mm512_div_ps, _mm512_dpbusd_epi32,
    _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_madd_epi16, _mm512_maddubs_epi16, _mm512_mask_blend_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_cvtps_epi32, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_mul_ps,
    _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
    _mm512_shuffle_f32x4, _mm512_slli_epi16, _mm512_slli_epi32, _mm512_srai_epi16,
    _mm512_srli_epi16, _mm512_storeu_ps, _mm512_sub_ps, _mm512_ternarylogic_epi32, _mm512_xor_ps,
    _mm512_xor_si512,
};

use half::f16;
use trit_kernel::{Cpu, Isa};

use super::avx2::{reduce4x8, reduce8};
use crate::blocks::{Columns, Line, Products, quad};
use crate::narrow::GROUP_BYTES;
use crate::probe::{LINE, Lines};
use crate::simd::{LANES, Simd, intrinsics};

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// The proof that AVX-512 F, BW, DQ and VL are there, and whether VNNI is.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(Option<Vnni>);

/// The proof that AVX-512 VNNI is there.
#[derive(Clone, Copy)]
pub(crate) struct Vnni(());

pub(crate) static TOKEN: Avx512 = Avx512(None);
static WITH_VNNI: Avx512 = Avx512(Some(Vnni(())));

impl Avx512 {
    /// The token, if `cpu` has the instruction set.
    pub(crate) fn open(cpu: Cpu) -> Option<&'static Self> {
        cpu.has(Isa::Avx512).then_some(&TOKEN)
    }

    /// The same with VNNI.
    pub(crate) fn open_vnni(cpu: Cpu) -> Option<&'static Self> {
        cpu.has(Isa::Avx512Vnni).then_some(&WITH_VNNI)
    }

    /// The proof of VNNI, where there is one.
    pub(crate) fn vnni(self) -> Option<Vnni> {
        self.0
    }
}

/// The first `len` lanes.
const fn first(len: usize) -> u16 {
    assert!(len < LANES);
    (1 << len) - 1
}

impl Simd for Avx512 {
    type V = __m512;

    const ISA: Isa = Isa::Avx512;
    const ACCUMULATORS: usize = 16;

    intrinsics! {
        fn splat(value: f32) -> __m512 = _mm512_set1_ps(value);
        fn load(from: &[f32; LANES]) -> __m512 = _mm512_loadu_ps(from.as_ptr());
        fn load_f16(from: &[f16; LANES]) -> __m512 =
            _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()));
        fn load_i8(from: &[i8; LANES]) -> __m512 =
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast())));
        fn load_i32(from: &[i32; LANES]) -> __m512 =
            _mm512_cvtepi32_ps(_mm512_loadu_si512(from.as_ptr().cast()));
        fn narrow(group: &[u8; GROUP_BYTES], part: usize, base: u8) -> [__m512; 2] = {
            let register = |j: usize| _mm512_loadu_si512(group.as_ptr().add(64 * j).cast());
            let words = if part < 3 {
                register(part)
            } else {
                // `a & b | c` as a table of three inputs.
                const AND_OR: i32 = 0xea;
                let bits = _mm512_and_si512(_mm512_slli_epi16::<1>(register(0)), _mm512_set1_epi16(0xf000u16.cast_signed()));
                let bits = _mm512_ternarylogic_epi32::<AND_OR>(_mm512_srli_epi16::<3>(register(1)), _mm512_set1_epi16(0x0f00), bits);
                let bits = _mm512_ternarylogic_epi32::<AND_OR>(_mm512_srli_epi16::<7>(register(2)), _mm512_set1_epi16(0x00f0), bits);
                // The sign fills what is above the exponent; the mask below leaves one of it.
                _mm512_srai_epi16::<4>(bits)
            };
            let words = _mm512_and_si512(words, _mm512_set1_epi16(0x87ffu16.cast_signed()));
            let words = _mm512_add_epi16(words, _mm512_set1_epi16(i16::from(base) << 7));
            [
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)),
                _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000u32.cast_signed()))),
            ]
        };
        fn store(v: __m512, to: &mut [f32; LANES]) = _mm512_storeu_ps(to.as_mut_ptr(), v);
        fn store_f16(v: __m512, to: &mut [f16; LANES]) = {
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtps_ph::<NEAREST>(v));
        };
        fn store_i8(v: __m512, to: &mut [i8; LANES]) = {
            // Lanes that hold NaN become 0.
            let numbers = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(v, v);
            let bytes = _mm512_cvtsepi32_epi8(_mm512_maskz_cvtps_epi32(numbers, v));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        };

        fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        fn abs(a: __m512) -> __m512 = _mm512_abs_ps(a);
        fn neg(a: __m512) -> __m512 = _mm512_xor_ps(a, _mm512_set1_ps(-0.0));
        fn if_less(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 =
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes);
        fn keep_nan(a: __m512, b: __m512) -> __m512 =
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), b, a);
        fn add_exponent(a: __m512, n: __m512) -> __m512 = {
            let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(n));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), n))
        };

        fn reduce(v: __m512) -> f32 =
            reduce8(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)));
        fn reduce4(v: [__m512; 4]) -> [f32; 4] = {
            let [a, b, c, d] = v;
            // Lanes j + (j + 8): a in the low half, b in the high half.
            let ab = _mm512_add_ps(
                _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b),
                _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b),
            );
            let cd = _mm512_add_ps(
                _mm512_shuffle_f32x4::<0b01_00_01_00>(c, d),
                _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d),
            );
            reduce4x8(
                _mm512_castps512_ps256(ab),
                _mm512_extractf32x8_ps::<1>(ab),
                _mm512_castps512_ps256(cd),
                _mm512_extractf32x8_ps::<1>(cd),
            )
        };

        fn prefetch(at: *const u8) = _mm_prefetch::<_MM_HINT_T0>(at.cast());

        fn load_tail(from: &[f32]) -> __m512 = {
            // `first` refuses a slice that a mask cannot describe; lanes outside of it are not read.
            _mm512_maskz_loadu_ps(first(from.len()), from.as_ptr())
        };
        fn store_tail(v: __m512, to: &mut [f32]) = {
            // As in `load_tail`.
            _mm512_mask_storeu_ps(to.as_mut_ptr(), first(to.len()), v);
        };
    }
}

impl Lines for Avx512 {
    type V = __m512i;

    intrinsics! {
        fn zero() -> __m512i = _mm512_setzero_si512();
        fn load(from: &[u8; LINE]) -> __m512i = _mm512_loadu_si512(from.as_ptr().cast());
        fn xor(a: __m512i, b: __m512i) -> __m512i = _mm512_xor_si512(a, b);
        fn bytes(v: __m512i) -> [u8; LINE] = std::mem::transmute(v);
        fn ask(at: *const u8) = _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}

type Quads = [__m512i; 4];

/// Three lines of six-bit codes as four quads.
///
/// # Safety
/// AVX-512 F and BW.
#[inline(always)]
unsafe fn six(lines: &[Line; 3]) -> Quads {
    // `c ? a : b`, bit by bit.
    const SELECT: i32 = 0xE4;
    // SAFETY: as the caller says; lines have the size that is read.
    unsafe {
        let [a, b, c] = [
            _mm512_loadu_si512(lines[0].as_ptr().cast()),
            _mm512_loadu_si512(lines[1].as_ptr().cast()),
            _mm512_loadu_si512(lines[2].as_ptr().cast()),
        ];
        let codes = _mm512_set1_epi8(0x3f);
        // Shifts of 16 bits leave bits of the neighbour in the two high ones.
        let high = _mm512_ternarylogic_epi32::<SELECT>(
            _mm512_srli_epi16::<2>(a),
            _mm512_srli_epi16::<4>(b),
            _mm512_set1_epi8(0x30),
        );
        let all = _mm512_ternarylogic_epi32::<SELECT>(
            high,
            _mm512_srli_epi16::<6>(c),
            _mm512_set1_epi8(0x3c),
        );
        [
            _mm512_and_si512(a, codes),
            _mm512_and_si512(b, codes),
            _mm512_and_si512(c, codes),
            _mm512_and_si512(all, codes),
        ]
    }
}

/// Two lines of nibbles as four quads.
///
/// # Safety
/// AVX-512 F and BW.
#[inline(always)]
unsafe fn four(lines: &[Line; 2]) -> Quads {
    // SAFETY: as the caller says; lines have the size that is read.
    unsafe {
        let low = _mm512_set1_epi8(15);
        let a = _mm512_loadu_si512(lines[0].as_ptr().cast());
        let b = _mm512_loadu_si512(lines[1].as_ptr().cast());
        [
            _mm512_and_si512(a, low),
            _mm512_and_si512(b, low),
            _mm512_and_si512(_mm512_srli_epi16::<4>(a), low),
            _mm512_and_si512(_mm512_srli_epi16::<4>(b), low),
        ]
    }
}

/// Both digits as one number.
///
/// # Safety
/// AVX-512 F.
#[inline(always)]
unsafe fn join(high: __m512i, low: __m512i) -> __m512 {
    // SAFETY: as the caller says.
    unsafe { _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<7>(high), low)) }
}

/// Pairs of products are words: 2 · 63 · 127 fits one, and two pairs do.
impl Products<Self> for Avx512 {
    type Codes = Quads;

    intrinsics! {
        fn six(lines: &[Line; 3]) -> Quads = six(lines);
        fn four(lines: &[Line; 2]) -> Quads = four(lines);
        fn sums(codes: Quads, columns: &Columns) -> __m512 = {
            let ones = _mm512_set1_epi16(1);
            let mut sums = [_mm512_set1_epi32(columns.high_sum), _mm512_set1_epi32(columns.low_sum)];
            for (sum, digits) in sums.iter_mut().zip([&columns.high, &columns.low]) {
                for q in [0, 2] {
                    let words = _mm512_add_epi16(
                        _mm512_maddubs_epi16(codes[q], _mm512_set1_epi32(quad(digits, q))),
                        _mm512_maddubs_epi16(codes[q + 1], _mm512_set1_epi32(quad(digits, q + 1))),
                    );
                    *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(words, ones));
                }
            }
            join(sums[0], sums[1])
        };
    }
}

impl Products<Avx512> for Vnni {
    type Codes = Quads;

    intrinsics! {
        fn six(lines: &[Line; 3]) -> Quads = six(lines);
        fn four(lines: &[Line; 2]) -> Quads = four(lines);
        fn sums(codes: Quads, columns: &Columns) -> __m512 = {
            let mut high = _mm512_set1_epi32(columns.high_sum);
            let mut low = _mm512_set1_epi32(columns.low_sum);
            for q in 0..4 {
                high = _mm512_dpbusd_epi32(high, codes[q], _mm512_set1_epi32(quad(&columns.high, q)));
                low = _mm512_dpbusd_epi32(low, codes[q], _mm512_set1_epi32(quad(&columns.low, q)));
            }
            join(high, low)
        };
    }
}
