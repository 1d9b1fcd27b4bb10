//! Values in order of time: how much they repeat one another.

use crate::distribution::binomial_cdf;
use crate::mean::mean;
use crate::order::{Interval, median, quantile_of_sorted, sorted};

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

/// How many independent values a series is worth when the question is its median: `n / (1 + 2 Σ ρ(lag))`, the autocorrelations being
/// those of "is it above the median", summed over pairs of lags until a pair is no longer positive (Geyer's initial sequence).
///
/// Unlike [`effective_n`] it sees slow steps of a machine's speed, and no outlier can sway it. Between 1 and n.
pub fn effective_n_of_median(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    let above: Vec<f64> = values
        .iter()
        .map(|v| match v.total_cmp(&middle) {
            std::cmp::Ordering::Less => -1.0,
            std::cmp::Ordering::Equal => 0.0,
            std::cmp::Ordering::Greater => 1.0,
        })
        .collect();
    let n = values.len();
    let mut sum = 0.0;
    // Lags 1 and 2, 3 and 4, ...; noise at long lags is left out by stopping, and by never looking beyond half of the series.
    for lag in (1..n / 2).step_by(2) {
        let pair = autocorrelation(&above, lag)? + autocorrelation(&above, lag + 1)?;
        if pair <= 0.0 {
            break;
        }
        sum += pair;
    }
    Some((n as f64 / (1.0 + 2.0 * sum)).clamp(1.0, n as f64))
}

/// An interval of the median of values in order of time that may repeat their neighbours.
///
/// As [`crate::median_interval`], with the number of independent values ([`effective_n_of_median`]) in place of n: the ranks for that
/// many values, as shares of all values. For independent values it is the same up to rounding. `None` when they are worth fewer than six.
pub fn dependent_median_interval(values: &[f64], level: f64) -> Option<Interval> {
    let sorted = sorted(values)?;
    let worth = effective_n_of_median(values)?.floor() as u64;
    if !(level > 0.0 && level < 1.0) {
        return None;
    }
    let side = (1.0 - level) / 2.0 * (1.0 + 1e-12);
    let rank = (1..=worth)
        .take_while(|rank| binomial_cdf(rank - 1, worth, 0.5) <= side)
        .last()?;
    if 2 * rank > worth {
        return None;
    }
    // Rank r of m values stands at the share (r - 1) / (m - 1) of their range, which for m = n is rank r itself.
    let share = (rank - 1) as f64 / (worth - 1) as f64;
    Some(Interval {
        lo: quantile_of_sorted(&sorted, share)?,
        hi: quantile_of_sorted(&sorted, 1.0 - share)?,
        level: 1.0 - 2.0 * binomial_cdf(rank - 1, worth, 0.5),
    })
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
    fn independent_values_keep_the_exact_interval() {
        // Alternating sides of the median: the first pair of lags is -1 + 1 or so, hence worth all of n.
        let values = [10.0, 1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.0];
        assert_eq!(effective_n_of_median(&values), Some(10.0));
        let got = dependent_median_interval(&values, 0.95).unwrap();
        let want = crate::median_interval(&values, 0.95).unwrap();
        assert!(
            (got.lo - want.lo).abs() < 1e-12 && (got.hi - want.hi).abs() < 1e-12,
            "{got:?} {want:?}"
        );
        assert!((got.level - want.level).abs() < 1e-12);
        assert_eq!(dependent_median_interval(&values[..5], 0.95), None);
        assert_eq!(effective_n_of_median(&[]), None);
        assert_eq!(effective_n_of_median(&[3.0]), Some(1.0));
    }

    #[test]
    fn coverage_survives_autocorrelation_and_steps() {
        let mut rng = Rng::new(55);
        let trials = 600;
        let (mut plain, mut guarded, mut steps) = (0, 0, 0);
        for _ in 0..trials {
            let mut last = rng.normal() / 0.51_f64.sqrt();
            let values: Vec<f64> = (0..300)
                .map(|_| {
                    last = 0.7 * last + rng.normal();
                    last
                })
                .collect();
            plain += u32::from(crate::median_interval(&values, 0.95).unwrap().contains(0.0));
            guarded += u32::from(
                dependent_median_interval(&values, 0.95)
                    .unwrap()
                    .contains(0.0),
            );
            // A machine that is 20 % slower for stretches of random length; the median over all time lies between.
            let mut slow = false;
            let values: Vec<f64> = (0..400)
                .map(|_| {
                    slow ^= rng.below(10) == 0;
                    let level = if slow { 0.2 } else { -0.2 };
                    level + 0.3 * rng.normal()
                })
                .collect();
            steps += u32::from(
                dependent_median_interval(&values, 0.95)
                    .unwrap()
                    .contains(0.0),
            );
        }
        let rate = |hits: u32| f64::from(hits) / f64::from(trials);
        assert!(rate(plain) < 0.75, "{}", rate(plain));
        assert!(
            rate(guarded) > 0.90 && rate(steps) > 0.90,
            "{} {}",
            rate(guarded),
            rate(steps)
        );
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
