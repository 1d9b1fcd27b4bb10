//! The look-up types of bitnet.cpp: `TL1` (ARM) and `TL2` (x86). Their bytes are cut into tiles whose sizes were chosen for
//! each shape when the file was made; no file says them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Shapes of linears that one model can have: query and output, key and value, gate and up, down.
const SHAPES: usize = 4;
/// Rows that `TL2` interleaves.
const TL2_ROWS: usize = 32;
/// Columns of one `TL2` block of pairs.
const TL2_PAIRS: usize = 32;
/// Columns that ggml's size of a `TL2` tensor takes for pairs.
pub(crate) const TL2_SIZED_PAIRS: u64 = 256;

/// The tile sizes of one shape, as `BM`, `BK` and `bm` of a `kernel_config.ini` of bitnet.cpp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TlTile {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub k: usize,
    /// Rows of a tile.
    pub bm: usize,
    /// Columns of a tile.
    pub bk: usize,
    /// Rows that are interleaved, `bmm` or `bm` in lower case: 32 or 64 in `TL1`, always 32 in `TL2`.
    pub inner: usize,
}

/// The tile sizes of a model: at most one tile for each of the four shapes that its linears can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TlTiles([Option<TlTile>; SHAPES]);

impl TlTiles {
    /// The tile of a shape.
    fn of(&self, rows: usize, k: usize) -> Option<TlTile> {
        self.0
            .iter()
            .flatten()
            .find(|tile| (tile.rows, tile.k) == (rows, k))
            .copied()
    }
}

/// A text that is no list of tiles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no tile; want ROWSxK=BM/BK or ROWSxK=BM/BK/bm, such as 4096x14336=256/128/32, and at most four of them"
)]
pub struct TlTileError(String);

impl FromStr for TlTile {
    type Err = TlTileError;

    fn from_str(text: &str) -> Result<Self, TlTileError> {
        let parse = || {
            let (shape, sizes) = text.trim().split_once('=')?;
            let (rows, k) = shape.split_once('x')?;
            let number = |text: &str| text.parse().ok().filter(|n: &usize| *n > 0);
            let sizes: Vec<usize> = sizes.split('/').map(number).collect::<Option<_>>()?;
            let (bm, bk, inner) = match sizes[..] {
                [bm, bk] => (bm, bk, TL2_ROWS),
                [bm, bk, inner] => (bm, bk, inner),
                _ => return None,
            };
            Some(Self {
                rows: number(rows)?,
                k: number(k)?,
                bm,
                bk,
                inner,
            })
        };
        parse().ok_or_else(|| TlTileError(text.to_owned()))
    }
}

impl FromStr for TlTiles {
    type Err = TlTileError;

    fn from_str(text: &str) -> Result<Self, TlTileError> {
        let mut out = Self::default();
        for (index, part) in text.split(',').enumerate() {
            *out.0
                .get_mut(index)
                .ok_or_else(|| TlTileError(text.to_owned()))? = Some(part.parse()?);
        }
        Ok(out)
    }
}

impl fmt::Display for TlTile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rows,
            k,
            bm,
            bk,
            inner,
        } = self;
        write!(f, "{rows}x{k}={bm}/{bk}/{inner}")
    }
}

/// Which of the two types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tl {
    One,
    Two,
}

/// Rows, K, BM, BK, bm of the presets that bitnet.cpp ships for `TL1`: 1bitLLM's large and 3B models, Llama 3 8B.
const TL1_PRESETS: [[usize; 5]; 10] = [
    [1536, 4096, 256, 128, 32],
    [1536, 1536, 128, 64, 64],
    [4096, 1536, 256, 128, 32],
    [3200, 8640, 160, 64, 32],
    [3200, 3200, 320, 128, 64],
    [8640, 3200, 320, 64, 32],
    [14336, 4096, 256, 128, 64],
    [4096, 14336, 256, 128, 32],
    [1024, 4096, 128, 64, 64],
    [4096, 4096, 128, 64, 32],
];

/// The same for `TL2`.
const TL2_PRESETS: [[usize; 5]; 10] = [
    [1536, 4096, 256, 96, 32],
    [1536, 1536, 128, 192, 32],
    [4096, 1536, 256, 96, 32],
    [3200, 8640, 160, 96, 32],
    [3200, 3200, 320, 96, 32],
    [8640, 3200, 320, 96, 32],
    [14336, 4096, 256, 96, 32],
    [4096, 14336, 128, 96, 32],
    [1024, 4096, 256, 96, 32],
    [4096, 4096, 128, 96, 32],
];

