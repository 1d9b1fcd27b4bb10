//! The layouts of look-up kernels: [`super::LayoutId::L2R64`], [`super::LayoutId::L3R64`], [`super::LayoutId::L4R64`] and
//! [`super::LayoutId::L5R64`].

use super::code;
use crate::Codes;

/// Rows of a group.
const LANES: usize = 64;
/// Bytes of 16 columns of a group as pairs.
pub(super) const PAIR_BLOCK: usize = 4 * LANES;
/// Bytes of 24 columns of a group as triplets.
pub(super) const TRIPLET_BLOCK: usize = 5 * LANES;
/// Bytes of four columns of a group as quads, or of five as quints: a byte a row.
pub(super) const BYTE_BLOCK: usize = LANES;
/// Largest index of a quad.
const LARGEST_QUAD: u8 = 80;
/// Largest magnitude of a quint.
const LARGEST_QUINT: u8 = 121;

/// The row of a lane; rows beyond the matrix are empty, and what is missing of a row is weight 0.
fn lane_row(codes: Codes<'_>, group: usize, lane: usize) -> &[i8] {
    let row = group * LANES + lane;
    if row < codes.rows() {
        codes.row(row)
    } else {
        &[]
    }
}

/// `N` weights from `column` on.
fn take<const N: usize>(row: &[i8], column: usize) -> [i8; N] {
    if let Some(full) = row.get(column..).and_then(|rest| rest.first_chunk()) {
        return *full;
    }
    std::array::from_fn(|i| row.get(column + i).copied().unwrap_or(0))
}

pub(super) fn pack_pairs(codes: Codes<'_>, group: usize, out: &mut [u8]) {
    for lane in 0..LANES {
        let row = lane_row(codes, group, lane);
        for (quad, out) in out.chunks_exact_mut(LANES).enumerate() {
            let [a, b, c, d] = take(row, quad * 4).map(code);
            out[lane] = (3 * a + b) | (3 * c + d) << 4;
        }
    }
}

pub(super) fn pack_triplets(codes: Codes<'_>, group: usize, out: &mut [u8]) {
    for lane in 0..LANES {
        let row = lane_row(codes, group, lane);
        for (block, out) in out.chunks_exact_mut(TRIPLET_BLOCK).enumerate() {
            let mut signs = 0;
            for i in 0..4 {
                let [a, b, c, d, e, f] = take(row, block * 24 + i * 6);
                let (low, high) = (9 * a + 3 * b + c, 9 * d + 3 * e + f);
                out[i * LANES + lane] = low.unsigned_abs() | high.unsigned_abs() << 4;
                signs |= u8::from(low < 0) << (7 - 2 * i) | u8::from(high < 0) << (6 - 2 * i);
            }
            out[4 * LANES + lane] = signs;
        }
    }
}

pub(super) fn pack_quads(codes: Codes<'_>, group: usize, out: &mut [u8]) {
    for lane in 0..LANES {
        let row = lane_row(codes, group, lane);
        for (quad, out) in out.chunks_exact_mut(BYTE_BLOCK).enumerate() {
            let [a, b, c, d] = take(row, quad * 4).map(code);
            out[lane] = 27 * a + 9 * b + 3 * c + d;
        }
    }
}

pub(super) fn pack_quints(codes: Codes<'_>, group: usize, out: &mut [u8]) {
    for lane in 0..LANES {
        let row = lane_row(codes, group, lane);
        for (quint, out) in out.chunks_exact_mut(BYTE_BLOCK).enumerate() {
            let [a, b, c, d, e] = take(row, quint * 5);
            let value = 81 * a + 27 * b + 9 * c + 3 * d + e;
            out[lane] = value.unsigned_abs() | u8::from(value < 0) << 7;
        }
    }
}

/// The code of one weight.
pub(super) fn pair_code(group: &[u8], lane: usize, column: usize) -> u8 {
    let byte = group[column / 4 * LANES + lane];
    let index = byte >> (column % 4 / 2 * 4) & 15;
    if column.is_multiple_of(2) {
        index / 3
    } else {
        index % 3
    }
}

/// The code of one weight.
pub(super) fn triplet_code(group: &[u8], lane: usize, column: usize) -> u8 {
    let block = &group[column / 24 * TRIPLET_BLOCK..];
    let triplet = column % 24 / 3;
    let index = block[triplet / 2 * LANES + lane] >> (triplet % 2 * 4) & 15;
    let negative = block[4 * LANES + lane] >> (7 - triplet) & 1 == 1;
    // 13 more makes the three balanced digits ordinary ones.
    let shifted = if negative { 13 - index } else { 13 + index };
    match column % 3 {
        0 => shifted / 9,
        1 => shifted / 3 % 3,
        _ => shifted % 3,
    }
}

/// The code of one weight.
pub(super) fn quad_code(group: &[u8], lane: usize, column: usize) -> u8 {
    let index = group[column / 4 * BYTE_BLOCK + lane];
    index / [27, 9, 3, 1][column % 4] % 3
}

/// The code of one weight.
pub(super) fn quint_code(group: &[u8], lane: usize, column: usize) -> u8 {
    let byte = group[column / 5 * BYTE_BLOCK + lane];
    let magnitude = byte & 0x7f;
    // 121 more makes the five balanced digits ordinary ones.
    let shifted = if byte >> 7 == 1 {
        LARGEST_QUINT - magnitude
    } else {
        LARGEST_QUINT + magnitude
    };
    shifted / [81, 27, 9, 3, 1][column % 5] % 3
}

/// Not zero where an index is above 8.
pub(super) fn bad_pairs(byte: u8) -> u8 {
    u8::from(byte & 15 > 8 || byte >> 4 > 8)
}

/// Not zero where an index is above 13.
pub(super) fn bad_triplets(byte: u8) -> u8 {
    u8::from(byte & 15 > 13 || byte >> 4 > 13)
}

/// Not zero where the index is above 80.
pub(super) fn bad_quad(byte: u8) -> u8 {
    u8::from(byte > LARGEST_QUAD)
}

/// Not zero where the magnitude is above 121. Either sign of 0 means 0.
pub(super) fn bad_quint(byte: u8) -> u8 {
    u8::from(byte & 0x7f > LARGEST_QUINT)
}
