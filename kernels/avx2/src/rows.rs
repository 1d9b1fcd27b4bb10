//! What the kernels over I2S rows share: all of [`Kernel`] but the products, which are a [`Method`].
//!
//! # GEMV
//! A few rows at a time share the loads of the activations. Of `n` such rows each is an `n`-th of the call apart, so that
//! each stream runs on through memory, and what is prefetched past the end of a row is the next row of the same stream.
//!
//! # GEMM
//! [`ROW_BLOCK`] rows of at most [`COLUMN_BLOCK`] columns are unpacked once into scratch, at most 32 KiB, and stay near while
//! all tokens pass by, a tile of a few rows and tokens at a time with its sums in registers.

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_add_epi32, _mm_cvtsi128_si32, _mm_prefetch, _mm_shuffle_epi32,
    _mm_storeu_si128, _mm256_and_si256, _mm256_castsi256_si128, _mm256_extracti128_si256,
    _mm256_hadd_epi32, _mm256_loadu_si256, _mm256_set1_epi8, _mm256_srli_epi16,
    _mm256_storeu_si256,
};
use std::ops::Range;

use trit_kernel::{Activations, GemmArgs, Kernel, KernelInfo, LayoutId, PaddedToken, Unavailable};

/// Columns of an I2S block.
pub(crate) const BLOCK: usize = 128;
/// Bytes of an I2S block: one register.
pub(crate) const BYTES: usize = 32;
/// Rows that a GEMV reads at once.
pub(crate) const STREAMS: usize = 3;
/// How far ahead of its reads a GEMV stream asks for its bytes.
pub(crate) const AHEAD: usize = 4096;
/// Rows of a GEMM tile.
pub(crate) const TILE_ROWS: usize = 2;
/// Tokens of a GEMM tile, and most of a panel.
pub(crate) const TOKENS: usize = 6;
/// Rows that are unpacked at once.
const ROW_BLOCK: usize = 16;
/// Most columns that are unpacked at once: 64 registers of codes, after which int16 sums are full.
pub(crate) const COLUMN_BLOCK: usize = 2048;
/// Scratch of a call: the unpacked block.
const SCRATCH_BYTES: usize = ROW_BLOCK * COLUMN_BLOCK;

/// A register of bytes.
pub(crate) type Bytes = [u8; BYTES];
/// Sums of the rows of a panel.
pub(crate) type RowSums = [i32; ROW_BLOCK];

/// What differs between the kernels. A value is the proof that the instruction set is there.
pub(crate) trait Method: Copy + Send + Sync + 'static {
    /// The constant facts.
    const INFO: &'static KernelInfo;

    /// `sums[i] = Σ code · act` of the packed rows `rows[i]` with the activations of one token; there are [`STREAMS`] rows
    /// or one.
    ///
    /// # Panics
    /// When the lengths do not fit.
    fn gemv(self, rows: &[&[Bytes]], acts: &[[Bytes; 4]], sums: &mut [i32]);

    /// `sums[t][r] = Σ code · act` of up to [`ROW_BLOCK`] rows of unpacked codes with 1 to [`TOKENS`] tokens, all of one length,
    /// at most [`COLUMN_BLOCK`].
    ///
    /// # Panics
    /// When the lengths do not fit.
    fn panel(self, codes: &[&[Bytes]], acts: &[&[Bytes]], sums: &mut [RowSums]);

    /// Unpacks blocks of a row into one code a byte, in the order of the columns, and asks for what lies `ahead` bytes behind them.
    ///
    /// # Panics
    /// When `out` has not four registers for each packed one.
    fn unpack(self, packed: &[Bytes], out: &mut [Bytes], ahead: usize);
}

