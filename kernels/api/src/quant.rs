//! Reference quantizers of BitNet b1.58 (arXiv 2402.17764 section 2, 2504.12285 section 2).

use std::iter::zip;

/// Smallest absolute maximum (activations) or mean (weights) that is divided by; the models' own value.
pub const ABSMAX_FLOOR: f32 = 1e-5;

/// The activation scale of one token: `127 / max(max|x|, 1e-5)`. A NaN is ignored by the maximum.
pub fn activation_scale(x: &[f32]) -> f32 {
    127.0
        / x.iter()
            .fold(0.0f32, |max, v| max.max(v.abs()))
            .max(ABSMAX_FLOOR)
}

/// Quantizes one token: `q = round_half_even(x · s)` clamped to −128..=127, with `s` the returned scale.
///
/// # Panics
/// When the lengths differ.
pub fn quantize_row(x: &[f32], out: &mut [i8]) -> f32 {
    assert_eq!(x.len(), out.len());
    let scale = activation_scale(x);
    for (x, q) in zip(x, out) {
        *q = (x * scale).round_ties_even().clamp(-128.0, 127.0) as i8;
    }
    scale
}

/// Quantizes `tokens` rows of `k` features; `scales[t]` is the scale of token `t`.
///
/// # Panics
/// When the sizes do not fit each other.
pub fn quantize_activations(x: &[f32], k: usize, out: &mut [i8], scales: &mut [f32]) {
    assert_eq!(x.len(), k * scales.len());
    assert_eq!(x.len(), out.len());
    for ((x, q), scale) in zip(zip(x.chunks_exact(k), out.chunks_exact_mut(k)), scales) {
        *scale = quantize_row(x, q);
    }
}

/// A matrix of master weights after absmean quantization.
#[derive(Clone, Debug, PartialEq)]
pub struct AbsmeanWeights {
    /// `clamp(round_half_even(w · s), −1, 1)`, row-major.
    pub codes: Vec<i8>,
    /// `1 / s`: what multiplies the integer sums.
    pub scale: f32,
}

/// Absmean quantization of one matrix: `s = 1 / max(mean|w|, 1e-5)`. The mean is summed in f64, so that its value does
/// not depend on an order of additions that other programs choose differently.
pub fn absmean_codes(weights: &[f32]) -> AbsmeanWeights {
    let sum: f64 = weights.iter().map(|w| f64::from(w.abs())).sum();
    let mean = (sum / weights.len().max(1) as f64) as f32;
    let s = 1.0 / mean.max(ABSMAX_FLOOR);
    let codes = weights
        .iter()
        .map(|w| (w * s).round_ties_even().clamp(-1.0, 1.0) as i8)
        .collect();
    AbsmeanWeights {
        codes,
        scale: 1.0 / s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_round_half_to_even_and_reach_127() {
        // The largest value maps to 127; 0.5 and 1.5 steps go to the even neighbour.
        let x = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -127.0];
        let mut q = [0; 7];
        assert_eq!(quantize_row(&x, &mut q).to_bits(), 1.0f32.to_bits());
        assert_eq!(q, [127, 0, 2, 2, 0, -2, -127]);
    }

    #[test]
    fn a_silent_token_is_all_zero() {
        let mut q = [1; 3];
        let scale = quantize_row(&[0.0; 3], &mut q);
        assert_eq!(q, [0; 3]);
        assert!((scale - 127.0 / 1e-5).abs() < 1.0);
    }

    #[test]
    fn absmean_of_known_weights() {
        // mean |w| = 0.5: 0.2 rounds to 0, 0.8 and −0.9 to ±1, 0.1 to 0.
        let got = absmean_codes(&[0.2, 0.8, -0.9, 0.1]);
        assert_eq!(got.codes, [0, 1, -1, 0]);
        assert!((got.scale - 0.5).abs() < 1e-6);
    }
}
