//! A head whose best tokens are exact: all rows in blocks, and those that may be the best again in halves.

use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;
use trit_measure::sys::HugeBuf;
use trit_ops::{BlockType, Digits, Floats, Ops};

use crate::file::{FloatMatrix, FloatType};
use crate::sampler::largest;

/// Products that are compared at once.
const LANES: usize = 16;

/// Bytes of a bound.
const SIZE: usize = size_of::<f32>();

/// Room for one row.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) bytes: Vec<u8>,
    floats: Vec<f32>,
    halves: Vec<f16>,
}

/// How far off the product of each row's blocks may be: that with an input `x` is within `bounds[row] * |x|` of the product of its
/// halves, as both are computed.
///
/// With `w` the halves, `b` the numbers of the blocks and `x'` what the digits of `x` stand for, `|b·x' - w·x|` is at most
/// `|b - w| |x| + |b| |x - x'|` (Cauchy and Schwarz). Digits are off by half a step, `max|x| / 2 LARGEST`, at most, and so all of
/// them by `√n |x| / 2 LARGEST`. Sums of `n` products in f32, in whatever order, are off by `n · 2^-24 · |w| |x|` at most (Higham, Accuracy and
/// Stability of Numerical Algorithms, section 3.1); those of blocks round less often than once in sixteen products.
pub(crate) struct Top {
    exact: FloatMatrix,
    /// Blocks, and from `bounds` on a bound for each row, little-endian.
    packed: Arc<HugeBuf>,
    bounds: usize,
}

/// The bound of a row of the numbers `floats` of which `blocks` are the blocks.
fn bound(floats: &[f32], kind: BlockType, blocks: &[u8]) -> f32 {
    let n = floats.len() as f64;
    // Beside what is said above: 8 roundings of steps, scales and bounds themselves.
    let rounding = n.sqrt() / f64::from(2.0 * Digits::LARGEST)
        + (n + n / 8.0 + 16.0) * f64::from(f32::EPSILON) / 2.0;
    let (mut made, mut exact) = (vec![0.0; floats.len()], floats.to_vec());
    FloatType::of_blocks(kind).decode(blocks, &mut made);
    let mut halves = vec![f16::ZERO; floats.len()];
    halves.convert_from_f32_slice(floats);
    halves.convert_to_f32_slice(&mut exact);
    // Sums of lanes, for which nothing waits. The squares of halves and of their differences are exact in f64, or nearly so.
    let mut sums = [[0.0f64; 4]; 3];
    for (b, w) in made.chunks(4).zip(exact.chunks(4)) {
        for (lane, (b, w)) in b.iter().zip(w).enumerate() {
            let (b, w) = (f64::from(*b), f64::from(*w));
            sums[0][lane] += (b - w) * (b - w);
            sums[1][lane] += b * b;
            sums[2][lane] += w * w;
        }
    }
    let [off, blocks, halves] = sums.map(|sums| sums.iter().sum::<f64>());
    let norm = blocks.max(halves).sqrt();
    ((off.sqrt() + rounding * norm) as f32).next_up()
}

impl Top {
    /// Lays out `exact` in `blocks` of type `kind`, and writes their `bounds`.
    pub(crate) fn pack(exact: &FloatMatrix, kind: BlockType, blocks: &mut [u8], bounds: &mut [u8]) {
        let (bounds, _) = bounds.as_chunks_mut::<SIZE>();
        let made = exact.pack(kind, blocks, |row, blocks| {
            let mut floats = vec![0.0; exact.cols()];
            exact.row(row, &mut floats);
            bound(&floats, kind, blocks)
        });
        for (to, bound) in bounds.iter_mut().zip(made) {
            *to = bound.to_le_bytes();
        }
    }

    /// Of blocks that were made of `exact`, with their bounds behind them from `bounds` on.
    pub(crate) fn new(exact: &FloatMatrix, packed: Arc<HugeBuf>, bounds: usize) -> Self {
        Self {
            exact: exact.clone(),
            packed,
            bounds,
        }
    }

    /// Bytes of the bounds of `rows` rows.
    pub(crate) const fn bytes(rows: usize) -> usize {
        rows.saturating_mul(SIZE)
    }

    fn bounds(&self) -> &[[u8; SIZE]] {
        self.packed.bytes()[self.bounds..].as_chunks().0
    }

