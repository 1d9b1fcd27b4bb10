//! What the kernels over I2S rows share: the split of a call into rows and tiles, unpacking, sums across a register.
//!
//! # GEMV
//! [`STREAMS`] rows at a time share the loads of the activations. The rows are a [`STREAMS`]-th of the call apart, so that
//! each stream runs on through memory, and what is prefetched past the end of a row is the next row of the same stream.
//!
//! # GEMM
//! [`ROW_BLOCK`] rows of at most [`COLUMN_BLOCK`] columns are unpacked once into scratch: 16 KiB that stay in L1 while
//! all tokens pass by, a tile of a few rows and tokens at a time with its sums in registers.

use std::arch::x86_64::{
    __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_shuffle_epi32, _mm256_and_si256,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_set1_epi8,
    _mm256_srli_epi16, _mm256_storeu_si256,
};
use std::ops::Range;

use trit_kernel::{
    Activations, AlignedBuf, Codes, GemmArgs, Kernel, KernelInfo, LayoutId, Packed, PaddedToken,
    PreparedBuf, Scales,
};

/// Columns of an I2S block.
pub(crate) const BLOCK: usize = 128;
/// Bytes of an I2S block: one register.
pub(crate) const BYTES: usize = 32;
/// Rows of a GEMV that are read at once.
pub(crate) const STREAMS: usize = 4;
/// Rows that are unpacked at once.
pub(crate) const ROW_BLOCK: usize = 8;
/// Most columns that are unpacked at once: 64 registers of codes, after which int16 sums are full.
pub(crate) const COLUMN_BLOCK: usize = 2048;
/// Scratch of a call: the unpacked block.
pub(crate) const SCRATCH_BYTES: usize = ROW_BLOCK * COLUMN_BLOCK;

/// What differs between the kernels. A value is the proof that the instruction set is there.
pub(crate) trait Method: Copy {
    /// Rows of a GEMM tile.
    const TILE_ROWS: usize;
    /// Tokens of a GEMM tile.
    const TILE_TOKENS: usize;

    /// `Σ code · act` of `R` packed rows with the activations of one token.
    ///
    /// # Panics
    /// When the lengths do not fit.
    fn gemv<const R: usize>(self, rows: [&[u8]; R], acts: &[u8]) -> [i32; R];

    /// `Σ code · act` of up to `TILE_ROWS` rows of unpacked codes with up to `TILE_TOKENS` tokens, all of one length, which
    /// is a multiple of 32 and at most [`COLUMN_BLOCK`]; `add(row, token, sum)` gets each sum.
    ///
    /// # Panics
    /// When the lengths differ.
    fn tile(self, codes: &[&[u8]], acts: &[&[u8]], add: impl FnMut(usize, usize, i32));

    /// Unpacks blocks of a row into one code a byte, in the order of the columns.
    ///
    /// # Panics
    /// When `out` has not four bytes for each packed one.
    fn unpack(self, packed: &[u8], out: &mut [u8]);
}

/// Multiplies.
pub(crate) fn gemm(method: impl Method, info: &KernelInfo, mut args: GemmArgs<'_>) {
    args.check(info, SCRATCH_BYTES);
    if args.tokens.len() == 1 {
        gemv(method, &mut args);
    } else {
        tiled(method, &mut args);
    }
}

fn gemv(method: impl Method, args: &mut GemmArgs<'_>) {
    let bytes = args.weights.bytes();
    let size = LayoutId::I2S.group_bytes(args.weights.k());
    let row = |row: usize| &bytes[row * size..(row + 1) * size];
    let token = PaddedToken::read(args.prepared, args.tokens.start);
    let (first, count) = (args.rows.start, args.rows.len());
    let part = count / STREAMS;
    for i in 0..part {
        let sums = method.gemv::<STREAMS>(
            std::array::from_fn(|s| row(first + i + s * part)),
            token.acts,
        );
        for (s, sum) in sums.into_iter().enumerate() {
            args.out[i + s * part] = sum - token.sum;
        }
    }
    for i in part * STREAMS..count {
        let [sum] = method.gemv([row(first + i)], token.acts);
        args.out[i] = sum - token.sum;
    }
}

