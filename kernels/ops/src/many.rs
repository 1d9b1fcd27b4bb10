//! Dot products of rows with several inputs: a vector of weights is converted once for several of them.
//!
//! Each output is the sum in lanes that it is by itself; only the order in which outputs are computed differs.

use std::array::from_fn;

use half::f16;

use crate::Floats;
use crate::lanes::reduce_all;
use crate::simd::{Element, LANES, Simd};

#[inline(always)]
pub(crate) fn rows_dot_all<S: Simd>(
    s: S,
    weights: Floats<'_>,
    rows: usize,
    xs: &[f32],
    out: &mut [f32],
) {
    match weights {
        Floats::F32(weights) => blocks::<S, f32>(s, weights, rows, xs, out),
        Floats::F16(weights) => blocks::<S, f16>(s, weights, rows, xs, out),
        Floats::I8(weights, scales) => {
            assert_eq!(scales.len(), rows, "rows_dot_all: a scale a row");
            blocks::<S, i8>(s, weights, rows, xs, out);
            for (out, scale) in out.iter_mut().zip(scales.iter().cycle()) {
                *out *= scale;
            }
        }
    }
}

/// Rows and inputs whose sums are held while a piece of all of them is multiplied.
const ROWS: usize = 16;
const INPUTS: usize = 8;
/// Vectors of a piece: eight inputs of it and four rows are in the first level of a cache.
const PIECE: usize = 32;

/// Blocks of [`ROWS`] x [`INPUTS`] outputs.
#[inline(always)]
fn blocks<S: Simd, E: Element>(s: S, weights: &[E], rows: usize, xs: &[f32], out: &mut [f32]) {
    if rows == 0 {
        assert!(out.is_empty(), "rows_dot_all: outputs of no rows");
        return;
    }
    let (inputs, k) = (out.len() / rows, weights.len() / rows);
    assert_eq!(out.len(), inputs * rows, "rows_dot_all: inputs x rows");
    assert_eq!(weights.len(), k * rows, "rows_dot_all: rows x k");
    assert_eq!(
        Some(xs.len()),
        inputs.checked_mul(k),
        "rows_dot_all: inputs x k"
    );
    if k == 0 {
        out.fill(0.0);
        return;
    }
    for (block, weights) in weights.chunks(ROWS * k).enumerate() {
        for (group, xs) in xs.chunks(INPUTS * k).enumerate() {
            let mut sums = [[s.splat(0.0); INPUTS]; ROWS];
            for piece in 0..k.div_ceil(PIECE * LANES) {
                let call = Piece {
                    k,
                    weights,
                    xs,
                    from: piece * PIECE * LANES,
                    // The next block is asked for while the first inputs are multiplied with this one; the others find it.
                    ask: group == 0,
                };
                call.multiply(s, &mut sums);
            }
            let (first_row, first_input) = (block * ROWS, group * INPUTS);
            for (r, sums) in sums.iter().enumerate().take(weights.len() / k) {
                let mut dots = [0.0; INPUTS];
                reduce_all(s, sums, &mut dots);
                for (input, sum) in (first_input..inputs).zip(dots) {
                    out[input * rows + first_row + r] = sum;
                }
            }
        }
    }
}

/// The numbers from `from` on of some rows and some inputs, at most [`PIECE`] vectors of each.
#[derive(Clone, Copy)]
struct Piece<'a, E> {
    k: usize,
    weights: &'a [E],
    xs: &'a [f32],
    from: usize,
    ask: bool,
}

impl<E: Element> Piece<'_, E> {
    /// Adds the products to the sums, in tiles of as many as the registers hold.
    #[inline(always)]
    fn multiply<S: Simd>(self, s: S, sums: &mut [[S::V; INPUTS]; ROWS]) {
        let (rows, inputs) = (self.weights.len() / self.k, self.xs.len() / self.k);
        let mut row = 0;
        while row < rows {
            let r = if S::ACCUMULATORS >= 16 && rows - row >= 4 {
                4
            } else if S::ACCUMULATORS >= 4 && rows - row >= 2 {
                2
            } else {
                1
            };
            let mut input = 0;
            while input < inputs {
                let left = inputs - input;
                input += match r {
                    4 if left >= 4 => self.tile::<S, 4, 4>(s, row, input, sums),
                    4 if left >= 2 => self.tile::<S, 4, 2>(s, row, input, sums),
                    4 => self.tile::<S, 4, 1>(s, row, input, sums),
                    2 if left >= 2 => self.tile::<S, 2, 2>(s, row, input, sums),
                    2 => self.tile::<S, 2, 1>(s, row, input, sums),
                    _ => self.tile::<S, 1, 1>(s, row, input, sums),
                };
            }
            row += r;
        }
    }

    /// The products of `R` rows with `T` inputs; gives `T`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const T: usize>(
        self,
        s: S,
        row: usize,
        input: usize,
        sums: &mut [[S::V; INPUTS]; ROWS],
    ) -> usize {
        let Self { k, from, .. } = self;
        let to = k.min(from + PIECE * LANES);
        let w: [(&[[E; LANES]], &[E]); R] =
            from_fn(|r| self.weights[(row + r) * k + from..(row + r) * k + to].as_chunks());
        let x: [(&[[f32; LANES]], &[f32]); T] =
            from_fn(|t| self.xs[(input + t) * k + from..(input + t) * k + to].as_chunks());
        let vectors = (to - from) / LANES;
        let w_lines: [&[[E; LANES]]; R] = w.map(|row| &row.0[..vectors]);
        let x_lines: [&[[f32; LANES]]; T] = x.map(|input| &input.0[..vectors]);
        let mut tile: [[S::V; T]; R] = from_fn(|r| from_fn(|t| sums[row + r][input + t]));
        let ask = self.ask && input == 0;
        for i in 0..vectors {
            if ask {
                for row in w_lines {
                    let at = row.as_ptr().wrapping_add(i).cast::<u8>();
                    s.prefetch(at.wrapping_add(ROWS * k * size_of::<E>()));
                }
            }
            let x: [S::V; T] = from_fn(|t| s.load(&x_lines[t][i]));
            for r in 0..R {
                let w = E::load(s, &w_lines[r][i]);
                for t in 0..T {
                    tile[r][t] = s.fma(w, x[t], tile[r][t]);
                }
            }
        }
        if !(to - from).is_multiple_of(LANES) {
            let x: [S::V; T] = from_fn(|t| s.load_tail(x[t].1));
            for r in 0..R {
                let w = E::load_tail(s, w[r].1);
                for t in 0..T {
                    tile[r][t] = s.fma(w, x[t], tile[r][t]);
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                sums[row + r][input + t] = tile[r][t];
            }
        }
        T
    }
}
