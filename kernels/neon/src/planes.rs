//! What the NEON kernels share: all of [`Kernel`] but the products, which are a [`Body`]; rows of [`LayoutId::I2S`], the planes of
//! a register, the walk over tiles.

use std::arch::aarch64::{uint8x16_t, vandq_u8, vdupq_n_u8, vld1q_u8, vshrq_n_u8};
use std::ops::Range;

use trit_kernel::{
    Activations, GemmArgs, Kernel, KernelInfo, LayoutId, Packed, PaddedToken, Unavailable,
};

/// Columns of a block, and the activations it meets.
pub(crate) const BLOCK: usize = 128;
/// Bytes of a block of one row.
pub(crate) const BLOCK_BYTES: usize = 32;

/// Rows of a tile.
pub(crate) const ROWS: usize = 4;

/// What differs between the kernels. A value is the proof that the instruction set is there.
pub(crate) trait Body: Send + Sync + 'static {
    /// The constant facts.
    const INFO: &'static KernelInfo;
    /// Tokens that are prepared together.
    const TOKEN_STEP: usize = 1;

    /// As [`Kernel::prepared_group_bytes`].
    fn group_bytes(k: usize) -> usize {
        PaddedToken::bytes(LayoutId::I2S.padded_k(k))
    }

    /// As [`Kernel::prepare`].
    fn prepare(activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]) {
        let padded_k = LayoutId::I2S.padded_k(activations.k());
        PaddedToken::prepare(activations, padded_k, groups, out);
    }

    /// As [`Kernel::gemm`], with arguments that were checked.
    fn gemm(&self, args: GemmArgs<'_>);
}

/// A kernel made of a body.
struct Planes<B>(B);

/// The kernel, if a small product comes out right.
pub(crate) fn open<B: Body>(body: B) -> Result<Box<dyn Kernel>, Unavailable> {
    let kernel = Planes(body);
    if trit_kernel::probe(&kernel, 7, 150, 5) {
        Ok(Box::new(kernel))
    } else {
        Err(Unavailable::Probe(B::INFO.isa))
    }
}

impl<B: Body> Kernel for Planes<B> {
    fn info(&self) -> &'static KernelInfo {
        B::INFO
    }

    fn row_step(&self) -> usize {
        ROWS
    }

    fn token_step(&self) -> usize {
        B::TOKEN_STEP
    }

    fn prepared_group_bytes(&self, k: usize) -> usize {
        B::group_bytes(k)
    }

    fn prepare(&self, activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]) {
        B::prepare(activations, groups, out);
    }

    fn scratch_bytes(&self, _k: usize, _rows: usize, _tokens: usize) -> usize {
        0
    }

    fn gemm(&self, args: GemmArgs<'_>) {
        args.check(B::INFO, 0);
        self.0.gemm(args);
    }
}

/// The bytes of `R` rows from `row` on.
pub(crate) fn rows<const R: usize>(weights: &Packed, row: usize) -> [&[u8]; R] {
    let bytes = LayoutId::I2S.group_bytes(weights.k());
    std::array::from_fn(|r| &weights.bytes()[(row + r) * bytes..(row + r + 1) * bytes])
}

/// Sixteen bytes of a row.
///
/// # Panics
/// When fewer are there.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn load(bytes: &[u8], at: usize) -> uint8x16_t {
    let bytes = &bytes[at..at + 16];
    // SAFETY: the slice has sixteen bytes.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// The codes of the four planes of sixteen packed bytes: plane `q` holds the columns 32 q further on.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn planes(packed: uint8x16_t) -> [uint8x16_t; 4] {
    let mask = vdupq_n_u8(3);
    [
        vshrq_n_u8::<6>(packed),
        vandq_u8(vshrq_n_u8::<4>(packed), mask),
        vandq_u8(vshrq_n_u8::<2>(packed), mask),
        vandq_u8(packed, mask),
    ]
}

/// Cuts `range` into pieces of `step` and visits the odd ones at the end singly: `visit(start, whole)`.
pub(crate) fn pieces(range: Range<usize>, step: usize, mut visit: impl FnMut(usize, bool)) {
    let whole = range.len() / step * step;
    for start in (range.start..range.start + whole).step_by(step) {
        visit(start, true);
    }
    for start in range.start + whole..range.end {
        visit(start, false);
    }
}
