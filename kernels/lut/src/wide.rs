//! Look-ups of seven bits on AVX-512: four weights have 81 values and five have 122 up to the sign, so both fit a table of 128
//! sums. What differs between the instruction sets is how a table is read: see [`crate::vbmi`] and [`crate::words`].

use std::marker::PhantomData;
use std::ops::Range;

use trit_kernel::{Activations, Cpu, GemmArgs, Isa, Kernel, KernelInfo, LayoutId, Unavailable};

use crate::view::{LANES, Sums, View, chunks};

/// Weights of an index: 81 sums.
pub(crate) const QUADS: usize = 4;
/// Weights of an index with a sign: 122 sums.
pub(crate) const QUINTS: usize = 5;
/// Entries of a table.
pub(crate) const ENTRIES: usize = 128;
/// The layouts pad K to so many blocks.
pub(crate) const RUN: usize = 7;
/// Tokens that pass over a panel together.
const PANEL_TOKENS: usize = 32;
/// Blocks of a panel of several tokens: their tables pass through L1 while the weights stay there. 3 and 7 runs were as fast, 10 at
/// 0.9.
const PANEL_BLOCKS: usize = 5 * RUN;
/// Row groups that share the loads of a table.
const GROUPS: usize = 8;
/// How far ahead of its reads a GEMV asks for its weights, in each of [`GROUPS`] streams.
pub(crate) const AHEAD: usize = 14 * LANES;

/// What is kept of a row group between panels, as the instruction set likes it; all zeros at first.
pub(crate) type Words = [u8; 256];
/// The sums of all indices, two bytes each, as the instruction set likes them.
pub(crate) type Table = [u8; 2 * ENTRIES];

/// How tables are read on one instruction set.
///
/// # Safety
/// The methods may be called where the CPU has [`Look::ISA`].
pub(crate) trait Look: Send + Sync + 'static {
    /// The level the methods need.
    const ISA: Isa;
    /// Most blocks that [`Words`] hold the sums of; a multiple of [`RUN`].
    const MAX_BLOCKS: usize;

    /// Writes the tables of one token; what is missing of the last table is 0.
    unsafe fn build<const W: usize>(acts: &[i8], out: &mut [Table]);

    /// Adds to `words[g · stride]` the sums of one token, `G` row groups and some columns.
    unsafe fn run<const W: usize, const G: usize, const PREFETCH: bool>(
        view: &View<'_>,
        set: &Set,
        columns: &Range<usize>,
        tables: &[Table],
        words: &mut [Words],
    );

    /// The sums of 64 rows after `blocks` blocks.
    unsafe fn widen<const W: usize>(words: &Words, blocks: usize) -> Sums;
}

const fn layout<const W: usize>() -> LayoutId {
    if W == QUADS {
        LayoutId::L4R64
    } else {
        LayoutId::L5R64
    }
}

/// The code of place `w` of index `index`; indices without a meaning stand for weights 0.
pub(crate) const fn code<const W: usize>(index: usize, w: usize) -> u8 {
    const POWERS: [usize; 5] = [1, 3, 9, 27, 81];
    let (digits, count) = if W == QUADS {
        (index, 81)
    } else {
        (index + 121, 243)
    };
    if w < W && digits < count {
        (digits / POWERS[W - 1 - w] % 3) as u8
    } else {
        1
    }
}

/// Codes of the places `2p` and `2p + 1` of 32 entries, as `vpmaddubsw` takes them.
pub(crate) type Places = [[u8; 64]; 3];

/// The codes of the places `2p` and `2p + 1` of entry `entry` at word `word` of register `register`.
pub(crate) const fn place<const W: usize>(
    places: &mut [Places; 4],
    register: usize,
    word: usize,
    entry: usize,
) {
    let mut i = 0;
    while i < 6 {
        places[register][i / 2][2 * word + i % 2] = code::<W>(entry, i);
        i += 1;
    }
}

/// Proof that the CPU has what `L` needs: made by [`open`] alone.
struct Wide<L, const W: usize> {
    info: &'static KernelInfo,
    look: PhantomData<L>,
}

/// Opens a kernel after a probe.
pub(crate) fn open<L: Look, const W: usize>(
    cpu: Cpu,
    info: &'static KernelInfo,
) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(L::ISA)?;
    let kernel = Wide::<L, W> {
        info,
        look: PhantomData,
    };
    if trit_kernel::probe(&kernel, 4 * LANES + 3, 197, 3) {
        Ok(Box::new(kernel))
    } else {
        Err(Unavailable::Probe(info.isa))
    }
}

