//! Dot products with rows of blocks: what a block holds becomes sixteen float lanes at a time, without rounding, so that a sum
//! is the one over the numbers the block stands for.

use std::array::from_fn;

use half::f16;

use crate::Blocks;
use crate::lanes::{AHEAD, reduce_all};
use crate::simd::{LANES, Simd};

/// Rows that go through memory side by side, so that one sum does not wait for itself.
const STREAMS: usize = 4;

/// How a block is laid out.
trait Block {
    /// Bytes of one.
    const BYTES: usize;
    /// Vectors of [`LANES`] numbers in one.
    const VECTORS: usize;
    /// Writes the codes of the block of [`Self::BYTES`] bytes, and its scales where it has more than one.
    fn decode<S: Simd>(s: S, block: &[u8], to: &mut Decoded);
    /// What the codes of vector `v` are multiplied with.
    fn scale<S: Simd>(s: S, block: &[u8], decoded: &Decoded, v: usize) -> S::V;
}

/// A block as codes, a vector each, and what those of each vector are multiplied with. It is taken apart as a whole: registers of
/// bytes hold many codes, and the scales of all vectors are two instructions.
struct Decoded {
    codes: [[i8; LANES]; 16],
    scales: [f32; LANES],
}

struct Q4_0;
struct Q6K;

/// All lanes hold the f16 at the beginning of `bytes`: the instruction set's conversion takes sixteen of them.
#[inline(always)]
fn splat_f16<S: Simd>(s: S, bytes: &[u8]) -> S::V {
    s.load_f16(&[f16::from_le_bytes([bytes[0], bytes[1]]); LANES])
}

impl Block for Q4_0 {
    const BYTES: usize = 18;
    const VECTORS: usize = 2;

    #[inline(always)]
    fn decode<S: Simd>(_: S, block: &[u8], to: &mut Decoded) {
        let nibbles: &[u8; 16] = block[2..18].try_into().expect("16 bytes");
        let [low, high, ..] = &mut to.codes;
        for ((low, high), nibbles) in low.iter_mut().zip(high).zip(nibbles) {
            *low = (nibbles & 15) as i8 - 8;
            *high = (nibbles >> 4) as i8 - 8;
        }
    }

    #[inline(always)]
    fn scale<S: Simd>(s: S, block: &[u8], _: &Decoded, _: usize) -> S::V {
        splat_f16(s, block)
    }
}

impl Block for Q6K {
    const BYTES: usize = 210;
    const VECTORS: usize = 16;

    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8], to: &mut Decoded) {
        // Two halves of 128 numbers, each four groups of 32, each two vectors.
        for half in 0..2 {
            let high: &[u8; 32] = block[128 + 32 * half..][..32].try_into().expect("32 bytes");
            for group in 0..4 {
                let low = &block[64 * half + 32 * (group % 2)..][..32];
                let low: &[u8; 32] = low.try_into().expect("32 bytes");
                let mut codes = [0i8; 32];
                for ((code, low), high) in codes.iter_mut().zip(low).zip(high) {
                    let nibble = low >> (4 * (group / 2)) & 15;
                    let bits = high >> (2 * group) & 3;
                    *code = (nibble | bits << 4) as i8 - 32;
                }
                let (codes, _) = codes.as_chunks();
                to.codes[8 * half + 2 * group..][..2].copy_from_slice(codes);
            }
        }
        let mut scales = [0i8; LANES];
        for (scale, byte) in scales.iter_mut().zip(&block[192..208]) {
            *scale = *byte as i8;
        }
        let scales = s.mul(splat_f16(s, &block[208..]), s.load_i8(&scales));
        s.store(scales, &mut to.scales);
    }

    #[inline(always)]
    fn scale<S: Simd>(s: S, _: &[u8], decoded: &Decoded, v: usize) -> S::V {
        s.splat(decoded.scales[v])
    }
}

#[inline(always)]
pub(crate) fn rows_dot<S: Simd>(s: S, weights: Blocks<'_>, x: &[f32], out: &mut [f32]) {
    match weights {
        Blocks::Q4_0(bytes) => rows_dot_of::<S, Q4_0>(s, bytes, x, out),
        Blocks::Q6K(bytes) => rows_dot_of::<S, Q6K>(s, bytes, x, out),
    }
}

#[inline(always)]
fn rows_dot_of<S: Simd, B: Block>(s: S, weights: &[u8], x: &[f32], out: &mut [f32]) {
    assert!(
        x.len().is_multiple_of(B::VECTORS * LANES),
        "rows_dot_blocks: whole blocks"
    );
    let row_bytes = x.len() / (B::VECTORS * LANES) * B::BYTES;
    assert_eq!(
        Some(weights.len()),
        row_bytes.checked_mul(out.len()),
        "rows_dot_blocks: rows x k"
    );
    if x.is_empty() {
        out.fill(0.0);
        return;
    }
    // Each stream goes through its own part of the rows.
    let part = out.len() / STREAMS;
    let row = |row: usize| &weights[row * row_bytes..(row + 1) * row_bytes];
    for at in 0..part {
        let dots = dots::<S, B, STREAMS>(s, from_fn(|r| row(r * part + at)), x);
        for (r, dot) in dots.into_iter().enumerate() {
            out[r * part + at] = dot;
        }
    }
    for at in STREAMS * part..out.len() {
        [out[at]] = dots::<S, B, 1>(s, [row(at)], x);
    }
}

/// The dot products of `R` rows.
#[inline(always)]
fn dots<S: Simd, B: Block, const R: usize>(s: S, rows: [&[u8]; R], x: &[f32]) -> [f32; R] {
    let (x, _) = x.as_chunks::<LANES>();
    let mut sums = [s.splat(0.0); R];
    let mut decoded = [const {
        Decoded {
            codes: [[0; LANES]; 16],
            scales: [0.0; LANES],
        }
    }; R];
    for (i, x) in x.chunks_exact(B::VECTORS).enumerate() {
        let mut blocks: [&[u8]; R] = [&[]; R];
        for r in 0..R {
            blocks[r] = &rows[r][i * B::BYTES..(i + 1) * B::BYTES];
            let mut line = 0;
            while line < B::BYTES {
                s.prefetch(blocks[r].as_ptr().wrapping_add(AHEAD + line));
                line += 64;
            }
            B::decode(s, blocks[r], &mut decoded[r]);
        }
        for (v, x) in x.iter().enumerate() {
            let x = s.load(x);
            for r in 0..R {
                let scale = B::scale(s, blocks[r], &decoded[r], v);
                let w = s.mul(scale, s.load_i8(&decoded[r].codes[v]));
                sums[r] = s.fma(w, x, sums[r]);
            }
        }
    }
    let mut dots = [0.0; R];
    reduce_all(s, &sums, &mut dots);
    dots
}
