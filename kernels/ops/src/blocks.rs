//! Dot products with rows of blocks (ggml's `Q6_K` and `Q4_0`), sixteen rows at a time, in integers.
//!
//! # Layout
//! A file has a row's blocks one behind the other. [`BlockType::pack`] lays sixteen rows out so that the rows are the lanes: no
//! number changes, nor how many bits one takes. Four columns of sixteen rows are a *quad*: 64 codes, code `c` of row `r` is byte
//! `4·r + c`, so that the 32-bit lane of a row meets the same four inputs in all rows. Sixteen columns are quads 0 to 3. Of each
//! sixteen rows there are
//!
//! * for each block an f16 `d` a row;
//! * behind these, `Q6_K`, for each block of 256 columns, 3,328 bytes: for each 16 columns three lines of 64 bytes, whose low six
//!   bits are the codes of the quads 0, 1 and 2, and whose two high bits are the bits 5–4, 3–2 and 1–0 of those of quad 3; then for
//!   each 16 columns an int8 scale a row;
//! * `Q4_0`, for each block of 32 columns, 256 bytes: for each 16 columns two lines, whose low nibbles are the codes of the quads 0
//!   and 1, and whose high ones those of the quads 2 and 3.
//!
//! Rows that fill up the last sixteen are zeros.
//!
//! # Arithmetic
//! An input is held as [`Digits`]: `x ≈ a · step` with `step = max|x| / 16256`, `a = 128 · high + low` rounded to the nearest integer,
//! so that no input is off by more than half a step (2^-15 of the largest); `max|x|` is taken to be 1e-30 at least. Over 16 columns
//! `t = Σ (code − offset) · a = 128 · (Σ code · high − offset · Σ high) + (Σ code · low − offset · Σ low)` is exact in 32-bit integers,
//! and below 2^23 in magnitude (16 · 32 · 16256), so that it is exact as an f32 too. Then each row, in f32, in this order:
//!
//! 1. of a block from +0, for each 16 columns in order, `block = fma(t, scale, block)` (`Q4_0`: `block + t`, which is exact);
//! 2. from +0, for each block in order, `sum = fma(block, d, sum)`;
//! 3. `sum · step`.

use std::array::from_fn;

use half::f16;

use crate::simd::{LANES, Simd};

/// A type of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockType {
    /// 32 numbers in 18 bytes: an f16 scale `d`, 16 bytes of nibbles, the low ones first; `d · (q − 8)`.
    Q4_0,
    /// 256 numbers in 210 bytes: 128 bytes of low nibbles, 64 of high bit pairs, 16 int8 scales, an f16 scale `d`;
    /// `d · scale · (q − 32)`.
    Q6K,
}

/// Rows of blocks as [`BlockType::pack`] lays them out, sixteen behind sixteen.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    /// Their type.
    pub kind: BlockType,
    /// Whole groups of [`BlockType::group_bytes`]. Fastest where they begin at a cache line.
    pub bytes: &'a [u8],
}

impl BlockType {
    /// Rows that are laid out together.
    pub const ROWS: usize = LANES;

    /// Numbers of a block.
    pub const fn numbers(self) -> usize {
        match self {
            Self::Q4_0 => Q4_0::COLUMNS,
            Self::Q6K => Q6K::COLUMNS,
        }
    }

