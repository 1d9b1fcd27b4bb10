//! Matrices of floats: embedding and head.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use serde::Serialize;
use trit_kernel::AlignedBuf;
use trit_ops::BlockType;

use super::bytes::Bytes;
use super::error::{FileError, FileName};

/// Element types of embedding, head and norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum FloatType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    #[serde(rename = "BF16")]
    Bf16,
    /// Blocks of 32: an f16 scale `d`, 32 int8 `q`; `d · q`. 34 bytes.
    #[serde(rename = "Q8_0")]
    Q8_0,
    /// Blocks of 256: low 4 bits, high 2 bits, 16 int8 scales, an f16 scale; `d · sc · (q − 32)`. 210 bytes.
    #[serde(rename = "Q6_K")]
    Q6K,
    /// Blocks of 32: an f16 scale `d`, 16 bytes of nibbles (low ones first); `d · (q − 8)`. 18 bytes.
    #[serde(rename = "Q4_0")]
    Q4_0,
}

impl FloatType {
    /// Its name in ggml.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q6K => "Q6_K",
            Self::Q4_0 => "Q4_0",
        }
    }

    /// The type of a matrix of these blocks.
    pub(crate) const fn of_blocks(kind: BlockType) -> Self {
        match kind {
            BlockType::Q4_0 => Self::Q4_0,
            BlockType::Q6K => Self::Q6K,
        }
    }

    /// Elements a block and bytes a block.
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q6K => (256, 210),
            Self::Q4_0 => (32, 18),
        }
    }

    /// Bytes of a row of `cols` elements; `None` when they are not whole blocks or the size overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let (elements, bytes) = self.block();
        cols.is_multiple_of(elements)
            .then(|| (cols / elements).checked_mul(bytes))
            .flatten()
    }

    /// Decodes whole blocks: `bytes` holds `out.len()` elements.
    ///
    /// # Panics
    /// When the lengths do not fit each other.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(self.row_bytes(out.len()), Some(bytes.len()), "{self:?}");
        let (elements, size) = self.block();
        let blocks = out.chunks_exact_mut(elements).zip(bytes.chunks_exact(size));
        match self {
            Self::F32 => {
                blocks.for_each(|(o, b)| o[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            }
            Self::F16 => match bytemuck::try_cast_slice::<u8, f16>(bytes) {
                // Many at once, by the instructions that there are.
                Ok(halves) if cfg!(target_endian = "little") => halves.convert_to_f32_slice(out),
                _ => blocks.for_each(|(o, b)| o[0] = half_at(b, 0)),
            },
            Self::Bf16 => {
                blocks.for_each(|(o, b)| o[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32());
            }
            Self::Q8_0 => blocks.for_each(|(out, block)| {
                let d = half_at(block, 0);
                for (o, q) in out.iter_mut().zip(&block[2..]) {
                    *o = d * f32::from(*q as i8);
                }
            }),
            Self::Q4_0 => blocks.for_each(|(out, block)| {
                let d = half_at(block, 0);
                for (j, byte) in block[2..].iter().enumerate() {
                    out[j] = d * (f32::from(byte & 15) - 8.0);
                    out[j + 16] = d * (f32::from(byte >> 4) - 8.0);
                }
            }),
            Self::Q6K => blocks.for_each(|(out, block)| q6k_block(block, out)),
        }
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// One `Q6_K` block: ql\[128\], qh\[64\], int8 scales\[16\], f16 d. Each half of 128 elements takes 64 bytes of ql, 32 of qh and
/// 8 scales; element `32·g + l` of a half has its low nibble in `ql[32·(g % 2) + l]` (high nibble for g ≥ 2), its two high
/// bits in `qh[l]` at `2·g`, and scale `2·g + l / 16`.
fn q6k_block(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 208);
    for half in 0..2 {
        let low = &block[64 * half..64 * half + 64];
        let high = &block[128 + 32 * half..128 + 32 * half + 32];
        let scales = &block[192 + 8 * half..192 + 8 * half + 8];
        for group in 0..4 {
            for l in 0..32 {
                let nibble = low[32 * (group % 2) + l] >> (4 * (group / 2)) & 15;
                let bits = high[l] >> (2 * group) & 3;
                let q = i32::from(nibble | bits << 4) - 32;
                let scale = d * f32::from(scales[2 * group + l / 16] as i8);
                out[128 * half + 32 * group + l] = scale * q as f32;
            }
        }
    }
}

/// A row-major matrix of floats over the bytes of a file, or generated.
#[derive(Clone)]
pub struct FloatMatrix {
    rows: usize,
    cols: usize,
    dtype: FloatType,
    bytes: Bytes,
}

impl std::fmt::Debug for FloatMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "FloatMatrix({} x {}, {})",
            self.rows,
            self.cols,
            self.dtype.name()
        )
    }
}