/// Implements [`Method`] by the functions `gemv` and `tile` of the module, in functions with the same `$features`.
macro_rules! method {
    ($name:ident, $info:ident, $features:literal) => {
        impl rows::Method for $name {
            const INFO: &'static trit_kernel::KernelInfo = &crate::$info;

            fn gemv(self, rows: &[&[Bytes]], acts: &[[Bytes; 4]], sums: &mut [i32]) {
                // SAFETY: a value of this type exists only where `open` saw the instruction set.
                unsafe {
                    if let (Ok(rows), Ok(sums)) = (rows.try_into(), (&mut *sums).try_into()) {
                        gemv::<{ rows::STREAMS }>(rows, acts, sums);
                    } else {
                        let sum = (&mut sums[..1]).try_into().expect("one sum");
                        gemv::<1>([rows[0]], acts, sum);
                    }
                }
            }

            fn panel(self, codes: &[&[Bytes]], acts: &[&[Bytes]], sums: &mut [rows::RowSums]) {
                macro_rules! run {
                    ($tokens:literal) => {
                        // SAFETY: as above.
                        unsafe { panel::<$tokens>(codes, std::array::from_fn(|t| acts[t]), sums) }
                    };
                }
                match acts.len() {
                    1 => run!(1),
                    2 => run!(2),
                    3 => run!(3),
                    4 => run!(4),
                    5 => run!(5),
                    6 => run!(6),
                    tokens => unreachable!("panel of {tokens} tokens"),
                }
            }

            fn unpack(self, packed: &[Bytes], out: &mut [Bytes], ahead: usize) {
                // SAFETY: as above; every method has AVX2.
                unsafe { rows::unpack(packed, out, ahead) }
            }
        }

        /// A panel: two rows at a time with all tokens, the sums in registers.
        #[target_feature(enable = $features)]
        fn panel<const T: usize>(
            codes: &[&[Bytes]],
            acts: [&[Bytes]; T],
            sums: &mut [rows::RowSums],
        ) {
            let mut row = 0;
            while row + rows::TILE_ROWS <= codes.len() {
                tile::<{ rows::TILE_ROWS }, T>(
                    std::array::from_fn(|r| codes[row + r]),
                    acts,
                    sums,
                    row,
                );
                row += rows::TILE_ROWS;
            }
            while row < codes.len() {
                tile::<1, T>([codes[row]], acts, sums, row);
                row += 1;
            }
        }
    };
}
pub(crate) use method;

/// A kernel made of a method.
struct Rows<M>(M);

/// The kernel, if a small product comes out right.
pub(crate) fn open<M: Method>(method: M) -> Result<Box<dyn Kernel>, Unavailable> {
    let kernel = Rows(method);
    if trit_kernel::probe(&kernel, 11, 300, 3) {
        Ok(Box::new(kernel))
    } else {
        Err(Unavailable::Probe(M::INFO.isa))
    }
}

impl<M: Method> Kernel for Rows<M> {
    fn info(&self) -> &'static KernelInfo {
        M::INFO
    }

    fn row_step(&self) -> usize {
        ROW_BLOCK
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

    fn gemm(&self, mut args: GemmArgs<'_>) {
        args.check(M::INFO, SCRATCH_BYTES);
        if args.tokens.len() == 1 {
            gemv(self.0, &mut args);
        } else {
            tiled(self.0, &mut args);
        }
    }
}

fn gemv<M: Method>(method: M, args: &mut GemmArgs<'_>) {
    let (bytes, _) = args.weights.bytes().as_chunks();
    let size = LayoutId::I2S.group_bytes(args.weights.k()) / BYTES;
    let row = |row: usize| &bytes[row * size..(row + 1) * size];
    let token = PaddedToken::read(args.prepared, args.tokens.start);
    let acts = &token.acts.as_chunks().0.as_chunks().0[..size];
    let (first, count) = (args.rows.start, args.rows.len());
    let part = count / STREAMS;
    for i in 0..part {
        let mut rows: [&[Bytes]; STREAMS] = [&[]; STREAMS];
        for (s, out) in rows.iter_mut().enumerate() {
            *out = row(first + i + s * part);
        }
        let mut sums = [0; STREAMS];
        method.gemv(&rows, acts, &mut sums);
        for (s, sum) in sums.iter().enumerate() {
            args.out[i + s * part] = sum - token.sum;
        }
    }
    for i in part * STREAMS..count {
        let mut sum = [0];
        method.gemv(&[row(first + i)], acts, &mut sum);
        args.out[i] = sum[0] - token.sum;
    }
}

