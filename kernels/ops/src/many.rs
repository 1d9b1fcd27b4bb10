//! Dot products of rows with several inputs: a vector of weights is converted once for several of them.
//!
//! Each output is the sum in lanes that it is by itself; only the order in which outputs are computed differs.

use std::array::from_fn;
use std::ops::Range;

use half::f16;

use crate::Floats;
use crate::lanes::reduce_all;
use crate::narrow::{self, GROUP, GROUP_BYTES, Narrow};
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
        Floats::F32(weights) => in_place::<S, f32>(s, weights, rows, xs, out),
        Floats::F16(weights) => in_place::<S, f16>(s, weights, rows, xs, out),
        Floats::I8(weights, scales) => {
            assert_eq!(scales.len(), rows, "rows_dot_all: a scale a row");
            in_place::<S, i8>(s, weights, rows, xs, out);
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
/// Rows of a tile, at most.
const TILE: usize = 4;

/// Rows that tiles are made of.
trait Rows: Copy {
    type Number: Element;
    /// Whether they are read where they lie: tiles ask for the next ones then.
    const IN_PLACE: bool;

    /// The numbers `range` of `R` rows from `row` on, at most [`PIECE`] vectors of each. With `ask`, those of the next block are asked for
    /// where they are not read in place.
    fn piece<'a, S: Simd, const R: usize>(
        &'a self,
        s: S,
        row: usize,
        range: Range<usize>,
        ask: bool,
        scratch: &'a mut [[f32; PIECE * LANES]; TILE],
    ) -> [&'a [Self::Number]; R];
}

/// Rows of `k` numbers in memory.
#[derive(Clone, Copy)]
struct InPlace<'a, E> {
    weights: &'a [E],
    k: usize,
}

impl<E: Element> Rows for InPlace<'_, E> {
    type Number = E;
    const IN_PLACE: bool = true;

    #[inline(always)]
    fn piece<'a, S: Simd, const R: usize>(
        &'a self,
        _: S,
        row: usize,
        range: Range<usize>,
        _: bool,
        _: &'a mut [[f32; PIECE * LANES]; TILE],
    ) -> [&'a [E]; R] {
        from_fn(|r| &self.weights[(row + r) * self.k..(row + r + 1) * self.k][range.clone()])
    }
}

/// Narrow rows of so many groups.
#[derive(Clone, Copy)]
struct NarrowRows<'a> {
    weights: Narrow<'a>,
    groups: usize,
}

impl Rows for NarrowRows<'_> {
    type Number = f32;
    const IN_PLACE: bool = false;

    #[inline(always)]
    fn piece<'a, S: Simd, const R: usize>(
        &'a self,
        s: S,
        row: usize,
        range: Range<usize>,
        ask: bool,
        scratch: &'a mut [[f32; PIECE * LANES]; TILE],
    ) -> [&'a [f32]; R] {
        let groups = self.groups;
        let ahead = if ask { ROWS * groups * GROUP_BYTES } else { 0 };
        for (r, out) in scratch.iter_mut().enumerate().take(R) {
            let row = self.weights.row_of(row + r, groups);
            let out = &mut out[..range.len()];
            narrow::unpack(s, row, range.start / GROUP, ahead, out);
        }
        let scratch: &'a [_; TILE] = scratch;
        from_fn(|r| &scratch[r][..range.len()])
    }
}

#[inline(always)]
fn in_place<S: Simd, E: Element>(s: S, weights: &[E], rows: usize, xs: &[f32], out: &mut [f32]) {
    let k = weights.len().checked_div(rows).unwrap_or(0);
    assert_eq!(weights.len(), k * rows, "rows_dot_all: rows x k");
    blocks(s, InPlace { weights, k }, (rows, k), xs, out);
}

#[inline(always)]
pub(crate) fn rows_dot_narrow<S: Simd>(s: S, weights: Narrow<'_>, xs: &[f32], out: &mut [f32]) {
    let (rows, groups) = weights.shape();
    let shape = (rows, groups * GROUP);
    blocks(s, NarrowRows { weights, groups }, shape, xs, out);
}

/// Blocks of [`ROWS`] x [`INPUTS`] outputs.
#[inline(always)]
fn blocks<S: Simd, W: Rows>(
    s: S,
    weights: W,
    (rows, k): (usize, usize),
    xs: &[f32],
    out: &mut [f32],
) {
    if rows == 0 {
        assert!(out.is_empty(), "rows_dot_all: outputs of no rows");
        return;
    }
    let inputs = out.len() / rows;
    assert_eq!(out.len(), inputs * rows, "rows_dot_all: inputs x rows");
    assert_eq!(
        Some(xs.len()),
        inputs.checked_mul(k),
        "rows_dot_all: inputs x k"
    );
    if k == 0 {
        out.fill(0.0);
        return;
    }
    let mut scratch = [[0.0; PIECE * LANES]; TILE];
    for first_row in (0..rows).step_by(ROWS) {
        let block = first_row..rows.min(first_row + ROWS);
        for (group, xs) in xs.chunks(INPUTS * k).enumerate() {
            let mut sums = [[s.splat(0.0); INPUTS]; ROWS];
            for from in (0..k).step_by(PIECE * LANES) {
                let call = Piece {
                    k,
                    weights,
                    rows: (block.start, block.end),
                    xs,
                    from,
                    // The next block is asked for while the first inputs are multiplied with this one; the others find it.
                    ask: group == 0,
                };
                call.multiply(s, &mut scratch, &mut sums);
            }
            let first_input = group * INPUTS;
            for (row, sums) in block.clone().zip(&sums) {
                let mut dots = [0.0; INPUTS];
                reduce_all(s, sums, &mut dots);
                for (input, sum) in (first_input..inputs).zip(dots) {
                    out[input * rows + row] = sum;
                }
            }
        }
    }
}