impl Tl {
    /// The tile of a shape: what was asked for, else bitnet.cpp's preset. `None` when neither knows the shape.
    pub(crate) fn tile(self, asked: &TlTiles, rows: usize, k: usize) -> Option<TlTile> {
        let presets = match self {
            Self::One => TL1_PRESETS,
            Self::Two => TL2_PRESETS,
        };
        asked.of(rows, k).or_else(|| {
            presets
                .into_iter()
                .find(|preset| preset[..2] == [rows, k])
                .map(|[rows, k, bm, bk, inner]| TlTile {
                    rows,
                    k,
                    bm,
                    bk,
                    inner,
                })
        })
    }

    /// Why a tile cannot be one of a tensor of its shape whose codes take `body` bytes.
    pub(crate) fn problem(self, tile: &TlTile, body: usize) -> Option<&'static str> {
        let TlTile {
            rows,
            k,
            bm,
            bk,
            inner,
        } = *tile;
        match self {
            Self::One => {
                if !matches!(inner, 32 | 64) {
                    Some("TL1 interleaves 32 or 64 rows")
                } else if !rows.is_multiple_of(bm) || !bm.is_multiple_of(inner) {
                    Some("the rows are no whole tiles, or a tile no whole groups of rows")
                } else if !k.is_multiple_of(bk) || !bk.is_multiple_of(tl1_columns(inner)) {
                    Some("the columns are no whole tiles, or a tile no whole groups of columns")
                } else {
                    (body != rows * k / 4).then_some("the tensor has another size")
                }
            }
            Self::Two => {
                let shape = Tl2Shape::of(tile);
                if inner != TL2_ROWS {
                    Some("TL2 interleaves 32 rows")
                } else if !rows.is_multiple_of(bm) || !bm.is_multiple_of(TL2_ROWS) {
                    Some("the rows are no whole tiles, or a tile no whole groups of rows")
                } else if !bk.is_multiple_of(24) || !shape.k2.is_multiple_of(TL2_PAIRS) {
                    Some(
                        "a tile has no whole groups of 24 columns, or what is left no whole groups of 32",
                    )
                } else {
                    (shape.end() > body).then_some("the tensor is too small for it")
                }
            }
        }
    }
}

/// Columns of one group in a `TL1` tile.
const fn tl1_columns(inner: usize) -> usize {
    256 / inner
}

/// Row `row` of `TL1`. A nibble is `3·w + w' + 4` of two neighbours. Bytes are ordered by tile row, tile column, group of
/// `inner` rows, group of `256 / inner` columns, 16 rows, four columns, row; the high nibble has the first two columns.
pub(super) fn tl1_row(bytes: &[u8], tile: &TlTile, row: usize, out: &mut [i8]) {
    let TlTile { bm, bk, inner, .. } = *tile;
    let k = out.len();
    let columns = tl1_columns(inner);
    let (mb, in_tile) = (row / bm, row % bm);
    let (mi, m16, ml) = (in_tile / inner, in_tile % inner / 16, in_tile % 16);
    for (kb, out) in out.chunks_exact_mut(bk).enumerate() {
        let base = ((mb * (k / bk) + kb) * (bm / inner) + mi) * (bk / columns);
        for (kq, out) in out.chunks_exact_mut(columns).enumerate() {
            let base = ((base + kq) * (inner / 16) + m16) * (columns / 4);
            for (ka, out) in out.chunks_exact_mut(4).enumerate() {
                let byte = bytes[(base + ka) * 16 + ml];
                pair(byte >> 4, &mut out[..2]);
                pair(byte & 15, &mut out[2..]);
            }
        }
    }
}

/// Two weights from `3·w + w' + 4`; 2, which no weight is, from anything above 8.
fn pair(index: u8, out: &mut [i8]) {
    let [a, b] = match index {
        0..=8 => [index as i8 / 3 - 1, index as i8 % 3 - 1],
        _ => [2, 2],
    };
    out[0] = a;
    out[1] = b;
}

/// Where the parts of a `TL2` tensor are.
struct Tl2Shape {
    rows: usize,
    /// Columns in triplets: whole tiles.
    k3: usize,
    /// The others, in pairs.
    k2: usize,
}

impl Tl2Shape {
    fn of(tile: &TlTile) -> Self {
        let k3 = tile.k / tile.bk * tile.bk;
        Self {
            rows: tile.rows,
            k3,
            k2: tile.k - k3,
        }
    }

