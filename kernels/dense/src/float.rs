//! Floats: f32 activations times f32 or f16 weights, converted when they are loaded.
//!
//! A panel holds for each k the weights of its rows; a group holds for each k the activations of its tokens. Every sum is
//! sequential in k, so the order does not depend on the split.

use std::array::from_fn;
use std::ops::Range;

use bytemuck::Pod;
use half::f16;

use crate::driver::{GROUP, Panel};

/// How far ahead of its reads a GEMV stream asks for its bytes.
const AHEAD: usize = 4096;

/// Vectors of floats on one instruction set.
///
/// # Safety
/// Callers of the functions make sure that the instruction set is there and that [`Lanes::N`] numbers can be read or
/// written at the pointers ([`Lanes::splat`]: one). No alignment is asked for but that of the number.
pub(crate) trait Lanes: Copy {
    /// `N` lanes.
    type V: Copy;
    /// Lanes of a vector.
    const N: usize;

    unsafe fn zero() -> Self::V;
    unsafe fn splat(from: *const f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn load_f16(from: *const f16) -> Self::V;
    unsafe fn store(v: Self::V, to: *mut f32);
    /// `a · b + c`; the rounding of the product is not fixed.
    unsafe fn multiply_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn prefetch(at: *const u8);
}

/// A stored weight.
pub(crate) trait Weight: Pod {
    fn round(weight: f32) -> Self;
    /// # Safety
    /// As [`Lanes`].
    unsafe fn load<L: Lanes>(from: *const Self) -> L::V;
}

impl Weight for f32 {
    fn round(weight: f32) -> Self {
        weight
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L::V {
        // SAFETY: as the caller says.
        unsafe { L::load(from) }
    }
}

impl Weight for f16 {
    fn round(weight: f32) -> Self {
        Self::from_f32(weight)
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L::V {
        // SAFETY: as the caller says.
        unsafe { L::load_f16(from) }
    }
}

pub(crate) fn panel_bytes<W: Weight>(rows: usize, k: usize) -> usize {
    (rows * k * size_of::<W>()).next_multiple_of(64)
}

pub(crate) fn group_bytes(k: usize) -> usize {
    (GROUP * k * size_of::<f32>()).next_multiple_of(64)
}

pub(crate) fn pack_panel<W: Weight>(rows: usize, weights: &[f32], k: usize, panel: &mut [u8]) {
    let panel: &mut [W] = bytemuck::cast_slice_mut(panel);
    for (r, row) in weights.chunks_exact(k).enumerate() {
        for (at, weight) in panel.chunks_exact_mut(rows).zip(row) {
            at[r] = W::round(*weight);
        }
    }
}

pub(crate) fn prepare_group(tokens: &[f32], k: usize, group: &mut [u8]) {
    let group: &mut [f32] = bytemuck::cast_slice_mut(group);
    let group = &mut group.as_chunks_mut::<GROUP>().0[..k];
    let rows: [&[f32]; GROUP] = from_fn(|t| tokens.get(t * k..(t + 1) * k).unwrap_or(&[]));
    if rows.iter().all(|row| row.len() == k) {
        let rows = rows.map(|row| &row[..k]);
        for (i, to) in group.iter_mut().enumerate() {
            *to = from_fn(|t| rows[t][i]);
        }
    } else {
        group.fill([0.0; GROUP]);
        for (t, row) in rows.iter().enumerate() {
            for (to, x) in group.iter_mut().zip(*row) {
                to[t] = *x;
            }
        }
    }
}

/// A tile of `J` vectors of rows, `P` of them a pass, and `groups` groups, `MAX` at most; see [`crate::driver::Method::tile`].
#[inline(always)]
pub(crate) fn tile<L: Lanes, W: Weight, const J: usize, const P: usize, const MAX: usize>(
    panel: Panel<'_>,
    groups: &[&[u8]],
    k: Range<usize>,
    out: &mut [f32],
) {
    match *groups {
        [a] => tile_of::<L, W, J, P, 1>(panel, [a], k, out),
        [a, b] if MAX >= 2 => tile_of::<L, W, J, P, 2>(panel, [a, b], k, out),
        [a, b, c] if MAX >= 3 => tile_of::<L, W, J, P, 3>(panel, [a, b, c], k, out),
        _ => unreachable!("a tile of {} groups", groups.len()),
    }
}

#[inline(always)]
fn tile_of<L: Lanes, W: Weight, const J: usize, const P: usize, const G: usize>(
    panel: Panel<'_>,
    groups: [&[u8]; G],
    k: Range<usize>,
    out: &mut [f32],
) {
    const { assert!(J.is_multiple_of(P), "whole passes") };
    let rows = J * L::N;
    let weights: &[W] = &bytemuck::cast_slice(panel.bytes)[k.start * rows..k.end * rows];
    let groups: [&[f32]; G] =
        groups.map(|group| &bytemuck::cast_slice(group)[k.start * GROUP..k.end * GROUP]);
    assert_eq!(out.len(), G * GROUP * rows, "tile size");
    // SAFETY: a method exists only where its instruction set does. The slices above hold `k.len()` times `rows` weights
    // and GROUP activations, and `out` holds what is stored.
    unsafe {
        for pass in (0..J).step_by(P) {
            let mut sums = [[[L::zero(); P]; GROUP]; G];
            for i in 0..k.len() {
                let at = weights.as_ptr().add(i * rows + pass * L::N);
                let w: [L::V; P] = from_fn(|p| W::load::<L>(at.add(p * L::N)));
                for g in 0..G {
                    for t in 0..GROUP {
                        let x = L::splat(groups[g].as_ptr().add(i * GROUP + t));
                        for p in 0..P {
                            sums[g][t][p] = L::multiply_add(w[p], x, sums[g][t][p]);
                        }
                    }
                }
            }
            for g in 0..G {
                for t in 0..GROUP {
                    for p in 0..P {
                        let at = (g * GROUP + t) * rows + (pass + p) * L::N;
                        L::store(sums[g][t][p], out.as_mut_ptr().add(at));
                    }
                }
            }
        }
    }
}

/// One token; see [`crate::driver::Method::gemv`].
#[inline(always)]
pub(crate) fn gemv<L: Lanes, W: Weight, const J: usize, const S: usize>(
    panels: [Panel<'_>; S],
    group: &[u8],
    token: usize,
    out: &mut [f32],
) {
    let rows = J * L::N;
    let k = panels[0].k;
    let weights: [&[W]; S] = panels.map(|panel| &bytemuck::cast_slice(panel.bytes)[..k * rows]);
    let acts: &[f32] = &bytemuck::cast_slice(group)[..k * GROUP];
    assert!(token < GROUP && out.len() == S * rows, "tile size");
    // SAFETY: a method exists only where its instruction set does; the slices above hold k features, and `out` holds what is
    // stored. A prefetch reads nothing.
    unsafe {
        let mut sums = [[L::zero(); J]; S];
        for i in 0..k {
            let x = L::splat(acts.as_ptr().add(i * GROUP + token));
            for s in 0..S {
                let at = weights[s].as_ptr().add(i * rows);
                for line in 0..(rows * size_of::<W>()).div_ceil(64) {
                    L::prefetch(at.cast::<u8>().wrapping_add(AHEAD + line * 64));
                }
                for j in 0..J {
                    sums[s][j] = L::multiply_add(W::load::<L>(at.add(j * L::N)), x, sums[s][j]);
                }
            }
        }
        for s in 0..S {
            for j in 0..J {
                L::store(sums[s][j], out.as_mut_ptr().add(s * rows + j * L::N));
            }
        }
    }
}
