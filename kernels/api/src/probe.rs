//! The multiplication that [`crate::KernelEntry::open`] tries before it believes the CPU.

use std::ops::Range;

use crate::{Activations, AlignedBuf, Codes, GemmArgs, Kernel, Packed, PreparedBuf, Scales};

/// Multiplies `rows` x `k` weights with `tokens` tokens, at least two, whose sums are known: row `r` holds `1`, `0` or `−1`
/// throughout, so that its sum is that many times the sum of the activations. All tokens at once, then the second alone: most kernels have
/// a path for each. False means that the CPU computes something else than its manual says.
pub fn probe(kernel: &dyn Kernel, rows: usize, k: usize, tokens: usize) -> bool {
    let codes: Vec<i8> = (0..rows * k).map(|i| 1 - (i / k % 3) as i8).collect();
    let acts: Vec<i8> = (0..tokens * k)
        .map(|i| (i * 37 % 256) as u8 as i8)
        .collect();
    let layout = kernel.info().accepts[0];
    let packed = Codes::new(&codes, rows, k)
        .and_then(|codes| Packed::pack(codes, layout, Scales::Tensor(1.0)));
    let Ok(weights) = packed else {
        return false;
    };
    let mut prepared = PreparedBuf::new();
    let prepared = prepared.fill(kernel, Activations::new(&acts, tokens, k));
    let mut scratch = AlignedBuf::zeroed(kernel.scratch_bytes(k, rows, tokens));
    [0..tokens, 1..2].into_iter().all(|range: Range<usize>| {
        let mut out = vec![0; range.len() * rows];
        kernel.gemm(GemmArgs {
            weights: &weights,
            prepared,
            rows: 0..rows,
            tokens: range.clone(),
            scratch: scratch.bytes_mut(),
            out: &mut out,
        });
        range.zip(out.chunks_exact(rows)).all(|(token, out)| {
            let acts = &acts[token * k..(token + 1) * k];
            let sum: i32 = acts.iter().map(|act| i32::from(*act)).sum();
            let want = |row: usize| sum * (1 - (row % 3) as i32);
            out.iter().enumerate().all(|(row, out)| *out == want(row))
        })
    })
}
