//! Portable lanes: the reference for every other implementation.

use std::array::from_fn;

use half::f16;
use trit_kernel::Isa;

use crate::blocks::{Columns, Line, Products};
use crate::simd::{LANES, Simd};

/// Plain Rust, always there.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

type Lanes = [f32; LANES];

impl Simd for Scalar {
    type V = Lanes;

    const ISA: Isa = Isa::Scalar;
    const ACCUMULATORS: usize = 1;

    #[inline(always)]
    fn splat(self, value: f32) -> Lanes {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> Lanes {
        *from
    }

    #[inline(always)]
    fn load_f16(self, from: &[f16; LANES]) -> Lanes {
        from.map(f16::to_f32)
    }

    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> Lanes {
        from.map(f32::from)
    }

    #[inline(always)]
    fn load_i32(self, from: &[i32; LANES]) -> Lanes {
        from.map(|i| i as f32)
    }

    #[inline(always)]
    fn store(self, v: Lanes, to: &mut Lanes) {
        *to = v;
    }

    #[inline(always)]
    fn store_f16(self, v: Lanes, to: &mut [f16; LANES]) {
        *to = v.map(f16::from_f32);
    }

    #[inline(always)]
    fn store_i8(self, v: Lanes, to: &mut [i8; LANES]) {
        // A cast of NaN gives 0.
        *to = v.map(|v| v.round_ties_even().clamp(-128.0, 127.0) as i8);
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn fma(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn abs(self, a: Lanes) -> Lanes {
        a.map(f32::abs)
    }

    #[inline(always)]
    fn neg(self, a: Lanes) -> Lanes {
        a.map(|a| -a)
    }

    #[inline(always)]
    fn if_less(self, a: Lanes, b: Lanes, yes: Lanes, no: Lanes) -> Lanes {
        from_fn(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }

    #[inline(always)]
    fn keep_nan(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| if a[i].is_nan() { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn add_exponent(self, a: Lanes, n: Lanes) -> Lanes {
        from_fn(|i| f32::from_bits(a[i].to_bits().wrapping_add(n[i].to_bits() << 23)))
    }

    #[inline(always)]
    fn reduce(self, mut v: Lanes) -> f32 {
        for half in [8, 4, 2, 1] {
            for j in 0..half {
                v[j] += v[j + half];
            }
        }
        v[0]
    }

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}
}

impl Products<Self> for Scalar {
    type Codes = [Line; 4];

    #[inline(always)]
    fn six(self, lines: &[Line; 3]) -> [Line; 4] {
        let [a, b, c] = lines;
        let last = from_fn(|i| a[i] >> 6 << 4 | b[i] >> 6 << 2 | c[i] >> 6);
        [
            a.map(|a| a & 63),
            b.map(|b| b & 63),
            c.map(|c| c & 63),
            last,
        ]
    }

    #[inline(always)]
    fn four(self, lines: &[Line; 2]) -> [Line; 4] {
        let [a, b] = lines;
        [
            a.map(|a| a & 15),
            b.map(|b| b & 15),
            a.map(|a| a >> 4),
            b.map(|b| b >> 4),
        ]
    }

    #[inline(always)]
    fn sums(self, codes: [Line; 4], columns: &Columns) -> Lanes {
        let dot = |digits: &[i8; LANES], row: usize| -> i32 {
            let columns = (0..4).flat_map(|q| (0..4).map(move |c| (q, c)));
            columns
                .map(|(q, c)| i32::from(codes[q][4 * row + c]) * i32::from(digits[4 * q + c]))
                .sum()
        };
        from_fn(|row| {
            let high = dot(&columns.high, row) + columns.high_sum;
            (128 * high + dot(&columns.low, row) + columns.low_sum) as f32
        })
    }
}
