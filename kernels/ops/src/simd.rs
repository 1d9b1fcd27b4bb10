//! Sixteen float lanes: what an instruction set provides, and nothing of what is computed with it.

use half::f16;
use trit_kernel::Isa;

use crate::narrow::{self, GROUP_BYTES};

/// The lanes of one virtual vector.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 lanes on one instruction set. A value of the implementing type is the proof that the instructions can
/// be executed, so the methods are safe; they are to be inlined into a function that enables the instruction set.
///
/// Every method is an IEEE operation on each lane, so that two implementations can differ only in NaN payloads.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen lanes.
    type V: Copy;

    /// The level this proves.
    const ISA: Isa;

    /// Sums that the registers hold beside the operands of a step; 1 where they are not vectors.
    const ACCUMULATORS: usize;

    fn splat(self, value: f32) -> Self::V;
    fn load(self, from: &[f32; LANES]) -> Self::V;
    fn load_f16(self, from: &[f16; LANES]) -> Self::V;
    fn load_i8(self, from: &[i8; LANES]) -> Self::V;
    /// Conversion to nearest even.
    fn load_i32(self, from: &[i32; LANES]) -> Self::V;
    /// Part `part` of a group of [`narrow`](crate::narrow) halves, whose exponents are above `base`.
    #[inline(always)]
    fn narrow(self, group: &[u8; GROUP_BYTES], part: usize, base: u8) -> [Self::V; 2] {
        let [a, b] = narrow::numbers(group, part, base);
        [self.load(&a), self.load(&b)]
    }
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    /// Conversion to nearest even.
    fn store_f16(self, v: Self::V, to: &mut [f16; LANES]);
    /// Rounds to nearest even, limits to −128..=127; NaN becomes 0. Magnitudes stay below 2^31.
    fn store_i8(self, v: Self::V, to: &mut [i8; LANES]);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`; `b` when either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    fn neg(self, a: Self::V) -> Self::V;
    /// `a < b ? yes : no`; `no` when either is NaN.
    fn if_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `a` where it is NaN, else `b`.
    fn keep_nan(self, a: Self::V, b: Self::V) -> Self::V;
    /// The bits of `a` plus those of `n` shifted left by 23, as integers: adds the low byte of `n` to the exponent.
    fn add_exponent(self, a: Self::V, n: Self::V) -> Self::V;

    /// The tree: lanes `j` and `j + 8`, then `j + 4`, `j + 2`, `j + 1`.
    fn reduce(self, v: Self::V) -> f32;

    /// Four trees at once.
    #[inline(always)]
    fn reduce4(self, v: [Self::V; 4]) -> [f32; 4] {
        v.map(|v| self.reduce(v))
    }

    /// Asks for the cache line at `at`, which may be any address: nothing is read.
    fn prefetch(self, at: *const u8);

    /// Loads fewer than sixteen numbers; the other lanes are +0.
    #[inline(always)]
    fn load_tail(self, from: &[f32]) -> Self::V {
        let mut lanes = [0.0; LANES];
        lanes[..from.len()].copy_from_slice(from);
        self.load(&lanes)
    }

    /// Stores fewer than sixteen lanes.
    #[inline(always)]
    fn store_tail(self, v: Self::V, to: &mut [f32]) {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

/// A stored number that becomes an f32 lane without rounding.
pub(crate) trait Element: Copy + Default + 'static {
    /// Sixteen of them.
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::V;

    /// Fewer than sixteen; the other lanes are +0.
    #[inline(always)]
    fn load_tail<S: Simd>(s: S, from: &[Self]) -> S::V {
        let mut lanes = [Self::default(); LANES];
        lanes[..from.len()].copy_from_slice(from);
        Self::load(s, &lanes)
    }
}

impl Element for f32 {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::V {
        s.load(from)
    }

    #[inline(always)]
    fn load_tail<S: Simd>(s: S, from: &[Self]) -> S::V {
        s.load_tail(from)
    }
}

impl Element for i8 {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::V {
        s.load_i8(from)
    }
}

impl Element for f16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::V {
        s.load_f16(from)
    }
}

/// Methods of [`Simd`] whose bodies are intrinsics. The token is the proof that they may be executed, and
/// every memory access goes through a reference to an array of the right size.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! intrinsics {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $body:expr;)*) => {
        $(
            #[inline(always)]
            #[allow(
                unused_unsafe,
                reason = "what touches no memory is safe where the target always has the instruction set"
            )]
            fn $name(self, $($arg: $type),*) $(-> $out)? {
                // SAFETY: a token exists only where `open` saw the instruction set; arrays have the size that is read
                // or written, and the instructions ask for no alignment.
                unsafe { $body }
            }
        )*
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use intrinsics;
