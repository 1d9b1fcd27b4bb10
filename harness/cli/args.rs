//! What several commands take: each flag is described here once, so that it means the same everywhere.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use trit_core::{EnergyMode, Generate, MeterChoice, ThreadCount};
use trit_engine::EngineOptions;
use trit_engine::file::{FileOptions, I2sForm, ScaleRule, TlTiles};

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated values with a header
    Csv,
    /// A JSON array with one object a row
    Json,
    /// A Markdown table
    Md,
    /// Aligned columns for reading
    #[default]
    Table,
}

impl From<Format> for trit_report::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv,
            Format::Json => Self::Json,
            Format::Md => Self::Md,
            Format::Table => Self::Table,
        }
    }
}

/// `--format`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FormatArg {
    /// How to print
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

/// `--model`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArg {
    /// A GGUF file, a folder with safetensors, `synth:SHAPE` for seeded random weights (synth:125m, synth:2b4t, ...), or the small
    /// trained model that is part of the program
    #[arg(long, value_name = "PATH", default_value = trit_core::BUILTIN_MODELS[0])]
    pub(crate) model: PathBuf,

    #[command(flatten)]
    pub(crate) expect: ExpectArg,
}

/// `--expect-sha256`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ExpectArg {
    /// Refuse the model unless its file has this SHA-256
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub(crate) expect_sha256: Option<String>,
}

/// 64 digits, in lower case from here on.
fn sha256(text: &str) -> Result<String, String> {
    let digits = text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    digits
        .then(|| text.to_ascii_lowercase())
        .ok_or_else(|| "want 64 hexadecimal digits".to_owned())
}

/// `--kernel`, `--threads` and what else an engine computes with.
#[derive(Args, Clone, Debug)]
pub(crate) struct ComputeArgs {
    /// The kernel to use [default: the best that this machine has; see `tritbench kernels` and `tritbench tune`]
    #[arg(long, value_name = "ID")]
    pub(crate) kernel: Option<String>,

    /// Threads [default: as many CPUs as this process may use, cgroup quota included]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,

    /// The table of `tritbench tune` to choose the kernel by, or `off` [default: this machine's, where there is one]
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    pub(crate) tune: Option<String>,

    /// Tokens of a prompt that go through the model at a time: more take more memory, and the answer is the same
    #[arg(long, value_name = "N", default_value_t = EngineOptions::UBATCH, value_parser = positive)]
    pub(crate) ubatch: usize,

    /// Keep packed weights in this directory, and start from them the next time; for model files
    #[arg(long, value_name = "DIR")]
    pub(crate) packed_cache: Option<PathBuf>,

    /// Refuse a model whose weights, KV cache and buffers together need more than this many megabytes (10^6 bytes)
    #[arg(long, value_name = "MB", value_parser = positive)]
    pub(crate) max_memory: Option<usize>,
}

/// `--head` and `--kv`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PrecisionArgs {
    /// Type of the output head: `f16`, `f16-plain` or `f32`; `f16-top`, whose greedy text is that of `f16` at the price of `q6_k`; or `i8`,
    /// `q6_k` and `q4_0`, which are lossy, and `tritbench eval` says what they cost [default: f16]
    #[arg(long, value_name = "TYPE", value_parser = Generate::HEADS)]
    pub(crate) head: Option<String>,

    /// Type of the KV cache; i8 is lossy
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = Generate::KVS)]
    pub(crate) kv: String,
}

/// What a model file does not say about itself.
#[derive(Args, Clone, Debug)]
pub(crate) struct FileArgs {
    /// How the bytes of `I2_S` tensors are arranged: x86 (every published file), or arm (quantized by ARM builds of bitnet.cpp)
    #[arg(long, value_name = "FORM", default_value = "x86", value_parser = ["x86", "arm"])]
    i2s: String,

    /// Which way the stored scales of packed safetensors go [default: what the configuration implies]
    #[arg(long, value_name = "RULE", value_parser = ["multiply", "divide"])]
    scale_rule: Option<String>,

    /// Tile sizes that TL1 and TL2 tensors were made with, as in the `kernel_config.ini` of bitnet.cpp: ROWSxK=BM/BK/bm, one for
    /// each shape, with commas between them [default: bitnet.cpp's presets, for the shapes that have one]
    #[arg(long, value_name = "LIST")]
    tl_tiles: Option<TlTiles>,
}

impl FileArgs {
    /// For the engine.
    pub(crate) fn options(&self) -> FileOptions {
        FileOptions {
            i2s: if self.i2s == "arm" {
                I2sForm::Arm
            } else {
                I2sForm::X86
            },
            scale_rule: self.scale_rule.as_deref().map(|rule| {
                if rule == "multiply" {
                    ScaleRule::Multiply
                } else {
                    ScaleRule::Divide
                }
            }),
            tl_tiles: self.tl_tiles.unwrap_or_default(),
        }
    }
}

