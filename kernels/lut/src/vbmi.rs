//! Tables read as bytes, on AVX-512 VBMI: `vpermi2b` gives one of 128 bytes for 64 rows at once.
//!
//! A sum needs eleven bits and is stored in two halves as in [`crate::tables`], `s = S·h + l` with `|h|` and `|l|` at most 18: seven
//! look-ups of each half are added up as bytes before they are widened. The instruction ignores bit 7 of an index: there a quint
//! has its sign.
//!
//! 64 bytes of weights cost two `vpermi2b` and two `vpaddb`, and for the sign a `vpmovb2m` and two masked `vpsubb`.

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_epi8, _mm512_add_epi16, _mm512_loadu_si512,
    _mm512_maddubs_epi16, _mm512_mask_sub_epi8, _mm512_movepi8_mask, _mm512_mulhrs_epi16,
    _mm512_mullo_epi16, _mm512_packs_epi16, _mm512_permutex2var_epi8, _mm512_set1_epi8,
    _mm512_set1_epi16, _mm512_setzero_si512, _mm512_srli_epi16, _mm512_storeu_si512,
    _mm512_sub_epi16,
};
use std::hint::black_box;
use std::ops::Range;

use trit_kernel::Isa;

use crate::view::{LANES, Sums, View};
use crate::wide::{AHEAD, ENTRIES, Look, Places, QUADS, QUINTS, RUN, Set, Table, Words, place};

/// Where the bytes of a run start.
const START: u8 = 128;
/// Largest magnitude of either half.
const LARGEST: i16 = 18;
const _: () = assert!(RUN * LARGEST as usize <= 127);

/// What the upper half counts.
const fn scale<const W: usize>() -> i32 {
    if W == QUADS { 32 } else { 36 }
}

/// A table is the lower halves of the sums, then the upper ones. Words are the sums of the bytes of all runs, 32 each: of the lower
/// halves both rows of a word together, modulo 2^16, and the odd row alone, then the same of the upper halves.
pub(crate) struct Vbmi;

impl Look for Vbmi {
    const ISA: Isa = Isa::Avx512Vbmi;
    const MAX_BLOCKS: usize = 65_535 / 255 * RUN;

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

    unsafe fn widen<const W: usize>(words: &Words, blocks: usize) -> Sums {
        // SAFETY: the caller saw the instruction set.
        unsafe { widen::<W>(words, blocks) }
    }
}

/// Codes in the order in which `vpackswb` of registers 0 and 1, 2 and 3 gives the entries in order.
const fn places<const W: usize>() -> [Places; 4] {
    let mut out = [[[0; 64]; 3]; 4];
    let mut entry = 0;
    while entry < ENTRIES {
        let (half, lane, at) = (entry / 64, entry % 64 / 16, entry % 16);
        place::<W>(&mut out, 2 * half + at / 8, 8 * lane + at % 8, entry);
        entry += 1;
    }
    out
}

/// [`Look::run`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
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
    // Slices, not arrays: a loop of known length would be unrolled, and all its tables loaded first and spilled.
    for (i, run) in tables.chunks(RUN).enumerate() {
        let mut bytes = [[_mm512_set1_epi8(START as i8); 2]; G];
        for (j, table) in run.iter().enumerate() {
            let table = load(table);
            for g in 0..G {
                // SAFETY: each group has 64 bytes a block (checked above). A prefetch may name any address.
                let w = unsafe {
                    let at = weights[g].as_ptr().add((i * RUN + j) * LANES);
                    if PREFETCH {
                        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                    }
                    _mm512_loadu_si512(at.cast())
                };
                let negative = _mm512_movepi8_mask(w);
                for half in 0..2 {
                    let [low, high] = table[half];
                    let mut found = _mm512_permutex2var_epi8(low, w, high);
                    if W == QUINTS {
                        let zero = _mm512_setzero_si512();
                        found = _mm512_mask_sub_epi8(found, negative, zero, found);
                    }
                    bytes[g][half] = _mm512_add_epi8(bytes[g][half], found);
                }
            }
        }
        // In memory, for the compiler would keep half of them in registers and move the other half around.
        let words = black_box(&mut *words);
        for g in 0..G {
            let (parts, _) = words[g * set.stride].as_chunks_mut::<64>();
            for half in 0..2 {
                let bytes = bytes[g][half];
                let odd = _mm512_srli_epi16::<8>(bytes);
                for (part, bytes) in [(0, bytes), (1, odd)] {
                    let part = parts[2 * half + part].as_mut_ptr();
                    // SAFETY: a part is 64 bytes, and neither load nor store asks for alignment.
                    unsafe {
                        let sum = _mm512_add_epi16(_mm512_loadu_si512(part.cast()), bytes);
                        _mm512_storeu_si512(part.cast(), sum);
                    }
                }
            }
        }
    }
}

/// [`Look::widen`].
#[target_feature(enable = "avx512f,avx512bw")]
fn widen<const W: usize>(words: &Words, blocks: usize) -> Sums {
    let bias = (blocks / RUN) as i32 * i32::from(START) * (1 + scale::<W>());
    let (words, _) = words.as_chunks::<2>();
    let word = |part: usize, p: usize| u16::from_le_bytes(words[part * LANES / 2 + p]);
    let mut sums = [0; LANES];
    let (pairs, _) = sums.as_chunks_mut::<2>();
    for (p, [first, second]) in pairs.iter_mut().enumerate() {
        let odd = [word(1, p), word(3, p)];
        let even = [word(0, p), word(2, p)];
        let even: [_; 2] = std::array::from_fn(|half| even[half].wrapping_sub(odd[half] << 8));
        let sum = |[low, high]: [u16; 2]| i32::from(low) + scale::<W>() * i32::from(high) - bias;
        (*first, *second) = (sum(even), sum(odd));
    }
    sums
}