/// Rows that are read before their pages are given back to the system: a copy is not held beside all of what it is made of.
const PIECE_ROWS: usize = 8192;

impl FloatMatrix {
    /// `None` when `bytes` are not exactly `rows` x `cols` of `dtype`.
    pub(crate) fn new(rows: usize, cols: usize, dtype: FloatType, bytes: Bytes) -> Option<Self> {
        let size = dtype.row_bytes(cols)?.checked_mul(rows)?;
        (size == bytes.len()).then_some(Self {
            rows,
            cols,
            dtype,
            bytes,
        })
    }

    /// Rows: tokens of the vocabulary.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the hidden size.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Element type.
    pub fn dtype(&self) -> FloatType {
        self.dtype
    }

    /// Bytes of the whole matrix.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get()
    }

    /// Writes row `row` into `out`, which has [`Self::cols`] elements.
    ///
    /// # Panics
    /// When `row` is outside of the matrix or `out` has another length.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row}");
        let size = self.bytes.len() / self.rows;
        self.dtype
            .decode(&self.bytes.get()[row * size..(row + 1) * size], out);
    }

    /// [`Self::row`] for a row by itself: its pages are not mapped when they were not. `scratch` is overwritten.
    pub(crate) fn lone_row(&self, row: usize, scratch: &mut Vec<u8>, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row}");
        let size = self.bytes.len() / self.rows;
        scratch.resize(size, 0);
        self.bytes.copy(row * size, scratch);
        self.dtype.decode(scratch, out);
    }

    /// The matrix as it lies in the file, when it is F32 and aligned for it.
    pub fn f32(&self) -> Option<&[f32]> {
        self.view(FloatType::F32)
    }

    /// The matrix as it lies in the file, when it is F16 and aligned for it.
    pub fn f16(&self) -> Option<&[f16]> {
        self.view(FloatType::F16)
    }

    /// The matrix as it lies in the file, when it is BF16 and aligned for it.
    pub fn bf16(&self) -> Option<&[bf16]> {
        self.view(FloatType::Bf16)
    }

    fn view<T: bytemuck::Pod>(&self, dtype: FloatType) -> Option<&[T]> {
        // Files are little-endian: on a machine that is not, only decoding row by row is right.
        (self.dtype == dtype && cfg!(target_endian = "little"))
            .then(|| bytemuck::try_cast_slice(self.bytes.get()).ok())
            .flatten()
    }

    /// A copy in F16, each value rounded to the nearest even half. Files hold one model's embedding as BF16 or as F16 rounded
    /// from it, and BF16 reaches below the smallest halves: engines that want the same numbers from both take this.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "rows of any length are whole blocks of one number, and halves are made"
    )]
    pub fn to_f16(&self) -> Self {
        self.encoded(FloatType::F16)
            .expect("rows are whole blocks of one number")
    }

    /// Makes `width` elements of `out` of each row, and a value; `None` as soon as `each` says so. Rows are read in pieces whose pages
    /// go when they are done.
    pub(crate) fn convert<T: Send, V: Send>(
        &self,
        out: &mut [T],
        width: usize,
        each: impl Fn(&[f32], &mut [T]) -> Option<V> + Sync,
    ) -> Option<Vec<V>> {
        self.in_pieces(
            out,
            (1, width),
            || vec![0.0; self.cols],
            |floats, row, out| {
                self.row(row, floats);
                each(floats, out)
            },
        )
    }

    /// [`Self::convert`] of `rows` rows at a time into `width` elements; `each` reads them itself, given the number of these rows and what
    /// `scratch` makes for a thread.
    pub(crate) fn in_pieces<T: Send, V: Send, B>(
        &self,
        out: &mut [T],
        (rows, width): (usize, usize),
        scratch: impl Fn() -> B + Sync + Send,
        each: impl Fn(&mut B, usize, &mut [T]) -> Option<V> + Sync,
    ) -> Option<Vec<V>> {
        let (width, piece_len) = (width.max(1), PIECE_ROWS / rows);
        let mut values = Vec::with_capacity(self.rows.div_ceil(rows));
        for (piece, out) in out.chunks_mut(width * piece_len).enumerate() {
            let made: Option<Vec<V>> = out
                .par_chunks_mut(width)
                .enumerate()
                .map_init(&scratch, |scratch, (at, out)| {
                    each(scratch, piece * piece_len + at, out)
                })
                .collect();
            values.extend(made?);
            self.release();
        }
        Some(values)
    }

    /// A copy in another type; `None` for a type that nothing here makes, or whose blocks do not fill the rows.
    pub(crate) fn encoded(&self, dtype: FloatType) -> Option<Self> {
        let row_bytes = dtype.row_bytes(self.cols)?;
        let mut buf = AlignedBuf::zeroed(row_bytes.checked_mul(self.rows)?);
        self.convert(buf.bytes_mut(), row_bytes, |row, out| {
            dtype.encode(row, out)
        })?;
        Some(Self {
            dtype,
            bytes: Bytes::from_lines(buf),
            ..*self
        })
    }

    /// Lays out the matrix in blocks of type `kind`, sixteen rows at a time: as they are in the file, or made. `out` has room for as many
    /// whole sixteens, and rows are whole blocks. Pages go as in [`Self::convert`]. Returns what `each` says of the rows, given the number of
    /// one and its blocks.
    pub(crate) fn pack<V: Send>(
        &self,
        kind: BlockType,
        out: &mut [u8],
        each: impl Fn(usize, &[u8]) -> V + Sync,
    ) -> Vec<V> {
        const WHOLE: &str = "rows are whole blocks";
        let dtype = FloatType::of_blocks(kind);
        let row_bytes = dtype.row_bytes(self.cols).expect(WHOLE);
        let size = kind.group_bytes(self.cols).expect(WHOLE);
        let values = self.in_pieces(
            out,
            (BlockType::ROWS, size),
            || (vec![0.0; self.cols], vec![0; BlockType::ROWS * row_bytes]),
            |(floats, made), sixteen, out| {
                let first = sixteen * BlockType::ROWS;
                let rows = first..self.rows.min(first + BlockType::ROWS);
                let made = &mut made[..rows.len() * row_bytes];
                let same = self.dtype == dtype;
                if same {
                    made.copy_from_slice(
                        &self.bytes()[rows.start * row_bytes..rows.end * row_bytes],
                    );
                }
                let values = rows.zip(made.chunks_exact_mut(row_bytes));
                let values = values.map(|(row, made)| {
                    if !same {
                        self.row(row, floats);
                        dtype.encode(floats, made).expect("blocks are made");
                    }
                    each(row, made)
                });
                let values: Vec<V> = values.collect();
                kind.pack(made, self.cols, out);
                Some(values)
            },
        );
        values.into_iter().flatten().flatten().collect()
    }

    /// Maps the pages of the matrix, where they are a map's, so that reading it all takes no page faults.
    pub(crate) fn populate(&self) {
        self.bytes.populate();
    }

    /// Gives the pages of the matrix back to the system, where they are a map's (after a copy in another type was made).
    pub fn release(&self) {
        self.bytes.release();
    }
}

