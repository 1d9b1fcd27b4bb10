//! The prepared form that most kernels share: one token after the other, padded, with its sum.

use std::ops::Range;

use crate::{Activations, Prepared};

/// One prepared token in the padded form: its activations, zeros up to `padded_k` and to a whole 64-byte line, then a line
/// that begins with their sum as an i32.
///
/// Kernels on unsigned codes need the sum: `Σ code · act − Σ act = Σ weight · act`.
#[derive(Clone, Copy, Debug)]
pub struct PaddedToken<'a> {
    /// The activations with their padding.
    pub acts: &'a [u8],
    /// The sum of the activations.
    pub sum: i32,
}

impl<'a> PaddedToken<'a> {
    /// Bytes of one token whose K is padded to `padded_k`: a multiple of 64.
    pub const fn bytes(padded_k: usize) -> usize {
        padded_k.next_multiple_of(64) + 64
    }

    /// Writes `tokens` into `out`.
    ///
    /// # Panics
    /// When `out` does not hold exactly these tokens.
    pub fn prepare(
        activations: Activations<'_>,
        padded_k: usize,
        tokens: Range<usize>,
        out: &mut [u8],
    ) {
        let k = activations.k();
        let size = Self::bytes(padded_k);
        assert_eq!(out.len(), tokens.len() * size, "prepared size");
        for (token, out) in tokens.zip(out.chunks_exact_mut(size)) {
            let (acts, tail) = out.split_at_mut(size - 64);
            let mut sum = 0i32;
            for (out, act) in acts.iter_mut().zip(activations.row(token)) {
                *out = *act as u8;
                sum += i32::from(*act);
            }
            acts[k..].fill(0);
            tail.fill(0);
            tail[..4].copy_from_slice(&sum.to_ne_bytes());
        }
    }

    /// Reads the token of one prepared group.
    ///
    /// # Panics
    /// When there is no such token.
    pub fn read(prepared: Prepared<'a>, token: usize) -> Self {
        let bytes = prepared.group(token);
        let (acts, tail) = bytes.split_at(bytes.len() - 64);
        Self {
            acts,
            sum: i32::from_ne_bytes([tail[0], tail[1], tail[2], tail[3]]),
        }
    }
}
