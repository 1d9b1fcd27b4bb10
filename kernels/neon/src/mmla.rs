//! `smmla`: 2 rows x 8 columns times 8 columns x 2 tokens into a 2 x 2 tile of int32.
//!
//! Activations are prepared in pairs of tokens, eight columns of one and eight of the other in turn, so that a register
//! of them is the second operand. The first operand joins the lower or upper halves of two rows' codes.

use std::arch::aarch64::{
    int32x4_t, uint8x16_t, vaddq_s32, vdupq_n_s32, vgetq_lane_s32, vreinterpretq_u8_u64,
    vreinterpretq_u64_u8, vzip1q_u64, vzip2q_u64,
};
use std::arch::asm;
use std::ops::Range;

use trit_kernel::{
    Activations, Cpu, GemmArgs, Isa, Kernel, KernelInfo, LayoutId, Prepared, Unavailable,
};

use crate::planes::{self, BLOCK, BLOCK_BYTES, Body, ROWS};

/// Proof that the CPU has what the kernel needs: made by [`open`] alone.
struct Mmla(());

pub(crate) fn open(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(Isa::NeonI8mm)?;
    planes::open(Mmla(()))
}

impl Body for Mmla {
    const INFO: &'static KernelInfo = &crate::MMLA;
    const TOKEN_STEP: usize = 2;

    /// Two tokens with their padding, then a line that begins with their two sums.
    fn group_bytes(k: usize) -> usize {
        2 * LayoutId::I2S.padded_k(k) + 64
    }

    fn prepare(activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]) {
        let size = Self::group_bytes(activations.k());
        assert_eq!(out.len(), groups.len() * size, "prepared size");
        for (group, out) in groups.zip(out.chunks_exact_mut(size)) {
            out.fill(0);
            for side in 0..2 {
                let token = 2 * group + side;
                if token >= activations.tokens() {
                    break;
                }
                let mut sum = 0i32;
                for (column, act) in activations.row(token).iter().enumerate() {
                    out[column / 8 * 16 + side * 8 + column % 8] = *act as u8;
                    sum += i32::from(*act);
                }
                let at = size - 64 + 4 * side;
                out[at..at + 4].copy_from_slice(&sum.to_ne_bytes());
            }
        }
    }

    fn gemm(&self, args: GemmArgs<'_>) {
        let GemmArgs {
            weights,
            prepared,
            rows,
            tokens,
            out,
            ..
        } = args;
        for pair in tokens.start / 2..tokens.end.div_ceil(2) {
            planes::pieces(rows.clone(), ROWS, |row, whole| {
                let mut sums = [[0; 2]; ROWS];
                // SAFETY: `self` exists, so `open` saw the int8 matrix instructions.
                unsafe {
                    if whole {
                        tile(
                            planes::rows::<ROWS>(weights, row),
                            prepared,
                            pair,
                            &mut sums,
                        );
                    } else {
                        // A single row meets itself: its second half is thrown away.
                        let [row] = planes::rows::<1>(weights, row);
                        tile([row, row], prepared, pair, &mut sums);
                    }
                }
                for side in 0..2 {
                    let token = 2 * pair + side;
                    if tokens.contains(&token) {
                        let at = (token - tokens.start) * rows.len() + row - rows.start;
                        for r in 0..if whole { ROWS } else { 1 } {
                            out[at + r] = sums[r][side];
                        }
                    }
                }
            });
        }
    }
}

/// `acc[2i + j] + Σ_c code[8i + c] · act[8j + c]`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(mut acc: int32x4_t, code: uint8x16_t, act: uint8x16_t) -> int32x4_t {
    // SAFETY: the instruction is in the features of this function and touches its three registers alone.
    unsafe {
        asm!(
            "smmla {acc:v}.4s, {code:v}.16b, {act:v}.16b",
            acc = inout(vreg) acc,
            code = in(vreg) code,
            act = in(vreg) act,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// `R` rows (an even number, at most [`ROWS`]) times the two tokens of `pair`: `sums[r][side]`.
#[target_feature(enable = "neon,i8mm")]
fn tile<const R: usize>(
    rows: [&[u8]; R],
    prepared: Prepared<'_>,
    pair: usize,
    sums: &mut [[i32; 2]; ROWS],
) {
    let group = prepared.group(pair);
    let (acts, tail) = group.split_at(group.len() - 64);
    let mut acc: [int32x4_t; R] = [vdupq_n_s32(0); R];
    for block in 0..rows[0].len() / BLOCK_BYTES {
        for half in [0, 16] {
            let mut codes = [planes::planes(planes::load(rows[0], block * BLOCK_BYTES + half)); R];
            for r in 1..R {
                codes[r] = planes::planes(planes::load(rows[r], block * BLOCK_BYTES + half));
            }
            for q in 0..4 {
                // Sixteen columns of two tokens are 32 bytes.
                let at = 2 * (block * BLOCK + 32 * q + half);
                let (low, high) = (planes::load(acts, at), planes::load(acts, at + 16));
                for r in (0..R).step_by(2) {
                    let (a, b) = (
                        vreinterpretq_u64_u8(codes[r][q]),
                        vreinterpretq_u64_u8(codes[r + 1][q]),
                    );
                    acc[r] = smmla(acc[r], vreinterpretq_u8_u64(vzip1q_u64(a, b)), low);
                    acc[r + 1] = smmla(acc[r + 1], vreinterpretq_u8_u64(vzip2q_u64(a, b)), high);
                }
            }
        }
    }
    for r in (0..R).step_by(2) {
        let tile = vaddq_s32(acc[r], acc[r + 1]);
        sums[r] = [vgetq_lane_s32::<0>(tile), vgetq_lane_s32::<1>(tile)];
        sums[r + 1] = [vgetq_lane_s32::<2>(tile), vgetq_lane_s32::<3>(tile)];
    }
    for side in 0..2 {
        let bytes = &tail[4 * side..4 * side + 4];
        let sum = i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        for sums in &mut sums[..R] {
            sums[side] -= sum;
        }
    }
}
