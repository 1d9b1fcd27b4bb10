//! The tables of one token, and how exact sums pass through bytes.
//!
//! A table has 16 entries of one pair or triplet of activations: entry `i` is the sum `s` that index `i` of the layout asks
//! for. `|s| ≤ 3 · 128` needs ten bits and a shuffle gives eight, so `s = 28·h + l` is stored in two halves with
//! `|h| ≤ 14` and `|l| ≤ 14`. Eight entries of a block are added up as bytes, which start at 128 and stay in
//! `128 ± 8·14`; only then are they widened. That is why the split is by 28 and not by 256: two byte additions take the place
//! of two interleavings and two 16-bit additions.

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
/// `s · INVERSE / 2^15`, rounded, is within half a unit of the quotient `s / SCALE`, so that the lower half stays within 14.
pub(crate) const INVERSE: i16 = 1170;
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
pub(crate) const fn weights<const W: usize>() -> [[i16; 16]; W] {
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
    use trit_kernel::Cpu;

    use super::*;
    use crate::nibble::Bytes;

    /// Every activation pair (or the extremes and a spread of triplets) gives tables whose halves are small and add up.
    fn check<B: Bytes, const W: usize>() {
        let Some(b) = B::open(Cpu::uncapped()) else {
            return;
        };
        for x in -128..=127i8 {
            for y in -128..=127i8 {
                let acts = [x, y, if y % 3 == 0 { -128 } else { x ^ 0x55 }];
                let mut out = [[[0; 32]; ENTRIES]];
                b.build::<W>(&acts[..W], &mut out);
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

    #[cfg(target_arch = "x86_64")]
    use crate::x86::Avx2 as Any;

    #[cfg(target_arch = "aarch64")]
    use crate::neon::Neon as Any;

    #[test]
    fn tables_of_pairs_hold_the_sums() {
        check::<Any, PAIRS>();
    }

    #[test]
    fn tables_of_triplets_hold_the_sums() {
        check::<Any, TRIPLETS>();
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
