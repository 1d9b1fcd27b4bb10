//! Models from one container to another: GGUF for other programs, packed safetensors for transformers.
//!
//! Codes are never changed. Scales are f32 in `I2_S`, in packed safetensors and in llama.cpp's `bitnet` models; elsewhere F16,
//! `TQ1_0` and `TQ2_0` hold an f16, and a scale that is none is rounded, which the report says.

mod encode;
mod gguf;
mod safetensors;
mod vocabulary;

use half::f16;
use serde::Serialize;

use crate::error::EngineError;
use crate::file::{
    Activation, Checkpoint, Config, FileError, FloatMatrix, FloatType, LinearScale, LinearSource,
    TQ_BLOCK, TQ1_BYTES, TQ2_BYTES,
};

pub use gguf::to_gguf;
pub use safetensors::to_folder;

/// Bytes of codes or of floats that are made at a time.
const CHUNK_BYTES: usize = 8 << 20;

/// How linears are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LinearType {
    /// Halves.
    F16,
    /// bitnet.cpp's four codes a byte.
    I2s,
    /// llama.cpp's five codes a byte.
    Tq1,
    /// llama.cpp's four codes a byte.
    Tq2,
}

impl LinearType {
    /// Its name in ggml.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::I2s => "I2_S",
            Self::Tq1 => "TQ1_0",
            Self::Tq2 => "TQ2_0",
        }
    }

    /// Elements and bytes of a block.
    const fn block(self) -> (usize, usize) {
        match self {
            Self::F16 => (1, 2),
            Self::I2s => (128, 32),
            Self::Tq1 => (TQ_BLOCK, TQ1_BYTES),
            Self::Tq2 => (TQ_BLOCK, TQ2_BYTES),
        }
    }

    /// Bytes of a row; `None` when it has no whole blocks.
    fn row_bytes(self, k: usize) -> Option<usize> {
        let (elements, bytes) = self.block();
        k.is_multiple_of(elements).then_some(k / elements * bytes)
    }
}

/// The program that is to read a GGUF file: each knows the same models by other names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Program {
    /// ggml-org's: `bitnet` with the activation as a key, and a scale beside each linear.
    LlamaCpp,
    /// ikawrakow's: `bitnet-b1.58`.
    IkLlamaCpp,
    /// Microsoft's: `bitnet-b1.58`.
    BitnetCpp,
}

impl Program {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llama.cpp",
            Self::IkLlamaCpp => "ik_llama.cpp",
            Self::BitnetCpp => "bitnet.cpp",
        }
    }

    /// The architecture under which it knows a model.
    fn architecture(self, config: &Config) -> Result<&'static str, ConvertError> {
        match (config.sub_norms, config.activation) {
            (true, Activation::Relu2) if self == Self::LlamaCpp => Ok("bitnet"),
            (true, Activation::Relu2) => Ok("bitnet-b1.58"),
            (true, Activation::Silu) => Ok("bitnet"),
            (false, Activation::Silu) => Ok("llama"),
            (false, Activation::Relu2) => Err(ConvertError::NoArchitecture {
                program: self.name(),
            }),
        }
    }
}

/// Why a model was not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The model cannot be read, or the result cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A shape does not fit the type.
    #[error(
        "`{tensor}`: its rows of {k} are no whole blocks of {block}, as {dtype} wants; hint: {hint}"
    )]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its input features.
        k: usize,
        /// What the type wants a multiple of.
        block: usize,
        /// The type.
        dtype: &'static str,
        /// What to do instead.
        hint: &'static str,
    },
    /// A scale that no half is near to.
    #[error(
        "`{tensor}`: its scale {scale} is out of the range of an f16, as {dtype} has; hint: convert to i2_s or packed"
    )]
    Scale {
        /// The tensor.
        tensor: String,
        /// Its scale.
        scale: f32,
        /// The type.
        dtype: &'static str,
    },
    /// The program has no such model.
    #[error(
        "{program} knows no model with squared ReLU and without sub-norms; hint: convert to packed"
    )]
    NoArchitecture {
        /// The program.
        program: &'static str,
    },
    /// The program does not read the type.
    #[error(
        "llama.cpp does not read I2_S; hint: convert to tq1_0, tq2_0 or f16, or for bitnet.cpp"
    )]
    NoI2s,
    /// The vocabulary cannot be written.
    #[error(
        "`{file}`: {problem}; hint: --no-vocabulary leaves it out, and other programs may then refuse the file"
    )]
    Vocabulary {
        /// The file it is in.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The vocabulary cannot be put together.
    #[error("{0}")]
    Tokenizer(#[from] EngineError),
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Converted {
    /// The name of the architecture.
    pub architecture: String,
    /// Size of the weights' file.
    pub bytes: u64,
    /// Whether there is a vocabulary in it, or beside it.
    pub vocabulary: bool,
    /// Linears whose scale was rounded.
    pub rounded_scales: usize,
    /// The largest relative error of them.
    pub worst_rounding: f32,
}

/// A scale as it is to be multiplied with.
fn multiplier(source: &LinearSource) -> f32 {
    match source.scale() {
        LinearScale::Multiply(scale) => scale,
        LinearScale::Divide(scale) => 1.0 / scale,
    }
}

/// The float type a matrix is written in; `None` for its own.
fn written_type(matrix: &FloatMatrix, quantized: bool) -> FloatType {
    match matrix.dtype() {
        kept @ (FloatType::F32 | FloatType::F16) => kept,
        // Programs that read GGUF have F16 there; this engine computes the same from both.
        FloatType::Bf16 if quantized => FloatType::F16,
        FloatType::Bf16 => FloatType::Bf16,
        kept if quantized => kept,
        _ => FloatType::F16,
    }
}

/// Hands the bytes of a matrix in `dtype` to `put`, a few megabytes at a time.
fn write_matrix(
    matrix: &FloatMatrix,
    dtype: FloatType,
    mut put: impl FnMut(&[u8]) -> Result<(), FileError>,
) -> Result<(), FileError> {
    if matrix.dtype() == dtype {
        for chunk in matrix.bytes().chunks(CHUNK_BYTES) {
            put(chunk)?;
        }
        matrix.release();
        return Ok(());
    }
    debug_assert_eq!(dtype, FloatType::F16, "the one type that is converted to");
    let mut row = vec![0.0; matrix.cols()];
    let mut out = Vec::new();
    for index in 0..matrix.rows() {
        matrix.row(index, &mut row);
        out.extend(row.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()));
        if out.len() >= CHUNK_BYTES || index + 1 == matrix.rows() {
            put(&out)?;
            out.clear();
        }
    }
    matrix.release();
    Ok(())
}

/// The matrix of the embedding, and of the head where it is another.
fn matrices(checkpoint: &Checkpoint) -> Result<(FloatMatrix, Option<FloatMatrix>), FileError> {
    Ok((checkpoint.embedding()?, checkpoint.head()?))
}
