//! Look-ups of seven bits on AVX-512 VBMI: `vpermi2b` reads one of 128 bytes for 64 rows at once.
//!
//! Four weights have 81 values and five have 122 up to the sign, so both fit a table of 128 sums. A sum needs eleven bits and is
//! stored in two halves as in [`crate::tables`], `s = S·h + l` with `|h|` and `|l|` at most 18: seven look-ups of each half are
//! added up as bytes before they are widened. The instruction ignores bit 7 of an index: there a quint has its sign.
//!
//! 64 bytes of weights cost two `vpermi2b` and two `vpaddb`, and for the sign a `vpmovb2m` and two masked `vpsubb`.

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_epi8, _mm512_add_epi16, _mm512_loadu_si512,
    _mm512_maddubs_epi16, _mm512_mask_sub_epi8, _mm512_movepi8_mask, _mm512_mulhrs_epi16,
    _mm512_mullo_epi16, _mm512_packs_epi16, _mm512_permutex2var_epi8, _mm512_set1_epi8,
    _mm512_set1_epi16, _mm512_setzero_si512, _mm512_srli_epi16, _mm512_storeu_si512,
    _mm512_sub_epi16,
};
use std::hint::black_box;
use std::ops::Range;

use trit_kernel::{Activations, Cpu, GemmArgs, Isa, Kernel, KernelInfo, LayoutId, Unavailable};

use crate::view::{LANES, Sums, View, chunks, probe};

/// Weights of an index: 81 sums.
pub(crate) const QUADS: usize = 4;
/// Weights of an index with a sign: 122 sums.
pub(crate) const QUINTS: usize = 5;
/// Entries of a table.
const ENTRIES: usize = 128;
/// Look-ups that are added up as bytes.
const RUN: usize = 7;
/// Where the bytes of a run start.
const START: u8 = 128;
/// Largest magnitude of either half.
const LARGEST: i16 = 18;
const _: () = assert!(RUN * LARGEST as usize <= 127);
/// Most look-ups whose bytes fit a 16-bit sum.
const MAX_BLOCKS: usize = 65_535 / 255 * RUN;
/// Tokens that pass over a panel together.
const PANEL_TOKENS: usize = 32;
/// Blocks of a panel of several tokens: their tables pass through L1 while the weights stay there. 3 and 7 runs were as fast, 10 at
/// 0.9.
const PANEL_BLOCKS: usize = 5 * RUN;
/// Row groups that share the loads of a table.
const GROUPS: usize = 8;
/// How far ahead of its reads a GEMV asks for its weights, in each of [`GROUPS`] streams.
const AHEAD: usize = 14 * LANES;

/// The sums of the bytes of all runs as words, 32 each: of the lower halves both rows of a word together, modulo 2^16, and the odd
/// row alone, then the same of the upper halves.
type Words = [u8; 256];

/// The lower halves of the sums, then the upper ones.
type Table = [u8; 2 * ENTRIES];

/// What the upper half counts.
const fn scale<const W: usize>() -> i32 {
    if W == QUADS { 32 } else { 36 }
}

const fn layout<const W: usize>() -> LayoutId {
    if W == QUADS {
        LayoutId::L4R64
    } else {
        LayoutId::L5R64
    }
}

