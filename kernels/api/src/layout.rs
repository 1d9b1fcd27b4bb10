//! Packed forms of ternary matrices, bit by bit.
//!
//! Every layout stores the code `u = weight + 1 ∈ {0, 1, 2}`. Rows and columns that only fill a block are weight 0.
//! The table in `kernels/README.md` is the same text for people.

mod lookup;

use std::ops::Range;

use crate::Codes;

/// Largest K that any kernel accepts. The tightest bound is that of VNNI kernels which leave the top code in place:
/// `2·64·128` a product, four products a dword step, `K/16` steps, so `K · 4,096 < 2^31` holds up to 524,287.
pub const MAX_K: usize = 262_144;

/// A packed form of a ternary matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayoutId {
    /// Row-major 2-bit planes, the bytes of GGUF's `I2_S`: row `r` takes `ceil(K/128)·32` bytes, and byte `p` of its
    /// block `b` holds the codes of the columns `128b + p`, `+32`, `+64`, `+96` at bits 6, 4, 2, 0.
    I2S,
    /// Sixteen rows interleaved for 32-bit dot-product lanes: the group of rows `16g..16g+16` is contiguous, in 64-byte
    /// blocks of 16 columns; byte `4·i + j` of block `b` holds, for row `16g + i`, the codes of the columns
    /// `16b + j`, `+4`, `+8`, `+12` at bits 0, 2, 4, 6. After a mask each dword is one row's four neighbouring
    /// columns: one `vpdpbusd` operand, and one row of an AMX tile's second operand. K is padded to a multiple of 64.
    R16,
    /// Five weights a byte, sixteen rows interleaved as in [`LayoutId::R16`]: byte `4·i + j` of block `b` holds, for row
    /// `16g + i`, the weights `w0..w4` of the columns `20b + j`, `+4`, `+8`, `+12`, `+16`. With `v = 27·w3 + 9·w2 + 3·w1 + w0` it is
    /// `21·(w4 + 1) + |v| / 2` in the lower six bits, `|v| % 2` in bit 6, and whether `v` is negative in bit 7: the lower six bits
    /// alone decide `w4`, and the lower seven the others but for their sign. K is padded to a multiple of 20.
    T5R16,
    /// Pairs for look-ups of four bits, 64 rows interleaved: the group of rows `64g..64g+64` is contiguous, in 256-byte blocks
    /// of 16 columns; byte `64·i + r` of block `b` holds, for row `64g + r`, the index `3·u0 + u1` of the columns
    /// `16b + 4i`, `+1` at bits 0 to 3 and that of the columns `16b + 4i + 2`, `+3` at bits 4 to 7.
    L2R64,
    /// Triplets for look-ups of four bits and a sign, 64 rows interleaved: the group of rows `64g..64g+64` is contiguous, in
    /// 320-byte blocks of 24 columns. With `v = 9·w0 + 3·w1 + w2` of the weights of triplet `j` (columns `24b + 3j`, `+1`, `+2`),
    /// byte `64·i + r` of block `b` holds, for row `64g + r`, `|v|` of triplet `2i` at bits 0 to 3 and of triplet `2i + 1` at
    /// bits 4 to 7; byte `256 + r` has bit `7 − j` set where `v` of triplet `j` is negative.
    L3R64,
    /// Quads for look-ups of seven bits, 64 rows interleaved: the group of rows `64g..64g+64` is contiguous, in 64-byte blocks of
    /// 4 columns; byte `r` of block `b` holds, for row `64g + r`, the index `27·u0 + 9·u1 + 3·u2 + u3` of the columns `4b` to
    /// `4b + 3`. K is padded to a multiple of 28: kernels add up seven look-ups at a time.
    L4R64,
    /// Quints for look-ups of seven bits and a sign, 64 rows interleaved: the group of rows `64g..64g+64` is contiguous, in 64-byte
    /// blocks of 5 columns. With `v = 81·w0 + 27·w1 + 9·w2 + 3·w3 + w4` of the weights of the columns `5b` to `5b + 4`, byte `r` of
    /// block `b` holds, for row `64g + r`, `|v|` (0 to 121) at bits 0 to 6, and bit 7 is set where `v` is negative.
    /// K is padded to a multiple of 35. Then the distance between groups is no multiple of 4096 bytes for the usual K, and
    /// groups that are read together do not meet in the same sets of a cache.
    L5R64,
}

