//! `vpmaddubsw`: unsigned codes times signed activations, neighbouring products added into int16 lanes.
//!
//! One instruction gives at most `2 · 2 · 128 = 512` in magnitude, so an int16 lane holds 64 of them: the sums of clean
//! codes (0..=2) lie in `−32,768..=32,512`. Codes left two bits higher count four times, and a lane holds 16.

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_setzero_si256, _mm256_srai_epi16, _mm256_srli_epi16,
};
use trit_kernel::{Cpu, Isa, Kernel, Unavailable};

use crate::rows::{
    self, AHEAD, BLOCK, BYTES, Bytes, COLUMN_BLOCK, RowSums, STREAMS, load, sum_lanes,
};

/// Blocks of a GEMV between flushes: two products a block at four times their value, sixteen fit.
const FLUSH: usize = 8;

/// The proof that AVX2 is there.
#[derive(Clone, Copy)]
struct Mad(());

/// Opens the kernel.
pub(crate) fn open(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(Isa::Avx2)?;
    rows::open(Mad(()))
}

rows::method!(Mad, MAD, "avx2");

#[target_feature(enable = "avx2")]
fn gemv<const R: usize>(rows: [&[Bytes]; R], acts: &[[Bytes; 4]], out: &mut [i32; R]) {
    let blocks = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == blocks) && acts.len() >= blocks);
    let acts = &acts[..blocks];
    let low = _mm256_set1_epi8(0x03);
    let high = _mm256_set1_epi8(0x0c);
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); R];
    let mut start = 0;
    while start < blocks {
        let end = (start + FLUSH).min(blocks);
        let mut once = [_mm256_setzero_si256(); R];
        let mut fourfold = [_mm256_setzero_si256(); R];
        for block in start..end {
            let [a0, a1, a2, a3] = &acts[block];
            let [a0, a1, a2, a3] = [load(a0), load(a1), load(a2), load(a3)];
            for r in 0..R {
                let packed = &rows[r][block];
                if R == STREAMS {
                    _mm_prefetch::<_MM_HINT_T0>(packed.as_ptr().wrapping_add(AHEAD).cast());
                }
                let w = load(packed);
                let up = _mm256_srli_epi16::<4>(w);
                let p0 = _mm256_maddubs_epi16(_mm256_and_si256(up, high), a0);
                let p1 = _mm256_maddubs_epi16(_mm256_and_si256(up, low), a1);
                let p2 = _mm256_maddubs_epi16(_mm256_and_si256(w, high), a2);
                let p3 = _mm256_maddubs_epi16(_mm256_and_si256(w, low), a3);
                fourfold[r] = _mm256_add_epi16(fourfold[r], p0);
                once[r] = _mm256_add_epi16(once[r], p1);
                fourfold[r] = _mm256_add_epi16(fourfold[r], p2);
                once[r] = _mm256_add_epi16(once[r], p3);
            }
        }
        for r in 0..R {
            // Every term of `fourfold` is a multiple of four, and both halves are at most 8,192 now.
            let both = _mm256_add_epi16(once[r], _mm256_srai_epi16::<2>(fourfold[r]));
            sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(both, ones));
        }
        start = end;
    }
    for (sum, out) in sums.into_iter().zip(out) {
        *out = sum_lanes(sum);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn tile<const R: usize, const T: usize>(
    codes: [&[Bytes]; R],
    acts: [&[Bytes]; T],
    sums: &mut [RowSums],
    row: usize,
) {
    let steps = codes[0].len();
    assert!(steps <= COLUMN_BLOCK / BYTES);
    assert!(codes.iter().all(|codes| codes.len() == steps));
    assert!(acts.iter().all(|acts| acts.len() == steps));
    let mut acc = [[_mm256_setzero_si256(); R]; T];
    for step in 0..steps {
        let w: [__m256i; R] = std::array::from_fn(|r| load(&codes[r][step]));
        for (t, acc) in acc.iter_mut().enumerate() {
            let a = load(&acts[t][step]);
            for (acc, w) in acc.iter_mut().zip(w) {
                *acc = _mm256_add_epi16(*acc, _mm256_maddubs_epi16(w, a));
            }
        }
    }
    let ones = _mm256_set1_epi16(1);
    rows::store(
        acc.map(|acc| acc.map(|acc| _mm256_madd_epi16(acc, ones))),
        sums,
        row,
    );
}

const _: () = assert!(COLUMN_BLOCK.is_multiple_of(BLOCK) && FLUSH * 2 * 4 * 512 <= 32_768);
