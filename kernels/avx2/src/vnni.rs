//! AVX-VNNI: `vpdpbusd`, four products of unsigned codes and signed activations added into an int32 lane.
//!
//! Codes left two bits higher count four times; they have their own sums, which are divided once at the end. No sum can
//! overflow: `MAX_K` features make at most `2^18 / 32 · 4 · 8 · 128 = 2^25` in a lane.

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi32, _mm256_and_si256,
    _mm256_dpbusd_avx_epi32, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_srai_epi32,
    _mm256_srli_epi16,
};
use std::ops::Range;

use trit_kernel::{
    Activations, Cpu, GemmArgs, Isa, Kernel, KernelInfo, LayoutId, PaddedToken, Unavailable,
};

use crate::rows::{self, BYTES, Method, SCRATCH_BYTES, STREAMS, load, sum_lanes};

/// How far ahead of its reads a GEMV stream asks for its bytes.
const AHEAD: usize = 2048;

/// The proof that AVX-VNNI is there.
#[derive(Clone, Copy)]
struct Vnni(());

/// Opens the kernel.
pub(crate) fn open(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(Isa::AvxVnni)?;
    let kernel = Vnni(());
    if rows::probe(&kernel) {
        Ok(Box::new(kernel))
    } else {
        Err(Unavailable::Probe(Isa::AvxVnni))
    }
}

impl Kernel for Vnni {
    fn info(&self) -> &'static KernelInfo {
        &crate::VNNI
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
        rows::gemm(*self, &crate::VNNI, args);
    }
}

impl Method for Vnni {
    const TILE_ROWS: usize = 2;
    const TILE_TOKENS: usize = 4;

    fn gemv<const R: usize>(self, rows: [&[u8]; R], acts: &[u8]) -> [i32; R] {
        // SAFETY: a `Vnni` exists only where `open` saw AVX-VNNI.
        unsafe { gemv(rows, acts) }
    }

    fn tile(self, codes: &[&[u8]], acts: &[&[u8]], mut add: impl FnMut(usize, usize, i32)) {
        macro_rules! run {
            ($rows:literal, $tokens:literal) => {{
                let codes: [&[u8]; $rows] = std::array::from_fn(|i| codes[i]);
                let acts: [&[u8]; $tokens] = std::array::from_fn(|i| acts[i]);
                // SAFETY: a `Vnni` exists only where `open` saw AVX-VNNI.
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
        // SAFETY: a `Vnni` exists only where `open` saw AVX-VNNI, which includes AVX2.
        unsafe { rows::unpack(packed, out) }
    }
}

#[target_feature(enable = "avx2,avxvnni")]
fn gemv<const R: usize>(rows: [&[u8]; R], acts: &[u8]) -> [i32; R] {
    let rows = rows.map(|row| row.as_chunks::<BYTES>().0);
    let acts = acts.as_chunks::<BYTES>().0.as_chunks::<4>().0;
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
    std::array::from_fn(|r| {
        sum_lanes(_mm256_add_epi32(
            once[r],
            _mm256_srai_epi32::<2>(fourfold[r]),
        ))
    })
}

#[target_feature(enable = "avx2,avxvnni")]
fn tile<const R: usize, const T: usize>(codes: [&[u8]; R], acts: [&[u8]; T]) -> [[i32; R]; T] {
    let codes = codes.map(|codes| codes.as_chunks::<BYTES>().0);
    let acts = acts.map(|acts| acts.as_chunks::<BYTES>().0);
    let steps = codes[0].len();
    assert!(codes.iter().all(|codes| codes.len() == steps));
    assert!(acts.iter().all(|acts| acts.len() == steps));
    let mut acc = [[_mm256_setzero_si256(); R]; T];
    for step in 0..steps {
        let w: [__m256i; R] = std::array::from_fn(|r| load(&codes[r][step]));
        for t in 0..T {
            let a = load(&acts[t][step]);
            for r in 0..R {
                acc[t][r] = _mm256_dpbusd_avx_epi32(acc[t][r], w[r], a);
            }
        }
    }
    acc.map(|acc| acc.map(|acc| sum_lanes(acc)))
}
