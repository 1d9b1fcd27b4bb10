//! Peak loops of `AArch64`.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, int16x8_t, int32x4_t, vdupq_n_f32, vdupq_n_s8, vdupq_n_s16,
    vdupq_n_s32, vfmaq_f32, vget_low_s8, vmlal_high_s8, vmlal_s8,
};

use trit_kernel::Isa;

use super::peak::{
    A, B, Operation, PeakLoop, f32_lane, int8_lane, line, peak, sum_f32, sum_i16, sum_i32,
};

/// Accumulators of a loop on 32 registers, factors aside.
const WIDE: usize = 16;

peak!(fmla, "neon", WIDE x float32x4_t, vreg, zero vdupq_n_f32(0.0),
    factors vdupq_n_f32(0.5), vdupq_n_f32(2.0),
    |sum, x, y| vfmaq_f32(sum, x, y), [f32] sum_f32);

// Both halves into one accumulator: two products a step and an i16 lane.
peak!(smlal, "neon", WIDE x int16x8_t, vreg, zero vdupq_n_s16(0),
    factors vdupq_n_s8(A), vdupq_n_s8(B),
    |sum, x, y| vmlal_high_s8(vmlal_s8(sum, vget_low_s8(x), vget_low_s8(y)), x, y), [i16] sum_i16);

/// The intrinsic is not stable in the pinned compiler.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot(mut sum: int32x4_t, x: int8x16_t, y: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction is in the features of this function and touches its three registers alone.
    unsafe {
        std::arch::asm!("sdot {sum:v}.4s, {x:v}.16b, {y:v}.16b", sum = inout(vreg) sum, x = in(vreg) x, y = in(vreg) y,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

peak!(sdot, "neon,dotprod", WIDE x int32x4_t, vreg, zero vdupq_n_s32(0),
    factors vdupq_n_s8(A), vdupq_n_s8(B),
    |sum, x, y| dot(sum, x, y), [i32] sum_i32);

#[rustfmt::skip]
pub(super) static LOOPS: [PeakLoop; 3] = [
    line(("f32-neon-fmla-128", Isa::Neon, Operation::F32), fmla, f32_lane, WIDE, 4, 4),
    // Two products a step and an i16 lane, which wraps.
    line(("int8-neon-smlal-128", Isa::Neon, Operation::Int8), smlal,
        |n| i64::from(n.wrapping_mul(30) as i16).cast_unsigned(), WIDE, 8, 16),
    line(("int8-dot-sdot-128", Isa::NeonDot, Operation::Int8), sdot, int8_lane, WIDE, 4, 16),
];