/// The numbers from `from` on of the rows `rows` and some inputs, at most [`PIECE`] vectors of each.
#[derive(Clone, Copy)]
struct Piece<'a, W> {
    k: usize,
    weights: W,
    rows: (usize, usize),
    xs: &'a [f32],
    from: usize,
    ask: bool,
}

impl<W: Rows> Piece<'_, W> {
    /// Adds the products to the sums, in tiles of as many as the registers hold.
    #[inline(always)]
    fn multiply<S: Simd>(
        self,
        s: S,
        scratch: &mut [[f32; PIECE * LANES]; TILE],
        sums: &mut [[S::V; INPUTS]; ROWS],
    ) {
        let mut row = 0;
        while row < self.rows.1 - self.rows.0 {
            let left = self.rows.1 - self.rows.0 - row;
            row += if S::ACCUMULATORS >= 16 && left >= 4 {
                self.some_rows::<S, 4>(s, row, scratch, sums)
            } else if S::ACCUMULATORS >= 4 && left >= 2 {
                self.some_rows::<S, 2>(s, row, scratch, sums)
            } else {
                self.some_rows::<S, 1>(s, row, scratch, sums)
            };
        }
    }

    /// The products of `R` rows with all inputs; gives `R`.
    #[inline(always)]
    fn some_rows<S: Simd, const R: usize>(
        self,
        s: S,
        row: usize,
        scratch: &mut [[f32; PIECE * LANES]; TILE],
        sums: &mut [[S::V; INPUTS]; ROWS],
    ) -> usize {
        let to = self.k.min(self.from + PIECE * LANES);
        let weights = self.weights;
        let w = weights.piece::<S, R>(s, self.rows.0 + row, self.from..to, self.ask, scratch);
        let inputs = self.xs.len() / self.k;
        let mut input = 0;
        while input < inputs {
            let left = inputs - input;
            let sums = &mut sums[row..row + R];
            input += match R {
                4 if left >= 4 => self.tile::<S, R, 4>(s, w, input, sums),
                4 | 2 if left >= 2 => self.tile::<S, R, 2>(s, w, input, sums),
                _ => self.tile::<S, R, 1>(s, w, input, sums),
            };
        }
        R
    }

    /// The products of `R` rows with `T` inputs; gives `T`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const T: usize>(
        self,
        s: S,
        w: [&[W::Number]; R],
        input: usize,
        sums: &mut [[S::V; INPUTS]],
    ) -> usize {
        let Self { k, from, .. } = self;
        let to = k.min(from + PIECE * LANES);
        let x: [(&[[f32; LANES]], &[f32]); T] =
            from_fn(|t| self.xs[(input + t) * k + from..(input + t) * k + to].as_chunks());
        let vectors = (to - from) / LANES;
        let w_lines: [&[[W::Number; LANES]]; R] = w.map(|row| &row.as_chunks().0[..vectors]);
        let x_lines: [&[[f32; LANES]]; T] = x.map(|input| &input.0[..vectors]);
        let mut tile: [[S::V; T]; R] = from_fn(|r| from_fn(|t| sums[r][input + t]));
        let ask = W::IN_PLACE && self.ask && input == 0;
        for i in 0..vectors {
            if ask {
                for row in w_lines {
                    let at = row.as_ptr().wrapping_add(i).cast::<u8>();
                    s.prefetch(at.wrapping_add(ROWS * k * size_of::<W::Number>()));
                }
            }
            let x: [S::V; T] = from_fn(|t| s.load(&x_lines[t][i]));
            for r in 0..R {
                let w = W::Number::load(s, &w_lines[r][i]);
                for t in 0..T {
                    tile[r][t] = s.fma(w, x[t], tile[r][t]);
                }
            }
        }
        if !(to - from).is_multiple_of(LANES) {
            let x: [S::V; T] = from_fn(|t| s.load_tail(x[t].1));
            for r in 0..R {
                let w = W::Number::load_tail(s, w[r].as_chunks::<LANES>().1);
                for t in 0..T {
                    tile[r][t] = s.fma(w, x[t], tile[r][t]);
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                sums[r][input + t] = tile[r][t];
            }
        }
        T
    }
}
