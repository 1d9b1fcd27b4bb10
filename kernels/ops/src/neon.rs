//! NEON, which every `AArch64` has: sixteen lanes are four registers.

use std::arch::aarch64::{
    float32x4_t, uint8x16_t, vabsq_f32, vadd_f32, vaddq_f32, vaddq_s32, vaddq_u32, vandq_u8,
    vbslq_f32, vceqq_f32, vcgtq_f32, vcltq_f32, vcombine_s8, vcombine_s16, vcvtnq_s32_f32,
    vcvtq_f32_s32, vdivq_f32, vdupq_n_f32, vdupq_n_s32, vdupq_n_u8, veorq_u8, vfmaq_f32,
    vget_high_f32, vget_high_s16, vget_lane_f32, vget_low_f32, vget_low_s8, vget_low_s16, vld1_s8,
    vld1q_f32, vld1q_s32, vld1q_u8, vmovl_s8, vmovl_s16, vmull_high_s8, vmull_s8, vmulq_f32,
    vnegq_f32, vorrq_u8, vpadalq_s16, vpadd_f32, vpaddq_s16, vqmovn_s16, vqmovn_s32,
    vreinterpretq_f32_u32, vreinterpretq_s8_s32, vreinterpretq_s8_u8, vreinterpretq_u32_f32,
    vshlq_n_s32, vshlq_n_u32, vshrq_n_u8, vst1q_f32, vst1q_s8, vst1q_u8, vsubq_f32,
};
use std::arch::asm;
use std::array::from_fn;

use half::f16;
use trit_kernel::{Cpu, Isa};

use crate::blocks::{Columns, Line, Products, quad};
use crate::probe::{LINE, Lines};
use crate::simd::{LANES, Simd, intrinsics};

/// The proof that NEON is there.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

pub(crate) static TOKEN: Neon = Neon(());

impl Neon {
    /// The token, if `cpu` has the instruction set.
    pub(crate) fn open(cpu: Cpu) -> Option<&'static Self> {
        cpu.has(Isa::Neon).then_some(&TOKEN)
    }
}

type Four = [float32x4_t; 4];

impl Simd for Neon {
    type V = Four;

    const ISA: Isa = Isa::Neon;
    const ACCUMULATORS: usize = 4;

    intrinsics! {
        fn splat(value: f32) -> Four = [vdupq_n_f32(value); 4];
        fn load(from: &[f32; LANES]) -> Four = from_fn(|i| vld1q_f32(from.as_ptr().add(4 * i)));
        fn load_f16(from: &[f16; LANES]) -> Four = from_fn(|i| widen(from.as_ptr().add(4 * i)));
        fn load_i8(from: &[i8; LANES]) -> Four = from_fn(|i| {
            let eight = vmovl_s8(vld1_s8(from.as_ptr().add(i / 2 * 8)));
            let four = if i % 2 == 0 { vget_low_s16(eight) } else { vget_high_s16(eight) };
            vcvtq_f32_s32(vmovl_s16(four))
        });
        fn load_i32(from: &[i32; LANES]) -> Four =
            from_fn(|i| vcvtq_f32_s32(vld1q_s32(from.as_ptr().add(4 * i))));
        fn store(v: Four, to: &mut [f32; LANES]) = {
            for i in 0..4 {
                vst1q_f32(to.as_mut_ptr().add(4 * i), v[i]);
            }
        };
        fn store_f16(v: Four, to: &mut [f16; LANES]) = {
            for i in 0..4 {
                narrow(v[i], to.as_mut_ptr().add(4 * i));
            }
        };
        fn store_i8(v: Four, to: &mut [i8; LANES]) = {
            // The conversion to nearest even turns NaN into 0, and each narrowing limits.
            let [a, b, c, d] = v.map(|v| vqmovn_s32(vcvtnq_s32_f32(v)));
            let (low, high) = (vqmovn_s16(vcombine_s16(a, b)), vqmovn_s16(vcombine_s16(c, d)));
            vst1q_s8(to.as_mut_ptr(), vcombine_s8(low, high));
        };

        fn add(a: Four, b: Four) -> Four = from_fn(|i| vaddq_f32(a[i], b[i]));
        fn sub(a: Four, b: Four) -> Four = from_fn(|i| vsubq_f32(a[i], b[i]));
        fn mul(a: Four, b: Four) -> Four = from_fn(|i| vmulq_f32(a[i], b[i]));
        fn div(a: Four, b: Four) -> Four = from_fn(|i| vdivq_f32(a[i], b[i]));
        fn fma(a: Four, b: Four, c: Four) -> Four = from_fn(|i| vfmaq_f32(c[i], a[i], b[i]));
        // `fmax` would return a NaN.
        fn max(a: Four, b: Four) -> Four = from_fn(|i| vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]));
        fn abs(a: Four) -> Four = a.map(|a| vabsq_f32(a));
        fn neg(a: Four) -> Four = a.map(|a| vnegq_f32(a));
        fn if_less(a: Four, b: Four, yes: Four, no: Four) -> Four =
            from_fn(|i| vbslq_f32(vcltq_f32(a[i], b[i]), yes[i], no[i]));
        // A NaN is not equal to itself.
        fn keep_nan(a: Four, b: Four) -> Four = from_fn(|i| vbslq_f32(vceqq_f32(a[i], a[i]), b[i], a[i]));
        fn add_exponent(a: Four, n: Four) -> Four = from_fn(|i| {
            let n = vshlq_n_u32::<23>(vreinterpretq_u32_f32(n[i]));
            vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(a[i]), n))
        });

        fn reduce(v: Four) -> f32 = {
            let four = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
            // Lanes j + (j + 2), then 0 + 1.
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(vpadd_f32(two, two))
        };

        fn prefetch(at: *const u8) = prefetch(at);
    }
}

