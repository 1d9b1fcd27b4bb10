//! The definition. Nothing here is clever, so that it can be checked by reading.

use std::iter::zip;
use std::ops::Range;

use trit_kernel::{Activations, GemmArgs, Kernel, KernelInfo};

pub(crate) struct Naive;

impl Kernel for Naive {
    fn info(&self) -> &'static KernelInfo {
        &crate::NAIVE
    }

    fn row_step(&self) -> usize {
        1
    }

    fn token_step(&self) -> usize {
        1
    }

    /// The activations themselves, filled up with zeros.
    fn prepared_group_bytes(&self, k: usize) -> usize {
        k.next_multiple_of(64)
    }

    fn prepare(&self, activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]) {
        let bytes = self.prepared_group_bytes(activations.k());
        assert_eq!(out.len(), groups.len() * bytes, "prepared size");
        for (token, out) in zip(groups, out.chunks_exact_mut(bytes)) {
            let (values, padding) = out.split_at_mut(activations.k());
            for (out, value) in zip(values, activations.row(token)) {
                *out = *value as u8;
            }
            padding.fill(0);
        }
    }

    /// One unpacked row.
    fn scratch_bytes(&self, k: usize, _rows: usize, _tokens: usize) -> usize {
        k
    }

    fn gemm(&self, args: GemmArgs<'_>) {
        let k = args.weights.k();
        args.check(&crate::NAIVE, self.scratch_bytes(k, 0, 0));
        let row_count = args.rows.len();
        let weights: &mut [i8] = bytemuck::cast_slice_mut(&mut args.scratch[..k]);
        for (column, row) in args.rows.enumerate() {
            args.weights.unpack_row(row, weights);
            for (line, token) in args.tokens.clone().enumerate() {
                args.out[line * row_count + column] = zip(&*weights, args.prepared.group(token))
                    .map(|(w, a)| i32::from(*w) * i32::from(*a as i8))
                    .sum();
            }
        }
    }
}
