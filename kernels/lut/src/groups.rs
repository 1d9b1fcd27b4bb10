//! The split of a call into tokens, columns and groups of 64 rows, common to all look-up kernels.
//!
//! The tables of a token take 16 bytes a column for pairs and 10.7 for triplets. One token passes over all its columns, a few
//! groups at a time, each as the weights lie in memory. Several tokens pass over a few columns of all groups before they go on, so
//! that their tables stay in L1.

use std::ops::Range;

use trit_kernel::{Activations, Cpu, GemmArgs, Kernel, KernelInfo, Unavailable};

use crate::nibble::Bytes;
use crate::tables::{MAX_BLOCKS, Table, Tables, block_bytes, layout};
use crate::view::{LANES, View, chunks};

/// Blocks of a panel of several tokens: with four tokens, 40 KiB of tables. At 20 blocks pairs ran at 0.93 of the speed, at 10
/// blocks at 0.75; 80 made no difference.
const PANEL_BLOCKS: usize = 40;
/// Most tokens of a panel.
const TOKENS: usize = 4;

/// Row groups that one token reads in turn, a quarter of the call apart: one stream alone does not keep the memory busy.
const STREAMS: usize = 4;

/// A look-up kernel for indices of `W` weights.
struct Lut<B, const W: usize> {
    bytes: B,
    info: &'static KernelInfo,
}

/// Opens a kernel after a probe.
pub(crate) fn open<B: Bytes, const W: usize>(
    cpu: Cpu,
    info: &'static KernelInfo,
) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(info.isa)?;
    let bytes = B::open(cpu).ok_or(Unavailable::Missing(B::ISA))?;
    let kernel = Lut::<B, W> { bytes, info };
    if trit_kernel::probe(&kernel, 4 * LANES + 3, 197, 3) {
        Ok(Box::new(kernel))
    } else {
        Err(Unavailable::Probe(info.isa))
    }
}

impl<B: Bytes, const W: usize> Lut<B, W> {
    /// The tables of a token, block by block.
    fn tables<'a>(args: &GemmArgs<'a>, token: usize) -> &'a [Tables] {
        let (tables, _) = args
            .prepared
            .group(token)
            .as_chunks::<{ size_of::<Table>() }>();
        tables.as_chunks().0
    }
}

impl<B: Bytes, const W: usize> Kernel for Lut<B, W> {
    fn info(&self) -> &'static KernelInfo {
        self.info
    }

    fn row_step(&self) -> usize {
        LANES
    }

    fn token_step(&self) -> usize {
        1
    }

    /// A table for every `W` activations.
    fn prepared_group_bytes(&self, k: usize) -> usize {
        layout::<W>().padded_k(k) / W * size_of::<Table>()
    }

    fn prepare(&self, activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]) {
        let bytes = self.prepared_group_bytes(activations.k());
        assert_eq!(out.len(), groups.len() * bytes, "prepared size");
        for (token, out) in groups.zip(out.chunks_exact_mut(bytes)) {
            let (tables, _) = out.as_chunks_mut::<{ size_of::<Table>() }>();
            let (tables, _) = tables.as_chunks_mut();
            self.bytes.build::<W>(activations.row(token), tables);
        }
    }

    fn scratch_bytes(&self, _k: usize, _rows: usize, _tokens: usize) -> usize {
        0
    }

    fn gemm(&self, mut args: GemmArgs<'_>) {
        args.check(self.info, 0);
        if args.tokens.len() == 1 {
            self.gemv(&mut args);
        } else {
            self.panels(&mut args);
        }
    }
}

impl<B: Bytes, const W: usize> Lut<B, W> {
    fn gemv(&self, args: &mut GemmArgs<'_>) {
        let view = View::new(args, block_bytes::<W>());
        let tables = Self::tables(args, args.tokens.start);
        let part = view.groups.len() / STREAMS;
        for columns in chunks(0..view.blocks, MAX_BLOCKS) {
            let tables = &tables[columns.clone()];
            for i in 0..part {
                let group = |s: usize| view.groups.start + i + s * part;
                let mut sums = [[0; LANES]; STREAMS];
                let weights = std::array::from_fn(|s| view.weights(group(s), &columns));
                self.bytes
                    .pass::<W, 1, STREAMS>(weights, [tables], &mut sums);
                for (s, sums) in sums.iter().enumerate() {
                    view.add(args.out, group(s), 0, sums, columns.start == 0);
                }
            }
            for group in view.groups.start + part * STREAMS..view.groups.end {
                let mut sums = [[0; LANES]];
                let weights = view.weights(group, &columns);
                self.bytes.pass::<W, 1, 1>([weights], [tables], &mut sums);
                view.add(args.out, group, 0, &sums[0], columns.start == 0);
            }
        }
    }

    fn panels(&self, args: &mut GemmArgs<'_>) {
        let view = View::new(args, block_bytes::<W>());
        for tokens in chunks(args.tokens.clone(), TOKENS) {
            let line = tokens.start - args.tokens.start;
            for columns in chunks(0..view.blocks, PANEL_BLOCKS) {
                let mut tables: [&[Tables]; TOKENS] = [&[]; TOKENS];
                for (tables, token) in tables.iter_mut().zip(tokens.clone()) {
                    *tables = &Self::tables(args, token)[columns.clone()];
                }
                for group in view.groups.clone() {
                    let mut sums = [[0; LANES]; TOKENS];
                    let sums = &mut sums[..tokens.len()];
                    let weights = view.weights(group, &columns);
                    match tables[..tokens.len()] {
                        [a] => self.bytes.pass::<W, 1, 1>([weights], [a], sums),
                        [a, b] => self.bytes.pass::<W, 2, 1>([weights], [a, b], sums),
                        [a, b, c] => self.bytes.pass::<W, 3, 1>([weights], [a, b, c], sums),
                        [a, b, c, d] => self.bytes.pass::<W, 4, 1>([weights], [a, b, c, d], sums),
                        _ => unreachable!("panel of {} tokens", tokens.len()),
                    }
                    for (t, sums) in sums.iter().enumerate() {
                        view.add(args.out, group, line + t, sums, columns.start == 0);
                    }
                }
            }
        }
    }
}
