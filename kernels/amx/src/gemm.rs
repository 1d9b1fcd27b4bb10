//! The blocking: which tiles are multiplied when, and how weights are unpacked meanwhile. `README.md` derives its bound.
//!
//! Two row groups (32 weight rows) and two token groups (32 tokens) make four accumulators; a step of 64 columns loads two tiles of
//! activations and two of codes for four products. Codes are unpacked into a panel of 32 rows x up to [`PANEL_STEPS`] steps, which
//! every token of the call then uses from L1, while activations pass by. There are two panels: as one is multiplied, the next is
//! unpacked a few blocks at a time between the products, by vector units that have nothing else to do.
//!
//! Codes are left unsigned: `Σ code · act − Σ act = Σ weight · act`, and the sums of the activations come with the prepared tokens. Signed
//! codes would need four more vector instructions a block (`vpsubb`), the correction one subtraction for each sum of a whole row.

#![expect(
    clippy::inline_always,
    reason = "the loops are compiled for AVX-512 where they are called"
)]

use std::iter::{Chain, Zip};
use std::ops::Range;
use std::slice::{Iter, IterMut};

use trit_kernel::{Activations, GemmArgs, Kernel, KernelInfo, LayoutId, Prepared};

use crate::tiles::{
    BLOCK_BYTES, Block, Config, Planes, REGISTERS, ROW_BYTES, TILE_BYTES, TILE_ROWS, Tile, Tiles,
    UNPACKED_BYTES,
};

/// Rows whose multiple is the best split: two row groups.
const ROW_STEP: usize = 2 * TILE_ROWS;
/// Steps of 64 columns in a panel: 20 KiB of codes, which leave room for activations and the panel in the making in an L1 of 48 KiB.
const PANEL_STEPS: usize = 10;
/// Steps between asking for a tile of activations and loading it: about 200 cycles, more than L2 takes.
const AHEAD_STEPS: usize = 3;
/// Packed blocks of one row group in a step.
const STEP_BLOCKS: usize = TILE_BYTES / UNPACKED_BYTES;
/// Bytes after the tiles of a prepared group: the sums of its 16 tokens.
const SUMS_BYTES: usize = 4 * TILE_ROWS;

/// What multiplies: the CPU, or the model of its registers.
pub(crate) trait Machine: Send + Sync {
    /// The facts of the kernel on this machine.
    const INFO: &'static KernelInfo;

    /// Calls [`run`] on registers that are configured as `config` says, and releases them.
    fn multiply(&self, config: &Config, args: GemmArgs<'_>);
}

/// The kernel on a machine.
pub(crate) struct Tiled<M>(pub(crate) M);

impl<M: Machine> Kernel for Tiled<M> {
    fn info(&self) -> &'static KernelInfo {
        M::INFO
    }

    fn row_step(&self) -> usize {
        ROW_STEP
    }

    fn token_step(&self) -> usize {
        TILE_ROWS
    }

    /// The tiles of 16 tokens, one a step, then the sums of the tokens.
    fn prepared_group_bytes(&self, k: usize) -> usize {
        steps(k) * TILE_BYTES + SUMS_BYTES
    }

    fn prepare(&self, activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]) {
        let size = self.prepared_group_bytes(activations.k());
        assert_eq!(out.len(), groups.len() * size, "prepared size");
        for (group, out) in groups.zip(out.chunks_exact_mut(size)) {
            prepare_group(activations, group, out);
        }
    }

    /// Two panels of two row groups, and the accumulators of two row groups for every token group that a range can touch.
    fn scratch_bytes(&self, k: usize, _rows: usize, tokens: usize) -> usize {
        let token_groups = tokens.div_ceil(TILE_ROWS) + 1;
        (2 * 2 * panel_steps(k) + 2 * token_groups) * TILE_BYTES
    }

    fn gemm(&self, args: GemmArgs<'_>) {
        let scratch = self.scratch_bytes(args.weights.k(), args.rows.len(), args.tokens.len());
        args.check(M::INFO, scratch);
        if !args.out.is_empty() {
            self.0.multiply(&config(&args.tokens), args);
        }
    }
}

fn steps(k: usize) -> usize {
    LayoutId::R16.padded_k(k) / ROW_BYTES
}

/// Steps of each panel but the last: all about as long.
fn panel_steps(k: usize) -> usize {
    let steps = steps(k);
    steps.div_ceil(steps.div_ceil(PANEL_STEPS).max(1))
}