/// The code of place `w` of index `index`; indices without a meaning stand for weights 0.
const fn code<const W: usize>(index: usize, w: usize) -> u8 {
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

/// Codes of the places `2p` and `2p + 1` of 32 entries.
type Places = [[u8; 64]; 3];

/// Codes in the order in which `vpackswb` of registers 0 and 1, 2 and 3 gives the entries in order.
const fn places<const W: usize>() -> [Places; 4] {
    let mut out = [[[0; 64]; 3]; 4];
    let mut i = 0;
    while i < 4 * 3 * 64 {
        let (register, pair, at) = (i / 192, i / 64 % 3, i % 64);
        let (lane, word) = (at / 16, at % 16 / 2);
        let entry = register / 2 * 64 + lane * 16 + register % 2 * 8 + word;
        out[register][pair][at] = code::<W>(entry, 2 * pair + at % 2);
        i += 1;
    }
    out
}

/// Proof that the CPU has AVX-512 VBMI: made by [`open`] alone.
struct Wide<const W: usize> {
    info: &'static KernelInfo,
}

/// Opens a kernel after a probe.
pub(crate) fn open<const W: usize>(
    cpu: Cpu,
    info: &'static KernelInfo,
) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(Isa::Avx512Vbmi)?;
    let kernel = Wide::<W> { info };
    if probe(&kernel) {
        Ok(Box::new(kernel))
    } else {
        Err(Unavailable::Probe(info.isa))
    }
}

impl<const W: usize> Kernel for Wide<W> {
    fn info(&self) -> &'static KernelInfo {
        self.info
    }

    fn row_step(&self) -> usize {
        GROUPS * LANES
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
            // SAFETY: `self` exists, so `open` saw AVX-512 VBMI.
            unsafe { build::<W>(activations.row(token), out.as_chunks_mut().0) }
        }
    }

    fn scratch_bytes(&self, _k: usize, rows: usize, tokens: usize) -> usize {
        // A window of rows may begin and end inside of a group.
        (rows.div_ceil(LANES) + 1) * tokens.min(PANEL_TOKENS) * size_of::<Words>()
    }

    fn gemm(&self, mut args: GemmArgs<'_>) {
        let scratch = self.scratch_bytes(args.weights.k(), args.rows.len(), args.tokens.len());
        args.check(self.info, scratch);
        // SAFETY: `self` exists, so `open` saw AVX-512 VBMI.
        unsafe {
            match args.tokens.len() {
                _ if args.out.is_empty() => {}
                1 => multiply::<W, true>(&mut args),
                _ => multiply::<W, false>(&mut args),
            }
        }
    }
}

/// One token passes over all columns, [`GROUPS`] row groups at a time. Several pass over a panel of columns of these groups before
/// they go on. The sums of runs and panels meet as words, in scratch.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn multiply<const W: usize, const ALONE: bool>(args: &mut GemmArgs<'_>) {
    let view = View::new(args, LANES);
    let groups = view.groups.clone();
    let panel = if ALONE { MAX_BLOCKS } else { PANEL_BLOCKS };
    for tokens in chunks(args.tokens.clone(), PANEL_TOKENS) {
        let (words, _) = args.scratch.as_chunks_mut::<{ size_of::<Words>() }>();
        let words = &mut words[..tokens.len() * groups.len()];
        for span in chunks(0..view.blocks, MAX_BLOCKS) {
            words.fill([0; size_of::<Words>()]);
            for columns in chunks(span.clone(), panel) {
                for set in sets(groups.clone()) {
                    for (token, words) in tokens.clone().zip(words.chunks_exact_mut(groups.len())) {
                        let tables = &args.prepared.group(token).as_chunks().0[columns.clone()];
                        let words = &mut words[set.first - groups.start..];
                        match set.groups {
                            GROUPS => run::<W, GROUPS, ALONE>(&view, &set, &columns, tables, words),
                            4 => run::<W, 4, ALONE>(&view, &set, &columns, tables, words),
                            _ => run::<W, 1, ALONE>(&view, &set, &columns, tables, words),
                        }
                    }
                }
            }
            for (token, words) in tokens.clone().zip(words.chunks_exact(groups.len())) {
                for (group, words) in groups.clone().zip(words) {
                    let sums = widen::<W>(words, span.len() / RUN);
                    let line = token - args.tokens.start;
                    view.add(args.out, group, line, &sums, span.start == 0);
                }
            }
        }
    }
}

