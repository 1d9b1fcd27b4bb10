//! How a model is run.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use trit_kernel::Cpu;
use trit_kernels::TuneTable;

use crate::cache::PackedCache;
use crate::error::EngineError;
use crate::file::FileOptions;

macro_rules! choice {
    ($(#[$meta:meta])* $name:ident, $option:literal, $want:literal { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            /// The word on the command line and in rows.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = EngineError;

            fn from_str(text: &str) -> Result<Self, EngineError> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(EngineError::Option { option: $option, value: text.to_owned(), want: $want }),
                }
            }
        }
    };
}

choice! {
    /// Type of the numbers in the KV cache.
    KvType, "--kv", "f16, f32 or i8" {
        /// Half floats.
        #[default]
        F16 = "f16",
        /// Floats.
        F32 = "f32",
        /// Int8 codes with an f32 scale for each position and head: the absmax quantizer of the activations.
        I8 = "i8",
    }
}

impl KvType {
    /// Bytes of the key (or the value) of one position in a head of `dim` features.
    pub const fn bytes(self, dim: usize) -> usize {
        match self {
            Self::F16 => 2 * dim,
            Self::F32 => 4 * dim,
            Self::I8 => dim + size_of::<f32>(),
        }
    }
}

choice! {
    /// Type of the output head.
    HeadType, "--head", "f16, f16-plain, f16-top, f32, i8, q6_k or q4_0" {
        /// Half floats: exact for F16 files; BF16, F32 and quantized heads are rounded to it. Where they were BF16 numbers, they are held
        /// in twelve bits each, without loss.
        #[default]
        F16 = "f16",
        /// Half floats in sixteen bits: the same numbers.
        F16Plain = "f16-plain",
        /// `Q6_K` blocks for all tokens, and half floats for those that may be the best, which are read in the file: the best token and its
        /// logit are those of `f16`, and so is greedy text without a repetition penalty.
        F16Top = "f16-top",
        /// Floats: exact for every file, twice the bytes.
        F32 = "f32",
        /// Int8 codes with an f32 scale for each row: lossy.
        I8 = "i8",
        /// Blocks of 256, 6.56 bits a weight: exact for `Q6_K` files, else lossy.
        Q6K = "q6_k",
        /// Blocks of 32, 4.5 bits a weight: exact for `Q4_0` files, else lossy.
        Q4_0 = "q4_0",
    }
}

choice! {
    /// What the inputs of the ternary projections are rounded to.
    ActivationType, "--activations", "i8 or f32" {
        /// Int8 codes with a scale for each token, as the models are trained: exact integer products.
        #[default]
        I8 = "i8",
        /// Not at all: what quantizing them costs. A slow reference without a kernel, and a byte for each weight.
        F32 = "f32",
    }
}

/// How a model is run.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The kernel for prefill and decode; when `None`, the best by `tune`, or else by the order of the registry.
    pub kernel: Option<String>,
    /// What was measured on this machine.
    pub tune: Option<Arc<TuneTable>>,
    /// Threads of the team.
    pub threads: usize,
    /// Type of the KV cache.
    pub kv: KvType,
    /// Type of the output head.
    pub head: HeadType,
    /// What the inputs of the projections are rounded to.
    pub activations: ActivationType,
    /// Tokens of one prefill chunk.
    pub ubatch: usize,
    /// Which instruction sets may be used.
    pub cpu: Cpu,
    /// What the model file does not say about itself.
    pub file: FileOptions,
    /// Where packed weights are kept for the next time, where that is wanted.
    pub cache: Option<PackedCache>,
    /// Most bytes that weights, KV cache and buffers may have together. Known before any of them is read or allocated.
    pub max_memory_bytes: Option<u64>,
}

impl EngineOptions {
    /// Tokens of one prefill chunk unless asked otherwise.
    pub const UBATCH: usize = 512;

    /// The defaults on `threads` threads of `cpu`.
    pub fn new(threads: usize, cpu: Cpu) -> Self {
        Self {
            kernel: None,
            tune: None,
            threads,
            kv: KvType::default(),
            head: HeadType::default(),
            activations: ActivationType::default(),
            ubatch: Self::UBATCH,
            cpu,
            file: FileOptions::default(),
            cache: None,
            max_memory_bytes: None,
        }
    }

    /// Whether every number is one that an engine can have.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let counts = [("--threads", self.threads), ("--ubatch", self.ubatch)];
        match counts.into_iter().find(|(_, value)| *value == 0) {
            Some((option, value)) => Err(EngineError::Option {
                option,
                value: value.to_string(),
                want: "a number above 0",
            }),
            None => Ok(()),
        }
    }
}
