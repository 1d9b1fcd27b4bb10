//! Model files: GGUF and Hugging Face folders behind one [`Checkpoint`].
//!
//! A file is mapped, its header is checked as a whole (sizes, ranges, shapes, types, hyper-parameters) and only then is
//! anything handed out. Nothing is copied that the caller does not ask for: linears come as a [`LinearSource`] that
//! decodes rows on demand or lends its packed bytes, embedding and head as a [`FloatMatrix`] over the map.
//!
//! Byte layouts are those of ggml, bitnet.cpp and transformers; the tests hold a vector of bytes for each.

mod bytes;
mod config;
mod encode;
mod error;
mod float;
mod gguf;
mod hf;
mod json;
mod linear;
mod replace;
mod safetensors;
mod ternary;
mod tokenizer;

use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

pub use config::{Activation, Config};
pub use error::FileError;
pub use float::{FloatMatrix, FloatType};
pub use gguf::HeaderWriter as GgufHeader;
pub use gguf::type_id as gguf_type;
pub use gguf::{norm_name as gguf_norm_name, stem as gguf_stem};
pub use linear::{LinearScale, LinearSource};
pub use ternary::tl::{TlTile, TlTileError, TlTiles};
pub use tokenizer::{TokenizerSource, token_type};

pub(crate) use bytes::{Bytes, WeakBytes};
pub(crate) use config::{Field, RawConfig};
pub(crate) use error::FileName;
pub(crate) use gguf::write as gguf_write;
pub(crate) use hf::{norm_name as hf_norm_name, stem as hf_stem};
pub(crate) use linear::{Codes, interleaved_row};
pub(crate) use replace::{write_file, write_folder};
pub(crate) use ternary::{TQ_BLOCK, TQ1_BYTES, TQ2_BYTES};

/// One of the ternary projections of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Linear {
    /// Query projection, hidden x hidden.
    Q,
    /// Key projection, kv width x hidden.
    K,
    /// Value projection, kv width x hidden.
    V,
    /// Output projection of attention, hidden x hidden.
    O,
    /// Gate of the feed-forward block, ffn x hidden.
    Gate,
    /// Up projection, ffn x hidden.
    Up,
    /// Down projection, hidden x ffn.
    Down,
}

impl Linear {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];
}

/// One of the RMSNorm weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Norm {
    /// Before attention, hidden values.
    Attn,
    /// Before the output projection, hidden values; only with [`Config::sub_norms`].
    AttnSub,
    /// Before the feed-forward block, hidden values.
    Ffn,
    /// Before the down projection, ffn values; only with [`Config::sub_norms`].
    FfnSub,
    /// Before the head, hidden values; belongs to no layer.
    Final,
}

/// How the bytes of `I2_S` tensors are arranged: no file says which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum I2sForm {
    /// Blocks of 128 codes in 32 bytes: every published file.
    #[default]
    X86,
    /// Blocks of 64 codes in 16 bytes: files quantized by ARM builds of bitnet.cpp since 112f853.
    Arm,
}

/// Which way the stored scale of packed safetensors goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleRule {
    /// `y = acc / s_a · scale` (`linear_class` `autobitlinear`).
    Multiply,
    /// `y = acc / (s_a · scale)` (`linear_class` `bitlinear`, and where nothing is said).
    Divide,
}

/// What a file does not say about itself, or says wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileOptions {
    /// The form of `I2_S` tensors.
    pub i2s: I2sForm,
    /// Overrides the scale rule that a Hugging Face configuration implies.
    pub scale_rule: Option<ScaleRule>,
    /// Tile sizes of `TL1` and `TL2` tensors, where bitnet.cpp's presets do not know the shape or are not what was used.
    pub tl_tiles: TlTiles,
}

/// What the bytes of a tensor are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ternary projections with their scales.
    Linear,
    /// Token embedding.
    Embedding,
    /// Output head, where it is not the embedding.
    Head,
    /// RMSNorm weights.
    Norm,
    /// Tensors that the engine does not read.
    Unused,
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its element type, as its format spells it.
    pub dtype: String,
    /// Its shape, slowest dimension first.
    pub shape: Vec<u64>,
    /// Its bytes in the file, padding not counted.
    pub bytes: u64,
    /// What it is for.
    pub role: Role,
}

/// What a container must answer. All methods are called with layers below [`Config::layers`].
pub(crate) trait Backend: Send + Sync {
    fn linear(&self, layer: usize, linear: Linear) -> Result<LinearSource, FileError>;
    fn norm(&self, layer: usize, norm: Norm) -> Result<Vec<f32>, FileError>;
    fn embedding(&self) -> Result<FloatMatrix, FileError>;
    fn head(&self) -> Result<Option<FloatMatrix>, FileError>;
    fn tokenizer(&self) -> Result<TokenizerSource, FileError>;
    fn tensors(&self) -> Vec<TensorInfo>;
}

/// An open model: its configuration and its weights.
pub struct Checkpoint {
    config: Config,
    container: &'static str,
    backend: Box<dyn Backend>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checkpoint({}, {:?})", self.container, self.config)
    }
}

impl Checkpoint {
    /// Opens a GGUF file, a Hugging Face folder (`config.json` beside `model.safetensors`, or beside the shards of
    /// `model.safetensors.index.json`), or one of the files of such a folder.
    ///
    /// # Errors
    /// When the system refuses, or the content is damaged, contradicts itself or is not supported.
    pub fn open(path: &Path, options: &FileOptions) -> Result<Self, FileError> {
        match folder(path) {
            Some(dir) => hf::open(&dir, *options),
            None => gguf::open(&Bytes::map(path)?, &FileName::of(path), *options),
        }
    }

