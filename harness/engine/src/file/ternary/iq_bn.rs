//! The ternary types of ik_llama.cpp: `IQ1_BN`, `IQ2_BN`, `IQ2_BN_R4`. Each row carries a scale.

use half::f16;

/// Elements of a block; rows are whole blocks.
pub(crate) const BLOCK: usize = 64;
/// Rows that `IQ2_BN_R4` interleaves.
pub(crate) const R4: usize = 4;
/// Bytes of an `IQ1_BN` block: 12 of five digits, one with the last digits.
const IQ1_BLOCK: usize = 13;
/// Bytes of the scale of an `IQ1_BN` row, an f16.
const IQ1_SCALE: usize = 2;
/// Bytes of an `IQ2_BN` block.
const IQ2_BLOCK: usize = 16;
/// Bytes of the scale of an `IQ2_BN` row, an f32.
const IQ2_SCALE: usize = 4;

/// Bytes of an `IQ1_BN` row of `k` elements; `None` when they are no whole blocks or the size overflows.
pub(crate) fn iq1_row_bytes(k: u64) -> Option<u64> {
    row_bytes(k, IQ1_BLOCK, IQ1_SCALE)
}

/// Bytes of an `IQ2_BN` row of `k` elements, and a quarter of four rows of `IQ2_BN_R4`.
pub(crate) fn iq2_row_bytes(k: u64) -> Option<u64> {
    row_bytes(k, IQ2_BLOCK, IQ2_SCALE)
}

fn row_bytes(k: u64, block: usize, scale: usize) -> Option<u64> {
    k.is_multiple_of(BLOCK as u64)
        .then(|| (k / BLOCK as u64).checked_mul(block as u64))
        .flatten()?
        .checked_add(scale as u64)
}

/// Row `row` of `IQ1_BN`: an f16 scale, then for each 64 elements 12 bytes of five digits and one of four. Byte `3·g + j` of
/// a block holds the elements `16·g + 5·j` and on, the least significant digit first; the last byte holds the elements 15,
/// 31, 47 and 63. Digits are stored as `ceil(256 · v / 243)`, so that every byte decodes to digits in 0..=2.
pub(super) fn iq1_row(bytes: &[u8], row: usize, out: &mut [i8]) {
    let size = IQ1_SCALE + out.len() / BLOCK * IQ1_BLOCK;
    let bytes = &bytes[row * size..(row + 1) * size];
    if f16::from_le_bytes([bytes[0], bytes[1]]) == f16::ZERO {
        out.fill(0);
        return;
    }
    let blocks = bytes[IQ1_SCALE..].chunks_exact(IQ1_BLOCK);
    for (out, block) in out.chunks_exact_mut(BLOCK).zip(blocks) {
        for (g, out) in out.chunks_exact_mut(16).enumerate() {
            for (j, out) in out[..15].chunks_exact_mut(5).enumerate() {
                for (n, out) in out.iter_mut().enumerate() {
                    *out = digit(block[3 * g + j], n);
                }
            }
            out[15] = digit(block[IQ1_BLOCK - 1], g);
        }
    }
}

/// Digit `n` of five, the least significant first, minus 1.
fn digit(q: u8, n: usize) -> i8 {
    const POWERS: [u8; 5] = [81, 27, 9, 3, 1];
    ((u16::from(q.wrapping_mul(POWERS[n])) * 3) >> 8) as i8 - 1
}

/// Row `row` of `IQ2_BN`: an f32 scale, then 16 bytes for each 64 elements; byte `j` holds the elements `j + 16·l` at bits
/// `2·l`.
pub(super) fn iq2_row(bytes: &[u8], row: usize, out: &mut [i8]) {
    let size = IQ2_SCALE + out.len() / BLOCK * IQ2_BLOCK;
    let bytes = &bytes[row * size..(row + 1) * size];
    if f32_at(bytes, 0) == 0.0 {
        out.fill(0);
        return;
    }
    let blocks = bytes[IQ2_SCALE..].chunks_exact(IQ2_BLOCK);
    for (out, block) in out.chunks_exact_mut(BLOCK).zip(blocks) {
        for (l, out) in out.chunks_exact_mut(16).enumerate() {
            for (out, byte) in out.iter_mut().zip(block) {
                *out = (byte >> (2 * l) & 3) as i8 - 1;
            }
        }
    }
}