/// Decodes a vector whose values must be finite.
pub(crate) fn finite_vector(
    file: &FileName,
    name: &str,
    dtype: FloatType,
    bytes: &[u8],
) -> Result<Vec<f32>, FileError> {
    let (elements, size) = dtype.block();
    let mut out = vec![0.0; bytes.len() / size * elements];
    dtype.decode(bytes, &mut out);
    match out.iter().position(|v| !v.is_finite()) {
        None => Ok(out),
        Some(at) => Err(file.invalid(name, format!("element {at} is not a finite number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(got: f32, want: f32) -> bool {
        got.to_bits() == want.to_bits()
    }

    fn decoded(dtype: FloatType, bytes: &[u8]) -> Vec<f32> {
        let (elements, size) = dtype.block();
        let mut out = vec![0.0; bytes.len() / size * elements];
        dtype.decode(bytes, &mut out);
        out
    }

    #[test]
    fn half_and_bfloat_known_answers() {
        // 1.0, -2.5, the smallest subnormal half.
        assert_eq!(
            decoded(FloatType::F16, &[0x00, 0x3c, 0x00, 0xc1, 0x01, 0x00]),
            [1.0, -2.5, 2.0f32.powi(-24)]
        );
        // 1.0, -2.5, 3.140625.
        assert_eq!(
            decoded(FloatType::Bf16, &[0x80, 0x3f, 0x20, 0xc0, 0x49, 0x40]),
            [1.0, -2.5, 3.140_625]
        );
        assert_eq!(decoded(FloatType::F32, &1.5f32.to_le_bytes()), [1.5]);
    }

    #[test]
    fn q8_0_known_answers() {
        let mut block = vec![0x00, 0x38]; // d = 0.5
        block.extend((0..32).map(|i: u8| i.wrapping_mul(8)));
        let out = decoded(FloatType::Q8_0, &block);
        assert_eq!(out[..3], [0.0, 4.0, 8.0]);
        // 16 · 8 = 128 is −128 as i8, 31 · 8 = 248 is −8.
        assert_eq!((out[15], out[16], out[31]), (60.0, -64.0, -4.0));
    }

    #[test]
    fn q4_0_known_answers() {
        let mut block = vec![0x00, 0x40]; // d = 2
        block.extend((0..16).map(|i: u8| i | (15 - i) << 4));
        let out = decoded(FloatType::Q4_0, &block);
        assert_eq!((out[0], out[1], out[15]), (-16.0, -14.0, 14.0));
        assert_eq!((out[16], out[17], out[31]), (14.0, 12.0, -16.0));
    }

    #[test]
    fn q6_k_known_answers() {
        // All bytes zero but the scales: every q is −32.
        let mut block = vec![0u8; 210];
        block[192..208].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 255, 10, 11, 12, 13, 14, 15, 16]);
        block[208..].copy_from_slice(&f16::from_f32(0.25).to_le_bytes());
        let out = decoded(FloatType::Q6K, &block);
        assert_eq!(
            (out[0], out[16], out[127], out[128], out[255]),
            (-8.0, -16.0, -64.0, 8.0, -128.0)
        );
        // Element 37 of the second half: group 1, l = 5: low nibble of ql[64 + 37], bits 2 of qh[32 + 5], scale 8 + 2.
        block[64 + 37] = 0x09;
        block[128 + 32 + 5] = 0b0000_1000;
        let out = decoded(FloatType::Q6K, &block);
        assert!(same(out[128 + 37], 0.25 * 11.0 * 9.0));
        // The high nibble of the same byte is element 101: group 3, l = 5, scale 8 + 6.
        block[64 + 37] = 0xf0;
        block[128 + 32 + 5] = 0b1100_0000;
        let out = decoded(FloatType::Q6K, &block);
        assert!(same(out[128 + 101], 0.25 * 15.0 * 31.0));
        assert!(same(out[128 + 37], 0.25 * 11.0 * -32.0));
    }

    #[test]
    fn rows_must_be_whole_blocks() {
        assert_eq!(FloatType::Q8_0.row_bytes(64), Some(68));
        assert_eq!(FloatType::Q8_0.row_bytes(65), None);
        assert_eq!(FloatType::F32.row_bytes(usize::MAX), None);
        let held = Bytes::from_vec(vec![0; 68 * 3]);
        assert!(FloatMatrix::new(3, 64, FloatType::Q8_0, held.clone()).is_some());
        assert!(FloatMatrix::new(2, 64, FloatType::Q8_0, held).is_none());
    }
}
