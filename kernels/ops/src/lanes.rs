//! Every operation, written once over sixteen lanes: the order of its arithmetic is the same on every instruction set
//! because it is the same code.

use std::iter::zip;

use half::f16;
use trit_kernel::ABSMAX_FLOOR;

use crate::Floats;
use crate::simd::{Element, LANES, Simd};

#[inline(always)]
pub(crate) fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "dot: lengths");
    let mut sum = s.splat(0.0);
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks(), b.as_chunks());
    for (a, b) in zip(a, b) {
        sum = s.fma(s.load(a), s.load(b), sum);
    }
    if !a_tail.is_empty() {
        sum = s.fma(s.load_tail(a_tail), s.load_tail(b_tail), sum);
    }
    s.reduce(sum)
}

#[inline(always)]
pub(crate) fn rms_norm<S: Simd>(s: S, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), weight.len(), "rms_norm: lengths");
    assert_eq!(x.len(), out.len(), "rms_norm: lengths");
    let mean = dot(s, x, x) / x.len() as f32;
    let inverse = s.splat(1.0 / (mean + eps).sqrt());
    let ((x, x_tail), (w, w_tail)) = (x.as_chunks(), weight.as_chunks());
    let (out, out_tail) = out.as_chunks_mut();
    for ((x, w), out) in zip(zip(x, w), out) {
        s.store(s.mul(s.mul(s.load(x), inverse), s.load(w)), out);
    }
    if !x_tail.is_empty() {
        let v = s.mul(s.mul(s.load_tail(x_tail), inverse), s.load_tail(w_tail));
        s.store_tail(v, out_tail);
    }
}

/// The largest of sixteen lanes, none of which is NaN.
#[inline(always)]
pub(crate) fn largest<S: Simd>(s: S, v: S::V) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(v, &mut lanes);
    lanes.into_iter().fold(lanes[0], f32::max)
}

#[inline(always)]
pub(crate) fn quantize<S: Simd>(s: S, x: &[f32], out: &mut [i8]) -> f32 {
    assert_eq!(x.len(), out.len(), "quantize: lengths");
    let (x, x_tail) = x.as_chunks();
    let (out, out_tail) = out.as_chunks_mut();
    // Two maxima in turn: one would wait for itself. `max` keeps its second argument when the first is NaN.
    let mut max = [s.splat(0.0); 2];
    for (i, x) in x.iter().enumerate() {
        max[i % 2] = s.max(s.abs(s.load(x)), max[i % 2]);
    }
    max[0] = s.max(s.abs(s.load_tail(x_tail)), s.max(max[0], max[1]));
    let scale = 127.0 / largest(s, max[0]).max(ABSMAX_FLOOR);
    let by = s.splat(scale);
    for (x, out) in zip(x, out) {
        s.store_i8(s.mul(s.load(x), by), out);
    }
    if !x_tail.is_empty() {
        let mut lanes = [0; LANES];
        s.store_i8(s.mul(s.load_tail(x_tail), by), &mut lanes);
        out_tail.copy_from_slice(&lanes[..x_tail.len()]);
    }
    scale
}

#[inline(always)]
pub(crate) fn dequantize<S: Simd>(s: S, sums: &[i32], act: f32, weight: f32, out: &mut [f32]) {
    assert_eq!(sums.len(), out.len(), "dequantize: lengths");
    let (act, weight) = (s.splat(act), s.splat(weight));
    let (sums, sums_tail) = sums.as_chunks();
    let (out, out_tail) = out.as_chunks_mut();
    for (sums, out) in zip(sums, out) {
        s.store(s.mul(s.div(s.load_i32(sums), act), weight), out);
    }
    if !sums_tail.is_empty() {
        let mut lanes = [0; LANES];
        lanes[..sums_tail.len()].copy_from_slice(sums_tail);
        s.store_tail(s.mul(s.div(s.load_i32(&lanes), act), weight), out_tail);
    }
}

/// A function of two lanes, for [`update`].
trait Binary<S: Simd> {
    fn apply(s: S, a: S::V, b: S::V) -> S::V;
}