/// The groups of 16 that `range` touches.
fn groups_of(range: &Range<usize>) -> Range<usize> {
    range.start / TILE_ROWS..range.end.div_ceil(TILE_ROWS)
}

/// The configuration of a call. Where it has one pass, the last token group takes no more rows than it has tokens, which saves the
/// time of the others (a product takes a cycle for each row of activations); with more passes that group is padded, for all share a
/// configuration and a new one would clear the accumulators.
fn config(tokens: &Range<usize>) -> Config {
    let groups = groups_of(tokens);
    let mut rows = [TILE_ROWS as u8; REGISTERS];
    let last = (tokens.end - (groups.end - 1) * TILE_ROWS) as u8;
    let registers: &[usize] = match groups.len() {
        1 => &[0, 1, 6],
        2 => &[2, 3, 7],
        _ => &[],
    };
    for register in registers {
        rows[*register] = last;
    }
    Config::new(rows)
}

/// Brings 16 tokens into tiles: step after step, token after token, 64 activations each.
fn prepare_group(activations: Activations<'_>, group: usize, out: &mut [u8]) {
    let (tiles, sums) = out.split_at_mut(out.len() - SUMS_BYTES);
    for (lane, sum) in sums.chunks_exact_mut(4).enumerate() {
        let token = group * TILE_ROWS + lane;
        let mut row: &[i8] = if token < activations.tokens() {
            activations.row(token)
        } else {
            &[]
        };
        let mut total = 0i32;
        for tile in tiles.chunks_exact_mut(TILE_BYTES) {
            let line = &mut tile[lane * ROW_BYTES..(lane + 1) * ROW_BYTES];
            let (acts, rest) = row.split_at(row.len().min(ROW_BYTES));
            row = rest;
            for (out, act) in line.iter_mut().zip(acts) {
                *out = *act as u8;
                total += i32::from(*act);
            }
            line[acts.len()..].fill(0);
        }
        sum.copy_from_slice(&total.to_ne_bytes());
    }
}

/// One panel: which row groups, which steps.
#[derive(Clone)]
struct Panel {
    groups: Range<usize>,
    steps: Range<usize>,
}

/// The panels of a call in the order in which they are multiplied.
struct Panels {
    groups: Range<usize>,
    steps: usize,
    each: usize,
}

impl Panels {
    fn get(&self, index: usize) -> Option<Panel> {
        let deep = self.steps.div_ceil(self.each);
        let group = self.groups.start + 2 * (index / deep);
        let step = index % deep * self.each;
        (group < self.groups.end).then(|| Panel {
            groups: group..self.groups.end.min(group + 2),
            steps: step..self.steps.min(step + self.each),
        })
    }
}

type Pairs<'a> = Zip<Iter<'a, Block>, IterMut<'a, Planes>>;

/// The blocks of a panel that are still to be unpacked, each with its place.
struct Unpacking<'a>(Chain<Pairs<'a>, Pairs<'a>>);

impl<'a> Unpacking<'a> {
    fn new(
        blocks: &'a [Block],
        blocks_a_group: usize,
        panel: &Panel,
        to: &'a mut PanelTiles<'_>,
    ) -> Self {
        let steps = panel.steps.start * STEP_BLOCKS..panel.steps.end * STEP_BLOCKS;
        let of = |group: usize| &blocks[group * blocks_a_group..][steps.clone()];
        let second = if panel.groups.len() == 2 {
            of(panel.groups.start + 1)
        } else {
            &[]
        };
        let planes = |tiles: &'a mut [Tile]| tiles.as_flattened_mut().as_chunks_mut().0.iter_mut();
        let [to_first, to_second] = &mut to.0;
        let first = of(panel.groups.start).iter().zip(planes(to_first));
        Self(first.chain(second.iter().zip(planes(to_second))))
    }

    /// Unpacks `blocks` more, or what is left.
    #[inline(always)]
    fn advance<T: Tiles>(&mut self, blocks: usize) {
        for (block, planes) in self.0.by_ref().take(blocks) {
            T::unpack(block, planes);
        }
    }

    fn len(&self) -> usize {
        self.0.size_hint().0
    }
}

/// The unpacked tiles of two row groups.
struct PanelTiles<'a>([&'a mut [Tile]; 2]);

