//! Attention of the query heads that share one key and value head, of one token or of several that follow each other: rows of
//! queries go through the keys and values together, so that each of these is loaded and converted once for all of them.

use std::array::from_fn;

use half::f16;

use crate::lanes::{exp_to_one, largest};
use crate::probe::LINE;
use crate::simd::{Element, LANES, Simd};
use crate::{Attention, Floats};

/// How far ahead of its reads the cache of values is asked for: a long one comes from memory.
const AHEAD: usize = 8192;

/// Scores of `R` rows of queries in one block of positions, later their weights.
type Block<const R: usize> = [[f32; LANES]; R];

#[inline(always)]
pub(crate) fn attention<S: Simd>(
    s: S,
    call: Attention<'_>,
    scores: &mut [f32],
    out: &mut [&mut [f32]],
) {
    let tokens = call.queries.len();
    assert_eq!(out.len(), tokens, "attention: an output a token");
    let Some(first) = call.queries.first() else {
        return;
    };
    let dim = call.dim;
    assert!(dim > 0, "attention: dim");
    assert!(
        first.len().is_multiple_of(dim),
        "attention: heads x dim queries"
    );
    for (queries, out) in call.queries.iter().zip(&*out) {
        assert_eq!(
            (queries.len(), out.len()),
            (first.len(), first.len()),
            "attention: heads x dim queries and outputs of each token"
        );
    }
    let blocks = (call.positions + tokens - 1).div_ceil(LANES);
    for numbers in [call.keys, call.values] {
        assert_eq!(
            numbers.len(),
            blocks * LANES * dim,
            "attention: blocks of keys and values"
        );
        if let Floats::I8(_, scales) = numbers {
            assert_eq!(
                scales.len(),
                blocks * LANES,
                "attention: a scale a position"
            );
        }
    }
    let heads = first.len() / dim;
    let rows = tokens * heads;
    let mut row = 0;
    while row < rows {
        let left = rows - row;
        row += if S::ACCUMULATORS >= 16 && left >= 8 {
            tile::<S, 8, 2, 2>(s, call, heads, row, scores, out)
        } else if S::ACCUMULATORS >= 16 && left >= 4 {
            tile::<S, 4, 2, 4>(s, call, heads, row, scores, out)
        } else if S::ACCUMULATORS >= 16 && left >= 2 {
            tile::<S, 2, 4, 4>(s, call, heads, row, scores, out)
        } else if S::ACCUMULATORS >= 16 {
            tile::<S, 1, 4, 8>(s, call, heads, row, scores, out)
        } else if S::ACCUMULATORS >= 4 && left >= 4 {
            tile::<S, 4, 1, 1>(s, call, heads, row, scores, out)
        } else if S::ACCUMULATORS >= 4 && left >= 2 {
            tile::<S, 2, 2, 2>(s, call, heads, row, scores, out)
        } else if S::ACCUMULATORS >= 4 {
            tile::<S, 1, 4, 4>(s, call, heads, row, scores, out)
        } else {
            tile::<S, 1, 1, 1>(s, call, heads, row, scores, out)
        };
    }
}

/// `R` rows of queries from `row` on, `B` blocks of keys and `C` vectors of values at once; returns `R`.
#[inline(always)]
fn tile<S: Simd, const R: usize, const B: usize, const C: usize>(
    s: S,
    call: Attention<'_>,
    heads: usize,
    row: usize,
    scores: &mut [f32],
    out: &mut [&mut [f32]],
) -> usize {
    let dim = call.dim;
    // Token and head of each row, and the positions that it sees: the first row sees fewest.
    let place: [(usize, usize); R] = from_fn(|r| ((row + r) / heads, (row + r) % heads));
    let seen: [usize; R] = from_fn(|r| call.positions + place[r].0);
    let queries: [&[f32]; R] = from_fn(|r| &call.queries[place[r].0][place[r].1 * dim..][..dim]);
    let blocks = seen[R - 1].div_ceil(LANES);
    let (scores, _) = scores[..blocks * R * LANES].as_chunks_mut();
    let (scores, _) = scores.as_chunks_mut::<R>();
    match call.keys {
        Floats::F32(keys) => score::<S, f32, R, B, 1>(s, queries, keys, None, call.scale, scores),
        Floats::F16(keys) => score::<S, f16, R, B, 2>(s, queries, keys, None, call.scale, scores),
        Floats::I8(keys, scales) => {
            score::<S, i8, R, B, 4>(s, queries, keys, Some(scales), call.scale, scores);
        }
    }
    let scales = match call.values {
        Floats::I8(_, scales) => Some(scales),
        Floats::F32(_) | Floats::F16(_) => None,
    };
    let mut sums = [0.0; R];
    for r in 0..R {
        sums[r] = weights::<S, R>(s, scores, r, seen[r], scales);
    }
    let scores = &*scores;
    let mut outputs = Outputs { place, out, sums };
    match call.values {
        Floats::F32(values) => weigh::<S, f32, R, C, 1>(s, scores, seen, values, dim, &mut outputs),
        Floats::F16(values) => weigh::<S, f16, R, C, 2>(s, scores, seen, values, dim, &mut outputs),
        Floats::I8(values, _) => {
            weigh::<S, i8, R, C, 4>(s, scores, seen, values, dim, &mut outputs);
        }
    }
    R
}