impl<L: Look, const W: usize> Kernel for Wide<L, W> {
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
            // SAFETY: `self` exists, so `open` saw the instruction set.
            unsafe { L::build::<W>(activations.row(token), out.as_chunks_mut().0) }
        }
    }

    fn scratch_bytes(&self, _k: usize, rows: usize, tokens: usize) -> usize {
        // A window of rows may begin and end inside of a group.
        (rows.div_ceil(LANES) + 1) * tokens.min(PANEL_TOKENS) * size_of::<Words>()
    }

    fn gemm(&self, mut args: GemmArgs<'_>) {
        let scratch = self.scratch_bytes(args.weights.k(), args.rows.len(), args.tokens.len());
        args.check(self.info, scratch);
        // SAFETY: `self` exists, so `open` saw the instruction set.
        unsafe {
            match args.tokens.len() {
                _ if args.out.is_empty() => {}
                1 => multiply::<L, W, true>(&mut args),
                _ => multiply::<L, W, false>(&mut args),
            }
        }
    }
}

/// One token passes over all columns, [`GROUPS`] row groups at a time. Several pass over a panel of columns of these groups before
/// they go on. The sums of runs and panels meet as words, in scratch.
///
/// # Safety
/// The CPU has [`Look::ISA`].
unsafe fn multiply<L: Look, const W: usize, const ALONE: bool>(args: &mut GemmArgs<'_>) {
    let view = View::new(args, LANES);
    let groups = view.groups.clone();
    let panel = if ALONE { L::MAX_BLOCKS } else { PANEL_BLOCKS };
    for tokens in chunks(args.tokens.clone(), PANEL_TOKENS) {
        let (words, _) = args.scratch.as_chunks_mut::<{ size_of::<Words>() }>();
        let words = &mut words[..tokens.len() * groups.len()];
        for span in chunks(0..view.blocks, L::MAX_BLOCKS) {
            words.fill([0; size_of::<Words>()]);
            for columns in chunks(span.clone(), panel) {
                for set in sets(groups.clone()) {
                    for (token, words) in tokens.clone().zip(words.chunks_exact_mut(groups.len())) {
                        let tables = &args.prepared.group(token).as_chunks().0[columns.clone()];
                        let words = &mut words[set.first - groups.start..];
                        let run = match set.groups {
                            GROUPS => L::run::<W, GROUPS, ALONE>,
                            4 => L::run::<W, 4, ALONE>,
                            _ => L::run::<W, 1, ALONE>,
                        };
                        // SAFETY: the caller's promise.
                        unsafe { run(&view, &set, &columns, tables, words) }
                    }
                }
            }
            for (token, words) in tokens.clone().zip(words.chunks_exact(groups.len())) {
                for (group, words) in groups.clone().zip(words) {
                    // SAFETY: the caller's promise.
                    let sums = unsafe { L::widen::<W>(words, span.len()) };
                    let line = token - args.tokens.start;
                    view.add(args.out, group, line, &sums, span.start == 0);
                }
            }
        }
    }
}

/// Row groups that are passed over together: `first + g · stride` for `g < groups`.
pub(crate) struct Set {
    pub(crate) first: usize,
    pub(crate) stride: usize,
    groups: usize,
}

/// All sets: of [`GROUPS`] groups as far apart as they can be, then of four, then of one.
fn sets(groups: Range<usize>) -> impl Iterator<Item = Set> {
    let part = groups.len() / GROUPS;
    let wide = (0..part).map(move |i| Set {
        first: groups.start + i,
        stride: part,
        groups: GROUPS,
    });
    let rest = groups.start + part * GROUPS;
    let four = (groups.end - rest) / 4;
    let set = |first, groups| Set {
        first,
        stride: 1,
        groups,
    };
    let fours = (0..four).map(move |i| set(rest + 4 * i, 4));
    let ones = (rest + four * 4..groups.end).map(move |group| set(group, 1));
    wide.chain(fours).chain(ones)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_visit_every_group_once() {
        for count in 0..70 {
            let mut seen = vec![0; 3 + count];
            for set in sets(3..3 + count) {
                for g in 0..set.groups {
                    seen[set.first + g * set.stride] += 1;
                }
            }
            assert_eq!(seen[..3], [0; 3]);
            assert!(seen[3..].iter().all(|n| *n == 1), "{count}: {seen:?}");
        }
    }
}