/// Row groups that are passed over together: `first + g · stride` for `g < groups`.
struct Set {
    first: usize,
    stride: usize,
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

/// Adds to `words[g · stride]` the sums of one token, `G` row groups and some columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn run<const W: usize, const G: usize, const PREFETCH: bool>(
    view: &View<'_>,
    set: &Set,
    columns: &Range<usize>,
    tables: &[Table],
    words: &mut [Words],
) {
    let weights: [&[u8]; G] =
        std::array::from_fn(|g| view.weights(set.first + g * set.stride, columns));
    let (runs, []) = tables.as_chunks::<RUN>() else {
        unreachable!("the layout pads K to whole runs");
    };
    assert!(weights.iter().all(|w| w.len() == runs.len() * RUN * LANES));
    for (i, run) in runs.iter().enumerate() {
        let mut bytes = [[_mm512_set1_epi8(START as i8); 2]; G];
        for (j, table) in run.iter().enumerate() {
            let table = load(table);
            for g in 0..G {
                // SAFETY: each group has 64 bytes a block (checked above). A prefetch may name any address.
                let w = unsafe {
                    let at = weights[g].as_ptr().add((i * RUN + j) * LANES);
                    if PREFETCH {
                        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                    }
                    _mm512_loadu_si512(at.cast())
                };
                let negative = _mm512_movepi8_mask(w);
                for half in 0..2 {
                    let [low, high] = table[half];
                    let mut found = _mm512_permutex2var_epi8(low, w, high);
                    if W == QUINTS {
                        let zero = _mm512_setzero_si512();
                        found = _mm512_mask_sub_epi8(found, negative, zero, found);
                    }
                    bytes[g][half] = _mm512_add_epi8(bytes[g][half], found);
                }
            }
        }
        // In memory, for the compiler would keep half of them in registers and move the other half around.
        let words = black_box(&mut *words);
        for g in 0..G {
            let (parts, _) = words[g * set.stride].as_chunks_mut::<64>();
            for half in 0..2 {
                let bytes = bytes[g][half];
                let odd = _mm512_srli_epi16::<8>(bytes);
                for (part, bytes) in [(0, bytes), (1, odd)] {
                    let part = parts[2 * half + part].as_mut_ptr();
                    // SAFETY: a part is 64 bytes, and neither load nor store asks for alignment.
                    unsafe {
                        let sum = _mm512_add_epi16(_mm512_loadu_si512(part.cast()), bytes);
                        _mm512_storeu_si512(part.cast(), sum);
                    }
                }
            }
        }
    }
}

/// The sums of 64 rows after `runs` runs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn widen<const W: usize>(words: &Words, runs: usize) -> Sums {
    let bias = runs as i32 * i32::from(START) * (1 + scale::<W>());
    let (words, _) = words.as_chunks::<2>();
    let word = |part: usize, p: usize| u16::from_le_bytes(words[part * LANES / 2 + p]);
    let mut sums = [0; LANES];
    let (pairs, _) = sums.as_chunks_mut::<2>();
    for (p, [first, second]) in pairs.iter_mut().enumerate() {
        let odd = [word(1, p), word(3, p)];
        let even = [word(0, p), word(2, p)];
        let even: [_; 2] = std::array::from_fn(|half| even[half].wrapping_sub(odd[half] << 8));
        let sum = |[low, high]: [u16; 2]| i32::from(low) + scale::<W>() * i32::from(high) - bias;
        (*first, *second) = (sum(even), sum(odd));
    }
    sums
}

/// Lower and upper halves, two registers each.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(table: &Table) -> [[__m512i; 2]; 2] {
    let (parts, _) = table.as_chunks::<64>();
    [[0, 1], [2, 3]].map(|half| {
        half.map(|part| {
            // SAFETY: a part is 64 readable bytes, and the load asks for no alignment.
            unsafe { _mm512_loadu_si512(parts[part].as_ptr().cast()) }
        })
    })
}

