//! Tests of dense baselines.

use trit_kernel::{AlignedBuf, DenseArgs, DenseFormat, DenseKernel};

use crate::{Rng, Weight, exact_sum};

const GUARD: usize = 128;
const GUARD_BYTE: u8 = 0xC3;
const GUARD_FLOAT: f32 = -12_345.678;

/// A shape and a window of it.
#[derive(Clone, Debug)]
pub struct DenseCase {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub k: usize,
    /// Tokens that are prepared.
    pub tokens: usize,
    /// Rows that are computed.
    pub row_window: std::ops::Range<usize>,
    /// Tokens that are computed.
    pub token_window: std::ops::Range<usize>,
}

impl DenseCase {
    /// The whole of a matrix.
    pub fn new(rows: usize, k: usize, tokens: usize) -> Self {
        Self {
            rows,
            k,
            tokens,
            row_window: 0..rows,
            token_window: 0..tokens,
        }
    }

    /// The kernel's outputs for the window, token-major. Every buffer is poisoned with NaN and guarded.
    ///
    /// # Panics
    /// When a byte outside of what the kernel may write was changed.
    pub fn run(&self, kernel: &dyn DenseKernel, weights: &[f32], activations: &[f32]) -> Vec<f32> {
        let id = kernel.info().id;
        let packed = kernel.pack(weights, self.rows, self.k);
        let bytes = kernel.prepared_group_bytes(self.k);
        assert_eq!(
            bytes % 64,
            0,
            "{id}: a prepared group is no multiple of 64 bytes"
        );
        let groups = self.tokens.div_ceil(kernel.token_step());
        let mut prepared = AlignedBuf::zeroed(groups * bytes);
        // One group a call, last first: the split may not matter.
        for group in (0..groups).rev() {
            let mut guarded = AlignedBuf::zeroed(2 * GUARD + bytes);
            guarded.bytes_mut().fill(GUARD_BYTE);
            let inner = GUARD..GUARD + bytes;
            // 0xFF is NaN in every float format.
            guarded.bytes_mut()[inner.clone()].fill(0xFF);
            let out = &mut guarded.bytes_mut()[inner.clone()];
            kernel.prepare(activations, self.tokens, self.k, group..group + 1, out);
            assert_guards(guarded.bytes(), &inner, id, "prepare");
            prepared.bytes_mut()[group * bytes..(group + 1) * bytes]
                .copy_from_slice(&guarded.bytes()[inner]);
        }
        let size = self.row_window.len() * self.token_window.len();
        let scratch_bytes =
            kernel.scratch_bytes(self.k, self.row_window.len(), self.token_window.len());
        let mut scratch = AlignedBuf::zeroed(2 * GUARD + scratch_bytes);
        scratch.bytes_mut().fill(GUARD_BYTE);
        let inner = GUARD..GUARD + scratch_bytes;
        scratch.bytes_mut()[inner.clone()].fill(0xFF);
        let first = GUARD + 1;
        let mut out = vec![GUARD_FLOAT; first + size + GUARD];
        out[first..first + size].fill(f32::NAN);
        kernel.gemm(DenseArgs {
            weights: &packed,
            prepared: prepared.bytes(),
            rows: self.row_window.clone(),
            tokens: self.token_window.clone(),
            scratch: &mut scratch.bytes_mut()[inner.clone()],
            out: &mut out[first..first + size],
        });
        assert_guards(scratch.bytes(), &inner, id, "gemm");
        let clean = |values: &[f32]| values.iter().all(|v| v.to_bits() == GUARD_FLOAT.to_bits());
        assert!(
            clean(&out[..first]) && clean(&out[first + size..]),
            "{id}: gemm wrote outside of out: {self:?}"
        );
        out.truncate(first + size);
        out.drain(..first);
        out
    }
}

fn assert_guards(bytes: &[u8], inner: &std::ops::Range<usize>, id: &str, what: &str) {
    let outside = bytes[..inner.start].iter().chain(&bytes[inner.end..]);
    assert!(
        outside.into_iter().all(|b| *b == GUARD_BYTE),
        "{id}: {what} wrote outside of its buffer"
    );
}

/// Shapes around steps, with windows that fit none.
fn cases(kernel: &dyn DenseKernel) -> Vec<DenseCase> {
    let mut out = Vec::new();
    for k in [
        1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 100, 127, 128, 129, 131, 256, 521, 2560,
    ] {
        for tokens in [1, 3] {
            out.push(DenseCase::new(11, k, tokens));
        }
    }
    for tokens in (1..=17).chain([32, 33, 128]) {
        out.push(DenseCase::new(9, 160, tokens));
    }
    let step = kernel.row_step().clamp(1, 64);
    for rows in [1, 2, step, step + 1, 2 * step + 3] {
        for tokens in [1, 5] {
            out.push(DenseCase::new(rows, 67, tokens));
        }
    }
    let (rows, tokens) = (2 * step + 5, 2 * kernel.token_step() + 9);
    for row_window in [1..rows, 2..5, rows - 1..rows, 3..3] {
        for token_window in [1..2, 3..8, 1..tokens - 1, 2..2] {
            out.push(DenseCase {
                row_window: row_window.clone(),
                token_window,
                ..DenseCase::new(rows, 96, tokens)
            });
        }
    }
    out
}

