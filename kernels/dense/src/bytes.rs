//! Vectors of 8-bit integers, and what the int8 and 4-bit formats share.

use crate::float::Lanes;

/// Vectors of 8-bit integers on one instruction set; lanes are groups of four bytes, as many as [`Bytes::F`] has floats.
///
/// # Safety
/// As [`Lanes`].
pub(crate) trait Bytes: Copy {
    /// Four bytes or an i32 a lane.
    type V: Copy;
    /// Signed weights, ready to be multiplied.
    type W: Copy;
    /// Sums of [`Bytes::dot_codes`].
    type Part: Copy;
    /// Floats, a lane each.
    type F: Lanes;
    /// What is added to the activations of the int8 format, which makes them the unsigned factor: 128 or 0.
    const OFFSET: u8;

    unsafe fn zero() -> Self::V;
    unsafe fn load(from: *const u8) -> Self::V;
    /// The same four bytes in each lane.
    unsafe fn splat(from: *const u8) -> Self::V;
    unsafe fn store(v: Self::V, to: *mut i32);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn to_float(v: Self::V) -> <Self::F as Lanes>::V;
    unsafe fn prefetch(at: *const u8);

    unsafe fn weights(v: Self::V) -> Self::W;
    /// Adds the four products a lane of weights of −127..=127 and activations of −127..=127, plus [`Bytes::OFFSET`].
    unsafe fn dot_signed(sum: Self::V, weights: Self::W, acts: Self::V) -> Self::V;

    /// The low four bits of each byte.
    unsafe fn low(v: Self::V) -> Self::V;
    /// The high four bits of each byte.
    unsafe fn high(v: Self::V) -> Self::V;
    unsafe fn begin() -> Self::Part;
    /// Adds the four products a lane of codes of 0..=15 and activations of −127..=127; at most eight times.
    unsafe fn dot_codes(part: Self::Part, codes: Self::V, acts: Self::V) -> Self::Part;
    unsafe fn finish(part: Self::Part) -> Self::V;

    /// The high four bits of each byte for [`Bytes::dot_codes`], times 16 where that saves a shift; at most four times.
    unsafe fn high_in_place(v: Self::V) -> Self::V;
    /// The sum of at most four low parts and four made of [`Bytes::high_in_place`], whose factor is taken off.
    unsafe fn finish_both(parts: [Self::Part; 2]) -> Self::V;
}

/// The scale of a token's int8 quantization, as `trit_kernel::activation_scale` defines it, over sixteen maxima.
#[inline(always)]
pub(crate) fn activation_scale(x: &[f32]) -> f32 {
    let mut max = [0.0f32; 16];
    let (whole, tail) = x.as_chunks::<16>();
    for x in whole {
        for (max, x) in max.iter_mut().zip(x) {
            let x = x.abs();
            *max = if x > *max { x } else { *max };
        }
    }
    let max = max.iter().fold(0.0, |a: f32, b| a.max(*b));
    let max = tail.iter().fold(max, |a, b| a.max(b.abs()));
    127.0 / max.max(trit_kernel::ABSMAX_FLOOR)
}

/// `round_half_even(x · scale)` where the magnitude is at most 127: added to 1.5 · 2^23, the low byte of a float is that
/// integer.
#[inline(always)]
pub(crate) fn quantize(x: f32, scale: f32) -> i8 {
    (x * scale + 12_582_912.0).to_bits() as i8
}

/// The largest magnitude of some weights.
pub(crate) fn largest(weights: &[f32]) -> f32 {
    weights.iter().fold(0.0, |max, w| max.max(w.abs()))
}
