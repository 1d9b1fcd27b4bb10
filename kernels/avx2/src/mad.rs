//! `vpmaddubsw`: unsigned codes times signed activations, neighbouring products added into int16 lanes.
//!
//! One instruction gives at most `2 · 2 · 128 = 512` in magnitude, so an int16 lane holds 64 of them: the sums of clean
//! codes (0..=2) lie in `−32,768..=32,512`. Codes left two bits higher count four times, and a lane holds 16.

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_setzero_si256, _mm256_srai_epi16, _mm256_srli_epi16,
};
use std::ops::Range;

use trit_kernel::{
    Activations, Cpu, GemmArgs, Isa, Kernel, KernelInfo, LayoutId, PaddedToken, Unavailable,
};

use crate::rows::{
    self, BLOCK, BYTES, COLUMN_BLOCK, Method, SCRATCH_BYTES, STREAMS, load, sum_lanes,
};

/// Blocks of a GEMV between flushes: two products a block at four times their value, sixteen fit.
const FLUSH: usize = 8;
/// How far ahead of its reads a GEMV stream asks for its bytes.
const AHEAD: usize = 2048;

/// The proof that AVX2 is there.
#[derive(Clone, Copy)]
struct Mad(());

/// Opens the kernel.
pub(crate) fn open(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(Isa::Avx2)?;
    let kernel = Mad(());
    if rows::probe(&kernel) {
        Ok(Box::new(kernel))
    } else {
        Err(Unavailable::Probe(Isa::Avx2))
    }
}

impl Kernel for Mad {
    fn info(&self) -> &'static KernelInfo {
        &crate::MAD
    }

    fn row_step(&self) -> usize {
        rows::ROW_BLOCK
    }

    fn token_step(&self) -> usize {
        1
    }

    fn prepared_group_bytes(&self, k: usize) -> usize {
        PaddedToken::bytes(LayoutId::I2S.padded_k(k))
    }

    fn prepare(&self, activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]) {
        let padded_k = LayoutId::I2S.padded_k(activations.k());
        PaddedToken::prepare(activations, padded_k, groups, out);
    }

    fn scratch_bytes(&self, _k: usize, _rows: usize, _tokens: usize) -> usize {
        SCRATCH_BYTES
    }

    fn gemm(&self, args: GemmArgs<'_>) {
        rows::gemm(*self, &crate::MAD, args);
    }
}

impl Method for Mad {
    const TILE_ROWS: usize = 2;
    const TILE_TOKENS: usize = 4;

    fn gemv<const R: usize>(self, rows: [&[u8]; R], acts: &[u8]) -> [i32; R] {
        // SAFETY: a `Mad` exists only where `open` saw AVX2.
        unsafe { gemv(rows, acts) }
    }

    fn tile(self, codes: &[&[u8]], acts: &[&[u8]], mut add: impl FnMut(usize, usize, i32)) {
        macro_rules! run {
            ($rows:literal, $tokens:literal) => {{
                let codes: [&[u8]; $rows] = std::array::from_fn(|i| codes[i]);
                let acts: [&[u8]; $tokens] = std::array::from_fn(|i| acts[i]);
                // SAFETY: a `Mad` exists only where `open` saw AVX2.
                let sums = unsafe { tile::<$rows, $tokens>(codes, acts) };
                for (token, sums) in sums.into_iter().enumerate() {
                    for (row, sum) in sums.into_iter().enumerate() {
                        add(row, token, sum);
                    }
                }
            }};
        }
        match (codes.len(), acts.len()) {
            (2, 4) => run!(2, 4),
            (2, 3) => run!(2, 3),
            (2, 2) => run!(2, 2),
            (2, 1) => run!(2, 1),
            (1, 4) => run!(1, 4),
            (1, 3) => run!(1, 3),
            (1, 2) => run!(1, 2),
            (1, 1) => run!(1, 1),
            (rows, tokens) => unreachable!("tile of {rows} rows and {tokens} tokens"),
        }
    }

    fn unpack(self, packed: &[u8], out: &mut [u8]) {
        // SAFETY: a `Mad` exists only where `open` saw AVX2.
        unsafe { rows::unpack(packed, out) }
    }
}

#[target_feature(enable = "avx2")]
fn gemv<const R: usize>(rows: [&[u8]; R], acts: &[u8]) -> [i32; R] {
    let rows = rows.map(|row| row.as_chunks::<BYTES>().0);
    let acts = acts.as_chunks::<BYTES>().0.as_chunks::<4>().0;
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
    sums.map(|sum| sum_lanes(sum))
}

#[target_feature(enable = "avx2")]
fn tile<const R: usize, const T: usize>(codes: [&[u8]; R], acts: [&[u8]; T]) -> [[i32; R]; T] {
    let codes = codes.map(|codes| codes.as_chunks::<BYTES>().0);
    let acts = acts.map(|acts| acts.as_chunks::<BYTES>().0);
    let steps = codes[0].len();
    assert!(steps <= COLUMN_BLOCK / BYTES);
    assert!(codes.iter().all(|codes| codes.len() == steps));
    assert!(acts.iter().all(|acts| acts.len() == steps));
    let mut acc = [[_mm256_setzero_si256(); R]; T];
    for step in 0..steps {
        let w: [__m256i; R] = std::array::from_fn(|r| load(&codes[r][step]));
        for t in 0..T {
            let a = load(&acts[t][step]);
            for r in 0..R {
                acc[t][r] = _mm256_add_epi16(acc[t][r], _mm256_maddubs_epi16(w[r], a));
            }
        }
    }
    let ones = _mm256_set1_epi16(1);
    acc.map(|acc| acc.map(|acc| sum_lanes(_mm256_madd_epi16(acc, ones))))
}

const _: () = assert!(COLUMN_BLOCK.is_multiple_of(BLOCK) && FLUSH * 2 * 4 * 512 <= 32_768);