/// Writes the tables of one token; what is missing of the last table is 0.
///
/// # Panics
/// When `out` is shorter than the activations.
#[target_feature(enable = "avx512f,avx512bw")]
fn build<const W: usize>(acts: &[i8], out: &mut [Table]) {
    assert!(out.len() * W >= acts.len());
    let places = const { &places::<W>() };
    // `mulhrs` rounds `s · n / 2^15`; with n next to `2^15 / S` that is within half a unit of `s / S`.
    let inverse = _mm512_set1_epi16(((1 << 15) / scale::<W>()) as i16);
    let scale = _mm512_set1_epi16(scale::<W>() as i16);
    for (table, out) in out.iter_mut().enumerate() {
        let rest = &acts[(table * W).min(acts.len())..];
        // A whole word is read where there is one: its bytes need not meet in memory first.
        let word = rest.first_chunk::<8>().map_or_else(
            || {
                let byte = |w: usize| rest.get(w).map_or(0, |act| act.cast_unsigned());
                u64::from_le_bytes(std::array::from_fn(byte))
            },
            |bytes| u64::from_le_bytes(bytes.map(i8::cast_unsigned)),
        );
        let word = word & (u64::MAX >> (64 - 8 * W));
        let pairs = [0, 16, 32].map(|shift| _mm512_set1_epi16((word >> shift) as i16));
        // Codes are weights plus one.
        let excess = pairs
            .map(|pair| _mm512_maddubs_epi16(_mm512_set1_epi8(1), pair))
            .into_iter()
            .fold(_mm512_setzero_si512(), |sum, v| _mm512_add_epi16(sum, v));
        let halves: [[__m512i; 2]; 4] = std::array::from_fn(|register| {
            let mut sum = _mm512_sub_epi16(_mm512_setzero_si512(), excess);
            for p in 0..W.div_ceil(2) {
                // SAFETY: a place is 64 readable bytes, and the load asks for no alignment.
                let codes = unsafe { _mm512_loadu_si512(places[register][p].as_ptr().cast()) };
                sum = _mm512_add_epi16(sum, _mm512_maddubs_epi16(codes, pairs[p]));
            }
            let high = _mm512_mulhrs_epi16(sum, inverse);
            [_mm512_sub_epi16(sum, _mm512_mullo_epi16(high, scale)), high]
        });
        let (parts, _) = out.as_chunks_mut::<64>();
        for (i, part) in parts.iter_mut().enumerate() {
            let (half, first) = (i / 2, i % 2 * 2);
            let packed = _mm512_packs_epi16(halves[first][half], halves[first + 1][half]);
            // SAFETY: a part is 64 writable bytes, and the store asks for no alignment.
            unsafe { _mm512_storeu_si512(part.as_mut_ptr().cast(), packed) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The halves are small and add up, for activations that reach every sum and for the extremes.
    fn check<const W: usize>() {
        if !Cpu::uncapped().has(Isa::Avx512) {
            return;
        }
        for a in -128..=127i8 {
            for b in [-128, -1, 0, 1, 127, a ^ 0x2a] {
                let acts = [a, b, a.wrapping_mul(3), -128, b ^ 0x55];
                let mut out = [[0; 256]; 2];
                // SAFETY: the CPU reports AVX-512.
                unsafe { build::<W>(&acts[..W], &mut out) }
                let table = out[0].map(u8::cast_signed).map(i16::from);
                for index in 0..ENTRIES {
                    let (low, high) = (table[index], table[ENTRIES + index]);
                    assert!(low.abs() <= LARGEST && high.abs() <= LARGEST);
                    let want: i16 = (0..W)
                        .map(|w| i16::from(acts[w]) * (i16::from(code::<W>(index, w)) - 1))
                        .sum();
                    assert_eq!(low + scale::<W>() as i16 * high, want, "{acts:?} {index}");
                }
                assert_eq!(out[1], [0; 256], "no activations are zeros");
            }
        }
    }

    #[test]
    fn tables_of_quads_hold_the_sums() {
        check::<QUADS>();
    }

    #[test]
    fn tables_of_quints_hold_the_sums() {
        check::<QUINTS>();
    }

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
