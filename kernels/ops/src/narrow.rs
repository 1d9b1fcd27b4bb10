//! Halves that were bf16 numbers, in twelve bits each and without loss.
//!
//! Models are trained and published in bf16, and a half that was rounded from one has seven bits of fraction, not ten (below the
//! smallest normal half it has fewer). The exponents of a row lie close together: all but one number in some ten thousand are
//! within sixteen binades of the largest. So a row keeps one exponent, its base, and a number a sign, four bits of exponent above
//! the base, and seven of fraction. Numbers that do not fit are kept beside the rows.
//!
//! A group of [`GROUP`] numbers is three registers of 64 bytes, each 32 little-endian words. A word holds the sign in bit 15,
//! exponent and fraction in bits 10 to 0: the upper half of the f32, once the base is added to its exponent. Word `2·i` of register
//! `j` is number `32·j + i`, and word `2·i + 1` number `32·j + 16 + i`, so that a shift and a mask of the 32-bit lanes give sixteen
//! neighbours each. The numbers 96 to 127 lie in bits 14 to 11 of the three: sign and upper exponent in those of the first, then
//! lower exponent and upper fraction, then the rest of the fraction.

use std::array::from_fn;

use half::f16;

use crate::lanes::{AHEAD, reduce_all};
use crate::simd::{LANES, Simd};

/// Numbers of a group; rows are whole groups.
pub const GROUP: usize = 128;
/// Bytes of a group.
pub const GROUP_BYTES: usize = GROUP / 2 * 3;
/// Binades that a row spans.
const BINADES: u32 = 16;
/// Columns that a misfit can name.
pub const MAX_COLUMNS: usize = 1 << 16;
/// Vectors of a group.
const VECTORS: usize = GROUP / LANES;
/// Rows that go through memory side by side. The sum of one is a chain of additions, which memory would wait for.
const STREAMS: usize = 2;

/// Some rows of a matrix of narrow halves.
#[derive(Clone, Copy, Debug)]
pub struct Narrow<'a> {
    /// [`GROUP_BYTES`] for each group, row after row.
    pub groups: &'a [u8],
    /// The exponent of each row that code 0 stands for, as an f32 has it.
    pub bases: &'a [u8],
    /// Where the numbers of each row that do not fit begin in [`Self::misfits`], and where those of the last one end.
    pub starts: &'a [u32],
    /// The column and the half of each number that does not fit, in order of rows and columns.
    pub misfits: &'a [(u16, f16)],
}

impl<'a> Narrow<'a> {
    /// Rows, and the groups of each.
    #[inline(always)]
    pub(crate) fn shape(&self) -> (usize, usize) {
        let rows = self.bases.len();
        let groups = self.groups.len() / GROUP_BYTES / rows.max(1);
        assert_eq!(
            self.groups.len(),
            rows * groups * GROUP_BYTES,
            "narrow: whole rows"
        );
        assert_eq!(
            self.starts.len(),
            rows + 1,
            "narrow: a start a row, and an end"
        );
        (rows, groups)
    }

    /// Writes the numbers of one row.
    ///
    /// # Panics
    /// When there is no such row or `out` has another length.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let (_, groups) = self.shape();
        assert_eq!(out.len(), groups * GROUP, "narrow: numbers of a row");
        let row = self.row_of(row, groups);
        let (groups, _) = out.as_chunks_mut::<GROUP>();
        for (group, out) in row.groups.iter().zip(groups) {
            for (part, out) in out.chunks_exact_mut(2 * LANES).enumerate() {
                let (low, high) = out.split_at_mut(LANES);
                let [a, b] = numbers(group, part, row.base);
                low.copy_from_slice(&a);
                high.copy_from_slice(&b);
            }
        }
        for (column, number) in row.misfits {
            out[usize::from(*column)] = number.to_f32();
        }
    }

    #[inline(always)]
    pub(crate) fn row_of(&self, row: usize, groups: usize) -> Row<'a> {
        let misfits = self.starts[row] as usize..self.starts[row + 1] as usize;
        let bytes = groups * GROUP_BYTES;
        let (groups, _) = self.groups[row * bytes..(row + 1) * bytes].as_chunks();
        Row {
            groups,
            base: self.bases[row],
            misfits: &self.misfits[misfits],
        }
    }
}

/// One row, and its misfits that are still to come.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    groups: &'a [[u8; GROUP_BYTES]],
    base: u8,
    misfits: &'a [(u16, f16)],
}

