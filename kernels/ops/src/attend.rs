//! Attention of the query heads that share one key and value head: each key and each value is loaded once for a block
//! of heads.

use std::array::from_fn;

use half::f16;

use crate::lanes::{reduce_all, softmax};
use crate::simd::{Element, LANES, Simd};
use crate::{Attention, Floats};

/// How far ahead of its reads the cache is asked for: a long one comes from memory.
const AHEAD: usize = 8192;

#[inline(always)]
pub(crate) fn attention<S: Simd>(s: S, call: Attention<'_>, scores: &mut [f32], out: &mut [f32]) {
    let dim = call.dim;
    assert!(dim > 0, "attention: dim");
    assert!(
        call.queries.len().is_multiple_of(dim),
        "attention: heads x dim queries"
    );
    assert_eq!(out.len(), call.queries.len(), "attention: output size");
    let positions = call.keys.len() / dim;
    assert_eq!(
        call.keys.len(),
        positions * dim,
        "attention: positions x dim keys"
    );
    assert_eq!(
        call.values.len(),
        call.keys.len(),
        "attention: as many values as keys"
    );
    let heads = call.queries.len() / dim;
    let scores = &mut scores[..heads * positions];
    if positions == 0 {
        out.fill(0.0);
        return;
    }
    match call.keys {
        Floats::F32(keys) => score::<S, f32>(s, call.queries, keys, dim, call.scale, scores),
        Floats::F16(keys) => score::<S, f16>(s, call.queries, keys, dim, call.scale, scores),
        Floats::I8(keys, scales) => {
            score::<S, i8>(s, call.queries, keys, dim, 1.0, scores);
            scale_rows(scores, scales, positions);
            for score in &mut *scores {
                *score *= call.scale;
            }
        }
    }
    for scores in scores.chunks_exact_mut(positions) {
        softmax(s, scores);
    }
    match call.values {
        Floats::F32(values) => weigh::<S, f32>(s, scores, values, dim, out),
        Floats::F16(values) => weigh::<S, f16>(s, scores, values, dim, out),
        Floats::I8(values, scales) => {
            scale_rows(scores, scales, positions);
            weigh::<S, i8>(s, scores, values, dim, out);
        }
    }
}

/// Multiplies every head's scores with the scales of their positions.
#[inline(always)]
fn scale_rows(scores: &mut [f32], scales: &[f32], positions: usize) {
    assert_eq!(scales.len(), positions, "attention: a scale a position");
    for scores in scores.chunks_exact_mut(positions) {
        for (score, scale) in scores.iter_mut().zip(scales) {
            *score *= scale;
        }
    }
}

/// `scores[head, position] = (query · key) · scale`.
#[inline(always)]
fn score<S: Simd, E: Element>(
    s: S,
    queries: &[f32],
    keys: &[E],
    dim: usize,
    scale: f32,
    scores: &mut [f32],
) {
    let positions = keys.len() / dim;
    let heads = queries.len() / dim;
    let mut head = 0;
    while head < heads {
        let left = heads - head;
        let q = &queries[head * dim..];
        let out = &mut scores[head * positions..];
        head += if S::ACCUMULATORS >= 16 && left >= 4 {
            score_heads::<S, E, 4, 4>(s, q, keys, dim, scale, out)
        } else if S::ACCUMULATORS >= 4 && left >= 2 {
            score_heads::<S, E, 2, 2>(s, q, keys, dim, scale, out)
        } else if S::ACCUMULATORS >= 4 {
            score_heads::<S, E, 1, 4>(s, q, keys, dim, scale, out)
        } else {
            score_heads::<S, E, 1, 1>(s, q, keys, dim, scale, out)
        };
    }
}

/// The scores of the first `H` heads, `P` positions at once; returns `H`.
#[inline(always)]
fn score_heads<S: Simd, E: Element, const H: usize, const P: usize>(
    s: S,
    queries: &[f32],
    keys: &[E],
    dim: usize,
    scale: f32,
    scores: &mut [f32],
) -> usize {
    let positions = keys.len() / dim;
    let mut at = 0;
    while at + P <= positions {
        let block = score_block::<S, E, H, P>(s, queries, &keys[at * dim..], dim);
        for h in 0..H {
            for p in 0..P {
                scores[h * positions + at + p] = block[h][p] * scale;
            }
        }
        at += P;
    }
    while at < positions {
        let block = score_block::<S, E, H, 1>(s, queries, &keys[at * dim..], dim);
        for h in 0..H {
            scores[h * positions + at] = block[h][0] * scale;
        }
        at += 1;
    }
    H
}

