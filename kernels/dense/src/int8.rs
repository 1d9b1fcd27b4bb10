//! Int8: a scale a row, absmax activations a token.
//!
//! A panel holds for each four k the four bytes of each row, then for each row `OFFSET · Σ weight`, which the unsigned
//! activations add too much. A group holds for each four k the four bytes of each token, then one over each token's scale
//! as f64. Sums are exact; a result is `(sum as f64 · (row scale · 1/activation scale)) as f32`. For ternary rows the scale
//! is 1/127 rounded to f32, off by less than 2^-25, so that `127 · n` times it rounds to `n` exactly for `n < 2^24`.

use std::array::from_fn;

use crate::bytes::{Bytes, activation_scale, largest, quantize};
use crate::driver::{GROUP, Panel};
use crate::float::Lanes;

/// How far ahead of its reads a GEMV stream asks for its bytes.
const AHEAD: usize = 4096;

/// Bytes of the weights of a panel.
const fn weight_bytes(rows: usize, k: usize) -> usize {
    k.div_ceil(4) * rows * 4
}

/// Bytes of the activations of a group.
const fn act_bytes(k: usize) -> usize {
    k.div_ceil(4) * GROUP * 4
}

pub(crate) const fn panel_bytes(rows: usize, k: usize) -> usize {
    (weight_bytes(rows, k) + rows * 4).next_multiple_of(64)
}

pub(crate) const fn group_bytes(k: usize) -> usize {
    (act_bytes(k) + GROUP * 8).next_multiple_of(64)
}

pub(crate) fn pack_panel<B: Bytes>(
    rows: usize,
    weights: &[f32],
    k: usize,
    panel: &mut [u8],
    scales: &mut Vec<f32>,
) {
    let (bytes, offsets) = panel.split_at_mut(weight_bytes(rows, k));
    for (r, row) in weights.chunks_exact(k).enumerate() {
        let max = largest(row);
        let scale = if max > 0.0 { 127.0 / max } else { 0.0 };
        let mut sum = 0i32;
        for (i, weight) in row.iter().enumerate() {
            let q = (weight * scale).round_ties_even().clamp(-127.0, 127.0) as i8;
            sum += i32::from(q);
            bytes[(i / 4 * rows + r) * 4 + i % 4] = q.cast_unsigned();
        }
        let offset = sum * i32::from(B::OFFSET);
        offsets[r * 4..r * 4 + 4].copy_from_slice(&offset.to_ne_bytes());
        scales.push(max / 127.0);
    }
}

#[inline(always)]
pub(crate) fn prepare_group<B: Bytes>(tokens: &[f32], k: usize, group: &mut [u8]) {
    let (acts, inverse) = group.split_at_mut(act_bytes(k));
    // What no token or feature fills is zero.
    acts.fill(B::OFFSET);
    for (t, x) in tokens.chunks_exact(k).enumerate() {
        let scale = activation_scale(x);
        let (fours, tail) = x.as_chunks::<4>();
        let (places, _) = acts.as_chunks_mut::<4>();
        for (place, x) in places[t..].iter_mut().step_by(GROUP).zip(fours) {
            *place = x.map(|x| quantize(x, scale).cast_unsigned() ^ B::OFFSET);
        }
        for (i, x) in tail.iter().enumerate() {
            acts[(fours.len() * GROUP + t) * 4 + i] =
                quantize(*x, scale).cast_unsigned() ^ B::OFFSET;
        }
        inverse[t * 8..t * 8 + 8].copy_from_slice(&(1.0 / f64::from(scale)).to_ne_bytes());
    }
    inverse[tokens.len() / k * 8..].fill(0);
}

/// A tile of `J` vectors of rows, `P` of them a pass, and `groups` groups, `MAX` at most; see [`crate::driver::Method::tile`].
#[inline(always)]
pub(crate) fn tile<B: Bytes, const J: usize, const P: usize, const MAX: usize>(
    panel: Panel<'_>,
    groups: &[&[u8]],
    out: &mut [f32],
) {
    match *groups {
        [a] => tile_of::<B, J, P, 1>(panel, [a], out),
        [a, b] if MAX >= 2 => tile_of::<B, J, P, 2>(panel, [a, b], out),
        [a, b, c] if MAX >= 3 => tile_of::<B, J, P, 3>(panel, [a, b, c], out),
        _ => unreachable!("a tile of {} groups", groups.len()),
    }
}