    /// Reads a GGUF file that is already in memory; errors call it `name`.
    ///
    /// # Errors
    /// When the content is damaged, contradicts itself or is not supported.
    pub fn from_gguf_bytes(
        name: &str,
        bytes: Vec<u8>,
        options: &FileOptions,
    ) -> Result<Self, FileError> {
        gguf::open(&Bytes::from_vec(bytes), &FileName::new(name), *options)
    }

    /// Reads a Hugging Face model that is already in memory: the text of `config.json` and the bytes of
    /// `model.safetensors`. Errors call them `name/config.json` and `name/model.safetensors`.
    ///
    /// # Errors
    /// When the content is damaged, contradicts itself or is not supported.
    pub fn from_hf_bytes(
        name: &str,
        config: &[u8],
        safetensors: Vec<u8>,
        options: &FileOptions,
    ) -> Result<Self, FileError> {
        hf::from_bytes(name, config, Bytes::from_vec(safetensors), *options)
    }

    pub(crate) fn new(config: Config, container: &'static str, backend: Box<dyn Backend>) -> Self {
        Self {
            config,
            container,
            backend,
        }
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The container: `gguf`, `safetensors` or `synthetic`.
    pub fn container(&self) -> &'static str {
        self.container
    }

    /// One linear of one layer.
    ///
    /// # Errors
    /// When its scale, or the block scales of its type, are not usable. Its codes are checked as they are read.
    ///
    /// # Panics
    /// When `layer` is not below [`Config::layers`].
    pub fn linear(&self, layer: usize, linear: Linear) -> Result<LinearSource, FileError> {
        assert!(layer < self.config.layers, "layer {layer}");
        self.backend.linear(layer, linear)
    }

    /// The weights of one norm. `layer` is `None` for [`Norm::Final`] alone.
    ///
    /// # Errors
    /// When a weight is not finite.
    ///
    /// # Panics
    /// When `layer` is not below [`Config::layers`], or is missing, or a sub-norm is asked of a model without.
    pub fn norm(&self, layer: Option<usize>, norm: Norm) -> Result<Vec<f32>, FileError> {
        assert_eq!(layer.is_none(), norm == Norm::Final, "layer of {norm:?}");
        assert!(layer.is_none_or(|layer| layer < self.config.layers));
        assert!(
            self.config.sub_norms || !matches!(norm, Norm::AttnSub | Norm::FfnSub),
            "the model has no sub-norms"
        );
        self.backend.norm(layer.unwrap_or(0), norm)
    }

    /// The token embedding, vocab x hidden.
    ///
    /// # Errors
    /// None once a checkpoint is open, except of the system.
    pub fn embedding(&self) -> Result<FloatMatrix, FileError> {
        self.backend.embedding()
    }

    /// The output head, vocab x hidden; `None` when it is the embedding.
    ///
    /// # Errors
    /// As [`Self::embedding`].
    pub fn head(&self) -> Result<Option<FloatMatrix>, FileError> {
        self.backend.head()
    }

    /// The vocabulary, as far as the model has one.
    ///
    /// # Errors
    /// When its parts do not fit each other.
    pub fn tokenizer(&self) -> Result<TokenizerSource, FileError> {
        self.backend.tokenizer()
    }

    /// Every tensor of the file.
    pub fn tensors(&self) -> Vec<TensorInfo> {
        self.backend.tensors()
    }

    /// Says that the bytes of `linear` will not be read again soon (they were repacked): the map gives its pages back.
    /// Reading them again works and costs a page fault.
    pub fn release(&self, linear: &LinearSource) {
        linear.release();
    }
}

/// The files that hold the weights of `path`: itself, or the safetensors of the folder it is (or is a file of).
///
/// # Errors
/// When the system refuses, or a folder holds no safetensors.
pub fn weight_files(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    match folder(path) {
        Some(dir) => hf::weight_files(&dir),
        None => Ok(vec![path.to_path_buf()]),
    }
}

/// The Hugging Face folder that `path` means, if it means one.
fn folder(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_path_buf());
    }
    let name = path.file_name()?.to_str()?;
    let part = [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
    ]
    .contains(&name);
    let dir = path.parent()?;
    part.then(|| {
        if dir.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            dir.to_path_buf()
        }
    })
}

/// Bytes of the files that hold the weights of a model.
///
/// # Errors
/// When the system refuses, or a folder holds no safetensors.
pub fn weight_bytes(path: &Path) -> Result<u64, FileError> {
    weight_files(path)?.iter().try_fold(0, |sum, path| {
        std::fs::metadata(path)
            .map(|meta| sum + meta.len())
            .map_err(|e| FileName::of(path).io("open", e))
    })
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        use std::fmt::Write;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// SHA-256 of a model file in lower-case hex, read in pieces; of a folder in shards, over the shards in the order of their
/// names.
///
/// # Errors
/// When the system refuses, or a folder holds no safetensors.
pub fn sha256(path: &Path) -> Result<String, FileError> {
    use std::io::Read;
    let mut digest = Sha256::new();
    let mut buf = vec![0; 1 << 20];
    for path in weight_files(path)? {
        let file = FileName::of(&path);
        let mut reader = bytes::open_regular(&path)?;
        loop {
            match reader.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => digest.update(&buf[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(file.io("read", e)),
            }
        }
    }
    Ok(hex(&digest.finalize()))
}