/// `x[i] = F(x[i], y[i])`.
#[inline(always)]
fn update<S: Simd, F: Binary<S>>(s: S, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "lengths of an element-wise operation");
    let (x, x_tail) = x.as_chunks_mut();
    let (y, y_tail) = y.as_chunks();
    for (x, y) in zip(x, y) {
        s.store(F::apply(s, s.load(x), s.load(y)), x);
    }
    if !y_tail.is_empty() {
        let v = F::apply(s, s.load_tail(x_tail), s.load_tail(y_tail));
        s.store_tail(v, x_tail);
    }
}

struct Sum;
struct Relu2Mul;
struct SiluMul;

impl<S: Simd> Binary<S> for Sum {
    #[inline(always)]
    fn apply(s: S, a: S::V, b: S::V) -> S::V {
        s.add(a, b)
    }
}

impl<S: Simd> Binary<S> for Relu2Mul {
    #[inline(always)]
    fn apply(s: S, gate: S::V, up: S::V) -> S::V {
        let positive = s.max(gate, s.splat(0.0));
        s.mul(s.mul(positive, positive), up)
    }
}

impl<S: Simd> Binary<S> for SiluMul {
    #[inline(always)]
    fn apply(s: S, gate: S::V, up: S::V) -> S::V {
        let below = s.add(s.splat(1.0), exp16(s, s.neg(gate)));
        s.mul(s.div(gate, below), up)
    }
}

#[inline(always)]
pub(crate) fn add<S: Simd>(s: S, x: &mut [f32], y: &[f32]) {
    update::<S, Sum>(s, x, y);
}

#[inline(always)]
pub(crate) fn relu2_mul<S: Simd>(s: S, gate: &mut [f32], up: &[f32]) {
    update::<S, Relu2Mul>(s, gate, up);
}

#[inline(always)]
pub(crate) fn silu_mul<S: Simd>(s: S, gate: &mut [f32], up: &[f32]) {
    update::<S, SiluMul>(s, gate, up);
}

/// Below this, `exp` is 0: the result would not be a normal number.
pub(crate) const EXP_LOW: f32 = -87.3365;
/// Above this, `exp` is infinite: a step of the argument below `ln(f32::MAX)`.
pub(crate) const EXP_HIGH: f32 = 88.722_83;

/// `exp` of sixteen lanes: `n = round(x / ln 2)`, `r = x − n · ln 2` in two steps, `1 + r + r² · q(r)`, times `2^n`.
/// `q` interpolates `(e^r − 1 − r) / r²` in the five Chebyshev nodes of `±1.0005 · ln(2) / 2`; the relative error of the
/// polynomial is below `1.1e-8`.
#[inline(always)]
fn exp16<S: Simd>(s: S, x: S::V) -> S::V {
    s.if_less(
        s.splat(EXP_HIGH),
        x,
        s.splat(f32::INFINITY),
        exp_to_one(s, x),
    )
}

/// [`exp16`] of what is not above 0.
#[inline(always)]
pub(crate) fn exp_to_one<S: Simd>(s: S, x: S::V) -> S::V {
    // Added to a small number, 1.5 · 2^23 leaves its nearest integer in the low bits of the sum.
    let magic = s.splat(12_582_912.0);
    let shifted = s.fma(x, s.splat(std::f32::consts::LOG2_E), magic);
    let n = s.sub(shifted, magic);
    // ln 2 in two parts.
    let r = s.fma(n, s.splat(-std::f32::consts::LN_2), x);
    let r = s.fma(n, s.splat(1.904_654_2e-9), r);
    let mut q = s.splat(1.392_621_3e-3);
    for c in [8.363_203e-3, 4.166_655_6e-2, 1.666_657_6e-1, 0.5] {
        q = s.fma(q, r, s.splat(c));
    }
    let tail = s.fma(s.mul(r, r), q, r);
    let value = s.add(s.splat(1.0), tail);
    // The low nine bits of `magic` are 0, so the shift leaves n alone.
    let value = s.add_exponent(value, shifted);
    let value = s.if_less(x, s.splat(EXP_LOW), s.splat(0.0), value);
    s.keep_nan(x, value)
}