    /// Replaces the products `out` of all rows with the input `x` by those of halves, wherever one may be the largest. What remains is below
    /// the largest, so that its place and value, and the first place where several are equal, are as if all were products of halves.
    pub(crate) fn settle(&self, ops: &dyn Ops, x: &[f32], room: &mut Row, out: &mut [f32]) {
        let mut exact = |row: usize| {
            let mut product = [f32::NAN];
            let Row {
                bytes,
                floats,
                halves,
            } = room;
            floats.resize(x.len(), 0.0);
            halves.resize(x.len(), f16::ZERO);
            self.exact.lone_row(row, bytes, floats);
            ops.to_f16(floats, halves);
            ops.rows_dot(Floats::F16(halves), x, &mut product);
            product[0]
        };
        // Where a product is NaN, all are taken again.
        let best = largest(out).map_or(f32::NAN, &mut exact);
        let squares: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        // Steps of digits have a floor, and so has what they are compared with.
        let norm = (squares.sqrt().max(f64::from(Digits::FLOOR)) as f32).next_up();
        let below = |out: f32, bound: [u8; SIZE]| out + f32::from_le_bytes(bound) * norm < best;
        let chunks = out.chunks_mut(LANES).zip(self.bounds().chunks(LANES));
        for (chunk, (out, bounds)) in chunks.enumerate() {
            let each = out.iter().zip(bounds);
            // Without a branch a lane: nearly all chunks have nothing.
            if each.fold(true, |all, (out, bound)| all & below(*out, *bound)) {
                continue;
            }
            for (lane, (out, bound)) in out.iter_mut().zip(bounds).enumerate() {
                if !below(*out, *bound) {
                    *out = exact(chunk * LANES + lane);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use trit_ops::Blocks;

    use super::*;
    use crate::cache::Keep;
    use crate::file::Bytes;
    use crate::head::Head;
    use crate::options::HeadType;

    const K: usize = 512;

    fn number(i: usize) -> f32 {
        ((i * 7919 + i / 512 * 31) % 1009) as f32 / 504.0 - 1.0
    }

    /// Products of `weights` with `x`: of blocks, the same settled, and of halves.
    fn products(weights: &[f32], x: &[f32]) -> [Vec<f32>; 3] {
        let rows = weights.len() / K;
        let bytes = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let matrix = FloatMatrix::new(rows, K, FloatType::F32, Bytes::from_vec(bytes)).unwrap();
        let ops = trit_ops::best(trit_kernel::Cpu::uncapped());
        let of = |head| {
            let head = Head::load(&matrix, head, Keep(None), ops).unwrap().0;
            let (mut digits, mut out) = (Digits::default(), vec![f32::NAN; rows]);
            head.prepare(ops, K, x, &mut digits);
            head.dot(ops, 0..rows, K, x, &digits, &mut out);
            let raw = out.clone();
            if let Some(top) = head.top() {
                top.settle(ops, x, &mut Row::default(), &mut out);
            }
            (raw, out)
        };
        let (raw, settled) = of(HeadType::F16Top);
        [raw, settled, of(HeadType::F16Plain).1]
    }

    #[test]
    fn rows_that_blocks_cannot_tell_apart_are_settled() {
        // All rows are one row, but for a little in one number of each: less than a step of a block.
        let x: Vec<f32> = (0..K).map(|i| number(3 * i + 1)).collect();
        let mut wrong = 0;
        for best in [0, 5, 16, 40] {
            let mut weights: Vec<f32> = (0..41 * K).map(|i| number(i % K)).collect();
            for row in 0..41 {
                let off = if row == best {
                    1.5e-3
                } else {
                    1e-3 * number(row)
                };
                weights[row * K + 7] = 0.25 + off * x[7].signum();
            }
            let [raw, settled, halves] = products(&weights, &x);
            assert_eq!(largest(&halves), Some(best));
            assert_eq!(settled, halves, "all may be the best");
            wrong += usize::from(largest(&raw) != Some(best));
        }
        assert!(wrong > 0, "blocks alone would have done");
    }

    #[test]
    fn products_are_within_their_bounds_and_what_cannot_be_the_best_is_left_alone() {
        let weights: Vec<f32> = (0..200 * K)
            .map(|i| number(i) * number(i / K + 3))
            .collect();
        for spike in [1.0, 40.0] {
            let input = |i: usize| number(3 * i + 1) * if i % 97 == 5 { spike } else { 1.0 };
            let x: Vec<f32> = (0..K).map(input).collect();
            let [raw, settled, halves] = products(&weights, &x);
            assert_eq!(largest(&settled), largest(&halves));
            let equal = |(a, b): &(&f32, &f32)| a.to_bits() == b.to_bits();
            let is = |other: &[f32]| settled.iter().zip(other).filter(equal).count();
            assert!((1..100).contains(&is(&halves)) && is(&raw) > 100);
        }
    }

    #[test]
    fn equal_rows_and_what_is_not_a_number() {
        let mut weights: Vec<f32> = (0..64 * K).map(|i| number(i % K)).collect();
        let x = vec![1.0; K];
        let [_, settled, halves] = products(&weights, &x);
        assert_eq!((settled, Some(0)), (halves.clone(), largest(&halves)));
        // Nothing is known of the blocks of such a row; what it says is what halves say.
        weights[9 * K + 3] = f32::INFINITY;
        let [_, settled, halves] = products(&weights, &x);
        assert_eq!((largest(&settled), largest(&halves)), (Some(9), Some(9)));
        let mut x = x;
        x[1] = f32::NAN;
        let [_, settled, _] = products(&weights, &x);
        assert!(settled.iter().all(|product| product.is_nan()));
        let zeros = vec![0.0; 64 * K];
        assert_eq!(products(&zeros, &[0.0; K])[1], vec![0.0; 64]);
    }

    #[test]
    fn bounds_hold_for_every_row_and_input() {
        let rows = 64;
        let weights: Vec<f32> = (0..rows * K).map(number).collect();
        let bytes = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let matrix = FloatMatrix::new(rows, K, FloatType::F32, Bytes::from_vec(bytes)).unwrap();
        let ops = trit_ops::best(trit_kernel::Cpu::uncapped());
        let Head::Blocks(kind, packed, Some(top)) =
            Head::load(&matrix, HeadType::F16Top, Keep(None), ops)
                .unwrap()
                .0
        else {
            panic!("a head of blocks");
        };
        let packed: Arc<HugeBuf> = packed;
        let mut made = vec![0.0; K];
        for row in 0..rows {
            let bytes = packed.bytes();
            Blocks { kind, bytes }.row(row, K, &mut made);
            // The worst input is along the error itself.
            let of_row = &weights[row * K..(row + 1) * K];
            let halves = of_row.iter().map(|w| f16::from_f32(*w).to_f32());
            let x: Vec<f32> = halves.zip(&made).map(|(w, b)| w - b).collect();
            let [raw, _, exact] = products(of_row, &x);
            let norm = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let off = f64::from((raw[0] - exact[0]).abs());
            let bound = f64::from(f32::from_le_bytes(top.bounds()[row])) * norm;
            assert!(off <= bound && off > 0.7 * bound, "{off} {bound}");
        }
    }
}