    /// Bytes of a block in a file.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q6K => 210,
        }
    }

    /// What is taken from a code.
    const fn offset(self) -> i32 {
        match self {
            Self::Q4_0 => 8,
            Self::Q6K => 32,
        }
    }

    /// Bytes of sixteen rows of `k` numbers, packed: as many as in a file. `None` when a row is no whole blocks, or on overflow.
    pub fn group_bytes(self, k: usize) -> Option<usize> {
        if !k.is_multiple_of(self.numbers()) {
            return None;
        }
        (k / self.numbers()).checked_mul(self.bytes() * Self::ROWS)
    }

    /// Lays out up to sixteen rows of `k` numbers, given as in a file; the rows that lack become zeros.
    ///
    /// # Panics
    /// When `rows` are not 0 to 16 rows of whole blocks, or `out` is not [`Self::group_bytes`] long.
    pub fn pack(self, rows: &[u8], k: usize, out: &mut [u8]) {
        assert_eq!(Some(out.len()), self.group_bytes(k), "pack: sixteen rows");
        let row_bytes = k / self.numbers() * self.bytes();
        assert!(
            rows.len() <= Self::ROWS * row_bytes
                && (rows.is_empty() || rows.len().is_multiple_of(row_bytes)),
            "pack: whole rows"
        );
        match self {
            Self::Q4_0 => pack::<Q4_0>(rows, row_bytes, out),
            Self::Q6K => pack::<Q6K>(rows, row_bytes, out),
        }
    }
}

impl Blocks<'_> {
    /// Writes the numbers of row `row` of rows of `k` numbers, as their blocks in a file give them.
    ///
    /// # Panics
    /// When there is no such row, or `out` is not `k` long.
    pub fn row(&self, row: usize, k: usize, out: &mut [f32]) {
        let size = self.kind.group_bytes(k).expect("rows are whole blocks");
        assert_eq!(out.len(), k, "blocks: numbers of a row");
        let group = &self.bytes[row / LANES * size..][..size];
        match self.kind {
            BlockType::Q4_0 => unpack::<Q4_0>(group, row % LANES, out),
            BlockType::Q6K => unpack::<Q6K>(group, row % LANES, out),
        }
    }
}

/// Writes the numbers of one of sixteen rows.
fn unpack<F: Format>(group: &[u8], row: usize, out: &mut [f32]) {
    let (all_d, blocks) = group.split_at(out.len() / F::COLUMNS * F::D_BYTES);
    let each = blocks.chunks_exact(F::BYTES);
    let each = each.zip(all_d.chunks_exact(F::D_BYTES));
    for ((block, all_d), out) in each.zip(out.chunks_exact_mut(F::COLUMNS)) {
        let d = f16::from_le_bytes([all_d[2 * row], all_d[2 * row + 1]]).to_f32();
        for (column, out) in out.iter_mut().enumerate() {
            let code = F::code(block, column, row);
            *out = F::scale(d, block, column / LANES, row) * code as f32;
        }
    }
}

/// Sixteen numbers of an input.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Columns {
    /// −127 to 127.
    pub(crate) high: [i8; LANES],
    /// −64 to 64.
    pub(crate) low: [i8; LANES],
    /// `−offset · Σ high`.
    pub(crate) high_sum: i32,
    /// `−offset · Σ low`.
    pub(crate) low_sum: i32,
}

/// Digits of the four columns of quad `q`, as the lane that meets a row.
#[inline(always)]
pub(crate) fn quad(digits: &[i8; LANES], q: usize) -> i32 {
    let (quads, _) = digits.as_chunks();
    let quad: [i8; 4] = quads[q];
    i32::from_ne_bytes(quad.map(|digit| digit as u8))
}

/// Inputs of [`Ops::rows_dot_blocks`](crate::Ops::rows_dot_blocks) as int8 digits: made once for all rows.
#[derive(Debug, Default)]
pub struct Digits {
    /// Numbers of an input.
    k: usize,
    /// What the sums were made for.
    kind: Option<BlockType>,
    columns: Vec<Columns>,
    /// A step for each input; NaN where one of its numbers is.
    steps: Vec<f32>,
}

impl Digits {
    /// The largest input is so many steps (127 of the high digit); no input is off by more than half of one.
    pub const LARGEST: f32 = 16_256.0;

    /// What the largest input is taken to be at least: below this the inverse of a step would not be finite.
    pub const FLOOR: f32 = 1e-30;

    /// Bytes of an input of `k` numbers.
    pub const fn bytes(k: usize) -> usize {
        k.div_ceil(LANES) * size_of::<Columns>() + size_of::<f32>()
    }