#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: &mut [f32]) {
    let (x, x_tail) = x.as_chunks_mut();
    for x in x {
        s.store(exp16(s, s.load(x)), x);
    }
    if !x_tail.is_empty() {
        s.store_tail(exp16(s, s.load_tail(x_tail)), x_tail);
    }
}

#[inline(always)]
pub(crate) fn softmax<S: Simd>(s: S, x: &mut [f32]) {
    let low = s.splat(f32::NEG_INFINITY);
    let (x, x_tail) = x.as_chunks_mut();
    let mut max = low;
    for x in &*x {
        max = s.max(s.load(x), max);
    }
    let mut tail = [f32::NEG_INFINITY; LANES];
    tail[..x_tail.len()].copy_from_slice(x_tail);
    let max = s.splat(largest(s, s.max(s.load(&tail), max)));
    let mut sum = s.splat(0.0);
    for x in &mut *x {
        let v = exp16(s, s.sub(s.load(x), max));
        s.store(v, x);
        sum = s.add(sum, v);
    }
    if !x_tail.is_empty() {
        s.store_tail(exp16(s, s.sub(s.load_tail(x_tail), max)), x_tail);
        sum = s.add(sum, s.load_tail(x_tail));
    }
    let sum = s.splat(s.reduce(sum));
    for x in x {
        s.store(s.div(s.load(x), sum), x);
    }
    if !x_tail.is_empty() {
        s.store_tail(s.div(s.load_tail(x_tail), sum), x_tail);
    }
}

#[inline(always)]
pub(crate) fn rope<S: Simd>(s: S, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    assert_eq!(half, sin.len(), "rope: lengths");
    assert!(half > 0 && x.len().is_multiple_of(2 * half), "rope: heads");
    for head in x.chunks_exact_mut(2 * half) {
        let (a, b) = head.split_at_mut(half);
        let ((a, a_tail), (b, b_tail)) = (a.as_chunks_mut(), b.as_chunks_mut());
        let ((cos, cos_tail), (sin, sin_tail)) = (cos.as_chunks(), sin.as_chunks());
        for ((a, b), (cos, sin)) in zip(zip(a, b), zip(cos, sin)) {
            let (p, q) = rotate(s, s.load(a), s.load(b), s.load(cos), s.load(sin));
            s.store(p, a);
            s.store(q, b);
        }
        if !cos_tail.is_empty() {
            let (cos, sin) = (s.load_tail(cos_tail), s.load_tail(sin_tail));
            let (p, q) = rotate(s, s.load_tail(a_tail), s.load_tail(b_tail), cos, sin);
            s.store_tail(p, a_tail);
            s.store_tail(q, b_tail);
        }
    }
}

#[inline(always)]
fn rotate<S: Simd>(s: S, a: S::V, b: S::V, cos: S::V, sin: S::V) -> (S::V, S::V) {
    (
        s.fma(a, cos, s.neg(s.mul(b, sin))),
        s.fma(b, cos, s.mul(a, sin)),
    )
}

#[inline(always)]
pub(crate) fn to_f16<S: Simd>(s: S, x: &[f32], out: &mut [f16]) {
    assert_eq!(x.len(), out.len(), "to_f16: lengths");
    let (x, x_tail) = x.as_chunks();
    let (out, out_tail) = out.as_chunks_mut();
    for (x, out) in zip(x, out) {
        s.store_f16(s.load(x), out);
    }
    if !x_tail.is_empty() {
        let mut lanes = [f16::ZERO; LANES];
        s.store_f16(s.load_tail(x_tail), &mut lanes);
        out_tail.copy_from_slice(&lanes[..x_tail.len()]);
    }
}

/// How far ahead of their reads all streams of a product with one input together ask for bytes.
pub(crate) const AHEAD: usize = 8192;

#[inline(always)]
pub(crate) fn rows_dot<S: Simd>(s: S, weights: Floats<'_>, x: &[f32], out: &mut [f32]) {
    match weights {
        Floats::F32(weights) => rows_dot_of::<S, f32, 2, 1>(s, weights, x, out),
        Floats::F16(weights) => rows_dot_of::<S, f16, 2, 2>(s, weights, x, out),
        Floats::I8(weights, scales) => {
            assert_eq!(scales.len(), out.len(), "rows_dot: a scale a row");
            rows_dot_of::<S, i8, 4, 4>(s, weights, x, out);
            for (out, scale) in zip(out, scales) {
                *out *= scale;
            }
        }
    }
}

