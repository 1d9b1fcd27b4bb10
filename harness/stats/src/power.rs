//! How small a change can be seen, and how many blocks it takes.

use crate::distribution::normal_quantile;

/// Efficiency of the signed-rank test relative to the t-test on normal data, 3 / π.
const EFFICIENCY: f64 = 3.0 / std::f64::consts::PI;

fn deviates(alpha: f64, power: f64) -> Option<f64> {
    let ok = alpha > 0.0 && alpha < 1.0 && power > 0.0 && power < 1.0;
    let sum = normal_quantile(1.0 - alpha) + normal_quantile(power);
    (ok && sum > 0.0).then_some(sum)
}

/// The smallest true effect (as a log ratio) that a one-sided test at `alpha` over `n` blocks finds with probability `power`,
/// `deviation` being the spread of a block's log ratio: `(z(1-α) + z(power)) σ / sqrt(0.955 n)`.
pub fn minimal_detectable_effect(deviation: f64, n: usize, alpha: f64, power: f64) -> Option<f64> {
    let sum = deviates(alpha, power)?;
    (n > 0 && deviation.is_finite() && deviation >= 0.0)
        .then(|| sum * deviation / (EFFICIENCY * n as f64).sqrt())
}

/// Blocks needed to find `effect` with probability `power`, the inverse of [`minimal_detectable_effect`]; at least `log2(1 / alpha)`, below
/// which no assignment of signs is rare enough.
pub fn blocks_needed(deviation: f64, effect: f64, alpha: f64, power: f64) -> Option<usize> {
    let sum = deviates(alpha, power)?;
    if !(deviation.is_finite() && deviation >= 0.0 && effect > 0.0) {
        return None;
    }
    let blocks = (sum * deviation / effect).powi(2) / EFFICIENCY;
    Some(blocks.max((1.0 / alpha).log2()).ceil() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Alternative, Rng, signed_rank};

    #[test]
    fn the_usual_table() {
        for (deviation, effect, strict, usual) in [
            (0.01, 0.01, 24, 14),
            (0.02, 0.01, 94, 55),
            (0.03, 0.02, 53, 31),
            (0.05, 0.02, 147, 86),
            (0.08, 0.10, 16, 9),
            (0.01, 0.10, 10, 7),
        ] {
            let got = (
                blocks_needed(deviation, effect, 0.001, 0.95).unwrap() as i64,
                blocks_needed(deviation, effect, 0.01, 0.90).unwrap() as i64,
            );
            // Rounding of the efficiency constant may move a block.
            assert!(
                (got.0 - strict).abs() <= 1 && (got.1 - usual).abs() <= 1,
                "{deviation} {effect}: {got:?}"
            );
        }
        assert_eq!(blocks_needed(0.01, 0.0, 0.01, 0.9), None);
        assert_eq!(minimal_detectable_effect(0.01, 0, 0.01, 0.9), None);
    }

    #[test]
    fn the_promised_power_is_delivered() {
        let n = 40;
        let effect = minimal_detectable_effect(0.03, n, 0.05, 0.9).unwrap();
        let mut rng = Rng::new(6);
        let found = (0..2000)
            .filter(|_| {
                let d: Vec<f64> = (0..n).map(|_| effect + 0.03 * rng.normal()).collect();
                signed_rank(&d, Alternative::Greater).unwrap() <= 0.05
            })
            .count();
        assert!((1740..=1860).contains(&found), "{found}");
    }
}