/// The facts of a layout.
#[derive(Debug, PartialEq)]
pub struct LayoutSpec {
    /// The name in the `layout` column.
    pub name: &'static str,
    /// Stored bits a weight, padding not counted.
    pub weight_bits: f64,
    /// Rows that are packed together.
    pub row_group: usize,
    /// K is padded to a multiple of this.
    pub k_block: usize,
}

impl LayoutId {
    /// Every layout.
    pub const ALL: [Self; 7] = [
        Self::I2S,
        Self::R16,
        Self::T5R16,
        Self::L2R64,
        Self::L3R64,
        Self::L4R64,
        Self::L5R64,
    ];

    /// The facts of this layout.
    pub const fn spec(self) -> &'static LayoutSpec {
        match self {
            Self::I2S => &LayoutSpec {
                name: "i2s",
                weight_bits: 2.0,
                row_group: 1,
                k_block: 128,
            },
            Self::R16 => &LayoutSpec {
                name: "r16",
                weight_bits: 2.0,
                row_group: 16,
                k_block: 64,
            },
            Self::T5R16 => &LayoutSpec {
                name: "t5r16",
                weight_bits: 1.6,
                row_group: 16,
                k_block: 20,
            },
            Self::L2R64 => &LayoutSpec {
                name: "l2r64",
                weight_bits: 2.0,
                row_group: 64,
                k_block: 16,
            },
            Self::L3R64 => &LayoutSpec {
                name: "l3r64",
                weight_bits: 5.0 / 3.0,
                row_group: 64,
                k_block: 24,
            },
            Self::L4R64 => &LayoutSpec {
                name: "l4r64",
                weight_bits: 2.0,
                row_group: 64,
                k_block: 28,
            },
            Self::L5R64 => &LayoutSpec {
                name: "l5r64",
                weight_bits: 1.6,
                row_group: 64,
                k_block: 35,
            },
        }
    }

    /// The name in the `layout` column.
    pub const fn name(self) -> &'static str {
        self.spec().name
    }

    /// K with padding.
    pub const fn padded_k(self, k: usize) -> usize {
        k.next_multiple_of(self.spec().k_block)
    }

    /// Bytes of one group of [`LayoutSpec::row_group`] rows of `k` columns.
    pub const fn group_bytes(self, k: usize) -> usize {
        let k = self.padded_k(k);
        match self {
            Self::I2S => k / 4,
            Self::R16 => 4 * k,
            Self::T5R16 => k / 5 * 16,
            Self::L2R64 => k / 16 * lookup::PAIR_BLOCK,
            Self::L3R64 => k / 24 * lookup::TRIPLET_BLOCK,
            Self::L4R64 => k / 4 * lookup::BYTE_BLOCK,
            Self::L5R64 => k / 5 * lookup::BYTE_BLOCK,
        }
    }

    /// Bytes of a whole matrix, or `None` when the size does not fit in memory.
    pub const fn matrix_bytes(self, rows: usize, k: usize) -> Option<usize> {
        if k > MAX_K {
            return None;
        }
        rows.div_ceil(self.spec().row_group)
            .checked_mul(self.group_bytes(k))
    }

    /// Packs the row groups `groups` of `codes` into `out`, which holds exactly these groups.
    ///
    /// # Panics
    /// When `out` has another length or a group lies beyond the matrix.
    pub fn pack_groups(self, codes: Codes<'_>, groups: Range<usize>, out: &mut [u8]) {
        let bytes = self.group_bytes(codes.k());
        assert_eq!(out.len(), groups.len() * bytes, "packed size of {groups:?}");
        if bytes == 0 {
            return;
        }
        for (group, out) in groups.zip(out.chunks_exact_mut(bytes)) {
            match self {
                Self::I2S => pack_i2s(codes.row(group), out),
                Self::R16 => pack_r16(codes, group, out),
                Self::T5R16 => pack_t5r16(codes, group, out),
                Self::L2R64 => lookup::pack_pairs(codes, group, out),
                Self::L3R64 => lookup::pack_triplets(codes, group, out),
                Self::L4R64 => lookup::pack_quads(codes, group, out),
                Self::L5R64 => lookup::pack_quints(codes, group, out),
            }
        }
    }

    /// Writes the weights of one row into `out`: the definition that every packing is tested against.
    ///
    /// # Panics
    /// When `out` is longer than a row or `bytes` is too short.
    pub fn unpack_row(self, bytes: &[u8], k: usize, row: usize, out: &mut [i8]) {
        assert!(
            out.len() <= self.padded_k(k),
            "row of {} columns",
            out.len()
        );
        let size = self.group_bytes(k);
        let group_index = row / self.spec().row_group;
        let group = &bytes[group_index * size..(group_index + 1) * size];
        let lane = row % self.spec().row_group;
        for (column, out) in out.iter_mut().enumerate() {
            let code = match self {
                Self::I2S => {
                    let (block, plane, p) = (column / 128, column % 128 / 32, column % 32);
                    (group[block * 32 + p] >> (6 - 2 * plane)) & 3
                }
                Self::R16 => {
                    let (block, plane, j) = (column / 16, column % 16 / 4, column % 4);
                    (group[block * 64 + lane * 4 + j] >> (2 * plane)) & 3
                }
                Self::T5R16 => {
                    let (block, digit, j) = (column / 20, column % 20 / 4, column % 4);
                    let byte = group[block * 64 + lane * 4 + j];
                    let (size, fifth) = t5_parts(byte);
                    // Around 40 = 27 + 9 + 3 + 1 the digits of both signs are codes.
                    let four = if byte < 0x80 { 40 + size } else { 40 - size };
                    T5_FACTORS
                        .get(digit)
                        .map_or(fifth, |factor| four / factor % 3)
                }
                Self::L2R64 => lookup::pair_code(group, lane, column),
                Self::L3R64 => lookup::triplet_code(group, lane, column),
                Self::L4R64 => lookup::quad_code(group, lane, column),
                Self::L5R64 => lookup::quint_code(group, lane, column),
            };
            *out = code as i8 - 1;
        }
    }

    /// The offset of the first byte that holds a code outside of 0, 1, 2, if there is one.
    pub fn find_invalid(self, bytes: &[u8]) -> Option<usize> {
        match self {
            // Both two-bit layouts: code 3 has both bits set.
            Self::I2S | Self::R16 => first_nonzero(bytes, |byte| byte & (byte >> 1) & 0x55),
            Self::T5R16 => first_nonzero(bytes, |byte| {
                let (size, fifth) = t5_parts(byte);
                u8::from(size > 40 || fifth > 2 || byte >= 0x80 && size == 0)
            }),
            Self::L2R64 => first_nonzero(bytes, lookup::bad_pairs),
            Self::L3R64 => {
                bytes
                    .chunks(lookup::TRIPLET_BLOCK)
                    .enumerate()
                    .find_map(|(block, bytes)| {
                        let indices = &bytes[..bytes.len().min(lookup::TRIPLET_BLOCK - 64)];
                        let at = first_nonzero(indices, lookup::bad_triplets)?;
                        Some(block * lookup::TRIPLET_BLOCK + at)
                    })
            }
            Self::L4R64 => first_nonzero(bytes, lookup::bad_quad),
            Self::L5R64 => first_nonzero(bytes, lookup::bad_quint),
        }
    }
}