impl<'a> PanelTiles<'a> {
    fn new(tiles: &'a mut [Tile]) -> Self {
        let (first, second) = tiles.split_at_mut(tiles.len() / 2);
        Self([first, second])
    }
}

/// The prepared tiles of token group `group` at `steps`; none where there is no such group.
fn acts_of<'a>(prepared: Prepared<'a>, group: Option<usize>, steps: &Range<usize>) -> &'a [Tile] {
    group.map_or(&[], |group| {
        &prepared.group(group).as_chunks().0[steps.clone()]
    })
}

/// The tiles of a pass over one panel: activations of `M` token groups, codes of `G` row groups, accumulators of all pairs, and the
/// activations of the pass that follows.
struct Pass<'a, const G: usize, const M: usize> {
    acts: [&'a [Tile]; M],
    codes: [&'a [Tile]; G],
    sums: &'a mut [Tile],
    next: [&'a [Tile]; M],
}

impl<const G: usize, const M: usize> Pass<'_, G, M> {
    /// `first`: the sums start with this panel.
    #[inline(always)]
    fn multiply<T: Tiles>(self, tiles: &mut T, first: bool, mut meanwhile: impl FnMut()) {
        let steps = self.codes[0].len();
        assert!(self.codes.iter().all(|codes| codes.len() == steps));
        assert!(self.acts.iter().all(|acts| acts.len() == steps) && self.sums.len() == 2 * M);
        let sums = self.sums;
        if first {
            tiles.zero::<0>();
            if G == 2 {
                tiles.zero::<1>();
            }
            if M == 2 {
                tiles.zero::<2>();
            }
            if G == 2 && M == 2 {
                tiles.zero::<3>();
            }
        } else {
            tiles.load::<0>(&sums[0]);
            if G == 2 {
                tiles.load::<1>(&sums[1]);
            }
            if M == 2 {
                tiles.load::<2>(&sums[2]);
            }
            if G == 2 && M == 2 {
                tiles.load::<3>(&sums[3]);
            }
        }
        for step in 0..steps {
            // The registers that the next step fills first are read first here.
            tiles.load::<4>(&self.codes[0][step]);
            tiles.load::<6>(&self.acts[0][step]);
            tiles.dot::<0, 6, 4>();
            if G == 2 {
                tiles.load::<5>(&self.codes[G - 1][step]);
                tiles.dot::<1, 6, 5>();
            }
            if M == 2 {
                tiles.load::<7>(&self.acts[M - 1][step]);
                tiles.dot::<2, 7, 4>();
            }
            if G == 2 && M == 2 {
                tiles.dot::<3, 7, 5>();
            }
            for (acts, next) in self.acts.iter().zip(self.next) {
                let ahead = step + AHEAD_STEPS;
                if let Some(tile) = acts.get(ahead).or_else(|| next.get(ahead - steps)) {
                    T::prefetch(tile);
                }
            }
            meanwhile();
        }
        tiles.store::<0>(&mut sums[0]);
        if G == 2 {
            tiles.store::<1>(&mut sums[1]);
        }
        if M == 2 {
            tiles.store::<2>(&mut sums[2]);
        }
        if G == 2 && M == 2 {
            tiles.store::<3>(&mut sums[3]);
        }
    }
}

/// Where the sums of a call go.
struct Output<'a> {
    prepared: Prepared<'a>,
    rows: Range<usize>,
    tokens: Range<usize>,
    out: &'a mut [i32],
}

impl Output<'_> {
    /// Takes the finished accumulators of one token group and one row group: subtracts the sums of the activations and writes what was
    /// asked for.
    #[inline(always)]
    fn take(&mut self, token_group: usize, group: usize, sums: &Tile) {
        let prepared = self.prepared.group(token_group);
        let act_sums = prepared[prepared.len() - SUMS_BYTES..].as_chunks::<4>().0;
        let first_token = token_group * TILE_ROWS;
        let lanes =
            self.tokens.start.max(first_token)..self.tokens.end.min(first_token + TILE_ROWS);
        let first_row = group * TILE_ROWS;
        let rows = self.rows.start.max(first_row)..self.rows.end.min(first_row + TILE_ROWS);
        let lines = sums.as_chunks::<ROW_BYTES>().0;
        for token in lanes {
            let act_sum = i32::from_ne_bytes(act_sums[token - first_token]);
            let dwords = lines[token - first_token].as_chunks::<4>().0;
            let at = (token - self.tokens.start) * self.rows.len() + rows.start - self.rows.start;
            let out = &mut self.out[at..at + rows.len()];
            let corrected = |(out, dword): (&mut i32, &[u8; 4])| {
                *out = i32::from_le_bytes(*dword) - act_sum;
            };
            if let Some(out) = out.as_mut_array::<TILE_ROWS>() {
                // The usual case, with a length that the compiler knows.
                out.iter_mut().zip(dwords).for_each(corrected);
            } else {
                let dwords = &dwords[rows.start - first_row..];
                out.iter_mut().zip(dwords).for_each(corrected);
            }
        }
    }
}

