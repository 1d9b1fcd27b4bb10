//! Tensor types of GGUF files, and which of them a type number means in a given file.

use crate::file::float::FloatType;
use crate::file::ternary::{I2S_TAIL, TQ_BLOCK, TQ1_BYTES, TQ2_BYTES};

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
}

/// A type that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorType {
    Float(FloatType),
    Tq1,
    Tq2,
    I2S,
}

impl TensorType {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Float(float) => float.name(),
            Self::Tq1 => "TQ1_0",
            Self::Tq2 => "TQ2_0",
            Self::I2S => "I2_S",
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
            id::I2_S if self.is_old_iq4() => {
                return Err(Refusal::Unsupported(
                    "has type 36, and the size of ggml's removed IQ4_NL_4_4 instead of I2_S"
                        .to_owned(),
                    CONVERT,
                ));
            }
            id::I2_S => TensorType::I2S,
            other => return Err(self.refuse(other)),
        };
        let (block, block_bytes, tail) = match dtype {
            TensorType::Float(float) => {
                let (elements, bytes) = float.block();
                (elements, bytes, 0)
            }
            TensorType::Tq1 => (TQ_BLOCK, TQ1_BYTES, 0),
            TensorType::Tq2 => (TQ_BLOCK, TQ2_BYTES, 0),
            TensorType::I2S => (4, 1, I2S_TAIL),
        };
        if !self.row.is_multiple_of(block as u64) {
            return Err(Refusal::Invalid(format!(
                "is {} with rows of {}, which are no whole blocks of {block}",
                dtype.name(),
                self.row
            )));
        }
        let size = (self.elements / block as u64)
            .checked_mul(block_bytes as u64)
            .and_then(|size| size.checked_add(tail as u64));
        match size {
            Some(size) if size <= self.room => Ok((dtype, size)),
            _ => Err(Refusal::Invalid(format!(
                "has {} elements of type {}, and only {} bytes before the next tensor or the end of the file",
                self.elements,
                dtype.name(),
                self.room
            ))),
        }
    }

    /// Number 36 was `IQ4_NL_4_4` in ggml (18 bytes for 32 elements) before bitnet.cpp took it for `I2_S`.
    fn is_old_iq4(self) -> bool {
        let iq4 = self.elements / 32 * 18;
        let slack = 4096;
        self.file_type != Some(FILE_TYPE_I2S)
            && self.elements.is_multiple_of(32)
            && self.room >= iq4
            && self.room < iq4 + slack
            && self.room > self.elements / 4 + I2S_TAIL as u64 + slack
    }

    fn refuse(self, type_id: u32) -> Refusal {
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
            38 => match self.file_type {
                Some(FILE_TYPE_TL1) => "TL1",
                _ => "TL1 or IQ4_NL_8_8",
            },
            39 => match self.file_type {
                Some(FILE_TYPE_TL2) => "TL2",
                // MXFP4 has blocks of 32 elements in 17 bytes.
                _ if self.room / 17 >= self.elements / 32 => "MXFP4",
                _ => "TL2",
            },
            40 => "NVFP4",
            41 => "Q1_0",
            42 => "Q2_0",
            134 => "IQ1_BN",
            135 => "IQ2_BN",
            335 => "IQ2_BN_R4",
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
        assert!(refusal(claim(39, n, n / 32 * 17, Some(FILE_TYPE_TL2))).contains("TL2"));
        assert!(refusal(claim(39, n, n * 5 / 24 + 32, None)).contains("TL2"));
        assert!(refusal(claim(38, n, n / 4 + 32, Some(FILE_TYPE_TL1))).contains("(TL1)"));
    }

    #[test]
    fn sizes_do_not_overflow() {
        let huge = claim(id::F32, u64::MAX / 2 + 1, 1 << 20, None);
        assert!(refusal(huge).contains("only 1048576 bytes"));
        assert!(refusal(claim(999, 256, 1024, None)).contains("unknown type 999"));
    }
}