    /// Start of the signs: a nibble a triplet before them.
    fn signs(&self) -> usize {
        self.rows * self.k3 / 6
    }

    /// Start of the pairs: a bit a triplet before them.
    fn pairs(&self) -> usize {
        self.signs() + self.rows * self.k3 / 24
    }

    /// End of the pairs, a nibble each.
    fn end(&self) -> usize {
        self.pairs() + self.rows * self.k2 / 4
    }
}

/// Bytes of the codes of a `TL2` tensor, as ggml counts them: five bits a triplet for all columns but 256, and four bits a
/// pair for those, in whole numbers from left to right, rounded up to 32. `None` for fewer columns, or when it overflows.
pub(crate) fn tl2_body_bytes(rows: u64, k: u64) -> Option<u64> {
    let triplets = k.checked_sub(TL2_SIZED_PAIRS)?.checked_mul(rows)? / 3;
    let pairs = TL2_SIZED_PAIRS.checked_mul(rows)? / 2;
    let bytes = triplets.checked_mul(5)? / 8 + pairs.checked_mul(4)? / 8;
    bytes.checked_next_multiple_of(32)
}

/// Row `row` of `TL2`. A triplet is the size of `9·w + 3·w' + w''` in a nibble and its sign in a bit elsewhere; columns that
/// are no whole tile are pairs as in `TL1`. Within 32 rows the second and third group of eight are exchanged.
pub(super) fn tl2_row(bytes: &[u8], tile: &TlTile, row: usize, out: &mut [i8]) {
    let TlTile { bm, bk, .. } = *tile;
    let shape = Tl2Shape::of(tile);
    let groups = bm / TL2_ROWS;
    let (mb, mi, mj) = (row / bm, row % bm / TL2_ROWS, row % TL2_ROWS);
    let place = match mj {
        8..16 => mj + 8,
        16..24 => mj - 8,
        _ => mj,
    };
    let (triplets, pairs) = out.split_at_mut(shape.k3);
    for (kb, out) in triplets.chunks_exact_mut(bk).enumerate() {
        let base = (mb * (shape.k3 / bk) + kb) * groups + mi;
        for (t, out) in out.chunks_exact_mut(3).enumerate() {
            let byte = bytes[(base * (bk / 6) + t / 2) * TL2_ROWS + place];
            let size = if t % 2 == 0 { byte >> 4 } else { byte & 15 };
            let word = shape.signs() + (base * (bk / 24) + t / 8) * 32 + 2 * (mj % 16);
            let word = u16::from_le_bytes([bytes[word], bytes[word + 1]]);
            let negative = word >> (15 - (t % 8 * 2 + mj / 16)) & 1 == 1;
            triplet(size, negative, out);
        }
    }
    for (kb, out) in pairs.chunks_exact_mut(TL2_PAIRS).enumerate() {
        let base = (mb * (shape.k2 / TL2_PAIRS) + kb) * groups + mi;
        for (kq, out) in out.chunks_exact_mut(4).enumerate() {
            let byte = bytes[shape.pairs() + (base * 8 + kq) * TL2_ROWS + place];
            pair(byte >> 4, &mut out[..2]);
            pair(byte & 15, &mut out[2..]);
        }
    }
}

