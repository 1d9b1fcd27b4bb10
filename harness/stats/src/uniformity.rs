//! Whether p-values are uniform: the Kolmogorov-Smirnov test.

use crate::order::sorted;

/// Up to this many values the distribution is exact (Marsaglia, Tsang and Wang 2003); beyond, the limit with Stephens' correction.
const EXACT: usize = 200;

/// The result of a Kolmogorov-Smirnov test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KsTest {
    /// The largest distance between the empirical and the uniform distribution function.
    pub d: f64,
    /// The p-value.
    pub p: f64,
}

/// Tests that values come from the uniform distribution on [0, 1]; `None` when one lies outside.
pub fn ks_uniform(values: &[f64]) -> Option<KsTest> {
    let sorted = sorted(values)?;
    if sorted.iter().any(|v| !(0.0..=1.0).contains(v)) {
        return None;
    }
    let n = sorted.len();
    let d = sorted
        .iter()
        .enumerate()
        .map(|(i, v)| (v - i as f64 / n as f64).max((i + 1) as f64 / n as f64 - v))
        .fold(0.0, f64::max);
    let below = if n <= EXACT {
        exact_cdf(n, d)
    } else {
        limit_cdf(n, d)
    };
    Some(KsTest {
        d,
        p: (1.0 - below).clamp(0.0, 1.0),
    })
}

/// `P(D < d)` for `n` values: an element of the n-th power of a matrix, scaled on the way so that nothing overflows.
fn exact_cdf(n: usize, d: f64) -> f64 {
    let k = (n as f64 * d).floor() as usize + 1;
    let size = 2 * k - 1;
    let h = k as f64 - n as f64 * d;
    let mut matrix = vec![0.0; size * size];
    for i in 0..size {
        for j in 0..size {
            if i + 1 >= j {
                matrix[i * size + j] = 1.0;
            }
        }
    }
    for i in 0..size {
        matrix[i * size] -= h.powi(i as i32 + 1);
        matrix[(size - 1) * size + i] -= h.powi((size - i) as i32);
    }
    if 2.0 * h > 1.0 {
        matrix[(size - 1) * size] += (2.0 * h - 1.0).powi(size as i32);
    }
    for i in 0..size {
        for j in 0..size {
            if i + 1 > j {
                for divisor in 1..=i + 1 - j {
                    matrix[i * size + j] /= divisor as f64;
                }
            }
        }
    }
    let (power, mut exponent) = matrix_power(&matrix, size, n);
    let mut probability = power[(k - 1) * size + k - 1];
    for i in 1..=n {
        probability *= i as f64 / n as f64;
        if probability < 1e-140 {
            probability *= 1e140;
            exponent -= 140;
        }
    }
    probability * 10_f64.powi(exponent)
}

/// A power of a square matrix, and the decimal exponent taken out of it.
fn matrix_power(matrix: &[f64], size: usize, power: usize) -> (Vec<f64>, i32) {
    if power == 1 {
        return (matrix.to_vec(), 0);
    }
    let (half, exponent) = matrix_power(matrix, size, power / 2);
    let (mut result, mut exponent) = (multiply(&half, &half, size), 2 * exponent);
    if power % 2 == 1 {
        result = multiply(&result, matrix, size);
    }
    if result[(size / 2) * size + size / 2] > 1e140 {
        for value in &mut result {
            *value *= 1e-140;
        }
        exponent += 140;
    }
    (result, exponent)
}

fn multiply(a: &[f64], b: &[f64], size: usize) -> Vec<f64> {
    let mut out = vec![0.0; size * size];
    for i in 0..size {
        for l in 0..size {
            let factor = a[i * size + l];
            for j in 0..size {
                out[i * size + j] += factor * b[l * size + j];
            }
        }
    }
    out
}

/// The limiting distribution at `(sqrt n + 0.12 + 0.11 / sqrt n) d`.
fn limit_cdf(n: usize, d: f64) -> f64 {
    let root = (n as f64).sqrt();
    let x = (root + 0.12 + 0.11 / root) * d;
    if x < 0.2 {
        return 0.0;
    }
    let tail: f64 = (1..=100)
        .map(|i| {
            let k = f64::from(i);
            let sign = if i % 2 == 1 { 1.0 } else { -1.0 };
            sign * (-2.0 * k * k * x * x).exp()
        })
        .sum();
    1.0 - 2.0 * tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn exact_values_match_the_published_ones() {
        // Marsaglia, Tsang and Wang give K(10, 0.274) = 0.6284796154565.
        assert!((exact_cdf(10, 0.274) - 0.628_479_615_456_5).abs() < 1e-12);
        // Critical values at 5 % and 1 % (Miller 1956).
        for (n, five, one) in [
            (5, 0.563_28, 0.668_53),
            (10, 0.409_25, 0.488_93),
            (20, 0.294_08, 0.352_41),
            (40, 0.210_12, 0.252_05),
        ] {
            assert!((exact_cdf(n, five) - 0.95).abs() < 1e-4, "{n}");
            assert!((exact_cdf(n, one) - 0.99).abs() < 1e-4, "{n}");
        }
    }

    #[test]
    fn the_limit_continues_the_exact_distribution() {
        // Close in the tail, where decisions are made; within 1 % in the middle.
        for (d, tolerance) in [(0.05, 0.01), (0.08, 0.005), (0.1, 0.002), (0.12, 0.001)] {
            let (exact, limit) = (exact_cdf(EXACT, d), limit_cdf(EXACT, d));
            assert!((exact - limit).abs() < tolerance, "{d}: {exact} {limit}");
        }
    }

    #[test]
    fn uniform_passes_and_skewed_does_not() {
        let mut rng = Rng::new(12);
        let alarms = (0..1000)
            .filter(|_| {
                ks_uniform(&(0..60).map(|_| rng.uniform()).collect::<Vec<_>>())
                    .unwrap()
                    .p
                    <= 0.05
            })
            .count();
        assert!((29..=71).contains(&alarms), "{alarms}");
        let skewed: Vec<f64> = (0..300).map(|_| rng.uniform().powi(2)).collect();
        assert!(ks_uniform(&skewed).unwrap().p < 1e-6);
        assert_eq!(ks_uniform(&[0.5, 1.5]), None);
        assert!(ks_uniform(&[0.5]).unwrap().p > 0.99);
    }
}
