//! 128-bit vectors: NEON, which every `AArch64` has; the dot product.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, int16x8_t, int32x4_t, vaddq_s16, vaddq_s32, vandq_s8, vcvtq_f32_s32,
    vdupq_n_f32, vdupq_n_s8, vdupq_n_s16, vdupq_n_s32, vfmaq_f32, vget_low_s8, vld1q_f32, vld1q_s8,
    vmull_high_s8, vmull_s8, vpadalq_s16, vpaddlq_s16, vpaddq_s16, vreinterpretq_s8_s32,
    vreinterpretq_s8_u8, vreinterpretq_u8_s8, vshrq_n_u8, vst1q_f32, vst1q_s32,
};
use std::arch::asm;

use half::f16;

use crate::bytes::Bytes;
use crate::float::Lanes;
use crate::intrinsics::intrinsics;

/// Advanced SIMD as the base architecture has it.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

impl Lanes for Neon {
    type V = float32x4_t;
    const N: usize = 4;

    intrinsics! {
        fn zero() -> float32x4_t = vdupq_n_f32(0.0);
        fn splat(from: *const f32) -> float32x4_t = vdupq_n_f32(*from);
        fn load(from: *const f32) -> float32x4_t = vld1q_f32(from);
        fn load_f16(from: *const f16) -> float32x4_t = {
            // The conversion's intrinsic is not stable.
            let halves = from.cast::<u64>().read_unaligned();
            let out: float32x4_t;
            asm!("fmov {v:d}, {halves}", "fcvtl {v:v}.4s, {v:v}.4h", halves = in(reg) halves, v = lateout(vreg) out,
                options(pure, nomem, nostack, preserves_flags));
            out
        };
        fn store(v: float32x4_t, to: *mut f32) = vst1q_f32(to, v);
        fn multiply_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        fn prefetch(at: *const u8) =
            asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly));
    }
}

/// The sums of neighbours of sixteen products: no two products of ±127 leave an i16.
#[inline]
#[target_feature(enable = "neon")]
fn pairs(a: int8x16_t, b: int8x16_t) -> int16x8_t {
    vpaddq_s16(
        vmull_s8(vget_low_s8(a), vget_low_s8(b)),
        vmull_high_s8(a, b),
    )
}

impl Bytes for Neon {
    type V = int32x4_t;
    type W = int8x16_t;
    /// i16 lanes: eight times two products of 15 and 127 fit.
    type Part = int16x8_t;
    type F = Self;
    const OFFSET: u8 = 0;

    intrinsics! {
        fn zero() -> int32x4_t = vdupq_n_s32(0);
        fn load(from: *const u8) -> int32x4_t = std::mem::transmute(vld1q_s8(from.cast()));
        fn splat(from: *const u8) -> int32x4_t = vdupq_n_s32(from.cast::<i32>().read_unaligned());
        fn store(v: int32x4_t, to: *mut i32) = vst1q_s32(to, v);
        fn add(a: int32x4_t, b: int32x4_t) -> int32x4_t = vaddq_s32(a, b);
        fn to_float(v: int32x4_t) -> float32x4_t = vcvtq_f32_s32(v);
        fn prefetch(at: *const u8) = <Self as Lanes>::prefetch(at);

        fn weights(v: int32x4_t) -> int8x16_t = vreinterpretq_s8_s32(v);
        fn dot_signed(sum: int32x4_t, weights: int8x16_t, acts: int32x4_t) -> int32x4_t =
            vpadalq_s16(sum, pairs(weights, vreinterpretq_s8_s32(acts)));

        fn low(v: int32x4_t) -> int32x4_t =
            std::mem::transmute(vandq_s8(vreinterpretq_s8_s32(v), vdupq_n_s8(15)));
        fn high(v: int32x4_t) -> int32x4_t = {
            let bytes = vreinterpretq_u8_s8(vreinterpretq_s8_s32(v));
            std::mem::transmute(vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes)))
        };
        fn begin() -> int16x8_t = vdupq_n_s16(0);
        fn dot_codes(part: int16x8_t, codes: int32x4_t, acts: int32x4_t) -> int16x8_t =
            vaddq_s16(part, pairs(vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(acts)));
        fn finish(part: int16x8_t) -> int32x4_t = vpaddlq_s16(part);

        // Bytes are shifted in one instruction.
        fn high_in_place(v: int32x4_t) -> int32x4_t = <Self as Bytes>::high(v);
        fn finish_both(parts: [int16x8_t; 2]) -> int32x4_t = vpaddlq_s16(vaddq_s16(parts[0], parts[1]));
    }
}

/// NEON with `sdot`.
#[derive(Clone, Copy)]
pub(crate) struct NeonDot;

impl Bytes for NeonDot {
    type V = int32x4_t;
    type W = int32x4_t;
    type Part = int32x4_t;
    type F = Neon;
    const OFFSET: u8 = 0;

    intrinsics! {
        fn zero() -> int32x4_t = vdupq_n_s32(0);
        fn load(from: *const u8) -> int32x4_t = <Neon as Bytes>::load(from);
        fn splat(from: *const u8) -> int32x4_t = <Neon as Bytes>::splat(from);
        fn store(v: int32x4_t, to: *mut i32) = <Neon as Bytes>::store(v, to);
        fn add(a: int32x4_t, b: int32x4_t) -> int32x4_t = vaddq_s32(a, b);
        fn to_float(v: int32x4_t) -> float32x4_t = vcvtq_f32_s32(v);
        fn prefetch(at: *const u8) = <Neon as Lanes>::prefetch(at);

        fn dot_signed(sum: int32x4_t, weights: int32x4_t, acts: int32x4_t) -> int32x4_t = {
            // The intrinsic is not stable in the pinned compiler.
            let mut sum = sum;
            asm!("sdot {sum:v}.4s, {weights:v}.16b, {acts:v}.16b", sum = inout(vreg) sum,
                weights = in(vreg) weights, acts = in(vreg) acts, options(pure, nomem, nostack, preserves_flags));
            sum
        };

        fn low(v: int32x4_t) -> int32x4_t = <Neon as Bytes>::low(v);
        fn high(v: int32x4_t) -> int32x4_t = <Neon as Bytes>::high(v);
        fn begin() -> int32x4_t = vdupq_n_s32(0);
        fn dot_codes(part: int32x4_t, codes: int32x4_t, acts: int32x4_t) -> int32x4_t =
            Self::dot_signed(part, codes, acts);
        fn high_in_place(v: int32x4_t) -> int32x4_t = <Neon as Bytes>::high(v);
        fn finish_both(parts: [int32x4_t; 2]) -> int32x4_t = vaddq_s32(parts[0], parts[1]);
    }

    #[inline(always)]
    unsafe fn weights(v: int32x4_t) -> int32x4_t {
        v
    }

    #[inline(always)]
    unsafe fn finish(part: int32x4_t) -> int32x4_t {
        part
    }
}
