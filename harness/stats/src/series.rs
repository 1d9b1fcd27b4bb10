//! Values in order of time: how much they repeat one another.

use crate::mean::mean;

/// The autocorrelation at `lag`; `None` with fewer than `lag + 2` values. Without any spread it is 0.
pub fn autocorrelation(values: &[f64], lag: usize) -> Option<f64> {
    let centre = mean(values)?;
    if values.len() < lag.checked_add(2)? {
        return None;
    }
    let total: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
    let shared: f64 = values
        .iter()
        .zip(&values[lag..])
        .map(|(a, b)| (a - centre) * (b - centre))
        .sum();
    Some(if total == 0.0 { 0.0 } else { shared / total })
}

/// How many independent values carry as much: `n (1 - ρ) / (1 + ρ)` with the autocorrelation at lag 1, at least 1 and at most n.
pub fn effective_n(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let rho = autocorrelation(values, 1)?;
    Some((n * (1.0 - rho) / (1.0 + rho)).clamp(1.0, n))
}

/// Means of `group` adjacent values each; a rest at the end too short for a group is dropped. A group of 0 gives nothing.
pub fn merge_adjacent(values: &[f64], group: usize) -> Vec<f64> {
    if group == 0 {
        return Vec::new();
    }
    values
        .chunks_exact(group)
        .map(|chunk| chunk.iter().sum::<f64>() / group as f64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn by_hand() {
        // Deviations -1.5 -0.5 0.5 1.5: (0.75 - 0.25 + 0.75) / 5.
        assert_eq!(autocorrelation(&[1.0, 2.0, 3.0, 4.0], 1), Some(0.25));
        assert_eq!(autocorrelation(&[1.0, 2.0, 3.0, 4.0], 0), Some(1.0));
        assert_eq!(autocorrelation(&[1.0, 2.0], 1), None);
        assert_eq!(autocorrelation(&[2.0; 9], 1), Some(0.0));
        assert_eq!(autocorrelation(&[2.0; 9], usize::MAX), None);
        assert_eq!(
            merge_adjacent(&[1.0, 3.0, 5.0, 7.0, 9.0], 2),
            vec![2.0, 6.0]
        );
        assert_eq!(merge_adjacent(&[1.0], 0), Vec::<f64>::new());
    }

    #[test]
    fn a_seeded_ar1_shows_its_coefficient() {
        let mut rng = Rng::new(31);
        let mut last = 0.0;
        let values: Vec<f64> = (0..20_000)
            .map(|_| {
                last = 0.5 * last + rng.normal();
                last
            })
            .collect();
        assert!((autocorrelation(&values, 1).unwrap() - 0.5).abs() < 0.03);
        assert!((autocorrelation(&values, 2).unwrap() - 0.25).abs() < 0.03);
        // (1 - .5) / (1 + .5) = a third.
        assert!((effective_n(&values).unwrap() / 20_000.0 - 1.0 / 3.0).abs() < 0.03);
        let merged = merge_adjacent(&values, 16);
        assert!(autocorrelation(&merged, 1).unwrap() < 0.15);
    }
}
