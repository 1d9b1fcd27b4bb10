//! Model files, tokenizer, transformer, sampling, generation.