/// Row `row` of `IQ2_BN_R4`: four rows have four f32 scales, then 64 bytes for each 64 columns; byte `16·l + 4·r + i` holds
/// the columns `16·l + 4·s + i` of row `r` at bits `2·s`.
pub(super) fn iq2_r4_row(bytes: &[u8], row: usize, out: &mut [i8]) {
    let size = R4 * (IQ2_SCALE + out.len() / BLOCK * IQ2_BLOCK);
    let (group, r) = (row / R4, row % R4);
    let bytes = &bytes[group * size..(group + 1) * size];
    if f32_at(bytes, IQ2_SCALE * r) == 0.0 {
        out.fill(0);
        return;
    }
    let blocks = bytes[R4 * IQ2_SCALE..].chunks_exact(R4 * IQ2_BLOCK);
    for (out, block) in out.chunks_exact_mut(BLOCK).zip(blocks) {
        for (l, out) in out.chunks_exact_mut(16).enumerate() {
            for (column, out) in out.iter_mut().enumerate() {
                let (s, i) = (column / 4, column % 4);
                *out = (block[16 * l + 4 * r + i] >> (2 * s) & 3) as i8 - 1;
            }
        }
    }
}

fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The scales of an `IQ1_BN` matrix with rows of `k`.
pub(crate) fn iq1_scales(bytes: &[u8], k: usize) -> impl Iterator<Item = f32> {
    bytes
        .chunks_exact(IQ1_SCALE + k / BLOCK * IQ1_BLOCK)
        .map(|row| f16::from_le_bytes([row[0], row[1]]).to_f32())
}

/// The scales of an `IQ2_BN` matrix with rows of `k`.
pub(crate) fn iq2_scales(bytes: &[u8], k: usize) -> impl Iterator<Item = f32> {
    bytes
        .chunks_exact(IQ2_SCALE + k / BLOCK * IQ2_BLOCK)
        .map(|row| f32_at(row, 0))
}