fn tiled<M: Method>(method: M, args: &mut GemmArgs<'_>) {
    let bytes = args.weights.bytes();
    let k = LayoutId::I2S.padded_k(args.weights.k());
    let width = args.rows.len();
    for (line, token) in args.tokens.clone().enumerate() {
        let sum = PaddedToken::read(args.prepared, token).sum;
        args.out[line * width..(line + 1) * width].fill(-sum);
    }
    // Column blocks of about the same size.
    let blocks = k.div_ceil(COLUMN_BLOCK);
    let step = (k / BLOCK).div_ceil(blocks) * BLOCK;
    for rows in chunks(args.rows.clone(), ROW_BLOCK) {
        for columns in chunks(0..k, step) {
            let codes = &mut args.scratch[..ROW_BLOCK * columns.len()];
            for (row, out) in rows.clone().zip(codes.chunks_exact_mut(columns.len())) {
                let packed = &bytes[row * k / 4..(row + 1) * k / 4];
                method.unpack(&packed[columns.start / 4..columns.end / 4], out);
            }
            let codes = &*codes;
            for tokens in chunks(args.tokens.clone(), M::TILE_TOKENS) {
                let mut acts: [&[u8]; 8] = [&[]; 8];
                for (acts, token) in acts.iter_mut().zip(tokens.clone()) {
                    *acts = &PaddedToken::read(args.prepared, token).acts[columns.clone()];
                }
                let line = tokens.start - args.tokens.start;
                for tile in chunks(rows.clone(), M::TILE_ROWS) {
                    let mut views: [&[u8]; 8] = [&[]; 8];
                    for (view, row) in views.iter_mut().zip(tile.clone()) {
                        let at = (row - rows.start) * columns.len();
                        *view = &codes[at..at + columns.len()];
                    }
                    let column = tile.start - args.rows.start;
                    method.tile(
                        &views[..tile.len()],
                        &acts[..tokens.len()],
                        |row, token, sum| {
                            args.out[(line + token) * width + column + row] += sum;
                        },
                    );
                }
            }
        }
    }
}

fn chunks(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(step).map(move |at| at..(at + step).min(end))
}

/// Loads 32 bytes.
///
/// # Panics
/// When they are not all there.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load(bytes: &[u8; BYTES]) -> __m256i {
    // SAFETY: the reference is to 32 readable bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// [`Method::unpack`] for AVX2.
#[target_feature(enable = "avx2")]
pub(crate) fn unpack(packed: &[u8], out: &mut [u8]) {
    assert_eq!(packed.len() * 4, out.len());
    let mask = _mm256_set1_epi8(3);
    let (packed, _) = packed.as_chunks::<BYTES>();
    let (out, _) = out.as_chunks_mut::<BLOCK>();
    for (packed, out) in packed.iter().zip(out) {
        let w = load(packed);
        let planes = [
            _mm256_srli_epi16::<6>(w),
            _mm256_srli_epi16::<4>(w),
            _mm256_srli_epi16::<2>(w),
            w,
        ];
        for (plane, out) in planes.into_iter().zip(out.as_chunks_mut::<BYTES>().0) {
            // SAFETY: `out` is 32 writable bytes, and the store asks for no alignment.
            unsafe {
                _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_and_si256(plane, mask));
            }
        }
    }
}

/// The sum of the eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn sum_lanes(v: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two));
    _mm_cvtsi128_si32(one)
}

/// Multiplies one small matrix whose sums are known: row `r` holds `1`, `0` or `−1` throughout, so that its sum is that many
/// times the sum of the activations. False means that the CPU computes something else than its manual says.
pub(crate) fn probe(kernel: &dyn Kernel) -> bool {
    let (rows, k, tokens) = (11, 300, 3);
    let codes: Vec<i8> = (0..rows * k).map(|i| 1 - (i / k % 3) as i8).collect();
    let acts: Vec<i8> = (0..tokens * k)
        .map(|i| (i * 37 % 256) as u8 as i8)
        .collect();
    let packed = Codes::new(&codes, rows, k)
        .and_then(|codes| Packed::pack(codes, LayoutId::I2S, Scales::Tensor(1.0)));
    let Ok(weights) = packed else {
        return false;
    };
    let mut prepared = PreparedBuf::new();
    let prepared = prepared.fill(kernel, Activations::new(&acts, tokens, k));
    let mut scratch = AlignedBuf::zeroed(SCRATCH_BYTES);
    // All tokens at once take the tiles, one token alone takes the GEMV path.
    [0..tokens, 1..2].into_iter().all(|range: Range<usize>| {
        let mut out = vec![0; range.len() * rows];
        kernel.gemm(GemmArgs {
            weights: &weights,
            prepared,
            rows: 0..rows,
            tokens: range.clone(),
            scratch: scratch.bytes_mut(),
            out: &mut out,
        });
        range.zip(out.chunks_exact(rows)).all(|(token, out)| {
            let acts = &acts[token * k..(token + 1) * k];
            let sum: i32 = acts.iter().map(|a| i32::from(*a)).sum();
            let want = |row: usize| sum * (1 - (row % 3) as i32);
            out.iter().enumerate().all(|(row, out)| *out == want(row))
        })
    })
}
