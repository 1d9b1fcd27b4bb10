//! Models by the names that users give them.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use trit_core::BUILTIN_MODELS;

use crate::file::{self, Checkpoint, FileError, FileOptions, hex};
use crate::inspect::{self, Inspection};
use crate::synth::{self, Shape, ShapeError};

/// The model that is part of the program: `assets/README.md` says what it is.
static SHAKESPEARE: &[u8] = include_bytes!("../assets/shakespeare.gguf");

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum ModelName {
    /// `builtin:shakespeare`: a small trained model inside of the program.
    Builtin,
    /// `synth:SHAPE`: seeded random weights in the shape of a published model.
    Synthetic(Shape),
    /// Anything else: a GGUF file, or a folder with safetensors.
    File(PathBuf),
}

/// A name that stands for nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NameError {
    /// No shape of this name.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// No model of this name is part of the program.
    #[error("there is no built-in model `{name}`; hint: {} is one", BUILTIN_MODELS[0])]
    Builtin {
        /// The name.
        name: String,
    },
}

impl ModelName {
    /// Reads a name; whether a file exists is not looked at.
    ///
    /// # Errors
    /// When the part behind `synth:` or `builtin:` is not known.
    pub fn parse(name: &Path) -> Result<Self, NameError> {
        let text = name.to_str().unwrap_or_default();
        if let Some(shape) = text.strip_prefix("synth:") {
            return Ok(Self::Synthetic(Shape::named(shape)?));
        }
        if BUILTIN_MODELS.contains(&text) {
            return Ok(Self::Builtin);
        }
        if text.starts_with("builtin:") {
            return Err(NameError::Builtin {
                name: text.to_owned(),
            });
        }
        Ok(Self::File(name.to_owned()))
    }

    /// Opens the model. Only random weights depend on the seed, only files on the options.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`synth::checkpoint`].
    pub fn checkpoint(&self, seed: u64, options: &FileOptions) -> Result<Checkpoint, FileError> {
        match self {
            Self::Builtin => {
                let bytes = SHAKESPEARE.to_vec();
                Checkpoint::from_gguf_bytes(BUILTIN_MODELS[0], bytes, &FileOptions::default())
            }
            Self::Synthetic(shape) => synth::checkpoint(shape, seed),
            Self::File(path) => Checkpoint::open(path, options),
        }
    }

    /// Bytes of the weights' files; `None` for random weights, which are in no file.
    ///
    /// # Errors
    /// When the system refuses, or a folder holds no safetensors.
    pub fn file_bytes(&self) -> Result<Option<u64>, FileError> {
        match self {
            Self::Builtin => Ok(Some(SHAKESPEARE.len() as u64)),
            Self::Synthetic(_) => Ok(None),
            Self::File(path) => file::weight_bytes(path).map(Some),
        }
    }

    /// SHA-256 of the same, in lower-case hex.
    ///
    /// # Errors
    /// As [`Self::file_bytes`].
    pub fn sha256(&self) -> Result<Option<String>, FileError> {
        match self {
            Self::Builtin => Ok(Some(hex(&Sha256::digest(SHAKESPEARE)))),
            Self::Synthetic(_) => Ok(None),
            Self::File(path) => file::sha256(path).map(Some),
        }
    }

    /// Opens the model, checks it and describes it. Reads all of a file once, for the digest.
    ///
    /// # Errors
    /// As [`Self::checkpoint`].
    pub fn inspect(&self, options: &FileOptions) -> Result<Inspection, FileError> {
        let mut out = inspect::describe(&self.checkpoint(0, options)?)?;
        out.file_bytes = self.file_bytes()?;
        out.sha256 = self.sha256()?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let parse = |name: &str| ModelName::parse(Path::new(name));
        assert!(matches!(
            parse("builtin:shakespeare"),
            Ok(ModelName::Builtin)
        ));
        assert!(matches!(parse("synth:tiny"), Ok(ModelName::Synthetic(_))));
        assert!(matches!(parse("models/x.gguf"), Ok(ModelName::File(_))));
        let error = parse("builtin:milton").unwrap_err().to_string();
        assert!(error.contains("`builtin:milton`"), "{error}");
        assert!(error.contains("builtin:shakespeare is one"), "{error}");
        assert!(matches!(parse("synth:9x"), Err(NameError::Shape(_))));
    }

    #[test]
    fn the_built_in_model_is_ternary_and_has_a_vocabulary() {
        let seen = ModelName::Builtin.inspect(&FileOptions::default()).unwrap();
        assert_eq!(seen.config.architecture, "bitnet-b1.58");
        assert_eq!(seen.tokenizer, Some("gguf bpe"));
        assert_eq!(seen.file_bytes, Some(SHAKESPEARE.len() as u64));
        // A few megabytes at most: it is part of every copy of the program.
        assert!(SHAKESPEARE.len() < 4 << 20);
        // As many zeroes as training leaves, and neither sign is rare.
        let checkpoint = ModelName::Builtin
            .checkpoint(0, &FileOptions::default())
            .unwrap();
        let linear = checkpoint.linear(0, file::Linear::Gate).unwrap();
        let mut counts = [0usize; 3];
        let mut codes = vec![0i8; linear.rows() * linear.k()];
        linear.read_codes(0..linear.rows(), &mut codes).unwrap();
        for code in codes {
            counts[usize::try_from(code + 1).unwrap()] += 1;
        }
        let total: usize = counts.iter().sum();
        for count in counts {
            let share = count as f64 / total as f64;
            assert!((0.2..0.5).contains(&share), "{counts:?}");
        }
    }
}
