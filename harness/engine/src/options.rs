//! How a model is run.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use trit_kernel::Cpu;
use trit_kernels::TuneTable;

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
    KvType, "--kv", "f16 or f32" {
        /// Half floats.
        #[default]
        F16 = "f16",
        /// Floats.
        F32 = "f32",
    }
}

impl KvType {
    /// Bytes of one number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

choice! {
    /// Type of the output head.
    HeadType, "--head", "f16 or f32" {
        /// Half floats: exact for F16 files; BF16, F32 and quantized heads are rounded to it.
        #[default]
        F16 = "f16",
        /// Floats: exact for every file, twice the bytes.
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
    /// Tokens of one prefill chunk.
    pub ubatch: usize,
    /// Which instruction sets may be used.
    pub cpu: Cpu,
    /// What the model file does not say about itself.
    pub file: FileOptions,
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
            ubatch: Self::UBATCH,
            cpu,
            file: FileOptions::default(),
        }
    }
}
