//! Four bits: blocks of 32 weights with an f16 scale each, absmax int8 activations a token.
//!
//! A block's scale `d` is its largest magnitude over 7, rounded to f16; the codes are `round(w / d)`, limited to −8..=7, plus
//! 8. A panel holds for each block the scales of its rows, then four lines: the low halves of line `z` hold four k of each
//! row, those of step `2z`, the high halves those of step `2z + 1`. A group holds the int8 activations four k at a time,
//! token after token; then for each block and token `−8 · Σ act`, which takes the 8 off; then one over each token's scale.
//!
//! With ternary weights `d` is 1/7 rounded to f16, and `7 · d` is off by less than 2^-11: that is the error of a result,
//! relative to `Σ|act|`, but for the f32 additions of `K / 32` blocks.

use half::f16;

use crate::bytes::{Bytes, activation_scale, largest, quantize};
use crate::driver::{GROUP, Panel};
use crate::float::Lanes;

/// Weights of a block.
const BLOCK: usize = 32;
/// Steps of four k of a block.
const STEPS: usize = BLOCK / 4;

/// Bytes of a block of `rows` rows.
const fn block_bytes(rows: usize) -> usize {
    rows * (2 + BLOCK / 2)
}

/// Bytes of the activations of a group.
const fn act_bytes(k: usize) -> usize {
    k.div_ceil(BLOCK) * BLOCK * GROUP
}

/// Bytes of the sums of a group.
const fn sum_bytes(k: usize) -> usize {
    k.div_ceil(BLOCK) * GROUP * 4
}

pub(crate) const fn panel_bytes(rows: usize, k: usize) -> usize {
    (k.div_ceil(BLOCK) * block_bytes(rows)).next_multiple_of(64)
}

pub(crate) const fn group_bytes(k: usize) -> usize {
    (act_bytes(k) + sum_bytes(k) + GROUP * 4).next_multiple_of(64)
}

pub(crate) fn pack_panel(rows: usize, weights: &[f32], k: usize, panel: &mut [u8]) {
    let blocks = panel
        .chunks_exact_mut(block_bytes(rows))
        .take(k.div_ceil(BLOCK));
    for (b, block) in blocks.enumerate() {
        let (scales, codes) = block.split_at_mut(rows * 2);
        // The code of zero, for rows and features that do not exist.
        codes.fill(0x88);
        for (r, row) in weights.chunks_exact(k).enumerate() {
            let row = &row[b * BLOCK..k.min((b + 1) * BLOCK)];
            let d = f16::from_f32(largest(row) / 7.0);
            scales[r * 2..r * 2 + 2].copy_from_slice(&d.to_ne_bytes());
            let d = d.to_f32();
            for (i, weight) in row.iter().enumerate() {
                let q = if d > 0.0 { weight / d } else { 0.0 };
                let code = (q.round_ties_even().clamp(-8.0, 7.0) + 8.0) as u8;
                let (step, byte) = (i / 4, i % 4);
                let at = &mut codes[(step / 2 * rows + r) * 4 + byte];
                *at = if step % 2 == 0 {
                    *at & 0xF0 | code
                } else {
                    *at & 0x0F | code << 4
                };
            }
        }
    }
}

#[inline(always)]
pub(crate) fn prepare_group(tokens: &[f32], k: usize, group: &mut [u8]) {
    group.fill(0);
    let (acts, rest) = group.split_at_mut(act_bytes(k));
    let (sums, inverse) = rest.split_at_mut(sum_bytes(k));
    let (acts, _) = acts.as_chunks_mut::<4>();
    let (sums, _) = sums.as_chunks_mut::<4>();
    for (t, x) in tokens.chunks_exact(k).enumerate() {
        let scale = activation_scale(x);
        inverse[t * 4..t * 4 + 4].copy_from_slice(&(1.0 / scale).to_ne_bytes());
        for (b, x) in x.chunks(BLOCK).enumerate() {
            let mut block = [0; BLOCK];
            for (to, x) in block.iter_mut().zip(x) {
                *to = quantize(*x, scale);
            }
            let total: i32 = block.iter().map(|q| i32::from(*q)).sum();
            sums[b * GROUP + t] = (-8 * total).to_ne_bytes();
            for (step, four) in block.as_chunks::<4>().0.iter().enumerate() {
                acts[(b * STEPS + step) * GROUP + t] = four.map(i8::cast_unsigned);
            }
        }
    }
}

/// Adds blocks to the float sums of `J` vectors of rows and the `T` tokens from `first`.
///
/// # Safety
/// The instruction set is there; `at` points to a block, and `acts` and `sums` to that block of a group.
#[expect(
    clippy::cast_ptr_alignment,
    reason = "panels are aligned, and a block has an even size"
)]
#[inline(always)]
unsafe fn block<B: Bytes, const J: usize, const T: usize>(
    at: *const u8,
    acts: *const u8,
    sums: *const u8,
    out: &mut [[<B::F as Lanes>::V; J]; T],
) {
    let rows = J * B::F::N;
    // SAFETY: as the caller says; the sizes are those of `block_bytes`, `act_bytes` and `sum_bytes`.
    unsafe {
        let mut parts = [[B::begin(); J]; T];
        for z in 0..STEPS / 2 {
            for j in 0..J {
                let codes = B::load(at.add(rows * 2 + (z * rows + j * B::F::N) * 4));
                let (low, high) = (B::low(codes), B::high(codes));
                for t in 0..T {
                    let x = B::splat(acts.add((2 * z * GROUP + t) * 4));
                    parts[t][j] = B::dot_codes(parts[t][j], low, x);
                }
                for t in 0..T {
                    let x = B::splat(acts.add(((2 * z + 1) * GROUP + t) * 4));
                    parts[t][j] = B::dot_codes(parts[t][j], high, x);
                }
            }
        }
        for j in 0..J {
            let d = B::F::load_f16(at.cast::<f16>().add(j * B::F::N));
            for t in 0..T {
                let sum = B::add(B::finish(parts[t][j]), B::splat(sums.add(t * 4)));
                out[t][j] = B::F::multiply_add(B::to_float(sum), d, out[t][j]);
            }
        }
    }
}

