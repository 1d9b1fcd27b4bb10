//! Model files, tokenizer, transformer, sampling, generation.
#![forbid(unsafe_code)]

pub mod file;
pub mod inspect;
pub mod synth;
