//! AVX-VNNI: `vpdpbusd`, four products of unsigned codes and signed activations added into an int32 lane.
//!
//! Codes left two bits higher count four times; they have their own sums, which are divided once at the end. No sum can
//! overflow: `MAX_K` features make at most `2^18 / 32 · 4 · 8 · 128 = 2^25` in a lane.

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi32, _mm256_and_si256,
    _mm256_dpbusd_avx_epi32, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_srai_epi32,
    _mm256_srli_epi16,
};
use trit_kernel::{Cpu, Isa, Kernel, Unavailable};

use crate::rows::{self, AHEAD, BYTES, Bytes, COLUMN_BLOCK, RowSums, STREAMS, load, sum_lanes};

/// The proof that AVX-VNNI is there.
#[derive(Clone, Copy)]
struct Vnni(());

/// Opens the kernel.
pub(crate) fn open(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(Isa::AvxVnni)?;
    rows::open(Vnni(()))
}

rows::method!(Vnni, VNNI, "avx2,avxvnni");

#[target_feature(enable = "avx2,avxvnni")]
fn gemv<const R: usize>(rows: [&[Bytes]; R], acts: &[[Bytes; 4]], out: &mut [i32; R]) {
    let blocks = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == blocks) && acts.len() >= blocks);
    let acts = &acts[..blocks];
    let low = _mm256_set1_epi8(0x03);
    let high = _mm256_set1_epi8(0x0c);
    let mut once = [_mm256_setzero_si256(); R];
    let mut fourfold = [_mm256_setzero_si256(); R];
    for block in 0..blocks {
        let [a0, a1, a2, a3] = &acts[block];
        let [a0, a1, a2, a3] = [load(a0), load(a1), load(a2), load(a3)];
        for r in 0..R {
            let packed = &rows[r][block];
            if R == STREAMS {
                _mm_prefetch::<_MM_HINT_T0>(packed.as_ptr().wrapping_add(AHEAD).cast());
            }
            let w = load(packed);
            let up = _mm256_srli_epi16::<4>(w);
            fourfold[r] = _mm256_dpbusd_avx_epi32(fourfold[r], _mm256_and_si256(up, high), a0);
            once[r] = _mm256_dpbusd_avx_epi32(once[r], _mm256_and_si256(up, low), a1);
            fourfold[r] = _mm256_dpbusd_avx_epi32(fourfold[r], _mm256_and_si256(w, high), a2);
            once[r] = _mm256_dpbusd_avx_epi32(once[r], _mm256_and_si256(w, low), a3);
        }
    }
    for r in 0..R {
        out[r] = sum_lanes(_mm256_add_epi32(
            once[r],
            _mm256_srai_epi32::<2>(fourfold[r]),
        ));
    }
}

#[inline]
#[target_feature(enable = "avx2,avxvnni")]
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
                *acc = _mm256_dpbusd_avx_epi32(*acc, w, a);
            }
        }
    }

    rows::store(acc, sums, row);
}
