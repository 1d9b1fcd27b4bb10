//! Model files, tokenizer, transformer, sampling, generation.
//!
//! ```no_run
//! use trit_engine::{Engine, EngineOptions};
//! use trit_kernel::Cpu;
//!
//! let engine = Engine::open("model.gguf".as_ref(), &EngineOptions::new(2, Cpu::from_env()?))?;
//! let mut session = engine.session(64)?;
//! let logits = session.prefill(&[1, 2, 3])?;
//! assert_eq!(logits.len(), engine.config().vocab);
//! # Ok::<(), trit_engine::EngineError>(())
//! ```
#![forbid(unsafe_code)]

mod attention;
mod batch;
mod cache;
pub mod chat;
pub mod convert;
#[cfg(test)]
mod disk;
mod error;
mod extra;
pub mod file;
mod forward;
mod generate;
mod head;
pub mod inspect;
mod kv;
mod memory;
mod model;
mod name;
mod narrow;
mod options;
mod profile;
mod sampler;
mod session;
pub mod synth;
mod tokenizer;
mod top;
mod weights;

pub use batch::Batch;
pub use cache::{CacheUse, PackedCache};
pub use error::EngineError;
pub use extra::ExtraWork;
pub use generate::{Generated, Generation, generate};
pub use memory::Memory;
pub use model::Engine;
pub use name::{ModelName, NameError};
pub use options::{ActivationType, EngineOptions, HeadType, KvType};
pub use profile::{Profile, Role, Spent, ZERO_BLOCK, Zeros};
pub use sampler::{Sampler, SamplerOptions, largest};
pub use session::Session;
pub use tokenizer::{Detokenizer, Tokenizer};
