//! 256 bits: a row group is two registers.

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_add_epi8, _mm256_add_epi16,
    _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sign_epi8,
    _mm256_srli_epi16, _mm256_storeu_si256,
};

use trit_kernel::{Cpu, Isa, Unavailable};

use crate::groups::{Method, STREAMS, checked_blocks};
use crate::tables::{ENTRIES, START, TRIPLETS, Table, Tables, block_bytes, build, widen};
use crate::view::{LANES, Sums};

/// How far ahead of its reads a GEMV asks for its weights.
const AHEAD: usize = 4096;
/// Rows of a register.
const ROWS: usize = 32;
/// Registers of a row group.
const HALVES: usize = LANES / ROWS;

/// The proof that AVX2 is there.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// Asks the CPU.
    pub(crate) fn detect(cpu: Cpu) -> Result<Self, Unavailable> {
        cpu.check(Isa::Avx2).map(|()| Self(()))
    }
}

impl Method for Avx2 {
    const TOKENS: usize = 4;

    fn build<const W: usize>(self, acts: &[i8], out: &mut [Tables]) {
        // SAFETY: an `Avx2` exists only where `detect` saw AVX2.
        unsafe { build::<W>(acts, out) }
    }

    fn group<const W: usize>(self, weights: &[u8], tokens: &[&[Tables]], sums: &mut [Sums]) {
        let blocks = checked_blocks::<W>(weights, tokens, sums);
        // SAFETY: an `Avx2` exists only where `detect` saw AVX2, and the lengths were checked.
        unsafe {
            match *tokens {
                // One token: both halves share its tables.
                [a] => pass::<W, HALVES, 1, 1>([weights], 0, [a], blocks, sums),
                // Several: one half after the other, or the sums would not fit the registers.
                [a, b] => halves::<W, 2>(weights, [a, b], blocks, sums),
                [a, b, c] => halves::<W, 3>(weights, [a, b, c], blocks, sums),
                [a, b, c, d] => halves::<W, 4>(weights, [a, b, c, d], blocks, sums),
                _ => unreachable!("panel of {} tokens", tokens.len()),
            }
        }
    }

    fn streams<const W: usize>(
        self,
        weights: [&[u8]; STREAMS],
        tables: &[Tables],
        sums: &mut [Sums; STREAMS],
    ) {
        let blocks = checked_blocks::<W>(weights[0], &[tables], &sums[..1]);
        assert!(weights.iter().all(|group| group.len() == weights[0].len()));
        // SAFETY: an `Avx2` exists only where `detect` saw AVX2, and the lengths were checked.
        unsafe { pass::<W, HALVES, 1, STREAMS>(weights, 0, [tables], blocks, sums) }
    }
}

/// # Safety
/// As [`pass`].
#[target_feature(enable = "avx2")]
unsafe fn halves<const W: usize, const T: usize>(
    weights: &[u8],
    tokens: [&[Tables]; T],
    blocks: usize,
    sums: &mut [Sums],
) {
    for half in 0..HALVES {
        // SAFETY: the caller's promise.
        unsafe { pass::<W, 1, T, 1>([weights], half, tokens, blocks, sums) }
    }
}