/// What the first four weights of a [`LayoutId::T5R16`] byte count.
const T5_FACTORS: [u8; 4] = [1, 3, 9, 27];

/// `|v|` and the code of the fifth weight of a [`LayoutId::T5R16`] byte.
fn t5_parts(byte: u8) -> (u8, u8) {
    let low = byte & 63;
    (low % 21 * 2 + (byte >> 6 & 1), low / 21)
}

/// The first byte for which `bad` is not zero.
fn first_nonzero(bytes: &[u8], bad: impl Fn(u8) -> u8) -> Option<usize> {
    // A fold without an exit is what the compiler vectorises; the position is looked for only where there is one.
    const CHUNK: usize = 4096;
    bytes.chunks(CHUNK).enumerate().find_map(|(i, part)| {
        let any = part.iter().fold(0, |any, byte| any | bad(*byte));
        (any != 0)
            .then(|| {
                part.iter()
                    .position(|byte| bad(*byte) != 0)
                    .map(|at| i * CHUNK + at)
            })
            .flatten()
    })
}

fn code(weight: i8) -> u8 {
    (weight + 1) as u8
}

fn pack_i2s(row: &[i8], out: &mut [u8]) {
    for (block, out) in out.chunks_exact_mut(32).enumerate() {
        let rest = &row[(block * 128).min(row.len())..];
        if let Some(full) = rest.first_chunk::<128>() {
            for (p, out) in out.iter_mut().enumerate() {
                *out = code(full[p]) << 6
                    | code(full[32 + p]) << 4
                    | code(full[64 + p]) << 2
                    | code(full[96 + p]);
            }
        } else {
            for (p, out) in out.iter_mut().enumerate() {
                *out = (0..4).fold(0, |byte, plane| {
                    byte | code(rest.get(32 * plane + p).copied().unwrap_or(0)) << (6 - 2 * plane)
                });
            }
        }
    }
}

