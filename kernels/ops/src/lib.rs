//! Float operations of the engine and the limits of the machine.
//!
//! # One order on every instruction set
//! The results of [`Ops`] are equal to the bit on every implementation (a NaN is a NaN; its payload is not fixed), because
//! each reduction has one stated order:
//!
//! * **Lanes**: a sum over `n` products uses 16 virtual lanes that start at +0. Element `i` is added to lane `i mod 16` in
//!   order of `i` with a fused multiply-add (where `n` is no multiple of 16, zeros fill it up); then lanes `j` and `j + 8`
//!   are added, then `j + 4`, `j + 2`, `j + 1`.
//! * **Columns**: where several outputs are computed at once (attention: scores over features, and sums of values over positions),
//!   each output is a sequential sum from +0 with fused multiply-adds, one output a lane.
//! * **Blocks**: products with [`Blocks`] are exact integers over 16 columns; these are added up in f32 in the order of columns with fused
//!   multiply-adds by their scale, from +0 in each block, and blocks in their order by `d`; one row a lane. `src/blocks.rs` says more.
//! * `exp` is this crate's own polynomial, made of fused multiply-adds in one order.
//!
//! Divisions, square roots and conversions are IEEE operations and need no rule. Signalling NaN are outside of the contract: no
//! operation makes one, and readers refuse weights that are not finite. Maxima ignore NaN.
#![expect(
    clippy::inline_always,
    reason = "the generic operations must become part of the function that enables the instruction set"
)]

mod attend;
mod blocks;
mod lanes;
mod many;
pub mod narrow;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod probe;
mod scalar;
mod simd;
#[cfg(target_arch = "x86_64")]
mod x86;

use half::f16;
use trit_kernel::{Cpu, Isa};

pub use crate::blocks::{BlockType, Blocks, Digits};
use crate::narrow::Narrow;
use crate::scalar::Scalar;
use crate::simd::Simd;

/// A key or value cache of one head, or a weight row block: numbers in one of three types.
#[derive(Clone, Copy, Debug)]
pub enum Floats<'a> {
    /// 32-bit.
    F32(&'a [f32]),
    /// 16-bit.
    F16(&'a [f16]),
    /// 8-bit codes, and a scale for each row (a position of a cache, an output of a head): a number is `code · scale`.
    I8(&'a [i8], &'a [f32]),
}

impl Floats<'_> {
    /// How many numbers there are.
    pub const fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
            Self::I8(x, _) => x.len(),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Positions of a block of keys: `[block][feature][position of the block]`, so that the keys of a block are the lanes of a vector.
pub const KEY_BLOCK: usize = simd::LANES;

/// Rows of queries that go through a cache together: a call of as many is the fastest a row.
pub const QUERY_ROWS: usize = 8;

/// One attention call: `heads` query heads that share one key and value head, of one token, or of several that follow each
/// other. Keys and values are those of whole blocks of [`KEY_BLOCK`] positions, up to the last that the last token sees; the rest of
/// the last block is not used, whatever it holds.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// `heads` x `dim` queries of each token.
    pub queries: &'a [&'a [f32]],
    /// Positions that the first token sees; each further token sees one more.
    pub positions: usize,
    /// `blocks` x `dim` x [`KEY_BLOCK`] keys.
    pub keys: Floats<'a>,
    /// `positions` x `dim` values.
    pub values: Floats<'a>,
    /// Features of a head.
    pub dim: usize,
    /// What the scores are multiplied by: `1 / sqrt(dim)`.
    pub scale: f32,
}

impl Attention<'_> {
    /// Floats of scratch memory for a call of `rows` heads of all tokens together, the last of which sees `positions`.
    pub const fn scratch(rows: usize, positions: usize) -> usize {
        let rows = if rows < QUERY_ROWS { rows } else { QUERY_ROWS };
        rows * positions.next_multiple_of(KEY_BLOCK)
    }
}

/// The float operations. All slices of one call have the lengths their names imply; a mismatch panics.
pub trait Ops: Send + Sync {
    /// The instruction set of this implementation.
    fn isa(&self) -> Isa;

    /// `Σ a·b` (lanes).
    fn dot(&self, a: &[f32], b: &[f32]) -> f32;

    /// `Σ x²` (lanes).
    fn sum_squares(&self, x: &[f32]) -> f32 {
        self.dot(x, x)
    }

