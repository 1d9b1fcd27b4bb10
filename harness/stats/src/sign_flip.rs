//! The sign-flip permutation test of paired differences.

use crate::{Alternative, Rng};

/// Up to this many differences every assignment of signs is counted; beyond, signs are drawn.
const EXACT: usize = 28;

/// Tests that the differences are symmetric about zero, with their sum as the statistic; gives the p-value.
///
/// Under the hypothesis each difference could as well have had the other sign. Up to 28 differences all `2^n` assignments are counted, by
/// sorting the sums of both halves and walking along them; the smallest p-value is `2^-n`. Beyond, `draws` assignments
/// are drawn with `seed` and `p = (reached + 1) / (draws + 1)`, which never understates it (Phipson and Smyth 2010). The sum is not robust: one
/// wild difference can hide an effect (never invent one); [`crate::signed_rank`] is its robust sibling.
pub fn sign_flip(
    differences: &[f64],
    alternative: Alternative,
    draws: u32,
    seed: u64,
) -> Option<f64> {
    if differences.is_empty() || differences.iter().any(|d| !d.is_finite()) {
        return None;
    }
    let observed: f64 = differences.iter().sum();
    // Sums of the same terms in another order differ by rounding: they count as reached.
    let slack = 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let (at_most, at_least) = if differences.len() <= EXACT {
        let (left, right) = differences.split_at(differences.len() / 2);
        let (left, right) = (all_sums(left), all_sums(right));
        let total = (left.len() * right.len()) as f64;
        let at_most = pairs_at_most(&left, &right, observed + slack) as f64 / total;
        let below =
            pairs_at_most(&left, &right, observed - slack - f64::MIN_POSITIVE) as f64 / total;
        // Sums within the slack of the observed one belong to both tails.
        (at_most, 1.0 - below)
    } else {
        let mut rng = Rng::new(seed);
        let (mut low, mut high) = (0_u32, 0_u32);
        for _ in 0..draws {
            let mut signs = 0_u64;
            let mut sum = 0.0;
            for (i, d) in differences.iter().enumerate() {
                if i % 64 == 0 {
                    signs = rng.bits();
                }
                sum += if signs >> (i % 64) & 1 == 1 { *d } else { -d };
            }
            low += u32::from(sum <= observed + slack);
            high += u32::from(sum >= observed - slack);
        }
        let draws = f64::from(draws) + 1.0;
        (
            (f64::from(low) + 1.0) / draws,
            (f64::from(high) + 1.0) / draws,
        )
    };
    Some(alternative.combine(at_most, at_least))
}

/// The sums under every assignment of signs, in ascending order.
fn all_sums(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0];
    for value in values {
        sums = sums
            .iter()
            .flat_map(|sum| [sum - value, sum + value])
            .collect();
    }
    sums.sort_unstable_by(f64::total_cmp);
    sums
}

/// How many pairs of two ascending lists sum to at most `bound`.
fn pairs_at_most(left: &[f64], right: &[f64], bound: f64) -> u64 {
    let mut end = right.len();
    let mut count = 0;
    for l in left {
        while end > 0 && l + right[end - 1] > bound {
            end -= 1;
        }
        count += end as u64;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_definition(d: &[f64]) -> f64 {
        let observed: f64 = d.iter().sum();
        let reached = (0..1_u32 << d.len())
            .filter(|signs| {
                let sum: f64 = d
                    .iter()
                    .enumerate()
                    .map(|(i, v)| if signs >> i & 1 == 1 { *v } else { -v })
                    .sum();
                sum >= observed - 1e-9
            })
            .count();
        reached as f64 / f64::from(1_u32 << d.len())
    }

    #[test]
    fn exact_equals_the_definition() {
        let mut rng = Rng::new(3);
        for n in 1..=12 {
            let d: Vec<f64> = (0..n).map(|_| rng.normal() + 0.3).collect();
            let got = sign_flip(&d, Alternative::Greater, 0, 0).unwrap();
            assert!((got - by_definition(&d)).abs() < 1e-12, "n = {n}");
        }
        // With ties, where rounding decides nothing.
        let tied = [0.1, 0.1, 0.2, -0.3, 0.1, 0.2];
        assert!(
            (sign_flip(&tied, Alternative::Greater, 0, 0).unwrap() - by_definition(&tied)).abs()
                < 1e-12
        );
    }

    #[test]
    fn the_published_example_of_fisher() {
        // Darwin's maize (Fisher 1935): 863 of 2^15 assignments reach the sum in one direction or exceed it by rank of the
        // heights in eighths of an inch; one-sided p = 863 / 32768.
        let d = [
            49.0, -67.0, 8.0, 16.0, 6.0, 23.0, 28.0, 41.0, 14.0, 29.0, 56.0, 24.0, 75.0, 60.0,
            -48.0,
        ];
        let p = sign_flip(&d, Alternative::Greater, 0, 0).unwrap();
        assert!((p - 863.0 / 32768.0).abs() < 1e-12, "{}", p * 32768.0);
        let both = sign_flip(&d, Alternative::TwoSided, 0, 0).unwrap();
        assert!((both - 2.0 * p).abs() < 1e-12);
    }

    #[test]
    fn the_smallest_p_value_is_a_power_of_two() {
        for n in [1, 7, 20, 28] {
            let d: Vec<f64> = (1..=n).map(f64::from).collect();
            assert!(
                (sign_flip(&d, Alternative::Greater, 0, 0).unwrap() - 0.5_f64.powi(n)).abs()
                    < 1e-15
            );
            assert_eq!(sign_flip(&d, Alternative::Less, 0, 0), Some(1.0));
        }
        assert_eq!(sign_flip(&[0.0; 5], Alternative::Greater, 0, 0), Some(1.0));
    }

    #[test]
    fn drawn_signs_meet_the_exact_answer() {
        let mut rng = Rng::new(9);
        let d: Vec<f64> = (0..EXACT).map(|_| rng.normal() + 0.35).collect();
        let exact = sign_flip(&d, Alternative::Greater, 0, 0).unwrap();
        // Pairs of zeros change no sum and force the drawing of signs.
        let mut longer = d.clone();
        longer.extend([0.0, 0.0]);
        let drawn = sign_flip(&longer, Alternative::Greater, 20_000, 1).unwrap();
        let error = 4.0 * (exact * (1.0 - exact) / 2e4).sqrt() + 1e-4;
        assert!((drawn - exact).abs() < error, "{drawn} {exact}");
        assert_eq!(
            sign_flip(&longer, Alternative::Greater, 20_000, 1),
            Some(drawn)
        );
    }

    #[test]
    fn false_alarms_keep_their_rate() {
        // Differences without effect, heavy-tailed: p <= 0.05 in 5 % of 2000 trials, three standard errors are 1.5 %.
        let mut rng = Rng::new(77);
        let alarms = (0..2000)
            .filter(|_| {
                let d: Vec<f64> = (0..12)
                    .map(|_| rng.normal() / rng.uniform().max(1e-3))
                    .collect();
                sign_flip(&d, Alternative::Greater, 0, 0).unwrap() <= 0.05
            })
            .count();
        assert!((70..=130).contains(&alarms), "{alarms}");
    }
}