fn pack_r16(codes: Codes<'_>, group: usize, out: &mut [u8]) {
    for lane in 0..16 {
        let row_index = group * 16 + lane;
        let row = if row_index < codes.rows() {
            codes.row(row_index)
        } else {
            &[]
        };
        for (block, out) in out.chunks_exact_mut(64).enumerate() {
            let rest = &row[(block * 16).min(row.len())..];
            let out = &mut out[lane * 4..lane * 4 + 4];
            if let Some(full) = rest.first_chunk::<16>() {
                for (j, out) in out.iter_mut().enumerate() {
                    *out = code(full[j])
                        | code(full[4 + j]) << 2
                        | code(full[8 + j]) << 4
                        | code(full[12 + j]) << 6;
                }
            } else {
                for (j, out) in out.iter_mut().enumerate() {
                    *out = (0..4).fold(0, |byte, plane| {
                        byte | code(rest.get(4 * plane + j).copied().unwrap_or(0)) << (2 * plane)
                    });
                }
            }
        }
    }
}

fn pack_t5r16(codes: Codes<'_>, group: usize, out: &mut [u8]) {
    for lane in 0..16 {
        let row_index = group * 16 + lane;
        let row = if row_index < codes.rows() {
            codes.row(row_index)
        } else {
            &[]
        };
        for (block, out) in out.chunks_exact_mut(64).enumerate() {
            let rest = &row[(block * 20).min(row.len())..];
            for (j, out) in out[lane * 4..lane * 4 + 4].iter_mut().enumerate() {
                let weight = |digit: usize| rest.get(4 * digit + j).copied().unwrap_or(0);
                let four = 27 * weight(3) + 9 * weight(2) + 3 * weight(1) + weight(0);
                let size = four.unsigned_abs();
                *out =
                    u8::from(four < 0) << 7 | (size & 1) << 6 | (21 * code(weight(4)) + size / 2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Packed, Scales};

    /// Weights whose value depends on row and column in a way no packing symmetry hides.
    fn sample(rows: usize, k: usize) -> Vec<i8> {
        (0..rows * k)
            .map(|i| (((31 * (i / k) + 17 * (i % k) + i % 7) % 3) as i8) - 1)
            .collect()
    }

    #[test]
    fn every_layout_gives_back_what_was_packed() {
        for layout in LayoutId::ALL {
            for (rows, k) in [
                (1, 1),
                (1, 127),
                (3, 128),
                (15, 129),
                (16, 20),
                (17, 64),
                (33, 65),
                (5, 661),
            ] {
                let codes = sample(rows, k);
                let packed = Packed::pack(
                    Codes::new(&codes, rows, k).unwrap(),
                    layout,
                    Scales::Tensor(1.0),
                )
                .unwrap();
                assert_eq!(packed.bytes().len(), layout.matrix_bytes(rows, k).unwrap());
                let mut row = vec![0; k];
                for r in 0..rows {
                    packed.unpack_row(r, &mut row);
                    assert_eq!(
                        row,
                        codes[r * k..(r + 1) * k],
                        "{} {rows}x{k} row {r}",
                        layout.name()
                    );
                }
            }
        }
    }

    #[test]
    fn padding_is_weight_zero() {
        for layout in LayoutId::ALL {
            let packed = Packed::pack(
                Codes::new(&[1, 1, 1], 1, 3).unwrap(),
                layout,
                Scales::Tensor(1.0),
            )
            .unwrap();
            let mut row = vec![9; layout.padded_k(3)];
            packed.unpack_row(0, &mut row);
            assert_eq!(row[..3], [1; 3]);
            assert!(row[3..].iter().all(|w| *w == 0), "{}", layout.name());
        }
    }

    #[test]
    fn bits_a_weight_are_those_of_the_bytes() {
        for layout in LayoutId::ALL {
            let spec = layout.spec();
            let k = spec.k_block * 100;
            let bits = layout.group_bytes(k) as f64 * 8.0 / (spec.row_group * k) as f64;
            assert!(
                (bits - spec.weight_bits).abs() < 0.01,
                "{}: {bits}",
                spec.name
            );
        }
    }

    #[test]
    fn codes_that_mean_nothing_are_found() {
        for (layout, bad) in [
            (LayoutId::I2S, 0x30),
            (LayoutId::R16, 0xc0),
            (LayoutId::T5R16, 63),
            (LayoutId::T5R16, 64 + 20),
            (LayoutId::T5R16, 128 + 21),
            (LayoutId::L2R64, 0x09),
            (LayoutId::L2R64, 0x90),
            (LayoutId::L3R64, 0x0e),
            (LayoutId::L3R64, 0xe0),
            (LayoutId::L4R64, 81),
            (LayoutId::L4R64, 0x80),
            (LayoutId::L5R64, 122),
            (LayoutId::L5R64, 0xff),
        ] {
            let mut bytes = vec![0u8; 10_000];
            assert_eq!(layout.find_invalid(&bytes), None);
            bytes[7_777] = bad;
            assert_eq!(
                layout.find_invalid(&bytes),
                Some(7_777),
                "{}",
                layout.name()
            );
        }
    }

    #[test]
    fn five_weights_of_a_byte_are_as_documented() {
        // Row 17 of 18, so that group 1 and lane 1 are used; columns 0, 4, ... 16, and their neighbours.
        let mut codes = vec![0i8; 18 * 20];
        for (digit, weights) in [(0, [1, -1]), (1, [-1, -1]), (3, [1, -1]), (4, [-1, 1])] {
            codes[17 * 20 + 4 * digit..][..2].copy_from_slice(&weights);
        }
        let layout = LayoutId::T5R16;
        let packed = Packed::pack(
            Codes::new(&codes, 18, 20).unwrap(),
            layout,
            Scales::Tensor(1.0),
        )
        .unwrap();
        let row = &packed.bytes()[layout.group_bytes(20) + 4..][..4];
        // 27 - 3 + 1 = 25 is 2 · 12 + 1, below a fifth code 0; -27 - 3 - 1 = -31 is 2 · 15 + 1 with a sign, below a code 2; zeros have the code 1.
        assert_eq!(row, [64 + 12, 128 + 64 + 42 + 15, 21, 21]);
    }

    #[test]
    fn look_up_bytes_are_as_documented() {
        // Row 65 of 66, so that group 1 and lane 1 are used.
        let mut codes = vec![0i8; 66 * 24];
        codes[65 * 24..65 * 24 + 8].copy_from_slice(&[1, -1, 0, 1, -1, -1, 0, -1]);
        let codes = Codes::new(&codes, 66, 24).unwrap();
        let pack = |layout| Packed::pack(codes, layout, Scales::Tensor(1.0)).unwrap();
        let pairs = pack(LayoutId::L2R64);
        let group = &pairs.bytes()[LayoutId::L2R64.group_bytes(24)..];
        // (1, −1) is 3·2 + 0, (0, 1) is 3·1 + 2; then (−1, −1) and (0, −1).
        assert_eq!([group[1], group[64 + 1]], [0x56, 0x30]);
        let triplets = pack(LayoutId::L3R64);
        let group = &triplets.bytes()[LayoutId::L3R64.group_bytes(24)..];
        // 9 − 3, then 9 − 3 − 1; then −3 alone, whose sign is bit 5.
        assert_eq!(
            [group[1], group[64 + 1], group[256 + 1]],
            [0x56, 0x03, 0x20]
        );
        let quads = pack(LayoutId::L4R64);
        let group = &quads.bytes()[LayoutId::L4R64.group_bytes(24)..];
        // 27·2 + 3·1 + 2, and 27·0 + 9·0 + 3·1 + 0.
        assert_eq!([group[1], group[64 + 1]], [59, 3]);
        let quints = pack(LayoutId::L5R64);
        let group = &quints.bytes()[LayoutId::L5R64.group_bytes(24)..];
        // 81 − 27 + 3 − 1, then −81 − 9.
        assert_eq!([group[1], group[64 + 1]], [56, 128 + 90]);
        // A sign byte may hold anything.
        assert_eq!(
            LayoutId::L3R64.find_invalid(&[&[0; 256][..], &[0xff; 64]].concat()),
            None
        );
    }
}