/// The scales of an `IQ2_BN_R4` matrix with rows of `k`.
pub(crate) fn iq2_r4_scales(bytes: &[u8], k: usize) -> impl Iterator<Item = f32> {
    bytes
        .chunks_exact(R4 * (IQ2_SCALE + k / BLOCK * IQ2_BLOCK))
        .flat_map(|group| (0..R4).map(|r| f32_at(group, IQ2_SCALE * r)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_bytes, check_codes, code, weights};
    use super::super::{Codes, one_scale, read_row};
    use super::*;
    use crate::file::bytes::Bytes;

    fn encode_iq1(w: &[i8], k: usize, d: f32) -> Vec<u8> {
        let pack = |digits: &mut dyn DoubleEndedIterator<Item = u8>| {
            let value = digits.rev().fold(0u32, |v, digit| 3 * v + u32::from(digit));
            (value * 256).div_ceil(243) as u8
        };
        let mut out = Vec::new();
        for row in w.chunks_exact(k) {
            out.extend(f16::from_f32(d).to_le_bytes());
            for block in row.chunks_exact(64) {
                for group in block.chunks_exact(16) {
                    for five in group[..15].chunks_exact(5) {
                        out.push(pack(&mut five.iter().map(|w| code(*w))));
                    }
                }
                out.push(pack(&mut (0..4).map(|g| code(block[16 * g + 15]))));
            }
        }
        out
    }

    fn encode_iq2(w: &[i8], k: usize, d: f32) -> Vec<u8> {
        let mut out = Vec::new();
        for row in w.chunks_exact(k) {
            out.extend(d.to_le_bytes());
            for block in row.chunks_exact(64) {
                out.extend(
                    (0..16).map(|j| {
                        (0..4).fold(0, |byte, l| byte | code(block[j + 16 * l]) << (2 * l))
                    }),
                );
            }
        }
        out
    }

    fn encode_iq2_r4(w: &[i8], k: usize, scales: [f32; 4]) -> Vec<u8> {
        let mut out = Vec::new();
        for rows in w.chunks_exact(4 * k) {
            out.extend(scales.iter().flat_map(|d| d.to_le_bytes()));
            for block in (0..k).step_by(64) {
                let mut bytes = [0; 64];
                for r in 0..4 {
                    for column in 0..64 {
                        let (l, s, i) = (column / 16, column % 16 / 4, column % 4);
                        bytes[16 * l + 4 * r + i] |= code(rows[r * k + block + column]) << (2 * s);
                    }
                }
                out.extend(bytes);
            }
        }
        out
    }

    #[test]
    fn iq1_bn() {
        let bytes = encode_iq1(&weights(1, 128), 128, 0.5);
        check_bytes(
            &bytes,
            28,
            "0038bb319494bb313194bbbb31941094",
            "31941094bb313194bbbb319494bb313f",
            0x15ba_b15c_37dd_438c,
        );
        assert_eq!(one_scale(iq1_scales(&bytes, 128), "row"), Ok(0.5));
        check_codes(&Codes::Iq1Bn(Bytes::from_vec(bytes)), 1, 128);
        let rows = encode_iq1(&weights(3, 192), 192, 0.5);
        assert_eq!(iq1_row_bytes(192), Some(rows.len() as u64 / 3));
        check_codes(&Codes::Iq1Bn(Bytes::from_vec(rows)), 3, 192);
    }

    #[test]
    fn every_byte_of_five_digits_decodes_to_what_was_encoded() {
        for value in 0..243u32 {
            let byte = (value * 256).div_ceil(243) as u8;
            let got = (0..5)
                .rev()
                .fold(0, |v, n| 3 * v + (digit(byte, n) + 1) as u32);
            assert_eq!(got, value);
        }
        for byte in 0..=255 {
            for n in 0..5 {
                assert!((-1..=1).contains(&digit(byte, n)), "byte {byte} digit {n}");
            }
        }
    }

    #[test]
    fn iq2_bn() {
        let bytes = encode_iq2(&weights(1, 128), 128, 0.5);
        check_bytes(
            &bytes,
            36,
            "0000003f188661188661188661188661",
            "86611886611886611886611886611886",
            0x32af_15db_b543_ec08,
        );
        assert_eq!(one_scale(iq2_scales(&bytes, 128), "row"), Ok(0.5));
        check_codes(&Codes::Iq2Bn(Bytes::from_vec(bytes)), 1, 128);
        let rows = encode_iq2(&weights(3, 192), 192, 0.5);
        assert_eq!(iq2_row_bytes(192), Some(rows.len() as u64 / 3));
        check_codes(&Codes::Iq2Bn(Bytes::from_vec(rows)), 3, 192);
    }

    #[test]
    fn iq2_bn_r4() {
        let bytes = encode_iq2_r4(&weights(4, 128), 128, [0.5; 4]);
        check_bytes(
            &bytes,
            144,
            "0000003f0000003f0000003f0000003f",
            "86611886a0a0606855aa800102a500a5",
            0xd873_d464_b170_2645,
        );
        assert_eq!(one_scale(iq2_r4_scales(&bytes, 128), "row"), Ok(0.5));
        check_codes(&Codes::Iq2BnR4(Bytes::from_vec(bytes)), 4, 128);
        let rows = encode_iq2_r4(&weights(8, 192), 192, [0.5; 4]);
        assert_eq!(iq2_row_bytes(192), Some(rows.len() as u64 / 8));
        check_codes(&Codes::Iq2BnR4(Bytes::from_vec(rows)), 8, 192);
    }

    #[test]
    fn rows_of_scale_zero_are_zeros_and_other_scales_must_agree() {
        let bytes = encode_iq2_r4(&weights(4, 128), 128, [0.5, 0.0, 0.5, 0.5]);
        assert_eq!(one_scale(iq2_r4_scales(&bytes, 128), "row"), Ok(0.5));
        let codes = Codes::Iq2BnR4(Bytes::from_vec(bytes));
        let mut out = vec![9; 128];
        read_row(&codes, 4, 1, &mut out).unwrap();
        assert!(out.iter().all(|w| *w == 0));
        read_row(&codes, 4, 2, &mut out).unwrap();
        assert_eq!(out, weights(4, 128)[256..384]);
        let bytes = encode_iq2_r4(&weights(4, 128), 128, [0.5, 0.5, 0.25, 0.5]);
        let error = one_scale(iq2_r4_scales(&bytes, 128), "row").unwrap_err();
        assert!(error.contains("0.5, and 0.25 in row 2"), "{error}");
    }

    #[test]
    fn the_code_that_means_nothing_is_found() {
        let mut bytes = encode_iq2(&weights(2, 128), 128, 0.5);
        // Row 1, block 1, byte 3, the plane of bits 4: column 64 + 32 + 3.
        bytes[36 + 4 + 16 + 3] |= 0b11_0000;
        let mut out = vec![0; 128];
        let codes = Codes::Iq2Bn(Bytes::from_vec(bytes));
        assert_eq!(read_row(&codes, 2, 0, &mut out), Ok(()));
        assert_eq!(read_row(&codes, 2, 1, &mut out), Err(99));
    }
}