/// Multiplies by one over the activation scales and stores.
///
/// # Safety
/// The instruction set is there.
#[inline(always)]
unsafe fn store<B: Bytes, const J: usize, const T: usize>(
    inverse: &[u8],
    sums: [[<B::F as Lanes>::V; J]; T],
    out: &mut [f32],
) {
    let rows = J * B::F::N;
    assert_eq!(out.len(), T * rows, "tile size");
    for t in 0..T {
        for j in 0..J {
            // SAFETY: as the caller says; `out` holds T times J vectors.
            unsafe { B::F::store(sums[t][j], out.as_mut_ptr().add(t * rows + j * B::F::N)) }
        }
    }
    let (inverse, _) = inverse.as_chunks::<4>();
    for (out, inverse) in out.chunks_exact_mut(rows).zip(inverse) {
        let inverse = f32::from_ne_bytes(*inverse);
        for out in out {
            *out *= inverse;
        }
    }
}

/// A tile of `J` vectors of rows and each of `groups`; see [`crate::driver::Method::tile`].
#[inline(always)]
pub(crate) fn tile<B: Bytes, const J: usize>(panel: Panel<'_>, groups: &[&[u8]], out: &mut [f32]) {
    let rows = J * B::F::N;
    let blocks = panel.k.div_ceil(BLOCK);
    assert!(
        panel.bytes.len() >= blocks * block_bytes(rows),
        "panel size"
    );
    for (group, out) in groups.iter().zip(out.chunks_exact_mut(GROUP * rows)) {
        let (acts, rest) = group.split_at(act_bytes(panel.k));
        let (corrections, inverse) = rest.split_at(sum_bytes(panel.k));
        // SAFETY: a method exists only where its instruction set does; the slices hold `blocks` blocks.
        unsafe {
            let mut sums = [[B::F::zero(); J]; GROUP];
            for b in 0..blocks {
                block::<B, J, GROUP>(
                    panel.bytes.as_ptr().add(b * block_bytes(rows)),
                    acts.as_ptr().add(b * BLOCK * GROUP),
                    corrections.as_ptr().add(b * GROUP * 4),
                    &mut sums,
                );
            }
            store::<B, J, GROUP>(inverse, sums, out);
        }
    }
}

/// One token; see [`crate::driver::Method::gemv`]. Each panel is prefetched `AHEAD` bytes ahead of its reads.
#[expect(
    clippy::cast_ptr_alignment,
    reason = "panels are aligned, and a block has an even size"
)]
#[inline(always)]
pub(crate) fn gemv<B: Bytes, const J: usize, const AHEAD: usize, const S: usize>(
    panels: [Panel<'_>; S],
    group: &[u8],
    token: usize,
    out: &mut [f32],
) {
    let rows = J * B::F::N;
    let size = block_bytes(rows);
    let k = panels[0].k;
    let blocks = k.div_ceil(BLOCK);
    let panels = panels.map(|panel| &panel.bytes[..blocks * size]);
    assert!(token < GROUP, "a token of the group");
    let (acts, rest) = group.split_at(act_bytes(k));
    let (corrections, inverse) = rest.split_at(sum_bytes(k));
    // SAFETY: a method exists only where its instruction set does; the slices hold `blocks` blocks. A prefetch reads nothing.
    unsafe {
        let mut sums = [[[B::F::zero(); J]; 1]; S];
        for b in 0..blocks {
            for s in 0..S {
                let at = panels[s].as_ptr().add(b * size);
                B::prefetch(at.wrapping_add(AHEAD));
                let acts = acts.as_ptr().add((b * STEPS * GROUP + token) * 4);
                let mut parts = [[B::begin(); 2]; J];
                for z in 0..STEPS / 2 {
                    let low = B::splat(acts.add(2 * z * GROUP * 4));
                    let high = B::splat(acts.add((2 * z + 1) * GROUP * 4));
                    for j in 0..J {
                        let offset = (z * rows + j * B::F::N) * 4;
                        let at = at.add(rows * 2 + offset);
                        // A line at a time, where its bytes are used: all lines of a block at once wait for one another.
                        if offset.is_multiple_of(64) {
                            B::prefetch(at.wrapping_add(AHEAD));
                        }
                        let codes = B::load(at);
                        parts[j][0] = B::dot_codes(parts[j][0], B::low(codes), low);
                        parts[j][1] = B::dot_codes(parts[j][1], B::high_in_place(codes), high);
                    }
                }
                let correction = B::splat(corrections.as_ptr().add((b * GROUP + token) * 4));
                for j in 0..J {
                    let sum = B::finish_both(parts[j]);
                    let d = B::F::load_f16(at.cast::<f16>().add(j * B::F::N));
                    let sum = B::to_float(B::add(sum, correction));
                    sums[s][0][j] = B::F::multiply_add(sum, d, sums[s][0][j]);
                }
            }
        }
        for (sums, out) in sums.into_iter().zip(out.chunks_exact_mut(rows)) {
            store::<B, J, 1>(&inverse[token * 4..], sums, out);
        }
    }
}