    /// How many inputs there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

#[inline(always)]
pub(crate) fn digits<S: Simd>(s: S, kind: BlockType, k: usize, xs: &[f32], to: &mut Digits) {
    assert!(
        k > 0 && k.is_multiple_of(kind.numbers()) && xs.len().is_multiple_of(k),
        "digits: inputs of whole blocks"
    );
    let (all, _) = xs.as_chunks::<LANES>();
    to.k = k;
    to.kind = Some(kind);
    to.columns.resize(all.len(), Columns::default());
    to.steps.resize(xs.len() / k, 0.0);
    let inputs = all
        .chunks_exact(k / LANES)
        .zip(to.columns.chunks_exact_mut(k / LANES));
    for ((x, to), step) in inputs.zip(&mut to.steps) {
        // `max` drops NaN, and the sum of these lanes is one as soon as one was seen.
        let (mut max, mut nan) = (s.splat(0.0), s.splat(0.0));
        for x in x {
            let x = s.load(x);
            max = s.max(s.abs(x), max);
            nan = s.keep_nan(x, nan);
        }
        let mut lanes = [0.0; LANES];
        s.store(max, &mut lanes);
        let max = lanes.into_iter().fold(Digits::FLOOR, f32::max);
        *step = max / Digits::LARGEST + s.reduce(nan);
        let by = s.splat(Digits::LARGEST / max);
        for (x, to) in x.iter().zip(to) {
            let a = s.mul(s.load(x), by);
            s.store_i8(s.mul(a, s.splat(1.0 / 128.0)), &mut to.high);
            // What the rounded digit stands for; the remainder is exact.
            let high = s.load_i8(&to.high);
            s.store_i8(s.fma(high, s.splat(-128.0), a), &mut to.low);
            to.high_sum = -kind.offset() * sum(&to.high);
            to.low_sum = -kind.offset() * sum(&to.low);
        }
    }
}

#[inline(always)]
fn sum(digits: &[i8; LANES]) -> i32 {
    let mut sum = 0;
    for digit in digits {
        sum += i32::from(*digit);
    }
    sum
}

/// A line of codes of sixteen rows.
pub(crate) type Line = [u8; 64];

/// Products of codes and digits on one instruction set, beside the lanes `S`.
pub(crate) trait Products<S: Simd>: Copy {
    /// The quads of sixteen columns, a code a byte.
    type Codes: Copy;

    /// Takes three lines of six-bit codes apart.
    fn six(self, lines: &[Line; 3]) -> Self::Codes;
    /// Takes two lines of nibbles apart.
    fn four(self, lines: &[Line; 2]) -> Self::Codes;
    /// `128 · (Σ code · high + high_sum) + Σ code · low + low_sum` of each row. Codes are below 64.
    fn sums(self, codes: Self::Codes, columns: &Columns) -> S::V;
}

/// How sixteen rows of a block are laid out.
trait Format {
    /// Columns of a block.
    const COLUMNS: usize;
    /// Bytes without the scales `d`.
    const BYTES: usize;
    /// Bytes of the scales `d`.
    const D_BYTES: usize = 2 * LANES;
    /// Bytes of a block in a file.
    const IN_FILE: usize;

    /// The codes of sixteen columns.
    fn codes<S: Simd, P: Products<S>>(p: P, block: &[u8], sixteen: usize) -> P::Codes;
    /// What the sums of sixteen columns are multiplied with in a block.
    fn scales<S: Simd>(s: S, block: &[u8], sixteen: usize) -> S::V;
    /// The code of one number less its offset.
    fn code(block: &[u8], column: usize, row: usize) -> i32;
    /// What the codes of sixteen columns of a row are multiplied with.
    fn scale(d: f32, block: &[u8], sixteen: usize, row: usize) -> f32;
    /// Takes the block of a row apart: codes in the order of columns, scales where it has more than one, and `d`.
    fn unpack(block: &[u8], codes: &mut [u8; 256], scales: &mut [u8; LANES]) -> [u8; 2];
    /// Lays out the quads of sixteen columns; `to` is a block of sixteen rows.
    fn put(quads: &[[u32; LANES]; 4], sixteen: usize, to: &mut [u8]);
    /// Lays out the scales of row `row`.
    fn put_scales(scales: &[u8; LANES], row: usize, to: &mut [u8]);
}

struct Q4_0;
struct Q6K;

impl Format for Q4_0 {
    const COLUMNS: usize = 32;
    const BYTES: usize = 256;
    const IN_FILE: usize = 18;

