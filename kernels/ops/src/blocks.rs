//! Dot products with rows of blocks: what a block holds becomes sixteen float lanes at a time, without rounding, so that a sum
//! is the one over the numbers the block stands for.

use std::array::from_fn;

use half::f16;

use crate::Blocks;
use crate::simd::{LANES, Simd};

/// Rows that go through memory side by side, so that one sum does not wait for itself.
const STREAMS: usize = 4;

/// How a block is laid out.
trait Block {
    /// Bytes of one.
    const BYTES: usize;
    /// Vectors of [`LANES`] numbers in one.
    const VECTORS: usize;
    /// The numbers of vector `v` of a block of [`Self::BYTES`] bytes.
    fn load<S: Simd>(s: S, block: &[u8], v: usize) -> S::V;
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
    fn load<S: Simd>(s: S, block: &[u8], v: usize) -> S::V {
        let nibbles: &[u8; 16] = block[2..18].try_into().expect("16 bytes");
        let codes = from_fn(|j| (nibbles[j] >> (4 * v) & 15) as i8 - 8);
        s.mul(splat_f16(s, block), s.load_i8(&codes))
    }
}

impl Block for Q6K {
    const BYTES: usize = 210;
    const VECTORS: usize = 16;

    #[inline(always)]
    fn load<S: Simd>(s: S, block: &[u8], v: usize) -> S::V {
        // Two halves of 128 numbers, each four groups of 32, each two vectors.
        let (half, group, part) = (v / 8, v / 2 % 4, v % 2);
        let low = &block[64 * half + 32 * (group % 2) + 16 * part..][..16];
        let high = &block[128 + 32 * half + 16 * part..][..16];
        let low: &[u8; 16] = low.try_into().expect("16 bytes");
        let high: &[u8; 16] = high.try_into().expect("16 bytes");
        let codes = from_fn(|j| {
            let nibble = low[j] >> (4 * (group / 2)) & 15;
            let bits = high[j] >> (2 * group) & 3;
            (nibble | bits << 4) as i8 - 32
        });
        let scale = f32::from(block[192 + v] as i8);
        let scale = s.mul(splat_f16(s, &block[208..]), s.splat(scale));
        s.mul(scale, s.load_i8(&codes))
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
    for (i, x) in x.chunks_exact(B::VECTORS).enumerate() {
        let blocks: [&[u8]; R] = from_fn(|r| &rows[r][i * B::BYTES..(i + 1) * B::BYTES]);
        for (v, x) in x.iter().enumerate() {
            let x = s.load(x);
            for r in 0..R {
                sums[r] = s.fma(B::load(s, blocks[r], v), x, sums[r]);
            }
        }
    }
    sums.map(|sum| s.reduce(sum))
}