/// How the next token is chosen.
#[derive(Args, Clone, Debug)]
pub(crate) struct SamplingArgs {
    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive)]
    pub(crate) max_tokens: usize,

    /// Divides the logits before sampling; 0 always takes the most likely token
    #[arg(long, value_name = "T", default_value = "0", value_parser = not_negative)]
    pub(crate) temperature: f32,

    /// Sample among the K most likely tokens only; 0 means all
    #[arg(long, value_name = "K", default_value = "0")]
    pub(crate) top_k: usize,

    /// Sample among the most likely tokens that together have this probability
    #[arg(long, value_name = "P", default_value = "1", value_parser = probability)]
    pub(crate) top_p: f32,

    /// Divides (or multiplies, when negative) the logits of tokens that were already used; 1 is off
    #[arg(long, value_name = "R", default_value = "1", value_parser = above_zero)]
    pub(crate) repeat_penalty: f32,

    #[command(flatten)]
    pub(crate) seed: SeedArg,
}

/// `--seed`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SeedArg {
    /// Seed of everything random: the same seed gives the same result
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) seed: u64,
}

/// `--sysfs-root`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SysfsArg {
    /// Where the energy meters are looked up instead of /sys: a mount of the host's sysfs in a container, or a directory with
    /// `sys` (and `proc`) in it
    #[arg(long, value_name = "DIR")]
    pub(crate) sysfs_root: Option<PathBuf>,
}

/// Which energy meter, and where it is.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct MeterArgs {
    #[command(flatten)]
    pub(crate) sysfs: SysfsArg,

    /// The energy meter: auto (perf, then powercap, then hwmon), perf, powercap, hwmon, or external with --energy-log [default:
    /// auto]
    #[arg(long, value_name = "SOURCE", value_parser = meter_choice)]
    pub(crate) energy_source: Option<MeterChoice>,

    /// The log of an external meter: a CSV with times and watts or joules; implies --energy-source external
    #[arg(long, value_name = "FILE")]
    pub(crate) energy_log: Option<PathBuf>,
}

/// The energy pass of a run.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PassArgs {
    /// Whether cells get energy windows after their latency is measured: auto (as many as the suite's energy budget holds), true
    /// (all) or false [default: the suite's]
    #[arg(long, value_name = "WHEN", value_parser = energy_mode)]
    pub(crate) energy: Option<EnergyMode>,

    /// Fail with exit code 6 before anything is timed when there is no energy meter
    #[arg(long)]
    pub(crate) require_energy: bool,

    #[command(flatten)]
    pub(crate) meter: MeterArgs,
}

fn meter_choice(text: &str) -> Result<MeterChoice, String> {
    text.parse()
}

/// `true`, `false` or `auto`.
pub(crate) fn energy_mode(text: &str) -> Result<EnergyMode, String> {
    text.parse()
}

/// A number of threads.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    positive(text)
        .ok()
        .filter(|threads| *threads <= trit_measure::MAX_THREADS)
        .ok_or_else(|| {
            format!(
                "want a whole number from 1 to {}",
                trit_measure::MAX_THREADS
            )
        })
}

/// A whole number from 1.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    text.parse::<NonZeroUsize>()
        .map(NonZeroUsize::get)
        .map_err(|_| "want a whole number from 1".to_owned())
}

/// A finite number.
fn number(text: &str, want: &str, ok: impl Fn(f32) -> bool) -> Result<f32, String> {
    text.parse::<f32>()
        .ok()
        .filter(|value| value.is_finite() && ok(*value))
        .ok_or_else(|| format!("want {want}"))
}

fn not_negative(text: &str) -> Result<f32, String> {
    number(text, "a number from 0", |value| value >= 0.0)
}

fn above_zero(text: &str) -> Result<f32, String> {
    number(text, "a number above 0", |value| value > 0.0)
}

fn probability(text: &str) -> Result<f32, String> {
    number(text, "a number above 0 and at most 1", |value| {
        value > 0.0 && value <= 1.0
    })
}

/// A number of threads, or `all`.
pub(crate) fn thread_count(text: &str) -> Result<ThreadCount, String> {
    if text == "all" {
        return Ok(ThreadCount::All);
    }
    threads(text)
        .map(ThreadCount::Count)
        .map_err(|want| want + ", or all")
}

/// A time such as `90s`, `2m` or `1h30m`.
pub(crate) fn budget(text: &str) -> Result<Duration, String> {
    trit_core::parse_duration(text).map_err(|_| "want a time such as 90s, 2m or 1h30m".to_owned())
}

/// Token ids such as `0,5,7`.
pub(crate) fn token(text: &str) -> Result<u32, String> {
    text.trim()
        .parse()
        .map_err(|_| "want token ids, whole numbers with commas between them".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_have_units() {
        assert_eq!(budget("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(budget("1h30m"), Ok(Duration::from_mins(90)));
        for bad in ["", "0s", "2", "m", "2x", "-1s", "99999999999999h", "µs"] {
            assert!(budget(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(threads("2"), Ok(2));
        for bad in ["0", "-1", "two", "", "1025"] {
            assert!(threads(bad).is_err(), "{bad}");
        }
        assert!(not_negative("-0.1").is_err());
        assert!(not_negative("NaN").is_err());
        assert!(probability("0").is_err());
        assert!(probability("1.01").is_err());
        assert_eq!(probability("0.9"), Ok(0.9));
        assert!(above_zero("inf").is_err());
        assert_eq!(token(" 7"), Ok(7));
        assert!(token("x").is_err());
    }
}
