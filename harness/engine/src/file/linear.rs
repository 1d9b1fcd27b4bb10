//! One ternary linear of a file: shape, scale, and its codes on demand.

use std::ops::Range;
use std::sync::Arc;

use trit_kernel::{ABSMAX_FLOOR, ByteOwner};

use super::bytes::Bytes;
use super::error::{FileError, FileName};
use super::float::FloatType;
use super::ternary::{self, tl::TlTile};

/// How integer sums become real: with `s_a = 127 / max|x|` the activation scale of the token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LinearScale {
    /// `y = acc / s_a · scale`.
    Multiply(f32),
    /// `y = acc / (s_a · scale)`.
    Divide(f32),
}

/// Where the codes of a matrix are.
#[derive(Clone)]
pub(crate) enum Codes {
    /// `I2_S` in blocks of 128 codes, without its tail.
    I2s(Bytes),
    /// `I2_S` in blocks of 64 codes, without its tail.
    I2sArm(Bytes),
    /// Four output rows a byte, as transformers packs.
    HfPacked(Bytes),
    /// `TQ1_0` blocks.
    Tq1(Bytes),
    /// `TQ2_0` blocks.
    Tq2(Bytes),
    /// `IQ1_BN` rows.
    Iq1Bn(Bytes),
    /// `IQ2_BN` rows.
    Iq2Bn(Bytes),
    /// `IQ2_BN_R4`, four rows at a time.
    Iq2BnR4(Bytes),
    /// `TL1` without its tail.
    Tl1 { bytes: Bytes, tile: TlTile },
    /// `TL2` without its tail.
    Tl2 { bytes: Bytes, tile: TlTile },
    /// Floats, quantized on the way: `clamp(round_half_even(w · factor), −1, 1)`.
    Float {
        dtype: FloatType,
        bytes: Bytes,
        factor: f32,
    },
    /// Generated from a seed.
    Synthetic(u64),
}

/// One ternary linear: `rows` output features of `k` input features.
#[derive(Clone)]
pub struct LinearSource {
    pub(crate) file: FileName,
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) k: usize,
    pub(crate) scale: LinearScale,
    pub(crate) codes: Codes,
    /// Head size, where rows are permuted for interleaved rotary pairs.
    pub(crate) interleaved: Option<usize>,
}

impl std::fmt::Debug for LinearSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "LinearSource({}, {} x {}, {:?})",
            self.name, self.rows, self.k, self.scale
        )
    }
}

impl LinearSource {
    /// Name of the tensor.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The scale; finite and not zero.
    pub fn scale(&self) -> LinearScale {
        self.scale
    }

    /// Writes the weights (−1, 0, 1) of `rows` into `out`, row-major. Rows of q and k come in the order of the half
    /// rotation, whatever the file holds.
    ///
    /// # Errors
    /// When a code means nothing.
    ///
    /// # Panics
    /// When `rows` is outside of the matrix or `out` is not `rows.len() · k` long.
    pub fn read_codes(&self, rows: Range<usize>, out: &mut [i8]) -> Result<(), FileError> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "{rows:?}");
        assert_eq!(out.len(), rows.len() * self.k, "codes of {rows:?}");
        for (row, out) in rows.zip(out.chunks_exact_mut(self.k)) {
            let stored = self
                .interleaved
                .map_or(row, |head| interleaved_row(row, head));
            if let Err(column) = ternary::read_row(&self.codes, self.rows, stored, out) {
                return Err(self.file.invalid(
                    &self.name,
                    format!("row {stored}, column {column} holds a code that is not -1, 0 or 1"),
                ));
            }
        }
        Ok(())
    }

    /// The bytes of the matrix where they are exactly [`trit_kernel::LayoutId::I2S`]. Their codes are not yet checked:
    /// [`trit_kernel::Packed::adopt`] does.
    pub fn packed_i2s(&self) -> Option<(Arc<dyn ByteOwner>, Range<usize>)> {
        match &self.codes {
            Codes::I2s(bytes) if self.interleaved.is_none() && self.k.is_multiple_of(128) => {
                Some(bytes.lend())
            }
            _ => None,
        }
    }

    pub(crate) fn release(&self) {
        if let Some(bytes) = self.bytes() {
            bytes.release();
        }
    }

    /// Maps the pages of the codes, where they are a map's.
    pub(crate) fn populate(&self) {
        if let Some(bytes) = self.bytes() {
            bytes.populate();
        }
    }

    /// The codes as a file has them.
    fn bytes(&self) -> Option<&Bytes> {
        match &self.codes {
            Codes::I2s(bytes)
            | Codes::I2sArm(bytes)
            | Codes::HfPacked(bytes)
            | Codes::Tq1(bytes)
            | Codes::Tq2(bytes)
            | Codes::Iq1Bn(bytes)
            | Codes::Iq2Bn(bytes)
            | Codes::Iq2BnR4(bytes)
            | Codes::Tl1 { bytes, .. }
            | Codes::Tl2 { bytes, .. }
            | Codes::Float { bytes, .. } => Some(bytes),
            Codes::Synthetic(_) => None,
        }
    }
}

/// Where a file that is permuted for rotary pairs `(2j, 2j + 1)` holds the row that the half rotation knows as
/// `head · D + s · D/2 + j`: at `head · D + 2j + s`.
pub(crate) fn interleaved_row(row: usize, head_dim: usize) -> usize {
    let (head, at) = (row / head_dim, row % head_dim);
    let (s, j) = (at / (head_dim / 2), at % (head_dim / 2));
    head * head_dim + 2 * j + s
}

/// Factor and scale of a matrix of floats: codes are `clamp(round(w · factor), −1, 1)` and `scale` multiplies the sums.
/// With `as_is`, a matrix that is already ternary times one scale keeps that scale; everything else goes through absmean
/// (`factor = 1 / max(mean|w|, 1e-5)`, `scale = 1 / factor`), as [`trit_kernel::absmean_codes`] does, in two passes instead
/// of a copy. `None` when a weight is not finite.
pub(crate) fn quantization(dtype: FloatType, bytes: &[u8], as_is: bool) -> Option<(f32, f32)> {
    let stats = ternary::float_stats(dtype, bytes)?;
    let kept = 1.0 / stats.max;
    if as_is && stats.ternary && stats.max > 0.0 && kept.is_finite() {
        return Some((kept, stats.max));
    }
    let factor = 1.0 / stats.mean.max(ABSMAX_FLOOR);
    Some((factor, 1.0 / factor))
}
