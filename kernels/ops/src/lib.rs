//! Float operations of the engine and the limits of the machine.
//!
//! # One order on every instruction set
//! The results of [`Ops`] are equal to the bit on every implementation, because each reduction has one stated order:
//!
//! * **Lanes**: a sum over `n` products uses 16 virtual lanes. Element `i` is added to lane `i mod 16` in order of `i` with a
//!   fused multiply-add; then lanes `j` and `j + 8` are added, then `j + 4`, `j + 2`, `j + 1`.
//! * **Columns**: where several outputs are computed at once (weighted sums of value rows), each output is a sequential sum
//!   with fused multiply-adds, one output a lane.
//! * `exp` is this crate's own polynomial, made of fused multiply-adds in one order.
//!
//! Divisions, square roots and conversions are IEEE operations and need no rule.

use half::f16;
use trit_kernel::{Cpu, Isa};

/// A key or value cache of one head, or a weight row block: numbers in one of two types.
#[derive(Clone, Copy, Debug)]
pub enum Floats<'a> {
    /// 32-bit.
    F32(&'a [f32]),
    /// 16-bit.
    F16(&'a [f16]),
}

/// One attention call: `heads` query heads that share one key and value head, over `positions` cached positions.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// `heads` x `dim` queries.
    pub queries: &'a [f32],
    /// `positions` x `dim` keys.
    pub keys: Floats<'a>,
    /// `positions` x `dim` values.
    pub values: Floats<'a>,
    /// Features of a head.
    pub dim: usize,
    /// What the scores are multiplied by: `1 / sqrt(dim)`.
    pub scale: f32,
}

/// The float operations. All slices of one call have the lengths their names imply; a mismatch panics.
pub trait Ops: Send + Sync {
    /// The instruction set of this implementation.
    fn isa(&self) -> Isa;

    /// `Σ a·b` (lanes).
    fn dot(&self, a: &[f32], b: &[f32]) -> f32;

    /// `Σ x²` (lanes).
    fn sum_squares(&self, x: &[f32]) -> f32;

    /// RMSNorm: `out = x · (1 / sqrt(Σx²/n + eps)) · weight`, multiplied in this order.
    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);

    /// Per-token absmax int8 quantization; equal to [`trit_kernel::quantize_row`]. Returns the scale.
    fn quantize(&self, x: &[f32], out: &mut [i8]) -> f32;

    /// `out = sums / activation_scale · weight_scale`, in this order.
    fn dequantize(&self, sums: &[i32], activation_scale: f32, weight_scale: f32, out: &mut [f32]);

    /// `x += y`.
    fn add(&self, x: &mut [f32], y: &[f32]);

    /// `gate = max(gate, 0)² · up`.
    fn relu2_mul(&self, gate: &mut [f32], up: &[f32]);

    /// `gate = gate / (1 + exp(−gate)) · up`.
    fn silu_mul(&self, gate: &mut [f32], up: &[f32]);

    /// Rotates each head of `x` by half rotation: for `i < dim/2`, the pair `(x[i], x[i + dim/2])` becomes
    /// `(x[i]·cos[i] − x[i+dim/2]·sin[i], x[i+dim/2]·cos[i] + x[i]·sin[i])`, each as `fma(a, cos, ∓(b·sin))`.
    /// `cos` and `sin` have `dim/2` entries; `x` is `heads` x `dim`.
    fn rope(&self, x: &mut [f32], cos: &[f32], sin: &[f32]);

    /// Attention: scores (lanes) · scale, softmax over positions, weighted sum of values (columns).
    /// `scores` has room for `positions` x `heads`; `out` is `heads` x `dim`.
    fn attention(&self, call: Attention<'_>, scores: &mut [f32], out: &mut [f32]);

    /// Softmax in place: maximum, `exp(x − max)`, sum (lanes), division.
    fn softmax(&self, x: &mut [f32]);

    /// `out[r] = Σ_k weights[r, k] · x[k]` (lanes) for `out.len()` rows: the output head.
    fn rows_dot(&self, weights: Floats<'_>, x: &[f32], out: &mut [f32]);

    /// Rounds to half precision, to nearest even.
    fn to_f16(&self, x: &[f32], out: &mut [f16]);
}

/// The best implementation for `cpu`.
pub fn best(_cpu: Cpu) -> &'static dyn Ops {
    unreachable!("replaced by the first implementation")
}
