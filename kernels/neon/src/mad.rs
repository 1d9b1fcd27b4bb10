//! `smlal` into int16 lanes: the path that every `AArch64` has.
//!
//! A product is at most `2 · 128` in magnitude, so an int16 lane holds 127 of them (`127 · 256 = 32,512`). A block adds 16
//! to every lane, hence a flush to int32 every seven blocks (112 products).

use std::arch::aarch64::{
    int8x16_t, int16x8_t, int32x4_t, vaddvq_s32, vdupq_n_s16, vdupq_n_s32, vget_low_s8,
    vmlal_high_s8, vmlal_s8, vpadalq_s16, vreinterpretq_s8_u8,
};

use trit_kernel::{Cpu, GemmArgs, Isa, Kernel, KernelInfo, PaddedToken, Prepared, Unavailable};

use crate::planes::{self, BLOCK, BLOCK_BYTES, Body, ROWS};

/// Blocks between two flushes.
const FLUSH: usize = 7;

/// Proof that the CPU has what the kernel needs: made by [`open`] alone.
struct Mad(());

pub(crate) fn open(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(Isa::Neon)?;
    planes::open(Mad(()))
}

impl Body for Mad {
    const INFO: &'static KernelInfo = &crate::MAD;

    fn gemm(&self, args: GemmArgs<'_>) {
        let GemmArgs {
            weights,
            prepared,
            rows,
            tokens,
            out,
            ..
        } = args;
        for token in tokens.clone() {
            let line = (token - tokens.start) * rows.len();
            planes::pieces(rows.clone(), ROWS, |row, whole| {
                let at = line + row - rows.start;
                // SAFETY: `self` exists, so `open` saw NEON.
                unsafe {
                    if whole {
                        tile(
                            planes::rows::<ROWS>(weights, row),
                            prepared,
                            token,
                            &mut out[at..],
                        );
                    } else {
                        tile(
                            planes::rows::<1>(weights, row),
                            prepared,
                            token,
                            &mut out[at..],
                        );
                    }
                }
            });
        }
    }
}

/// `R` rows times one token; the sums go to the first `R` of `out`.
#[target_feature(enable = "neon")]
fn tile<const R: usize>(rows: [&[u8]; R], prepared: Prepared<'_>, token: usize, out: &mut [i32]) {
    let PaddedToken { acts, sum } = PaddedToken::read(prepared, token);
    let blocks = rows[0].len() / BLOCK_BYTES;
    let mut wide: [int32x4_t; R] = [vdupq_n_s32(0); R];
    for first in (0..blocks).step_by(FLUSH) {
        let mut narrow: [int16x8_t; R] = [vdupq_n_s16(0); R];
        for block in first..blocks.min(first + FLUSH) {
            for half in [0, 16] {
                let mut codes =
                    [planes::planes(planes::load(rows[0], block * BLOCK_BYTES + half)); R];
                for r in 1..R {
                    codes[r] = planes::planes(planes::load(rows[r], block * BLOCK_BYTES + half));
                }
                for q in 0..4 {
                    let act: int8x16_t =
                        vreinterpretq_s8_u8(planes::load(acts, block * BLOCK + 32 * q + half));
                    for r in 0..R {
                        let code = vreinterpretq_s8_u8(codes[r][q]);
                        narrow[r] = vmlal_s8(narrow[r], vget_low_s8(code), vget_low_s8(act));
                        narrow[r] = vmlal_high_s8(narrow[r], code, act);
                    }
                }
            }
        }
        for r in 0..R {
            wide[r] = vpadalq_s16(wide[r], narrow[r]);
        }
    }
    for r in 0..R {
        out[r] = vaddvq_s32(wide[r]) - sum;
    }
}
