//! Why a model could not be loaded or run.

use trit_kernel::{PackError, ParseIsaError, Unavailable};
use trit_kernels::UnknownKernel;
use trit_measure::TeamError;

use crate::file::FileError;
use crate::memory::{Mb, Memory};

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model file is at fault, or the system that should read it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The threads could not be started.
    #[error(transparent)]
    Team(#[from] TeamError),
    /// No kernel has the id asked for.
    #[error(transparent)]
    UnknownKernel(#[from] UnknownKernel),
    /// `TRIT_ISA` names no instruction set.
    #[error(transparent)]
    Isa(#[from] ParseIsaError),
    /// The kernel asked for does not run here.
    #[error(
        "kernel `{id}` is unavailable: {reason}; hint: `tritbench kernels` lists those that run here"
    )]
    Unavailable {
        /// The kernel.
        id: String,
        /// Why not.
        reason: Unavailable,
    },
    /// A matrix cannot be packed for the kernel.
    #[error("tensor `{tensor}` cannot be packed: {source}")]
    Pack {
        /// The tensor.
        tensor: String,
        /// Why not.
        source: PackError,
    },
    /// An option has a value that means nothing.
    #[error("{option}: `{value}` is not {want}")]
    Option {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        want: &'static str,
    },
    /// A buffer does not fit in memory.
    #[error(
        "{what} need {want_bytes} bytes, and {available_bytes} are available; hint: ask for fewer positions or a smaller model"
    )]
    Memory {
        /// Which buffers.
        what: &'static str,
        /// Bytes they take.
        want_bytes: u64,
        /// Bytes the system has.
        available_bytes: u64,
    },
    /// More memory than was allowed.
    #[error(
        "the model needs {} of memory and may have {}: {needs}; hint: allow more with --max-memory, or ask for fewer tokens, a smaller head (--head) or KV cache (--kv), or a kernel of fewer bits",
        Mb(needs.sum()), Mb(*most_bytes)
    )]
    MaxMemory {
        /// What it needs, part by part.
        needs: Memory,
        /// Bytes it may have.
        most_bytes: u64,
    },
    /// The system gave no memory.
    #[error("{what} need {want_bytes} bytes that the system does not give: {source}")]
    Allocation {
        /// Which buffers.
        what: &'static str,
        /// Bytes they take.
        want_bytes: u64,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Nothing to run.
    #[error("the token list is empty; hint: give at least one token or a prompt")]
    NoTokens,
    /// A token that the model does not have.
    #[error("token {token} is outside of the vocabulary of {vocab}")]
    Token {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A step of a batch takes one token of each sequence.
    #[error("{tokens} tokens for {sequences} sequences; hint: a step takes one token of each")]
    Batch {
        /// Tokens that were given.
        tokens: usize,
        /// Sequences of the batch.
        sequences: usize,
    },
    /// More positions than the session has.
    #[error(
        "{want} positions do not fit in a session of {have}; hint: generate fewer tokens or open a longer session"
    )]
    Positions {
        /// Positions needed.
        want: usize,
        /// Positions of the session.
        have: usize,
    },
    /// More positions than the model was made for.
    #[error("{want} positions exceed the context of the model, {context}")]
    Context {
        /// Positions asked for.
        want: usize,
        /// The model's limit.
        context: usize,
    },
    /// The model has no vocabulary.
    #[error(
        "the model has no tokenizer; hint: give token ids with --tokens, or put tokenizer.json beside the model"
    )]
    NoTokenizer,
    /// The vocabulary cannot be used.
    #[error("the tokenizer of the model cannot be used: {0}")]
    Tokenizer(String),
    /// Logits that are not numbers.
    #[error(
        "the logits hold NaN, so there is no next token; hint: the weights or scales of the model are damaged"
    )]
    NanLogits,
}

/// Refuses what does not fit in the memory that the system has left; where it does not say, nothing is refused.
pub(crate) fn check_memory(what: &'static str, want_bytes: u64) -> Result<(), EngineError> {
    match trit_measure::available_bytes() {
        Some(available_bytes) if want_bytes > available_bytes => Err(EngineError::Memory {
            what,
            want_bytes,
            available_bytes,
        }),
        _ => Ok(()),
    }
}

/// Linux says how much memory it has left.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn more_memory_than_there_is_is_refused_with_both_sizes() {
        check_memory("the weights", 1).unwrap();
        let error = check_memory("the weights", u64::MAX).unwrap_err();
        assert!(matches!(error, EngineError::Memory { .. }));
        let text = error.to_string();
        assert!(
            text.contains("the weights") && text.contains(&u64::MAX.to_string()),
            "{text}"
        );
    }
}
