//! `sdot`: every int32 lane adds four products of codes and activations.

use std::arch::aarch64::{int32x4_t, uint8x16_t, vaddvq_s32, vdupq_n_s32};
use std::arch::asm;

use trit_kernel::{Cpu, GemmArgs, Isa, Kernel, KernelInfo, PaddedToken, Prepared, Unavailable};

use crate::planes::{self, BLOCK, BLOCK_BYTES, Body, ROWS};

/// Tokens of a tile: sixteen accumulators of the 32 registers.
const TOKENS: usize = 4;

/// Proof that the CPU has what the kernel needs: made by [`open`] alone.
struct Dot(());

pub(crate) fn open(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(Isa::NeonDot)?;
    planes::open(Dot(()))
}

impl Body for Dot {
    const INFO: &'static KernelInfo = &crate::DOT;

    fn gemm(&self, args: GemmArgs<'_>) {
        let GemmArgs {
            weights,
            prepared,
            rows,
            tokens,
            out,
            ..
        } = args;
        let width = rows.len();
        planes::pieces(rows.clone(), ROWS, |row, whole_rows| {
            planes::pieces(tokens.clone(), TOKENS, |token, whole_tokens| {
                let out = &mut out[(token - tokens.start) * width + row - rows.start..];
                let four = || planes::rows::<ROWS>(weights, row);
                let one = || planes::rows::<1>(weights, row);
                // SAFETY: `self` exists, so `open` saw the dot product instructions.
                unsafe {
                    match (whole_rows, whole_tokens) {
                        (true, true) => tile::<ROWS, TOKENS>(four(), prepared, token, width, out),
                        (true, false) => tile::<ROWS, 1>(four(), prepared, token, width, out),
                        (false, true) => tile::<1, TOKENS>(one(), prepared, token, width, out),
                        (false, false) => tile::<1, 1>(one(), prepared, token, width, out),
                    }
                }
            });
        });
    }
}

/// `acc[i] + Σ_j code[4i + j] · act[4i + j]`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut acc: int32x4_t, code: uint8x16_t, act: uint8x16_t) -> int32x4_t {
    // SAFETY: the instruction is in the features of this function and touches its three registers alone.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {code:v}.16b, {act:v}.16b",
            acc = inout(vreg) acc,
            code = in(vreg) code,
            act = in(vreg) act,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// `R` rows times `T` tokens; row `r` of token `t` goes to `out[t · width + r]`.
#[target_feature(enable = "neon,dotprod")]
fn tile<const R: usize, const T: usize>(
    rows: [&[u8]; R],
    prepared: Prepared<'_>,
    token: usize,
    width: usize,
    out: &mut [i32],
) {
    let tokens: [PaddedToken<'_>; T] =
        std::array::from_fn(|t| PaddedToken::read(prepared, token + t));
    let mut acc: [[int32x4_t; T]; R] = [[vdupq_n_s32(0); T]; R];
    for block in 0..rows[0].len() / BLOCK_BYTES {
        for half in [0, 16] {
            let mut codes = [planes::planes(planes::load(rows[0], block * BLOCK_BYTES + half)); R];
            for r in 1..R {
                codes[r] = planes::planes(planes::load(rows[r], block * BLOCK_BYTES + half));
            }
            for q in 0..4 {
                for t in 0..T {
                    let act = planes::load(tokens[t].acts, block * BLOCK + 32 * q + half);
                    for r in 0..R {
                        acc[r][t] = sdot(acc[r][t], codes[r][q], act);
                    }
                }
            }
        }
    }
    for t in 0..T {
        for r in 0..R {
            out[t * width + r] = vaddvq_s32(acc[r][t]) - tokens[t].sum;
        }
    }
}
