//! The second trait: dense baselines, f32 in and f32 out.

use std::ops::Range;

use crate::{Cpu, Family, Isa, Storage, Unavailable};

/// How a dense baseline stores its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DenseFormat {
    /// 32-bit floats.
    F32,
    /// IEEE half floats.
    F16,
    /// Int8 with one scale a row.
    I8,
    /// 4-bit blocks of 32 with one f16 scale each (4.5 bits a weight).
    Q4,
}

impl DenseFormat {
    /// The name in kernel ids and in the `layout` column.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "i8",
            Self::Q4 => "q4",
        }
    }

    /// Stored bits a weight, scales of blocks included.
    pub const fn weight_bits(self) -> f64 {
        match self {
            Self::F32 => 32.0,
            Self::F16 => 16.0,
            Self::I8 => 8.0,
            Self::Q4 => 4.5,
        }
    }
}

/// Weights in the packed form of one dense kernel. Cloning shares the packed bytes.
#[derive(Clone, Debug)]
pub struct DenseWeights {
    /// The kernel that packed them; no other may read them.
    pub kernel: &'static str,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub k: usize,
    /// The packed bytes, 64-byte aligned.
    pub data: Storage,
    /// One scale a row where the format has them, else empty.
    pub row_scales: Vec<f32>,
}

/// The constant facts of a dense kernel.
#[derive(Debug)]
pub struct DenseInfo {
    /// `<f32|f16|i8|q4>-dense-<isa>`.
    pub id: &'static str,
    /// How weights are stored.
    pub format: DenseFormat,
    /// The instruction set it needs.
    pub isa: Isa,
    /// One line for `tritbench kernels`.
    pub summary: &'static str,
}

impl DenseInfo {
    /// Always [`Family::Dense`].
    pub const fn family(&self) -> Family {
        Family::Dense
    }
}

/// The arguments of [`DenseKernel::gemm`].
#[derive(Debug)]
pub struct DenseArgs<'a> {
    /// Weights packed by the same kernel.
    pub weights: &'a DenseWeights,
    /// Activations prepared by the same kernel: all groups, 64-byte aligned.
    pub prepared: &'a [u8],
    /// Weight rows to compute.
    pub rows: Range<usize>,
    /// Tokens to compute.
    pub tokens: Range<usize>,
    /// At least [`DenseKernel::scratch_bytes`] bytes, 64-byte aligned.
    pub scratch: &'a mut [u8],
    /// `tokens.len()` x `rows.len()`, token-major.
    pub out: &'a mut [f32],
}

/// A dense baseline: `out[t, r] = Σ_k act[t, k] · weight[r, k]` in floats, with whatever quantisation its format
/// needs inside the time. With ternary weights of scale 1 and integer activations that hold a ±127 (or nothing but zeros),
/// so that their quantisation is the identity, f32, f16 and i8 are exact, since `K · 127 < 2^24`. q4 is exact but for the
/// rounding of its scales to f16 and of its sums to f32: the error is below `2^-11 · Σ|act|`.
///
/// Unlike those of ternary kernels, the last bits of a result may depend on the kernel and on whether one token or several
/// are computed.
pub trait DenseKernel: Send + Sync {
    /// The constant facts.
    fn info(&self) -> &'static DenseInfo;

    /// Packs `rows` x `k` row-major weights.
    fn pack(&self, weights: &[f32], rows: usize, k: usize) -> DenseWeights;

    /// Row multiple for the best split between threads; any range is right.
    fn row_step(&self) -> usize;

    /// Tokens that are prepared together, as in [`crate::Kernel::token_step`].
    fn token_step(&self) -> usize;

    /// Bytes of one prepared group of tokens; a multiple of 64.
    fn prepared_group_bytes(&self, k: usize) -> usize;

    /// Prepares the groups `groups` of `tokens` x `k` row-major activations, as in [`crate::Kernel::prepare`].
    fn prepare(
        &self,
        activations: &[f32],
        tokens: usize,
        k: usize,
        groups: Range<usize>,
        out: &mut [u8],
    );

    /// Bytes of scratch one thread needs.
    fn scratch_bytes(&self, k: usize, rows: usize, tokens: usize) -> usize;

    /// Computes one tile.
    ///
    /// # Panics
    /// When the arguments do not fit each other.
    fn gemm(&self, args: DenseArgs<'_>);
}

/// One line of the registry of baselines.
#[derive(Clone, Copy)]
pub struct DenseEntry {
    /// The constant facts.
    pub info: &'static DenseInfo,
    /// Opens the kernel.
    pub open: fn(Cpu) -> Result<Box<dyn DenseKernel>, Unavailable>,
}