    #[inline(always)]
    fn codes<S: Simd, P: Products<S>>(p: P, block: &[u8], sixteen: usize) -> P::Codes {
        let (lines, _) = block.as_chunks::<64>();
        let (lines, _) = lines.as_chunks();
        p.four(&lines[sixteen])
    }

    #[inline(always)]
    fn scales<S: Simd>(s: S, _: &[u8], _: usize) -> S::V {
        s.splat(1.0)
    }

    fn code(block: &[u8], column: usize, row: usize) -> i32 {
        let (quad, byte) = (column % LANES / 4, 4 * row + column % 4);
        let line = 2 * (column / LANES) + quad % 2;
        i32::from(block[64 * line + byte] >> (4 * (quad / 2)) & 15) - 8
    }

    fn scale(d: f32, _: &[u8], _: usize, _: usize) -> f32 {
        d
    }

    fn unpack(block: &[u8], codes: &mut [u8; 256], _: &mut [u8; LANES]) -> [u8; 2] {
        let (low, high) = codes.split_at_mut(16);
        for ((low, high), nibbles) in low.iter_mut().zip(high).zip(&block[2..18]) {
            *low = nibbles & 15;
            *high = nibbles >> 4;
        }
        [block[0], block[1]]
    }

    fn put(quads: &[[u32; LANES]; 4], sixteen: usize, to: &mut [u8]) {
        let (lines, _) = to.as_chunks_mut::<64>();
        let (pairs, _) = lines.as_chunks_mut::<2>();
        for (q, line) in pairs[sixteen].iter_mut().enumerate() {
            let (lanes, _) = line.as_chunks_mut();
            for (row, lane) in lanes.iter_mut().enumerate() {
                *lane = (quads[q][row] | quads[q + 2][row] << 4).to_le_bytes();
            }
        }
    }

    fn put_scales(_: &[u8; LANES], _: usize, _: &mut [u8]) {}
}

impl Format for Q6K {
    const COLUMNS: usize = 256;
    const BYTES: usize = 16 * (192 + 16);
    const IN_FILE: usize = 210;

    #[inline(always)]
    fn codes<S: Simd, P: Products<S>>(p: P, block: &[u8], sixteen: usize) -> P::Codes {
        let (lines, _) = block.as_chunks::<64>();
        let (lines, _) = lines.as_chunks();
        p.six(&lines[sixteen])
    }

    #[inline(always)]
    fn scales<S: Simd>(s: S, block: &[u8], sixteen: usize) -> S::V {
        let (scales, _) = block[16 * 192..].as_chunks::<LANES>();
        s.load_i8(&scales[sixteen].map(|b| b as i8))
    }

    fn code(block: &[u8], column: usize, row: usize) -> i32 {
        let (quad, byte) = (column % LANES / 4, 4 * row + column % 4);
        let line = |at: usize| block[64 * (3 * (column / LANES) + at) + byte];
        let code = match quad {
            3 => line(0) >> 6 << 4 | line(1) >> 6 << 2 | line(2) >> 6,
            quad => line(quad) & 63,
        };
        i32::from(code) - 32
    }

    fn scale(d: f32, block: &[u8], sixteen: usize, row: usize) -> f32 {
        d * f32::from(block[16 * 192 + LANES * sixteen + row] as i8)
    }

