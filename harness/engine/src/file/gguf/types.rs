//! Tensor types of GGUF files, and which of them a type number means in a given file.

use crate::file::float::FloatType;
use crate::file::ternary::{I2S_TAIL, TQ_BLOCK, TQ1_BYTES, TQ2_BYTES, iq_bn, tl};

/// `general.file_type` of bitnet.cpp's files.
const FILE_TYPE_TL1: u64 = 38;
const FILE_TYPE_TL2: u64 = 39;
pub(crate) const FILE_TYPE_I2S: u64 = 40;

/// Type numbers of ggml and of its forks.
pub mod id {
    /// 32-bit floats.
    pub const F32: u32 = 0;
    /// IEEE half floats.
    pub const F16: u32 = 1;
    /// Blocks of 32 four-bit numbers.
    pub const Q4_0: u32 = 2;
    /// Blocks of 32 eight-bit numbers.
    pub const Q8_0: u32 = 8;
    /// Blocks of 256 six-bit numbers.
    pub const Q6_K: u32 = 14;
    /// Floats cut to 16 bits.
    pub const BF16: u32 = 30;
    /// Blocks of 256 ternary numbers, five a byte.
    pub const TQ1_0: u32 = 34;
    /// Blocks of 256 ternary numbers, four a byte.
    pub const TQ2_0: u32 = 35;
    /// bitnet.cpp's ternary numbers, four a byte, one scale a tensor.
    pub const I2_S: u32 = 36;
    /// bitnet.cpp's pairs for look-up on ARM.
    pub const TL1: u32 = 38;
    /// bitnet.cpp's triplets for look-up on x86.
    pub const TL2: u32 = 39;
    /// ik_llama.cpp's ternary numbers, five a byte.
    pub const IQ1_BN: u32 = 134;
    /// ik_llama.cpp's ternary numbers, four a byte.
    pub const IQ2_BN: u32 = 135;
    /// The same, four rows interleaved.
    pub const IQ2_BN_R4: u32 = 335;
}

/// A type that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorType {
    Float(FloatType),
    Tq1,
    Tq2,
    I2S,
    Tl1,
    Tl2,
    Iq1Bn,
    Iq2Bn,
    Iq2BnR4,
}

impl TensorType {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Float(float) => float.name(),
            Self::Tq1 => "TQ1_0",
            Self::Tq2 => "TQ2_0",
            Self::I2S => "I2_S",
            Self::Tl1 => "TL1",
            Self::Tl2 => "TL2",
            Self::Iq1Bn => "IQ1_BN",
            Self::Iq2Bn => "IQ2_BN",
            Self::Iq2BnR4 => "IQ2_BN_R4",
        }
    }
}

impl TensorType {
    /// Elements that a row must have a multiple of.
    fn row_block(self) -> u64 {
        let block = match self {
            Self::Float(float) => float.block().0,
            Self::Tq1 | Self::Tq2 => TQ_BLOCK,
            Self::I2S | Self::Tl1 => 4,
            // Its tiles are checked where they are known.
            Self::Tl2 => 1,
            Self::Iq1Bn | Self::Iq2Bn | Self::Iq2BnR4 => iq_bn::BLOCK,
        };
        block as u64
    }

    /// Bytes of a tensor of `rows` rows of `k` elements, which are whole blocks; `None` when that overflows.
    fn bytes(self, rows: u64, k: u64) -> Option<u64> {
        let tail = I2S_TAIL as u64;
        let blocks = |elements: usize, bytes: usize| {
            (k / elements as u64)
                .checked_mul(bytes as u64)?
                .checked_mul(rows)
        };
        match self {
            Self::Float(float) => {
                let (elements, bytes) = float.block();
                blocks(elements, bytes)
            }
            Self::Tq1 => blocks(TQ_BLOCK, TQ1_BYTES),
            Self::Tq2 => blocks(TQ_BLOCK, TQ2_BYTES),
            Self::I2S | Self::Tl1 => blocks(4, 1)?.checked_add(tail),
            Self::Tl2 => tl::tl2_body_bytes(rows, k)?.checked_add(tail),
            Self::Iq1Bn => iq_bn::iq1_row_bytes(k)?.checked_mul(rows),
            Self::Iq2Bn | Self::Iq2BnR4 => iq_bn::iq2_row_bytes(k)?.checked_mul(rows),
        }
    }
}

/// Why a tensor is refused.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    Invalid(String),
    /// The problem and the remedy.
    Unsupported(String, &'static str),
}