/// In `R` streams, lines of `U` vectors. The sum of a row is one chain of additions: with two streams and one vector a line, memory is
/// slower than the chains; with four vectors a line it takes four streams. Fewer streams get more of the memory.
#[inline(always)]
fn rows_dot_of<S: Simd, E: Element, const R: usize, const U: usize>(
    s: S,
    weights: &[E],
    x: &[f32],
    out: &mut [f32],
) {
    let k = x.len();
    assert_eq!(
        Some(weights.len()),
        k.checked_mul(out.len()),
        "rows_dot: rows x k"
    );
    if k == 0 {
        out.fill(0.0);
        return;
    }
    let done = if S::ACCUMULATORS >= R {
        streams::<S, E, R, U>(s, weights, x, out)
    } else {
        0
    };
    streams::<S, E, 1, U>(s, &weights[done * k..], x, &mut out[done..]);
}

/// The dot products of all rows but fewer than `R`, in `R` streams: each goes through its own part of the rows, so that
/// it reads memory in order. Returns how many rows that was.
#[inline(always)]
fn streams<S: Simd, E: Element, const R: usize, const U: usize>(
    s: S,
    weights: &[E],
    x: &[f32],
    out: &mut [f32],
) -> usize {
    let k = x.len();
    let part = out.len() / R;
    for row in 0..part {
        let rows: [&[E]; R] =
            std::array::from_fn(|r| &weights[(r * part + row) * k..(r * part + row + 1) * k]);
        let dots = rows_dots::<S, E, R, U>(s, rows, x);
        for r in 0..R {
            out[r * part + row] = dots[r];
        }
    }
    R * part
}

/// The dot products of `R` rows, a line of `U` vectors of each at a time.
#[inline(always)]
fn rows_dots<S: Simd, E: Element, const R: usize, const U: usize>(
    s: S,
    rows: [&[E]; R],
    x: &[f32],
) -> [f32; R] {
    let rows: [(&[[E; LANES]], &[E]); R] = rows.map(|row| row.as_chunks());
    let (x, x_tail) = x.as_chunks();
    let mut sums = [s.splat(0.0); R];
    let (x, x_rest) = x.as_chunks::<U>();
    let lines: [&[[[E; LANES]; U]]; R] = rows.map(|row| &row.0.as_chunks().0[..x.len()]);
    for (i, x) in x.iter().enumerate() {
        for r in 0..R {
            let at = lines[r].as_ptr().wrapping_add(i).cast::<u8>();
            s.prefetch(at.wrapping_add(AHEAD / R));
        }
        for u in 0..U {
            let x = s.load(&x[u]);
            for r in 0..R {
                sums[r] = s.fma(E::load(s, &lines[r][i][u]), x, sums[r]);
            }
        }
    }
    for (i, x_rest) in x_rest.iter().enumerate() {
        for r in 0..R {
            let row = &rows[r].0[x.len() * U + i];
            sums[r] = s.fma(E::load(s, row), s.load(x_rest), sums[r]);
        }
    }
    if !x_tail.is_empty() {
        let x = s.load_tail(x_tail);
        for r in 0..R {
            sums[r] = s.fma(E::load_tail(s, rows[r].1), x, sums[r]);
        }
    }
    let mut dots = [0.0; R];
    reduce_all(s, &sums, &mut dots);
    dots
}

/// The trees of several sums, four at once where there are four. A closure in its place would not have the instruction set.
#[inline(always)]
pub(crate) fn reduce_all<S: Simd, const N: usize>(s: S, sums: &[S::V; N], out: &mut [f32; N]) {
    let (fours, rest) = out.as_chunks_mut();
    let (sums, sums_rest) = sums.as_chunks();
    for (out, sums) in fours.iter_mut().zip(sums) {
        *out = s.reduce4(*sums);
    }
    for (out, sum) in rest.iter_mut().zip(sums_rest) {
        *out = s.reduce(*sum);
    }
}