    fn unpack(block: &[u8], codes: &mut [u8; 256], scales: &mut [u8; LANES]) -> [u8; 2] {
        // Two halves of 128 numbers, each four parts of 32 that share 64 bytes of nibbles and 32 of bit pairs.
        for (at, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (half, part) = (at / 4, at % 4);
            let high: &[u8; 32] = block[128 + 32 * half..][..32].try_into().expect("32 bytes");
            let low = &block[64 * half + 32 * (part % 2)..][..32];
            let low: &[u8; 32] = low.try_into().expect("32 bytes");
            for ((code, low), high) in codes.iter_mut().zip(low).zip(high) {
                *code = low >> (4 * (part / 2)) & 15 | (high >> (2 * part) & 3) << 4;
            }
        }
        scales.copy_from_slice(&block[192..208]);
        [block[208], block[209]]
    }

    fn put(quads: &[[u32; LANES]; 4], sixteen: usize, to: &mut [u8]) {
        let (lines, _) = to.as_chunks_mut::<64>();
        let (threes, _) = lines.as_chunks_mut::<3>();
        for (q, line) in threes[sixteen].iter_mut().enumerate() {
            let (lanes, _) = line.as_chunks_mut();
            for (row, lane) in lanes.iter_mut().enumerate() {
                let high = quads[3][row] << (2 * q + 2) & 0xC0C0_C0C0;
                *lane = (quads[q][row] | high).to_le_bytes();
            }
        }
    }