/// The halves `first..first + H` of `G` row groups with `T` tokens.
///
/// # Safety
/// Each of `weights` holds `blocks` blocks, each of `tokens` as many tables, and `sums` has `G · T` elements.
#[target_feature(enable = "avx2")]
unsafe fn pass<const W: usize, const H: usize, const T: usize, const G: usize>(
    weights: [&[u8]; G],
    first: usize,
    tokens: [&[Tables]; T],
    blocks: usize,
    sums: &mut [Sums],
) {
    let nibble = _mm256_set1_epi8(15);
    let ones = _mm256_set1_epi8(1);
    let start = _mm256_set1_epi8(START as i8);
    // Indexed by group, half, token, and lower or upper part.
    let mut all = [[[[_mm256_setzero_si256(); 2]; T]; H]; G];
    let mut odd = [[[[_mm256_setzero_si256(); 2]; T]; H]; G];
    for block in 0..blocks {
        for g in 0..G {
            // SAFETY: `block` is below the number of blocks, so a whole block follows.
            let at = unsafe {
                weights[g]
                    .as_ptr()
                    .add(block * block_bytes::<W>() + first * ROWS)
            };
            let mut bytes = [[[start; 2]; T]; H];
            let mut signs = [ones; H];
            if W == TRIPLETS {
                for (h, signs) in signs.iter_mut().enumerate() {
                    // SAFETY: the fifth 64 bytes of the block, of which this half has 32.
                    *signs = unsafe { load(at.add(4 * LANES + h * ROWS)) };
                }
            }
            if T == 1 {
                for line in 0..block_bytes::<W>() / 64 {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line * 64).cast());
                }
            }
            for i in 0..ENTRIES / 2 {
                let packed: [__m256i; H] = std::array::from_fn(|h| {
                    // SAFETY: the `i`-th 64 bytes of the block, of which this half has 32.
                    unsafe { load(at.add(i * LANES + h * ROWS)) }
                });
                for upper in 0..2 {
                    let index = packed.map(|packed| {
                        let packed = if upper == 1 {
                            _mm256_srli_epi16::<4>(packed)
                        } else {
                            packed
                        };
                        _mm256_and_si256(packed, nibble)
                    });
                    // Bit 7 is the sign of this entry; bit 0 keeps the byte from being zero.
                    let sign = signs.map(|signs| _mm256_or_si256(signs, ones));
                    for t in 0..T {
                        // SAFETY: `block` is below the number of blocks, and each token has tables for all.
                        let table = unsafe { &tokens[t].get_unchecked(block)[2 * i + upper] };
                        for (part, table) in split(table).into_iter().enumerate() {
                            for h in 0..H {
                                let mut found = _mm256_shuffle_epi8(table, index[h]);
                                if W == TRIPLETS {
                                    found = _mm256_sign_epi8(found, sign[h]);
                                }
                                bytes[h][t][part] = _mm256_add_epi8(bytes[h][t][part], found);
                            }
                        }
                    }
                    // The next entry's sign moves up; bits never cross bytes.
                    signs = signs.map(|signs| _mm256_add_epi8(signs, signs));
                }
            }
            for h in 0..H {
                for t in 0..T {
                    for part in 0..2 {
                        let bytes = bytes[h][t][part];
                        all[g][h][t][part] = _mm256_add_epi16(all[g][h][t][part], bytes);
                        odd[g][h][t][part] =
                            _mm256_add_epi16(odd[g][h][t][part], _mm256_srli_epi16::<8>(bytes));
                    }
                }
            }
        }
    }
    for g in 0..G {
        for h in 0..H {
            for t in 0..T {
                let [all, odd] = [
                    all[g][h][t].map(|v| lanes(v)),
                    odd[g][h][t].map(|v| lanes(v)),
                ];
                let rows = (first + h) * ROWS..(first + h + 1) * ROWS;
                widen(
                    [&all[0], &all[1]],
                    [&odd[0], &odd[1]],
                    blocks,
                    &mut sums[g * T + t][rows],
                );
            }
        }
    }
}

/// Both halves of a table, each in both halves of a register.
#[inline]
#[target_feature(enable = "avx2")]
fn split(table: &Table) -> [__m256i; 2] {
    let (parts, _) = table.as_chunks::<16>();
    [0, 1].map(|part| {
        // SAFETY: a part is 16 readable bytes, and the load asks for no alignment.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(parts[part].as_ptr().cast()) })
    })
}

/// # Safety
/// 32 bytes must be readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(at: *const u8) -> __m256i {
    // SAFETY: the caller's promise; the load asks for no alignment.
    unsafe { _mm256_loadu_si256(at.cast()) }
}

/// The 16-bit lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes(v: __m256i) -> [u16; 16] {
    let mut out = [0; 16];
    // SAFETY: `out` is 32 writable bytes, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), v) }
    out
}
