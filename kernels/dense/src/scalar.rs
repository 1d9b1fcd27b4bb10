//! Portable vectors: arrays that the compiler may turn into whatever the target has.

use std::array::from_fn;

use half::f16;

use crate::float::Lanes;

/// Lanes of a 128-bit vector.
const N: usize = 4;

/// Plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl Lanes for Scalar {
    type V = [f32; N];
    const N: usize = N;

    #[inline(always)]
    unsafe fn zero() -> [f32; N] {
        [0.0; N]
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> [f32; N] {
        // SAFETY: the caller's pointer can be read.
        [unsafe { *from }; N]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; N] {
        // SAFETY: as above, for N numbers; an array has the alignment of its elements.
        unsafe { *from.cast() }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> [f32; N] {
        // SAFETY: as above.
        let halves: [f16; N] = unsafe { *from.cast() };
        halves.map(f16::to_f32)
    }

    #[inline(always)]
    unsafe fn store(v: [f32; N], to: *mut f32) {
        // SAFETY: the caller's pointer can be written.
        unsafe { *to.cast() = v }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
}
