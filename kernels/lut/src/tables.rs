//! The tables of one token, and how exact sums pass through bytes.
//!
//! A table has 16 entries of one pair or triplet of activations: entry `i` is the sum `s` that index `i` of the layout asks
//! for. `|s| ≤ 3 · 128` needs ten bits and a shuffle gives eight, so `s = 28·h + l` is stored in two halves with
//! `|h| ≤ 14` and `|l| ≤ 14`. Eight entries of a block are added up as bytes, which start at 128 and stay in
//! `128 ± 8·14`; only then are they widened. That is why the split is by 28 and not by 256: two byte additions take the place
//! of two interleavings and two 16-bit additions.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi16, _mm256_loadu_si256, _mm256_mulhrs_epi16, _mm256_mullo_epi16,
    _mm256_packs_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi16, _mm256_sign_epi16,
    _mm256_storeu_si256, _mm256_sub_epi16,
};

use trit_kernel::LayoutId;

use crate::view::LANES;

/// Weights of an index, for pairs.
pub(crate) const PAIRS: usize = 2;
/// Weights of an index, for triplets.
pub(crate) const TRIPLETS: usize = 3;
/// Indices of a row in a block: after so many the bytes are widened.
pub(crate) const ENTRIES: usize = 8;
/// What the upper half counts.
pub(crate) const SCALE: i32 = 28;
/// Where the bytes of a block start.
pub(crate) const START: u8 = 128;
/// Largest magnitude of either half.
const LARGEST: i16 = 14;
const _: () = assert!(ENTRIES * LARGEST as usize <= 127);
/// Most blocks whose bytes fit a 16-bit sum.
pub(crate) const MAX_BLOCKS: usize = 65_535 / 255;

/// The lower and the upper halves of 16 sums.
pub(crate) type Table = [u8; 32];
/// The tables of one block.
pub(crate) type Tables = [Table; ENTRIES];

/// The layout for indices of `W` weights.
pub(crate) const fn layout<const W: usize>() -> LayoutId {
    if W == PAIRS {
        LayoutId::L2R64
    } else {
        LayoutId::L3R64
    }
}

/// Bytes of a block of a row group: four of indices a row, and one of signs for triplets.
pub(crate) const fn block_bytes<const W: usize>() -> usize {
    if W == PAIRS { 4 * LANES } else { 5 * LANES }
}

/// The weight at place `w` of index `index`: what the layouts mean, in one line each.
const fn weight<const W: usize>(index: usize, w: usize) -> i16 {
    if W == PAIRS {
        // 3·u0 + u1
        let digits = [index / 3, index % 3];
        if index < 9 { digits[w] as i16 - 1 } else { 0 }
    } else {
        // 9·w0 + 3·w1 + w2, not negative
        let shifted = index + 13;
        let digits = [shifted / 9, shifted / 3 % 3, shifted % 3];
        if index < 14 { digits[w] as i16 - 1 } else { 0 }
    }
}

/// The weights of all indices at each place.
const fn weights<const W: usize>() -> [[i16; 16]; W] {
    let mut out = [[0; 16]; W];
    let mut w = 0;
    while w < W {
        let mut index = 0;
        while index < 16 {
            out[w][index] = weight::<W>(index, w);
            index += 1;
        }
        w += 1;
    }
    out
}

/// Writes the tables of one token; what is missing of the last block is 0.
///
/// # Panics
/// When `out` is shorter than the activations.
#[target_feature(enable = "avx2")]
pub(crate) fn build<const W: usize>(acts: &[i8], out: &mut [Tables]) {
    assert!(out.len() * ENTRIES * W >= acts.len());
    let places = const { weights::<W>() };
    let places: [__m256i; W] = std::array::from_fn(|w| {
        // SAFETY: a place is 32 readable bytes, and the load asks for no alignment.
        unsafe { _mm256_loadu_si256(places[w].as_ptr().cast()) }
    });
    // `mulhrs` rounds `s · 1170 / 2^15`, that is `s / 28.007`: within half a unit of the quotient, so `|l| ≤ 14`.
    let inverse = _mm256_set1_epi16(1170);
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

/// Adds the widened sums of `blocks` blocks to `sums`.
///
/// `all[p]` is the sum, modulo 2^16, of the bytes of rows `2p` and `2p + 1` read as one number; `odd[p]` that of row `2p + 1`
/// alone. `lanes` are first the lower, then the upper halves.
#[inline]
pub(crate) fn widen(all: [&[u16]; 2], odd: [&[u16]; 2], blocks: usize, sums: &mut [i32]) {
    let bias = blocks as i32 * i32::from(START) * (1 + SCALE);
    let pairs = sums.as_chunks_mut::<2>().0;
    assert!(
        all.iter()
            .chain(&odd)
            .all(|lanes| lanes.len() == pairs.len())
    );
    for (p, [first, second]) in pairs.iter_mut().enumerate() {
        let even = |half: usize| i32::from(all[half][p].wrapping_sub(odd[half][p] << 8));
        *first += even(0) + SCALE * even(1) - bias;
        *second += i32::from(odd[0][p]) + SCALE * i32::from(odd[1][p]) - bias;
    }
}

#[cfg(test)]
mod tests {
    use trit_kernel::{Cpu, Isa};

    use super::*;

    /// Every activation pair (or the extremes and a spread of triplets) gives tables whose halves are small and add up.
    fn check<const W: usize>() {
        if !Cpu::uncapped().has(Isa::Avx2) {
            return;
        }
        for a in -128..=127i8 {
            for b in -128..=127i8 {
                let acts = [a, b, if b % 3 == 0 { -128 } else { a ^ 0x55 }];
                let mut out = [[[0; 32]; ENTRIES]];
                // SAFETY: the CPU reports AVX2.
                unsafe { build::<W>(&acts[..W], &mut out) }
                let table = out[0][0].map(|byte| i16::from(byte as i8));
                for index in 0..16 {
                    let (low, high) = (table[index], table[16 + index]);
                    assert!(low.abs() <= LARGEST && high.abs() <= LARGEST);
                    let want: i16 = (0..W)
                        .map(|w| i16::from(acts[w]) * weight::<W>(index, w))
                        .sum();
                    assert_eq!(low + SCALE as i16 * high, want, "{acts:?} {index}");
                }
                assert_eq!(out[0][1..], [[0; 32]; ENTRIES - 1]);
            }
        }
    }

    #[test]
    fn tables_of_pairs_hold_the_sums() {
        check::<PAIRS>();
    }

    #[test]
    fn tables_of_triplets_hold_the_sums() {
        check::<TRIPLETS>();
    }

    #[test]
    fn the_largest_sums_are_widened_exactly() {
        for (even, odd) in [(16u8, 240u8), (240, 16), (255, 255), (0, 255), (128, 128)] {
            let blocks = MAX_BLOCKS;
            let word = u16::from(even) + 256 * u16::from(odd);
            let all = word.wrapping_mul(blocks as u16);
            let odds = u16::from(odd) * blocks as u16;
            let mut sums = [5, 7];
            widen([&[all], &[all]], [&[odds], &[odds]], blocks, &mut sums);
            let want = |byte: u8| (i32::from(byte) - 128) * blocks as i32 * (1 + SCALE);
            assert_eq!(sums, [5 + want(even), 7 + want(odd)]);
        }
    }
}