/// Four half floats as floats: the intrinsic is not stable.
///
/// # Safety
/// NEON, and `from` can be read for four numbers.
#[inline(always)]
unsafe fn widen(from: *const f16) -> float32x4_t {
    let out: float32x4_t;
    // SAFETY: as the caller says; the instructions touch their registers alone.
    unsafe {
        asm!(
            "ldr {v:d}, [{from}]",
            "fcvtl {v:v}.4s, {v:v}.4h",
            from = in(reg) from,
            v = lateout(vreg) out,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    out
}

/// Four floats as half floats, to nearest even.
///
/// # Safety
/// NEON, and `to` can be written for four numbers.
#[inline(always)]
unsafe fn narrow(v: float32x4_t, to: *mut f16) {
    // SAFETY: as the caller says.
    unsafe {
        asm!(
            "fcvtn {v:v}.4h, {v:v}.4s",
            "str {v:d}, [{to}]",
            to = in(reg) to,
            v = inout(vreg) v => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Asks for the line at `at`.
#[inline(always)]
fn prefetch(at: *const u8) {
    // SAFETY: a prefetch reads nothing that the program sees, and an address that is not there is ignored.
    unsafe {
        asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags));
    }
}

impl Lines for Neon {
    type V = [uint8x16_t; 4];

    intrinsics! {
        fn zero() -> [uint8x16_t; 4] = [vdupq_n_u8(0); 4];
        fn load(from: &[u8; LINE]) -> [uint8x16_t; 4] = from_fn(|i| vld1q_u8(from.as_ptr().add(16 * i)));
        fn xor(a: [uint8x16_t; 4], b: [uint8x16_t; 4]) -> [uint8x16_t; 4] = from_fn(|i| veorq_u8(a[i], b[i]));
        fn bytes(v: [uint8x16_t; 4]) -> [u8; LINE] = {
            let mut out = [0; LINE];
            for i in 0..4 {
                vst1q_u8(out.as_mut_ptr().add(16 * i), v[i]);
            }
            out
        };
        fn ask(at: *const u8) = prefetch(at);
    }
}

/// Four rows a register.
type Quad = [uint8x16_t; 4];

/// Products are words: 2 · 63 · 127 fits one.
impl Products<Self> for Neon {
    type Codes = [Quad; 4];

    intrinsics! {
        fn six(lines: &[Line; 3]) -> [Quad; 4] = {
            let low = vdupq_n_u8(0x3f);
            let mut codes = [[low; 4]; 4];
            for i in 0..4 {
                let a = vld1q_u8(lines[0].as_ptr().add(16 * i));
                let b = vld1q_u8(lines[1].as_ptr().add(16 * i));
                let c = vld1q_u8(lines[2].as_ptr().add(16 * i));
                let high = vandq_u8(vshrq_n_u8::<2>(a), vdupq_n_u8(0x30));
                let middle = vandq_u8(vshrq_n_u8::<4>(b), vdupq_n_u8(0x0c));
                codes[0][i] = vandq_u8(a, low);
                codes[1][i] = vandq_u8(b, low);
                codes[2][i] = vandq_u8(c, low);
                codes[3][i] = vorrq_u8(vorrq_u8(high, middle), vshrq_n_u8::<6>(c));
            }
            codes
        };
        fn four(lines: &[Line; 2]) -> [Quad; 4] = {
            let low = vdupq_n_u8(15);
            let mut codes = [[low; 4]; 4];
            for i in 0..4 {
                let a = vld1q_u8(lines[0].as_ptr().add(16 * i));
                let b = vld1q_u8(lines[1].as_ptr().add(16 * i));
                codes[0][i] = vandq_u8(a, low);
                codes[1][i] = vandq_u8(b, low);
                codes[2][i] = vshrq_n_u8::<4>(a);
                codes[3][i] = vshrq_n_u8::<4>(b);
            }
            codes
        };
        fn sums(codes: [Quad; 4], columns: &Columns) -> Four = {
            let mut out = [vdupq_n_f32(0.0); 4];
            for i in 0..4 {
                let mut sums = [vdupq_n_s32(columns.high_sum), vdupq_n_s32(columns.low_sum)];
                for (sum, digits) in sums.iter_mut().zip([&columns.high, &columns.low]) {
                    for q in 0..4 {
                        let digits = vreinterpretq_s8_s32(vdupq_n_s32(quad(digits, q)));
                        let codes = vreinterpretq_s8_u8(codes[q][i]);
                        let two = vmull_s8(vget_low_s8(codes), vget_low_s8(digits));
                        let next = vmull_high_s8(codes, digits);
                        // Each row has two words, of two columns each.
                        *sum = vpadalq_s16(*sum, vpaddq_s16(two, next));
                    }
                }
                out[i] = vcvtq_f32_s32(vaddq_s32(vshlq_n_s32::<7>(sums[0]), sums[1]));
            }
            out
        };
    }
}
