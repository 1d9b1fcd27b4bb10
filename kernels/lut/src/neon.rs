//! NEON: a row group is four registers.

#![expect(
    clippy::inline_always,
    reason = "the methods must be inlined into a function that enables the instruction set"
)]

use std::arch::aarch64::{
    int16x8_t, uint8x16_t, vaddq_u8, vaddq_u16, vandq_u8, vcombine_s8, vdupq_n_s8, vdupq_n_s16,
    vdupq_n_u8, veorq_u8, vld1q_s16, vld1q_u8, vmlaq_n_s16, vmlsq_n_s16, vmovn_s16,
    vqrdmulhq_n_s16, vqtbl1q_u8, vreinterpretq_s8_u8, vreinterpretq_u8_s8, vreinterpretq_u8_u16,
    vreinterpretq_u16_u8, vshlq_u8, vshrq_n_s8, vshrq_n_u8, vshrq_n_u16, vst1q_s8, vst1q_u16,
    vsubq_u8,
};

use trit_kernel::{Cpu, Isa};

use crate::nibble::{Bytes, intrinsics, pass, passes};
use crate::tables::{ENTRIES, INVERSE, SCALE, TRIPLETS, Tables, weights};
use crate::view::{LANES, Sums};

/// The proof that NEON is there.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Bytes for Neon {
    type V = uint8x16_t;
    const ISA: Isa = Isa::Neon;
    const ROWS: usize = 16;

    fn open(cpu: Cpu) -> Option<Self> {
        cpu.has(Self::ISA).then_some(Self(()))
    }

    #[inline(always)]
    unsafe fn load(self, at: *const u8) -> uint8x16_t {
        // SAFETY: `self` proves NEON, and the caller promises 16 bytes; the load asks for no alignment.
        unsafe { vld1q_u8(at) }
    }

    intrinsics! {
        fn splat(byte: u8) -> uint8x16_t = vdupq_n_u8(byte);
        fn table(from: &[u8; 16]) -> uint8x16_t = vld1q_u8(from.as_ptr());
        fn low(v: uint8x16_t) -> uint8x16_t = vandq_u8(v, vdupq_n_u8(15));
        fn high(v: uint8x16_t) -> uint8x16_t = vshrq_n_u8::<4>(v);
        fn look(table: uint8x16_t, index: uint8x16_t) -> uint8x16_t = vqtbl1q_u8(table, index);
        fn negate(v: uint8x16_t, signs: uint8x16_t, entry: usize) -> uint8x16_t = {
            let signs = vreinterpretq_s8_u8(vshlq_u8(signs, vdupq_n_s8(entry as i8)));
            let negative = vreinterpretq_u8_s8(vshrq_n_s8::<7>(signs));
            vsubq_u8(veorq_u8(v, negative), negative)
        };
        fn add_bytes(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t = vaddq_u8(a, b);
        fn add_words(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t =
            vreinterpretq_u8_u16(vaddq_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b)));
        fn odd(v: uint8x16_t) -> uint8x16_t =
            vreinterpretq_u8_u16(vshrq_n_u16::<8>(vreinterpretq_u16_u8(v)));
        fn words(v: uint8x16_t, to: &mut [u16; LANES / 2]) =
            vst1q_u16(to.as_mut_ptr(), vreinterpretq_u16_u8(v));
    }

    /// Left to the hardware: the intrinsic is not stable.
    #[inline(always)]
    fn prefetch(self, _at: *const u8) {}

    fn build<const W: usize>(self, acts: &[i8], out: &mut [Tables]) {
        // SAFETY: `self` proves NEON.
        unsafe { build::<W>(acts, out) }
    }

    passes!("neon", alone 2, several 1);
}

/// [`Bytes::build`].
#[target_feature(enable = "neon")]
fn build<const W: usize>(acts: &[i8], out: &mut [Tables]) {
    assert!(out.len() * ENTRIES * W >= acts.len());
    let places = const { weights::<W>() };
    let place = |w: usize, half: usize| -> int16x8_t {
        let (halves, _) = places[w].as_chunks::<8>();
        // SAFETY: half a place is 16 readable bytes.
        unsafe { vld1q_s16(halves[half].as_ptr()) }
    };
    let columns = ENTRIES * W;
    for (block, out) in out.iter_mut().enumerate() {
        let rest = &acts[(block * columns).min(acts.len())..];
        let mut padded = [0i8; ENTRIES * TRIPLETS];
        let taken = rest.len().min(columns);
        padded[..taken].copy_from_slice(&rest[..taken]);
        for (entry, out) in out.iter_mut().enumerate() {
            let halves = [0, 1].map(|half| {
                let sum = (0..W).fold(vdupq_n_s16(0), |sum, w| {
                    vmlaq_n_s16(sum, place(w, half), i16::from(padded[entry * W + w]))
                });
                let high = vqrdmulhq_n_s16(sum, INVERSE);
                [vmlsq_n_s16(sum, high, SCALE as i16), high]
            });
            let (parts, _) = out.as_chunks_mut::<16>();
            for (i, part) in parts.iter_mut().enumerate() {
                let packed = vcombine_s8(vmovn_s16(halves[0][i]), vmovn_s16(halves[1][i]));
                // SAFETY: a part is 16 writable bytes.
                unsafe { vst1q_s8(part.as_mut_ptr().cast(), packed) }
            }
        }
    }
}
