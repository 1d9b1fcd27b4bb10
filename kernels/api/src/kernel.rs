//! The trait that every ternary kernel implements.

use std::fmt;
use std::ops::Range;

use crate::{Activations, Cpu, GemmArgs, Isa, LayoutId, Unavailable};

/// The crate a kernel comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Scalar definition and portable fallbacks.
    Naive,
    /// Table look-up.
    Lut,
    /// 256-bit multiply-add.
    Avx2,
    /// 512-bit multiply-add and VNNI.
    Avx512,
    /// AMX tiles.
    Amx,
    /// `AArch64`.
    Neon,
    /// Dense baselines.
    Dense,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Naive => "naive",
            Self::Lut => "lut",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
            Self::Neon => "neon",
            Self::Dense => "dense",
        })
    }
}

/// What a kernel promises about its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accuracy {
    /// Equal to the exact integer sum for every input.
    Exact,
    /// Each output differs from the exact sum by at most this amount for each input feature.
    BoundedPerFeature(i32),
}

/// The constant facts of a kernel.
#[derive(Debug)]
pub struct KernelInfo {
    /// `w<bits>a8-<method>-<isa>[-variant]`.
    pub id: &'static str,
    /// The crate it comes from.
    pub family: Family,
    /// The instruction set it needs.
    pub isa: Isa,
    /// The packed forms it reads, best first.
    pub accepts: &'static [LayoutId],
    /// Exact, or bounded.
    pub accuracy: Accuracy,
    /// Fewest tokens for which the kernel is meant: 1 for GEMV kernels, more for tile kernels.
    /// Any token count gives the right answer.
    pub min_tokens: usize,
    /// One line for `tritbench kernels`.
    pub summary: &'static str,
}

impl KernelInfo {
    /// Stored bits a weight of the preferred layout.
    pub fn weight_bits(&self) -> f64 {
        self.accepts[0].spec().weight_bits
    }
}

/// A ternary kernel that this machine can run: holding one is the proof that its instruction set is there.
///
/// A call has two steps. [`Kernel::prepare`] brings int8 activations into the kernel's own form; it depends
/// on K and on the kernel, never on the weights, so that projections with one input share it.
/// [`Kernel::gemm`] multiplies a range of weight rows with a range of prepared tokens into one contiguous tile.
/// Kernels start no threads and allocate nothing in either step.
///
/// # Prepared form
/// Prepared tokens come in groups of [`Kernel::token_step`]: the group of tokens `g·step..(g+1)·step` takes the
/// bytes `g·B..(g+1)·B` with `B = prepared_group_bytes(k)`, so threads can prepare disjoint groups.
pub trait Kernel: Send + Sync {
    /// The constant facts.
    fn info(&self) -> &'static KernelInfo;

    /// The number of weight rows whose multiple is the best split between threads.
    /// Any row range is right.
    fn row_step(&self) -> usize;

    /// The number of tokens that are prepared together and whose multiple is the best split.
    fn token_step(&self) -> usize;

    /// Bytes of one prepared group of [`Kernel::token_step`] tokens of `k` features; a multiple of 64.
    fn prepared_group_bytes(&self, k: usize) -> usize;

    /// Brings the tokens `groups · token_step` into the kernel's form. `out` holds exactly these groups and is
    /// 64-byte aligned; groups beyond the last token are padded with zero activations.
    ///
    /// # Panics
    /// When `out` is not `groups.len() · prepared_group_bytes(k)` bytes long.
    fn prepare(&self, activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]);

    /// Bytes of scratch that one thread needs for a call with `k` features and at most `rows` x `tokens` outputs.
    fn scratch_bytes(&self, k: usize, rows: usize, tokens: usize) -> usize;

    /// `args.out[(t − tokens.start) · rows.len() + (r − rows.start)] = Σ_k act[t, k] · weight[r, k]` for all `t` in
    /// `args.tokens` and all `r` in `args.rows`. Writes all of `out` and nothing else.
    ///
    /// # Panics
    /// When the arguments do not fit each other (see [`GemmArgs::check`]).
    fn gemm(&self, args: GemmArgs<'_>);
}

/// One line of the registry: a kernel that exists, whether or not this machine can run it.
#[derive(Clone, Copy)]
pub struct KernelEntry {
    /// The constant facts.
    pub info: &'static KernelInfo,
    /// Opens the kernel: checks the CPU under the cap, then executes a probe.
    pub open: fn(Cpu) -> Result<Box<dyn Kernel>, Unavailable>,
}
