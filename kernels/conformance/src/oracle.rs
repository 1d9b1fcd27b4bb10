//! The second oracle.

use std::iter::zip;

/// `Σ_k act[k] · weight[k]` in i64, from unpacked weights.
///
/// # Panics
/// When the lengths differ.
pub fn exact_sum(weights: &[i8], activations: &[i8]) -> i64 {
    assert_eq!(weights.len(), activations.len());
    zip(weights, activations)
        .map(|(w, a)| i64::from(*w) * i64::from(*a))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        assert_eq!(exact_sum(&[1, -1, 0, 1], &[-128, -128, 77, 127]), 127);
        assert_eq!(exact_sum(&[-1; 3], &[-128; 3]), 384);
    }
}
