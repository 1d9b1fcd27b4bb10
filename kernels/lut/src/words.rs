//! Tables read as 16-bit words, on AVX-512 BW: `vpermt2w` gives one of 64 words for 32 rows at once.
//!
//! A table of 128 sums is four registers, so a look-up is two of these instructions, and bit 6 of the index chooses. Sums need no
//! halves; 49 of them are added up before they are widened.
//!
//! 64 bytes of weights cost four `vpermt2w`, two of them for the even rows and two for the odd ones, and twice a mask of bit 6, a
//! blend, a mask of the sign, a masked `vpsubw` and a `vpaddw`.

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_epi16, _mm512_add_epi32, _mm512_castsi512_si256,
    _mm512_cvtepi16_epi32, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_maddubs_epi16,
    _mm512_mask_blend_epi16, _mm512_mask_sub_epi16, _mm512_permutex2var_epi16, _mm512_set1_epi16,
    _mm512_setzero_si512, _mm512_srli_epi16, _mm512_storeu_si512, _mm512_sub_epi16,
    _mm512_test_epi16_mask,
};
use std::hint::black_box;
use std::ops::Range;

use trit_kernel::Isa;

use crate::vbmi::pairs;
use crate::view::{LANES, Sums, View};
use crate::wide::{AHEAD, ENTRIES, Look, Places, QUINTS, RUN, Set, Table, Words, place};

/// Runs whose sums fit a 16-bit lane.
const FLUSH: usize = 7;
const _: () = assert!(FLUSH * RUN * 5 * 128 <= 32_767);

/// A table is the sums in order. Words are the sums of the 32 even rows, then those of the odd ones.
pub(crate) struct Bw;

impl Look for Bw {
    const ISA: Isa = Isa::Avx512;
    /// No bound: the sums are 32 bits wide.
    const MAX_BLOCKS: usize = usize::MAX / RUN * RUN;

    unsafe fn build<const W: usize>(acts: &[i8], out: &mut [Table]) {
        // SAFETY: the caller saw the instruction set.
        unsafe { build::<W>(acts, out) }
    }

    unsafe fn run<const W: usize, const G: usize, const PREFETCH: bool>(
        view: &View<'_>,
        set: &Set,
        columns: &Range<usize>,
        tables: &[Table],
        words: &mut [Words],
    ) {
        // SAFETY: the caller saw the instruction set.
        unsafe { run::<W, G, PREFETCH>(view, set, columns, tables, words) }
    }

    unsafe fn widen<const W: usize>(words: &Words, _blocks: usize) -> Sums {
        let (words, _) = words.as_chunks::<4>();
        std::array::from_fn(|row| i32::from_ne_bytes(words[row % 2 * LANES / 2 + row / 2]))
    }
}

const fn places<const W: usize>() -> [Places; 4] {
    let mut out = [[[0; 64]; 3]; 4];
    let mut entry = 0;
    while entry < ENTRIES {
        place::<W>(&mut out, entry / 32, entry % 32, entry);
        entry += 1;
    }
    out
}

/// [`Look::run`].
#[target_feature(enable = "avx512f,avx512bw")]
fn run<const W: usize, const G: usize, const PREFETCH: bool>(
    view: &View<'_>,
    set: &Set,
    columns: &Range<usize>,
    tables: &[Table],
    words: &mut [Words],
) {
    let weights: [&[u8]; G] =
        std::array::from_fn(|g| view.weights(set.first + g * set.stride, columns));
    assert!(weights.iter().all(|w| w.len() == tables.len() * LANES));
    for (i, tables) in tables.chunks(FLUSH * RUN).enumerate() {
        // Even and odd rows of each group.
        let mut sums = [[_mm512_setzero_si512(); 2]; G];
        for (j, table) in tables.iter().enumerate() {
            let (parts, _) = table.as_chunks::<64>();
            // SAFETY: a part is 64 readable bytes, and the load asks for no alignment.
            let part = |i: usize| unsafe { _mm512_loadu_si512(parts[i].as_ptr().cast()) };
            let table = [part(0), part(1), part(2), part(3)];
            for g in 0..G {
                // SAFETY: each group has 64 bytes a block (checked above). A prefetch may name any address.
                let w = unsafe {
                    let at = weights[g].as_ptr().add((i * FLUSH * RUN + j) * LANES);
                    if PREFETCH {
                        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                    }
                    _mm512_loadu_si512(at.cast())
                };
                let odd = _mm512_srli_epi16::<8>(w);
                // The instruction ignores the bits above the sixth: the even rows need no mask.
                sums[g][0] = _mm512_add_epi16(sums[g][0], look::<W>(table, w));
                sums[g][1] = _mm512_add_epi16(sums[g][1], look::<W>(table, odd));
            }
        }
        let words = black_box(&mut *words);
        for g in 0..G {
            let (parts, _) = words[g * set.stride].as_chunks_mut::<64>();
            for (parts, sums) in parts.chunks_exact_mut(2).zip(sums[g]) {
                let low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sums));
                let high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64::<1>(sums));
                for (part, sums) in parts.iter_mut().zip([low, high]) {
                    // SAFETY: a part is 64 bytes, and neither load nor store asks for alignment.
                    unsafe {
                        let sum = _mm512_add_epi32(_mm512_loadu_si512(part.as_ptr().cast()), sums);
                        _mm512_storeu_si512(part.as_mut_ptr().cast(), sum);
                    }
                }
            }
        }
    }
}

/// The sums that bits 0 to 6 of each word ask for, negated where bit 7 says so.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn look<const W: usize>(table: [__m512i; 4], index: __m512i) -> __m512i {
    let low = _mm512_permutex2var_epi16(table[0], index, table[1]);
    let high = _mm512_permutex2var_epi16(table[2], index, table[3]);
    let upper = _mm512_test_epi16_mask(index, _mm512_set1_epi16(0x40));
    let found = _mm512_mask_blend_epi16(upper, low, high);
    if W == QUINTS {
        let negative = _mm512_test_epi16_mask(index, _mm512_set1_epi16(0x80));
        _mm512_mask_sub_epi16(found, negative, _mm512_setzero_si512(), found)
    } else {
        found
    }
}

/// [`Look::build`].
#[target_feature(enable = "avx512f,avx512bw")]
fn build<const W: usize>(acts: &[i8], out: &mut [Table]) {
    assert!(out.len() * W >= acts.len());
    let places = const { &places::<W>() };
    for (table, out) in out.iter_mut().enumerate() {
        let (pairs, excess) = pairs::<W>(&acts[(table * W).min(acts.len())..]);
        let (parts, _) = out.as_chunks_mut::<64>();
        for (part, places) in parts.iter_mut().zip(places) {
            // Codes are weights plus one.
            let mut sum = _mm512_sub_epi16(_mm512_setzero_si512(), excess);
            for (place, pair) in places.iter().zip(pairs).take(W.div_ceil(2)) {
                // SAFETY: a place is 64 readable bytes, and the load asks for no alignment.
                let codes = unsafe { _mm512_loadu_si512(place.as_ptr().cast()) };
                sum = _mm512_add_epi16(sum, _mm512_maddubs_epi16(codes, pair));
            }
            // SAFETY: a part is 64 writable bytes, and the store asks for no alignment.
            unsafe { _mm512_storeu_si512(part.as_mut_ptr().cast(), sum) }
        }
    }
}