#[inline(always)]
fn score_block<S: Simd, E: Element, const H: usize, const P: usize>(
    s: S,
    queries: &[f32],
    keys: &[E],
    dim: usize,
) -> [[f32; P]; H] {
    let queries: [(&[[f32; LANES]], &[f32]); H] =
        from_fn(|h| queries[h * dim..(h + 1) * dim].as_chunks());
    let keys: [(&[[E; LANES]], &[E]); P] = from_fn(|p| keys[p * dim..(p + 1) * dim].as_chunks());
    let mut sums = [[s.splat(0.0); P]; H];
    for i in 0..dim / LANES {
        let mut key = [s.splat(0.0); P];
        for p in 0..P {
            s.prefetch(keys[p].0[i].as_ptr().cast::<u8>().wrapping_add(AHEAD));
            key[p] = E::load(s, &keys[p].0[i]);
        }
        for h in 0..H {
            let query = s.load(&queries[h].0[i]);
            for p in 0..P {
                sums[h][p] = s.fma(query, key[p], sums[h][p]);
            }
        }
    }
    if !dim.is_multiple_of(LANES) {
        for p in 0..P {
            let key = E::load_tail(s, keys[p].1);
            for h in 0..H {
                sums[h][p] = s.fma(s.load_tail(queries[h].1), key, sums[h][p]);
            }
        }
    }
    let mut out = [[0.0; P]; H];
    for h in 0..H {
        reduce_all(s, &sums[h], &mut out[h]);
    }
    out
}

/// `out[head, column] = Σ_position weight[head, position] · value[position, column]`, in the order of positions.
#[inline(always)]
fn weigh<S: Simd, E: Element>(s: S, weights: &[f32], values: &[E], dim: usize, out: &mut [f32]) {
    let positions = values.len() / dim;
    let heads = out.len() / dim;
    let mut head = 0;
    while head < heads {
        let left = heads - head;
        let w = &weights[head * positions..];
        let out = &mut out[head * dim..];
        head += if S::ACCUMULATORS >= 16 && left >= 4 {
            weigh_heads::<S, E, 4, 4>(s, w, values, dim, out)
        } else if S::ACCUMULATORS >= 4 && left >= 4 {
            weigh_heads::<S, E, 4, 1>(s, w, values, dim, out)
        } else if S::ACCUMULATORS >= 16 {
            weigh_heads::<S, E, 1, 8>(s, w, values, dim, out)
        } else if S::ACCUMULATORS >= 4 {
            weigh_heads::<S, E, 1, 4>(s, w, values, dim, out)
        } else {
            weigh_heads::<S, E, 1, 1>(s, w, values, dim, out)
        };
    }
}

/// The outputs of the first `H` heads, `C` vectors of columns at once; returns `H`.
#[inline(always)]
fn weigh_heads<S: Simd, E: Element, const H: usize, const C: usize>(
    s: S,
    weights: &[f32],
    values: &[E],
    dim: usize,
    out: &mut [f32],
) -> usize {
    let positions = values.len() / dim;
    let weights: [&[f32]; H] = from_fn(|h| &weights[h * positions..(h + 1) * positions]);
    let mut column = 0;
    while column + C * LANES <= dim {
        weigh_block::<S, E, H, C>(s, weights, values, dim, column, out);
        column += C * LANES;
    }
    while C > 4 && column + 4 * LANES <= dim {
        weigh_block::<S, E, H, 4>(s, weights, values, dim, column, out);
        column += 4 * LANES;
    }
    while column + LANES <= dim {
        weigh_block::<S, E, H, 1>(s, weights, values, dim, column, out);
        column += LANES;
    }
    if column < dim {
        for h in 0..H {
            let mut sum = s.splat(0.0);
            for (weight, row) in weights[h].iter().zip(values.chunks_exact(dim)) {
                sum = s.fma(s.splat(*weight), E::load_tail(s, &row[column..]), sum);
            }
            s.store_tail(sum, &mut out[h * dim + column..(h + 1) * dim]);
        }
    }
    H
}

#[inline(always)]
fn weigh_block<S: Simd, E: Element, const H: usize, const C: usize>(
    s: S,
    weights: [&[f32]; H],
    values: &[E],
    dim: usize,
    column: usize,
    out: &mut [f32],
) {
    let mut sums = [[s.splat(0.0); C]; H];
    for (p, row) in values.chunks_exact(dim).enumerate() {
        let (row, _) = row[column..column + C * LANES].as_chunks();
        let row: &[[E; LANES]; C] = row.try_into().expect("C vectors");
        let mut value = [s.splat(0.0); C];
        for c in 0..C {
            s.prefetch(row[c].as_ptr().cast::<u8>().wrapping_add(AHEAD));
            value[c] = E::load(s, &row[c]);
        }
        for h in 0..H {
            let weight = s.splat(weights[h][p]);
            for c in 0..C {
                sums[h][c] = s.fma(weight, value[c], sums[h][c]);
            }
        }
    }
    for h in 0..H {
        let (to, _) = out[h * dim + column..][..C * LANES].as_chunks_mut();
        for c in 0..C {
            s.store(sums[h][c], &mut to[c]);
        }
    }
}