fn tiled<M: Method>(method: M, args: &mut GemmArgs<'_>) {
    let (bytes, _) = args.weights.bytes().as_chunks::<BYTES>();
    let row_size = LayoutId::I2S.group_bytes(args.weights.k()) / BYTES;
    let k = LayoutId::I2S.padded_k(args.weights.k()) / BYTES;
    let width = args.rows.len();
    for (line, token) in args.tokens.clone().enumerate() {
        let sum = PaddedToken::read(args.prepared, token).sum;
        args.out[line * width..(line + 1) * width].fill(-sum);
    }
    let (scratch, _) = args.scratch.as_chunks_mut::<BYTES>();
    // Column blocks of about the same size, in registers.
    let blocks = k.div_ceil(COLUMN_BLOCK / BYTES);
    let step = row_size.div_ceil(blocks) * 4;
    for rows in chunks(args.rows.clone(), ROW_BLOCK) {
        for columns in chunks(0..k, step) {
            let len = columns.len();
            for (row, out) in rows.clone().zip(scratch.chunks_exact_mut(len)) {
                let packed = &bytes[row * row_size..(row + 1) * row_size];
                let packed = &packed[columns.start / 4..columns.end / 4];
                // The same row of the next block: it is in memory until then.
                method.unpack(packed, out, ROW_BLOCK * row_size * BYTES);
            }
            let mut codes: [&[Bytes]; ROW_BLOCK] = [&[]; ROW_BLOCK];
            for (view, codes) in codes[..rows.len()]
                .iter_mut()
                .zip(scratch.chunks_exact(len))
            {
                *view = codes;
            }
            for tokens in chunks(args.tokens.clone(), TOKENS) {
                let mut acts: [&[Bytes]; TOKENS] = [&[]; TOKENS];
                for (acts, token) in acts.iter_mut().zip(tokens.clone()) {
                    let token = PaddedToken::read(args.prepared, token);
                    *acts = &token.acts.as_chunks().0[columns.clone()];
                }
                let mut sums = [[0; ROW_BLOCK]; TOKENS];
                let sums = &mut sums[..tokens.len()];
                method.panel(&codes[..rows.len()], &acts[..tokens.len()], sums);
                for (sums, token) in sums.iter().zip(tokens) {
                    let at = (token - args.tokens.start) * width + rows.start - args.rows.start;
                    for (out, sum) in args.out[at..at + rows.len()].iter_mut().zip(sums) {
                        *out += sum;
                    }
                }
            }
        }
    }
}

fn chunks(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(step).map(move |at| at..(at + step).min(end))
}

/// Loads a register.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load(bytes: &Bytes) -> __m256i {
    // SAFETY: the reference is to 32 readable bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// [`Method::unpack`] for AVX2.
#[target_feature(enable = "avx2")]
pub(crate) fn unpack(packed: &[Bytes], out: &mut [Bytes], ahead: usize) {
    assert_eq!(packed.len() * 4, out.len());
    let mask = _mm256_set1_epi8(3);
    for (packed, out) in packed.iter().zip(out.as_chunks_mut::<4>().0) {
        _mm_prefetch::<_MM_HINT_T0>(packed.as_ptr().wrapping_add(ahead).cast());
        let w = load(packed);
        let planes = [
            _mm256_srli_epi16::<6>(w),
            _mm256_srli_epi16::<4>(w),
            _mm256_srli_epi16::<2>(w),
            w,
        ];
        for (plane, out) in planes.into_iter().zip(out) {
            // SAFETY: `out` is 32 writable bytes, and the store asks for no alignment.
            unsafe {
                _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_and_si256(plane, mask));
            }
        }
    }
}

/// Writes the sums of a tile: `sums[t][row + r]` is the sum of the lanes of `acc[t][r]`.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store<const R: usize, const T: usize>(
    acc: [[__m256i; R]; T],
    sums: &mut [RowSums],
    row: usize,
) {
    assert!(sums.len() >= T);
    let mut t = 0;
    if R == 2 {
        while t + 2 <= T {
            let [a, b, c, d] =
                sum_lanes4([acc[t][0], acc[t][R - 1], acc[t + 1][0], acc[t + 1][R - 1]]);
            sums[t][row..row + 2].copy_from_slice(&[a, b]);
            sums[t + 1][row..row + 2].copy_from_slice(&[c, d]);
            t += 2;
        }
    }
    while t < T {
        for (acc, sum) in acc[t].iter().zip(&mut sums[t][row..row + R]) {
            *sum = sum_lanes(*acc);
        }
        t += 1;
    }
}

/// The sums of the eight lanes of four registers.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_lanes4(v: [__m256i; 4]) -> [i32; 4] {
    let [a, b, c, d] = v;
    let sums = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let sums = _mm_add_epi32(
        _mm256_castsi256_si128(sums),
        _mm256_extracti128_si256::<1>(sums),
    );
    let mut out = [0; 4];
    // SAFETY: `out` is 16 writable bytes, and the store asks for no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) }
    out
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