/// What a file says about one tensor, and the room it has before the next one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) type_id: u32,
    pub(crate) elements: u64,
    /// The fastest dimension.
    pub(crate) row: u64,
    pub(crate) room: u64,
    pub(crate) file_type: Option<u64>,
}

const CONVERT: &str = "convert the model with linears in I2_S and an F16 embedding";

impl Claim {
    /// The type that is meant and the size in bytes, which fits into the room.
    pub(crate) fn resolve(self) -> Result<(TensorType, u64), Refusal> {
        let dtype = match self.type_id {
            id::F32 => TensorType::Float(FloatType::F32),
            id::F16 => TensorType::Float(FloatType::F16),
            id::BF16 => TensorType::Float(FloatType::Bf16),
            id::Q8_0 => TensorType::Float(FloatType::Q8_0),
            id::Q6_K => TensorType::Float(FloatType::Q6K),
            id::Q4_0 => TensorType::Float(FloatType::Q4_0),
            id::TQ1_0 => TensorType::Tq1,
            id::TQ2_0 => TensorType::Tq2,
            id::I2_S if self.is_old_iq4(FILE_TYPE_I2S) => {
                return Err(Refusal::Unsupported(
                    "has type 36, and the size of ggml's removed IQ4_NL_4_4 instead of I2_S"
                        .to_owned(),
                    CONVERT,
                ));
            }
            id::I2_S => TensorType::I2S,
            id::TL1 if self.is_old_iq4(FILE_TYPE_TL1) => {
                return Err(Refusal::Unsupported(
                    "has type 38, and the size of ggml's removed IQ4_NL_8_8 instead of TL1"
                        .to_owned(),
                    CONVERT,
                ));
            }
            id::TL1 => TensorType::Tl1,
            // MXFP4 has blocks of 32 elements in 17 bytes.
            id::TL2
                if self.file_type != Some(FILE_TYPE_TL2)
                    && self.room / 17 >= self.elements / 32 =>
            {
                return Err(Refusal::Unsupported(
                    "has type 39 and the size of MXFP4, which is not read".to_owned(),
                    CONVERT,
                ));
            }
            id::TL2 => TensorType::Tl2,
            id::IQ1_BN => TensorType::Iq1Bn,
            id::IQ2_BN => TensorType::Iq2Bn,
            id::IQ2_BN_R4 => TensorType::Iq2BnR4,
            other => return Err(Self::refuse(other)),
        };
        let block = dtype.row_block();
        if !self.row.is_multiple_of(block) {
            return Err(Refusal::Invalid(format!(
                "is {} with rows of {}, which are no whole blocks of {block}",
                dtype.name(),
                self.row
            )));
        }
        let rows = self.elements / self.row.max(1);
        if dtype == TensorType::Iq2BnR4 && !rows.is_multiple_of(iq_bn::R4 as u64) {
            return Err(Refusal::Invalid(format!(
                "is IQ2_BN_R4 with {rows} rows, which are no whole groups of {}",
                iq_bn::R4
            )));
        }
        match dtype.bytes(rows, self.row) {
            Some(size) if size <= self.room => Ok((dtype, size)),
            None if dtype == TensorType::Tl2 && self.row < tl::TL2_SIZED_PAIRS => {
                Err(Refusal::Invalid(format!(
                    "is TL2 with rows of {}, want at least {}",
                    self.row,
                    tl::TL2_SIZED_PAIRS
                )))
            }
            _ => Err(Refusal::Invalid(format!(
                "has {} elements of type {}, and only {} bytes before the next tensor or the end of the file",
                self.elements,
                dtype.name(),
                self.room
            ))),
        }
    }

    /// Numbers 36 and 38 were `IQ4_NL_4_4` and `IQ4_NL_8_8` in ggml (18 bytes for 32 elements) before bitnet.cpp took them for
    /// `I2_S` and `TL1`, in files of type `ours`.
    fn is_old_iq4(self, ours: u64) -> bool {
        let iq4 = self.elements / 32 * 18;
        let slack = 4096;
        self.file_type != Some(ours)
            && self.elements.is_multiple_of(32)
            && self.room >= iq4
            && self.room < iq4 + slack
            && self.room > self.elements / 4 + I2S_TAIL as u64 + slack
    }

