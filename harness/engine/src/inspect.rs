//! What is in a model file: for `tritbench model inspect`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::ModelName;
use crate::file::{
    Checkpoint, Config, FileError, FileOptions, Linear, Role, TensorInfo, TokenizerSource,
};

/// The shape of one of the linears, the same in every layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinearShape {
    /// Which one.
    pub linear: Linear,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub k: usize,
}

/// Tensors of one type.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TypeCount {
    /// Tensors.
    pub tensors: usize,
    /// Their bytes, padding not counted.
    pub bytes: u64,
}

/// Bytes of tensors by what they are for, padding not counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RoleBytes {
    /// Ternary projections with their scales.
    pub linears: u64,
    /// Token embedding.
    pub embedding: u64,
    /// Output head; 0 where it is the embedding.
    pub head: u64,
    /// RMSNorm weights.
    pub norms: u64,
    /// Tensors that the engine does not read.
    pub unused: u64,
}

/// A model file, described.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// `gguf`, `safetensors` or `synthetic`.
    pub container: &'static str,
    /// Hyper-parameters.
    pub config: Config,
    /// Shapes of the linears.
    pub linears: Vec<LinearShape>,
    /// Tensors by element type.
    pub types: BTreeMap<String, TypeCount>,
    /// Bytes by role.
    pub bytes: RoleBytes,
    /// Ternary weights of all linears.
    pub linear_weights: u64,
    /// Stored bits a ternary weight, scales included: `8 · bytes.linears / linear_weights`.
    pub bits_per_weight: f64,
    /// `tokenizer.json`, `gguf bpe`, `gguf sentencepiece`; empty when the model has none.
    pub tokenizer: Option<&'static str>,
    /// Bytes of the file, or of all files of weights of a folder; empty for a synthetic model.
    pub file_bytes: Option<u64>,
    /// SHA-256 of the same, in hex; empty for a synthetic model.
    pub sha256: Option<String>,
    /// Every tensor.
    pub tensors: Vec<TensorInfo>,
}

/// Opens a model file, checks it and describes it. Reads all of it once, for the digest.
///
/// # Errors
/// As [`Checkpoint::open`].
pub fn inspect(path: &Path, options: &FileOptions) -> Result<Inspection, FileError> {
    ModelName::File(path.to_owned()).inspect(options)
}

/// Describes an open model, without size and digest of its file.
///
/// # Errors
/// When the parts of the vocabulary do not fit each other.
pub fn describe(checkpoint: &Checkpoint) -> Result<Inspection, FileError> {
    let config = checkpoint.config().clone();
    let tensors = checkpoint.tensors();
    let mut types: BTreeMap<String, TypeCount> = BTreeMap::new();
    let mut bytes = RoleBytes::default();
    for tensor in &tensors {
        let count = types.entry(tensor.dtype.clone()).or_default();
        count.tensors += 1;
        count.bytes += tensor.bytes;
        *match tensor.role {
            Role::Linear => &mut bytes.linears,
            Role::Embedding => &mut bytes.embedding,
            Role::Head => &mut bytes.head,
            Role::Norm => &mut bytes.norms,
            Role::Unused => &mut bytes.unused,
        } += tensor.bytes;
    }
    let linear_weights = config.linear_weights();
    Ok(Inspection {
        container: checkpoint.container(),
        linears: Linear::ALL
            .into_iter()
            .map(|linear| {
                let (rows, k) = config.linear_shape(linear);
                LinearShape { linear, rows, k }
            })
            .collect(),
        types,
        bits_per_weight: 8.0 * bytes.linears as f64 / linear_weights as f64,
        bytes,
        linear_weights,
        tokenizer: match checkpoint.tokenizer()? {
            TokenizerSource::Json(_) => Some("tokenizer.json"),
            TokenizerSource::GgufBpe { .. } => Some("gguf bpe"),
            TokenizerSource::GgufSentencePiece { .. } => Some("gguf sentencepiece"),
            TokenizerSource::None => None,
        },
        file_bytes: None,
        sha256: None,
        config,
        tensors,
    })
}