impl Row<'_> {
    /// The group of the next misfit; beyond every row when there is none.
    #[inline(always)]
    fn next(&self) -> usize {
        self.misfits
            .first()
            .map_or(usize::MAX, |(column, _)| usize::from(*column) / GROUP)
    }

    /// Writes the numbers of group `at`, at which no misfit of a group before it is left.
    #[inline(always)]
    fn unpack<S: Simd>(&mut self, s: S, at: usize, out: &mut [[f32; LANES]; VECTORS]) {
        let group = &self.groups[at];
        for part in 0..VECTORS / 2 {
            let [a, b] = s.narrow(group, part, self.base);
            s.store(a, &mut out[2 * part]);
            s.store(b, &mut out[2 * part + 1]);
        }
        while self.next() == at {
            let (column, number) = self.misfits[0];
            let column = usize::from(column) % GROUP;
            out[column / LANES][column % LANES] = number.to_f32_const();
            self.misfits = &self.misfits[1..];
        }
    }
}

/// Sixteen and sixteen numbers: part `part` of a group, whose words hold exponents above `base`.
#[inline(always)]
pub(crate) fn numbers(group: &[u8; GROUP_BYTES], part: usize, base: u8) -> [[f32; LANES]; 2] {
    let (words, _) = group.as_chunks::<2>();
    let word = |register: usize, at: usize| u16::from_le_bytes(words[32 * register + at]);
    let mut out = [[0.0; LANES]; 2];
    for at in 0..2 * LANES {
        let word = if part < 3 {
            word(part, at)
        } else {
            // The sign fills what is above the exponent; the mask below leaves one of it.
            let bits =
                word(0, at) << 1 & 0xf000 | word(1, at) >> 3 & 0x0f00 | word(2, at) >> 7 & 0xf0;
            (bits.cast_signed() >> 4).cast_unsigned()
        };
        let half = (word & 0x87ff).wrapping_add(u16::from(base) << 7);
        out[at % 2][at / 2] = f32::from_bits(u32::from(half) << 16);
    }
    out
}

/// Not 0 where the number of these bits has more bits than a narrow one, or another exponent than those from `base` on.
#[inline(always)]
const fn misfit(bits: u32, base: u32) -> u32 {
    bits & 0xffff | (bits >> 23 & 0xff).wrapping_sub(base) >> 4
}

/// Writes a row as groups, adds the numbers that do not fit to `misfits`, and returns the base of the row.
#[inline(always)]
pub(crate) fn pack<S: Simd>(
    s: S,
    row: &[f16],
    groups: &mut [u8],
    misfits: &mut Vec<(u16, f16)>,
) -> u8 {
    let (halves, rest) = row.as_chunks::<LANES>();
    let (halves, odd) = halves.as_chunks::<VECTORS>();
    let (groups, _) = groups.as_chunks_mut::<GROUP_BYTES>();
    assert!(
        rest.is_empty() && odd.is_empty() && row.len() <= MAX_COLUMNS,
        "narrow: whole groups"
    );
    assert_eq!(groups.len(), halves.len(), "narrow: groups of a row");
    let mut largest = 0;
    for half in row {
        largest = largest.max(half.to_bits() & 0x7fff);
    }
    let largest = f16::from_bits(largest).to_f32_const().to_bits();
    let base = (largest >> 23).saturating_sub(BINADES - 1);
    for (at, (halves, group)) in halves.iter().zip(groups).enumerate() {
        let mut numbers = [[0.0; LANES]; VECTORS];
        for (halves, numbers) in halves.iter().zip(&mut numbers) {
            s.store(s.load_f16(halves), numbers);
        }
        // Sign, exponent and fraction of each in twelve bits.
        let mut codes = [0u32; GROUP];
        let mut lost = 0;
        for (code, number) in codes.iter_mut().zip(numbers.as_flattened()) {
            let bits = number.to_bits();
            let above = (bits >> 23 & 0xff).wrapping_sub(base);
            lost |= misfit(bits, base);
            *code = bits >> 20 & 0x800 | above << 7 & 0x780 | bits >> 16 & 0x7f;
        }
        if lost != 0 {
            for (i, number) in numbers.as_flattened().iter().enumerate() {
                if misfit(number.to_bits(), base) != 0 {
                    misfits.push(((at * GROUP + i) as u16, halves[i / LANES][i % LANES]));
                }
            }
        }
        let mut last = [0u32; LANES];
        for (i, last) in last.iter_mut().enumerate() {
            *last = codes[96 + i] | codes[112 + i] << 16;
        }
        let (registers, _) = group.as_chunks_mut::<64>();
        for (j, register) in registers.iter_mut().enumerate() {
            let (lanes, _) = register.as_chunks_mut::<4>();
            let (low, high) = (&codes[32 * j..], &codes[32 * j + LANES..]);
            let shift = 8 - 4 * j;
            for (i, lane) in lanes.iter_mut().enumerate() {
                let two = low[i] | high[i] << 16;
                let word = (two & 0x0800_0800) << 4 | two & 0x07ff_07ff;
                let nibbles = last[i] >> shift & 0x000f_000f;
                *lane = (word | nibbles << 11).to_le_bytes();
            }
        }
    }
    base as u8
}