/// One call whose arguments were checked and whose output is not empty.
#[inline(always)]
pub(crate) fn run<T: Tiles>(tiles: &mut T, args: GemmArgs<'_>) {
    let k = args.weights.k();
    let each = panel_steps(k);
    let panels = Panels {
        groups: groups_of(&args.rows),
        steps: steps(k),
        each,
    };
    let token_groups = groups_of(&args.tokens);
    let passes = token_groups.len().div_ceil(2);
    let (scratch, _) = args.scratch.as_chunks_mut::<TILE_BYTES>();
    let (current, rest) = scratch.split_at_mut(2 * each);
    let (next, sums) = rest.split_at_mut(2 * each);
    let (mut current, mut next) = (PanelTiles::new(current), PanelTiles::new(next));
    let (blocks, _) = args.weights.bytes().as_chunks::<BLOCK_BYTES>();
    let blocks_a_group = LayoutId::R16.group_bytes(k) / BLOCK_BYTES;
    let prepared = args.prepared;
    let mut output = Output {
        prepared,
        rows: args.rows,
        tokens: args.tokens,
        out: args.out,
    };
    // Both token groups of a pass; the second is none at an odd end.
    let pair = |pass: usize| {
        let group = token_groups.start + 2 * pass;
        [group, group + 1].map(|group| token_groups.contains(&group).then_some(group))
    };
    if let Some(panel) = panels.get(0) {
        Unpacking::new(blocks, blocks_a_group, &panel, &mut current).advance::<T>(usize::MAX);
    }
    for index in 0.. {
        let Some(panel) = panels.get(index) else {
            break;
        };
        let first = panel.steps.start == 0;
        let last = panel.steps.end == panels.steps;
        let following = panels.get(index + 1);
        let mut ahead = following
            .as_ref()
            .map(|panel| Unpacking::new(blocks, blocks_a_group, panel, &mut next));
        // The next panel is complete when the last tokens have passed.
        let portion = ahead
            .as_ref()
            .map_or(0, |ahead| ahead.len().div_ceil(passes * panel.steps.len()));
        let mut meanwhile = || {
            if let Some(ahead) = &mut ahead {
                ahead.advance::<T>(portion);
            }
        };
        let codes = [0, 1].map(|group: usize| &current.0[group][..panel.steps.len()]);
        for pass in 0..passes {
            let groups = pair(pass);
            let acts = groups.map(|group| acts_of(prepared, group, &panel.steps));
            let coming = if pass + 1 < passes {
                pair(pass + 1).map(|group| acts_of(prepared, group, &panel.steps))
            } else if let Some(following) = &following {
                pair(0).map(|group| acts_of(prepared, group, &following.steps))
            } else {
                [&[][..]; 2]
            };
            let tokens = groups.iter().flatten().count();
            let sums = &mut sums[4 * pass..][..2 * tokens];
            macro_rules! pass {
                ($g:literal, $m:literal) => {
                    Pass::<$g, $m> {
                        acts: std::array::from_fn(|group| acts[group]),
                        codes: std::array::from_fn(|group| codes[group]),
                        sums: &mut *sums,
                        next: std::array::from_fn(|group| coming[group]),
                    }
                    .multiply(tiles, first, &mut meanwhile)
                };
            }
            match (panel.groups.len(), tokens) {
                (2, 2) => pass!(2, 2),
                (2, _) => pass!(2, 1),
                (_, 2) => pass!(1, 2),
                _ => pass!(1, 1),
            }
            if last {
                for (token_group, sums) in groups.into_iter().flatten().zip(sums.chunks_exact(2)) {
                    for (group, sums) in panel.groups.clone().zip(sums) {
                        output.take(token_group, group, sums);
                    }
                }
            }
        }
        std::mem::swap(&mut current, &mut next);
    }
}
