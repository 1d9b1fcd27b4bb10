//! AVX2 and AVX-512: a row group is two registers, or one.

#![expect(
    clippy::inline_always,
    reason = "the methods must be inlined into a function that enables the instruction set"
)]

use std::arch::x86_64::{
    __m256i, __m512i, _MM_HINT_T0, _mm_cvtsi32_si128, _mm_loadu_si128, _mm_prefetch,
    _mm256_add_epi8, _mm256_add_epi16, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_loadu_si256, _mm256_mulhrs_epi16, _mm256_mullo_epi16, _mm256_or_si256,
    _mm256_packs_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_shuffle_epi8, _mm256_sign_epi8, _mm256_sign_epi16, _mm256_sll_epi16, _mm256_srli_epi16,
    _mm256_storeu_si256, _mm256_sub_epi16, _mm512_add_epi8, _mm512_add_epi16, _mm512_and_si512,
    _mm512_broadcast_i32x4, _mm512_loadu_si512, _mm512_mask_sub_epi8, _mm512_set1_epi8,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi16, _mm512_storeu_si512,
    _mm512_test_epi8_mask,
};

use trit_kernel::{Cpu, Isa};

use crate::nibble::{Bytes, intrinsics, pass, passes};
use crate::tables::{ENTRIES, INVERSE, SCALE, TRIPLETS, Tables, weights};
use crate::view::{LANES, Sums};

/// The proof that AVX2 is there.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Bytes for Avx2 {
    type V = __m256i;
    const ISA: Isa = Isa::Avx2;
    const ROWS: usize = 32;

    fn open(cpu: Cpu) -> Option<Self> {
        cpu.has(Self::ISA).then_some(Self(()))
    }

    #[inline(always)]
    unsafe fn load(self, at: *const u8) -> __m256i {
        // SAFETY: `self` proves AVX2, and the caller promises 32 bytes; the load asks for no alignment.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    intrinsics! {
        fn splat(byte: u8) -> __m256i = _mm256_set1_epi8(byte.cast_signed());
        fn table(from: &[u8; 16]) -> __m256i =
            _mm256_broadcastsi128_si256(_mm_loadu_si128(from.as_ptr().cast()));
        fn low(v: __m256i) -> __m256i = _mm256_and_si256(v, _mm256_set1_epi8(15));
        fn high(v: __m256i) -> __m256i =
            _mm256_and_si256(_mm256_srli_epi16::<4>(v), _mm256_set1_epi8(15));
        fn look(table: __m256i, index: __m256i) -> __m256i = _mm256_shuffle_epi8(table, index);
        // What the shift drags over from the lower byte stays below bit 7, and bit 0 keeps the byte from being zero.
        fn negate(v: __m256i, signs: __m256i, entry: usize) -> __m256i = {
            let signs = _mm256_sll_epi16(signs, _mm_cvtsi32_si128(entry as i32));
            _mm256_sign_epi8(v, _mm256_or_si256(signs, _mm256_set1_epi8(1)))
        };
        fn add_bytes(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi8(a, b);
        fn add_words(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi16(a, b);
        fn odd(v: __m256i) -> __m256i = _mm256_srli_epi16::<8>(v);
        fn words(v: __m256i, to: &mut [u16; LANES / 2]) =
            _mm256_storeu_si256(to.as_mut_ptr().cast(), v);
        fn prefetch(at: *const u8) = _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }

    fn build<const W: usize>(self, acts: &[i8], out: &mut [Tables]) {
        // SAFETY: `self` proves AVX2.
        unsafe { build::<W>(acts, out) }
    }

    // With several tokens the sums of both registers would not fit.
    passes!("avx2", alone 2, several 1);
}

/// The proof that AVX-512 BW is there.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Bytes for Avx512 {
    type V = __m512i;
    const ISA: Isa = Isa::Avx512;
    const ROWS: usize = 64;

    fn open(cpu: Cpu) -> Option<Self> {
        cpu.has(Self::ISA).then_some(Self(()))
    }

    #[inline(always)]
    unsafe fn load(self, at: *const u8) -> __m512i {
        // SAFETY: `self` proves AVX-512, and the caller promises 64 bytes; the load asks for no alignment.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    intrinsics! {
        fn splat(byte: u8) -> __m512i = _mm512_set1_epi8(byte.cast_signed());
        fn table(from: &[u8; 16]) -> __m512i =
            _mm512_broadcast_i32x4(_mm_loadu_si128(from.as_ptr().cast()));
        fn low(v: __m512i) -> __m512i = _mm512_and_si512(v, _mm512_set1_epi8(15));
        fn high(v: __m512i) -> __m512i =
            _mm512_and_si512(_mm512_srli_epi16::<4>(v), _mm512_set1_epi8(15));
        fn look(table: __m512i, index: __m512i) -> __m512i = _mm512_shuffle_epi8(table, index);
        fn negate(v: __m512i, signs: __m512i, entry: usize) -> __m512i = {
            let bit = _mm512_set1_epi8((0x80u8 >> entry).cast_signed());
            let negative = _mm512_test_epi8_mask(signs, bit);
            _mm512_mask_sub_epi8(v, negative, _mm512_setzero_si512(), v)
        };
        fn add_bytes(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi8(a, b);
        fn add_words(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi16(a, b);
        fn odd(v: __m512i) -> __m512i = _mm512_srli_epi16::<8>(v);
        fn words(v: __m512i, to: &mut [u16; LANES / 2]) =
            _mm512_storeu_si512(to.as_mut_ptr().cast(), v);
        fn prefetch(at: *const u8) = _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }

    fn build<const W: usize>(self, acts: &[i8], out: &mut [Tables]) {
        // SAFETY: `self` proves AVX-512, which includes AVX2.
        unsafe { build::<W>(acts, out) }
    }

    passes!("avx512f,avx512bw", alone 1, several 1);
}

/// Writes the tables of one token; what is missing of the last block is 0.
///
/// # Panics
/// When `out` is shorter than the activations.
#[target_feature(enable = "avx2")]
fn build<const W: usize>(acts: &[i8], out: &mut [Tables]) {
    assert!(out.len() * ENTRIES * W >= acts.len());
    let places = const { weights::<W>() };
    let places: [__m256i; W] = std::array::from_fn(|w| {
        // SAFETY: a place is 32 readable bytes, and the load asks for no alignment.
        unsafe { _mm256_loadu_si256(places[w].as_ptr().cast()) }
    });
    let inverse = _mm256_set1_epi16(INVERSE);
    let scale = _mm256_set1_epi16(SCALE as i16);
    let columns = ENTRIES * W;
    for (block, out) in out.iter_mut().enumerate() {
        let rest = &acts[(block * columns).min(acts.len())..];
        let mut padded = [0i8; ENTRIES * TRIPLETS];
        let taken = rest.len().min(columns);
        padded[..taken].copy_from_slice(&rest[..taken]);
        for (entry, out) in out.iter_mut().enumerate() {
            let act = |w: usize| _mm256_set1_epi16(i16::from(padded[entry * W + w]));
            let mut sum = _mm256_sign_epi16(act(0), places[0]);
            for (w, place) in places.iter().enumerate().skip(1) {
                sum = _mm256_add_epi16(sum, _mm256_sign_epi16(act(w), *place));
            }
            let high = _mm256_mulhrs_epi16(sum, inverse);
            let low = _mm256_sub_epi16(sum, _mm256_mullo_epi16(high, scale));
            // Packing works in halves of the register: the quarters come out as low, high, low, high.
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(low, high));
            // SAFETY: a table is 32 writable bytes, and the store asks for no alignment.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), packed) }
        }
    }
}
