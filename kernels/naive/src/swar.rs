//! Four products and their sum in one 64-bit multiplication.
//!
//! With `X = 2^16`, write the four weights of a packed byte as the number `W = w0·X³ + w1·X² + w2·X + w3` and their
//! activations as `A = a0 + a1·X + a2·X² + a3·X³`. The coefficient of `X³` in `W·A` is `w0·a0 + w1·a1 + w2·a2 + w3·a3`;
//! what lies above falls off the word. Products are added up before the coefficient is read: over the 32 bytes of an
//! I2S block no coefficient leaves the 16 bits it has, since `4 · 32 · 128 = 2^14`. `W` is one look-up in a table of
//! 256 words, indexed by the packed byte as it is.

use std::iter::zip;
use std::ops::Range;

use trit_kernel::{Activations, GemmArgs, Kernel, KernelInfo, LayoutId};

/// Columns of an I2S block, and bytes that hold them.
const BLOCK: usize = 128;
const BYTES: usize = 32;
/// Bytes of an activation word.
const WORD: usize = 8;

/// `W` for every packed byte. Code 3 does not occur; it counts as 2.
static WORDS: [u64; 256] = words();

const fn words() -> [u64; 256] {
    let mut out = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut plane = 0;
        while plane < 4 {
            // Plane 0 is at bits 7 and 6 and gets the highest power.
            let code = (byte >> (6 - 2 * plane)) as i64 & 3;
            let weight = code - 1;
            out[byte] = u64::wrapping_add(out[byte], (weight << (48 - 16 * plane)) as u64);
            plane += 1;
        }
        byte += 1;
    }
    out
}

/// The coefficient of `X³`: what is below it has a magnitude under `X³ / 2`, so rounding takes it away.
fn coefficient(sum: u64) -> i32 {
    (sum.wrapping_add(1 << 47) as i64 >> 48) as i32
}

pub(crate) struct Swar;

impl Swar {
    /// Sums of `S` rows of one token: the rows share the activation words.
    fn rows<const S: usize>(weights: [&[u8]; S], token: &[u8]) -> [i32; S] {
        let mut sums = [0; S];
        let (activations, _) = token.as_chunks::<WORD>();
        let (activations, _) = activations.as_chunks::<BYTES>();
        let weights = weights.map(|row| row.as_chunks::<BYTES>().0);
        for (block, activations) in activations.iter().enumerate() {
            let mut acc = [0u64; S];
            let rows = weights.map(|row| &row[block]);
            for (p, a) in activations.iter().enumerate() {
                let a = u64::from_ne_bytes(*a);
                for s in 0..S {
                    let w = WORDS[usize::from(rows[s][p])];
                    acc[s] = acc[s].wrapping_add(w.wrapping_mul(a));
                }
            }
            for s in 0..S {
                sums[s] += coefficient(acc[s]);
            }
        }
        sums
    }

    /// Sums of `T` tokens of one row: the tokens share the words of the weights.
    fn tokens<const T: usize>(weights: &[u8], tokens: [&[u8]; T]) -> [i32; T] {
        let mut sums = [0; T];
        let (weights, _) = weights.as_chunks::<BYTES>();
        let tokens = tokens.map(|token| token.as_chunks::<WORD>().0.as_chunks::<BYTES>().0);
        for (block, weights) in weights.iter().enumerate() {
            let mut acc = [0u64; T];
            let activations = tokens.map(|token| &token[block]);
            for (p, byte) in weights.iter().enumerate() {
                let w = WORDS[usize::from(*byte)];
                for t in 0..T {
                    acc[t] =
                        acc[t].wrapping_add(w.wrapping_mul(u64::from_ne_bytes(activations[t][p])));
                }
            }
            for t in 0..T {
                sums[t] += coefficient(acc[t]);
            }
        }
        sums
    }
}

impl Kernel for Swar {
    fn info(&self) -> &'static KernelInfo {
        &crate::SWAR
    }

    fn row_step(&self) -> usize {
        2
    }

    fn token_step(&self) -> usize {
        1
    }

    /// A word for every four activations, in the order of the packed bytes.
    fn prepared_group_bytes(&self, k: usize) -> usize {
        LayoutId::I2S.padded_k(k) / 4 * WORD
    }

    fn prepare(&self, activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]) {
        let bytes = self.prepared_group_bytes(activations.k());
        assert_eq!(out.len(), groups.len() * bytes, "prepared size");
        for (token, out) in zip(groups, out.chunks_exact_mut(bytes)) {
            let row = activations.row(token);
            let blocks = zip(row.chunks(BLOCK), out.chunks_exact_mut(BYTES * WORD));
            for (values, out) in blocks {
                let (words, _) = out.as_chunks_mut::<WORD>();
                for (p, out) in words.iter_mut().enumerate() {
                    let mut word = 0u64;
                    for plane in 0..4 {
                        let value = values.get(32 * plane + p).copied().unwrap_or(0);
                        word = word.wrapping_add((i64::from(value) << (16 * plane)) as u64);
                    }
                    *out = word.to_ne_bytes();
                }
            }
        }
    }

    fn scratch_bytes(&self, _k: usize, _rows: usize, _tokens: usize) -> usize {
        0
    }

    fn gemm(&self, args: GemmArgs<'_>) {
        args.check(&crate::SWAR, 0);
        let row_bytes = LayoutId::I2S.group_bytes(args.weights.k());
        let bytes = args.weights.bytes();
        let weights = |row: usize| &bytes[row * row_bytes..(row + 1) * row_bytes];
        let token = |token: usize| args.prepared.group(token);
        let (rows, tokens) = (args.rows, args.tokens);
        let width = rows.len();
        for (column, row) in rows.clone().enumerate() {
            let mut t = 0;
            while t + 4 <= tokens.len() {
                let first = tokens.start + t;
                let sums =
                    Self::tokens::<4>(weights(row), std::array::from_fn(|i| token(first + i)));
                for (i, sum) in sums.into_iter().enumerate() {
                    args.out[(t + i) * width + column] = sum;
                }
                t += 4;
            }
        }
        for t in tokens.len() / 4 * 4..tokens.len() {
            let out = &mut args.out[t * width..(t + 1) * width];
            let token = token(tokens.start + t);
            let mut row = 0;
            while row + 2 <= width {
                let first = rows.start + row;
                out[row..row + 2]
                    .copy_from_slice(&Self::rows([weights(first), weights(first + 1)], token));
                row += 2;
            }
            if row < width {
                [out[row]] = Self::rows([weights(rows.start + row)], token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_block_fits_its_coefficients() {
        for (byte, value) in [(0xAAu8, -128i64), (0x00, -128), (0xAA, 127), (0x82, -128)] {
            let a: u64 = (0..4).fold(0, |a, plane| a.wrapping_add((value << (16 * plane)) as u64));
            let sum = (0..32).fold(0u64, |sum, _| {
                sum.wrapping_add(WORDS[usize::from(byte)].wrapping_mul(a))
            });
            let weights: i64 = (0..4)
                .map(|plane| i64::from(byte >> (2 * plane) & 3) - 1)
                .sum();
            assert_eq!(i64::from(coefficient(sum)), 32 * weights * value);
        }
    }
}