    fn put_scales(scales: &[u8; LANES], row: usize, to: &mut [u8]) {
        let (sixteens, _) = to[16 * 192..].as_chunks_mut::<LANES>();
        for (scale, to) in scales.iter().zip(sixteens) {
            to[row] = *scale;
        }
    }
}

fn pack<F: Format>(rows: &[u8], row_bytes: usize, out: &mut [u8]) {
    let blocks = row_bytes / F::IN_FILE;
    let (all_d, out) = out.split_at_mut(blocks * F::D_BYTES);
    let mut codes = [[0; 256]; LANES];
    let each = out.chunks_exact_mut(F::BYTES);
    for (at, (out, all_d)) in each.zip(all_d.chunks_exact_mut(F::D_BYTES)).enumerate() {
        for row in 0..LANES {
            let mut scales = [0; LANES];
            let from = row * row_bytes + at * F::IN_FILE;
            let d = if let Some(block) = rows.get(from..from + F::IN_FILE) {
                F::unpack(block, &mut codes[row], &mut scales)
            } else {
                codes[row].fill(0);
                [0; 2]
            };
            all_d[2 * row..2 * row + 2].copy_from_slice(&d);
            F::put_scales(&scales, row, out);
        }
        for sixteen in 0..F::COLUMNS / LANES {
            let mut quads = [[0; LANES]; 4];
            for (row, codes) in codes.iter().enumerate() {
                let (of_row, _) = codes[LANES * sixteen..][..LANES].as_chunks();
                for (quad, codes) in quads.iter_mut().zip(of_row) {
                    quad[row] = u32::from_le_bytes(*codes);
                }
            }
            F::put(&quads, sixteen, out);
        }
    }
}

#[inline(always)]
pub(crate) fn rows_dot<S: Simd, P: Products<S>>(
    s: S,
    p: P,
    weights: Blocks<'_>,
    rows: usize,
    inputs: &Digits,
    out: &mut [f32],
) {
    assert_eq!(
        inputs.kind,
        Some(weights.kind),
        "rows_dot_blocks: digits of another type"
    );
    assert!(
        weights.kind.group_bytes(inputs.k).is_some_and(|bytes| {
            bytes.checked_mul(rows.div_ceil(LANES)) == Some(weights.bytes.len())
        }),
        "rows_dot_blocks: rows x k"
    );
    assert_eq!(
        Some(out.len()),
        rows.checked_mul(inputs.len()),
        "rows_dot_blocks: a row for each input"
    );
    match weights.kind {
        BlockType::Q4_0 => rows_dot_of::<S, P, Q4_0>(s, p, weights.bytes, rows, inputs, out),
        BlockType::Q6K => rows_dot_of::<S, P, Q6K>(s, p, weights.bytes, rows, inputs, out),
    }
}

#[inline(always)]
fn rows_dot_of<S: Simd, P: Products<S>, F: Format>(
    s: S,
    p: P,
    weights: &[u8],
    rows: usize,
    inputs: &Digits,
    out: &mut [f32],
) {
    let k = inputs.k;
    let size = k / F::COLUMNS * (F::BYTES + F::D_BYTES);
    let input = |at: usize| &inputs.columns[at * (k / LANES)..(at + 1) * (k / LANES)];
    for (at, group) in weights.chunks_exact(size).enumerate() {
        let mut first = 0;
        while first < inputs.len() {
            let left = inputs.len() - first;
            // The next groups are asked for while the first inputs are multiplied with this one.
            let ask = first == 0;
            let of = |at: usize| input(first + at);
            let mut sums = [s.splat(0.0); 8];
            let count = if S::ACCUMULATORS >= 16 && left >= 8 {
                sums = tile::<S, P, F, 8>(s, p, group, from_fn(of), ask);
                8
            } else if S::ACCUMULATORS >= 16 && left >= 4 {
                sums[..4].copy_from_slice(&tile::<S, P, F, 4>(s, p, group, from_fn(of), ask));
                4
            } else if S::ACCUMULATORS >= 4 && left >= 2 {
                sums[..2].copy_from_slice(&tile::<S, P, F, 2>(s, p, group, from_fn(of), ask));
                2
            } else {
                sums[..1].copy_from_slice(&tile::<S, P, F, 1>(s, p, group, from_fn(of), ask));
                1
            };
            for sums in &sums[..count] {
                let out = &mut out[first * rows..(first + 1) * rows];
                put(s, *sums, inputs.steps[first], at * LANES, out);
                first += 1;
            }
        }
    }
}

/// How far ahead of its reads a product asks for its bytes, in one stream. 8 and 12 KiB are 1 to 3 % slower on Zen 5, 2 KiB 27 %, and
/// so are two and four streams.
const AHEAD: usize = 10 * 1024;

/// Writes the products of sixteen rows, or of those that there are.
#[inline(always)]
fn put<S: Simd>(s: S, sums: S::V, step: f32, row: usize, out: &mut [f32]) {
    let products = s.mul(sums, s.splat(step));
    match out[row..].first_chunk_mut() {
        Some(out) => s.store(products, out),
        None => s.store_tail(products, &mut out[row..]),
    }
}

/// The sums of sixteen rows with `T` inputs.
#[inline(always)]
fn tile<S: Simd, P: Products<S>, F: Format, const T: usize>(
    s: S,
    p: P,
    group: &[u8],
    inputs: [&[Columns]; T],
    ask: bool,
) -> [S::V; T] {
    let sixteens = F::COLUMNS / LANES;
    let blocks = inputs[0].len() / sixteens;
    // What is asked for in each step, spread evenly, so that it is all that comes.
    let step = (F::BYTES + F::D_BYTES) / sixteens;
    let (all_d, codes) = group.split_at(blocks * F::D_BYTES);
    let mut sums = [s.splat(0.0); T];
    for (at, block) in codes.chunks_exact(F::BYTES).enumerate() {
        let mut of_block = [s.splat(0.0); T];
        for sixteen in 0..sixteens {
            let column = at * sixteens + sixteen;
            if ask {
                let from = group.as_ptr().wrapping_add(AHEAD + column * step);
                let mut line = 0;
                while line < step {
                    s.prefetch(from.wrapping_add(line));
                    line += 64;
                }
            }
            let codes = F::codes::<S, P>(p, block, sixteen);
            let scales = F::scales(s, block, sixteen);
            for t in 0..T {
                let products = p.sums(codes, &inputs[t][column]);
                of_block[t] = s.fma(products, scales, of_block[t]);
            }
        }
        let (all_d, _) = all_d.as_chunks::<2>();
        let (all_d, _) = all_d.as_chunks::<LANES>();
        let d = s.load_f16(&all_d[at].map(f16::from_le_bytes));
        for t in 0..T {
            sums[t] = s.fma(of_block[t], d, sums[t]);
        }
    }
    sums
}