/// `out[r] = Σ_k row[r, k] · x[k]` (lanes).
#[inline(always)]
pub(crate) fn rows_dot<S: Simd>(s: S, weights: Narrow<'_>, x: &[f32], out: &mut [f32]) {
    let (rows, groups) = weights.shape();
    assert_eq!(out.len(), rows, "narrow: an output a row");
    assert_eq!(x.len(), groups * GROUP, "narrow: rows x k");
    // Each stream goes through its own part of the rows.
    let part = rows / STREAMS;
    for at in 0..part {
        let dots = dots::<S, STREAMS>(s, weights, from_fn(|r| r * part + at), x);
        for (r, dot) in dots.into_iter().enumerate() {
            out[r * part + at] = dot;
        }
    }
    for at in STREAMS * part..rows {
        [out[at]] = dots::<S, 1>(s, weights, [at], x);
    }
}

/// The dot products of `R` rows.
#[inline(always)]
fn dots<S: Simd, const R: usize>(
    s: S,
    weights: Narrow<'_>,
    rows: [usize; R],
    x: &[f32],
) -> [f32; R] {
    let (x, _) = x.as_chunks::<LANES>();
    let (x, _) = x.as_chunks::<VECTORS>();
    let mut rows: [Row<'_>; R] = from_fn(|r| weights.row_of(rows[r], x.len()));
    let lines: [&[[u8; GROUP_BYTES]]; R] = from_fn(|r| &rows[r].groups[..x.len()]);
    let mut sums = [s.splat(0.0); R];
    let mut next = usize::MAX;
    for row in &rows {
        next = next.min(row.next());
    }
    for (at, x) in x.iter().enumerate() {
        if at == next {
            next = usize::MAX;
            for r in 0..R {
                if rows[r].next() == at {
                    let mut numbers = [[0.0; LANES]; VECTORS];
                    rows[r].unpack(s, at, &mut numbers);
                    for (numbers, x) in numbers.iter().zip(x) {
                        sums[r] = s.fma(s.load(numbers), s.load(x), sums[r]);
                    }
                } else {
                    sums[r] = multiply(s, &lines[r][at], rows[r].base, x, sums[r]);
                }
                next = next.min(rows[r].next());
            }
            continue;
        }
        for r in 0..R {
            for line in 0..GROUP_BYTES / 64 {
                s.prefetch(lines[r][at].as_ptr().wrapping_add(AHEAD / R + 64 * line));
            }
            sums[r] = multiply(s, &lines[r][at], rows[r].base, x, sums[r]);
        }
    }
    let mut dots = [0.0; R];
    reduce_all(s, &sums, &mut dots);
    dots
}

/// Adds the products of one group to a sum.
#[inline(always)]
fn multiply<S: Simd>(
    s: S,
    group: &[u8; GROUP_BYTES],
    base: u8,
    x: &[[f32; LANES]; VECTORS],
    mut sum: S::V,
) -> S::V {
    for part in 0..VECTORS / 2 {
        let [a, b] = s.narrow(group, part, base);
        sum = s.fma(a, s.load(&x[2 * part]), sum);
        sum = s.fma(b, s.load(&x[2 * part + 1]), sum);
    }
    sum
}

/// The numbers of one row from group `first` on, for products with several inputs; what lies `ahead` bytes behind each group is asked
/// for, if anything.
#[inline(always)]
pub(crate) fn unpack<S: Simd>(s: S, mut row: Row<'_>, first: usize, ahead: usize, out: &mut [f32]) {
    while row.next() < first {
        row.misfits = &row.misfits[1..];
    }
    let (out, _) = out.as_chunks_mut::<LANES>();
    let (out, _) = out.as_chunks_mut::<VECTORS>();
    for (at, out) in (first..).zip(out) {
        if ahead > 0 {
            for line in 0..GROUP_BYTES / 64 {
                let at = row.groups[at].as_ptr();
                s.prefetch(at.wrapping_add(ahead + 64 * line));
            }
        }
        row.unpack(s, at, out);
    }
}