/// `scores[block][row][position] = (query · key) · scale`, whole blocks: positions that a row does not see have any number.
/// `U` features are a cache line.
#[inline(always)]
fn score<S: Simd, E: Element, const R: usize, const B: usize, const U: usize>(
    s: S,
    queries: [&[f32]; R],
    keys: &[E],
    scales: Option<&[f32]>,
    scale: f32,
    scores: &mut [Block<R>],
) {
    let mut block = 0;
    while block + B <= scores.len() {
        score_blocks::<S, E, R, B, U>(s, queries, keys, scales, scale, block, scores);
        block += B;
    }
    while B > 4 && block + 2 <= scores.len() {
        score_blocks::<S, E, R, 2, U>(s, queries, keys, scales, scale, block, scores);
        block += 2;
    }
    while block < scores.len() {
        score_blocks::<S, E, R, 1, U>(s, queries, keys, scales, scale, block, scores);
        block += 1;
    }
}

#[inline(always)]
fn score_blocks<S: Simd, E: Element, const R: usize, const B: usize, const U: usize>(
    s: S,
    queries: [&[f32]; R],
    keys: &[E],
    scales: Option<&[f32]>,
    scale: f32,
    block: usize,
    scores: &mut [Block<R>],
) {
    let dim = queries[0].len();
    let queries: [&[f32]; R] = queries.map(|q| &q[..dim]);
    let (keys, _) = keys.as_chunks::<LANES>();
    let keys: [&[[E; LANES]]; B] = from_fn(|b| &keys[(block + b) * dim..][..dim]);
    let mut sums = [[s.splat(0.0); B]; R];
    let lines: [&[[[E; LANES]; U]]; B] = keys.map(|keys| keys.as_chunks().0);
    // What the next blocks are read from, a line of each in the order of memory.
    let next = keys[B - 1].as_ptr_range().end.cast::<[u8; LINE]>();
    for i in 0..dim / U {
        for b in 0..B {
            s.prefetch(next.wrapping_add(i * B + b + AHEAD / 2 / LINE).cast());
        }
        for u in 0..U {
            let mut key = [s.splat(0.0); B];
            for b in 0..B {
                key[b] = E::load(s, &lines[b][i][u]);
            }
            for r in 0..R {
                let query = s.splat(queries[r][i * U + u]);
                for b in 0..B {
                    sums[r][b] = s.fma(query, key[b], sums[r][b]);
                }
            }
        }
    }
    for i in dim / U * U..dim {
        for b in 0..B {
            let key = E::load(s, &keys[b][i]);
            for r in 0..R {
                sums[r][b] = s.fma(s.splat(queries[r][i]), key, sums[r][b]);
            }
        }
    }
    let scale = s.splat(scale);
    for b in 0..B {
        let by = scales.map(|scales| s.load(&scales.as_chunks().0[block + b]));
        for r in 0..R {
            let mut sum = sums[r][b];
            if let Some(by) = by {
                sum = s.mul(sum, by);
            }
            s.store(s.mul(sum, scale), &mut scores[block + b][r]);
        }
    }
}

/// The numbers of the lanes.
const LANE: [f32; LANES] = [
    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
];

/// Turns the scores of one row into `exp(score − maximum)` of the positions that it sees, 0 in the rest of their last block,
/// times the scale of the position; returns their sum before that.
#[inline(always)]
fn weights<S: Simd, const R: usize>(
    s: S,
    scores: &mut [Block<R>],
    row: usize,
    seen: usize,
    scales: Option<&[f32]>,
) -> f32 {
    let low = s.splat(f32::NEG_INFINITY);
    let (whole, rest) = (seen / LANES, seen % LANES);
    if rest > 0 {
        let block = &mut scores[whole][row];
        let inside = s.if_less(s.load(&LANE), s.splat(rest as f32), s.load(block), low);
        s.store(inside, block);
    }
    let scores = &mut scores[..seen.div_ceil(LANES)];
    let mut max = low;
    for block in &*scores {
        max = s.max(s.load(&block[row]), max);
    }
    let max = s.splat(largest(s, max));
    let mut sum = s.splat(0.0);
    for (i, block) in scores.iter_mut().enumerate() {
        let block = &mut block[row];
        let mut weight = exp_to_one(s, s.sub(s.load(block), max));
        sum = s.add(sum, weight);
        if let Some(scales) = scales {
            weight = s.mul(weight, s.load(&scales.as_chunks().0[i]));
        }
        s.store(weight, block);
    }
    s.reduce(sum)
}