/// Three weights from `|9·w + 3·w' + w''|` and the sign; 2, which no weight is, from anything above 13.
fn triplet(size: u8, negative: bool, out: &mut [i8]) {
    if size > 13 {
        out.fill(2);
        return;
    }
    let value = if negative { 13 - size } else { 13 + size } as i8;
    out[0] = value / 9 - 1;
    out[1] = value / 3 % 3 - 1;
    out[2] = value % 3 - 1;
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_bytes, check_codes, weight, weights};
    use super::super::{Codes, read_row};
    use super::*;
    use crate::file::bytes::Bytes;

    /// Every weight set at the place that the formula of the format gives it, one at a time.
    fn encode_tl1(w: &[i8], tile: &TlTile) -> Vec<u8> {
        let TlTile {
            rows,
            k,
            bm,
            bk,
            inner,
        } = *tile;
        let by = 256 / inner;
        let mut out = vec![0; rows * k / 4];
        for m in 0..rows {
            let (mb, mi, m16, ml) = (m / bm, m % bm / inner, m % inner / 16, m % 16);
            for kk in 0..k / 2 {
                let (kb, kq) = (kk / (bk / 2), kk % (bk / 2) / (by / 2));
                let (ka, k2) = (kk % (by / 2) / 2, kk % 2);
                let at = mb * (k / bk) + kb;
                let at = (at * (bm / inner) + mi) * (bk / by) + kq;
                let at = ((at * (inner / 16) + m16) * (by / 4) + ka) * 16 + ml;
                let index = 3 * w[m * k + 2 * kk] + w[m * k + 2 * kk + 1] + 4;
                out[at] |= (index as u8) << (4 * (1 - k2));
            }
        }
        out
    }

    fn encode_tl2(w: &[i8], tile: &TlTile) -> Vec<u8> {
        let TlTile {
            rows, k, bm, bk, ..
        } = *tile;
        let k3 = k / bk * bk;
        let k2 = k - k3;
        let (signs, pairs) = (rows * k3 / 6, rows * k3 / 6 + rows * k3 / 24);
        let mut out = vec![0; tl2_body_bytes(rows as u64, k as u64).unwrap() as usize];
        let perm = |j: usize| match j / 8 {
            1 => j + 8,
            2 => j - 8,
            _ => j,
        };
        for m in 0..rows {
            let (mb, mi, mj) = (m / bm, m % bm / 32, m % 32);
            for t in 0..k3 / 3 {
                let three = &w[m * k + 3 * t..m * k + 3 * t + 3];
                let v = 9 * three[0] + 3 * three[1] + three[2];
                let (kb, in_tile) = (t / (bk / 3), t % (bk / 3));
                let base = (mb * (k3 / bk) + kb) * (bm / 32) + mi;
                let at = (base * (bk / 6) + in_tile / 2) * 32 + perm(mj);
                out[at] |= v.unsigned_abs() << (4 * (1 - in_tile % 2));
                let (ks, kt) = (in_tile / 8, in_tile % 8);
                let at = signs + (base * (bk / 24) + ks) * 32 + 2 * (mj % 16);
                let bit = 15 - (2 * kt + mj / 16);
                out[at + bit / 8] |= u8::from(v < 0) << (bit % 8);
            }
            for p in 0..k2 / 2 {
                let at = m * k + k3 + 2 * p;
                let index = (3 * w[at] + w[at + 1] + 4) as u8;
                let (kb, kq) = (p / 16, p % 16 / 2);
                let base = (mb * (k2 / 32) + kb) * (bm / 32) + mi;
                let at = pairs + (base * 8 + kq) * 32 + perm(mj);
                out[at] |= index << (4 * (1 - p % 2));
            }
        }
        out
    }

    fn with_tail(mut body: Vec<u8>) -> Vec<u8> {
        body.extend(0.5f32.to_le_bytes());
        body.extend([0; 28]);
        body
    }

    fn tile(text: &str) -> TlTile {
        text.parse().unwrap()
    }

    #[test]
    fn tl1() {
        let tile = tile("256x256=256/128/32");
        let body = encode_tl1(&weights(256, 256), &tile);
        assert_eq!(Tl::One.problem(&tile, body.len()), None);
        check_bytes(
            &with_tail(body.clone()),
            16_416,
            "23446525406021378816368414357200",
            "00000000000000000000000000000000",
            0xa28e_d8eb_59a2_0f29,
        );
        let bytes = Bytes::from_vec(body);
        check_codes(&Codes::Tl1 { bytes, tile }, 256, 256);
    }

    #[test]
    fn tl2() {
        let tile = tile("192x256=96/96");
        let body = encode_tl2(&weights(192, 256), &tile);
        assert_eq!(Tl::Two.problem(&tile, body.len()), None);
        check_bytes(
            &with_tail(body.clone()),
            12_320,
            "66006b6a155972222183b945a866006b",
            "00000000000000000000000000000000",
            0x2bef_9cba_0adf_4e97,
        );
        let bytes = Bytes::from_vec(body);
        check_codes(&Codes::Tl2 { bytes, tile }, 192, 256);
    }

    #[test]
    fn several_tiles_in_both_directions() {
        for text in ["128x256=64/64/64", "192x384=96/128/32", "64x128=32/128/32"] {
            let tile = tile(text);
            let (rows, k) = (tile.rows, tile.k);
            let body = encode_tl1(&weights(rows, k), &tile);
            assert_eq!(Tl::One.problem(&tile, body.len()), None, "{text}");
            let bytes = Bytes::from_vec(body);
            check_codes(&Codes::Tl1 { bytes, tile }, rows, k);
        }
        for text in ["64x384=32/192", "128x416=64/192", "96x256=96/96"] {
            let tile = tile(text);
            let (rows, k) = (tile.rows, tile.k);
            let body = encode_tl2(&weights(rows, k), &tile);
            assert_eq!(Tl::Two.problem(&tile, body.len()), None, "{text}");
            let bytes = Bytes::from_vec(body);
            check_codes(&Codes::Tl2 { bytes, tile }, rows, k);
        }
    }

    #[test]
    fn every_preset_fits_its_own_shape() {
        for (tl, presets) in [(Tl::One, TL1_PRESETS), (Tl::Two, TL2_PRESETS)] {
            for [rows, k, ..] in presets {
                let tile = tl.tile(&TlTiles::default(), rows, k).unwrap();
                let body = match tl {
                    Tl::One => rows * k / 4,
                    Tl::Two => tl2_body_bytes(rows as u64, k as u64).unwrap() as usize,
                };
                assert_eq!(tl.problem(&tile, body), None, "{tl:?} {tile}");
            }
            assert_eq!(tl.tile(&TlTiles::default(), 2560, 2560), None);
        }
    }

    #[test]
    fn what_was_asked_for_comes_before_presets() {
        let asked: TlTiles = "1536x1536=256/128/32,2560x2560=160/64/32".parse().unwrap();
        assert_eq!(Tl::One.tile(&asked, 1536, 1536).unwrap().bm, 256);
        assert_eq!(Tl::Two.tile(&asked, 2560, 2560).unwrap().bk, 64);
        assert_eq!(Tl::One.tile(&asked, 4096, 1536).unwrap().bm, 256);
        assert_eq!(
            tile("4096x14336=256/128/32").to_string(),
            "4096x14336=256/128/32"
        );
        for bad in [
            "",
            "x",
            "1x2",
            "1x2=",
            "1x2=3",
            "0x2=3/4",
            "1x2=3/4/5/6",
            "1x2=3/-4",
            "1x2=0/4",
            "1x1=1/1,2x2=1/1,3x3=1/1,4x4=1/1,5x5=1/1",
        ] {
            let error = bad.parse::<TlTiles>().unwrap_err().to_string();
            assert!(error.contains("ROWSxK=BM/BK"), "{error}");
        }
    }

    #[test]
    fn tiles_that_do_not_fit_are_named() {
        for (tl, text, body, want) in [
            (Tl::One, "64x128=64/64/48", 2048, "32 or 64 rows"),
            (Tl::One, "64x128=48/64/32", 2048, "the rows"),
            (Tl::One, "64x128=64/100/32", 2048, "the columns"),
            (Tl::One, "64x128=64/64/32", 2047, "another size"),
            (Tl::Two, "64x256=64/96/64", 4096, "32 rows"),
            (Tl::Two, "64x256=48/96", 4096, "the rows"),
            (Tl::Two, "64x256=64/100", 4096, "24 columns"),
            (Tl::Two, "64x256=64/240", 4096, "24 columns"),
            (Tl::Two, "64x256=64/96", 3500, "too small"),
        ] {
            let problem = tl.problem(&tile(text), body).unwrap();
            assert!(problem.contains(want), "{text}: {problem}");
        }
        assert_eq!(tl2_body_bytes(64, 255), None);
        assert_eq!(tl2_body_bytes(u64::MAX / 2, 1 << 20), None);
    }

    #[test]
    fn codes_that_mean_nothing_are_found() {
        let tile = tile("192x256=96/96");
        let good = encode_tl2(&weights(192, 256), &tile);
        let mut out = vec![0; 256];
        for row in [0, 9, 20, 191] {
            // The same row's nibbles are where the decoder looks: set all bytes of the matrix to 14 and to 9.
            let bytes = Bytes::from_vec(vec![0xee; good.len()]);
            assert_eq!(
                read_row(&Codes::Tl2 { bytes, tile }, 192, row, &mut out),
                Err(0)
            );
        }
        let mut bad = good;
        let pairs = 192 * 192 / 6 + 192 * 192 / 24;
        // Row 0, first pair of the last 64 columns.
        bad[pairs] = 0x90 | bad[pairs] & 15;
        let bytes = Bytes::from_vec(bad);
        assert_eq!(
            read_row(
                &Codes::Tl2 {
                    bytes: bytes.clone(),
                    tile
                },
                192,
                0,
                &mut out
            ),
            Err(192)
        );
        assert_eq!(
            read_row(&Codes::Tl2 { bytes, tile }, 192, 1, &mut out),
            Ok(())
        );
        assert_eq!(out[5], weight(1, 5));
    }
}