/// With ternary weights of scale 1 and integer activations whose largest magnitude is 127 (so that int8 quantisation is
/// the identity), f32, f16 and i8 are exact; q4 is within `2^-10 · Σ|act|`. Random, all-zero and constant rows.
///
/// # Panics
/// When the kernel is wrong.
pub fn ternary_is_exact(kernel: &dyn DenseKernel) {
    for case in cases(kernel) {
        for kind in Weight::ALL {
            let mut rng = Rng::new(case.k as u64 * 131 + case.tokens as u64);
            let codes = kind.fill(case.rows, case.k, &mut rng);
            let acts: Vec<i8> = (0..case.tokens)
                .flat_map(|token| integer_token(token, case.k, &mut rng))
                .collect();
            let weights: Vec<f32> = codes.iter().map(|w| f32::from(*w)).collect();
            let activations: Vec<f32> = acts.iter().map(|a| f32::from(*a)).collect();
            let out = case.run(kernel, &weights, &activations);
            let mut got = out.iter();
            for token in case.token_window.clone() {
                let a = &acts[token * case.k..][..case.k];
                let magnitude: f64 = a.iter().map(|a| f64::from(*a).abs()).sum();
                let bound = match kernel.info().format {
                    DenseFormat::F32 | DenseFormat::F16 | DenseFormat::I8 => 0.0,
                    DenseFormat::Q4 => magnitude / 1024.0,
                };
                for row in case.row_window.clone() {
                    let want = exact_sum(&codes[row * case.k..][..case.k], a) as f64;
                    let got = f64::from(*got.next().expect("out has the size of the window"));
                    let error = (got - want).abs();
                    // Written so that NaN fails.
                    assert!(
                        error <= bound,
                        "{}: token {token}, row {row}: {got} instead of {want} (bound {bound}), {kind:?} weights, {case:?}",
                        kernel.info().id
                    );
                }
            }
        }
    }
}

/// Integers of −127..=127 that contain a ±127; every fourth token is silent.
fn integer_token(token: usize, k: usize, rng: &mut Rng) -> Vec<i8> {
    if token % 4 == 3 {
        return vec![0; k];
    }
    let mut out: Vec<i8> = (0..k)
        .map(|_| (rng.below(255) as i32 - 127) as i8)
        .collect();
    out[rng.below(k)] = if rng.below(2) == 0 { 127 } else { -127 };
    out
}

/// Real weights and activations stay within the bound of the format's own rounding.
///
/// # Panics
/// When the kernel is wrong.
pub fn real_numbers(kernel: &dyn DenseKernel) {
    for case in cases(kernel) {
        let mut rng = Rng::new(case.k as u64 * 17 + case.rows as u64);
        let weights: Vec<f32> = (0..case.rows * case.k).map(|_| rng.unit()).collect();
        let activations: Vec<f32> = (0..case.tokens * case.k)
            .map(|_| 3.0 * rng.unit())
            .collect();
        let out = case.run(kernel, &weights, &activations);
        let mut got = out.iter();
        for token in case.token_window.clone() {
            for row in case.row_window.clone() {
                let w = &weights[row * case.k..][..case.k];
                let a = &activations[token * case.k..][..case.k];
                let want: f64 = w
                    .iter()
                    .zip(a)
                    .map(|(w, a)| f64::from(*w) * f64::from(*a))
                    .sum();
                let bound = rounding_bound(kernel.info().format, w, a);
                let got = f64::from(*got.next().expect("out has the size of the window"));
                let error = (got - want).abs();
                assert!(
                    error <= bound,
                    "{}: token {token}, row {row}: {got} instead of {want} (bound {bound}), {case:?}",
                    kernel.info().id
                );
            }
        }
    }
}

fn largest(values: &[f32]) -> f64 {
    values
        .iter()
        .fold(0.0, |max, v| f64::from(v.abs()).max(max))
}

/// The worst error of a format: half a step for each rounded factor.
///
/// * sums in f32: `(K/8 + 16) · 2^-24 · Σ|w·a|` (at least eight partial sums);
/// * f16: weights and activations rounded to 11 bits;
/// * i8: steps `max/127` of the row and of the token;
/// * q4: 4-bit steps of a block of 32, `max/8` at worst (the largest positive code is 7 of 8), and int8 activations.
fn rounding_bound(format: DenseFormat, w: &[f32], a: &[f32]) -> f64 {
    let sum_of = |v: &[f32]| -> f64 { v.iter().map(|v| f64::from(v.abs())).sum() };
    let products: f64 = w.iter().zip(a).map(|(w, a)| f64::from((w * a).abs())).sum();
    let k = w.len() as f64;
    let sums = (k / 8.0 + 16.0) * 2f64.powi(-24) * products;
    let act_step = largest(a) / 254.0;
    sums + match format {
        DenseFormat::F32 => 0.0,
        DenseFormat::F16 => 2.0 * 2f64.powi(-11) * 1.001 * products + k * 2f64.powi(-24),
        DenseFormat::I8 => {
            let weight_step = largest(w) / 254.0;
            1.01 * (sum_of(a) * weight_step + sum_of(w) * act_step + k * weight_step * act_step)
        }
        DenseFormat::Q4 => {
            let blocks = w.chunks(32).zip(a.chunks(32));
            let weights: f64 = blocks.map(|(w, a)| largest(w) / 8.0 * sum_of(a)).sum();
            1.02 * (weights + sum_of(w) * act_step + k * largest(w) / 8.0 * act_step)
        }
    }
}