#[inline(always)]
fn tile_of<B: Bytes, const J: usize, const P: usize, const G: usize>(
    panel: Panel<'_>,
    groups: [&[u8]; G],
    out: &mut [f32],
) {
    const { assert!(J.is_multiple_of(P), "whole passes") };
    let rows = J * B::F::N;
    let steps = panel.k.div_ceil(4);
    let weights = &panel.bytes[..weight_bytes(rows, panel.k)];
    let acts: [&[u8]; G] = groups.map(|group| &group[..act_bytes(panel.k)]);
    assert_eq!(out.len(), G * GROUP * rows, "tile size");
    for pass in (0..J).step_by(P) {
        // SAFETY: a method exists only where its instruction set does. The slices above hold `steps` times four bytes a
        // row and token.
        let sums = unsafe {
            let mut sums = [[[B::zero(); P]; GROUP]; G];
            for i in 0..steps {
                let at = weights.as_ptr().add((i * rows + pass * B::F::N) * 4);
                let w: [B::W; P] = from_fn(|p| B::weights(B::load(at.add(p * B::F::N * 4))));
                for g in 0..G {
                    for t in 0..GROUP {
                        let x = B::splat(acts[g].as_ptr().add((i * GROUP + t) * 4));
                        for p in 0..P {
                            sums[g][t][p] = B::dot_signed(sums[g][t][p], w[p], x);
                        }
                    }
                }
            }
            sums
        };
        for (g, out) in out.chunks_exact_mut(GROUP * rows).enumerate() {
            for (t, out) in out.chunks_exact_mut(rows).enumerate() {
                let out = &mut out[pass * B::F::N..(pass + P) * B::F::N];
                scale::<B, P>(panel, rows, pass, groups[g], t, sums[g][t], out);
            }
        }
    }
}

/// Turns the sums of `P` of a panel's vectors, from `first`, into results.
#[inline(always)]
fn scale<B: Bytes, const P: usize>(
    panel: Panel<'_>,
    rows: usize,
    first: usize,
    group: &[u8],
    token: usize,
    sums: [B::V; P],
    out: &mut [f32],
) {
    let at = act_bytes(panel.k) + token * 8;
    let inverse = f64::from_ne_bytes(group[at..at + 8].try_into().expect("eight bytes"));
    let first = first * B::F::N;
    let (offsets, _) = panel.bytes[weight_bytes(rows, panel.k)..].as_chunks::<4>();
    let scales = panel.scales.get(first..).unwrap_or(&[]);
    let mut lanes = [0i32; 64];
    let lanes = &mut lanes[..P * B::F::N];
    for p in 0..P {
        // SAFETY: a method exists only where its instruction set does, and there are as many lanes as are stored.
        unsafe { B::store(sums[p], lanes.as_mut_ptr().add(p * B::F::N)) }
    }
    let factors = offsets[first..].iter().zip(scales);
    for ((out, sum), (offset, scale)) in out.iter_mut().zip(lanes).zip(factors) {
        let sum = sum.wrapping_sub(i32::from_ne_bytes(*offset));
        *out = (f64::from(sum) * (f64::from(*scale) * inverse)) as f32;
    }
}

/// One token; see [`crate::driver::Method::gemv`].
#[inline(always)]
pub(crate) fn gemv<B: Bytes, const J: usize, const S: usize>(
    panels: [Panel<'_>; S],
    group: &[u8],
    token: usize,
    out: &mut [f32],
) {
    let rows = J * B::F::N;
    let k = panels[0].k;
    let steps = k.div_ceil(4);
    let weights: [&[u8]; S] = panels.map(|panel| &panel.bytes[..weight_bytes(rows, k)]);
    let acts = &group[..act_bytes(k)];
    assert!(token < GROUP, "a token of the group");
    // SAFETY: a method exists only where its instruction set does; the slices above hold `steps` steps. A prefetch reads
    // nothing.
    let sums = unsafe {
        let mut sums = [[B::zero(); J]; S];
        for i in 0..steps {
            let x = B::splat(acts.as_ptr().add((i * GROUP + token) * 4));
            for s in 0..S {
                let at = weights[s].as_ptr().add(i * rows * 4);
                for line in 0..(rows * 4).div_ceil(64) {
                    B::prefetch(at.wrapping_add(AHEAD + line * 64));
                }
                for j in 0..J {
                    let w = B::weights(B::load(at.add(j * B::F::N * 4)));
                    sums[s][j] = B::dot_signed(sums[s][j], w, x);
                }
            }
        }
        sums
    };
    for (s, out) in out.chunks_exact_mut(rows).enumerate() {
        scale::<B, J>(panels[s], rows, 0, group, token, sums[s], out);
    }
}