/// Lower and upper halves, two registers each.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(table: &Table) -> [[__m512i; 2]; 2] {
    let (parts, _) = table.as_chunks::<64>();
    [[0, 1], [2, 3]].map(|half| {
        half.map(|part| {
            // SAFETY: a part is 64 readable bytes, and the load asks for no alignment.
            unsafe { _mm512_loadu_si512(parts[part].as_ptr().cast()) }
        })
    })
}

/// [`Look::build`].
#[target_feature(enable = "avx512f,avx512bw")]
fn build<const W: usize>(acts: &[i8], out: &mut [Table]) {
    assert!(out.len() * W >= acts.len());
    let places = const { &places::<W>() };
    // `mulhrs` rounds `s · n / 2^15`; with n next to `2^15 / S` that is within half a unit of `s / S`.
    let inverse = _mm512_set1_epi16(((1 << 15) / scale::<W>()) as i16);
    let scale = _mm512_set1_epi16(scale::<W>() as i16);
    for (table, out) in out.iter_mut().enumerate() {
        let (pairs, excess) = pairs::<W>(&acts[(table * W).min(acts.len())..]);
        let halves: [[__m512i; 2]; 4] = std::array::from_fn(|register| {
            let mut sum = _mm512_sub_epi16(_mm512_setzero_si512(), excess);
            for p in 0..W.div_ceil(2) {
                // SAFETY: a place is 64 readable bytes, and the load asks for no alignment.
                let codes = unsafe { _mm512_loadu_si512(places[register][p].as_ptr().cast()) };
                sum = _mm512_add_epi16(sum, _mm512_maddubs_epi16(codes, pairs[p]));
            }
            let high = _mm512_mulhrs_epi16(sum, inverse);
            [_mm512_sub_epi16(sum, _mm512_mullo_epi16(high, scale)), high]
        });
        let (parts, _) = out.as_chunks_mut::<64>();
        for (i, part) in parts.iter_mut().enumerate() {
            let (half, first) = (i / 2, i % 2 * 2);
            let packed = _mm512_packs_epi16(halves[first][half], halves[first + 1][half]);
            // SAFETY: a part is 64 writable bytes, and the store asks for no alignment.
            unsafe { _mm512_storeu_si512(part.as_mut_ptr().cast(), packed) }
        }
    }
}

/// The first `W` activations in pairs, each pair in every word, and their sum in every word.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn pairs<const W: usize>(rest: &[i8]) -> ([__m512i; 3], __m512i) {
    // A whole word is read where there is one: its bytes need not meet in memory first.
    let word = rest.first_chunk::<8>().map_or_else(
        || {
            let byte = |w: usize| rest.get(w).map_or(0, |act| act.cast_unsigned());
            u64::from_le_bytes(std::array::from_fn(byte))
        },
        |bytes| u64::from_le_bytes(bytes.map(i8::cast_unsigned)),
    );
    let word = word & (u64::MAX >> (64 - 8 * W));
    let pairs = [0, 16, 32].map(|shift| _mm512_set1_epi16((word >> shift) as i16));
    let excess = pairs
        .map(|pair| _mm512_maddubs_epi16(_mm512_set1_epi8(1), pair))
        .into_iter()
        .fold(_mm512_setzero_si512(), |sum, v| _mm512_add_epi16(sum, v));
    (pairs, excess)
}

#[cfg(test)]
mod tests {
    use trit_kernel::Cpu;

    use super::*;
    use crate::wide::code;

    /// The halves are small and add up, for activations that reach every sum and for the extremes.
    fn check<const W: usize>() {
        if !Cpu::uncapped().has(Isa::Avx512) {
            return;
        }
        for a in -128..=127i8 {
            for b in [-128, -1, 0, 1, 127, a ^ 0x2a] {
                let acts = [a, b, a.wrapping_mul(3), -128, b ^ 0x55];
                let mut out = [[0; 256]; 2];
                // SAFETY: the CPU reports AVX-512.
                unsafe { build::<W>(&acts[..W], &mut out) }
                let table = out[0].map(u8::cast_signed).map(i16::from);
                for index in 0..ENTRIES {
                    let (low, high) = (table[index], table[ENTRIES + index]);
                    assert!(low.abs() <= LARGEST && high.abs() <= LARGEST);
                    let want: i16 = (0..W)
                        .map(|w| i16::from(acts[w]) * (i16::from(code::<W>(index, w)) - 1))
                        .sum();
                    assert_eq!(low + scale::<W>() as i16 * high, want, "{acts:?} {index}");
                }
                assert_eq!(out[1], [0; 256], "no activations are zeros");
            }
        }
    }

    #[test]
    fn tables_of_quads_hold_the_sums() {
        check::<QUADS>();
    }

    #[test]
    fn tables_of_quints_hold_the_sums() {
        check::<QUINTS>();
    }
}
