//! 512 bits: a row group is one register.

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm512_add_epi8, _mm512_add_epi16,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_loadu_si512, _mm512_mask_sub_epi8,
    _mm512_set1_epi8, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi16,
    _mm512_storeu_si512, _mm512_test_epi8_mask,
};

use trit_kernel::{Cpu, Isa, Unavailable};

use crate::groups::{Method, STREAMS, checked_blocks};
use crate::tables::{ENTRIES, START, TRIPLETS, Table, Tables, block_bytes, build, widen};
use crate::view::{LANES, Sums};

/// How far ahead of its reads a GEMV asks for its weights.
const AHEAD: usize = 4096;

/// The proof that AVX-512 BW is there.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// Asks the CPU.
    pub(crate) fn detect(cpu: Cpu) -> Result<Self, Unavailable> {
        cpu.check(Isa::Avx512).map(|()| Self(()))
    }
}

impl Method for Avx512 {
    const TOKENS: usize = 4;

    fn build<const W: usize>(self, acts: &[i8], out: &mut [Tables]) {
        // SAFETY: an `Avx512` exists only where `detect` saw AVX-512, which includes AVX2.
        unsafe { build::<W>(acts, out) }
    }

    fn group<const W: usize>(self, weights: &[u8], tokens: &[&[Tables]], sums: &mut [Sums]) {
        let blocks = checked_blocks::<W>(weights, tokens, sums);
        // SAFETY: an `Avx512` exists only where `detect` saw AVX-512, and the lengths were checked.
        unsafe {
            match *tokens {
                [a] => pass::<W, 1, 1>([weights], [a], blocks, sums),
                [a, b] => pass::<W, 2, 1>([weights], [a, b], blocks, sums),
                [a, b, c] => pass::<W, 3, 1>([weights], [a, b, c], blocks, sums),
                [a, b, c, d] => pass::<W, 4, 1>([weights], [a, b, c, d], blocks, sums),
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
        // SAFETY: an `Avx512` exists only where `detect` saw AVX-512, and the lengths were checked.
        unsafe { pass::<W, 1, STREAMS>(weights, [tables], blocks, sums) }
    }
}

/// `G` row groups with `T` tokens.
///
/// # Safety
/// Each of `weights` holds `blocks` blocks, each of `tokens` as many tables, and `sums` has `G · T` elements.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn pass<const W: usize, const T: usize, const G: usize>(
    weights: [&[u8]; G],
    tokens: [&[Tables]; T],
    blocks: usize,
    sums: &mut [Sums],
) {
    let nibble = _mm512_set1_epi8(15);
    let zero = _mm512_setzero_si512();
    let start = _mm512_set1_epi8(START as i8);
    // Indexed by group, token, and lower or upper part.
    let mut all = [[[zero; 2]; T]; G];
    let mut odd = [[[zero; 2]; T]; G];
    for block in 0..blocks {
        for g in 0..G {
            // SAFETY: `block` is below the number of blocks, so a whole block follows.
            let at = unsafe { weights[g].as_ptr().add(block * block_bytes::<W>()) };
            let mut bytes = [[start; 2]; T];
            let signs = if W == TRIPLETS {
                // SAFETY: the fifth 64 bytes of the block.
                unsafe { load(at.add(4 * LANES)) }
            } else {
                zero
            };
            if T == 1 {
                for line in 0..block_bytes::<W>() / 64 {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line * 64).cast());
                }
            }
            for i in 0..ENTRIES / 2 {
                // SAFETY: the `i`-th 64 bytes of the block.
                let packed = unsafe { load(at.add(i * LANES)) };
                for upper in 0..2 {
                    let entry = 2 * i + upper;
                    let index = if upper == 1 {
                        _mm512_srli_epi16::<4>(packed)
                    } else {
                        packed
                    };
                    let index = _mm512_and_si512(index, nibble);
                    let negative =
                        _mm512_test_epi8_mask(signs, _mm512_set1_epi8((0x80 >> entry) as i8));
                    for (t, bytes) in bytes.iter_mut().enumerate() {
                        // SAFETY: `block` is below the number of blocks, and each token has tables for all.
                        let table = unsafe { &tokens[t].get_unchecked(block)[entry] };
                        for (bytes, table) in bytes.iter_mut().zip(split(table)) {
                            let mut found = _mm512_shuffle_epi8(table, index);
                            if W == TRIPLETS {
                                found = _mm512_mask_sub_epi8(found, negative, zero, found);
                            }
                            *bytes = _mm512_add_epi8(*bytes, found);
                        }
                    }
                }
            }
            for t in 0..T {
                for part in 0..2 {
                    let bytes = bytes[t][part];
                    all[g][t][part] = _mm512_add_epi16(all[g][t][part], bytes);
                    odd[g][t][part] =
                        _mm512_add_epi16(odd[g][t][part], _mm512_srli_epi16::<8>(bytes));
                }
            }
        }
    }
    for g in 0..G {
        for t in 0..T {
            let [all, odd] = [all[g][t].map(|v| lanes(v)), odd[g][t].map(|v| lanes(v))];
            widen(
                [&all[0], &all[1]],
                [&odd[0], &odd[1]],
                blocks,
                &mut sums[g * T + t],
            );
        }
    }
}

/// Both halves of a table, each in all quarters of a register.
#[inline]
#[target_feature(enable = "avx512f")]
fn split(table: &Table) -> [__m512i; 2] {
    let (parts, _) = table.as_chunks::<16>();
    [0, 1].map(|part| {
        // SAFETY: a part is 16 readable bytes, and the load asks for no alignment.
        _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(parts[part].as_ptr().cast()) })
    })
}

/// # Safety
/// 64 bytes must be readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(at: *const u8) -> __m512i {
    // SAFETY: the caller's promise; the load asks for no alignment.
    unsafe { _mm512_loadu_si512(at.cast()) }
}

/// The 16-bit lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn lanes(v: __m512i) -> [u16; 32] {
    let mut out = [0; 32];
    // SAFETY: `out` is 64 writable bytes, and the store asks for no alignment.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), v) }
    out
}
