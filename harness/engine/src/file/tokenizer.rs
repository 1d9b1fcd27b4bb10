//! What a model file says about its vocabulary.

use std::path::PathBuf;

/// The vocabulary of a model, as its container holds it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TokenizerSource {
    /// The `tokenizer.json` of a Hugging Face folder.
    Json(PathBuf),
    /// GGUF's `tokenizer.ggml.model` = `gpt2`: byte-level BPE.
    GgufBpe {
        /// Text of every token in byte-level spelling; as many as the model's vocabulary.
        tokens: Vec<String>,
        /// Merges `left right`, best first.
        merges: Vec<String>,
        /// [`token_type`] of every token; empty when the file has none.
        token_types: Vec<i32>,
        /// `tokenizer.ggml.pre`; where it is missing `llama-bpe` is meant.
        pre: Option<String>,
    },
    /// GGUF's `tokenizer.ggml.model` = `llama`: SentencePiece.
    GgufSentencePiece {
        /// Text of every token, with `▁` for the blank; as many as the model's vocabulary.
        tokens: Vec<String>,
        /// Log probability (or negated rank) of every token.
        scores: Vec<f32>,
        /// [`token_type`] of every token; empty when the file has none.
        token_types: Vec<i32>,
        /// `tokenizer.ggml.unknown_token_id`.
        unknown: Option<u32>,
        /// `tokenizer.ggml.add_space_prefix`; true where it is missing.
        add_space_prefix: bool,
    },
    /// The model has no vocabulary: it takes token ids only.
    None,
}

/// The values of `tokenizer.ggml.token_type`.
pub mod token_type {
    /// Plain text.
    pub const NORMAL: i32 = 1;
    /// Stands for what the vocabulary cannot spell.
    pub const UNKNOWN: i32 = 2;
    /// Never part of text, such as the begin of a sequence.
    pub const CONTROL: i32 = 3;
    /// Added by whoever made the model; matched before anything else.
    pub const USER_DEFINED: i32 = 4;
    /// Reserved.
    pub const UNUSED: i32 = 5;
    /// One byte, spelled `<0xAB>`.
    pub const BYTE: i32 = 6;
}