    fn refuse(type_id: u32) -> Refusal {
        let name = match type_id {
            3 => "Q4_1",
            6 => "Q5_0",
            7 => "Q5_1",
            10 => "Q2_K",
            11 => "Q3_K",
            12 => "Q4_K",
            13 => "Q5_K",
            15 => "Q8_K",
            16..=23 | 29 => "an IQ type",
            24..=27 => "an integer type",
            28 => "F64",
            37 => "I8_S or IQ4_NL_4_8",
            40 => "NVFP4",
            41 => "Q1_0",
            42 => "Q2_0",
            _ => {
                return Refusal::Invalid(format!("has the unknown type {type_id}"));
            }
        };
        Refusal::Unsupported(
            format!("has type {type_id} ({name}), which is not read"),
            CONVERT,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(type_id: u32, elements: u64, room: u64, file_type: Option<u64>) -> Claim {
        Claim {
            type_id,
            elements,
            row: 256,
            room,
            file_type,
        }
    }

    fn refusal(claim: Claim) -> String {
        match claim.resolve().unwrap_err() {
            Refusal::Invalid(text) | Refusal::Unsupported(text, _) => text,
        }
    }

    #[test]
    fn number_36_is_told_apart_by_file_type_and_room() {
        let n = 256 * 256;
        let i2s = n / 4 + 32;
        assert_eq!(
            claim(36, n, i2s, None).resolve(),
            Ok((TensorType::I2S, i2s))
        );
        assert!(refusal(claim(36, n, n / 32 * 18, None)).contains("IQ4_NL_4_4"));
        // A last tensor has all the room that is left: the file type decides.
        assert_eq!(
            claim(36, n, n / 32 * 18, Some(FILE_TYPE_I2S)).resolve(),
            Ok((TensorType::I2S, i2s))
        );
        assert!(refusal(claim(36, n, i2s - 1, None)).contains("only 16415 bytes"));
    }

    #[test]
    fn number_39_is_told_apart_by_file_type_and_room() {
        let n = 256 * 256;
        assert!(refusal(claim(39, n, n / 32 * 17, None)).contains("MXFP4"));
        let tl2 = n / 4 + 32;
        assert_eq!(
            claim(39, n, tl2, None).resolve(),
            Ok((TensorType::Tl2, tl2))
        );
        assert_eq!(
            claim(39, n, n, Some(FILE_TYPE_TL2)).resolve(),
            Ok((TensorType::Tl2, tl2))
        );
        assert!(refusal(claim(39, n, tl2 - 1, None)).contains("only 16415 bytes"));
        let narrow = Claim {
            row: 128,
            ..claim(39, 128 * 32, 2048, Some(FILE_TYPE_TL2))
        };
        assert!(refusal(narrow).contains("rows of 128, want at least 256"));
    }

    #[test]
    fn number_38_is_told_apart_by_file_type_and_room() {
        let n = 256 * 256;
        let tl1 = n / 4 + 32;
        assert_eq!(
            claim(38, n, tl1, None).resolve(),
            Ok((TensorType::Tl1, tl1))
        );
        assert!(refusal(claim(38, n, n / 32 * 18, None)).contains("IQ4_NL_8_8"));
        assert_eq!(
            claim(38, n, n / 32 * 18, Some(FILE_TYPE_TL1)).resolve(),
            Ok((TensorType::Tl1, tl1))
        );
    }

    #[test]
    fn the_types_of_ik_llama_have_scales_in_their_rows() {
        let n = 256 * 256;
        for (type_id, dtype, row) in [
            (134, TensorType::Iq1Bn, 2 + 4 * 13),
            (135, TensorType::Iq2Bn, 4 + 4 * 16),
            (335, TensorType::Iq2BnR4, 4 + 4 * 16),
        ] {
            assert_eq!(
                claim(type_id, n, 256 * row, None).resolve(),
                Ok((dtype, 256 * row))
            );
            assert!(refusal(claim(type_id, n, 256 * row - 1, None)).contains("only"));
        }
        let ragged = Claim {
            row: 96,
            ..claim(134, 96 * 4, 4096, None)
        };
        assert!(refusal(ragged).contains("no whole blocks of 64"));
        assert!(refusal(claim(335, 256 * 6, 4096, None)).contains("no whole groups of 4"));
    }

    #[test]
    fn sizes_do_not_overflow() {
        let huge = claim(id::F32, u64::MAX / 2 + 1, 1 << 20, None);
        assert!(refusal(huge).contains("only 1048576 bytes"));
        assert!(refusal(claim(999, 256, 1024, None)).contains("unknown type 999"));
    }
}