    /// RMSNorm: `out = x · (1 / sqrt(Σx²/n + eps)) · weight`, multiplied in this order.
    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);

    /// Per-token absmax int8 quantization; equal to [`trit_kernel::quantize_row`]. Returns the scale.
    fn quantize(&self, x: &[f32], out: &mut [i8]) -> f32;

    /// `out = sums / activation_scale · weight_scale`, in this order.
    fn dequantize(&self, sums: &[i32], activation_scale: f32, weight_scale: f32, out: &mut [f32]);

    /// `x += y`.
    fn add(&self, x: &mut [f32], y: &[f32]);

    /// `gate = max(gate, 0)² · up`; the maximum of NaN is 0.
    fn relu2_mul(&self, gate: &mut [f32], up: &[f32]);

    /// `gate = gate / (1 + exp(−gate)) · up`.
    fn silu_mul(&self, gate: &mut [f32], up: &[f32]);

    /// `x = exp(x)`, within 1.1 ulp of the true value; 0 below −87.3365 (the result would not be a normal number) and
    /// infinite above 88.72283 (the largest argument whose result is finite, but for one step).
    fn exp(&self, x: &mut [f32]);

    /// Rotates each head of `x` by half rotation: for `i < dim/2`, the pair `(x[i], x[i + dim/2])` becomes
    /// `(x[i]·cos[i] − x[i+dim/2]·sin[i], x[i+dim/2]·cos[i] + x[i]·sin[i])`, each as `fma(a, cos, ∓(b·sin))`.
    /// `cos` and `sin` have `dim/2` entries; `x` is `heads` x `dim`.
    fn rope(&self, x: &mut [f32], cos: &[f32], sin: &[f32]);

    /// Attention: scores (columns) · scale, weights `exp(score − maximum)` over positions, weighted sum of values (columns) divided by
    /// the sum of the weights (lanes). With int8 codes a score is `(sum · scale of the key) · scale`, and a weight is multiplied with
    /// the scale of its value after it was summed. `scratch` has room for [`Attention::scratch`]; `out` is `heads` x `dim` of each
    /// token, zeros where it sees no positions. A token has the same bits alone and beside others.
    fn attention(&self, call: Attention<'_>, scratch: &mut [f32], out: &mut [&mut [f32]]);

    /// Softmax in place: maximum, `exp(x − max)`, sum (lanes), division.
    fn softmax(&self, x: &mut [f32]);

    /// `out[r] = Σ_k weights[r, k] · x[k]` (lanes) for `out.len()` rows: the output head. With int8 codes the sum is over
    /// codes, and is multiplied with the scale of the row.
    fn rows_dot(&self, weights: Floats<'_>, x: &[f32], out: &mut [f32]);

    /// [`Self::rows_dot`] for `out.len() / rows` inputs of `k` numbers, one behind the other in `xs` as their outputs are in `out`: equal
    /// to the bit to a call for each, and weights are read and converted once for several of them.
    fn rows_dot_all(&self, weights: Floats<'_>, rows: usize, xs: &[f32], out: &mut [f32]);

    /// The inputs `xs` of `k` numbers each, for products with blocks of type `kind`; two digits hold 2^-15 of the largest number
    /// of an input. An input with NaN or infinities has NaN products.
    fn digits(&self, kind: BlockType, k: usize, xs: &[f32], to: &mut Digits);

    /// Products of `rows` rows of blocks with each of `inputs`; the outputs of an input stand together. Sums are exact over 16 columns,
    /// and then sequential in columns, one row a lane (blocks).
    fn rows_dot_blocks(&self, weights: Blocks<'_>, rows: usize, inputs: &Digits, out: &mut [f32]);

    /// [`Self::rows_dot`] of narrow halves: equal to the bit to that of the halves they stand for.
    fn rows_dot_narrow(&self, weights: Narrow<'_>, x: &[f32], out: &mut [f32]);

    /// [`Self::rows_dot_all`] of narrow halves, likewise.
    fn rows_dot_all_narrow(&self, weights: Narrow<'_>, xs: &[f32], out: &mut [f32]);

    /// Writes a row of halves as narrow ones, adds those that do not fit with their columns to `misfits`, and returns the base of the row.
    /// `row` is whole groups of at most [`narrow::MAX_COLUMNS`] numbers.
    fn narrow_row(&self, row: &[f16], groups: &mut [u8], misfits: &mut Vec<(u16, f16)>) -> u8;

    /// Rounds to half precision, to nearest even.
    fn to_f16(&self, x: &[f32], out: &mut [f16]);
}

/// Implements [`Ops`] for the lanes of one instruction set: each method becomes one function with the attribute `$attr`
/// that enables the instruction set, and into which the generic operation is inlined.
macro_rules! implement {
    ($lanes:ty, $attr:meta $(, $products:ident: $products_attr:meta)?) => {
        impl Ops for $lanes {
            fn isa(&self) -> Isa {
                <$lanes as Simd>::ISA
            }

            fn rows_dot_blocks(&self, weights: Blocks<'_>, rows: usize, inputs: &Digits, out: &mut [f32]) {
                #[$attr]
                unsafe fn run(s: $lanes, weights: Blocks<'_>, rows: usize, inputs: &Digits, out: &mut [f32]) {
                    blocks::rows_dot(s, s, weights, rows, inputs, out);
                }
                $(
                    #[$products_attr]
                    unsafe fn $products(
                        s: $lanes,
                        p: impl blocks::Products<$lanes>,
                        weights: Blocks<'_>,
                        rows: usize,
                        inputs: &Digits,
                        out: &mut [f32],
                    ) {
                        blocks::rows_dot(s, p, weights, rows, inputs, out);
                    }
                    if let Some(p) = self.$products() {
                        // SAFETY: these exist only where both their instruction sets can be executed.
                        return unsafe { $products(*self, p, weights, rows, inputs, out) };
                    }
                )?
                // SAFETY: as below.
                unsafe { run(*self, weights, rows, inputs, out) }
            }

            implement! { @ $lanes, $attr,
                fn dot(a: &[f32], b: &[f32]) -> f32 = lanes::dot;
                fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) -> () = lanes::rms_norm;
                fn quantize(x: &[f32], out: &mut [i8]) -> f32 = lanes::quantize;
                fn dequantize(sums: &[i32], activation_scale: f32, weight_scale: f32, out: &mut [f32]) -> ()
                    = lanes::dequantize;
                fn add(x: &mut [f32], y: &[f32]) -> () = lanes::add;
                fn relu2_mul(gate: &mut [f32], up: &[f32]) -> () = lanes::relu2_mul;
                fn silu_mul(gate: &mut [f32], up: &[f32]) -> () = lanes::silu_mul;
                fn exp(x: &mut [f32]) -> () = lanes::exp;
                fn rope(x: &mut [f32], cos: &[f32], sin: &[f32]) -> () = lanes::rope;
                fn attention(call: Attention<'_>, scratch: &mut [f32], out: &mut [&mut [f32]]) -> () = attend::attention;
                fn softmax(x: &mut [f32]) -> () = lanes::softmax;
                fn rows_dot(weights: Floats<'_>, x: &[f32], out: &mut [f32]) -> () = lanes::rows_dot;
                fn rows_dot_all(weights: Floats<'_>, rows: usize, xs: &[f32], out: &mut [f32]) -> () = many::rows_dot_all;
                fn digits(kind: BlockType, k: usize, xs: &[f32], to: &mut Digits) -> () = blocks::digits;
                fn rows_dot_narrow(weights: Narrow<'_>, x: &[f32], out: &mut [f32]) -> () = narrow::rows_dot;
                fn rows_dot_all_narrow(weights: Narrow<'_>, xs: &[f32], out: &mut [f32]) -> () = many::rows_dot_narrow;
                fn narrow_row(row: &[f16], groups: &mut [u8], misfits: &mut Vec<(u16, f16)>) -> u8 = narrow::pack;
                fn to_f16(x: &[f32], out: &mut [f16]) -> () = lanes::to_f16;
            }
        }
    };
    (@ $lanes:ty, $attr:meta, $(fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty = $op:path;)*) => {
        $(
            fn $name(&self, $($arg: $type),*) -> $out {
                #[$attr]
                unsafe fn run(s: $lanes, $($arg: $type),*) -> $out {
                    $op(s, $($arg),*)
                }
                // SAFETY: a value of this type exists only where its instruction set can be executed.
                unsafe { run(*self, $($arg),*) }
            }
        )*
    };
}

implement!(Scalar, inline);
#[cfg(target_arch = "x86_64")]
implement!(x86::avx2::Avx2, target_feature(enable = "avx2,fma,f16c"));
#[cfg(target_arch = "x86_64")]
implement!(
    x86::avx512::Avx512,
    target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"),
    vnni: target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
);
#[cfg(target_arch = "aarch64")]
implement!(neon::Neon, target_feature(enable = "neon"));

/// Every implementation that `cpu` can run, the fastest last.
pub fn all(cpu: Cpu) -> Vec<&'static dyn Ops> {
    let scalar: &dyn Ops = &Scalar;
    std::iter::once(scalar).chain(native(cpu)).collect()
}

#[cfg(target_arch = "x86_64")]
fn native(cpu: Cpu) -> impl Iterator<Item = &'static dyn Ops> {
    let avx2 = x86::avx2::Avx2::open(cpu).map(|ops| ops as &dyn Ops);
    let avx512 = x86::avx512::Avx512::open(cpu).map(|ops| ops as &dyn Ops);
    let vnni = x86::avx512::Avx512::open_vnni(cpu).map(|ops| ops as &dyn Ops);
    avx2.into_iter().chain(avx512).chain(vnni)
}

#[cfg(target_arch = "aarch64")]
fn native(cpu: Cpu) -> impl Iterator<Item = &'static dyn Ops> {
    neon::Neon::open(cpu).map(|ops| ops as &dyn Ops).into_iter()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn native(_: Cpu) -> impl Iterator<Item = &'static dyn Ops> {
    std::iter::empty()
}

/// The fastest implementation that `cpu` can run.
pub fn best(cpu: Cpu) -> &'static dyn Ops {
    all(cpu).pop().unwrap_or(&Scalar)
}