/// Where the outputs of a tile go, and what they are divided by.
struct Outputs<'a, 'b, const R: usize> {
    place: [(usize, usize); R],
    out: &'a mut [&'b mut [f32]],
    sums: [f32; R],
}

/// `out[row][column] = (Σ_position weight[row][position] · value[position][column]) / sum[row]`, in the order of positions.
#[inline(always)]
fn weigh<S: Simd, E: Element, const R: usize, const C: usize, const U: usize>(
    s: S,
    weights: &[Block<R>],
    seen: [usize; R],
    values: &[E],
    dim: usize,
    to: &mut Outputs<'_, '_, R>,
) {
    let mut column = 0;
    while column + C * LANES <= dim {
        weigh_columns::<S, E, R, C, U, true>(s, weights, seen, values, dim, column, to);
        column += C * LANES;
    }
    while C > 4 && column + 4 * LANES <= dim {
        weigh_columns::<S, E, R, 4, U, true>(s, weights, seen, values, dim, column, to);
        column += 4 * LANES;
    }
    while column + LANES <= dim {
        weigh_columns::<S, E, R, 1, U, true>(s, weights, seen, values, dim, column, to);
        column += LANES;
    }
    if column < dim {
        weigh_columns::<S, E, R, 1, U, false>(s, weights, seen, values, dim, column, to);
    }
}

/// `C` vectors of columns; where they are not `FULL`, the rest of the columns: less than a vector.
#[inline(always)]
fn weigh_columns<
    S: Simd,
    E: Element,
    const R: usize,
    const C: usize,
    const U: usize,
    const FULL: bool,
>(
    s: S,
    weights: &[Block<R>],
    seen: [usize; R],
    values: &[E],
    dim: usize,
    column: usize,
    to: &mut Outputs<'_, '_, R>,
) {
    let end = if FULL { column + C * LANES } else { dim };
    let mut sums = [[s.splat(0.0); C]; R];
    let mut rows = values.chunks_exact(dim).map(|row| &row[column..end]);
    // Positions that all rows see, then those that only the later ones do.
    for (weights, lanes) in weights.iter().zip(blocks_of(seen[0])) {
        for (lane, row) in (0..lanes).zip(&mut rows) {
            let value = load::<S, E, C, U, FULL>(s, row);
            for r in 0..R {
                let weight = s.splat(weights[r][lane]);
                for c in 0..C {
                    sums[r][c] = s.fma(weight, value[c], sums[r][c]);
                }
            }
        }
    }
    for (position, row) in (seen[0]..seen[R - 1]).zip(rows) {
        let value = load::<S, E, C, U, FULL>(s, row);
        let weights = &weights[position / LANES];
        for r in 0..R {
            if position < seen[r] {
                let weight = s.splat(weights[r][position % LANES]);
                for c in 0..C {
                    sums[r][c] = s.fma(weight, value[c], sums[r][c]);
                }
            }
        }
    }
    for r in 0..R {
        let (token, head) = to.place[r];
        let out = &mut to.out[token][head * dim..][column..end];
        // Without positions there is nothing to divide.
        let by = s.splat(if seen[r] == 0 { 1.0 } else { to.sums[r] });
        if FULL {
            let (out, _) = out.as_chunks_mut();
            for c in 0..C {
                s.store(s.div(sums[r][c], by), &mut out[c]);
            }
        } else {
            s.store_tail(s.div(sums[r][0], by), out);
        }
    }
}

/// The lengths of the blocks of `positions` positions.
#[inline(always)]
fn blocks_of(positions: usize) -> impl Iterator<Item = usize> {
    (0..positions.div_ceil(LANES)).map(move |block| (positions - block * LANES).min(LANES))
}

/// `C` vectors of a row of values, or less than one; `U` vectors are a cache line.
#[inline(always)]
fn load<S: Simd, E: Element, const C: usize, const U: usize, const FULL: bool>(
    s: S,
    row: &[E],
) -> [S::V; C] {
    let mut value = [s.splat(0.0); C];
    if FULL {
        let (row, _) = row.as_chunks();
        let row: &[[E; LANES]; C] = row.try_into().expect("C vectors");
        for c in 0..C {
            if c % U == 0 {
                s.prefetch(row[c].as_ptr().cast::<u8>().wrapping_add(AHEAD));
            }
            value[c] = E::load(s, &row[c]);
        }
    } else {
        value[0] = E::load_tail(s, row);
    }
    value
}
